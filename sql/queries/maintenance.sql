-- Keeping house. Every step can be repeated, and says in itself whose turn it is ($1 name, $2 holder, $3 epoch): who was
-- paused past its turn does nothing.

-- name: make_partitions
-- Partitions for the days to come; how many were made.
select make_partitions(3) from lease where name = $1 and holder = $2 and epoch = $3 and expires_at > now()

-- name: drop_partition
-- One partition past its time goes: reports after 14 days, attempts after 30, webhooks after 14. Its name, if there was one.
select drop_partition(14, 30, 14) from lease where name = $1 and holder = $2 and epoch = $3 and expires_at > now()

-- name: forget_report_keys
-- Keys of reports are known for a week.
with gone as (
  delete from report_key where ctid = any (array(
    select k.ctid from report_key k, lease l
    where l.name = $1 and l.holder = $2 and l.epoch = $3 and l.expires_at > now()
      and k.seen_at < now() - interval '7 days' limit 1000))
  returning 1)
select count(*) from gone

-- name: forget_webhook_keys
-- Delivery ids are known for 30 days, body digests for one.
with gone as (
  delete from webhook_key where ctid = any (array(
    select k.ctid from webhook_key k, lease l
    where l.name = $1 and l.holder = $2 and l.epoch = $3 and l.expires_at > now()
      and (k.received_at < now() - interval '30 days'
           or k.kind = 2 and k.received_at < now() - interval '1 day') limit 1000))
  returning 1)
select count(*) from gone

-- name: forget_deliveries
-- Finished deliveries are kept for 30 days.
with gone as (
  delete from delivery where ctid = any (array(
    select d.ctid from delivery d, lease l
    where l.name = $1 and l.holder = $2 and l.epoch = $3 and l.expires_at > now()
      and d.state in (1, 3) and d.done_at < now() - interval '30 days' limit 1000))
  returning 1)
select count(*) from gone

-- name: forget_sightings
-- Where markers were seen is kept for 90 days.
with gone as (
  delete from sighting where ctid = any (array(
    select s.ctid from sighting s, lease l
    where l.name = $1 and l.holder = $2 and l.epoch = $3 and l.expires_at > now()
      and s.at < now() - interval '90 days' limit 1000))
  returning 1)
select count(*) from gone

-- name: forget_audit
-- Who changed the configuration is kept for a year.
with gone as (
  delete from audit where ctid = any (array(
    select a.ctid from audit a, lease l
    where l.name = $1 and l.holder = $2 and l.epoch = $3 and l.expires_at > now()
      and a.at < now() - interval '1 year' limit 1000))
  returning 1)
select count(*) from gone

-- name: forget_held
-- When a ticket was reported is kept while it is below its threshold and open, and a report may still count for it.
with gone as (
  delete from held_ticket where ctid = any (array(
    select h.ctid from held_ticket h join ticket t on t.id = h.ticket_id, lease l
    where l.name = $1 and l.holder = $2 and l.epoch = $3 and l.expires_at > now()
      and (h.counted_at < now() - h.span or not t.held or t.status = 2) limit 1000))
  returning 1)
select count(*) from gone

-- name: alarms
-- What should be nought: tables whose default partition holds rows, partitions missing for today and the two days after,
-- the age in seconds of the oldest snapshot past five minutes (it keeps dead rows from being removed), and hot tables with
-- twice as many dead rows as living ones.
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
-- The cluster and timeline we last worked on.
select cluster from installation

-- name: system_identifier
-- The cluster, as it named itself when it was made. Not everybody may ask.
select system_identifier::text from pg_control_system()

-- name: timeline
-- The timeline, which changes when a standby takes over or a backup is restored.
select left(pg_walfile_name(pg_current_wal_lsn()), 8)

-- name: note_cluster
-- The cluster we work on from now on, unless somebody else noted one meanwhile. If it is another one than before, every
-- write looks first for an hour.
update installation
set cluster = $2, careful_until = case when $3 then greatest(careful_until, now() + interval '1 hour') else careful_until end
where cluster is not distinct from $1
returning true

-- name: careful_until
-- Until when every write looks first by order, null if there is none; and whether it does now.
select case when careful_until > now() then careful_until end as until, is_careful() as now from installation

-- name: set_careful
-- Every write looks first for so long, or no longer.
with said as (
  update installation set careful_until = now() + $1::interval returning careful_until),
noted as (
  insert into audit (who, what, object, detail)
  select 'command line', 'careful', 'installation', jsonb_build_object('until', careful_until) from said)
select careful_until from said
