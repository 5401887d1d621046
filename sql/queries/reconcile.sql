-- Polling trackers for changes, and comparing all issues with their tickets.

-- name: acquire_poll
-- Acquire the right to poll a destination until $2 from now, and select up to when changes are known. If another
-- replica has it: in how many seconds it is free.
with won as (
  update destination_state set poll_due_at = now() + $2::interval
  where destination_id = $1 and poll_due_at <= now() and pause_reason is null
  returning now() as asked_at, polled_to)
select asked_at, polled_to, 0::float8 as wait_seconds from won
union all
select null, null, greatest(extract(epoch from poll_due_at - now()), 0)::float8 from destination_state
where destination_id = $1 and not exists (select from won)

-- name: release_polls
-- Release polls before their time, so that other replicas can poll.
update destination_state set poll_due_at = now() where destination_id = any ($1::integer[]) and poll_due_at > now()

-- name: record_poll
-- Record that changes up to a time are known. That clears the failure of a poll, and no other.
update destination_state s
set polled_to = greatest(s.polled_to, $2),
    failures = case when f.of_poll then 0 else s.failures end,
    failed_at = case when f.of_poll then null else s.failed_at end,
    failure_type = case when f.of_poll then null else s.failure_type end,
    failure_message = case when f.of_poll then null else s.failure_message end,
    failure_status = case when f.of_poll then null else s.failure_status end,
    failure_excerpt = case when f.of_poll then null else s.failure_excerpt end,
    failure_is_json = case when f.of_poll then null else s.failure_is_json end,
    failure_origin = case when f.of_poll then null else s.failure_origin end
from (select coalesce(failure_origin = 'poll', false) as of_poll
      from destination_state where destination_id = $1) f
where s.destination_id = $1

-- name: list_links
-- Select a page of a destination's issues with the state of their ticket, whether a close or reopen of ours is pending,
-- and the last one that is a dead letter.
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

-- name: has_pending_state_change
-- Return whether a close or reopen of ours is pending for an issue.
select exists (select from delivery where lane_id = $1 and state = 0 and kind in (3, 4))

-- name: state_change_sent_since
-- Return whether a close or reopen of ours is in flight, or was done after a time: an issue that was read at that time
-- may be out of date.
select exists (select from delivery where lane_id = $1 and kind in (3, 4) and first_sent_at is not null
                 and (state = 0 or done_at >= $2))

-- name: current_time
-- Select the database's time.
select now()
