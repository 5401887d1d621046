-- Reading tickets, for the API, the console and the command line.

-- name: ticket
-- One ticket.
select t.*, s.slug as source from ticket t join source s on s.id = t.source_id where t.id = $1

-- name: tickets_page
-- Tickets, newest first, from a cursor on; of one source, one status or one kind where asked.
select t.*, s.slug as source from ticket t join source s on s.id = t.source_id
where ($1::uuid is null or t.id < $1)
  and ($2::integer is null or t.source_id = $2)
  and ($3::smallint is null or t.status = $3)
  and ($4::smallint is null or t.kind = $4)
order by t.id desc limit $5

-- name: links_of
-- Where the tickets' issues are, those to come included.
select l.ticket_id, x.slug as destination, x.tracker, k.remote_id, k.remote_key, k.url, k.state, k.remote_state,
       l.state as lane_state, l.parked_why, d.last_class, d.last_error, d.state as head_state
from lane l
join destination x on x.id = l.destination_id
left join link k on k.lane_id = l.id
left join delivery d on d.lane_id = l.id and d.seq = l.head_seq
where l.ticket_id = any ($1::uuid[]) and x.kind = 1
order by l.id

-- name: events_of
-- What happened to the tickets.
select ticket_id, n, kind, data, at from event where ticket_id = any ($1::uuid[]) order by ticket_id, n

-- name: opening
-- What the event that opened a ticket says.
select data from event where ticket_id = $1 and n = 1
