-- Made from the migrations by scripts/schema.py; not edited by hand. Partitions are left out.

CREATE FUNCTION drop_partition(report_days integer, attempt_days integer, webhook_days integer) RETURNS text
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO '$user', 'public'
    SET "TimeZone" TO 'UTC'
    SET lock_timeout TO '200ms'
    AS $_$
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
end $_$;

CREATE FUNCTION is_careful() RETURNS boolean
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO '$user', 'public'
    AS $$
declare
  last text;
begin
  if exists (select from installation where careful_until > now()) then
    return true;
  end if;
  select split_part(coalesce(cluster, ''), '/', 2) into last from installation;
  return last <> '' and last <> left(pg_walfile_name(pg_current_wal_lsn()), 8);
end $$;

CREATE FUNCTION keep_partitions(ahead_days integer, report_days integer, attempt_days integer, webhook_days integer) RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO '$user', 'public'
    SET "TimeZone" TO 'UTC'
    AS $_$
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
end $_$;

CREATE FUNCTION make_partitions(ahead_days integer) RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO '$user', 'public'
    SET "TimeZone" TO 'UTC'
    SET lock_timeout TO '200ms'
    AS $$
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

CREATE TABLE attempt (
    started_at timestamp with time zone DEFAULT now() NOT NULL,
    lane_id bigint NOT NULL,
    seq bigint NOT NULL,
    epoch bigint NOT NULL,
    holder uuid,
    ended_at timestamp with time zone DEFAULT now() NOT NULL,
    outcome text NOT NULL,
    status integer,
    error text
)
PARTITION BY RANGE (started_at);

CREATE TABLE audit (
    at timestamp with time zone DEFAULT now() NOT NULL,
    who text NOT NULL,
    what text NOT NULL,
    object text NOT NULL,
    detail jsonb DEFAULT '{}'::jsonb NOT NULL
);

CREATE TABLE budget (
    credential bytea NOT NULL,
    scope text NOT NULL,
    declared_rate double precision NOT NULL,
    rate double precision NOT NULL,
    burst double precision NOT NULL,
    tokens double precision NOT NULL,
    refilled_at timestamp with time zone DEFAULT now() NOT NULL,
    limited_until timestamp with time zone,
    limited_count bigint DEFAULT 0 NOT NULL,
    CONSTRAINT budget_burst_check CHECK ((burst >= (1)::double precision)),
    CONSTRAINT budget_tokens_check CHECK ((tokens >= (0)::double precision))
)
WITH (fillfactor='50');

CREATE TABLE delivery (
    lane_id bigint NOT NULL,
    seq bigint NOT NULL,
    event_n integer NOT NULL,
    kind smallint NOT NULL,
    marker uuid NOT NULL,
    collapse_key text,
    state smallint DEFAULT 0 NOT NULL,
    attempts integer DEFAULT 0 NOT NULL,
    in_doubt boolean DEFAULT false NOT NULL,
    doubt_until timestamp with time zone,
    looks integer DEFAULT 0 NOT NULL,
    first_sent_at timestamp with time zone,
    draft jsonb,
    expires_at timestamp with time zone DEFAULT (now() + '72:00:00'::interval) NOT NULL,
    last_class text,
    last_error text,
    remote_id text,
    done_at timestamp with time zone,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    resent_at timestamp with time zone,
    swept_at timestamp with time zone,
    collapsed integer DEFAULT 0 NOT NULL
)
WITH (autovacuum_vacuum_scale_factor='0.01', autovacuum_vacuum_threshold='1000');

CREATE TABLE destination (
    id integer NOT NULL,
    slug text NOT NULL,
    kind smallint DEFAULT 1 NOT NULL,
    tracker text NOT NULL,
    settings jsonb DEFAULT '{}'::jsonb NOT NULL,
    webhook_secrets jsonb DEFAULT '[]'::jsonb NOT NULL,
    provisioned boolean DEFAULT true NOT NULL,
    retired_at timestamp with time zone,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    limits jsonb DEFAULT '{}'::jsonb NOT NULL,
    redact text DEFAULT 'normal'::text NOT NULL
);

ALTER TABLE destination ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME destination_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE destination_state (
    destination_id integer NOT NULL,
    breaker smallint DEFAULT 0 NOT NULL,
    failures integer DEFAULT 0 NOT NULL,
    open_until timestamp with time zone,
    probe_holder uuid,
    probe_until timestamp with time zone,
    blocked_until timestamp with time zone,
    paused_why text,
    max_inflight integer DEFAULT 8 NOT NULL,
    last_claim_at timestamp with time zone DEFAULT now() NOT NULL,
    poll_due_at timestamp with time zone DEFAULT now() NOT NULL,
    polled_to timestamp with time zone,
    failed_at timestamp with time zone,
    failure_type text,
    failure_message text,
    failure_status integer,
    failure_excerpt text,
    failure_is_json boolean,
    credential bytea,
    breaker_failures integer DEFAULT 0 NOT NULL,
    breaker_opened integer DEFAULT 0 NOT NULL
)
WITH (fillfactor='50');

CREATE TABLE enrichment (
    ticket_id uuid NOT NULL,
    event_n integer NOT NULL,
    source_id integer NOT NULL,
    state smallint NOT NULL,
    data jsonb,
    said boolean DEFAULT false NOT NULL,
    tries integer DEFAULT 0 NOT NULL,
    error text,
    due_at timestamp with time zone DEFAULT now() NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL
)
WITH (fillfactor='80');

CREATE TABLE event (
    ticket_id uuid NOT NULL,
    n integer NOT NULL,
    kind text NOT NULL,
    data jsonb DEFAULT '{}'::jsonb NOT NULL,
    report_id uuid,
    at timestamp with time zone DEFAULT now() NOT NULL
);

CREATE TABLE held_ticket (
    ticket_id uuid NOT NULL,
    seen timestamp with time zone[] NOT NULL,
    span interval NOT NULL,
    counted_at timestamp with time zone DEFAULT now() NOT NULL
)
WITH (fillfactor='50');

CREATE TABLE installation (
    only_row boolean DEFAULT true NOT NULL,
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    marker_key bytea DEFAULT decode(replace(((gen_random_uuid())::text || (gen_random_uuid())::text), '-'::text, ''::text), 'hex'::text) NOT NULL,
    config_version bigint DEFAULT 1 NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    cluster text,
    careful_until timestamp with time zone,
    CONSTRAINT installation_only_row_check CHECK (only_row)
);

CREATE TABLE lane (
    id bigint NOT NULL,
    ticket_id uuid NOT NULL,
    destination_id integer NOT NULL,
    state smallint DEFAULT 0 NOT NULL,
    due_at timestamp with time zone DEFAULT now() NOT NULL,
    lease_until timestamp with time zone,
    lease_id uuid,
    holder uuid,
    epoch bigint DEFAULT 0 NOT NULL,
    head_seq bigint DEFAULT 1 NOT NULL,
    next_seq bigint DEFAULT 1 NOT NULL,
    parked_why text,
    CONSTRAINT lane_lease_is_whole CHECK (((state = 2) = (lease_id IS NOT NULL))),
    CONSTRAINT lane_no_lost_wake_up CHECK (((state <> 0) OR (head_seq = next_seq)))
)
WITH (fillfactor='70', autovacuum_vacuum_scale_factor='0.01', autovacuum_vacuum_threshold='1000');

ALTER TABLE lane ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME lane_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE lease (
    name text NOT NULL,
    holder uuid NOT NULL,
    epoch bigint DEFAULT 1 NOT NULL,
    expires_at timestamp with time zone NOT NULL
);

CREATE TABLE link (
    lane_id bigint NOT NULL,
    destination_id integer NOT NULL,
    remote_id text NOT NULL,
    remote_key text NOT NULL,
    url text DEFAULT ''::text NOT NULL,
    state smallint DEFAULT 1 NOT NULL,
    remote_state smallint DEFAULT 1 NOT NULL,
    remote_version timestamp with time zone,
    linked_at timestamp with time zone DEFAULT now() NOT NULL
);

CREATE TABLE report (
    received_at timestamp with time zone DEFAULT now() NOT NULL,
    id uuid NOT NULL,
    source_id integer NOT NULL,
    ticket_id uuid,
    action text,
    headers jsonb DEFAULT '{}'::jsonb NOT NULL,
    body bytea NOT NULL,
    body_sha256 bytea NOT NULL,
    state smallint DEFAULT 1 NOT NULL,
    error text
)
PARTITION BY RANGE (received_at);

CREATE TABLE report_key (
    source_id integer NOT NULL,
    key_hash bytea NOT NULL,
    report_id uuid NOT NULL,
    body_sha256 bytea NOT NULL,
    seen_at timestamp with time zone DEFAULT now() NOT NULL
);

CREATE TABLE route (
    "position" integer NOT NULL,
    match jsonb DEFAULT '{}'::jsonb NOT NULL,
    destinations integer[] NOT NULL,
    continues boolean DEFAULT false NOT NULL,
    provisioned boolean DEFAULT true NOT NULL,
    options jsonb DEFAULT '{}'::jsonb NOT NULL
);

CREATE TABLE schema_migration (
    name text NOT NULL,
    sha256 text NOT NULL,
    breaking boolean DEFAULT false NOT NULL,
    applied_at timestamp with time zone DEFAULT now() NOT NULL
);

CREATE TABLE sighting (
    destination_id integer NOT NULL,
    marker uuid NOT NULL,
    remote_id text NOT NULL,
    remote_key text NOT NULL,
    url text DEFAULT ''::text NOT NULL,
    seen_by text NOT NULL,
    at timestamp with time zone DEFAULT now() NOT NULL,
    twin boolean DEFAULT false NOT NULL,
    repaired_at timestamp with time zone
);

CREATE TABLE source (
    id integer NOT NULL,
    slug text NOT NULL,
    kind text NOT NULL,
    settings jsonb DEFAULT '{}'::jsonb NOT NULL,
    tokens jsonb DEFAULT '[]'::jsonb NOT NULL,
    provisioned boolean DEFAULT true NOT NULL,
    retired_at timestamp with time zone,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    limits jsonb DEFAULT '{}'::jsonb NOT NULL
);

ALTER TABLE source ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME source_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE source_state (
    source_id integer NOT NULL,
    began_at timestamp with time zone DEFAULT now() NOT NULL,
    poll_due_at timestamp with time zone DEFAULT now() NOT NULL,
    polled_to timestamp with time zone,
    linked_to timestamp with time zone DEFAULT now() NOT NULL,
    failures integer DEFAULT 0 NOT NULL,
    failed_at timestamp with time zone,
    failure text
)
WITH (fillfactor='50');

CREATE TABLE storm (
    source_id integer NOT NULL,
    began_at timestamp with time zone DEFAULT now() NOT NULL,
    opened integer DEFAULT 0 NOT NULL,
    parent_id uuid
)
WITH (fillfactor='50');

CREATE TABLE ticket (
    id uuid NOT NULL,
    source_id integer NOT NULL,
    kind smallint NOT NULL,
    fingerprint text NOT NULL,
    generation integer DEFAULT 1 NOT NULL,
    superseded boolean DEFAULT false NOT NULL,
    status smallint DEFAULT 1 NOT NULL,
    close_reason text,
    title text NOT NULL,
    description text DEFAULT ''::text NOT NULL,
    url text DEFAULT ''::text NOT NULL,
    level text DEFAULT ''::text NOT NULL,
    environment text DEFAULT ''::text NOT NULL,
    release text DEFAULT ''::text NOT NULL,
    reporter_email text DEFAULT ''::text NOT NULL,
    reporter_name text DEFAULT ''::text NOT NULL,
    occurrences bigint DEFAULT 0 NOT NULL,
    next_event integer DEFAULT 1 NOT NULL,
    opened_at timestamp with time zone DEFAULT now() NOT NULL,
    last_seen_at timestamp with time zone DEFAULT now() NOT NULL,
    closed_at timestamp with time zone,
    storm_parent uuid,
    held boolean DEFAULT false NOT NULL,
    noted boolean DEFAULT false NOT NULL,
    seen_before timestamp with time zone
)
WITH (fillfactor='80');

CREATE TABLE webhook (
    received_at timestamp with time zone DEFAULT now() NOT NULL,
    id uuid NOT NULL,
    destination_id integer NOT NULL,
    delivery_id text,
    headers jsonb DEFAULT '{}'::jsonb NOT NULL,
    body bytea NOT NULL,
    body_sha256 bytea NOT NULL,
    remote_id text,
    remote_key text,
    state smallint DEFAULT 1 NOT NULL,
    note text DEFAULT ''::text NOT NULL
)
PARTITION BY RANGE (received_at);

CREATE TABLE webhook_key (
    destination_id integer NOT NULL,
    kind smallint NOT NULL,
    key_hash bytea NOT NULL,
    webhook_id uuid NOT NULL,
    received_at timestamp with time zone DEFAULT now() NOT NULL
);

ALTER TABLE ONLY budget
    ADD CONSTRAINT budget_pkey PRIMARY KEY (credential, scope);

ALTER TABLE ONLY delivery
    ADD CONSTRAINT delivery_lane_id_event_n_kind_key UNIQUE (lane_id, event_n, kind);

ALTER TABLE ONLY delivery
    ADD CONSTRAINT delivery_marker_key UNIQUE (marker);

ALTER TABLE ONLY delivery
    ADD CONSTRAINT delivery_pkey PRIMARY KEY (lane_id, seq);

ALTER TABLE ONLY destination
    ADD CONSTRAINT destination_pkey PRIMARY KEY (id);

ALTER TABLE ONLY destination
    ADD CONSTRAINT destination_slug_key UNIQUE (slug);

ALTER TABLE ONLY destination_state
    ADD CONSTRAINT destination_state_pkey PRIMARY KEY (destination_id);

ALTER TABLE ONLY enrichment
    ADD CONSTRAINT enrichment_pkey PRIMARY KEY (ticket_id, event_n);

ALTER TABLE ONLY event
    ADD CONSTRAINT event_pkey PRIMARY KEY (ticket_id, n);

ALTER TABLE ONLY held_ticket
    ADD CONSTRAINT held_ticket_pkey PRIMARY KEY (ticket_id);

ALTER TABLE ONLY installation
    ADD CONSTRAINT installation_pkey PRIMARY KEY (only_row);

ALTER TABLE ONLY lane
    ADD CONSTRAINT lane_pkey PRIMARY KEY (id);

ALTER TABLE ONLY lane
    ADD CONSTRAINT lane_ticket_id_destination_id_key UNIQUE (ticket_id, destination_id);

ALTER TABLE ONLY lease
    ADD CONSTRAINT lease_pkey PRIMARY KEY (name);

ALTER TABLE ONLY link
    ADD CONSTRAINT link_destination_id_remote_id_key UNIQUE (destination_id, remote_id);

ALTER TABLE ONLY link
    ADD CONSTRAINT link_pkey PRIMARY KEY (lane_id);

ALTER TABLE ONLY report
    ADD CONSTRAINT report_pkey PRIMARY KEY (received_at, id);

ALTER TABLE ONLY report_key
    ADD CONSTRAINT report_key_pkey PRIMARY KEY (source_id, key_hash);

ALTER TABLE ONLY route
    ADD CONSTRAINT route_pkey PRIMARY KEY ("position");

ALTER TABLE ONLY schema_migration
    ADD CONSTRAINT schema_migration_pkey PRIMARY KEY (name);

ALTER TABLE ONLY sighting
    ADD CONSTRAINT sighting_pkey PRIMARY KEY (destination_id, marker, remote_id);

ALTER TABLE ONLY source
    ADD CONSTRAINT source_pkey PRIMARY KEY (id);

ALTER TABLE ONLY source
    ADD CONSTRAINT source_slug_key UNIQUE (slug);

ALTER TABLE ONLY source_state
    ADD CONSTRAINT source_state_pkey PRIMARY KEY (source_id);

ALTER TABLE ONLY storm
    ADD CONSTRAINT storm_pkey PRIMARY KEY (source_id);

ALTER TABLE ONLY ticket
    ADD CONSTRAINT ticket_pkey PRIMARY KEY (id);

ALTER TABLE ONLY ticket
    ADD CONSTRAINT ticket_source_id_fingerprint_generation_key UNIQUE (source_id, fingerprint, generation);

ALTER TABLE ONLY webhook
    ADD CONSTRAINT webhook_pkey PRIMARY KEY (received_at, id);

ALTER TABLE ONLY webhook_key
    ADD CONSTRAINT webhook_key_pkey PRIMARY KEY (destination_id, kind, key_hash);

CREATE INDEX attempt_lane ON ONLY attempt USING btree (lane_id, seq);

CREATE INDEX audit_at ON audit USING brin (at);

CREATE UNIQUE INDEX delivery_collapse ON delivery USING btree (lane_id, collapse_key) WHERE ((state = 0) AND (first_sent_at IS NULL) AND (collapse_key IS NOT NULL));

CREATE INDEX delivery_dead ON delivery USING btree (done_at) WHERE (state = 2);

CREATE INDEX delivery_done ON delivery USING brin (done_at);

CREATE INDEX delivery_pending ON delivery USING btree (lane_id, seq) WHERE (state = 0);

CREATE INDEX delivery_resent ON delivery USING btree (resent_at) WHERE ((resent_at IS NOT NULL) AND (swept_at IS NULL));

CREATE INDEX enrichment_due ON enrichment USING btree (due_at) WHERE (state = 0);

CREATE INDEX held_ticket_counted_at ON held_ticket USING btree (counted_at);

CREATE INDEX lane_leased_at ON lane USING btree (destination_id) WHERE (state = 2);

CREATE INDEX lane_leased_until ON lane USING btree (lease_until) WHERE (state = 2);

CREATE INDEX lane_parked ON lane USING btree (destination_id) WHERE (state = 3);

CREATE INDEX lane_ready ON lane USING btree (destination_id, due_at) WHERE (state = 1);

CREATE INDEX link_key ON link USING btree (destination_id, remote_key);

CREATE INDEX link_linked_at ON link USING btree (linked_at);

CREATE INDEX report_id ON ONLY report USING btree (id);

CREATE INDEX report_parked ON ONLY report USING btree (received_at) WHERE (state = 2);

CREATE INDEX report_key_seen ON report_key USING brin (seen_at);

CREATE INDEX sighting_at ON sighting USING brin (at);

CREATE INDEX sighting_twin ON sighting USING btree (at) WHERE (twin AND (repaired_at IS NULL));

CREATE UNIQUE INDEX ticket_current ON ticket USING btree (source_id, fingerprint) WHERE (NOT superseded);

CREATE INDEX ticket_storm ON ticket USING btree (storm_parent) WHERE (storm_parent IS NOT NULL);

CREATE INDEX webhook_waiting ON ONLY webhook USING btree (destination_id, remote_id) WHERE (state = 3);

CREATE INDEX webhook_key_received ON webhook_key USING brin (received_at);

ALTER TABLE ONLY delivery
    ADD CONSTRAINT delivery_lane_id_fkey FOREIGN KEY (lane_id) REFERENCES lane(id);

ALTER TABLE ONLY destination_state
    ADD CONSTRAINT destination_state_destination_id_fkey FOREIGN KEY (destination_id) REFERENCES destination(id);

ALTER TABLE ONLY enrichment
    ADD CONSTRAINT enrichment_ticket_id_fkey FOREIGN KEY (ticket_id) REFERENCES ticket(id);

ALTER TABLE ONLY event
    ADD CONSTRAINT event_ticket_id_fkey FOREIGN KEY (ticket_id) REFERENCES ticket(id);

ALTER TABLE ONLY held_ticket
    ADD CONSTRAINT held_ticket_ticket_id_fkey FOREIGN KEY (ticket_id) REFERENCES ticket(id);

ALTER TABLE ONLY lane
    ADD CONSTRAINT lane_destination_id_fkey FOREIGN KEY (destination_id) REFERENCES destination(id);

ALTER TABLE ONLY lane
    ADD CONSTRAINT lane_ticket_id_fkey FOREIGN KEY (ticket_id) REFERENCES ticket(id);

ALTER TABLE ONLY link
    ADD CONSTRAINT link_destination_id_fkey FOREIGN KEY (destination_id) REFERENCES destination(id);

ALTER TABLE ONLY link
    ADD CONSTRAINT link_lane_id_fkey FOREIGN KEY (lane_id) REFERENCES lane(id);

ALTER TABLE ONLY source_state
    ADD CONSTRAINT source_state_source_id_fkey FOREIGN KEY (source_id) REFERENCES source(id);

ALTER TABLE ONLY storm
    ADD CONSTRAINT storm_parent_id_fkey FOREIGN KEY (parent_id) REFERENCES ticket(id);

ALTER TABLE ONLY storm
    ADD CONSTRAINT storm_source_id_fkey FOREIGN KEY (source_id) REFERENCES source(id);

ALTER TABLE ONLY ticket
    ADD CONSTRAINT ticket_source_id_fkey FOREIGN KEY (source_id) REFERENCES source(id);

ALTER TABLE ONLY ticket
    ADD CONSTRAINT ticket_storm_parent_fkey FOREIGN KEY (storm_parent) REFERENCES ticket(id);
