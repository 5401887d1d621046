"""Run an embedded PostgreSQL server."""
