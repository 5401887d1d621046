-- The baseline schema. Each state and kind is a smallint whose values are named beside it, as in
-- service/pointsman/domain/states.py; a test compares the two. All times are the database's.

create table installation (
  singleton      boolean primary key default true check (singleton),
  id             uuid not null default gen_random_uuid(), -- part of every marker
  marker_key     bytea not null default decode(replace(gen_random_uuid()::text || gen_random_uuid()::text, '-', ''), 'hex'),
  config_version bigint not null default 1,               -- raised by each apply; replicas reload when it changed
  cluster        text,                                    -- system identifier and timeline that were seen last: 'id/timeline'
  verify_writes_until timestamptz,                        -- every write is verified first until then
  created_at     timestamptz not null default now()
);
insert into installation default values;

-- configuration -------------------------------------------------------------------------------------------------

create table source (
  id          integer generated always as identity primary key,
  slug        text not null unique,
  kind        text not null,
  settings    jsonb not null default '{}',
  tokens      jsonb not null default '[]',               -- [{"env":..} | {"file":..} | {"sha256":..}]
  limits      jsonb not null default '{}',               -- the operator's: new_tickets_per_minute, settle_seconds
  provisioned boolean not null default true,             -- made by apply; read-only for API and console
  retired_at  timestamptz,                               -- no longer configured; kept for its tickets
  created_at  timestamptz not null default now()
);

create table destination (
  id          integer generated always as identity primary key,
  slug        text not null unique,
  kind        smallint not null default 1 check (kind in (1, 2, 3)), -- 1 tracker, 2 mail, 3 source
  tracker     text not null,
  settings    jsonb not null default '{}',               -- secrets inside: {"env":..} | {"file":..} | {"sealed":..}
  webhook_secrets jsonb not null default '[]',
  limits      jsonb not null default '{}',               -- the operator's: writes_per_minute, at_once
  redact      text not null default 'normal',            -- how much of untrusted text is masked: normal, strict, off
  provisioned boolean not null default true,
  retired_at  timestamptz,
  created_at  timestamptz not null default now()
);
insert into destination (slug, kind, tracker) values ('@mail', 2, 'mail');

create table route (
  position     integer primary key,                      -- routes are tried in this order
  match        jsonb not null default '{}',
  destinations integer[] not null,
  continues    boolean not null default false,           -- the next routes are tried too after a match
  options      jsonb not null default '{}',              -- recurrence, quiet hours, templates
  provisioned  boolean not null default true
);

create table destination_state (
  destination_id integer primary key references destination,
  credential     bytea,                                  -- as in rate_limit; null without one
  breaker        smallint not null default 0 check (breaker in (0, 1, 2)), -- 0 closed, 1 half_open, 2 open
  breaker_failures integer not null default 0,           -- consecutive, unavailable or unknown
  breaker_opened integer not null default 0,             -- consecutive, for the doubling of the pause
  open_until     timestamptz,
  probe_until    timestamptz,                            -- half open: no second probe before
  failures       integer not null default 0,             -- consecutive, of any kind
  failed_at      timestamptz,                            -- of the last failure; null again after a success
  failure_origin text check (failure_origin in ('delivery', 'poll')),
  failure_type   text,
  failure_message text,
  failure_status integer,
  failure_excerpt text,
  failure_is_json boolean,
  blocked_until  timestamptz,                            -- a rate limit, or a pause after refused credentials
  pause_reason   text,                                   -- 'operator' or 'retired': nothing is claimed
  max_inflight   integer not null default 8,
  last_claim_at  timestamptz not null default now(),
  poll_due_at    timestamptz not null default now(),
  polled_to      timestamptz                             -- changes up to here are known
) with (fillfactor = 50);
insert into destination_state (destination_id) select id from destination;

-- One row for each credential and scope, shared by all replicas and all destinations that use the credential.
create table rate_limit (
  credential    bytea not null,                          -- digest of the origin and the credential
  scope         text not null,                           -- 'all' or a narrower word of the plugin's
  declared_rate double precision not null,               -- tokens per second that the plugin or the operator allows
  rate          double precision not null,               -- the rate in use; lowered after a 429
  burst         double precision not null check (burst >= 1),
  tokens        double precision not null check (tokens >= 0),
  refilled_at   timestamptz not null default now(),
  limited_until timestamptz,                             -- the tracker asked to wait until then
  limited_count bigint not null default 0,
  primary key (credential, scope)
) with (fillfactor = 50);

-- The state of a source with an API; one row from its first use on.
create table source_state (
  source_id   integer primary key references source,
  started_at  timestamptz not null default now(),        -- earlier reports are not asked for
  poll_due_at timestamptz not null default now(),        -- the replica that polls holds it until then
  polled_to   timestamptz,                               -- everything up to here was asked for
  linked_to   timestamptz not null default now(),        -- the source knows the issues that were linked up to here
  failures    integer not null default 0,                -- of polls, consecutive
  failed_at   timestamptz,
  failure     text
) with (fillfactor = 50);

-- reports -------------------------------------------------------------------------------------------------------

create table report (
  received_at timestamptz not null default now(),
  id          uuid not null,                             -- version 7
  source_id   integer not null,
  ticket_id   uuid,
  action      text,
  headers     jsonb not null default '{}',               -- the few that parsing needs
  body        bytea not null,                            -- unchanged: jsonb refuses some untrusted input
  body_sha256 bytea not null,
  state       smallint not null default 1 check (state in (1, 2, 3)), -- 1 stored, 2 parked, 3 test
  error       text,
  primary key (received_at, id)
) partition by range (received_at);
create table report_default partition of report default;
create index report_id on report (id);
create index report_parked on report (received_at) where state = 2;

create table report_key (
  source_id   integer not null,
  key_hash    bytea not null,
  report_id   uuid not null,
  body_sha256 bytea not null,
  seen_at     timestamptz not null default now(),
  primary key (source_id, key_hash)
);
create index report_key_seen on report_key using brin (seen_at);

-- tickets -------------------------------------------------------------------------------------------------------

create table ticket (
  id           uuid primary key,                         -- version 7
  source_id    integer not null references source,
  kind         smallint not null check (kind in (1, 2)), -- 1 alert, 2 support
  fingerprint  text not null,
  generation   integer not null default 1,
  superseded   boolean not null default false,           -- a later generation took over
  status       smallint not null default 1 check (status in (1, 2)), -- 1 open, 2 closed
  close_reason text,                                     -- completed, not_planned, duplicate
  title        text not null,
  description  text not null default '',
  url          text not null default '',
  level        text not null default '',
  environment  text not null default '',
  release      text not null default '',
  reporter_email text not null default '',
  reporter_name  text not null default '',
  occurrences  bigint not null default 0,
  next_event   integer not null default 1,
  summary_ticket_id uuid references ticket,              -- throttled: listed in this ticket, without an issue of its own
  below_threshold boolean not null default false,        -- counted only, until a route's threshold is reached
  unrouted     boolean not null default false,           -- no route took it yet: later reports ask the routes again
  recurrence_announced boolean not null default false,   -- it recurred and stays closed, and that was announced
  reported_resolved boolean not null default false,      -- the source's last word is that the problem is over
  reported_at  timestamptz not null default now(),       -- when reported_resolved changed
  opened_at    timestamptz not null default now(),
  last_seen_at timestamptz not null default now(),
  seen_before  timestamptz,                              -- last_seen_at before the latest report
  closed_at    timestamptz,
  unique (source_id, fingerprint, generation)
) with (fillfactor = 80);
create unique index ticket_current on ticket (source_id, fingerprint) where not superseded;
create index ticket_unrouted on ticket (id) where unrouted;
create index ticket_throttled on ticket (summary_ticket_id) where summary_ticket_id is not null;

-- The alerts of a ticket whose fingerprint comes from a route's template: it is over when the last of them is.
create table ticket_member (
  source_id   integer not null references source,
  fingerprint text not null,                             -- the ticket's
  member      bytea not null,                            -- digest of the fingerprint that the source gave the alert
  resolved    boolean not null,                          -- the source's last word is that the alert is over
  changed_at  timestamptz not null default now(),        -- when resolved changed
  primary key (source_id, fingerprint, member)
);
create index ticket_member_resolved on ticket_member (changed_at) where resolved;

create table event (
  ticket_id   uuid not null references ticket,
  n           integer not null,
  kind        text not null,                             -- opened, recurred, regressed, unmuted, commented, closed, reopened, ...
  data        jsonb not null default '{}',
  report_id   uuid,
  at          timestamptz not null default now(),
  primary key (ticket_id, n)
);

-- What a source added to an event after the report.
create table enrichment (
  ticket_id  uuid not null references ticket,
  event_n    integer not null,
  source_id  integer not null,
  state      smallint not null check (state in (0, 1, 2)), -- 0 pending, 1 known, 2 unavailable
  data       jsonb,
  posted     boolean not null default false,             -- part of an issue or comment, or not needed in one
  tries      integer not null default 0,
  error      text,
  due_at     timestamptz not null default now(),
  created_at timestamptz not null default now(),
  primary key (ticket_id, event_n)
) with (fillfactor = 80);
create index enrichment_due on enrichment (due_at) where state = 0;

-- The recent occurrences of tickets below their threshold.
create table below_threshold_ticket (
  ticket_id   uuid primary key references ticket,
  occurred_at timestamptz[] not null,                    -- ascending
  span        interval not null,                         -- older occurrences do not count
  counted_at  timestamptz not null default now()
) with (fillfactor = 50);
create index below_threshold_ticket_counted_at on below_threshold_ticket (counted_at);

-- The throttle: how many tickets each source opened within the current minute.
create table ticket_rate_window (
  source_id   integer primary key references source,
  started_at  timestamptz not null default now(),
  opened      integer not null default 0,                -- tickets
  summary_ticket_id uuid references ticket               -- lists the tickets above the limit; null while not throttled
) with (fillfactor = 50);

-- lanes and deliveries ------------------------------------------------------------------------------------------

create table lane (
  id             bigint generated always as identity primary key,
  ticket_id      uuid not null references ticket,
  destination_id integer not null references destination,
  state          smallint not null default 0 check (state in (0, 1, 2, 3)), -- 0 idle, 1 ready, 2 leased, 3 parked
  due_at         timestamptz not null default now(),
  lease_until    timestamptz,
  lease_id       uuid,                                   -- the fence: random, new with each claim
  holder         uuid,                                   -- the replica
  epoch          bigint not null default 0,              -- number of claims
  head_seq       bigint not null default 1,              -- first unfinished delivery
  next_seq       bigint not null default 1,              -- next free number
  park_reason    text,
  unique (ticket_id, destination_id),
  constraint lane_no_lost_wake_up check (state <> 0 or head_seq = next_seq),
  constraint lane_lease_is_whole check ((state = 2) = (lease_id is not null))
) with (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 1000);
create index lane_ready on lane (destination_id, due_at) where state = 1;
create index lane_lease_until on lane (lease_until) where state = 2;
create index lane_leased on lane (destination_id) where state = 2;
create index lane_parked on lane (destination_id) where state = 3;

create table delivery (
  lane_id      bigint not null references lane,
  seq          bigint not null,
  event_n      integer not null,
  kind         smallint not null check (kind in (1, 2, 3, 4, 5, 6)), -- 1 create, 2 comment, 3 close, 4 reopen, 5 update, 6 mail
  marker       uuid not null unique,
  coalesce_key text,                                     -- an unsent delivery gives way to a later one with the same key
  coalesced_count integer not null default 0,            -- earlier events that this delivery also covers
  state        smallint not null default 0 check (state in (0, 1, 2)), -- 0 pending, 1 done, 2 dead
  attempts     integer not null default 0,               -- without those that do not count, such as after a 429
  outcome_unknown boolean not null default false,        -- a request may have taken effect; verified before the next one
  verify_after timestamptz,                              -- not verified before
  verify_attempts integer not null default 0,            -- verifications that found nothing
  first_sent_at timestamptz,
  resent_at    timestamptz,                              -- sent again after all verifications found nothing
  duplicates_checked_at timestamptz,                     -- checked for duplicates after resent_at
  draft        jsonb,                                    -- rendered once; all attempts send the same
  expires_at   timestamptz not null default now() + interval '72 hours',
  last_outcome text,
  last_error   text,
  remote_id    text,                                     -- of a comment
  done_at      timestamptz,
  created_at   timestamptz not null default now(),
  primary key (lane_id, seq),
  unique (lane_id, event_n, kind)
) with (autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 1000);
create index delivery_pending on delivery (lane_id, seq) where state = 0;
create index delivery_dead on delivery (done_at) where state = 2;
create index delivery_resent on delivery (resent_at) where resent_at is not null and duplicates_checked_at is null;
create index delivery_done on delivery using brin (done_at);
create unique index delivery_coalesce on delivery (lane_id, coalesce_key)
  where state = 0 and first_sent_at is null and coalesce_key is not null;

create table link (
  lane_id        bigint primary key references lane,
  destination_id integer not null references destination,
  remote_id      text not null,                          -- immutable at its destination
  remote_key     text not null,
  url            text not null default '',
  state          smallint not null default 1 check (state in (1, 2)), -- 1 active, 2 orphaned
  remote_state   smallint not null default 1 check (remote_state in (1, 2)), -- 1 open, 2 closed; as last known
  remote_version timestamptz,                            -- the tracker's own time of its last change
  linked_at      timestamptz not null default now(),
  unique (destination_id, remote_id)
);
create index link_key on link (destination_id, remote_key);
create index link_linked_at on link (linked_at);

create table marker_observation (
  destination_id integer not null,
  marker         uuid not null,
  remote_id      text not null,
  remote_key     text not null,
  url            text not null default '',
  seen_by        text not null,                          -- answer, webhook, listing, find
  is_duplicate   boolean not null default false,         -- a second issue with the same marker was seen
  at             timestamptz not null default now(),
  repaired_at    timestamptz,
  primary key (destination_id, marker, remote_id)
);
create index marker_observation_duplicate on marker_observation (at) where is_duplicate and repaired_at is null;
create index marker_observation_at on marker_observation using brin (at);

create table attempt (
  started_at  timestamptz not null default now(),
  lane_id     bigint not null,
  seq         bigint not null,
  epoch       bigint not null,
  holder      uuid,
  ended_at    timestamptz not null default now(),
  outcome     text not null,
  status      integer,
  error       text
) partition by range (started_at);
create table attempt_default partition of attempt default;
create index attempt_lane on attempt (lane_id, seq);

-- webhooks ------------------------------------------------------------------------------------------------------

create table webhook (
  received_at    timestamptz not null default now(),
  id             uuid not null,
  destination_id integer not null,
  delivery_id    text,
  headers        jsonb not null default '{}',
  body           bytea not null,
  body_sha256    bytea not null,
  remote_id      text,
  remote_key     text,
  state          smallint not null default 1 check (state in (1, 2, 3, 4)), -- 1 applied, 2 nothing_to_do, 3 waiting, 4 parked
  note           text not null default '',
  primary key (received_at, id)
) partition by range (received_at);
create table webhook_default partition of webhook default;
create index webhook_waiting on webhook (destination_id, remote_id) where state = 3;

create table webhook_key (
  destination_id integer not null,
  kind           smallint not null check (kind in (1, 2)), -- 1 delivery_id, 2 body_digest
  key_hash       bytea not null,
  webhook_id     uuid not null,
  received_at    timestamptz not null default now(),
  primary key (destination_id, kind, key_hash)
);
create index webhook_key_received on webhook_key using brin (received_at);

-- maintenance ---------------------------------------------------------------------------------------------------

create table lease (
  name       text primary key,
  holder     uuid not null,
  epoch      bigint not null default 1,
  expires_at timestamptz not null
);

create table audit (
  at      timestamptz not null default now(),
  actor   text not null,
  action  text not null,
  object  text not null,
  detail  jsonb not null default '{}'
);
create index audit_at on audit using brin (at);

-- The functions that change tables run with their owner's rights, so that the service needs no such rights.

-- Create the daily partitions from today on and return their number. A table is made and then attached, which locks the
-- parent less than making it as a partition: readers and writers go on.
create function create_partitions(ahead_days integer) returns integer
language plpgsql security definer set search_path from current set timezone to 'UTC' set lock_timeout to '200ms' as $$
declare
  parent  text;
  day     date;
  child   text;
  created integer := 0;
begin
  foreach parent in array array['report', 'attempt', 'webhook'] loop
    for day in select generate_series(current_date, current_date + ahead_days, interval '1 day')::date loop
      child := format('%s_%s', parent, to_char(day, 'YYYYMMDD'));
      if to_regclass(child) is null then
        execute format('create table %I (like %I including defaults including constraints)', child, parent);
        execute format('alter table %I attach partition %I for values from (%L) to (%L)', parent, child, day, day + 1);
        created := created + 1;
      end if;
    end loop;
  end loop;
  return created;
end $$;

-- Drop the oldest expired partition and return its name; null without one. One at a time and with a short lock timeout:
-- a drop locks the parent, and while it waits for a lock all others wait behind it.
create function drop_expired_partition(report_days integer, attempt_days integer, webhook_days integer) returns text
language plpgsql security definer set search_path from current set timezone to 'UTC' set lock_timeout to '200ms' as $$
declare
  expired text;
begin
  select c.relname into expired
  from (values ('report', report_days), ('attempt', attempt_days), ('webhook', webhook_days)) p (parent, days)
  join pg_inherits i on i.inhparent = p.parent::regclass
  join pg_class c on c.oid = i.inhrelid
  where c.relname ~ ('^' || p.parent || '_[0-9]{8}$')
    and to_date(right(c.relname, 8), 'YYYYMMDD') < current_date - p.days
  order by right(c.relname, 8) limit 1;
  if expired is not null then
    execute format('drop table %I', expired);
  end if;
  return expired;
end $$;

-- Return whether every write has to be verified first: after a change of the cluster, as long as an operator ordered, and
-- as soon as the timeline differs from the one that was seen last, before any replica has noted the change. Timelines are
-- compared only where one could be read before.
create function must_verify_writes() returns boolean
language plpgsql stable security definer set search_path from current as $$
declare
  last text;
begin
  if exists (select from installation where verify_writes_until > now()) then
    return true;
  end if;
  select split_part(coalesce(cluster, ''), '/', 2) into last from installation;
  return last <> '' and last <> left(pg_walfile_name(pg_current_wal_lsn()), 8);
end $$;

select create_partitions(3);
