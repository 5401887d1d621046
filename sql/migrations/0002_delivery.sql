-- What keeps deliveries within limits, and what repairs them. Only adds: the program before works on beside it. It never
-- read or wrote `budget`, which is made anew here.

-- budgets: one row for each credential and scope, shared by all destinations that use the credential
drop table budget;
create table budget (
  credential    bytea not null,                          -- digest of the origin and the credential
  scope         text not null,                           -- 'all' or a narrower word of the plugin's
  declared_rate double precision not null,               -- tokens per second: what is allowed when nobody complains
  rate          double precision not null,               -- what is taken now; lowered when the tracker says slow down
  burst         double precision not null check (burst >= 1),
  tokens        double precision not null check (tokens >= 0),
  refilled_at   timestamptz not null default now(),
  limited_until timestamptz,                             -- the tracker asked to wait until then
  limited_count bigint not null default 0,
  primary key (credential, scope)
) with (fillfactor = 50);

alter table destination add column limits jsonb not null default '{}';   -- the operator's: writes_per_minute, at_once
alter table source add column limits jsonb not null default '{}';        -- the operator's: new_tickets_per_minute

alter table destination_state
  add column credential       bytea,                     -- as in budget; null without one
  add column breaker_failures integer not null default 0,-- unavailable or unknown, in a row
  add column breaker_opened   integer not null default 0;-- times in a row, for the doubling

-- careful mode: which cluster and timeline we last worked on; until when every write looks first
alter table installation
  add column cluster       text,
  add column careful_until timestamptz;

-- doubles and their repair
alter table sighting
  add column twin        boolean not null default false, -- a second issue with the same marker was seen
  add column repaired_at timestamptz;
create index sighting_twin on sighting (at) where twin and repaired_at is null;
create index sighting_at on sighting using brin (at);
alter table delivery
  add column resent_at timestamptz,                      -- sent again after every look found nothing
  add column swept_at  timestamptz,                      -- looked after for doubles since then
  add column collapsed integer not null default 0;       -- later events that this one stands for too
create index delivery_resent on delivery (resent_at) where resent_at is not null and swept_at is null;
create index delivery_done on delivery using brin (done_at);

-- storms: tickets past a source's allowance are listed in one parent ticket
alter table ticket add column storm_parent uuid references ticket;
create index ticket_storm on ticket (storm_parent) where storm_parent is not null;
create table storm (
  source_id   integer primary key references source,
  began_at    timestamptz not null default now(),        -- of the window
  opened      integer not null default 0,                -- tickets opened in the window
  parent_id   uuid references ticket                     -- takes what is too much, while the storm lasts
) with (fillfactor = 50);

-- An echo is known by the delivery whose intent was written before the request left; a second ledger would only repeat it.
drop table own_write;

-- Partitions are made and dropped apart, so that a drop that has to wait does not keep new days from being made; the
-- release before calls keep_partitions, which stays for it. Both run with their owner's rights, as that one does.

-- Makes the daily partitions from today on; how many. Attaching locks the parent less than making a partition of it: whoever
-- reads or writes goes on.
create function make_partitions(ahead_days integer) returns integer
language plpgsql security definer set search_path from current set timezone to 'UTC' set lock_timeout to '200ms' as $$
declare
  parent text;
  day    date;
  child  text;
  made   integer := 0;
begin
  foreach parent in array array['report', 'attempt', 'webhook'] loop
    for day in select generate_series(current_date, current_date + ahead_days, interval '1 day')::date loop
      child := format('%s_%s', parent, to_char(day, 'YYYYMMDD'));
      if to_regclass(child) is null then
        execute format('create table %I (like %I including defaults including constraints)', child, parent);
        execute format('alter table %I attach partition %I for values from (%L) to (%L)', parent, child, day, day + 1);
        made := made + 1;
      end if;
    end loop;
  end loop;
  return made;
end $$;

-- Drops the oldest partition that is past its time and gives its name; null if there is none. One at a time and with
-- little patience: a drop locks the parent, and while it waits for somebody everybody waits behind it.
create function drop_partition(report_days integer, attempt_days integer, webhook_days integer) returns text
language plpgsql security definer set search_path from current set timezone to 'UTC' set lock_timeout to '200ms' as $$
declare
  old text;
begin
  select c.relname into old
  from (values ('report', report_days), ('attempt', attempt_days), ('webhook', webhook_days)) p (parent, keep)
  join pg_inherits i on i.inhparent = p.parent::regclass
  join pg_class c on c.oid = i.inhrelid
  where c.relname ~ ('^' || p.parent || '_[0-9]{8}$')
    and to_date(right(c.relname, 8), 'YYYYMMDD') < current_date - p.keep
  order by right(c.relname, 8) limit 1;
  if old is not null then
    execute format('drop table %I', old);
  end if;
  return old;
end $$;

-- Whether every write has to look first: for an hour after the cluster changed or as long as an operator said, and at once
-- when the timeline is another one than we last worked on, before anybody has noticed. A timeline is compared only where
-- it could be read before.
create function is_careful() returns boolean
language plpgsql stable security definer set search_path from current as $$
declare
  last text;
begin
  if exists (select from installation where careful_until > now()) then
    return true;
  end if;
  select split_part(coalesce(cluster, ''), '/', 2) into last from installation;
  return last <> '' and last <> left(pg_walfile_name(pg_current_wal_lsn()), 8);
end $$;
