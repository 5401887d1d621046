-- The queue: lanes are claimed whole under a lease; every change by a holder names the lease.

-- name: anything_to_do
-- Whether a lease ran out, or a lane is due at a destination that may be worked. Reads two indexes, writes nothing:
-- an idle service asks only this.
select exists (select from lane where state = 2 and lease_until < now()) as lapsed,
       exists (
         select from destination_state s
         where s.paused_why is null and (s.blocked_until is null or s.blocked_until <= now())
           and (s.breaker = 0 or (s.breaker = 2 and s.open_until <= now()) or (s.breaker = 1 and s.probe_until <= now()))
           -- a subquery that gives a value is never made a join that reads all that is blocked
           and (select true from lane l
                where l.destination_id = s.destination_id and l.state = 1 and l.due_at <= now() limit 1)) as due

-- name: reap_lanes
-- Lanes whose holder let the lease run out are ready again.
update lane set state = 1, due_at = now(), lease_id = null, lease_until = null, holder = null
where id in (select id from lane where state = 2 and lease_until < now()
             order by lease_until limit 100 for update skip locked)
returning id

-- name: destinations_in_turn
-- Takes turns at destinations that may be worked; one whose breaker is open comes in when its time is over. A statement
-- of its own: the claim counts in a newer snapshot, and who holds these rows probes alone.
select s.destination_id from destination_state s
where s.paused_why is null and (s.blocked_until is null or s.blocked_until <= now())
  and (s.breaker = 0 or (s.breaker = 2 and s.open_until <= now()) or (s.breaker = 1 and s.probe_until <= now()))
  and (select true from lane l
       where l.destination_id = s.destination_id and l.state = 1 and l.due_at <= now() limit 1)
order by s.last_claim_at limit $1 for update skip locked

-- name: claim_lanes
-- Claims due lanes of these destinations in turn, never more at once than each allows, and a single one, the probe,
-- where the breaker is not closed. "= any (array(..))" and the lateral join keep the planner on the index however many
-- lanes wait.
with room as materialized (
  select s.destination_id,
         case when s.breaker <> 0 then 1 else greatest(0, least($2::integer, s.max_inflight -
           (select count(*) from lane f where f.destination_id = s.destination_id and f.state = 2))) end::integer as n
  from destination_state s where s.destination_id = any ($4::integer[])),
pick as materialized (
  select room.destination_id, p.id, row_number() over (partition by room.destination_id) as turn
  from room cross join lateral (
    select l.id from lane l
    where l.destination_id = room.destination_id and l.state = 1 and l.due_at <= now()
    order by l.due_at limit room.n for update skip locked) p),
chosen as materialized (select id, destination_id from pick order by turn limit $2),
turn as (
  update destination_state s
  set last_claim_at = clock_timestamp(),
      breaker = case when s.breaker = 0 or c.destination_id is null then s.breaker else 1 end,
      probe_holder = case when s.breaker = 0 or c.destination_id is null then s.probe_holder else $1::uuid end,
      probe_until = case when s.breaker = 0 or c.destination_id is null then s.probe_until
                         else now() + $3::interval end
  from unnest($4::integer[]) as mine (destination_id)
  left join (select distinct destination_id from chosen) c using (destination_id)
  where s.destination_id = mine.destination_id)
update lane set state = 2, epoch = epoch + 1, lease_id = gen_random_uuid(), holder = $1,
                lease_until = now() + $3::interval
where id = any (array(select id from chosen))
returning id, epoch, lease_id, ticket_id, destination_id

-- name: renew_leases
-- Holds on to lanes that are worked on; those missing in the answer are lost.
with mine as materialized (
  select l.id from lane l join unnest($1::bigint[], $2::uuid[]) as mine (id, lease_id)
    on l.id = mine.id and l.lease_id = mine.lease_id
  where l.state = 2 order by l.id for update of l)
update lane set lease_until = now() + $3::interval
where id = any (array(select id from mine)) and state = 2
returning id

-- name: release_lane
-- Gives a lane back untouched, due after a while.
update lane set state = 1, due_at = now() + $3::interval, lease_id = null, lease_until = null, holder = null
where id = $1 and lease_id = $2 and state = 2

-- name: heads_of_lanes
-- The first unfinished delivery of each claimed lane, with all that sending it needs.
select l.id as lane_id, l.lease_id, d.seq, d.event_n, d.kind, d.marker, d.attempts, d.in_doubt, d.looks, d.draft,
       d.first_sent_at, d.collapsed, d.created_at, d.resent_at, coalesce(extract(epoch from d.doubt_until - now()), 0)::float8 as doubt_seconds,
       -- time alone does not kill: a pause or an outage of days must not, only tries that failed all along
       d.expires_at < now() and d.attempts >= 12 as expired,
       (select is_careful()) as careful,
       t.id as ticket_id, t.kind as ticket_kind, t.title, t.description, t.url as ticket_url, t.level, t.environment,
       t.release, t.reporter_email, t.reporter_name, t.status, t.close_reason, t.occurrences, t.opened_at, s.slug as source,
       e.kind as event_kind, e.data as event_data, e.at as event_at,
       k.remote_id, k.remote_key, k.url as link_url, k.state as link_state
from unnest($1::bigint[], $2::uuid[]) as mine (lane_id, lease_id)
join lane l on l.id = mine.lane_id and l.lease_id = mine.lease_id and l.state = 2
join delivery d on d.lane_id = l.id and d.seq = l.head_seq
join ticket t on t.id = l.ticket_id
join source s on s.id = t.source_id
join event e on e.ticket_id = t.id and e.n = d.event_n
left join link k on k.lane_id = l.id

-- name: lock_lane
-- Waits for one lane, where a set-based statement passed it by because somebody else had it locked.
select id from lane where id = $1 and lease_id = $2 and state = 2 for update

-- name: write_intents
-- Says, before requests leave, that they may have taken effect. Lanes that others have locked are passed by; one that is
-- missing in the answer is locked or lost, and nothing may be sent. "+ 0" keeps the planner from the index of what is
-- pending, which it may take for empty: the key is exact.
with asked as (
  select * from unnest($1::bigint[], $2::uuid[], $3::bigint[], $4::boolean[], $5::interval[], $6::text[])
    as a (lane_id, lease_id, seq, in_doubt, settle, draft)),
mine as materialized (
  select l.id, a.lease_id, a.seq, a.in_doubt, a.settle, a.draft
  from lane l join asked a on l.id = a.lane_id and l.lease_id = a.lease_id
  where l.state = 2 and l.lease_until > now() order by l.id for share of l skip locked)
update delivery d
set in_doubt = mine.in_doubt, attempts = d.attempts + 1, first_sent_at = coalesce(d.first_sent_at, now()),
    doubt_until = now() + mine.settle, draft = coalesce(d.draft, mine.draft::jsonb)
from mine where d.lane_id = mine.id and d.seq = mine.seq and d.state + 0 = 0
returning d.lane_id, mine.lease_id, d.attempts

-- name: finish_deliveries
-- Deliveries are done: each lane moves on, the issue is linked, the attempt is written down, the destination is well.
-- "More work?" is read from the lane's own counters. Lanes that others have locked are passed by; one that is missing in
-- the answer is locked, or somebody else holds it and the result is stale.
with asked as (
  select * from unnest($1::bigint[], $2::uuid[], $3::bigint[], $4::boolean[], $5::text[], $6::text[], $7::text[],
                       $8::text[], $9::text[], $10::timestamptz[], $11::smallint[], $12::timestamptz[], $13::text[])
    as a (lane_id, lease_id, seq, keep, outcome, comment_id, remote_id, remote_key, url, started_at, remote_state,
          remote_version, note)),
held as materialized (
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
  where l.id = any (array(select id from held))
    and l.id = a.lane_id and l.lease_id = a.lease_id and l.state = 2 and l.head_seq = a.seq
  returning l.id, a.lease_id, l.destination_id, l.state, l.epoch, a.seq, a.outcome, a.comment_id, a.remote_id,
            a.remote_key, a.url, a.started_at, a.remote_state, a.remote_version, a.note),
done as (
  update delivery d
  set state = 1, in_doubt = false, done_at = now(), last_class = moved.outcome, last_error = null,
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
noted as (
  insert into attempt (started_at, lane_id, seq, epoch, holder, outcome, error)
  select started_at, id, seq, epoch, $14::uuid, outcome, note from moved),
stood as (
  update link k
  set remote_state = moved.remote_state, remote_version = greatest(k.remote_version, moved.remote_version)
  from moved where k.lane_id = moved.id and moved.remote_state is not null and moved.remote_id is null),
well as (
  update destination_state s
  set failures = 0, failed_at = null, failure_type = null, failure_message = null, failure_status = null,
      failure_excerpt = null, failure_is_json = null, breaker = 0, breaker_failures = 0, breaker_opened = 0,
      open_until = null, probe_holder = null, probe_until = null
  where s.destination_id in (select destination_id from moved)
    and (s.failed_at is not null or s.breaker <> 0 or s.breaker_failures > 0))
select id as lane_id, lease_id, state from moved

-- name: webhooks_waiting
-- Which of these issues have webhooks that came before their link was known.
select w.destination_id, w.remote_id
from unnest($1::integer[], $2::text[], $3::text[]) as issue (destination_id, remote_id, remote_key)
join webhook w on w.destination_id = issue.destination_id
 and (w.remote_id = issue.remote_id or w.remote_key = issue.remote_key)
where w.state = 3

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
-- Every look found nothing: the request did not take effect and may be sent again. Remembered, for the sweep.
update delivery d set in_doubt = false, looks = 0, resent_at = now()
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
-- A lane waits for a person or a policy; its head stays pending, with what was said of it. An issue that is gone ($4)
-- takes its link along.
with moved as (
  update lane set state = 3, parked_why = $3, lease_id = null, lease_until = null, holder = null
  where id = $1 and lease_id = $2 and state = 2
  returning id, epoch, head_seq),
told as (
  update delivery d set last_class = coalesce($5, d.last_class), last_error = coalesce($6, d.last_error)
  from moved where d.lane_id = moved.id and d.seq = moved.head_seq),
noted as (
  insert into attempt (started_at, lane_id, seq, epoch, holder, outcome, status, error)
  select $8::timestamptz, id, head_seq, epoch, $9::uuid, $5::text, $7::integer, $6::text from moved
  where $5::text is not null),
gone as (
  update link k set state = 2 from moved where k.lane_id = moved.id and $4::boolean)
select id from moved

-- name: orphan_link
-- An issue is gone from its destination, as its tracker says.
update link set state = 2 where lane_id = $1

-- name: write_sightings
-- Issues were seen with a marker. Unfenced on purpose: whoever learns it may say it. A second issue of one marker makes
-- twins of both.
with seen as (
  select * from unnest($1::integer[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::text[])
    as s (destination_id, marker, remote_id, remote_key, url, seen_by)),
twins as (
  update sighting s set twin = true, repaired_at = null
  from seen
  where s.destination_id = seen.destination_id and s.marker = seen.marker and s.remote_id <> seen.remote_id
    and not exists (select from sighting known
                    where known.destination_id = seen.destination_id and known.marker = seen.marker
                      and known.remote_id = seen.remote_id))
insert into sighting (destination_id, marker, remote_id, remote_key, url, seen_by, twin)
select destination_id, marker, remote_id, remote_key, url, seen_by,
       exists (select from sighting other
               where other.destination_id = seen.destination_id and other.marker = seen.marker
                 and other.remote_id <> seen.remote_id)
from seen order by destination_id, marker, remote_id
on conflict do nothing

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
    collapse_key = null,
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
  from dead where id = (select lane_id from dead) and head_seq > dead.seq
  returning id, next_seq - 1 as seq)
update delivery d
set seq = room.seq, state = 0, attempts = 0, looks = 0, done_at = null, expires_at = now() + interval '72 hours',
    collapse_key = null,
    in_doubt = in_doubt and not $3
from room where d.lane_id = room.id and d.seq = $2
returning d.seq

-- name: deliveries
-- Deliveries with their ticket and destination, newest first, for people.
select d.lane_id, d.seq, d.event_n, d.kind, d.state, d.attempts, d.in_doubt, d.collapsed, d.last_class, d.last_error, d.created_at,
       d.done_at, d.draft -> 'masked' as masked, d.draft ->> 'problem' as template_problem,
       l.state as lane_state, l.parked_why, l.due_at, l.ticket_id, x.slug as destination, t.title
from delivery d
join lane l on l.id = d.lane_id
join destination x on x.id = l.destination_id
join ticket t on t.id = l.ticket_id
where ($1::smallint is null or d.state = $1) and ($2::text is null or x.slug = $2)
  and ($3::uuid is null or l.ticket_id = $3)
  and (not $5::boolean or (l.state = 3 and d.seq = l.head_seq))
order by d.created_at desc, d.lane_id desc, d.seq desc limit $4

-- name: missing_comments
-- How many comments of a lane were given up since the last one that got there, and since when.
select count(*)::integer as count, min(d.created_at) as since
from delivery d
where d.lane_id = $1 and d.seq < $2 and d.kind = 2 and d.state = 2
  and d.seq > coalesce((select max(e.seq) from delivery e
                        where e.lane_id = $1 and e.seq < $2 and e.kind = 2 and e.state = 1), -1)

-- name: attempts_of_ticket
-- The attempts for a ticket, in order of time.
select a.started_at, a.ended_at, a.outcome, a.status, a.error, d.kind, x.slug as destination
from attempt a
join lane l on l.id = a.lane_id
join destination x on x.id = l.destination_id
left join delivery d on d.lane_id = a.lane_id and d.seq = a.seq
where l.ticket_id = $1
order by a.started_at, a.seq limit 2000
