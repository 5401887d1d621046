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
