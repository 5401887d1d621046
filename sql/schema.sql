-- Generated from the migrations by scripts/schema.py; do not edit. Partitions are left out.

CREATE FUNCTION create_partitions(ahead_days integer) RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO '$user', 'public'
    SET "TimeZone" TO 'UTC'
    SET lock_timeout TO '200ms'
    AS $$
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

CREATE FUNCTION drop_expired_partition(report_days integer, attempt_days integer, webhook_days integer) RETURNS text
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO '$user', 'public'
    SET "TimeZone" TO 'UTC'
    SET lock_timeout TO '200ms'
    AS $_$
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
end $_$;

CREATE FUNCTION must_verify_writes() RETURNS boolean
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO '$user', 'public'
    AS $$
declare
  last text;
begin
  if exists (select from installation where verify_writes_until > now()) then
    return true;
  end if;
  select split_part(coalesce(cluster, ''), '/', 2) into last from installation;
  return last <> '' and last <> left(pg_walfile_name(pg_current_wal_lsn()), 8);
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
    actor text NOT NULL,
    action text NOT NULL,
    object text NOT NULL,
    detail jsonb DEFAULT '{}'::jsonb NOT NULL
);

CREATE TABLE below_threshold_ticket (
    ticket_id uuid NOT NULL,
    occurred_at timestamp with time zone[] NOT NULL,
    span interval NOT NULL,
    counted_at timestamp with time zone DEFAULT now() NOT NULL
)
WITH (fillfactor='50');

CREATE TABLE delivery (
    lane_id bigint NOT NULL,
    seq bigint NOT NULL,
    event_n integer NOT NULL,
    kind smallint NOT NULL,
    marker uuid NOT NULL,
    coalesce_key text,
    coalesced_count integer DEFAULT 0 NOT NULL,
    state smallint DEFAULT 0 NOT NULL,
    attempts integer DEFAULT 0 NOT NULL,
    outcome_unknown boolean DEFAULT false NOT NULL,
    verify_after timestamp with time zone,
    verify_attempts integer DEFAULT 0 NOT NULL,
    first_sent_at timestamp with time zone,
    resent_at timestamp with time zone,
    duplicates_checked_at timestamp with time zone,
    draft jsonb,
    expires_at timestamp with time zone DEFAULT (now() + '72:00:00'::interval) NOT NULL,
    last_outcome text,
    last_error text,
    remote_id text,
    done_at timestamp with time zone,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT delivery_kind_check CHECK ((kind = ANY (ARRAY[1, 2, 3, 4, 5, 6]))),
    CONSTRAINT delivery_state_check CHECK ((state = ANY (ARRAY[0, 1, 2])))
)
WITH (autovacuum_vacuum_scale_factor='0.01', autovacuum_vacuum_threshold='1000');

CREATE TABLE destination (
    id integer NOT NULL,
    slug text NOT NULL,
    kind smallint DEFAULT 1 NOT NULL,
    tracker text NOT NULL,
    settings jsonb DEFAULT '{}'::jsonb NOT NULL,
    webhook_secrets jsonb DEFAULT '[]'::jsonb NOT NULL,
    limits jsonb DEFAULT '{}'::jsonb NOT NULL,
    redact text DEFAULT 'normal'::text NOT NULL,
    provisioned boolean DEFAULT true NOT NULL,
    retired_at timestamp with time zone,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT destination_kind_check CHECK ((kind = ANY (ARRAY[1, 2, 3])))
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
    credential bytea,
    breaker smallint DEFAULT 0 NOT NULL,
    breaker_failures integer DEFAULT 0 NOT NULL,
    breaker_opened integer DEFAULT 0 NOT NULL,
    open_until timestamp with time zone,
    probe_until timestamp with time zone,
    failures integer DEFAULT 0 NOT NULL,
    failed_at timestamp with time zone,
    failure_origin text,
    failure_type text,
    failure_message text,
    failure_status integer,
    failure_excerpt text,
    failure_is_json boolean,
    blocked_until timestamp with time zone,
    pause_reason text,
    max_inflight integer DEFAULT 8 NOT NULL,
    last_claim_at timestamp with time zone DEFAULT now() NOT NULL,
    poll_due_at timestamp with time zone DEFAULT now() NOT NULL,
    polled_to timestamp with time zone,
    CONSTRAINT destination_state_breaker_check CHECK ((breaker = ANY (ARRAY[0, 1, 2]))),
    CONSTRAINT destination_state_failure_origin_check CHECK ((failure_origin = ANY (ARRAY['delivery'::text, 'poll'::text])))
)
WITH (fillfactor='50');

CREATE TABLE enrichment (
    ticket_id uuid NOT NULL,
    event_n integer NOT NULL,
    source_id integer NOT NULL,
    state smallint NOT NULL,
    data jsonb,
    posted boolean DEFAULT false NOT NULL,
    tries integer DEFAULT 0 NOT NULL,
    error text,
    due_at timestamp with time zone DEFAULT now() NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT enrichment_state_check CHECK ((state = ANY (ARRAY[0, 1, 2])))
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

CREATE TABLE installation (
    singleton boolean DEFAULT true NOT NULL,
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    marker_key bytea DEFAULT decode(replace(((gen_random_uuid())::text || (gen_random_uuid())::text), '-'::text, ''::text), 'hex'::text) NOT NULL,
    config_version bigint DEFAULT 1 NOT NULL,
    cluster text,
    verify_writes_until timestamp with time zone,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT installation_singleton_check CHECK (singleton)
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
    park_reason text,
    CONSTRAINT lane_lease_is_whole CHECK (((state = 2) = (lease_id IS NOT NULL))),
    CONSTRAINT lane_no_lost_wake_up CHECK (((state <> 0) OR (head_seq = next_seq))),
    CONSTRAINT lane_state_check CHECK ((state = ANY (ARRAY[0, 1, 2, 3])))
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
    linked_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT link_remote_state_check CHECK ((remote_state = ANY (ARRAY[1, 2]))),
    CONSTRAINT link_state_check CHECK ((state = ANY (ARRAY[1, 2])))
);

CREATE TABLE marker_observation (
    destination_id integer NOT NULL,
    marker uuid NOT NULL,
    remote_id text NOT NULL,
    remote_key text NOT NULL,
    url text DEFAULT ''::text NOT NULL,
    seen_by text NOT NULL,
    is_duplicate boolean DEFAULT false NOT NULL,
    at timestamp with time zone DEFAULT now() NOT NULL,
    repaired_at timestamp with time zone
);

CREATE TABLE rate_limit (
    credential bytea NOT NULL,
    scope text NOT NULL,
    declared_rate double precision NOT NULL,
    rate double precision NOT NULL,
    burst double precision NOT NULL,
    tokens double precision NOT NULL,
    refilled_at timestamp with time zone DEFAULT now() NOT NULL,
    limited_until timestamp with time zone,
    limited_count bigint DEFAULT 0 NOT NULL,
    CONSTRAINT rate_limit_burst_check CHECK ((burst >= (1)::double precision)),
    CONSTRAINT rate_limit_tokens_check CHECK ((tokens >= (0)::double precision))
)
WITH (fillfactor='50');

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
    error text,
    CONSTRAINT report_state_check CHECK ((state = ANY (ARRAY[1, 2, 3])))
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
    options jsonb DEFAULT '{}'::jsonb NOT NULL,
    provisioned boolean DEFAULT true NOT NULL
);

CREATE TABLE schema_migration (
    name text NOT NULL,
    sha256 text NOT NULL,
    breaking boolean DEFAULT false NOT NULL,
    applied_at timestamp with time zone DEFAULT now() NOT NULL
);

CREATE TABLE source (
    id integer NOT NULL,
    slug text NOT NULL,
    kind text NOT NULL,
    settings jsonb DEFAULT '{}'::jsonb NOT NULL,
    tokens jsonb DEFAULT '[]'::jsonb NOT NULL,
    limits jsonb DEFAULT '{}'::jsonb NOT NULL,
    provisioned boolean DEFAULT true NOT NULL,
    retired_at timestamp with time zone,
    created_at timestamp with time zone DEFAULT now() NOT NULL
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
    started_at timestamp with time zone DEFAULT now() NOT NULL,
    poll_due_at timestamp with time zone DEFAULT now() NOT NULL,
    polled_to timestamp with time zone,
    linked_to timestamp with time zone DEFAULT now() NOT NULL,
    failures integer DEFAULT 0 NOT NULL,
    failed_at timestamp with time zone,
    failure text
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
    summary_ticket_id uuid,
    below_threshold boolean DEFAULT false NOT NULL,
    unrouted boolean DEFAULT false NOT NULL,
    recurrence_announced boolean DEFAULT false NOT NULL,
    reported_resolved boolean DEFAULT false NOT NULL,
    reported_at timestamp with time zone DEFAULT now() NOT NULL,
    opened_at timestamp with time zone DEFAULT now() NOT NULL,
    last_seen_at timestamp with time zone DEFAULT now() NOT NULL,
    seen_before timestamp with time zone,
    closed_at timestamp with time zone,
    CONSTRAINT ticket_kind_check CHECK ((kind = ANY (ARRAY[1, 2]))),
    CONSTRAINT ticket_status_check CHECK ((status = ANY (ARRAY[1, 2])))
)
WITH (fillfactor='80');

CREATE TABLE ticket_member (
    source_id integer NOT NULL,
    fingerprint text NOT NULL,
    member bytea NOT NULL,
    resolved boolean NOT NULL,
    changed_at timestamp with time zone DEFAULT now() NOT NULL
);

CREATE TABLE ticket_rate_window (
    source_id integer NOT NULL,
    started_at timestamp with time zone DEFAULT now() NOT NULL,
    opened integer DEFAULT 0 NOT NULL,
    summary_ticket_id uuid
)
WITH (fillfactor='50');

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
    note text DEFAULT ''::text NOT NULL,
    CONSTRAINT webhook_state_check CHECK ((state = ANY (ARRAY[1, 2, 3, 4])))
)
PARTITION BY RANGE (received_at);

CREATE TABLE webhook_key (
    destination_id integer NOT NULL,
    kind smallint NOT NULL,
    key_hash bytea NOT NULL,
    webhook_id uuid NOT NULL,
    received_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT webhook_key_kind_check CHECK ((kind = ANY (ARRAY[1, 2])))
);

ALTER TABLE ONLY below_threshold_ticket
    ADD CONSTRAINT below_threshold_ticket_pkey PRIMARY KEY (ticket_id);

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

ALTER TABLE ONLY installation
    ADD CONSTRAINT installation_pkey PRIMARY KEY (singleton);

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

ALTER TABLE ONLY marker_observation
    ADD CONSTRAINT marker_observation_pkey PRIMARY KEY (destination_id, marker, remote_id);

ALTER TABLE ONLY rate_limit
    ADD CONSTRAINT rate_limit_pkey PRIMARY KEY (credential, scope);

ALTER TABLE ONLY report
    ADD CONSTRAINT report_pkey PRIMARY KEY (received_at, id);

ALTER TABLE ONLY report_key
    ADD CONSTRAINT report_key_pkey PRIMARY KEY (source_id, key_hash);

ALTER TABLE ONLY route
    ADD CONSTRAINT route_pkey PRIMARY KEY ("position");

ALTER TABLE ONLY schema_migration
    ADD CONSTRAINT schema_migration_pkey PRIMARY KEY (name);

ALTER TABLE ONLY source
    ADD CONSTRAINT source_pkey PRIMARY KEY (id);

ALTER TABLE ONLY source
    ADD CONSTRAINT source_slug_key UNIQUE (slug);

ALTER TABLE ONLY source_state
    ADD CONSTRAINT source_state_pkey PRIMARY KEY (source_id);

ALTER TABLE ONLY ticket_member
    ADD CONSTRAINT ticket_member_pkey PRIMARY KEY (source_id, fingerprint, member);

ALTER TABLE ONLY ticket
    ADD CONSTRAINT ticket_pkey PRIMARY KEY (id);

ALTER TABLE ONLY ticket_rate_window
    ADD CONSTRAINT ticket_rate_window_pkey PRIMARY KEY (source_id);

ALTER TABLE ONLY ticket
    ADD CONSTRAINT ticket_source_id_fingerprint_generation_key UNIQUE (source_id, fingerprint, generation);

ALTER TABLE ONLY webhook
    ADD CONSTRAINT webhook_pkey PRIMARY KEY (received_at, id);

ALTER TABLE ONLY webhook_key
    ADD CONSTRAINT webhook_key_pkey PRIMARY KEY (destination_id, kind, key_hash);

CREATE INDEX attempt_lane ON ONLY attempt USING btree (lane_id, seq);

CREATE INDEX audit_at ON audit USING brin (at);

CREATE INDEX below_threshold_ticket_counted_at ON below_threshold_ticket USING btree (counted_at);

CREATE UNIQUE INDEX delivery_coalesce ON delivery USING btree (lane_id, coalesce_key) WHERE ((state = 0) AND (first_sent_at IS NULL) AND (coalesce_key IS NOT NULL));

CREATE INDEX delivery_dead ON delivery USING btree (done_at) WHERE (state = 2);

CREATE INDEX delivery_done ON delivery USING brin (done_at);

CREATE INDEX delivery_pending ON delivery USING btree (lane_id, seq) WHERE (state = 0);

CREATE INDEX delivery_resent ON delivery USING btree (resent_at) WHERE ((resent_at IS NOT NULL) AND (duplicates_checked_at IS NULL));

CREATE INDEX enrichment_due ON enrichment USING btree (due_at) WHERE (state = 0);

CREATE INDEX lane_lease_until ON lane USING btree (lease_until) WHERE (state = 2);

CREATE INDEX lane_leased ON lane USING btree (destination_id) WHERE (state = 2);

CREATE INDEX lane_parked ON lane USING btree (destination_id) WHERE (state = 3);

CREATE INDEX lane_ready ON lane USING btree (destination_id, due_at) WHERE (state = 1);

CREATE INDEX link_key ON link USING btree (destination_id, remote_key);

CREATE INDEX link_linked_at ON link USING btree (linked_at);

CREATE INDEX marker_observation_at ON marker_observation USING brin (at);

CREATE INDEX marker_observation_duplicate ON marker_observation USING btree (at) WHERE (is_duplicate AND (repaired_at IS NULL));

CREATE INDEX report_id ON ONLY report USING btree (id);

CREATE INDEX report_parked ON ONLY report USING btree (received_at) WHERE (state = 2);

CREATE INDEX report_key_seen ON report_key USING brin (seen_at);

CREATE UNIQUE INDEX ticket_current ON ticket USING btree (source_id, fingerprint) WHERE (NOT superseded);

CREATE INDEX ticket_member_resolved ON ticket_member USING btree (changed_at) WHERE resolved;

CREATE INDEX ticket_throttled ON ticket USING btree (summary_ticket_id) WHERE (summary_ticket_id IS NOT NULL);

CREATE INDEX ticket_unrouted ON ticket USING btree (id) WHERE unrouted;

CREATE INDEX webhook_waiting ON ONLY webhook USING btree (destination_id, remote_id) WHERE (state = 3);

CREATE INDEX webhook_key_received ON webhook_key USING brin (received_at);

ALTER TABLE ONLY below_threshold_ticket
    ADD CONSTRAINT below_threshold_ticket_ticket_id_fkey FOREIGN KEY (ticket_id) REFERENCES ticket(id);

ALTER TABLE ONLY delivery
    ADD CONSTRAINT delivery_lane_id_fkey FOREIGN KEY (lane_id) REFERENCES lane(id);

ALTER TABLE ONLY destination_state
    ADD CONSTRAINT destination_state_destination_id_fkey FOREIGN KEY (destination_id) REFERENCES destination(id);

ALTER TABLE ONLY enrichment
    ADD CONSTRAINT enrichment_ticket_id_fkey FOREIGN KEY (ticket_id) REFERENCES ticket(id);

ALTER TABLE ONLY event
    ADD CONSTRAINT event_ticket_id_fkey FOREIGN KEY (ticket_id) REFERENCES ticket(id);

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

ALTER TABLE ONLY ticket_member
    ADD CONSTRAINT ticket_member_source_id_fkey FOREIGN KEY (source_id) REFERENCES source(id);

ALTER TABLE ONLY ticket_rate_window
    ADD CONSTRAINT ticket_rate_window_source_id_fkey FOREIGN KEY (source_id) REFERENCES source(id);

ALTER TABLE ONLY ticket_rate_window
    ADD CONSTRAINT ticket_rate_window_summary_ticket_id_fkey FOREIGN KEY (summary_ticket_id) REFERENCES ticket(id);

ALTER TABLE ONLY ticket
    ADD CONSTRAINT ticket_source_id_fkey FOREIGN KEY (source_id) REFERENCES source(id);

ALTER TABLE ONLY ticket
    ADD CONSTRAINT ticket_summary_ticket_id_fkey FOREIGN KEY (summary_ticket_id) REFERENCES ticket(id);
