"""The catalogs: SQLite or PostgreSQL, AWS Glue, Apache Iceberg. What they have in common is in `lake.catalog`."""
