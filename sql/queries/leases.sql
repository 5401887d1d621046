-- Turns at jobs that one replica does for all.

-- name: take_turn
-- Wins a turn at a named job, which nobody gets again before its time is over, not even who had it; no row: not our turn.
insert into lease (name, holder, expires_at) values ($1, $2, now() + $3::interval)
on conflict (name) do update
set holder = excluded.holder, expires_at = excluded.expires_at, epoch = lease.epoch + 1
where lease.expires_at <= now()
returning epoch

-- name: still_our_turn
-- Whether a turn is still ours.
select exists (select from lease where name = $1 and holder = $2 and epoch = $3 and expires_at > now())
