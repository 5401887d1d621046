-- The queue: lanes are claimed whole under a lease; every statement of a holder names the lease.

-- name: has_due_work
-- Return whether a lease expired, and whether a lane is due at a destination that accepts writes. It reads two indexes
-- and writes nothing; an idle service runs only this.
select exists (select from lane where state = 2 and lease_until < now()) as lapsed,
       exists (
         select from destination_state s
         where s.pause_reason is null and (s.blocked_until is null or s.blocked_until <= now())
           and (s.breaker = 0 or (s.breaker = 2 and s.open_until <= now()) or (s.breaker = 1 and s.probe_until <= now()))
           -- a scalar subquery is never turned into a join, which would read all blocked lanes
           and (select true from lane l
                where l.destination_id = s.destination_id and l.state = 1 and l.due_at <= now() limit 1)) as due

-- name: release_expired_leases
-- Make lanes ready whose lease expired.
update lane set state = 1, due_at = now(), lease_id = null, lease_until = null, holder = null
where id in (select id from lane where state = 2 and lease_until < now()
             order by lease_until limit 100 for update skip locked)
returning id

-- name: lock_claimable_destinations
-- Lock destinations that accept writes and have due lanes, the longest unclaimed first, among those that the replica's
-- configuration can work on ($2, null for all). A statement of its own, because
-- claim_lanes counts in a newer snapshot. The lock makes its owner the only one that probes a half-open breaker.
select s.destination_id from destination_state s
where s.pause_reason is null and (s.blocked_until is null or s.blocked_until <= now())
  and (s.breaker = 0 or (s.breaker = 2 and s.open_until <= now()) or (s.breaker = 1 and s.probe_until <= now()))
  and (select true from lane l
       where l.destination_id = s.destination_id and l.state = 1 and l.due_at <= now() limit 1)
  and ($2::integer[] is null or s.destination_id = any ($2))
order by s.last_claim_at limit $1 for update skip locked

-- name: claim_lanes
-- Claim due lanes of the locked destinations in turn, up to the limit of each, and a single lane as probe where the
-- breaker is not closed. "= any (array(..))" and the lateral join keep the planner on the index however many lanes
-- wait.
with capacity as materialized (
  select s.destination_id,
         case when s.breaker <> 0 then 1 else greatest(0, least($2::integer, s.max_inflight -
           (select count(*) from lane f where f.destination_id = s.destination_id and f.state = 2))) end::integer as n
  from destination_state s where s.destination_id = any ($4::integer[])),
candidates as materialized (
  select capacity.destination_id, p.id, row_number() over (partition by capacity.destination_id) as rank
  from capacity cross join lateral (
    select l.id from lane l
    where l.destination_id = capacity.destination_id and l.state = 1 and l.due_at <= now()
    order by l.due_at limit capacity.n for update skip locked) p),
chosen as materialized (select id, destination_id from candidates order by rank limit $2),
claimed as (
  update destination_state s
  set last_claim_at = clock_timestamp(),
      breaker = case when s.breaker = 0 or c.destination_id is null then s.breaker else 1 end,
      probe_until = case when s.breaker = 0 or c.destination_id is null then s.probe_until
                         else now() + $3::interval end
  from unnest($4::integer[]) as locked (destination_id)
  left join (select distinct destination_id from chosen) c using (destination_id)
  where s.destination_id = locked.destination_id)
update lane set state = 2, epoch = epoch + 1, lease_id = gen_random_uuid(), holder = $1,
                lease_until = now() + $3::interval
where id = any (array(select id from chosen))
returning id, epoch, lease_id, ticket_id, destination_id

-- name: renew_leases
-- Renew the leases of lanes and return them. The missing ones are lost.
with locked as materialized (
  select l.id from lane l join unnest($1::bigint[], $2::uuid[]) as asked (id, lease_id)
    on l.id = asked.id and l.lease_id = asked.lease_id
  where l.state = 2 order by l.id for update of l)
update lane set lease_until = now() + $3::interval
where id = any (array(select id from locked)) and state = 2
returning id

-- name: release_lane
-- Release a lane unchanged, due after a while.
update lane set state = 1, due_at = now() + $3::interval, lease_id = null, lease_until = null, holder = null
where id = $1 and lease_id = $2 and state = 2

-- name: load_next_deliveries
-- Load the first unfinished delivery of each claimed lane, with everything that sending it needs.
select l.id as lane_id, l.lease_id, d.seq, d.event_n, d.kind, d.marker, d.attempts, d.outcome_unknown, d.verify_attempts, d.draft,
       d.first_sent_at, d.coalesced_count, d.created_at,
       coalesce(extract(epoch from d.verify_after - now()), 0)::float8 as verify_after_seconds,
       -- expires only after many attempts: a pause or an outage of days must not expire deliveries
       d.expires_at < now() and d.attempts >= 12 as expired,
       (select must_verify_writes()) as verify_writes,
       t.id as ticket_id, t.kind as ticket_kind, t.title, t.description, t.url as ticket_url, t.level, t.environment,
       t.release, t.reporter_email, t.reporter_name, t.close_reason, t.occurrences, s.slug as source,
       e.kind as event_kind, e.data as event_data, e.at as event_at,
       k.remote_id, k.remote_key, k.url as issue_url, k.state as link_state
from unnest($1::bigint[], $2::uuid[]) as asked (lane_id, lease_id)
join lane l on l.id = asked.lane_id and l.lease_id = asked.lease_id and l.state = 2
join delivery d on d.lane_id = l.id and d.seq = l.head_seq
join ticket t on t.id = l.ticket_id
join source s on s.id = t.source_id
join event e on e.ticket_id = t.id and e.n = d.event_n
left join link k on k.lane_id = l.id

-- name: lock_lane
-- Wait for one lane that a set-based statement skipped because another transaction had it locked.
select id from lane where id = $1 and lease_id = $2 and state = 2 for update

-- name: record_intents
-- Record, before requests leave, that they may take effect. Locked lanes are skipped: a lane that is missing in the
-- result is locked or lost, and nothing may be sent. "+ 0" keeps the planner from the index of pending deliveries,
-- which it may take for empty: the key is exact.
with asked as (
  select * from unnest($1::bigint[], $2::uuid[], $3::bigint[], $4::boolean[], $5::interval[], $6::text[])
    as a (lane_id, lease_id, seq, outcome_unknown, settle, draft)),
locked as materialized (
  select l.id, a.lease_id, a.seq, a.outcome_unknown, a.settle, a.draft
  from lane l join asked a on l.id = a.lane_id and l.lease_id = a.lease_id
  where l.state = 2 and l.lease_until > now() order by l.id for share of l skip locked)
update delivery d
set outcome_unknown = locked.outcome_unknown, attempts = d.attempts + 1, first_sent_at = coalesce(d.first_sent_at, now()),
    verify_after = now() + locked.settle, draft = coalesce(d.draft, locked.draft::jsonb)
from locked where d.lane_id = locked.id and d.seq = locked.seq and d.state + 0 = 0
returning d.lane_id, locked.lease_id, d.attempts

-- name: finish_deliveries
-- Finish deliveries: advance each lane, link the issue, log the attempt, clear the destination's failure. Whether a
-- lane has more work is read from its own counters. Locked lanes are skipped: a lane that is missing in the result is
-- locked, or its lease was lost and the result is dropped.
with asked as (
  select * from unnest($1::bigint[], $2::uuid[], $3::bigint[], $4::boolean[], $5::text[], $6::text[], $7::text[],
                       $8::text[], $9::text[], $10::timestamptz[], $11::smallint[], $12::timestamptz[], $13::text[])
    as a (lane_id, lease_id, seq, keep, outcome, comment_id, remote_id, remote_key, url, started_at, remote_state,
          remote_version, note)),
locked as materialized (
  select l.id from lane l join asked a on l.id = a.lane_id and l.lease_id = a.lease_id
  where l.state = 2 order by l.id for update of l skip locked),
moved as (
  update lane l
  set head_seq = l.head_seq + 1,
      state = case when l.next_seq <= l.head_seq + 1 then 0 when a.keep then 2 else 1 end,
      lease_id = case when l.next_seq > l.head_seq + 1 and a.keep then l.lease_id end,
      lease_until = case when l.next_seq > l.head_seq + 1 and a.keep then l.lease_until end,
      holder = case when l.next_seq > l.head_seq + 1 and a.keep then l.holder end,
      due_at = now()
  from asked a
  where l.id = any (array(select id from locked))
    and l.id = a.lane_id and l.lease_id = a.lease_id and l.state = 2 and l.head_seq = a.seq
  returning l.id, a.lease_id, l.destination_id, l.state, l.epoch, a.seq, a.outcome, a.comment_id, a.remote_id,
            a.remote_key, a.url, a.started_at, a.remote_state, a.remote_version, a.note),
done as (
  update delivery d
  set state = 1, outcome_unknown = false, done_at = now(), last_outcome = moved.outcome, last_error = null,
      remote_id = moved.comment_id
  from moved where d.lane_id = moved.id and d.seq = moved.seq),
linked as (
  insert into link (lane_id, destination_id, remote_id, remote_key, url)
  select id, destination_id, remote_id, remote_key, url from moved
  -- a tracker that names the same issue twice: the lane it came for first keeps it
  where remote_id is not null and not exists (
    select from link k
    where k.destination_id = moved.destination_id and k.remote_id = moved.remote_id and k.lane_id <> moved.id)
  on conflict (lane_id) do update
  set remote_id = excluded.remote_id, remote_key = excluded.remote_key, url = excluded.url, state = 1),
logged as (
  insert into attempt (started_at, lane_id, seq, epoch, holder, outcome, error)
  select started_at, id, seq, epoch, $14::uuid, outcome, note from moved),
remote as (
  update link k
  set remote_state = moved.remote_state, remote_version = greatest(k.remote_version, moved.remote_version)
  from moved where k.lane_id = moved.id and moved.remote_state is not null and moved.remote_id is null),
healthy as (
  update destination_state s
  set failures = 0, failed_at = null, failure_type = null, failure_message = null, failure_status = null,
      failure_excerpt = null, failure_is_json = null, breaker = 0, breaker_failures = 0, breaker_opened = 0,
      open_until = null, probe_until = null, failure_origin = null
  where s.destination_id in (select destination_id from moved)
    and (s.failed_at is not null or s.breaker <> 0 or s.breaker_failures > 0))
select id as lane_id, lease_id, state from moved

-- name: schedule_retry
-- Schedule the next attempt of a delivery.
with moved as (
  update lane set state = 1, due_at = now() + $4::interval, lease_id = null, lease_until = null, holder = null
  where id = $1 and lease_id = $2 and state = 2
  returning id, epoch),
retried as (
  update delivery d
  set attempts = greatest(0, attempts - case when $5 then 0 else 1 end), outcome_unknown = $6, verify_attempts = $7,
      verify_after = now() + $8::interval, last_outcome = $9, last_error = $10,
      expires_at = case when $5 then expires_at else expires_at + $4::interval end
  from moved where d.lane_id = moved.id and d.seq = $3),
logged as (
  insert into attempt (started_at, lane_id, seq, epoch, holder, outcome, status, error)
  select $11, id, $3, epoch, $12, $9, $13, $10 from moved)
select id from moved

-- name: confirm_not_applied
-- Allow the next attempt after all verifications found nothing, and remember it for the check for duplicates.
update delivery d set outcome_unknown = false, verify_attempts = 0, resent_at = now()
from lane l
where l.id = $1 and l.lease_id = $2 and l.state = 2 and d.lane_id = l.id and d.seq = $3
returning d.seq

-- name: dead_letter_delivery
-- Make a delivery a dead letter. The lane advances if the next deliveries can do without it ($4), else it is parked.
with moved as (
  update lane
  set head_seq = head_seq + case when $4 then 0 else 1 end,
      state = case when $4 then 3 when next_seq <= head_seq + 1 then 0 else 1 end,
      park_reason = case when $4 then $5 end,
      due_at = now(), lease_id = null, lease_until = null, holder = null
  where id = $1 and lease_id = $2 and state = 2 and head_seq = $3
  returning id, epoch),
dead as (
  update delivery d
  set state = 2, done_at = now(), last_outcome = $5, last_error = $6, outcome_unknown = outcome_unknown and $10
  from moved where d.lane_id = moved.id and d.seq = $3),
logged as (
  insert into attempt (started_at, lane_id, seq, epoch, holder, outcome, status, error)
  select $7, id, $3, epoch, $8, $5, $9, $6 from moved)
select id from moved

-- name: park_lane
-- Park a lane. Its first delivery stays pending, with its error. The link of an issue that is gone ($4) is orphaned.
with moved as (
  update lane set state = 3, park_reason = $3, lease_id = null, lease_until = null, holder = null
  where id = $1 and lease_id = $2 and state = 2
  returning id, epoch, head_seq),
explained as (
  update delivery d set last_outcome = coalesce($5, d.last_outcome), last_error = coalesce($6, d.last_error)
  from moved where d.lane_id = moved.id and d.seq = moved.head_seq),
logged as (
  insert into attempt (started_at, lane_id, seq, epoch, holder, outcome, status, error)
  select $8::timestamptz, id, head_seq, epoch, $9::uuid, $5::text, $7::integer, $6::text from moved
  where $5::text is not null),
orphaned as (
  update link k set state = 2 from moved where k.lane_id = moved.id and $4::boolean)
select id from moved

-- name: replay_parked
-- Replay the first delivery of a parked lane, with the same marker, so that nothing is created twice.
with revived as (
  update delivery d
  set state = 0, attempts = 0, verify_attempts = 0, done_at = null, expires_at = now() + interval '72 hours',
    coalesce_key = null,
      outcome_unknown = outcome_unknown and not $3
  from lane l
  where l.id = d.lane_id and l.state = 3 and d.seq = l.head_seq and d.state in (0, 2) and d.lane_id = $1 and d.seq = $2
  returning d.lane_id)
update lane set state = 1, due_at = now(), park_reason = null
from revived where lane.id = revived.lane_id and lane.state = 3
returning lane.id

-- name: replay_passed
-- Move a dead delivery that its lane went past to the end of the lane.
with dead as (
  select lane_id, seq from delivery where lane_id = $1 and seq = $2 and state = 2 for update),
place as (
  update lane set next_seq = next_seq + 1,
                  state = case when state = 0 then 1 else state end,
                  due_at = case when state = 0 then now() else due_at end
  from dead where id = (select lane_id from dead) and head_seq > dead.seq
  returning id, next_seq - 1 as seq)
update delivery d
set seq = place.seq, state = 0, attempts = 0, verify_attempts = 0, done_at = null, expires_at = now() + interval '72 hours',
    coalesce_key = null,
    outcome_unknown = outcome_unknown and not $3
from place where d.lane_id = place.id and d.seq = $2
returning d.seq

-- name: missing_comments
-- Count the comments of a lane that were given up since the last one that was posted, and select since when.
select count(*)::integer as count, min(d.created_at) as since
from delivery d
where d.lane_id = $1 and d.seq < $2 and d.kind = 2 and d.state = 2
  and d.seq > coalesce((select max(e.seq) from delivery e
                        where e.lane_id = $1 and e.seq < $2 and e.kind = 2 and e.state = 1), -1)
