-- Configuration: sources, destinations and routes.

-- name: installation
-- Select the identity of this installation.
select id, marker_key, config_version from installation

-- name: config_version
-- Select the configuration version, which every apply raises.
select config_version from installation

-- name: lock_config
-- Lock the configuration, so that one apply runs at a time.
select config_version from installation for update

-- name: raise_config_version
-- Raise the configuration version, so that every replica reloads.
update installation set config_version = config_version + 1

-- name: list_sources
-- Select all sources, retired ones included.
select id, slug, kind, settings, tokens, limits, retired_at is not null as retired from source order by id

-- name: list_destinations
-- Select all destinations, retired ones included.
select id, slug, kind, tracker, settings, webhook_secrets, limits, redact, retired_at is not null as retired
from destination order by id

-- name: list_routes
-- Select the routes in their order.
select position, match, destinations, continues, options from route order by position

-- name: upsert_source
-- Insert or update a source.
insert into source (slug, kind, settings, tokens, limits) values ($1, $2, $3::jsonb, $4::jsonb, $5::jsonb)
on conflict (slug) do update
set kind = excluded.kind, settings = excluded.settings, tokens = excluded.tokens, limits = excluded.limits,
    retired_at = null, provisioned = true

-- name: upsert_destination
-- Insert or update a destination, with eight lanes at once unless configured otherwise. Blocks and failures of its
-- former settings are cleared.
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
    pause_reason = nullif(destination_state.pause_reason, 'retired')

-- name: retire_source
-- Retire a source that is no longer configured. Its tickets stay.
update source set retired_at = now() where slug = $1

-- name: retire_destination
-- Retire a destination that is no longer configured. Its deliveries wait until it is configured again.
with retired as (update destination set retired_at = now() where slug = $1 returning id)
update destination_state set pause_reason = 'retired' from retired where destination_id = retired.id

-- name: delete_provisioned_routes
-- Delete the routes of the configuration file.
delete from route where provisioned

-- name: insert_route
-- Insert one route.
insert into route (position, match, destinations, continues, options)
select $1, $2::jsonb, array(select d.id from unnest($3::text[]) with ordinality as named (slug, at)
                            join destination d using (slug) order by at), $4, $5::jsonb

-- name: insert_audit_entry
-- Record a change and who made it.
insert into audit (actor, action, object, detail) values ($1, $2, $3, $4::jsonb)
