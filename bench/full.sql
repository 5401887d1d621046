-- History of years: finished deliveries, ten per ticket, and lanes that wait for an unreachable destination.
-- $1 source, $2 destination, $3 number of tickets; keys and indexes are created afterwards.

-- step: tickets
insert into ticket (id, source_id, kind, fingerprint, status, title, description, url, occurrences, next_event, opened_at, last_seen_at, closed_at)
select ('0192a000-0000-7000-8000-' || lpad(to_hex($4::bigint + n), 12, '0'))::uuid, $1, 1,
       'https://bugsink.example.com ' || md5(($4::bigint + n)::text), 2 - $5::integer, 'KeyError: ''basket'' ' || n, '',
       'https://bugsink.example.com/issues/issue/' || md5(($4::bigint + n)::text) || '/event/last/', 10, $6::integer + 1,
       now() - interval '14 days' * (n / $3::float8), now() - interval '13 days' * (n / $3::float8),
       case when $5::integer = 0 then now() - interval '12 days' * (n / $3::float8) end
from generate_series(1, $3::integer) n where $2::integer is not null

-- step: events
insert into event (ticket_id, n, kind, data, at)
select ('0192a000-0000-7000-8000-' || lpad(to_hex($4::bigint + n), 12, '0'))::uuid, e,
       case when e = 1 then 'opened' else 'commented' end, '{"text": "It happened again."}',
       now() - interval '14 days' * (n / $3::float8)
from generate_series(1, $3::integer) n, generate_series(1, $6::integer) e
where $1::integer is not null and $2::integer is not null and $5::integer is not null

-- step: lanes
insert into lane (id, ticket_id, destination_id, state, due_at, epoch, head_seq, next_seq)
overriding system value
select $4::bigint + n, ('0192a000-0000-7000-8000-' || lpad(to_hex($4::bigint + n), 12, '0'))::uuid, $2, $5::integer,
       now() - interval '14 days' * (n / $3::float8), 1, case $5::integer when 0 then $6::integer + 1 else 1 end, $6::integer + 1
from generate_series(1, $3::integer) n where $1::integer is not null

-- step: deliveries
insert into delivery (lane_id, seq, event_n, kind, marker, state, attempts, first_sent_at, draft, last_outcome, remote_id, done_at, created_at)
select $4::bigint + n, e, e, case when e = 1 then 1 else 2 end, gen_random_uuid(), case $5::integer when 0 then 1 else 0 end,
       1 - $5::integer, case $5::integer when 0 then now() - interval '14 days' * (n / $3::float8) end,
       case $5::integer when 0 then '{"body": "It happened again."}'::jsonb end,
       case $5::integer when 0 then 'done' end, case when $5::integer = 0 and e > 1 then (n * 10::bigint + e)::text end,
       case $5::integer when 0 then now() - interval '14 days' * (n / $3::float8) end, now() - interval '14 days' * (n / $3::float8)
from generate_series(1, $3::integer) n, generate_series(1, $6::integer) e
where $1::integer is not null and $2::integer is not null

-- step: links
insert into link (lane_id, destination_id, remote_id, remote_key, url, remote_state)
select $4::bigint + n, $2, n::text, n::text, 'http://tracker.example.com/acme/shop/issues/' || n, 2
from generate_series(1, $3::integer) n where $1::integer is not null and $5::integer = 0 and $6::integer is not null

-- step: sightings
insert into marker_observation (destination_id, marker, remote_id, remote_key, url, seen_by)
select $2, gen_random_uuid(), n::text, n::text, 'http://tracker.example.com/acme/shop/issues/' || n, 'answer'
from generate_series(1, $3::integer) n
where $1::integer is not null and $4::bigint is not null and $5::integer = 0 and $6::integer is not null
