-- What sources add to events after their reports.

-- name: enrichment_of_event
-- Select the enrichment of an event.
select state, data from enrichment where ticket_id = $1 and event_n = $2

-- name: store_enrichment
-- Store an enrichment, and complete the ticket's empty fields by it.
with kept as (
  insert into enrichment (ticket_id, event_n, source_id, state, data, posted)
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

-- name: schedule_enrichment
-- Schedule an enrichment that the source did not answer in time.
insert into enrichment (ticket_id, event_n, source_id, state, tries, error, due_at)
values ($1, $2, $3, 0, 1, $4, now() + $5::interval)
on conflict do nothing

-- name: claim_due_enrichments
-- Claim due enrichments for a minute.
update enrichment n set due_at = now() + interval '1 minute', tries = n.tries + 1
from (select ticket_id, event_n from enrichment
      where state = 0 and due_at <= now() and source_id = any ($1::integer[])
      order by due_at limit $2 for update skip locked) due
where n.ticket_id = due.ticket_id and n.event_n = due.event_n
returning n.ticket_id, n.event_n, n.source_id, n.tries, n.created_at,
          (select e.data from event e where e.ticket_id = n.ticket_id and e.n = n.event_n) as event_data

-- name: postpone_enrichment
-- Postpone an enrichment that failed.
update enrichment set error = $3, due_at = now() + $4::interval where ticket_id = $1 and event_n = $2 and state = 0

-- name: end_enrichment
-- End an enrichment: the source has no more information, or did not answer for too long.
update enrichment set state = 2, error = $3 where ticket_id = $1 and event_n = $2 and state = 0

-- name: unposted_enrichments
-- Lock and select the enrichments of a ticket that came too late for its issue or comment, newest first, and whether
-- that was sent without them.
select n.event_n, n.data,
       exists (select from lane l join delivery d on d.lane_id = l.id
               where l.ticket_id = n.ticket_id and d.event_n = n.event_n and d.kind in (1, 2) and d.draft is not null) as sent
from enrichment n
where n.ticket_id = $1 and n.state = 1 and not n.posted order by n.event_n desc for update of n

-- name: mark_enrichments_posted
-- Mark enrichments as posted, or as covered by newer ones.
update enrichment set posted = true where ticket_id = $1 and event_n = any ($2::integer[])
