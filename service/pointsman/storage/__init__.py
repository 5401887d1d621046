"""The only room that speaks asyncpg; one module per file of ``sql/queries``."""
