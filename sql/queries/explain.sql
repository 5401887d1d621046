-- Read a ticket's history, find tickets by reference, and list deliveries by filter. Nothing is changed here.

-- name: history_ticket
-- Select one ticket with its source.
select t.id, t.kind, t.status, t.close_reason, s.slug as source, left(t.title, 500) as title,
       case when length(t.description) <= 20000 then t.description
            else left(t.description, 20000) || E'\n\u2026 (' || length(t.description) - 20000 || ' more characters)'
       end as description,
       left(t.url, 2000) as url, t.level, t.environment,
       t.release, t.reporter_name, t.reporter_email, t.opened_at, t.last_seen_at, t.closed_at, t.occurrences,
       t.fingerprint, t.generation, t.summary_ticket_id, t.below_threshold
from ticket t join source s on s.id = t.source_id where t.id = $1

-- name: ticket_exists
-- Return true if a ticket has this id.
select true from ticket where id = $1

-- name: report
-- Select one report without its body, with the kinds of the events that it caused.
select r.id, r.received_at, s.slug as source, r.ticket_id, r.action, r.state, r.error,
       (select array_agg(e.kind order by e.n) from event e where e.ticket_id = r.ticket_id and e.report_id = r.id) as kinds
from report r join source s on s.id = r.source_id where r.id = $1

-- name: ticket_of_lane
-- Select the ticket of a lane.
select ticket_id from lane where id = $1

-- name: tickets_of_keys
-- Select tickets whose issue has one of these keys, at any destination; with a URL, only issues with that URL.
select distinct l.ticket_id
from destination x
join link k on k.destination_id = x.id and k.remote_key = any ($1::text[])
join lane l on l.id = k.lane_id
where $2::text is null or k.url = $2
limit 20

-- name: tickets_of_url
-- Select tickets by their issue's URL, for the few trackers whose URLs do not end in the key. Reads all links.
select distinct l.ticket_id from link k join lane l on l.id = k.lane_id where k.url = $1 limit 20

-- name: tickets_of_fingerprint
-- Select tickets by fingerprint, of any source and generation.
select t.id as ticket_id from source s join ticket t on t.source_id = s.id and t.fingerprint = $1
order by t.source_id, t.generation desc limit 20

-- name: ticket_summaries
-- Select the columns that distinguish several tickets with the same reference.
select t.id, t.generation, t.status, t.title, s.slug as source
from ticket t join source s on s.id = t.source_id where t.id = any ($1::uuid[]) order by t.id

-- name: history_events
-- Select a ticket's newest events before a number, in their order, each with the report that caused it: so many at most, and
-- so many bytes, but always one. Long texts are cut, and long lists left out.
select n, kind, data, report_id, at
from (select n, kind, data, report_id, at,
             sum(octet_length(data::text)) over (order by n desc) - octet_length(data::text) as newer_bytes
      from (select n, kind, report_id, at,
                   (select coalesce(jsonb_object_agg(key, case
                      when jsonb_typeof(value) = 'string' and length(value #>> '{}') > 5900
                        then to_jsonb(left(value #>> '{}', 5900) || E'\n\u2026 (' || length(value #>> '{}') - 5900 || ' more characters)')
                      when jsonb_typeof(value) = 'string' or octet_length(value::text) <= 20000 then value
                      when key = 'facts' then '[["\u2026", "too long for this page"]]'::jsonb
                      when jsonb_typeof(value) = 'array' then '[]'::jsonb
                      else '{}'::jsonb end), '{}') from jsonb_each(data)) as data
            from event where ticket_id = $1 and ($3::integer is null or n < $3) order by n desc limit $2) shortened) sized
where newer_bytes < $4 order by n

-- name: occurrences_below_threshold
-- Select when a ticket below its threshold was reported, oldest first, and the current time.
select occurred_at, now() as now from below_threshold_ticket where ticket_id = $1

-- name: count_throttled_tickets
-- Count the throttled tickets that a summary ticket lists.
select count(*) from ticket where summary_ticket_id = $1

-- name: history_lanes
-- Select each lane of a ticket with everything that can delay it: destination, circuit breaker, rate limit, lanes ahead.
select l.id, l.state, l.due_at, l.lease_until, l.holder, l.head_seq, l.next_seq, l.park_reason,
       x.slug as destination, x.tracker, x.kind as destination_kind, x.retired_at is not null as retired,
       s.breaker, s.open_until, s.blocked_until, s.pause_reason, s.failures, s.failed_at, s.failure_type,
       s.failure_message, s.max_inflight,
       k.remote_key, k.url, k.state as link_state, k.remote_state,
       (select max(b.limited_until) from rate_limit b where b.credential = s.credential) as limited_until,
       (select count(*) from lane f where f.destination_id = x.id and f.state = 2) as leased_lanes,
       (select count(*) from (select from lane o
                              where l.state = 1 and o.destination_id = l.destination_id and o.state = 1
                                and o.due_at < l.due_at limit 1000) before) as lanes_ahead,
       (select verify_writes_until from installation) as verify_writes_until, must_verify_writes() as verify_writes,
       now() as now
from lane l
join destination x on x.id = l.destination_id
join destination_state s on s.destination_id = x.id
left join link k on k.lane_id = l.id
where l.ticket_id = $1
order by l.id

-- name: history_deliveries
-- Select a ticket's deliveries in lane order.
select d.lane_id, d.seq, d.event_n, d.kind, d.state, d.attempts, d.outcome_unknown,
       d.verify_after, d.verify_attempts, d.resent_at, d.coalesced_count, d.expires_at,
       d.last_outcome, left(d.last_error, 2000) as last_error, d.created_at, d.done_at,
       d.draft -> 'masked' as masked, d.draft ->> 'problem' as template_problem
from lane l join delivery d on d.lane_id = l.id
where l.ticket_id = $1
order by d.lane_id, d.seq limit $2

-- name: history_attempts
-- Select the attempts of a ticket's lanes, oldest first.
select a.lane_id, a.seq, a.started_at, a.ended_at, a.outcome, a.status, left(a.error, 2000) as error
from lane l join attempt a on a.lane_id = l.id
where l.ticket_id = $1
order by a.started_at, a.seq limit $2

-- name: find_deliveries
-- Select deliveries that meet every condition, newest first. A parked delivery also matches the outcome its lane was
-- parked with. States are compared separately so that the partial indexes on pending and dead rows apply.
select d.lane_id, d.seq, d.kind, d.state, d.attempts, d.outcome_unknown, d.last_outcome, d.last_error, d.created_at,
       d.done_at, l.park_reason, l.due_at, l.ticket_id, x.slug as destination
from delivery d
join lane l on l.id = d.lane_id
join destination x on x.id = l.destination_id
where ($1::smallint is null or d.state = $1)
  and ($2::text is null or x.slug = $2)
  and ($3::uuid is null or l.ticket_id = $3)
  and (not $4::boolean or (l.state = 3 and d.seq = l.head_seq))
  and ($5::text is null or d.last_outcome = $5 or (l.state = 3 and d.seq = l.head_seq and l.park_reason = $5))
  and ($6::smallint is null or d.kind = $6)
  and (not $7::boolean or (d.outcome_unknown and (d.state = 0 or d.state = 2)))
  and ($8::interval is null or d.created_at < now() - $8)
order by d.created_at desc, d.lane_id desc, d.seq desc limit $9
