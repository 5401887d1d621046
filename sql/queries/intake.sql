-- The intake transaction: report keys, tickets, generations, thresholds. Set-based.

-- name: insert_report_keys
-- Insert the keys of reports and return the new ones. The missing ones were seen before.
insert into report_key (source_id, key_hash, report_id, body_sha256)
select * from unnest($1::integer[], $2::bytea[], $3::uuid[], $4::bytea[])
order by 1, 2
on conflict do nothing
returning report_id

-- name: known_report_keys
-- Select the last report that was accepted with each known key, and the state of the fingerprint's current ticket. Reports
-- are deleted before the keys of a problem that is reported all the time.
select k.source_id, k.key_hash, k.report_id, k.body_sha256, coalesce(r.ticket_id, t.id) as ticket_id, r.state,
       greatest(extract(epoch from now() - k.seen_at), 0)::float8 as key_seconds,
       t.status, coalesce(m.resolved, t.reported_resolved) as reported_resolved,
       t.unrouted, t.summary_ticket_id is not null as throttled,
       greatest(extract(epoch from now() - coalesce(m.changed_at, t.reported_at)), 0)::float8 as state_seconds,
       greatest(extract(epoch from now() - t.closed_at), 0)::float8 as closed_seconds
from unnest($1::integer[], $2::bytea[], $3::text[], $4::bytea[]) as asked (source_id, key_hash, fingerprint, member)
join report_key k on k.source_id = asked.source_id and k.key_hash = asked.key_hash
left join report r on r.id = k.report_id
left join ticket t on t.source_id = asked.source_id and t.fingerprint = asked.fingerprint and not t.superseded
left join ticket_member m on m.source_id = asked.source_id and m.fingerprint = asked.fingerprint and m.member = asked.member

-- name: renew_report_keys
-- Give known keys to reports that are news in spite of them, unless another transaction did so first. Returns the reports
-- that have their key.
update report_key k set report_id = n.report_id, body_sha256 = n.body_sha256, seen_at = now()
from unnest($1::integer[], $2::bytea[], $3::uuid[], $4::bytea[], $5::uuid[])
  as n (source_id, key_hash, report_id, body_sha256, former_report_id)
where k.source_id = n.source_id and k.key_hash = n.key_hash and k.report_id = n.former_report_id
returning k.report_id

-- name: refresh_report_keys
-- Record that keys were seen again: a key is forgotten a week after its last repeat.
update report_key k set seen_at = now()
from unnest($1::integer[], $2::bytea[]) as n (source_id, key_hash)
where k.source_id = n.source_id and k.key_hash = n.key_hash and k.seen_at < now() - interval '1 minute'

-- name: upsert_tickets
-- Insert or lock the current ticket of each fingerprint, in one order for all transactions, and return its former
-- state. A new ticket counts its opening event already, usually its only one. The release is updated while the ticket
-- is open. The time and the age of the previous report are computed only on demand ($14).
insert into ticket (id, source_id, kind, fingerprint, title, description, url, level, environment, release,
                    reporter_email, reporter_name, occurrences, next_event)
select *, 2 from unnest($1::uuid[], $2::integer[], $3::smallint[], $4::text[], $5::text[], $6::text[], $7::text[],
                        $8::text[], $9::text[], $10::text[], $11::text[], $12::text[], $13::bigint[])
order by 2, 4
on conflict (source_id, fingerprint) where not superseded
do update set occurrences = ticket.occurrences + excluded.occurrences, last_seen_at = now(),
              seen_before = ticket.last_seen_at,
              release = case when ticket.status = 1 and excluded.release <> '' then excluded.release else ticket.release end
returning id, source_id, kind, fingerprint, generation, status, close_reason, next_event, reporter_email, summary_ticket_id,
          below_threshold, recurrence_announced, release, reported_resolved, unrouted, (xmax = 0) as inserted,
          case when status = 2 then greatest(extract(epoch from now() - closed_at), 0)::float8 end as closed_seconds,
          case when $14::boolean then now() end as at,
          case when $14 and seen_before is not null
            then greatest(extract(epoch from now() - seen_before), 0)::float8 end as unseen_seconds

-- name: close_generation
-- Supersede a ticket by one of the next generation, which takes over the occurrences that were counted too many.
-- Returns the issues by destination.
update ticket t
set superseded = true, occurrences = t.occurrences - $2,
    last_seen_at = case when $3 then coalesce(t.seen_before, t.last_seen_at) else t.last_seen_at end
where t.id = $1
returning (select jsonb_object_agg(l.destination_id, k.url)
           from lane l join link k on k.lane_id = l.id join destination d on d.id = l.destination_id
           where l.ticket_id = $1 and d.kind = 1 and k.state = 1 and k.url <> '')::text as issues

-- name: insert_generation
-- Insert a ticket of the next generation. Its opening event is counted already.
insert into ticket (id, source_id, kind, fingerprint, title, description, url, level, environment, release,
                    reporter_email, reporter_name, occurrences, generation, next_event)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, 2)

-- name: count_occurrences
-- Count the occurrences of tickets below their threshold within the last seconds. The tickets are locked.
select h.ticket_id, w.seconds, count(*) as times
from below_threshold_ticket h
cross join unnest($2::integer[]) as w (seconds)
cross join lateral unnest(h.occurred_at) as s (at)
where h.ticket_id = any ($1::uuid[]) and s.at > now() - make_interval(secs => w.seconds)
group by 1, 2

-- name: record_occurrences
-- Record occurrences of tickets below their threshold: at most so many, and none older than the span.
insert into below_threshold_ticket (ticket_id, occurred_at, span)
select n.ticket_id, array_fill(now(), array[least(n.times, n.most)]), make_interval(secs => n.span)
from unnest($1::uuid[], $2::integer[], $3::integer[], $4::integer[]) as n (ticket_id, times, most, span)
on conflict (ticket_id) do update
set span = excluded.span, counted_at = now(),
    occurred_at = (select array_agg(s.at order by s.at)
            from (select all_seen.at
                  from unnest(below_threshold_ticket.occurred_at || excluded.occurred_at) as all_seen (at)
                  where all_seen.at > now() - excluded.span
                  order by 1 desc
                  limit (select n.most from unnest($1::uuid[], $4::integer[], $3::integer[]) as n (ticket_id, span, most)
                         where n.ticket_id = below_threshold_ticket.ticket_id)) s)

-- name: known_fingerprints
-- Select the fingerprints that have a ticket.
select t.source_id, t.fingerprint
from unnest($1::integer[], $2::text[]) as asked (source_id, fingerprint)
join ticket t using (source_id, fingerprint) where not t.superseded

-- name: ticket_members
-- Select the alerts of tickets that fire. The tickets are locked.
select m.source_id, m.fingerprint, m.member
from unnest($1::integer[], $2::text[]) as asked (source_id, fingerprint)
join ticket_member m using (source_id, fingerprint) where not m.resolved

-- name: upsert_ticket_members
-- Store whether alerts of locked tickets fire.
insert into ticket_member (source_id, fingerprint, member, resolved)
select * from unnest($1::integer[], $2::text[], $3::bytea[], $4::boolean[]) order by 1, 2, 3
on conflict (source_id, fingerprint, member) do update
set resolved = excluded.resolved,
    changed_at = case when ticket_member.resolved = excluded.resolved then ticket_member.changed_at else now() end

-- name: list_parked_reports
-- Select parked reports, oldest first.
select r.id, r.received_at, s.slug as source, r.error, octet_length(r.body) as bytes
from report r join source s on s.id = r.source_id
where r.state = 2 order by r.received_at limit $1

-- name: lock_parked_report
-- Lock one parked report, so that one process reprocesses it.
select r.id, r.received_at, r.source_id, r.headers, r.body, r.body_sha256
from report r where r.id = $1 and r.state = 2 for update

-- name: unpark_report
-- Store the ticket of a report that was parked.
update report set state = 1, error = null, ticket_id = $3, action = $4 where received_at = $1 and id = $2
