"""A table of which older files have fewer columns is asked like any other."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ocsf_lake.catalogs import definitions
from ocsf_lake.config import Settings
from ocsf_lake.ingest import run as ingest
from ocsf_lake.query import query
from ocsf_lake.storage import evolution
from tests.ocsf_lake.conftest import sqlite_database
from tests.support import SAMPLE_LOGS

Make = Callable[..., Settings]
KEYS = str(SAMPLE_LOGS / "aws_cloudtrail" / "account_change_keys.json")
MORE = str(SAMPLE_LOGS / "aws_cloudtrail" / "account_change_activities.json")


def without(table: pa.Table) -> pa.Table:
    """The rows as a version wrote them that knew neither `auth_protocol` nor `user.credential_uid`."""
    place = table.schema.get_field_index("user")
    user = table["user"].combine_chunks()
    kept = [field for field in user.type if field.name != "credential_uid"]
    members = [user.field(field.name) for field in kept]
    table = table.set_column(place, "user", pa.StructArray.from_arrays(members, fields=kept, mask=user.is_null()))
    return table.drop_columns(["auth_protocol", "auth_protocol_id"])


def make_older(found: Settings) -> None:
    """What the lake has is as that version left it."""
    for path in sorted(Path(found.lake, "aws").rglob("*.parquet")):
        pq.write_table(without(pq.ParquetFile(path).read()), path)
    with sqlite_database(Path(found.lake, "_ledger", "ledger.db")) as ledger:
        ledger.execute("UPDATE batches SET mapper_version = 'older'")


@pytest.mark.slow
@pytest.mark.parametrize("older_first", [True, False])
def test_what_older_files_lack_is_null(settings: Make, older_first: bool) -> None:
    found = settings(verify_reads=False)
    older, newer = (KEYS, MORE) if older_first else (MORE, KEYS)
    ingest.ingest([older], found)
    with query.connected(found) as connection:
        number = query.run(connection, "SELECT count(*) AS n FROM cloud_trail_mgmt")["n"].to_pylist()[0]
    make_older(found)
    with query.connected(found) as connection:
        sql = "SELECT user.credential_uid AS key, auth_protocol FROM cloud_trail_mgmt"
        assert set(query.run(connection, sql)["key"].to_pylist()) == {None}
    ingest.ingest([newer], found)
    with query.connected(found) as connection:
        sql = "SELECT source_object, user.credential_uid AS key FROM cloud_trail_mgmt"
        rows = query.run(connection, sql).to_pylist()
        of_older = [row["key"] for row in rows if row["source_object"].endswith(Path(older).name)]
        assert of_older == [None] * number
        assert any(row["key"] for row in rows)
        day = query.run(connection, "SELECT DISTINCT eventday FROM cloud_trail_mgmt")["eventday"].to_pylist()
        assert day == ["20260203"]
        assert query.cost(connection, "SELECT * FROM cloud_trail_mgmt WHERE eventday = '19990101'").files == 0


def test_an_event_of_an_older_file_is_the_same_one_where_what_it_lacks_is_null(
    settings: Make, tmp_path: Path
) -> None:
    found = settings(verify_reads=False, duplicates={"aws_cloudtrail": "drop"})
    logs = tmp_path / "logs"
    logs.mkdir()
    shutil.copy(MORE, logs / "first.json")
    ingest.ingest([str(logs)], found, "aws_cloudtrail")
    with query.connected(found) as connection:
        sql = "SELECT user.credential_uid IS NULL AND auth_protocol IS NULL AS same FROM cloud_trail_mgmt"
        same = query.run(connection, sql)["same"].to_pylist()
    make_older(found)
    shutil.copy(MORE, logs / "again.json")
    again = ingest.ingest([str(logs)], found, "aws_cloudtrail")
    assert again.not_read == []
    counts = again.sources["aws_cloudtrail"]
    assert (counts.duplicates, counts.variants) == (same.count(True), same.count(False)) == (8, 3)


@pytest.mark.parametrize(
    ("today", "files"),
    [
        pytest.param("abc", ["bac", "ab"], id="in another order"),
        pytest.param("ab", ["ab", "axb"], id="more columns"),
        pytest.param("ab", ["ba"], id="in another order alone"),
    ],
)
def test_columns_go_by_their_names_whatever_their_order_was(today: str, files: list[str], tmp_path: Path) -> None:
    for names in files:
        pq.write_table(pa.table({name: [f"{name} of {names}"] for name in names}), tmp_path / f"{names}.parquet")
    groups = [[str(tmp_path / f"{names}.parquet")] for names in files]
    with duckdb.connect() as connection:
        sql = evolution.select(
            connection, pa.table({name: pa.array([], pa.string()) for name in today}), groups,
            lambda paths: f"SELECT * FROM read_parquet({paths})",
        )  # fmt: skip
        found = connection.sql(sql).to_arrow_table().to_pylist()
    every = set("".join(files)) | set(today)
    wanted = [{name: f"{name} of {names}" if name in names else None for name in every} for names in files]
    assert sorted(found, key=str) == sorted(({name: row[name] for name in found[0]} for row in wanted), key=str)


@pytest.mark.parametrize(
    ("schema", "columns"),
    [
        (
            definitions.QUARANTINE_SCHEMA,
            "source_object source_etag source_record reason raw batch_id mapper_version ocsf_version",
        ),
        (
            definitions.OUTCOMES_SCHEMA,
            "source_object source_etag source_record tries state reason batch_id mapper_version ocsf_version",
        ),
        (
            definitions.DUPLICATES_SCHEMA,
            "table_name key action source_object source_etag source_record of_object of_record batch_id",
        ),
    ],
    ids=["quarantine", "outcomes", "duplicates"],
)
def test_what_lies_beside_the_events_has_the_columns_of_every_version(schema: pa.Schema, columns: str) -> None:
    """All lakes have them so: `query.shown` reads the files of all versions alike, which a change has to change."""
    integers = {"source_record", "of_record", "tries"}
    assert {field.name: field.type for field in schema} == {
        name: pa.int64() if name in integers else pa.string() for name in columns.split()
    }


def test_quarantine_of_many_mappers_is_described_once(settings: Make, tmp_path: Path, count: list[int]) -> None:
    for source, line in (("aws_cloudtrail", '{"Records": [{"eventName": 1}]}'), ("aws_waf", '{"timestamp": "never"}')):
        (tmp_path / f"{source}.json").write_text(line)
        ingest.ingest([str(tmp_path / f"{source}.json")], settings(), source)
    with query.connected(settings(), "FROM quarantine") as connection:
        assert connection.execute("SELECT count(DISTINCT mapper_version) FROM quarantine").fetchone() == (2,)
    assert count == [1]


@pytest.fixture
def count(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Of each table that a query reads, how many groups of files were described."""
    numbers: list[int] = []
    select = evolution.select

    def counted(connection: Any, today: pa.Table, groups: Sequence[Sequence[str]], read: Any) -> str:
        numbers.append(len(groups))
        return select(connection, today, groups, read)

    monkeypatch.setattr(evolution, "select", counted)
    return numbers
