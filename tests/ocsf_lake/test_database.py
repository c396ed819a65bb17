"""Databases made by older versions open, and those of newer ones are left alone."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
import sqlalchemy as sa

from ocsf_lake import config
from ocsf_lake.ingest import run as ingest
from ocsf_lake.ledger import tables as ledger_tables
from ocsf_lake.ledger.database import connect
from ocsf_lake.ledger.ledger import Ledger
from ocsf_mappers.errors import ConfigError, RetriableError
from tests.ocsf_lake.conftest import BOUNDS, contents
from tests.ocsf_lake.test_ingest import rows
from tests.servers.postgres import Postgres

FIRST_VERSION = """
CREATE TABLE objects (
    uri TEXT NOT NULL, etag TEXT NOT NULL, size BIGINT NOT NULL, stamp TEXT NOT NULL, source TEXT, batch_id TEXT,
    state TEXT NOT NULL, read BIGINT NOT NULL, events BIGINT NOT NULL, quarantined BIGINT NOT NULL,
    dropped BIGINT NOT NULL, reason TEXT, PRIMARY KEY (uri, etag));
CREATE INDEX ix_objects_batch_id ON objects (batch_id);
CREATE TABLE batches (
    id TEXT NOT NULL, source TEXT NOT NULL, mapper_version TEXT NOT NULL, ocsf_version TEXT NOT NULL,
    state TEXT NOT NULL, attempts INTEGER NOT NULL, objects BIGINT NOT NULL, bytes_in BIGINT NOT NULL,
    read BIGINT NOT NULL, events BIGINT NOT NULL, quarantined BIGINT NOT NULL, dropped BIGINT NOT NULL,
    events_by_class TEXT NOT NULL, dropped_reasons TEXT NOT NULL, failed_casts TEXT NOT NULL,
    unmapped_keys TEXT NOT NULL, bytes_out BIGINT NOT NULL, seconds FLOAT NOT NULL, planned_at TEXT NOT NULL,
    done_at TEXT, reason TEXT, PRIMARY KEY (id));
CREATE INDEX ix_batches_state ON batches (state);
CREATE TABLE files (
    path TEXT NOT NULL, batch_id TEXT NOT NULL, table_name TEXT NOT NULL, partition TEXT NOT NULL, class_uid INTEGER,
    rows BIGINT NOT NULL, bytes BIGINT NOT NULL, sha256 TEXT NOT NULL, PRIMARY KEY (path));
CREATE INDEX ix_files_batch_id ON files (batch_id);
"""
"""The ledger's tables as the first version made them."""


def _columns(url: str) -> dict[str, set[tuple[str, str, bool]]]:
    engine = sa.create_engine(url)
    found = sa.inspect(engine)
    columns = {
        table: {(column["name"], str(column["type"]), column["nullable"]) for column in found.get_columns(table)}
        for table in found.get_table_names()
    }
    engine.dispose()
    return columns


def test_a_ledger_of_the_first_version_becomes_one_of_today(tmp_path: Path) -> None:
    old, new = f"sqlite:///{tmp_path}/old.db", f"sqlite:///{tmp_path}/new.db"
    with sqlite3.connect(tmp_path / "old.db") as connection:
        connection.executescript(FIRST_VERSION)
    connection.close()
    for _ in range(2):
        Ledger(old).close()
        Ledger(new).close()
        assert _columns(old) == _columns(new)


def test_an_older_lake_is_continued(logs: Path, whole: Path, tmp_path: Path) -> None:
    (tmp_path / "_ledger").mkdir()
    with sqlite3.connect(tmp_path / "_ledger/ledger.db") as connection:
        connection.executescript(FIRST_VERSION)
    connection.close()
    settings = config.load(lake=str(tmp_path), **BOUNDS)
    assert ingest.ingest([str(logs)], settings).counts.events == 140
    assert contents(tmp_path) == contents(whole)
    assert rows(settings, "SELECT count(*) FROM ledger_batches WHERE worker IS NULL") == [(0,)]


def test_what_failed_in_an_older_lake_is_tried_again(logs: Path, tmp_path: Path) -> None:
    """Attempts that nobody looked at do not count: an open batch, and an object that failed."""
    settings = config.load(lake=str(tmp_path), **BOUNDS)
    planned = ingest.plan([str(logs)], settings)
    database = tmp_path / "_ledger/ledger.db"
    with sqlite3.connect(database) as connection:
        for statement in (
            "UPDATE batches SET attempts = 9, state = 'failed', reason = 'a defect'",
            f"UPDATE objects SET state = 'failed', batch_id = NULL WHERE batch_id = '{planned.batch_ids[0]}'",
            f"DELETE FROM batches WHERE id = '{planned.batch_ids[0]}'",
            "ALTER TABLE batches DROP COLUMN failures",
            "ALTER TABLE batches DROP COLUMN kind",
            *(f"ALTER TABLE objects DROP COLUMN {name}" for name in ("attempts", "tried_at", "tried_with")),
            "UPDATE schema_version SET version = 4",
        ):
            connection.execute(statement)
    connection.close()
    assert ingest.ingest([str(logs)], settings).counts.events == 140
    assert rows(settings, "SELECT DISTINCT state, failures FROM ledger_batches") == [("done", 0)]


def test_a_ledger_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/ledger.db"
    found = Ledger(url)
    with found.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE schema_version SET version = 99")
    found.close()
    with pytest.raises(ConfigError, match="newer ocsf-lake"):
        Ledger(url)


def test_steps_are_taken_once_and_in_order(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/x.db"
    connect(url, sa.MetaData(), "x").dispose()
    taken: list[int] = []
    steps = [lambda _, number=number: taken.append(number) for number in range(3)]
    connect(url, sa.MetaData(), "x", steps[:2]).dispose()  # type: ignore[arg-type]
    connect(url, sa.MetaData(), "x", steps).dispose()  # type: ignore[arg-type]
    connect(url, sa.MetaData(), "x", steps).dispose()  # type: ignore[arg-type]
    assert taken == [0, 1, 2]


@pytest.mark.integration
def test_postgres_takes_the_same_steps(postgres_server: Postgres) -> None:
    url = postgres_server.database()
    engine = sa.create_engine(url.replace("://", "+psycopg://"), poolclass=sa.NullPool)
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE SCHEMA ocsf_ledger; SET search_path TO ocsf_ledger")
        for statement in FIRST_VERSION.split(";")[:-1]:
            connection.exec_driver_sql(statement)
    found = Ledger(url)
    names = {column["name"] for column in sa.inspect(found.engine).get_columns("batches")}
    found.close()
    assert names == set(ledger_tables.BATCHES.c.keys())


@pytest.mark.integration
def test_a_database_that_is_not_there_is_a_mistake_and_a_server_that_is_away_is_not(postgres_server: Postgres) -> None:
    with pytest.raises(ConfigError, match="does not exist"):
        Ledger(postgres_server.url("no_such_database"))
    with pytest.raises(RetriableError, match="does not answer"):
        Ledger("postgresql://ann:s3cret@127.0.0.1:1/x")
