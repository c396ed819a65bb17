"""All that is known of objects, batches and files, in SQLite or PostgreSQL: the only SQL tables of a lake."""
