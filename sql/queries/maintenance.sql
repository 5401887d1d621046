-- Housekeeping. Every step can be repeated, and does nothing without its lease ($1 name, $2 holder, $3 epoch), so that a
-- replica that was paused past its lease changes nothing.

-- name: create_partitions
-- Create the partitions of the next days and return their number.
select create_partitions(3) from lease where name = $1 and holder = $2 and epoch = $3 and expires_at > now()

-- name: drop_expired_partition
-- Drop one expired partition and return its name: reports after 14 days, attempts after 30, webhooks after 14.
select drop_expired_partition(14, 30, 14) from lease where name = $1 and holder = $2 and epoch = $3 and expires_at > now()

-- name: delete_report_keys
-- Delete the keys of reports a week after they were seen last.
with deleted as (
  delete from report_key where ctid = any (array(
    select k.ctid from report_key k, lease l
    where l.name = $1 and l.holder = $2 and l.epoch = $3 and l.expires_at > now()
      and k.seen_at < now() - interval '7 days' limit 1000))
  returning 1)
select count(*) from deleted

-- name: delete_webhook_keys
-- Delete delivery ids after 30 days and body digests after one.
with deleted as (
  delete from webhook_key where ctid = any (array(
    select k.ctid from webhook_key k, lease l
    where l.name = $1 and l.holder = $2 and l.epoch = $3 and l.expires_at > now()
      and (k.received_at < now() - interval '30 days'
           or k.kind = 2 and k.received_at < now() - interval '1 day') limit 1000))
  returning 1)
select count(*) from deleted

-- name: delete_deliveries
-- Delete finished deliveries after 30 days.
with deleted as (
  delete from delivery where ctid = any (array(
    select d.ctid from delivery d, lease l
    where l.name = $1 and l.holder = $2 and l.epoch = $3 and l.expires_at > now()
      and d.state = 1 and d.done_at < now() - interval '30 days' limit 1000))
  returning 1)
select count(*) from deleted

-- name: delete_ticket_members
-- Delete the alerts of tickets 30 days after they ended.
with deleted as (
  delete from ticket_member where ctid = any (array(
    select m.ctid from ticket_member m, lease l
    where l.name = $1 and l.holder = $2 and l.epoch = $3 and l.expires_at > now()
      and m.resolved and m.changed_at < now() - interval '30 days' limit 1000))
  returning 1)
select count(*) from deleted

-- name: delete_marker_observations
-- Delete observations of markers after 90 days.
with deleted as (
  delete from marker_observation where ctid = any (array(
    select s.ctid from marker_observation s, lease l
    where l.name = $1 and l.holder = $2 and l.epoch = $3 and l.expires_at > now()
      and s.at < now() - interval '90 days' limit 1000))
  returning 1)
select count(*) from deleted

-- name: delete_audit_entries
-- Delete audit entries after a year.
with deleted as (
  delete from audit where ctid = any (array(
    select a.ctid from audit a, lease l
    where l.name = $1 and l.holder = $2 and l.epoch = $3 and l.expires_at > now()
      and a.at < now() - interval '1 year' limit 1000))
  returning 1)
select count(*) from deleted

-- name: delete_occurrences
-- Delete the occurrences of tickets that are closed or not below a threshold any more, and those that no longer count.
with deleted as (
  delete from below_threshold_ticket where ctid = any (array(
    select h.ctid from below_threshold_ticket h join ticket t on t.id = h.ticket_id, lease l
    where l.name = $1 and l.holder = $2 and l.epoch = $3 and l.expires_at > now()
      and (h.counted_at < now() - h.span or not t.below_threshold or t.status = 2) limit 1000))
  returning 1)
select count(*) from deleted

-- name: maintenance_checks
-- Select values that are 0 when healthy: default partitions with rows, missing partitions of today and the next two
-- days, the age in seconds of the oldest snapshot over five minutes (it keeps dead rows from being removed), and hot
-- tables with twice as many dead rows as live ones.
select (select count(*) from (values (exists (select from report_default)), (exists (select from attempt_default)),
                                     (exists (select from webhook_default))) d (has_rows) where has_rows)::float8
         as default_partition,
       (select count(*) from unnest(array['report', 'attempt', 'webhook']) parent,
               generate_series(0, 2) ahead
        where to_regclass(parent || to_char((now() at time zone 'UTC')::date + ahead, '_YYYYMMDD')) is null)::float8
         as partition_missing,
       coalesce((select max(extract(epoch from now() - since)) from (
                   select xact_start as since from pg_stat_activity
                   where backend_xmin is not null and datname = current_database()
                   union all select prepared from pg_prepared_xacts where database = current_database()) open
                 where since < now() - interval '5 minutes'), 0)::float8 as old_snapshot,
       (select count(*) from pg_stat_user_tables
        where schemaname = current_schema() and relname in ('lane', 'delivery')
          and n_dead_tup > 10000 and n_dead_tup > 2 * n_live_tup)::float8 as dead_rows

-- name: known_cluster
-- Select the cluster and timeline that were seen last.
select cluster from installation

-- name: system_identifier
-- Select the system identifier of the cluster. Not every role may read it.
select system_identifier::text from pg_control_system()

-- name: timeline
-- Select the timeline, which changes when a standby is promoted or a backup is restored.
select left(pg_walfile_name(pg_current_wal_lsn()), 8)

-- name: record_cluster
-- Record the cluster unless another replica recorded one in between. If it differs from the known one, every write is
-- verified first for an hour.
update installation
set cluster = $2, verify_writes_until = case when $3 then greatest(verify_writes_until, now() + interval '1 hour') else verify_writes_until end
where cluster is not distinct from $1
returning true

-- name: verify_writes_status
-- Select until when an operator wants every write verified first, and whether it is now.
select case when verify_writes_until > now() then verify_writes_until end as until, must_verify_writes() as now from installation

-- name: set_verify_writes
-- Verify every write first for a while, or stop that.
with updated as (
  update installation set verify_writes_until = now() + $1::interval returning verify_writes_until),
logged as (
  insert into audit (actor, action, object, detail)
  select 'command line', 'verify_writes', 'installation', jsonb_build_object('until', verify_writes_until) from updated)
select verify_writes_until from updated
