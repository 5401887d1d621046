-- Leases of tasks that one replica does for all.

-- name: acquire_lease
-- Acquire a lease that nobody can acquire again before it expires, not even its holder. No row: another replica has it.
insert into lease (name, holder, expires_at) values ($1, $2, now() + $3::interval)
on conflict (name) do update
set holder = excluded.holder, expires_at = excluded.expires_at, epoch = lease.epoch + 1
where lease.expires_at <= now()
returning epoch

-- name: is_lease_held
-- Return whether a lease is still held.
select exists (select from lease where name = $1 and holder = $2 and epoch = $3 and expires_at > now())
