-- Wake-ups between replicas. A notification carries no data: its receivers look for work.

-- name: notify
-- Notify the other replicas of work.
select pg_notify($1, $2)

-- name: probe
-- Notify ourselves, and return whether this server takes writes. One that does not was demoted, and nobody notifies
-- there.
select pg_notify($1, $2), current_setting('transaction_read_only') = 'off' as writable
