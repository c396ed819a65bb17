"""How the tables of earlier versions become what they are."""

from __future__ import annotations

import sqlalchemy as sa

from ocsf_lake.ledger.tables.batches import BATCHES, ORPHANS
from ocsf_lake.ledger.tables.objects import LISTINGS, NAMES, OBJECT_ROWS


def _note_workers(connection: sa.Connection) -> None:
    connection.exec_driver_sql("ALTER TABLE batches ADD COLUMN begun_at TEXT")
    connection.exec_driver_sql("ALTER TABLE batches ADD COLUMN worker TEXT")


def _give_replays_tokens(connection: sa.Connection) -> None:
    if "replays" in sa.inspect(connection).get_table_names():
        connection.exec_driver_sql("ALTER TABLE replays ADD COLUMN token TEXT")


def _note_folders_of_orphans(connection: sa.Connection) -> None:
    ORPHANS.create(connection, checkfirst=True)
    connection.exec_driver_sql("INSERT INTO traces SELECT id, '' FROM batches WHERE state <> 'done' AND attempts > 0")
    if "replays" in sa.inspect(connection).get_table_names():
        connection.exec_driver_sql("INSERT INTO traces SELECT batch_id, '' FROM replays WHERE state <> 'done'")


def _count_failures(connection: sa.Connection) -> None:
    connection.exec_driver_sql("ALTER TABLE batches ADD COLUMN failures INTEGER NOT NULL DEFAULT 0")
    connection.exec_driver_sql("ALTER TABLE objects ADD COLUMN attempts INTEGER NOT NULL DEFAULT 0")
    connection.exec_driver_sql("ALTER TABLE objects ADD COLUMN tried_at TEXT")
    connection.exec_driver_sql("ALTER TABLE objects ADD COLUMN tried_with TEXT")


def _be_the_catalog(connection: sa.Connection) -> None:
    """The ledger is what queries read; before, a catalog beside it repeated what it has of files.

    In PostgreSQL that one is left in its schema, `ocsf_catalog`: somebody may have built on it.
    """
    connection.exec_driver_sql("CREATE INDEX IF NOT EXISTS files_of_partition ON files (table_name, partition)")
    connection.exec_driver_sql("CREATE INDEX IF NOT EXISTS objects_not_done ON objects (state) WHERE state <> 'done'")


def _remember_listings(connection: sa.Connection) -> None:
    LISTINGS.create(connection, checkfirst=True)


def _store_objects_in_fewer_bytes(connection: sa.Connection) -> None:
    """Moves the objects into the table they are in now, and leaves a view where they were; a thousand at a time."""
    from ocsf_lake.ledger import objects  # which knows how they are stored, and these tables

    if connection.dialect.name == "postgresql":
        # Another program that still writes into the old table must not do so behind our back.
        connection.exec_driver_sql("LOCK TABLE objects IN ACCESS EXCLUSIVE MODE")
    connection.exec_driver_sql("ALTER TABLE objects RENAME TO old_objects")
    NAMES.create(connection)
    OBJECT_ROWS.create(connection)
    if connection.dialect.name == "postgresql":
        _grant_again(connection, "old_objects")
    objects.take_over(connection, "old_objects")
    connection.exec_driver_sql("DROP TABLE old_objects")


def _grant_again(connection: sa.Connection, table: str) -> None:
    """Lets those do with the tables of objects what they were let do with another one."""
    query = sa.text(
        "SELECT CASE grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(grantee)) END, privilege_type "
        "FROM pg_class, aclexplode(relacl) WHERE oid = to_regclass(:name) AND grantee <> relowner "
        "AND privilege_type IN ('SELECT', 'INSERT', 'UPDATE', 'DELETE')"
    )
    for role, privilege in connection.execute(query, {"name": table}).all():
        connection.exec_driver_sql(f"GRANT {privilege} ON object_rows, names, objects TO {role}")
        if privilege == "INSERT":
            connection.exec_driver_sql(f"GRANT USAGE ON SEQUENCE names_id_seq TO {role}")


def set_kinds(connection: sa.Connection) -> None:
    """Sets the kinds of finished batches by the reasons that earlier versions gave them."""
    row = BATCHES.c
    reasons = {
        "replay of records in quarantine": "replay",
        "records that stood among those of another source": "routed",
        "compaction of files of other batches": "merge",
    }
    for reason, kind in reasons.items():
        connection.execute(sa.update(BATCHES).where(row.state == "done", row.reason == reason).values(kind=kind))


def _have_kinds_of_batches(connection: sa.Connection) -> None:
    """A replay is a batch from its plan on; before, one that was not done stood in a table of its own.

    What an unfinished one had written is found by its traces, and taken out by the next replay of the source. A process
    of an earlier version that is amid one finds its table gone, and cannot finish it.
    """
    connection.exec_driver_sql("ALTER TABLE batches ADD COLUMN kind TEXT NOT NULL DEFAULT 'ingest'")
    set_kinds(connection)
    if "replays" in sa.inspect(connection).get_table_names():
        connection.exec_driver_sql(
            "INSERT INTO batches (id, source, mapper_version, ocsf_version, kind, state, attempts, failures, objects, "
            "bytes_in, read, events, quarantined, dropped, events_by_class, dropped_reasons, failed_casts, "
            "unmapped_keys, bytes_out, seconds, planned_at) "
            "SELECT batch_id, source, '', '', 'replay', 'planned', 1, 0, 0, 0, 0, 0, 0, 0, '{}', '{}', '{}', '{}', 0, "
            "0, planned_at FROM replays WHERE state <> 'done'"
        )
        connection.exec_driver_sql("DROP TABLE replays")

STEPS = (
    _note_workers,
    _give_replays_tokens,
    _note_folders_of_orphans,
    _count_failures,
    _be_the_catalog,
    _remember_listings,
    _store_objects_in_fewer_bytes,
    _have_kinds_of_batches,
)
"""How the tables became what they are; see `database`. A new table needs no step, a new column does."""
