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
