-- The first schema. Every state is a smallint with its meaning beside it; every time is the database's.

create table installation (
  only_row    boolean primary key default true check (only_row),
  id          uuid not null default gen_random_uuid(),   -- part of every marker
  marker_key  bytea not null default decode(replace(gen_random_uuid()::text || gen_random_uuid()::text, '-', ''), 'hex'),
  config_version bigint not null default 1,              -- raised by each apply; replicas reload when it moved
  created_at  timestamptz not null default now()
);
insert into installation default values;

-- configuration -------------------------------------------------------------------------------------------------

create table source (
  id          integer generated always as identity primary key,
  slug        text not null unique,
  kind        text not null,
  settings    jsonb not null default '{}',
  tokens      jsonb not null default '[]',               -- [{"env":..} | {"file":..} | {"sha256":..}]
  provisioned boolean not null default true,             -- comes from a file; read-only elsewhere
  retired_at  timestamptz,                               -- no longer configured; kept for its tickets
  created_at  timestamptz not null default now()
);

create table destination (
  id          integer generated always as identity primary key,
  slug        text not null unique,
  kind        smallint not null default 1,               -- 1 tracker, 2 mail
  tracker     text not null,
  settings    jsonb not null default '{}',               -- secrets inside: {"env":..} | {"file":..} | {"sealed":..}
  webhook_secrets jsonb not null default '[]',
  provisioned boolean not null default true,
  retired_at  timestamptz,
  created_at  timestamptz not null default now()
);
insert into destination (slug, kind, tracker) values ('@mail', 2, 'mail');

create table route (
  position     integer primary key,                      -- rules are tried in this order
  match        jsonb not null default '{}',
  destinations integer[] not null,
  continues    boolean not null default false,           -- go on to the next rule after a match
  provisioned  boolean not null default true
);

create table destination_state (
  destination_id integer primary key references destination,
  breaker        smallint not null default 0,            -- 0 closed, 1 half open, 2 open
  failures       integer not null default 0,             -- consecutive
  open_until     timestamptz,
  probe_holder   uuid,
  probe_until    timestamptz,
  blocked_until  timestamptz,                            -- asked to wait (rate limit), or a pause after refused credentials
  paused_why     text,                                   -- 'operator' or 'retired': nothing is claimed
  max_inflight   integer not null default 8,
  last_claim_at  timestamptz not null default now(),
  poll_due_at    timestamptz not null default now(),
  polled_to      timestamptz,                            -- changes up to here are known
  failed_at      timestamptz,                            -- the last failure; null again after a success
  failure_type   text,
  failure_message text,
  failure_status integer,
  failure_excerpt text,
  failure_is_json boolean
) with (fillfactor = 50);
insert into destination_state (destination_id) select id from destination;

-- reports -------------------------------------------------------------------------------------------------------

create table report (
  received_at timestamptz not null default now(),
  id          uuid not null,                             -- version 7
  source_id   integer not null,
  ticket_id   uuid,
  action      text,
  headers     jsonb not null default '{}',               -- the few that reading it needs
  body        bytea not null,                            -- as it came: jsonb refuses what strangers send
  body_sha256 bytea not null,
  state       smallint not null default 1,               -- 1 stored, 2 parked (our code could not decide), 3 test
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
  kind         smallint not null,                        -- 1 alert, 2 support
  fingerprint  text not null,
  generation   integer not null default 1,
  superseded   boolean not null default false,           -- a later generation took over
  status       smallint not null default 1,              -- 1 open, 2 closed
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
  opened_at    timestamptz not null default now(),
  last_seen_at timestamptz not null default now(),
  closed_at    timestamptz,
  unique (source_id, fingerprint, generation)
) with (fillfactor = 80);
create unique index ticket_current on ticket (source_id, fingerprint) where not superseded;

create table event (
  ticket_id   uuid not null references ticket,
  n           integer not null,
  kind        text not null,                             -- opened, recurred, regressed, unmuted, commented, closed, reopened
  data        jsonb not null default '{}',
  report_id   uuid,
  at          timestamptz not null default now(),
  primary key (ticket_id, n)
);

-- lanes and deliveries ------------------------------------------------------------------------------------------

create table lane (
  id             bigint generated always as identity primary key,
  ticket_id      uuid not null references ticket,
  destination_id integer not null references destination,
  state          smallint not null default 0,            -- 0 idle, 1 ready, 2 leased, 3 parked
  due_at         timestamptz not null default now(),
  lease_until    timestamptz,
  lease_id       uuid,                                   -- the fence: random, new with each claim
  holder         uuid,
  epoch          bigint not null default 0,
  head_seq       bigint not null default 1,              -- first unfinished delivery
  next_seq       bigint not null default 1,              -- next free number
  parked_why     text,
  unique (ticket_id, destination_id),
  constraint lane_no_lost_wake_up check (state <> 0 or head_seq = next_seq),
  constraint lane_lease_is_whole check ((state = 2) = (lease_id is not null))
) with (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 1000);
create index lane_ready on lane (destination_id, due_at) where state = 1;
create index lane_leased_until on lane (lease_until) where state = 2;
create index lane_leased_at on lane (destination_id) where state = 2;
create index lane_parked on lane (destination_id) where state = 3;

create table delivery (
  lane_id      bigint not null references lane,
  seq          bigint not null,
  event_n      integer not null,
  kind         smallint not null,                        -- 1 create, 2 comment, 3 close, 4 reopen, 5 update, 6 mail
  marker       uuid not null unique,
  collapse_key text,
  state        smallint not null default 0,              -- 0 pending, 1 done, 2 dead, 3 skipped
  attempts     integer not null default 0,               -- those that count
  in_doubt     boolean not null default false,           -- a request left; its outcome is unknown
  doubt_until  timestamptz,                              -- not looked for before
  looks        integer not null default 0,               -- looks that found nothing
  first_sent_at timestamptz,
  draft        jsonb,                                    -- rendered once; repeats send the same
  expires_at   timestamptz not null default now() + interval '72 hours',
  last_class   text,
  last_error   text,
  remote_id    text,                                     -- of a comment
  done_at      timestamptz,
  created_at   timestamptz not null default now(),
  primary key (lane_id, seq),
  unique (lane_id, event_n, kind)
) with (autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 1000);
create index delivery_pending on delivery (lane_id, seq) where state = 0;
create index delivery_dead on delivery (done_at) where state = 2;
create unique index delivery_collapse on delivery (lane_id, collapse_key)
  where state = 0 and first_sent_at is null and collapse_key is not null;

create table link (
  lane_id        bigint primary key references lane,
  destination_id integer not null references destination,
  remote_id      text not null,                          -- immutable at its destination
  remote_key     text not null,
  url            text not null default '',
  state          smallint not null default 1,            -- 1 active, 2 orphaned
  remote_state   smallint not null default 1,            -- 1 open, 2 closed, as last known
  remote_version timestamptz,                            -- the tracker's own time of its last change
  linked_at      timestamptz not null default now(),
  unique (destination_id, remote_id)
);
create index link_key on link (destination_id, remote_key);

create table sighting (
  destination_id integer not null,
  marker         uuid not null,
  remote_id      text not null,
  remote_key     text not null,
  url            text not null default '',
  seen_by        text not null,                          -- answer, webhook, listing, find
  at             timestamptz not null default now(),
  primary key (destination_id, marker, remote_id)
);

create table attempt (
  started_at  timestamptz not null default now(),
  lane_id     bigint not null,
  seq         bigint not null,
  epoch       bigint not null,
  holder      uuid,
  ended_at    timestamptz not null default now(),
  outcome     text not null,                             -- done, found, or a class of failure
  status      integer,
  error       text
) partition by range (started_at);
create table attempt_default partition of attempt default;
create index attempt_lane on attempt (lane_id, seq);

create table budget (
  destination_id integer not null references destination,
  scope       text not null,
  rate        double precision not null,                 -- tokens per second
  burst       double precision not null,
  tokens      double precision not null,
  refilled_at timestamptz not null default now(),
  primary key (destination_id, scope)
) with (fillfactor = 50);

create table own_write (
  destination_id integer not null,
  remote_id      text not null,
  field          text not null,
  value_hash     bytea not null,
  remote_version timestamptz,
  at             timestamptz not null default now()
);
create index own_write_of on own_write (destination_id, remote_id, field);

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
  state          smallint not null default 1,            -- 1 applied, 2 nothing to do, 3 no link yet, 4 parked
  note           text not null default '',
  primary key (received_at, id)
) partition by range (received_at);
create table webhook_default partition of webhook default;
create index webhook_waiting on webhook (destination_id, remote_id) where state = 3;

create table webhook_key (
  destination_id integer not null,
  kind           smallint not null,                      -- 1 delivery id, 2 body digest
  key_hash       bytea not null,
  webhook_id     uuid not null,
  received_at    timestamptz not null default now(),
  primary key (destination_id, kind, key_hash)
);
create index webhook_key_received on webhook_key using brin (received_at);

-- housekeeping --------------------------------------------------------------------------------------------------

create table lease (
  name       text primary key,
  holder     uuid not null,
  epoch      bigint not null default 1,
  expires_at timestamptz not null
);

create table audit (
  at      timestamptz not null default now(),
  who     text not null,
  what    text not null,
  object  text not null,
  detail  jsonb not null default '{}'
);
create index audit_at on audit using brin (at);

-- Makes the daily partitions from today on, and drops those past their time. Runs with its owner's rights, so that
-- the service needs none to change tables.
create function keep_partitions(ahead_days integer, report_days integer, attempt_days integer, webhook_days integer)
returns integer language plpgsql security definer set search_path from current set timezone to 'UTC' as $$
declare
  parent text;
  keep   integer;
  day    date;
  child  text;
  old    record;
  made   integer := 0;
begin
  for parent, keep in values ('report', report_days), ('attempt', attempt_days), ('webhook', webhook_days) loop
    for day in select generate_series(current_date, current_date + ahead_days, interval '1 day')::date loop
      child := format('%s_%s', parent, to_char(day, 'YYYYMMDD'));
      if to_regclass(child) is null then
        execute format('create table %I partition of %I for values from (%L) to (%L)', child, parent, day, day + 1);
        made := made + 1;
      end if;
    end loop;
    for old in
      select inhrelid::regclass::text as name from pg_inherits
      where inhparent = parent::regclass and inhrelid::regclass::text ~ ('^' || parent || '_[0-9]{8}$')
        and to_date(right(inhrelid::regclass::text, 8), 'YYYYMMDD') < current_date - keep
    loop
      execute format('drop table %s', old.name);
    end loop;
  end loop;
  return made;
end $$;
select keep_partitions(3, 14, 30, 14);
