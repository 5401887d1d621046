-- Asking trackers how things stand.

-- name: take_poll
-- Wins the right to ask a destination for changes until $2 from now, and up to when they are known. Where somebody else
-- has it: in how many seconds it is free.
with won as (
  update destination_state set poll_due_at = now() + $2::interval
  where destination_id = $1 and poll_due_at <= now() and paused_why is null
  returning now() as asked_at, polled_to)
select asked_at, polled_to, 0::float8 as wait_seconds from won
union all
select null, null, greatest(extract(epoch from poll_due_at - now()), 0)::float8 from destination_state
where destination_id = $1 and not exists (select from won)

-- name: give_back
-- Turns that their holder has no use for any more: others need not wait until they are over.
update destination_state set poll_due_at = now() where destination_id = any ($1::integer[]) and poll_due_at > now()

-- name: polled
-- Changes up to here are known; that clears the failure of a poll, and no other.
update destination_state s
set polled_to = greatest(s.polled_to, $2),
    failures = case when f.of_poll then 0 else s.failures end,
    failed_at = case when f.of_poll then null else s.failed_at end,
    failure_type = case when f.of_poll then null else s.failure_type end,
    failure_message = case when f.of_poll then null else s.failure_message end,
    failure_status = case when f.of_poll then null else s.failure_status end,
    failure_excerpt = case when f.of_poll then null else s.failure_excerpt end,
    failure_is_json = case when f.of_poll then null else s.failure_is_json end
from (select coalesce(failure_message like 'asking for changes: %', false) as of_poll
      from destination_state where destination_id = $1) f
where s.destination_id = $1

-- name: links_page
-- Issues that tickets have at a destination, in pages, with how the ticket stands and what of ours is still to change the
-- issue or failed to.
select k.lane_id, l.ticket_id, k.remote_id, k.remote_key, k.url, t.status,
       exists (select from delivery d where d.lane_id = l.id and d.state = 0 and d.kind in (3, 4)) as waits,
       (select d.seq from delivery d
        where d.lane_id = l.id and d.state = 2 and d.kind in (3, 4)
          and not exists (select from delivery o
                          where o.lane_id = d.lane_id and o.kind in (3, 4) and o.state <> 2 and o.seq > d.seq)
        order by d.seq desc limit 1) as dead_seq
from link k join lane l on l.id = k.lane_id join ticket t on t.id = l.ticket_id
where k.destination_id = $1 and k.state = 1 and k.lane_id > $2
order by k.lane_id limit $3

-- name: state_waits
-- Whether a close or reopen of ours is still to reach an issue.
select exists (select from delivery where lane_id = $1 and state = 0 and kind in (3, 4))

-- name: state_sent_since
-- Whether a close or reopen of ours is under way, or was done after a time: what was read of the issue at that time may be
-- how it stood before.
select exists (select from delivery where lane_id = $1 and kind in (3, 4) and first_sent_at is not null
                 and (state = 0 or done_at >= $2))

-- name: clock
-- The database's time.
select now()
