"""The SQL of Pointsman: migrations and named queries, as files beside this one."""
