-- The outbox: tickets, events and deliveries, written in the transaction that decided them.

-- name: lock_ticket
-- Lock one ticket and return it.
select id, source_id, kind, fingerprint, generation, status, close_reason, next_event, reporter_email, summary_ticket_id,
       below_threshold, recurrence_announced, release, reported_resolved, unrouted
from ticket where id = $1 for update

-- name: lock_lanes_of_tickets
-- Lock the lanes of locked tickets, in the order of their ids as everywhere, and return their destinations. Deliveries
-- of these lanes that are read next do not change until the end of the transaction.
select l.ticket_id, l.destination_id, d.kind
from lane l join destination d on d.id = l.destination_id
where l.ticket_id = any ($1::uuid[]) and d.retired_at is null
order by l.id for update of l

-- name: update_tickets
-- Store the changed fields of tickets. An empty release keeps the stored one.
update ticket t
set status = n.status, close_reason = n.close_reason, next_event = n.next_event, summary_ticket_id = n.summary_ticket_id,
    below_threshold = n.below_threshold, recurrence_announced = n.recurrence_announced, release = coalesce(nullif(n.release, ''), t.release),
    closed_at = case when n.status = 2 then coalesce(t.closed_at, now()) end,
    unrouted = n.unrouted,
    reported_resolved = n.reported_resolved,
    reported_at = case when n.reported_resolved = t.reported_resolved then t.reported_at else now() end
from unnest($1::uuid[], $2::smallint[], $3::text[], $4::integer[], $5::uuid[], $6::boolean[], $7::boolean[], $8::text[],
            $9::boolean[], $10::boolean[])
  as n (id, status, close_reason, next_event, summary_ticket_id, below_threshold, recurrence_announced, release,
        reported_resolved, unrouted)
where t.id = n.id and t.id = any ($1::uuid[])

-- name: coalesce_deliveries
-- Move an unsent delivery to a newer event of the same key, if it is the last of its lane and no holder works on it. A
-- delivery with the same key that can not move loses its key to the newer one. The lanes are locked.
with older as (
  select d.lane_id, d.seq, n.*,
         n.leads and d.seq = l.next_seq - 1 and (d.seq > l.head_seq or l.state <> 2)
           and d.draft is null and not d.outcome_unknown as moves
  from unnest($1::uuid[], $2::integer[], $3::text[], $4::integer[], $5::uuid[], $6::integer[], $7::boolean[])
         as n (ticket_id, destination_id, key, event_n, marker, coalesced_count, leads)
  join lane l on l.ticket_id = n.ticket_id and l.destination_id = n.destination_id
  join delivery d on d.lane_id = l.id and d.coalesce_key = n.key and d.state = 0 and d.first_sent_at is null)
update delivery d
set event_n = case when o.moves then o.event_n else d.event_n end,
    marker = case when o.moves then o.marker else d.marker end,
    coalesced_count = d.coalesced_count + case when o.moves then 1 + o.coalesced_count else 0 end,
    expires_at = case when o.moves then now() + interval '72 hours' else d.expires_at end,
    coalesce_key = case when o.moves then d.coalesce_key end
from older o
where d.lane_id = o.lane_id and d.seq = o.seq
returning o.ticket_id, o.destination_id, o.moves

-- name: insert_changes
-- Insert reports, events and deliveries. The numbers of deliveries come from the locked lane, so that their order is
-- the order of commits. An idle lane becomes ready, at once or at its due time; a lane with work keeps its due time.
with reports as (
  insert into report (id, source_id, ticket_id, action, headers, body, body_sha256, state, error)
  select * from unnest($1::uuid[], $2::integer[], $3::uuid[], $4::text[], $5::jsonb[], $6::bytea[], $7::bytea[],
                       $8::smallint[], $9::text[])),
events as (
  insert into event (ticket_id, n, kind, data, report_id)
  select * from unnest($10::uuid[], $11::integer[], $12::text[], $13::jsonb[], $14::uuid[])),
lanes as (
  insert into lane (ticket_id, destination_id, state, next_seq, due_at)
  select ticket_id, destination_id, 1, 1 + more, coalesce(due_at, now())
  from unnest($15::uuid[], $16::integer[], $17::integer[], $18::timestamptz[])
    as n (ticket_id, destination_id, more, due_at)
  order by 1, 2
  on conflict (ticket_id, destination_id)
  do update set next_seq = lane.next_seq + excluded.next_seq - 1,
                state = case when lane.state = 0 then 1 else lane.state end,
                due_at = case when lane.state = 0 then excluded.due_at else lane.due_at end
  returning id, ticket_id, destination_id, next_seq)
insert into delivery (lane_id, seq, event_n, kind, marker, coalesce_key, coalesced_count)
select l.id, l.next_seq - p.from_end, p.event_n, p.kind, p.marker, p.coalesce_key, p.coalesced_count
from unnest($19::uuid[], $20::integer[], $21::integer[], $22::integer[], $23::smallint[], $24::uuid[], $25::text[],
            $26::integer[])
       as p (ticket_id, destination_id, from_end, event_n, kind, marker, coalesce_key, coalesced_count)
join lanes l on l.ticket_id = p.ticket_id and l.destination_id = p.destination_id

-- name: close_throttled_tickets
-- Close the throttled tickets of a summary ticket that was closed, each with an event. Tickets that another transaction
-- has locked are skipped: it may wait for the summary ticket.
with throttled as (
  select id from ticket where summary_ticket_id = $1 and status = 1 order by id limit $4 for update skip locked),
closed as (
  update ticket set status = 2, close_reason = $2, closed_at = now(), next_event = next_event + 1
  where id = any (array(select id from throttled))
  returning id, source_id, kind, fingerprint, generation, status, close_reason, next_event, reporter_email, summary_ticket_id),
events as (insert into event (ticket_id, n, kind, data) select id, next_event - 1, 'closed', $3::jsonb from closed)
select id, source_id, kind, fingerprint, generation, status, close_reason, next_event, reporter_email, summary_ticket_id from closed
