-- Webhooks of trackers.

-- name: insert_webhook_keys
-- Insert a webhook's delivery id and body digest. Fewer rows than keys: it was received before.
insert into webhook_key (destination_id, kind, key_hash, webhook_id)
select $1, kind, key_hash, $4 from unnest($2::smallint[], $3::bytea[]) as k (kind, key_hash)
order by kind
on conflict do nothing
returning kind

-- name: insert_webhook
-- Insert a webhook with its result.
insert into webhook (id, destination_id, delivery_id, headers, body, body_sha256, remote_id, remote_key, state, note)
values ($1, $2, $3, $4::jsonb, $5, $6, $7, $8, $9, $10)

-- name: link_of_issue
-- Select the link of an issue: by its immutable id, else by its key.
select l.id as lane_id, l.ticket_id, k.remote_id, k.remote_key, k.remote_state, k.remote_version, k.state
from link k join lane l on l.id = k.lane_id
where k.destination_id = $1 and (k.remote_id = $2 or k.remote_key = $3)
order by (k.remote_id = $2) desc limit 1

-- name: links_of_issues
-- Select the links of many issues.
select k.remote_id, k.remote_key, l.ticket_id, k.remote_state, k.remote_version, k.state
from link k join lane l on l.id = k.lane_id
where k.destination_id = $1 and (k.remote_id = any ($2::text[]) or k.remote_key = any ($3::text[]))

-- name: update_issue_state
-- Store the state of an issue unless a newer one is known. No row: the news is outdated.
update link k
set remote_state = $2, remote_version = greatest(k.remote_version, $3), remote_key = $4,
    url = case when $5 = '' then k.url else $5 end, state = 1
where k.lane_id = $1 and ($3::timestamptz is null or k.remote_version is null or k.remote_version <= $3)
returning k.lane_id

-- name: lock_link
-- Lock a link and select the last known state of its issue.
select remote_state, remote_version, state from link where lane_id = $1 for update

-- name: waiting_webhooks
-- Select webhooks that came before the link of their issue.
select received_at, id, headers, body from webhook
where destination_id = $1 and state = 3 and (remote_id = $2 or remote_key = $3)
  and received_at > now() - interval '10 minutes'
order by received_at

-- name: update_webhook
-- Store the result of a webhook that waited.
update webhook set state = $3, note = $4 where received_at = $1 and id = $2

-- name: parked_webhooks
-- Select webhooks that their plugin could not read, oldest first.
select w.received_at, w.id, w.destination_id, d.slug as destination, w.headers, w.body, octet_length(w.body) as bytes, w.note
from webhook w join destination d on d.id = w.destination_id
where w.state = 4 order by w.received_at limit $1

-- name: last_state_write
-- Select the last close (kind 3) or reopen (4) of a lane that was sent. Its intent, which is recorded before the
-- request, is enough to recognize an echo: whether an answer came, whether the request is recent, and whether the
-- opposite was sent since.
select d.state = 1 as answered,
       d.state = 0 or greatest(d.first_sent_at, d.done_at) > now() - interval '10 minutes' as lately,
       exists (select from delivery o
               where o.lane_id = d.lane_id and o.kind = 7 - d.kind and o.first_sent_at is not null and o.seq > d.seq)
         as superseded
from delivery d
where d.lane_id = $1 and d.kind = $2 and d.first_sent_at is not null
order by d.seq desc limit 1

-- name: count_automatic_changes
-- Count how often trackers and reports closed or reopened a ticket in the last ten minutes. Changes by people through
-- our API name no destination and do not count. The last hundred events of a ticket suffice.
select count(*) from event e join ticket t on t.id = e.ticket_id
where e.ticket_id = $1 and e.n >= t.next_event - 100 and e.at > now() - interval '10 minutes'
  and (e.kind in ('closed', 'reopened') and e.data ? 'destination'
       or e.kind = 'recurred'
       or e.kind in ('regressed', 'unmuted')
          and exists (select from lane l join delivery d on d.lane_id = l.id
                      where l.ticket_id = e.ticket_id and d.event_n = e.n and d.kind = 4))

-- name: park_lanes_of_ticket
-- Park all tracker lanes of a ticket. A lane that is leased loses its lease: later results of its holder are dropped,
-- and what it sent is verified when the lane goes on.
update lane l set state = 3, park_reason = $2, lease_id = null, lease_until = null, holder = null
from destination d
where d.id = l.destination_id and d.kind = 1 and l.ticket_id = $1 and l.state <> 3
returning d.slug

-- name: issues_with_waiting_webhooks
-- Select the issues whose webhooks came before their link.
select w.destination_id, w.remote_id
from unnest($1::integer[], $2::text[], $3::text[]) as issue (destination_id, remote_id, remote_key)
join webhook w on w.destination_id = issue.destination_id
 and (w.remote_id = issue.remote_id or w.remote_key = issue.remote_key)
where w.state = 3

-- name: orphan_link
-- Mark the link of an issue that its tracker reports as gone.
update link set state = 2 where lane_id = $1
