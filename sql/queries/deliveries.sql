-- What was decided about tickets: their standing, events, and deliveries at the ends of lanes.

-- name: lock_ticket
-- One ticket, locked, as it stands.
select id, source_id, kind, fingerprint, generation, status, close_reason, next_event, reporter_email, storm_parent,
       held, noted, release
from ticket where id = $1 for update

-- name: lanes_of_tickets
-- Where the deliveries of these locked tickets go already. The lanes are locked, in the order of their ids as everywhere: what
-- is asked of their deliveries next holds until the end.
select l.ticket_id, l.destination_id, d.kind
from lane l join destination d on d.id = l.destination_id
where l.ticket_id = any ($1::uuid[]) and d.retired_at is null
order by l.id for update of l

-- name: write_tickets
-- The new standing of tickets. A release that is not known changes nothing.
update ticket t
set status = n.status, close_reason = n.close_reason, next_event = n.next_event, storm_parent = n.storm_parent,
    held = n.held, noted = n.noted, release = coalesce(nullif(n.release, ''), t.release),
    closed_at = case when n.status = 2 then coalesce(t.closed_at, now()) end
from unnest($1::uuid[], $2::smallint[], $3::text[], $4::integer[], $5::uuid[], $6::boolean[], $7::boolean[], $8::text[])
  as n (id, status, close_reason, next_event, storm_parent, held, noted, release)
where t.id = n.id and t.id = any ($1::uuid[])

-- name: collapse
-- A delivery that was never sent, is the last of its lane and not in work, moves on to a newer event of its kind. One with the
-- same key that can't move loses its key, which goes to the newer. The lanes are locked already.
with older as (
  select d.lane_id, d.seq, n.*,
         n.leads and d.seq = l.next_seq - 1 and (d.seq > l.head_seq or l.state <> 2)
           and d.draft is null and not d.in_doubt as moves
  from unnest($1::uuid[], $2::integer[], $3::text[], $4::integer[], $5::uuid[], $6::integer[], $7::boolean[])
         as n (ticket_id, destination_id, key, event_n, marker, collapsed, leads)
  join lane l on l.ticket_id = n.ticket_id and l.destination_id = n.destination_id
  join delivery d on d.lane_id = l.id and d.collapse_key = n.key and d.state = 0 and d.first_sent_at is null)
update delivery d
set event_n = case when o.moves then o.event_n else d.event_n end,
    marker = case when o.moves then o.marker else d.marker end,
    collapsed = d.collapsed + case when o.moves then 1 + o.collapsed else 0 end,
    expires_at = case when o.moves then now() + interval '72 hours' else d.expires_at end,
    collapse_key = case when o.moves then d.collapse_key end
from older o
where d.lane_id = o.lane_id and d.seq = o.seq
returning o.ticket_id, o.destination_id, o.moves

-- name: write
-- Reports as they came, facts numbered within their ticket, and the promises: room is made at the end of each lane, and numbers
-- come from the locked row, so their order is the order of commits. An idle lane becomes ready,
-- at once or when it is said to be due; one with work keeps its time.
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
insert into delivery (lane_id, seq, event_n, kind, marker, collapse_key, collapsed)
select l.id, l.next_seq - p.from_end, p.event_n, p.kind, p.marker, p.collapse_key, p.collapsed
from unnest($19::uuid[], $20::integer[], $21::integer[], $22::integer[], $23::smallint[], $24::uuid[], $25::text[],
            $26::integer[])
       as p (ticket_id, destination_id, from_end, event_n, kind, marker, collapse_key, collapsed)
join lanes l on l.ticket_id = p.ticket_id and l.destination_id = p.destination_id

-- name: close_held
-- The tickets listed in a storm are closed with it, each with an event of its own, its last. One that is being reported at this
-- moment is passed over: whoever holds it may wait for the parent.
with held as (
  select id from ticket where storm_parent = $1 and status = 1 order by id limit $4 for update skip locked),
closed as (
  update ticket set status = 2, close_reason = $2, closed_at = now(), next_event = next_event + 1
  where id = any (array(select id from held))
  returning id, source_id, kind, fingerprint, generation, status, close_reason, next_event, reporter_email, storm_parent),
said as (insert into event (ticket_id, n, kind, data) select id, next_event - 1, 'closed', $3::jsonb from closed)
select id, source_id, kind, fingerprint, generation, status, close_reason, next_event, reporter_email, storm_parent from closed
