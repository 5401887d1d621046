-- Sources with an API: feedback and backfill.

-- name: insert_source_states
-- Insert a row for each source that has an API.
insert into source_state (source_id) select unnest($1::integer[]) on conflict do nothing

-- name: list_feedback_destinations
-- Select the destinations of source feedback, and whether each is in use.
select x.id, s.id as source_id, x.retired_at is null as active
from destination x join source s on x.slug = '@source:' || s.slug
where x.kind = 3

-- name: enable_feedback
-- Enable the feedback to a source. Issues that were linked before are not announced.
with put as (
  insert into destination (slug, kind, tracker)
  select '@source:' || slug, 3, kind from source where id = $1
  on conflict (slug) do update set retired_at = null, tracker = excluded.tracker
  returning id),
state as (
  insert into destination_state (destination_id) select id from put
  on conflict (destination_id) do update set pause_reason = nullif(destination_state.pause_reason, 'retired'))
insert into source_state (source_id) values ($1)
on conflict (source_id) do update set linked_to = now()

-- name: disable_feedback
-- Disable the feedback to a source. Its deliveries wait until it is enabled again.
with retired as (update destination set retired_at = now() where id = $1 returning id)
update destination_state set pause_reason = 'retired' from retired where destination_id = retired.id

-- name: acquire_source_poll
-- Acquire the right to poll a source for a while.
update source_state set poll_due_at = now() + $2::interval
where source_id = $1 and poll_due_at <= now()
returning now() as asked_at, polled_to, started_at

-- name: source_poll_wait_seconds
-- Select in how many seconds the poll of a source is free.
select greatest(0, extract(epoch from poll_due_at - now()))::float8 from source_state where source_id = $1

-- name: release_source_polls
-- Release polls before their time, so that other replicas can poll.
update source_state set poll_due_at = now() where source_id = any ($1::integer[])

-- name: record_source_poll
-- Record that everything up to a time was asked for.
update source_state set polled_to = greatest(polled_to, $2), failures = 0, failed_at = null, failure = null
where source_id = $1

-- name: record_source_poll_failure
-- Record that polling a source failed.
update source_state set failures = failures + 1, failed_at = now(), failure = $2 where source_id = $1

-- name: last_problem
-- Select the problem of a source that was reported last, by the id that the source uses.
select e.data ->> 'problem_id' as problem, e.data ->> 'url' as url
from ticket t join event e on e.ticket_id = t.id and e.n = 1
where t.source_id = $1 and e.data ? 'problem_id'
order by t.id desc limit 1

-- name: current_tickets
-- Select the current tickets of fingerprints.
select fingerprint, id, status, closed_at from ticket
where source_id = $1 and fingerprint = any ($2::text[]) and not superseded

-- name: events_seen_since
-- Select the tickets that have an event of a report with this action, at this time of the source's clock or later.
select distinct asked.ticket_id, asked.action, asked.at
from unnest($1::uuid[], $2::text[], $3::timestamptz[]) as asked (ticket_id, action, at)
join event e on e.ticket_id = asked.ticket_id
 and e.data ->> 'action' = asked.action and (e.data ->> 'seen_at')::timestamptz >= asked.at

-- name: source_status
-- Select the state of polling a source, and when its last report came.
select s.slug, x.polled_to, x.failures, x.failed_at, x.failure,
       (select max(k.seen_at) from report_key k where k.source_id = s.id) as heard_at
from source s left join source_state x on x.source_id = s.id
where s.id = $1

-- name: feedback_positions
-- Select up to when links were announced, by source.
select source_id, linked_to from source_state where source_id = any ($1::integer[])

-- name: unannounced_links
-- Select links that were not announced to their source.
select k.lane_id, l.ticket_id, t.source_id, d.slug as destination, k.remote_key, k.url, k.linked_at
from link k
join lane l on l.id = k.lane_id
join destination d on d.id = l.destination_id and d.kind = 1
join ticket t on t.id = l.ticket_id
where k.linked_at > $2::timestamptz - interval '1 minute' and t.source_id = $1
  and not exists (select from event e where e.ticket_id = l.ticket_id and e.kind = 'linked'
                  and (e.data ->> 'lane')::bigint = k.lane_id)
order by k.linked_at limit $3

-- name: has_linked_event
-- Return whether a ticket has the event of a link.
select exists (select from event where ticket_id = $1 and kind = 'linked' and (data ->> 'lane')::bigint = $2)

-- name: advance_feedback_position
-- Record that links up to a time were announced; null: up to now.
update source_state set linked_to = greatest(linked_to, coalesce($2::timestamptz, now())) where source_id = $1

-- name: problems_of_tickets
-- Select the ids that the source uses for the problems of tickets, unless it no longer has them. A problem that
-- continues in a later ticket belongs to that one alone.
select asked.id as ticket_id, e.data ->> 'problem_id' as problem, coalesce(e.data ->> 'url', '') as url
from unnest($1::uuid[]) as asked (id)
cross join lateral (select data from event where ticket_id = asked.id and n = 1 offset 0) e
where e.data ? 'problem_id' and exists (select from ticket t where t.id = asked.id and not t.superseded offset 0)
  and not exists (select from lane l join link k on k.lane_id = l.id
                  where l.ticket_id = asked.id and l.destination_id = $2 and k.state = 2 offset 0)

-- name: link_feedback_lanes
-- Link feedback lanes to the source's problems. That needs no request.
insert into link (lane_id, destination_id, remote_id, remote_key, url)
select l.id, $2, n.ticket_id::text, n.problem, n.url
from unnest($1::uuid[], $3::text[], $4::text[]) as n (ticket_id, problem, url)
cross join lateral (select id from lane where ticket_id = n.ticket_id and destination_id = $2 offset 0) l
on conflict (lane_id) do nothing
