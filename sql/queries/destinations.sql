-- How each destination stands.

-- name: note_failure
-- Remembers the last failure of a destination, and counts those in a row.
update destination_state
set failures = failures + 1, failed_at = now(), failure_type = $2, failure_message = $3, failure_status = $4,
    failure_excerpt = $5, failure_is_json = $6
where destination_id = $1
returning failures

-- name: hold_back
-- No lane of a destination is claimed for a while.
update destination_state set blocked_until = greatest(blocked_until, now() + $2::interval) where destination_id = $1

-- name: note_success
-- A success clears the failure.
update destination_state
set failures = 0, failed_at = null, failure_type = null, failure_message = null, failure_status = null,
    failure_excerpt = null, failure_is_json = null, blocked_until = null
where destination_id = $1 and failed_at is not null

-- name: note_poll_success
-- A poll that went well clears the failure of a poll, and no other.
update destination_state
set failures = 0, failed_at = null, failure_type = null, failure_message = null, failure_status = null,
    failure_excerpt = null, failure_is_json = null
where destination_id = $1 and failure_message like 'asking for changes: %'

-- name: standing
-- Every destination with its failure and its queue.
select d.slug, d.kind, d.tracker, d.retired_at is not null as retired, s.paused_why, s.blocked_until, s.failures,
       s.failed_at, s.failure_type, s.failure_message, s.failure_status, s.failure_excerpt, s.failure_is_json,
       s.polled_to,
       (select count(*) from lane l where l.destination_id = d.id and l.state in (1, 2)) as waiting_lanes,
       (select count(*) from lane l where l.destination_id = d.id and l.state = 3) as parked_lanes
from destination d join destination_state s on s.destination_id = d.id order by d.kind, d.slug

-- name: set_pause
-- Stops or resumes all deliveries to a destination.
update destination_state s set paused_why = $2, blocked_until = null
from destination d where d.id = s.destination_id and d.slug = $1 and d.retired_at is null returning d.id

-- name: take_poll
-- Wins the right to poll a destination now; the next turn is so far away.
update destination_state set poll_due_at = now() + $2::interval
where destination_id = $1 and poll_due_at <= now() and paused_why is null
returning now() as asked_at, polled_to

-- name: polled
-- Changes up to here are known.
update destination_state set polled_to = greatest(polled_to, $2) where destination_id = $1

-- name: last_webhook
-- When a destination's tracker last called us with a valid signature.
select max(received_at) from webhook_key where destination_id = $1
