-- Sources that are asked and told. Only adds: the program before works on beside it, and knows nothing of it.

-- How a source with an API stands; one row from the first time it is used.
create table source_state (
  source_id   integer primary key references source,
  began_at    timestamptz not null default now(),        -- what happened before is not asked for
  poll_due_at timestamptz not null default now(),        -- whose turn it is holds it until then
  polled_to   timestamptz,                               -- everything up to here was asked for
  linked_to   timestamptz not null default now(),        -- the source was told of issues made up to here
  failures    integer not null default 0,                -- of asking, in a row
  failed_at   timestamptz,
  failure     text
) with (fillfactor = 50);

-- What a source said beyond a report, kept beside the event that the report made.
create table enrichment (
  ticket_id  uuid not null references ticket,
  event_n    integer not null,
  source_id  integer not null,
  state      smallint not null,                          -- 0 still to come, 1 known, 2 the source has no more of it
  data       jsonb,
  said       boolean not null default false,             -- it stands in an issue or comment, or need not
  tries      integer not null default 0,
  error      text,
  due_at     timestamptz not null default now(),
  created_at timestamptz not null default now(),
  primary key (ticket_id, event_n)
) with (fillfactor = 80);
create index enrichment_due on enrichment (due_at) where state = 0;

-- New links are told to sources.
create index link_linked_at on link (linked_at);

-- What else a rule says: recurrence, quiet hours, templates.
alter table route add column options jsonb not null default '{}';

-- How much of strangers' texts is masked before they go there: normal, strict, off.
alter table destination add column redact text not null default 'normal';

-- What is asked of a problem that is reported again.
alter table ticket add column held boolean not null default false;   -- below its threshold: counted, and goes nowhere
alter table ticket add column noted boolean not null default false;  -- it came back and stays closed, which was said
alter table ticket add column seen_before timestamptz;               -- when it was reported the time before the last

-- When tickets that are held were reported, as far as their thresholds ask.
create table held_ticket (
  ticket_id  uuid primary key references ticket,
  seen       timestamptz[] not null,                     -- the newest last
  span       interval not null,                          -- older ones count no more
  counted_at timestamptz not null default now()
) with (fillfactor = 50);
create index held_ticket_counted_at on held_ticket (counted_at);
