-- What a ticket's story is told from, and lists of deliveries for operators. Nothing is changed here.

-- name: report
-- One report, without its body.
select r.id, r.received_at, s.slug as source, r.ticket_id, r.action, r.state, r.error
from report r join source s on s.id = r.source_id where r.id = $1

-- name: ticket_of_lane
-- The ticket of a lane, which the name of a delivery begins with.
select ticket_id from lane where id = $1

-- name: tickets_of_keys
-- Tickets whose issue has one of these keys, at any destination; with an address, only those whose issue stands there.
select distinct l.ticket_id
from destination x
join link k on k.destination_id = x.id and k.remote_key = any ($1::text[])
join lane l on l.id = k.lane_id
where $2::text is null or k.url = $2
limit 20

-- name: tickets_of_address
-- Tickets whose issue stands at an address; for the few whose address does not end in the key. Reads all links.
select distinct l.ticket_id from link k join lane l on l.id = k.lane_id where k.url = $1 limit 20

-- name: tickets_of_fingerprint
-- Tickets of a fingerprint, at any source, of any generation.
select t.id as ticket_id from source s join ticket t on t.source_id = s.id and t.fingerprint = $1
order by t.source_id, t.generation desc limit 20

-- name: tickets_in_words
-- What tells tickets apart when a word names several.
select t.id, t.generation, t.status, t.title, s.slug as source
from ticket t join source s on s.id = t.source_id where t.id = any ($1::uuid[]) order by t.id

-- name: events_and_reports
-- What happened to a ticket, each with the report it came from.
select n, kind, data, report_id, at from event where ticket_id = $1 order by n limit 1000

-- name: held_seen
-- When a ticket that is below its threshold was reported, the newest last, and the time now.
select seen, now() as now from held_ticket where ticket_id = $1

-- name: storm_children
-- How many tickets are listed in a storm's parent.
select count(*) from ticket where storm_parent = $1

-- name: lanes_of_ticket
-- Each lane of a ticket with all that can hold it up: its destination, the breaker, a limit, those before it.
select l.id, l.state, l.due_at, l.lease_until, l.holder, l.head_seq, l.next_seq, l.parked_why,
       x.slug as destination, x.tracker, x.kind as destination_kind, x.retired_at is not null as retired,
       s.breaker, s.open_until, s.probe_until, s.blocked_until, s.paused_why, s.failures, s.failed_at, s.failure_type,
       s.failure_message, s.failure_status, s.max_inflight,
       k.remote_key, k.url, k.state as link_state, k.remote_state,
       (select max(b.limited_until) from budget b where b.credential = s.credential) as limited_until,
       (select count(*) from lane f where f.destination_id = x.id and f.state = 2) as at_work,
       (select count(*) from (select from lane o
                              where l.state = 1 and o.destination_id = l.destination_id and o.state = 1
                                and o.due_at < l.due_at limit 1000) before) as ahead,
       (select careful_until from installation) as careful_until, is_careful() as careful,
       now() as now
from lane l
join destination x on x.id = l.destination_id
join destination_state s on s.destination_id = x.id
left join link k on k.lane_id = l.id
where l.ticket_id = $1
order by l.id

-- name: deliveries_of_ticket
-- A ticket's promises, in the order of their lanes.
select d.lane_id, d.seq, d.event_n, d.kind, d.state, d.attempts, d.in_doubt, d.doubt_until, d.looks, d.first_sent_at,
       d.resent_at, d.collapsed, d.expires_at, d.last_class, d.last_error, d.created_at, d.done_at,
       d.draft -> 'masked' as masked, d.draft ->> 'problem' as template_problem
from lane l join delivery d on d.lane_id = l.id
where l.ticket_id = $1
order by d.lane_id, d.seq limit 1000

-- name: attempts_of_lanes
-- The attempts of a ticket's lanes, in order of time.
select a.lane_id, a.seq, a.started_at, a.ended_at, a.outcome, a.status, a.error
from lane l join attempt a on a.lane_id = l.id
where l.ticket_id = $1
order by a.started_at, a.seq limit 2000

-- name: deliveries_where
-- Deliveries that fit every filter given, newest first. What is parked has the reason of its lane as its class. States are
-- compared one by one, so that the partial indexes of the unfinished and the dead can be used.
select d.lane_id, d.seq, d.event_n, d.kind, d.state, d.attempts, d.in_doubt, d.last_class, d.last_error, d.created_at,
       d.done_at, d.doubt_until, d.looks, l.state as lane_state, l.parked_why, l.due_at, l.ticket_id,
       x.slug as destination
from delivery d
join lane l on l.id = d.lane_id
join destination x on x.id = l.destination_id
where ($1::smallint is null or d.state = $1)
  and ($2::text is null or x.slug = $2)
  and ($3::uuid is null or l.ticket_id = $3)
  and (not $4::boolean or (l.state = 3 and d.seq = l.head_seq))
  and ($5::text is null or d.last_class = $5 or (l.state = 3 and d.seq = l.head_seq and l.parked_why = $5))
  and ($6::smallint is null or d.kind = $6)
  and (not $7::boolean or (d.in_doubt and (d.state = 0 or d.state = 2)))
  and ($8::interval is null or d.created_at < now() - $8)
order by d.created_at desc, d.lane_id desc, d.seq desc limit $9
