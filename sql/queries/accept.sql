-- What makes a report, a ticket's event, its lanes and its deliveries exist, all in one transaction, set by set.

-- name: keep_keys
-- Claims the keys of reports; the rows that come back are new, the missing ones were seen before.
insert into report_key (source_id, key_hash, report_id, body_sha256)
select * from unnest($1::integer[], $2::bytea[], $3::uuid[], $4::bytea[])
order by 1, 2
on conflict do nothing
returning report_id

-- name: known_keys
-- The first report of each key that was seen before.
select k.source_id, k.key_hash, k.report_id, k.body_sha256, r.ticket_id, r.state
from unnest($1::integer[], $2::bytea[]) as asked (source_id, key_hash)
join report_key k using (source_id, key_hash)
left join report r on r.id = k.report_id

-- name: touch_tickets
-- Makes or locks the current ticket of each fingerprint, in one order for all, and says how it stood before.
insert into ticket (id, source_id, kind, fingerprint, title, description, url, level, environment, release,
                    reporter_email, reporter_name, occurrences)
select * from unnest($1::uuid[], $2::integer[], $3::smallint[], $4::text[], $5::text[], $6::text[], $7::text[],
                     $8::text[], $9::text[], $10::text[], $11::text[], $12::text[], $13::bigint[])
order by 2, 4
on conflict (source_id, fingerprint) where not superseded
do update set occurrences = ticket.occurrences + excluded.occurrences, last_seen_at = now()
returning id, source_id, kind, fingerprint, generation, status, close_reason, next_event, reporter_email,
          (xmax = 0) as inserted

-- name: lock_ticket
-- One ticket, locked, as it stands.
select id, source_id, kind, fingerprint, generation, status, close_reason, next_event, reporter_email
from ticket where id = $1 for update

-- name: lanes_of_tickets
-- Where the deliveries of these tickets go already.
select l.ticket_id, l.destination_id, d.kind
from lane l join destination d on d.id = l.destination_id
where l.ticket_id = any ($1::uuid[]) and d.retired_at is null

-- name: write_tickets
-- The new standing of tickets that had events.
update ticket t
set status = n.status, close_reason = nullif(n.close_reason, ''), next_event = n.next_event,
    closed_at = case when n.status = 2 then coalesce(t.closed_at, now()) end
from unnest($1::uuid[], $2::smallint[], $3::text[], $4::integer[]) as n (id, status, close_reason, next_event)
where t.id = n.id

-- name: write_events
-- Facts, numbered within their ticket, written once.
insert into event (ticket_id, n, kind, data, report_id)
select ticket_id, n, kind, data::jsonb, report_id
from unnest($1::uuid[], $2::integer[], $3::text[], $4::text[], $5::uuid[])
  as e (ticket_id, n, kind, data, report_id)

-- name: extend_lanes
-- Makes room for so many deliveries at the end of each lane; numbers come from the locked row, so their order is
-- the order of commits. An idle lane becomes ready.
insert into lane (ticket_id, destination_id, state, next_seq)
select ticket_id, destination_id, 1, 1 + more
from unnest($1::uuid[], $2::integer[], $3::integer[]) as n (ticket_id, destination_id, more)
order by 1, 2
on conflict (ticket_id, destination_id)
do update set next_seq = lane.next_seq + excluded.next_seq - 1,
              state = case when lane.state = 0 then 1 else lane.state end,
              due_at = case when lane.state = 0 then now() else lane.due_at end
returning id, ticket_id, destination_id, next_seq

-- name: write_deliveries
-- The promises.
insert into delivery (lane_id, seq, event_n, kind, marker)
select * from unnest($1::bigint[], $2::bigint[], $3::integer[], $4::smallint[], $5::uuid[])

-- name: write_reports
-- What was accepted, as it came.
insert into report (id, source_id, ticket_id, action, headers, body, body_sha256, state, error)
select id, source_id, ticket_id, action, headers::jsonb, body, body_sha256, state, error
from unnest($1::uuid[], $2::integer[], $3::uuid[], $4::text[], $5::text[], $6::bytea[], $7::bytea[],
            $8::smallint[], $9::text[])
  as r (id, source_id, ticket_id, action, headers, body, body_sha256, state, error)

-- name: parked_reports
-- Reports that our code could not decide on, oldest first.
select r.id, r.received_at, s.slug as source, r.error, octet_length(r.body) as bytes
from report r join source s on s.id = r.source_id
where r.state = 2 order by r.received_at limit $1

-- name: parked_report
-- One parked report, locked so that one process runs it again.
select r.id, r.received_at, r.source_id, r.headers, r.body, r.body_sha256
from report r where r.id = $1 and r.state = 2 for update

-- name: unpark_report
-- A parked report found its ticket.
update report set state = 1, error = null, ticket_id = $3, action = $4 where received_at = $1 and id = $2
