"""Databases made by older versions open, and those of newer ones are left alone."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa

from ocsf_lake import config
from ocsf_lake.ingest import run as ingest
from ocsf_lake.ledger import objects
from ocsf_lake.ledger import tables as ledger_tables
from ocsf_lake.ledger.database import connect
from ocsf_lake.ledger.ledger import Ledger
from ocsf_lake.ledger.results import State
from ocsf_lake.ledger.seen import Seen
from ocsf_lake.storage.objects import ObjectRef
from ocsf_mappers.errors import ConfigError, RetriableError
from tests.ocsf_lake.conftest import BOUNDS, contents, sqlite_database
from tests.ocsf_lake.test_ingest import rows
from tests.servers.postgres import Postgres
from tests.support import PROJECT

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


OBJECTS_IN_ONE_TABLE = """
CREATE TABLE old_objects (
    uri TEXT NOT NULL, etag TEXT NOT NULL, size BIGINT NOT NULL, stamp TEXT NOT NULL, source TEXT, batch_id TEXT,
    state TEXT NOT NULL, read BIGINT NOT NULL, events BIGINT NOT NULL, quarantined BIGINT NOT NULL,
    dropped BIGINT NOT NULL, reason TEXT, attempts INTEGER NOT NULL, tried_at TEXT, tried_with TEXT,
    PRIMARY KEY (uri, etag));
INSERT INTO old_objects SELECT uri, etag, size, stamp, source, batch_id, state, read, events, quarantined, dropped,
    reason, attempts, tried_at, tried_with FROM objects;
DROP VIEW objects;
DROP TABLE object_rows;
DROP TABLE names;
ALTER TABLE old_objects RENAME TO objects;
CREATE INDEX ix_objects_batch_id ON objects (batch_id);
CREATE INDEX objects_not_done ON objects (state) WHERE state <> 'done';
ALTER TABLE batches DROP COLUMN kind;
UPDATE schema_version SET version = 7;
"""
"""Makes a ledger of today one of version 7, whose objects are in one table, and whose batches are of no kind."""


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
    with sqlite_database(tmp_path / "old.db") as connection:
        connection.executescript(FIRST_VERSION)
    for _ in range(2):
        Ledger(old).close()
        Ledger(new).close()
        assert _columns(old) == _columns(new)


@pytest.mark.slow
def test_an_older_lake_is_continued(logs: Path, whole: Path, tmp_path: Path) -> None:
    (tmp_path / "_ledger").mkdir()
    with sqlite_database(tmp_path / "_ledger/ledger.db") as connection:
        connection.executescript(FIRST_VERSION)
    settings = config.load(lake=str(tmp_path), **BOUNDS)
    assert ingest.ingest([str(logs)], settings).counts.events == 140
    assert contents(tmp_path) == contents(whole)
    assert rows(settings, "SELECT count(*) FROM ledger_batches WHERE worker IS NULL") == [(0,)]


@pytest.mark.slow
def test_what_failed_in_an_older_lake_is_tried_again(logs: Path, tmp_path: Path) -> None:
    """Attempts that nobody looked at do not count: an open batch, and an object that failed."""
    settings = config.load(lake=str(tmp_path), **BOUNDS)
    planned = ingest.plan([str(logs)], settings)
    database = tmp_path / "_ledger/ledger.db"
    with sqlite_database(database) as connection:
        connection.executescript(OBJECTS_IN_ONE_TABLE)
        for statement in (
            "UPDATE batches SET attempts = 9, state = 'failed', reason = 'a defect'",
            f"UPDATE objects SET state = 'failed', batch_id = NULL WHERE batch_id = '{planned.batch_ids[0]}'",
            f"DELETE FROM batches WHERE id = '{planned.batch_ids[0]}'",
            "ALTER TABLE batches DROP COLUMN failures",
            *(f"ALTER TABLE objects DROP COLUMN {name}" for name in ("attempts", "tried_at", "tried_with")),
            "UPDATE schema_version SET version = 4",
        ):
            connection.execute(statement)
    assert ingest.ingest([str(logs)], settings).counts.events == 140
    assert rows(settings, "SELECT DISTINCT state, failures FROM ledger_batches") == [("done", 0)]


ODD_OBJECTS = [
    ("s3://a/AWSLogs/1/CloudTrail/r/2025/03/11/1_CloudTrail_r_20250311T0000Z_x.json.gz", "0" * 32),
    ("s3://a/AWSLogs/1/CloudTrail/r/2025/03/11/1_CloudTrail_r_20250311T0000Z_x.json.gz", "ab" * 16 + "-12"),
    ("s3://a/AWSLogs/1/CloudTrail/r/2025/03/11/1_CloudTrail_r_20250311T0005Z_x.json.gz", "0" * 32),
    ("s3://a/_20250311T0000Z/x", "AB" * 16),
    ("s3://a/_20250311T0000Z/", "ab"),
    ("s3://a/b/_20250311T_20250312T", "abc"),
    ("s3://a/b/_20250311T", ""),
    ("s3://a/b/wei\u00df\nund %_' \U0001f600", "\u00e9"),
    ("no slash", "6162"),
    ("no slash", "ab\n"),
]
"""Names and ETags of many kinds, in no order; some differ by little."""


def test_an_object_with_a_nul_in_its_name_is_found(tmp_path: Path) -> None:
    ledger = Ledger(f"sqlite:///{tmp_path}/ledger.db")
    refs = [ObjectRef("s3://a/b\0c", "x", 0), ObjectRef("s3://a/b", "x", 0)]
    ledger.note(refs[:1], State.SKIPPED, "why")
    assert ledger.states(refs).keys() == {refs[0].key}
    assert Seen(ledger.engine).objects([ref.uri for ref in refs]) == {refs[0].uri}
    ledger.close()


def _put_odd_objects(url: str) -> list[tuple[object, ...]]:
    """A ledger with them; gives its rows."""
    ledger = Ledger(url)
    rows_of = [
        {
            "uri": uri, "etag": etag, "size": number, "stamp": "s" * (number % 2), "source": ["x", None][number % 2],
            "batch_id": [None, "y", "z"][number % 3], "state": ["done", "failed"][number % 2], "read": number,
            "events": 2, "quarantined": 3, "dropped": 4, "reason": None if number % 3 else "why", "attempts": number,
            "tried_at": "t" if number % 2 else None, "tried_with": "w" if number % 2 else None,
        }
        for number, (uri, etag) in enumerate(ODD_OBJECTS)
    ]  # fmt: skip
    with ledger.engine.begin() as connection:
        objects.put(connection, rows_of)
    ledger.close()
    return sorted(tuple(row[column.name] for column in ledger_tables.SHOWN["objects"].c) for row in rows_of)


def _shown_objects(url: str, *, reading: bool = False) -> list[tuple[object, ...]]:
    ledger = Ledger(url, reading=reading)
    found = ledger.arrow("objects").to_pylist()
    ledger.close()
    return sorted(tuple(row.values()) for row in found)


def test_objects_are_moved_into_fewer_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"sqlite:///{tmp_path}/ledger.db"
    wanted = _put_odd_objects(url)
    assert _shown_objects(url) == wanted
    with sqlite_database(tmp_path / "ledger.db") as connection:
        connection.executescript(OBJECTS_IN_ONE_TABLE)
    old = _columns(url)
    monkeypatch.setattr(objects, "ROWS", 3)
    assert _shown_objects(url, reading=True) == wanted
    assert _columns(url) == old  # who only reads moves nothing
    with monkeypatch.context() as patched:
        patched.setattr(objects, "put", _put_some(objects.put))
        with pytest.raises(KeyboardInterrupt):
            Ledger(url)
    assert _columns(url) == old
    assert _shown_objects(url, reading=True) == wanted
    assert _shown_objects(url) == wanted
    assert "object_rows" in _columns(url)


def _put_some(put: Callable[..., None]) -> Callable[..., None]:
    """Dies at the second call."""
    calls = iter(range(2))

    def putting(*arguments: Any) -> None:
        if next(calls):
            raise KeyboardInterrupt
        put(*arguments)

    return putting


def test_an_object_is_found_by_all_of_its_name(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/ledger.db"
    _put_odd_objects(url)
    _check_finding(url)


@pytest.mark.integration
def test_postgres_moves_and_finds_objects_too(postgres_server: Postgres) -> None:
    url = postgres_server.database()
    wanted = _put_odd_objects(url)
    assert _shown_objects(url) == wanted
    engine = sa.create_engine(url.replace("://", "+psycopg://"), poolclass=sa.NullPool)
    with engine.begin() as connection:
        connection.exec_driver_sql("SET search_path TO ocsf_ledger")
        connection.exec_driver_sql("CREATE ROLE looks_on")
        for statement in OBJECTS_IN_ONE_TABLE.split(";")[:-1]:
            connection.exec_driver_sql(statement)
        connection.exec_driver_sql("GRANT SELECT ON objects TO looks_on")
    assert _shown_objects(url) == wanted
    with engine.begin() as connection:
        connection.exec_driver_sql("SET search_path TO ocsf_ledger")
        for table in ("objects", "object_rows", "names"):
            allowed = f"SELECT has_table_privilege('looks_on', '{table}', 'SELECT')"
            assert connection.exec_driver_sql(allowed).scalar() is True
        connection.exec_driver_sql("DROP OWNED BY looks_on; DROP ROLE looks_on")
    _check_finding(url)


@pytest.mark.integration
def test_a_ledger_without_tables_that_only_writers_read_is_read_as_it_is(postgres_server: Postgres) -> None:
    """Who may only read cannot always make temporary tables, which stand for those that are missing."""
    url = postgres_server.database()
    Ledger(url).close()
    engine = sa.create_engine(url.replace("://", "+psycopg://"), poolclass=sa.NullPool)
    role = f"reads_{engine.url.database}"
    with engine.begin() as connection:
        connection.exec_driver_sql(f"REVOKE TEMPORARY ON DATABASE {engine.url.database} FROM PUBLIC")
        connection.exec_driver_sql(f"DROP TABLE ocsf_ledger.{ledger_tables.WRITTEN.name}; CREATE ROLE {role} LOGIN")
        connection.exec_driver_sql(f"GRANT USAGE ON SCHEMA ocsf_ledger TO {role}")
        connection.exec_driver_sql(f"GRANT SELECT ON ALL TABLES IN SCHEMA ocsf_ledger TO {role}")
    found = Ledger(sa.make_url(url).set(username=role), reading=True)
    assert found.begun() == []
    found.close()
    with engine.begin() as connection:
        connection.exec_driver_sql(f"DROP OWNED BY {role}; DROP ROLE {role}")


def _check_finding(url: str) -> None:
    ledger = Ledger(url)
    refs = [ObjectRef(uri, etag, 0) for uri, etag in ODD_OBJECTS]
    others = [ObjectRef(f"{ref.uri[:-1]}X", ref.etag, 0) for ref in refs]
    assert ledger.states([*refs, *others]).keys() == set(ODD_OBJECTS)
    assert ledger.states([ObjectRef(uri, etag, 0) for uri, etag in ODD_OBJECTS[:1]]).keys() == set(ODD_OBJECTS[:1])
    seen = Seen(ledger.engine)
    assert seen.objects([ref.uri for ref in [*refs, *others]]) == {uri for uri, _ in ODD_OBJECTS}
    folders = ["s3://a/", "s3://a/b/", "s3://a/b/_20250311T/", "s3://a/AWSLogs/1/", "s3://a/AWSLogs/", "s3://b/"]
    assert seen.folders(folders) == {"s3://a/", "s3://a/b/", "s3://a/AWSLogs/1/", "s3://a/AWSLogs/"}
    with ledger.engine.begin() as connection:
        objects.change(connection, [refs[0].key], {"read": ledger_tables.OBJECT_ROWS.c.read + 70})
        objects.remove(connection, [refs[2].key])
    found = {(row["uri"], row["etag"]): row["read"] for row in ledger.arrow("objects").to_pylist()}
    assert found == {key: number or 70 for number, key in enumerate(ODD_OBJECTS) if number != 2}
    ledger.close()


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


@pytest.mark.integration
def test_an_interrupt_while_a_connection_is_tried_is_one(
    postgres_server: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After which SQLAlchemy leaves the connection as it was, and cannot: it waits for an answer."""
    ledger = Ledger(postgres_server.database())

    def execute(cursor: psycopg.Cursor[Any], query: str) -> None:
        cursor.connection.pgconn.send_query(query.encode())
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(psycopg.Cursor, "execute", execute)
        with pytest.raises(KeyboardInterrupt), ledger.engine.connect():
            pass
    ledger.close()


def test_a_file_that_was_put_in_the_place_of_the_ledger_s_is_the_ledger(tmp_path: Path) -> None:
    url = sa.URL.create("sqlite", database=str(tmp_path / "ledger.db"))
    metadata = sa.MetaData()
    table = sa.Table("said", metadata, sa.Column("word", sa.Text))
    before = connect(url, metadata, "ledger")
    for word in ("one", "two"):
        with before.begin() as connection:
            connection.execute(sa.insert(table), {"word": word})
    for file in list(tmp_path.iterdir()):
        file.rename(tmp_path / file.name.replace("ledger.db", "former.db"))
    after = connect(url, metadata, "ledger")
    with before.begin() as connection:
        connection.execute(sa.insert(table), {"word": "three"})
    with after.connect() as connection:
        assert connection.scalars(sa.select(table.c.word)).all() == ["three"]
    before.dispose()
    after.dispose()
    with sqlite_database(tmp_path / "former.db") as former:
        assert former.execute("SELECT word FROM said").fetchall() == [("one",), ("two",)]


FORKED = """
import os, sys
import sqlalchemy as sa
from ocsf_lake.ledger import tables
from ocsf_lake.ledger.database import connect

engine = connect(f"sqlite:///{sys.argv[1]}", tables.METADATA, "ledger")

def used():
    with engine.connect() as connection:
        connection.execute(sa.text("SELECT 1"))
        return id(connection.connection.driver_connection)

before = used()
assert used() == before, "none is kept: this shows nothing"
if (child := os.fork()) == 0:
    os._exit(int(used() == before))
_, status = os.waitpid(child, 0)
assert used() == before
sys.exit(os.waitstatus_to_exitcode(status))
"""


@pytest.mark.slow
def test_a_forked_process_opens_the_database_for_itself(tmp_path: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORKED, str(tmp_path / "ledger.db")],
        cwd=PROJECT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr


@pytest.mark.slow
def test_what_is_committed_is_on_the_disk(tmp_path: Path) -> None:
    """In a process of its own: tests themselves wait for no disk."""
    code = (
        "import sys; from pathlib import Path; from ocsf_lake.ledger import database;"
        " connection = database._sqlite(Path(sys.argv[1]), 'ledger', 0o077).connect();"
        " asked = ('synchronous', 'journal_mode');"
        " print(*[connection.exec_driver_sql(f'PRAGMA {name}').scalar() for name in asked])"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "ledger.db")],
        cwd=PROJECT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert run.stdout.split() == ["2", "wal"], run.stderr
