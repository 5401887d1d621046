-- The queue: lanes are claimed whole under a lease; every change by a holder names the lease.

-- name: anything_to_do
-- Whether a lease ran out, or a lane is due at a destination that may be worked. Reads two indexes, writes nothing:
-- an idle service asks only this.
select exists (select from lane where state = 2 and lease_until < now()) as lapsed,
       exists (
         select from destination_state s
         where s.breaker <> 2 and s.paused_why is null and (s.blocked_until is null or s.blocked_until <= now())
           and exists (select from lane l
                       where l.destination_id = s.destination_id and l.state = 1 and l.due_at <= now())) as due

-- name: reap_lanes
-- Lanes whose holder let the lease run out are ready again.
update lane set state = 1, due_at = now(), lease_id = null, lease_until = null, holder = null
where id in (select id from lane where state = 2 and lease_until < now()
             order by lease_until limit 100 for update skip locked)
returning id

-- name: destinations_in_turn
-- Takes turns at destinations that may be worked. A statement of its own: the claim counts in a newer snapshot.
select s.destination_id from destination_state s
where s.breaker <> 2 and s.paused_why is null and (s.blocked_until is null or s.blocked_until <= now())
  and exists (select from lane l where l.destination_id = s.destination_id and l.state = 1 and l.due_at <= now())
order by s.last_claim_at limit $1 for update skip locked

-- name: claim_lanes
-- Claims due lanes of these destinations, never more at once than each allows. "= any (array(..))" and the lateral
-- join keep the planner on the index however many lanes wait.
with room as materialized (
  select s.destination_id, greatest(0, least($2::integer, s.max_inflight -
         (select count(*) from lane f where f.destination_id = s.destination_id and f.state = 2)))::integer as n
  from destination_state s where s.destination_id = any ($4::integer[])),
turn as (
  update destination_state set last_claim_at = clock_timestamp() where destination_id = any ($4::integer[])),
pick as materialized (
  select p.id from room cross join lateral (
    select l.id from lane l
    where l.destination_id = room.destination_id and l.state = 1 and l.due_at <= now()
    order by l.due_at limit room.n for update skip locked) p)
update lane set state = 2, epoch = epoch + 1, lease_id = gen_random_uuid(), holder = $1,
                lease_until = now() + $3::interval
where id = any (array(select id from pick limit $2))
returning id, epoch, lease_id, ticket_id, destination_id

-- name: renew_leases
-- Holds on to lanes that are worked on; those missing in the answer are lost.
update lane l set lease_until = now() + $3::interval
from unnest($1::bigint[], $2::uuid[]) as mine (id, lease_id)
where l.id = mine.id and l.lease_id = mine.lease_id and l.state = 2
returning l.id

-- name: release_lane
-- Gives a lane back untouched, due after a while.
update lane set state = 1, due_at = now() + $3::interval, lease_id = null, lease_until = null, holder = null
where id = $1 and lease_id = $2 and state = 2

-- name: head_of_lane
-- The first unfinished delivery of a claimed lane, with all that sending it needs.
select d.seq, d.event_n, d.kind, d.marker, d.attempts, d.in_doubt, d.looks, d.draft, d.first_sent_at,
       coalesce(extract(epoch from d.doubt_until - now()), 0)::float8 as doubt_seconds,
       -- time alone does not kill: a pause or an outage of days must not, only tries that failed all along
       d.expires_at < now() and d.attempts >= 12 as expired,
       t.id as ticket_id, t.kind as ticket_kind, t.title, t.description, t.url as ticket_url, t.level, t.environment,
       t.release, t.reporter_email, t.reporter_name, t.status, t.close_reason, t.occurrences, t.opened_at, s.slug as source,
       e.kind as event_kind, e.data as event_data, e.at as event_at,
       k.remote_id, k.remote_key, k.url as link_url, k.state as link_state
from lane l
join delivery d on d.lane_id = l.id and d.seq = l.head_seq
join ticket t on t.id = l.ticket_id
join source s on s.id = t.source_id
join event e on e.ticket_id = t.id and e.n = d.event_n
left join link k on k.lane_id = l.id
where l.id = $1 and l.lease_id = $2 and l.state = 2

-- name: write_intent
-- Says, before a request leaves, that it may have taken effect. No row: the lease is lost, send nothing.
with mine as (
  select id from lane where id = $1 and lease_id = $2 and state = 2 and lease_until > now() for share)
update delivery d
set in_doubt = $4, attempts = attempts + 1, first_sent_at = coalesce(first_sent_at, now()),
    doubt_until = now() + $5::interval, draft = coalesce(draft, $6::jsonb)
from mine where d.lane_id = mine.id and d.seq = $3 and d.state = 0
returning d.attempts

-- name: finish_delivery
-- A delivery is done: the lane moves on, the issue is linked, the attempt is written down. "More work?" is read from
-- the lane's own counters. No row: somebody else holds the lane, the result is stale.
with moved as (
  update lane
  set head_seq = head_seq + 1,
      state = case when next_seq <= head_seq + 1 then 0 when $4 then 2 else 1 end,
      lease_id = case when next_seq > head_seq + 1 and $4 then lease_id end,
      lease_until = case when next_seq > head_seq + 1 and $4 then lease_until end,
      holder = case when next_seq > head_seq + 1 and $4 then holder end,
      due_at = now()
  where id = $1 and lease_id = $2 and state = 2 and head_seq = $3
  returning id, destination_id, state, epoch, $12::uuid as holder),
done as (
  update delivery d
  set state = $5, in_doubt = false, done_at = now(), last_class = $6, last_error = null, remote_id = $7
  from moved where d.lane_id = moved.id and d.seq = $3),
linked as (
  insert into link (lane_id, destination_id, remote_id, remote_key, url)
  select id, destination_id, $8, $9, $10 from moved where $8::text is not null
  on conflict (lane_id) do update
  set remote_id = excluded.remote_id, remote_key = excluded.remote_key, url = excluded.url, state = 1),
noted as (
  insert into attempt (started_at, lane_id, seq, epoch, holder, outcome, error)
  select $11, id, $3, epoch, holder, $6, $15 from moved),
stood as (
  update link set remote_state = $13, remote_version = greatest(remote_version, $14::timestamptz)
  from moved where link.lane_id = moved.id and $13::smallint is not null and $8::text is null)
select state from moved

-- name: retry_delivery
-- A delivery is tried again after a while.
with moved as (
  update lane set state = 1, due_at = now() + $4::interval, lease_id = null, lease_until = null, holder = null
  where id = $1 and lease_id = $2 and state = 2
  returning id, epoch),
again as (
  update delivery d
  set attempts = greatest(0, attempts - case when $5 then 0 else 1 end), in_doubt = $6, looks = $7,
      doubt_until = now() + $8::interval, last_class = $9, last_error = $10,
      expires_at = case when $5 then expires_at else expires_at + $4::interval end
  from moved where d.lane_id = moved.id and d.seq = $3),
noted as (
  insert into attempt (started_at, lane_id, seq, epoch, holder, outcome, status, error)
  select $11, id, $3, epoch, $12, $9, $13, $10 from moved)
select id from moved

-- name: clear_doubt
-- Every look found nothing: the request did not take effect and may be sent again.
update delivery d set in_doubt = false, looks = 0
from lane l
where l.id = $1 and l.lease_id = $2 and l.state = 2 and d.lane_id = l.id and d.seq = $3
returning d.seq

-- name: give_up
-- A delivery is dead. Where followers can go on without it the lane moves on, else it is parked with the reason.
with moved as (
  update lane
  set head_seq = head_seq + case when $4 then 0 else 1 end,
      state = case when $4 then 3 when next_seq <= head_seq + 1 then 0 else 1 end,
      parked_why = case when $4 then $5 end,
      due_at = now(), lease_id = null, lease_until = null, holder = null
  where id = $1 and lease_id = $2 and state = 2 and head_seq = $3
  returning id, epoch),
dead as (
  update delivery d
  set state = 2, done_at = now(), last_class = $5, last_error = $6, in_doubt = in_doubt and $10
  from moved where d.lane_id = moved.id and d.seq = $3),
noted as (
  insert into attempt (started_at, lane_id, seq, epoch, holder, outcome, status, error)
  select $7, id, $3, epoch, $8, $5, $9, $6 from moved)
select id from moved

-- name: park_lane
-- A lane waits for a person or a policy; its head stays pending.
with moved as (
  update lane set state = 3, parked_why = $3, lease_id = null, lease_until = null, holder = null
  where id = $1 and lease_id = $2 and state = 2 returning id)
select id from moved

-- name: orphan_link
-- The issue is gone from its destination.
update link set state = 2 where lane_id = $1

-- name: write_sighting
-- An issue was seen with a marker. Unfenced on purpose: whoever learns it may say it.
insert into sighting (destination_id, marker, remote_id, remote_key, url, seen_by)
values ($1, $2, $3, $4, $5, $6) on conflict do nothing

-- name: sightings_of
-- Where a marker was seen, first one first.
select remote_id, remote_key, url from sighting
where destination_id = $1 and marker = $2 order by at, remote_id

-- name: replay_parked
-- A dead head of a parked lane runs again; its marker stays, so that nothing is made twice. A parked lane with a
-- living head simply goes on.
with revived as (
  update delivery d
  set state = 0, attempts = 0, looks = 0, done_at = null, expires_at = now() + interval '72 hours',
      in_doubt = in_doubt and not $3
  from lane l
  where l.id = d.lane_id and l.state = 3 and d.seq = l.head_seq and d.state in (0, 2) and d.lane_id = $1 and d.seq = $2
  returning d.lane_id)
update lane set state = 1, due_at = now(), parked_why = null
from revived where lane.id = revived.lane_id and lane.state = 3
returning lane.id

-- name: replay_skipped
-- A dead delivery that its lane went past moves to the lane's end.
with dead as (
  select lane_id, seq from delivery where lane_id = $1 and seq = $2 and state = 2 for update),
room as (
  update lane set next_seq = next_seq + 1,
                  state = case when state = 0 then 1 else state end,
                  due_at = case when state = 0 then now() else due_at end
  from dead where id = dead.lane_id and head_seq > dead.seq
  returning id, next_seq - 1 as seq)
update delivery d
set seq = room.seq, state = 0, attempts = 0, looks = 0, done_at = null, expires_at = now() + interval '72 hours',
    in_doubt = in_doubt and not $3
from room where d.lane_id = room.id and d.seq = $2
returning d.seq

-- name: undelivered
-- How much waits, and since when, for metrics.
select count(*) filter (where d.state = 0) as pending,
       count(*) filter (where d.state = 0 and d.in_doubt) as in_doubt,
       count(*) filter (where d.state = 2) as dead,
       coalesce(extract(epoch from now() - min(d.created_at) filter (where d.state = 0)), 0)::float8 as oldest_seconds
from delivery d where d.state in (0, 2)

-- name: deliveries
-- Deliveries with their ticket and destination, newest first, for people.
select d.lane_id, d.seq, d.event_n, d.kind, d.state, d.attempts, d.in_doubt, d.last_class, d.last_error, d.created_at,
       d.done_at,
       l.state as lane_state, l.parked_why, l.due_at, l.ticket_id, x.slug as destination, t.title
from delivery d
join lane l on l.id = d.lane_id
join destination x on x.id = l.destination_id
join ticket t on t.id = l.ticket_id
where ($1::smallint is null or d.state = $1) and ($2::text is null or x.slug = $2)
  and ($3::uuid is null or l.ticket_id = $3)
  and (not $5::boolean or (l.state = 3 and d.seq = l.head_seq))
order by d.created_at desc, d.lane_id desc, d.seq desc limit $4

-- name: attempts_of_ticket
-- The attempts for a ticket, in order of time.
select a.started_at, a.ended_at, a.outcome, a.status, a.error, d.kind, x.slug as destination
from attempt a
join lane l on l.id = a.lane_id
join destination x on x.id = l.destination_id
left join delivery d on d.lane_id = a.lane_id and d.seq = a.seq
where l.ticket_id = $1
order by a.started_at, a.seq limit 2000
