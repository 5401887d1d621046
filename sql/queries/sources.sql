-- Sources that are asked for more, asked for what was lost, and told how their problems stand.

-- name: make_states
-- A row for each source that has an API.
insert into source_state (source_id) select unnest($1::integer[]) on conflict do nothing

-- name: backs
-- The destinations by which sources are told, and whether each is in use.
select x.id, s.id as source_id, x.retired_at is null as active
from destination x join source s on x.slug = '@source:' || s.slug
where x.kind = 3

-- name: open_back
-- A source may be told from now on: what was linked before is not news.
with put as (
  insert into destination (slug, kind, tracker)
  select '@source:' || slug, 3, kind from source where id = $1
  on conflict (slug) do update set retired_at = null, tracker = excluded.tracker
  returning id),
stands as (
  insert into destination_state (destination_id) select id from put
  on conflict (destination_id) do update set paused_why = nullif(destination_state.paused_why, 'retired'))
insert into source_state (source_id) values ($1)
on conflict (source_id) do update set linked_to = now()

-- name: close_back
-- A source is told no more; what waits for it waits until it may be told again.
with gone as (update destination set retired_at = now() where id = $1 returning id)
update destination_state set paused_why = 'retired' from gone where destination_id = gone.id

-- name: take_turn
-- Wins the right to ask a source now, for so long.
update source_state set poll_due_at = now() + $2::interval
where source_id = $1 and poll_due_at <= now()
returning now() as asked_at, polled_to, began_at

-- name: turn_after
-- How long until somebody's turn at a source is over.
select greatest(0, extract(epoch from poll_due_at - now()))::float8 from source_state where source_id = $1

-- name: give_back
-- The turn is over before its time: somebody else may ask.
update source_state set poll_due_at = now() where source_id = any ($1::integer[])

-- name: polled
-- Everything up to here was asked for.
update source_state set polled_to = greatest(polled_to, $2), failures = 0, failed_at = null, failure = null
where source_id = $1

-- name: poll_failed
-- Asking a source failed.
update source_state set failures = failures + 1, failed_at = now(), failure = $2 where source_id = $1

-- name: last_problem
-- The problem of a source that was reported last, as the source named it.
select e.data ->> 'problem' as problem, e.data ->> 'url' as url
from ticket t join event e on e.ticket_id = t.id and e.n = 1
where t.source_id = $1 and e.data ? 'problem'
order by t.id desc limit 1

-- name: known_tickets
-- How the current tickets of these problems stand.
select fingerprint, id, status, closed_at from ticket
where source_id = $1 and fingerprint = any ($2::text[]) and not superseded

-- name: seen_since
-- Which tickets have an event of such a report at this time of the source's clock, or later.
select distinct asked.ticket_id, asked.action, asked.at
from unnest($1::uuid[], $2::text[], $3::timestamptz[]) as asked (ticket_id, action, at)
join event e on e.ticket_id = asked.ticket_id
 and e.data ->> 'action' = asked.action and (e.data ->> 'seen_at')::timestamptz >= asked.at

-- name: standing
-- How asking goes, and when a source was last heard.
select s.slug, x.polled_to, x.failures, x.failed_at, x.failure,
       (select max(k.seen_at) from report_key k where k.source_id = s.id) as heard_at
from source s left join source_state x on x.source_id = s.id
where s.id = $1

-- name: linked_to
-- Up to when issues were told of, by source.
select source_id, linked_to from source_state where source_id = any ($1::integer[])

-- name: new_links
-- Issues made since then that their source was not told of.
select k.lane_id, l.ticket_id, t.source_id, d.slug as destination, k.remote_key, k.url, k.linked_at
from link k
join lane l on l.id = k.lane_id
join destination d on d.id = l.destination_id and d.kind = 1
join ticket t on t.id = l.ticket_id
where k.linked_at > $2::timestamptz - interval '1 minute' and t.source_id = $1
  and not exists (select from event e where e.ticket_id = l.ticket_id and e.kind = 'linked'
                  and (e.data ->> 'lane')::bigint = k.lane_id)
order by k.linked_at limit $3

-- name: told_of
-- Whether a ticket's event says already that an issue was made.
select exists (select from event where ticket_id = $1 and kind = 'linked' and (data ->> 'lane')::bigint = $2)

-- name: move_linked_to
-- Issues up to here were told of; null: up to now.
update source_state set linked_to = greatest(linked_to, coalesce($2::timestamptz, now())) where source_id = $1

-- name: problems_of
-- What the source calls the problems of tickets, unless it has them no more. Of a problem that goes on in a later ticket, it is
-- told by that one alone.
select asked.id as ticket_id, e.data ->> 'problem' as problem, coalesce(e.data ->> 'url', '') as url
from unnest($1::uuid[]) as asked (id)
cross join lateral (select data from event where ticket_id = asked.id and n = 1 offset 0) e
where e.data ? 'problem' and exists (select from ticket t where t.id = asked.id and not t.superseded offset 0)
  and not exists (select from lane l join link k on k.lane_id = l.id
                  where l.ticket_id = asked.id and l.destination_id = $2 and k.state = 2 offset 0)

-- name: link_back
-- The lanes by which a source is told of tickets name the problems. No request need be made for that.
insert into link (lane_id, destination_id, remote_id, remote_key, url)
select l.id, $2, n.ticket_id::text, n.problem, n.url
from unnest($1::uuid[], $3::text[], $4::text[]) as n (ticket_id, problem, url)
cross join lateral (select id from lane where ticket_id = n.ticket_id and destination_id = $2 offset 0) l
on conflict (lane_id) do nothing

-- name: enrichment
-- What is known beyond a report.
select state, data from enrichment where ticket_id = $1 and event_n = $2

-- name: keep_enrichment
-- What the source said; the ticket's own facts are completed where it said nothing before.
with kept as (
  insert into enrichment (ticket_id, event_n, source_id, state, data, said)
  values ($1, $2, $3, 1, $4::jsonb, $5)
  on conflict (ticket_id, event_n) do update
  set state = 1, data = excluded.data, error = null where enrichment.state = 0
  returning ticket_id)
update ticket t
set environment = case when t.environment = '' then $6 else t.environment end,
    level = case when t.level = '' then $7 else t.level end,
    release = case when t.release = '' then $8 else t.release end
from kept where t.id = kept.ticket_id
  and (t.environment = '' and $6 <> '' or t.level = '' and $7 <> '' or t.release = '' and $8 <> '')

-- name: want_enrichment
-- The source could not say in time, and is asked again later.
insert into enrichment (ticket_id, event_n, source_id, state, tries, error, due_at)
values ($1, $2, $3, 0, 1, $4, now() + $5::interval)
on conflict do nothing

-- name: due_enrichments
-- What sources are to be asked for once more. Whoever takes a row has it for a minute.
update enrichment n set due_at = now() + interval '1 minute', tries = n.tries + 1
from (select ticket_id, event_n from enrichment
      where state = 0 and due_at <= now() and source_id = any ($1::integer[])
      order by due_at limit $2 for update skip locked) mine
where n.ticket_id = mine.ticket_id and n.event_n = mine.event_n
returning n.ticket_id, n.event_n, n.source_id, n.tries, n.created_at,
          (select e.data from event e where e.ticket_id = n.ticket_id and e.n = n.event_n) as event_data

-- name: postpone_enrichment
-- It failed again.
update enrichment set error = $3, due_at = now() + $4::interval where ticket_id = $1 and event_n = $2 and state = 0

-- name: end_enrichment
-- The source has no more of it, or was asked long enough.
update enrichment set state = 2, error = $3 where ticket_id = $1 and event_n = $2 and state = 0

-- name: unsaid
-- What came to be known of a ticket too late, the newest first, locked; and whether an issue or a comment went out without.
select n.event_n, n.data,
       exists (select from lane l join delivery d on d.lane_id = l.id
               where l.ticket_id = n.ticket_id and d.event_n = n.event_n and d.kind in (1, 2) and d.draft is not null) as sent
from enrichment n
where n.ticket_id = $1 and n.state = 1 and not n.said order by n.event_n desc for update of n

-- name: mark_said
-- It is said now, or part of something newer that is.
update enrichment set said = true where ticket_id = $1 and event_n = any ($2::integer[])
