-- Keeping house.

-- name: take_lease
-- Wins a named lease, or keeps it; no row: somebody else has it.
insert into lease (name, holder, expires_at) values ($1, $2, now() + $3::interval)
on conflict (name) do update
set holder = excluded.holder, expires_at = excluded.expires_at,
    epoch = lease.epoch + case when lease.holder = excluded.holder then 0 else 1 end
where lease.expires_at < now() or lease.holder = excluded.holder
returning epoch

-- name: keep_partitions
-- Partitions for the days to come; old ones go.
select keep_partitions(3, 14, 30, 14)

-- name: forget_report_keys
-- Keys of reports are known for a week.
delete from report_key where ctid = any (array(
  select ctid from report_key where seen_at < now() - interval '7 days' limit 1000))

-- name: forget_webhook_keys
-- Delivery ids are known for 30 days, body digests for one.
delete from webhook_key where ctid = any (array(
  select ctid from webhook_key
  where received_at < now() - case kind when 1 then interval '30 days' else interval '1 day' end limit 1000))

-- name: forget_deliveries
-- Finished deliveries are kept for 30 days.
delete from delivery where ctid = any (array(
  select ctid from delivery where state in (1, 3) and done_at < now() - interval '30 days' limit 1000))
