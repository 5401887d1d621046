-- Waking each other. A notification carries nothing that matters: whoever hears it looks for work.

-- name: tell
-- Tells all who listen that there is work.
select pg_notify($1, $2)

-- name: prove
-- Asks for one's own voice, and whether this server still takes writes: one that does not was demoted, and nobody
-- speaks there any more.
select pg_notify($1, $2), current_setting('transaction_read_only') = 'off' as writable
