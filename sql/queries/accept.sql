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
-- Makes or locks the current ticket of each fingerprint, in one order for all, and says how it stood before. One that is
-- made counts its opening event already: nearly always that is all it gets.
insert into ticket (id, source_id, kind, fingerprint, title, description, url, level, environment, release,
                    reporter_email, reporter_name, occurrences, next_event)
select *, 2 from unnest($1::uuid[], $2::integer[], $3::smallint[], $4::text[], $5::text[], $6::text[], $7::text[],
                        $8::text[], $9::text[], $10::text[], $11::text[], $12::text[], $13::bigint[])
order by 2, 4
on conflict (source_id, fingerprint) where not superseded
do update set occurrences = ticket.occurrences + excluded.occurrences, last_seen_at = now()
returning id, source_id, kind, fingerprint, generation, status, close_reason, next_event, reporter_email, storm_parent,
          (xmax = 0) as inserted

-- name: known_tickets
-- Which of these fingerprints have a ticket.
select t.source_id, t.fingerprint
from unnest($1::integer[], $2::text[]) as asked (source_id, fingerprint)
join ticket t using (source_id, fingerprint) where not t.superseded

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
