-- Values of the metrics page. Every statement reads unfinished work only: a lane is idle or in one of three partial
-- indexes, a delivery is done or in one of two.

-- name: destination_metrics
-- Read the state of each destination and count the deliveries that wait for it.
with busy as (
  select id, destination_id from lane where state = 1
  union all select id, destination_id from lane where state = 2
  union all select id, destination_id from lane where state = 3),
queue as (
  select b.destination_id, sum(d.pending)::bigint as pending, sum(d.outcome_unknown)::bigint as outcome_unknown,
         extract(epoch from now() - min(d.oldest))::float8 as oldest_seconds
  -- lane by lane, by the key: the index of what is pending may be taken for empty
  from busy b cross join lateral (
    select count(*) as pending, count(*) filter (where d.outcome_unknown) as outcome_unknown, min(d.created_at) as oldest
    from delivery d where d.lane_id = b.id and d.state = 0) d
  group by b.destination_id),
parked as (select destination_id, count(*) as lanes from lane where state = 3 group by destination_id)
select x.slug, s.breaker as circuit_breaker_state, s.pause_reason is not null as paused,
       s.failures as consecutive_failures,
       coalesce(extract(epoch from s.blocked_until - now()), 0)::float8 as backoff_seconds,
       coalesce(q.pending, 0) as pending, coalesce(q.outcome_unknown, 0) as outcome_unknown,
       coalesce(q.oldest_seconds, 0)::float8 as oldest_pending_seconds, coalesce(p.lanes, 0) as parked_lanes
from destination x
join destination_state s on s.destination_id = x.id
left join queue q on q.destination_id = x.id
left join parked p on p.destination_id = x.id
where x.retired_at is null or q.pending > 0 or p.lanes > 0

-- name: dead_letter_metrics
-- Count dead letters by destination and outcome. Each lane is looked up by its key; the table is never scanned.
select x.slug, dead.outcome, count(*) as deliveries
from (select coalesce(d.last_outcome, 'unknown') as outcome,
             (select l.destination_id from lane l where l.id = d.lane_id) as destination_id
      from delivery d where d.state = 2) dead
join destination x on x.id = dead.destination_id
group by x.slug, dead.outcome

-- name: maintenance_metrics
-- Count parked reports (10000 at most) and read whether writes are verified first.
select (select count(*) from (select from report where state = 2 limit 10000) p) as reports_parked,
       must_verify_writes() as verify_writes
