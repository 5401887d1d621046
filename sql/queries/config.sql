-- Sources, destinations and routes.

-- name: installation
-- Who this installation is.
select id, marker_key, config_version from installation

-- name: config_version
-- Whether the configuration moved.
select config_version from installation

-- name: lock_config
-- One apply at a time.
select config_version from installation for update

-- name: raise_config_version
-- Tells every replica to load the configuration anew.
update installation set config_version = config_version + 1

-- name: sources
-- All sources, retired ones too.
select id, slug, kind, settings, tokens, limits, provisioned, retired_at is not null as retired from source order by id

-- name: destinations
-- All destinations, retired ones too.
select id, slug, kind, tracker, settings, webhook_secrets, limits, redact, provisioned, retired_at is not null as retired
from destination order by id

-- name: routes
-- The rules in their order.
select position, match, destinations, continues, options from route order by position

-- name: put_source
-- Makes a source as the file says.
insert into source (slug, kind, settings, tokens, limits) values ($1, $2, $3::jsonb, $4::jsonb, $5::jsonb)
on conflict (slug) do update
set kind = excluded.kind, settings = excluded.settings, tokens = excluded.tokens, limits = excluded.limits,
    retired_at = null, provisioned = true

-- name: put_destination
-- Makes a destination as the file says, worked on eight at once if it says nothing of that. What was blocked for its old
-- settings is free to try the new ones.
with put as (
  insert into destination (slug, tracker, settings, webhook_secrets, limits, redact)
  values ($1, $2, $3::jsonb, $4::jsonb, $5::jsonb, $7)
  on conflict (slug) do update
  set tracker = excluded.tracker, settings = excluded.settings, webhook_secrets = excluded.webhook_secrets,
      limits = excluded.limits, redact = excluded.redact, retired_at = null, provisioned = true
  returning id)
insert into destination_state (destination_id, max_inflight) select id, coalesce($6::integer, 8) from put
on conflict (destination_id) do update
set blocked_until = null, poll_due_at = now(), max_inflight = excluded.max_inflight,
    breaker = 0, breaker_failures = 0, breaker_opened = 0, open_until = null, probe_until = null,
    paused_why = nullif(destination_state.paused_why, 'retired')

-- name: retire_source
-- The file names it no longer; its tickets stay.
update source set retired_at = now() where slug = $1

-- name: retire_destination
-- The file names it no longer; what waits for it waits until it is named again.
with gone as (update destination set retired_at = now() where slug = $1 returning id)
update destination_state set paused_why = 'retired' from gone where destination_id = gone.id

-- name: clear_routes
-- The file's rules replace all of its old ones.
delete from route where provisioned

-- name: put_route
-- One rule.
insert into route (position, match, destinations, continues, options)
select $1, $2::jsonb, array(select d.id from unnest($3::text[]) with ordinality as named (slug, at)
                            join destination d using (slug) order by at), $4, $5::jsonb

-- name: write_audit
-- Who changed what.
insert into audit (who, what, object, detail) values ($1, $2, $3, $4::jsonb)
