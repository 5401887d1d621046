-- The state of destinations: failures, circuit breaker, pauses.

-- name: record_failure
-- Record the last failure of a destination and count consecutive failures. A failure without an answer ($7) also counts
-- for the circuit breaker. It opens after some in a row ($9), at once if it was half open or if most calls fail ($8),
-- and for twice as long each time. Any other failure shows that the service answers, and closes the breaker.
update destination_state s
set failures = s.failures + 1, failed_at = now(), failure_type = $2, failure_message = $3, failure_status = $4,
    failure_excerpt = $5, failure_is_json = $6, failure_origin = $12,
    breaker_failures = case when $7 then s.breaker_failures + 1 else 0 end,
    breaker = case when not $7 then 0 when o.opens then 2 else s.breaker end,
    breaker_opened = case when not $7 then 0 when o.opens then s.breaker_opened + 1 else s.breaker_opened end,
    open_until = case when not $7 then null
                      when o.opens then now() + least($11::interval, $10::interval * (2 ^ least(s.breaker_opened, 20)))
                      else s.open_until end,
    probe_until = case when o.opens or not $7 then null else s.probe_until end
from (select destination_id,
             $7::boolean and breaker <> 2 and (breaker = 1 or $8::boolean or breaker_failures + 1 >= $9::integer) as opens
      from destination_state where destination_id = $1 for update) o
where s.destination_id = o.destination_id
returning s.failures, o.opens as opened

-- name: close_breaker
-- Close the circuit breaker of a destination that answered.
update destination_state
set breaker = 0, breaker_failures = 0, breaker_opened = 0, open_until = null, probe_until = null
where destination_id = $1 and (breaker <> 0 or breaker_failures > 0)

-- name: block_destination
-- Block a destination for a while: none of its lanes is claimed.
update destination_state set blocked_until = greatest(blocked_until, now() + $2::interval) where destination_id = $1

-- name: destination_statuses
-- Select every destination with its last failure and its queue.
select d.slug, d.kind, d.tracker, d.retired_at is not null as retired, s.pause_reason, s.blocked_until, s.breaker,
       s.open_until, s.failures,
       s.failed_at, s.failure_type, s.failure_message, s.failure_status, s.failure_excerpt, s.failure_is_json,
       s.polled_to,
       (select count(*) from lane l where l.destination_id = d.id and l.state in (1, 2)) as waiting_lanes,
       (select count(*) from lane l where l.destination_id = d.id and l.state = 3) as parked_lanes
from destination d join destination_state s on s.destination_id = d.id order by d.kind, d.slug

-- name: end_back_off
-- End the back-off of a destination and close its circuit breaker; its last failure stays until the next success.
update destination_state s
set blocked_until = null, breaker = 0, breaker_failures = 0, breaker_opened = 0, open_until = null, probe_until = null
from destination d where d.id = s.destination_id and d.slug = $1 and d.retired_at is null returning d.id

-- name: end_lane_back_offs
-- Make the lanes of a destination due that wait after a failure. A lane whose outcome has to settle first keeps its time,
-- and so does one that was never tried.
update lane set due_at = now()
where id = any (array(
  select l.id from lane l join delivery d on d.lane_id = l.id and d.seq = l.head_seq
  where l.destination_id = $1 and l.state = 1 and l.due_at > now() and d.last_outcome is not null
    and (d.verify_after is null or d.verify_after <= now())
  for update of l skip locked)) and state = 1

-- name: set_pause
-- Pause or resume all deliveries to a destination.
update destination_state s
set pause_reason = $2, blocked_until = null, breaker = 0, breaker_failures = 0, breaker_opened = 0, open_until = null,
    probe_until = null
from destination d where d.id = s.destination_id and d.slug = $1 and d.retired_at is null returning d.id

-- name: last_webhook
-- Select when a tracker last called us with a valid signature.
select max(received_at) from webhook_key where destination_id = $1
