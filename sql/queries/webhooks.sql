-- What trackers tell us.

-- name: keep_webhook_keys
-- Claims a webhook's delivery id and body digest; fewer rows than asked for: it was here before.
insert into webhook_key (destination_id, kind, key_hash, webhook_id)
select $1, kind, key_hash, $4 from unnest($2::smallint[], $3::bytea[]) as k (kind, key_hash)
order by kind
on conflict do nothing
returning kind

-- name: write_webhook
-- A webhook as it came, and what became of it.
insert into webhook (id, destination_id, delivery_id, headers, body, body_sha256, remote_id, remote_key, state, note)
values ($1, $2, $3, $4::jsonb, $5, $6, $7, $8, $9, $10)

-- name: link_of_issue
-- The ticket behind an issue: by its immutable id, else by its key.
select l.id as lane_id, l.ticket_id, k.remote_id, k.remote_key, k.remote_state, k.remote_version, k.state
from link k join lane l on l.id = k.lane_id
where k.destination_id = $1 and (k.remote_id = $2 or k.remote_key = $3)
order by (k.remote_id = $2) desc limit 1

-- name: links_of_issues
-- The same for many issues, whichever of them has one.
select k.remote_id, k.remote_key, l.ticket_id, k.remote_state, k.remote_version, k.state
from link k join lane l on l.id = k.lane_id
where k.destination_id = $1 and (k.remote_id = any ($2::text[]) or k.remote_key = any ($3::text[]))

-- name: see_issue
-- How an issue stands now, unless we know something newer. The row that comes back is the one that changed or was
-- confirmed; no row: what we were told is old.
update link k
set remote_state = $2, remote_version = greatest(k.remote_version, $3), remote_key = $4,
    url = case when $5 = '' then k.url else $5 end, state = 1
where k.lane_id = $1 and ($3::timestamptz is null or k.remote_version is null or k.remote_version <= $3)
returning k.lane_id

-- name: lock_link
-- How we last knew an issue, locked.
select remote_state, remote_version, state from link where lane_id = $1 for update

-- name: waiting_webhooks
-- Webhooks that came before their issue was linked.
select received_at, id, headers, body from webhook
where destination_id = $1 and state = 3 and (remote_id = $2 or remote_key = $3)
  and received_at > now() - interval '10 minutes'
order by received_at

-- name: settle_webhook
-- A waiting webhook was looked at again.
update webhook set state = $3, note = $4 where received_at = $1 and id = $2

-- name: parked_webhooks
-- Webhooks that their plugin could not read, oldest first.
select w.received_at, w.id, w.destination_id, d.slug as destination, w.headers, w.body, octet_length(w.body) as bytes, w.note
from webhook w join destination d on d.id = w.destination_id
where w.state = 4 order by w.received_at limit $1

-- name: last_state_sent
-- The last close (kind 3) or reopen (4) of a lane whose request left. The intent that is written before a request is all
-- the memory an echo needs: whether an answer came, whether this was lately enough for an echo, and whether the other
-- kind was sent since.
select d.state = 1 as answered,
       d.state = 0 or greatest(d.first_sent_at, d.done_at) > now() - interval '10 minutes' as lately,
       exists (select from delivery o
               where o.lane_id = d.lane_id and o.kind = 7 - d.kind and o.first_sent_at is not null and o.seq > d.seq)
         as superseded
from delivery d
where d.lane_id = $1 and d.kind = $2 and d.first_sent_at is not null
order by d.seq desc limit 1

-- name: automatic_changes
-- How often a ticket was closed or reopened in the last ten minutes by trackers and reports. What a person did through
-- our API names no destination and is not counted. A ticket's last hundred events are enough to tell.
select count(*) from event e join ticket t on t.id = e.ticket_id
where e.ticket_id = $1 and e.n >= t.next_event - 100 and e.at > now() - interval '10 minutes'
  and (e.kind in ('closed', 'reopened') and e.data ? 'destination'
       or e.kind = 'recurred'
       or e.kind in ('regressed', 'unmuted')
          and exists (select from lane l join delivery d on d.lane_id = l.id
                      where l.ticket_id = e.ticket_id and d.event_n = e.n and d.kind = 4))

-- name: park_ticket
-- A ticket's lanes to trackers wait for a person. One that is worked on loses its lease: what its holder says later
-- finds no row, and whatever it sent is looked for once the lane goes on.
update lane l set state = 3, parked_why = $2, lease_id = null, lease_until = null, holder = null
from destination d
where d.id = l.destination_id and d.kind = 1 and l.ticket_id = $1 and l.state <> 3
returning d.slug
