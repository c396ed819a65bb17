"""What a lake holds, as queries over the ledger's tables, see `ocsf_lake.query.query`."""

SOURCES = """
    WITH counted AS (
        SELECT source, sum("read")::BIGINT AS records, sum(events)::BIGINT AS events,
               sum(quarantined)::BIGINT AS quarantined, sum(dropped)::BIGINT AS dropped,
               sum(bytes_in)::BIGINT AS bytes_in, sum(bytes_out)::BIGINT AS bytes_out
        FROM ledger_batches WHERE state = 'done' GROUP BY source
    ), objects AS (
        SELECT source, count(*) AS objects FROM ledger_objects WHERE state = 'done' GROUP BY source
    ), states AS (
        SELECT source, map(list(state ORDER BY state), list(number ORDER BY state)) AS batches
        FROM (SELECT source, state, count(*) AS number FROM ledger_batches GROUP BY ALL) GROUP BY source
    )
    SELECT source, objects, records, events, quarantined, dropped, bytes_in, bytes_out, batches
    FROM states LEFT JOIN counted USING (source) LEFT JOIN objects USING (source) ORDER BY source
"""
"""A row for each source: what was read of it, what became of that, and its batches by state."""

TABLES = """
    WITH days AS (
        SELECT table_name, "rows", source, nullif(split_part("partition", '/', 3), 'unknown') AS day
        FROM ledger_files JOIN ledger_batches ON ledger_batches.id = batch_id WHERE state = 'done'
    )
    SELECT table_name, sum("rows")::BIGINT AS "rows", min(day) AS first_day, max(day) AS last_day,
           list(DISTINCT source ORDER BY source) AS sources
    FROM days GROUP BY table_name
"""
"""A row for each table that has any: its rows, first and last event day (`YYYYMMDD`), and sources."""
