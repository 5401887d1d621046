"""Storage: repositories over PostgreSQL. The only package that uses the driver; one module per file of ``sql/queries``."""
