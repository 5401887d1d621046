-- The migrations that were applied.

-- name: try_migration_lock
-- Try to get the lock of a process that migrates, until the end of the transaction.
select pg_try_advisory_xact_lock($1)

-- name: create_migration_table
-- Create the table of applied migrations.
create table if not exists schema_migration (
  name       text primary key,
  sha256     text not null,
  breaking   boolean not null default false,
  applied_at timestamptz not null default now()
)

-- name: applied_migrations
-- Select the migrations that were applied.
select name, sha256, breaking from schema_migration

-- name: insert_migration
-- Record a migration. It is inserted before the migration runs, so that two processes can not both apply it.
insert into schema_migration (name, sha256, breaking) values ($1, $2, $3)
