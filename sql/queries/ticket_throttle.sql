-- The throttle of new tickets: rate windows, throttled tickets, and the summary ticket that lists them.

-- name: rate_windows
-- Select the rate windows of sources, without locks: whether the throttle is still active.
select source_id, started_at, opened, summary_ticket_id, now() as now from ticket_rate_window where source_id = any ($1::integer[])

-- name: lock_rate_windows
-- Lock the rate windows of sources that are about to open tickets, in one order, and insert the missing ones.
insert into ticket_rate_window (source_id)
select * from unnest($1::integer[]) order by 1
on conflict (source_id) do update set source_id = excluded.source_id
returning source_id, started_at, opened, summary_ticket_id, greatest(now(), started_at) as now

-- name: update_rate_windows
-- Store rate windows.
update ticket_rate_window s set started_at = n.started_at, opened = n.opened, summary_ticket_id = n.summary_ticket_id
from unnest($1::integer[], $2::timestamptz[], $3::integer[], $4::uuid[]) as n (source_id, started_at, opened, summary_ticket_id)
where s.source_id = n.source_id

-- name: upsert_summary_ticket
-- Insert the summary ticket of a throttle, or return the existing one.
insert into ticket (id, source_id, kind, fingerprint, title) values ($1, $2, 1, $3, $4)
on conflict (source_id, fingerprint) where not superseded do update set last_seen_at = now()
returning id

-- name: increment_throttled
-- Count more throttled tickets. Returns the summary ticket, locked.
update ticket set occurrences = occurrences + $2, last_seen_at = now() where id = $1
returning id, source_id, kind, fingerprint, generation, status, close_reason, next_event, reporter_email, summary_ticket_id

-- name: destinations_with_unsent_summary
-- Lock the lanes of a summary ticket, and select the destinations where its create or summary comment is not sent yet.
-- The limit keeps the planner to one lookup for each lane, whatever waits elsewhere.
select l.destination_id
from lane l
cross join lateral (
  select from delivery d
  where d.lane_id = l.id and d.seq >= l.head_seq and d.state = 0 and d.first_sent_at is null and d.draft is null
    and (d.kind = 1 or d.coalesce_key = 'throttle') and (d.seq > l.head_seq or l.state <> 2)
  limit 1) d
where l.ticket_id = $1

-- name: postpone_throttle_comment
-- Postpone the summary comment of otherwise empty lanes to the end of the rate window, so that it covers all its
-- tickets.
update lane set due_at = greatest(due_at, $2)
where ticket_id = $1 and state = 1 and head_seq = next_seq - 1
  and exists (select from delivery d where d.lane_id = lane.id and d.seq = lane.head_seq and d.coalesce_key = 'throttle')

-- name: throttled_tickets_of_destination
-- Select the throttled tickets of a summary ticket that were routed to a destination, newest first.
select t.id, t.title, count(*) over () as total
from ticket t join event e on e.ticket_id = t.id and e.n = 1
where t.summary_ticket_id = $1 and e.data -> 'routed' @> to_jsonb($2::integer)
order by t.id desc limit $3

-- name: throttled_tickets
-- Select the throttled tickets of a summary ticket, newest first, for people.
select id, title, status, occurrences, count(*) over () as total
from ticket where summary_ticket_id = $1 order by id desc limit $2
