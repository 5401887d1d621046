-- Read tickets, for the API, the console and the command line.

-- name: read_ticket
-- Read one ticket.
select t.id, t.source_id, s.slug as source, t.kind, t.status, t.fingerprint, t.title, t.description, t.url, t.level,
       t.environment, t.release, t.reporter_email, t.reporter_name, t.close_reason, t.occurrences, t.opened_at,
       t.last_seen_at, t.closed_at
from ticket t join source s on s.id = t.source_id where t.id = $1

-- name: read_page_sizes
-- Read the ids of tickets, newest first, older than a cursor, and the bytes of their texts; optionally of one source or status.
select t.id, octet_length(t.title) + octet_length(t.description) + octet_length(t.url) as bytes
from ticket t
where ($1::uuid is null or t.id < $1)
  and ($2::integer is null or t.source_id = $2)
  and ($3::smallint is null or t.status = $3)
order by t.id desc limit $4

-- name: read_tickets
-- Read tickets by id, newest first.
select t.id, t.source_id, s.slug as source, t.kind, t.status, t.fingerprint, t.title, t.description, t.url, t.level,
       t.environment, t.release, t.reporter_email, t.reporter_name, t.close_reason, t.occurrences, t.opened_at,
       t.last_seen_at, t.closed_at
from ticket t join source s on s.id = t.source_id where t.id = any ($1::uuid[]) order by t.id desc

-- name: read_summaries
-- Read tickets without their long texts, newest first, older than a cursor; optionally of one status or one kind.
select t.id, s.slug as source, t.kind, t.status, left(t.title, 500) as title, t.occurrences, t.opened_at, t.last_seen_at
from ticket t join source s on s.id = t.source_id
where ($1::uuid is null or t.id < $1)
  and ($2::smallint is null or t.status = $2)
  and ($3::smallint is null or t.kind = $3)
order by t.id desc limit $4

-- name: read_links
-- Read the issues of tickets at trackers, including those that are not created yet.
select l.ticket_id, x.slug as destination, x.tracker, k.remote_key as issue_key, k.url as issue_url,
       k.state as link_state, k.remote_state as issue_state, l.state as lane_state, l.park_reason as park_reason,
       d.last_outcome as last_outcome, left(d.last_error, 2000) as last_error
from lane l
join destination x on x.id = l.destination_id
left join link k on k.lane_id = l.id
left join delivery d on d.lane_id = l.id and d.seq = l.head_seq
where l.ticket_id = any ($1::uuid[]) and x.kind = 1
order by l.id

-- name: read_events
-- Read the events of a ticket after a number, in their order: so many at most, and so many bytes, but always one.
select number, kind, at, data, last
from (select n as number, kind, at, data, (select max(n) from event where ticket_id = $1) as last,
             sum(octet_length(data::text)) over (order by n) - octet_length(data::text) as bytes_before
      from (select n, kind, at, data from event where ticket_id = $1 and n > $2 order by n limit $3) page) sized
where bytes_before < $4 order by number

-- name: read_opening_event
-- Read the data of the event that opened a ticket.
select data from event where ticket_id = $1 and n = 1
