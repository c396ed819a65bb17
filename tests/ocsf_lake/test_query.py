"""Queries see what is registered, prune by partition, and touch nothing else."""

import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import duckdb
import fsspec
import pytest

from ocsf_lake import config
from ocsf_lake.config import Settings
from ocsf_lake.lake import opened
from ocsf_lake.query import pruning, query, shown
from ocsf_lake.query.shown import part_of
from ocsf_lake.upkeep import quarantine
from ocsf_mappers import registry
from ocsf_mappers.errors import ConfigError, ReadError


@pytest.fixture(scope="module")
def lake(whole: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    with query.connected(config.load(lake=str(whole))) as connection:
        yield connection


def rows(connection: duckdb.DuckDBPyConnection, sql: str) -> list[tuple[object, ...]]:
    return connection.execute(sql).fetchall()


def files_scanned(connection: duckdb.DuckDBPyConnection, sql: str) -> tuple[int, int]:
    plan = rows(connection, f"EXPLAIN {sql}")[0][1]
    found = next(line for line in str(plan).splitlines() if "Scanning Files" in line)
    scanned, _, of = found.strip(" │").removeprefix("Scanning Files: ").partition("/")
    return int(scanned), int(of)


def test_partition_keys_are_text_under_both_spellings(lake: duckdb.DuckDBPyConnection) -> None:
    columns = "accountid, accountId, region, eventday, eventDay, typeof(accountid)"
    assert rows(lake, f"SELECT DISTINCT {columns} FROM vpc_flow ORDER BY ALL") == [
        ("012345678901", "012345678901", "eu-west-1", "20250311", "20250311", "VARCHAR"),
        ("111122223333", "111122223333", "eu-west-1", "20250311", "20250311", "VARCHAR"),
    ]


@pytest.mark.parametrize(
    "condition",
    ["accountid = '012345678901'", "region = 'us-east-1'", "eventday >= '20250312'", "accountId IN ('0', '1')"],
)
def test_conditions_on_partition_keys_open_only_their_files(lake: duckdb.DuckDBPyConnection, condition: str) -> None:
    for table in ("cloud_trail_mgmt", "cloud_trail_mgmt_2_0"):
        scanned, of = files_scanned(lake, f"SELECT max(time), max(api.operation) FROM {table} WHERE {condition}")
        assert scanned < of


def test_text_that_was_dictionary_encoded_is_plain_text(lake: duckdb.DuckDBPyConnection) -> None:
    types = dict(row[:2] for row in rows(lake, "DESCRIBE cloud_trail_mgmt"))
    assert types["source_object"] == types["class_name"] == types["accountid"] == "VARCHAR"
    assert types["time_dt"] == "TIMESTAMP WITH TIME ZONE"
    assert types["unmapped"] == "MAP(VARCHAR, VARCHAR)"
    assert 'feature' in str(types["metadata"])
    assert "ENUM" not in str(types)


def test_a_table_without_data_is_an_empty_table_with_its_columns(lake: duckdb.DuckDBPyConnection) -> None:
    full = [row[:2] for row in rows(lake, "DESCRIBE cloud_trail_mgmt")]
    assert [row[:2] for row in rows(lake, "DESCRIBE s3_data")] == full
    assert rows(lake, "SELECT count(*) FROM s3_data WHERE eventday = '20250311'") == [(0,)]
    assert rows(lake, "SELECT count(*) FROM s3_data_2_0") == [(0,)]


def test_an_empty_lake_has_every_table(settings: Callable[..., Settings]) -> None:
    with opened(settings()):
        pass  # which makes it
    with query.connected(settings()) as connection:
        for table in [*registry.tables(), "quarantine", "ledger_batches", "ledger_objects", "ledger_files"]:
            assert rows(connection, f"SELECT count(*) FROM {table}") == [(0,)]


def test_security_lakes_names_show_one_region(lake: duckdb.DuckDBPyConnection) -> None:
    name = "amazon_security_lake_table_us_east_1_cloud_trail_mgmt_2_0"
    assert rows(lake, f"SELECT count(*) FROM {name}") == [(40,)]
    assert rows(lake, f"SELECT count(*) FROM amazon_security_lake_glue_db_us_east_1.{name}") == [(40,)]
    assert rows(lake, "SELECT count(*) FROM cloud_trail_mgmt_2_0") == [(80,)]


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (None, "a file of the lake is gone, and a query"),
        (PermissionError("denied"), "a file of the lake cannot be read: PermissionError: denied"),
    ],
)
def test_what_a_store_says_of_a_file_is_told_with_its_name(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception | None, said: str
) -> None:
    memory = fsspec.filesystem("memory")
    shutil.copytree(whole, tmp_path / "state")
    for path in whole.rglob("*.parquet"):
        memory.pipe_file(f"/{tmp_path.name}/{path.relative_to(whole).as_posix()}", path.read_bytes())
    lost = max(memory.find(f"/{tmp_path.name}/aws/VPC_FLOW"))
    really = type(memory).cat_file

    def refused(fs: object, path: str, *more: object, **named: object) -> object:
        if error is not None and path.endswith(lost):
            raise error
        return really(fs, path, *more, **named)

    monkeypatch.setattr(type(memory), "cat_file", refused)
    if error is None:
        memory.rm(lost)
    with (
        query.connected(config.load(lake=f"memory://{tmp_path.name}", state=tmp_path / "state")) as connection,
        pytest.raises(ReadError) as told,
    ):
        query.run(connection, "SELECT max(time) FROM vpc_flow")
    assert said in str(told.value)
    assert error is not None or lost.rpartition("/")[2] in str(told.value)
    assert "Traceback" not in str(told.value)


@contextmanager
def _without_rights() -> Iterator[None]:
    """As a user to whom the modes of files say something."""
    user = os.geteuid()
    os.seteuid(user or 65534)
    try:
        yield
    finally:
        os.seteuid(user)


def test_a_file_that_this_user_may_not_read_is_not_called_gone(whole: Path, tmp_path: Path) -> None:
    shutil.copytree(whole, tmp_path / "lake")
    path = next((tmp_path / "lake" / "aws" / "VPC_FLOW").rglob("*.parquet"))
    sql = "SELECT max(time) FROM vpc_flow"
    with query.connected(config.load(lake=str(tmp_path / "lake"), verify_reads=False), sql) as connection:
        path.parent.chmod(0)
        try:
            with _without_rights(), pytest.raises(ReadError, match="permission denied") as told:
                query.run(connection, sql)
        finally:
            path.parent.chmod(0o700)
    assert "gone" not in str(told.value)


def test_files_that_are_not_registered_are_not_seen(whole: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(whole, copy)
    path = next((copy / "aws" / "VPC_FLOW").rglob("*.parquet"))
    shutil.copy(path, path.with_name("stranger.parquet"))
    with query.connected(config.load(lake=str(copy))) as connection:
        assert rows(connection, "SELECT count(*) FROM vpc_flow") == [(60,)]


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM read_text('/etc/hostname')",
        "SELECT * FROM read_csv('/etc/passwd')",
        "SELECT * FROM glob('/etc/*')",
        "ATTACH '/tmp/x.db'",
        "COPY (SELECT 1) TO '/tmp/ocsf-lake-test.csv'",
        "SET enable_external_access = true",
        "INSTALL httpfs",
    ],
)
def test_nothing_else_can_be_opened(lake: duckdb.DuckDBPyConnection, sql: str) -> None:
    with pytest.raises(duckdb.Error, match=r"disabled by configuration|locked"):
        lake.execute(sql).fetchall()


def test_the_lakes_own_ledger_is_no_open_book(lake: duckdb.DuckDBPyConnection, whole: Path) -> None:
    with pytest.raises(duckdb.Error, match="disabled"):
        lake.execute(f"SELECT * FROM read_blob('{whole}/_ledger/ledger.db')").fetchall()


@pytest.mark.parametrize(
    "sql",
    [
        "CREATE TABLE x AS SELECT 1", "SELECT 1; SELECT 2", "", "COPY vpc_flow TO 'x'", "DROP VIEW vpc_flow",
        "EXPLAIN ANALYZE CREATE TABLE x AS SELECT 1",
    ],
)  # fmt: skip
def test_run_takes_one_statement_that_reads(lake: duckdb.DuckDBPyConnection, sql: str) -> None:
    with pytest.raises(ConfigError, match="one statement that reads"):
        query.run(lake, sql)


@pytest.mark.parametrize(
    "sql", ["FROM vpc_flow", "DESCRIBE vpc_flow", "SHOW TABLES", "EXPLAIN ANALYZE FROM vpc_flow", "VALUES (1)"]
)
def test_run_gives_rows(lake: duckdb.DuckDBPyConnection, sql: str) -> None:
    assert len(query.run(lake, sql)) > 0


def test_quarantine_is_grouped_and_shown(lake: duckdb.DuckDBPyConnection) -> None:
    groups = quarantine.listed(lake)
    assert [(group.source, group.records, group.first_record) for group in groups] == [("aws_cloudtrail", 1, 21)] * 2
    assert groups[0].example == '{"eventName": "no time"}'
    assert quarantine.listed(lake, "aws_vpc_flow") == []
    shown = quarantine.shown(lake, source_object=groups[1].source_object)
    assert [(item.raw, item.reason) for item in shown] == [(groups[1].example, groups[1].reason)]
    assert rows(lake, "SELECT DISTINCT source, day, ocsf_version FROM quarantine") == [
        ("aws_cloudtrail", "20250311", "1.1.0")
    ]
    assert len(quarantine.shown(lake, limit=1)) == 1


def test_the_cost_of_a_query_is_what_it_opens(lake: duckdb.DuckDBPyConnection) -> None:
    whole_table = query.cost(lake, "SELECT max(api.operation) FROM cloud_trail_mgmt_2_0")
    assert whole_table.files == whole_table.of_files > 2
    assert whole_table.row_groups == whole_table.of_row_groups
    assert whole_table.bytes > 0
    assert whole_table.of_bytes > 0
    one = query.cost(lake, "SELECT api.operation FROM cloud_trail_mgmt WHERE accountid = '012345678901'")
    assert one.rows == 40
    assert 0 < one.files < one.of_files == whole_table.of_files
    assert 0 < one.bytes < whole_table.bytes
    none = query.cost(lake, "SELECT api.operation FROM cloud_trail_mgmt WHERE accountid = '999999999999'")
    assert (none.rows, none.files, none.of_files) == (0, 0, whole_table.of_files)
    later = query.cost(lake, "SELECT api.operation FROM cloud_trail_mgmt WHERE time_dt > TIMESTAMPTZ '2030-01-01'")
    assert (later.rows, later.row_groups) == (0, 0)


def test_who_waits_for_a_cost_or_for_rows_can_end_the_query(lake: duckdb.DuckDBPyConnection) -> None:
    def enough() -> None:
        raise BrokenPipeError

    heavy = "SELECT sum(a.range * b.range) FROM range(10000000) a, range(1000000) b"
    with pytest.raises(BrokenPipeError):
        query.cost(lake, heavy, waiting=enough)
    with pytest.raises(BrokenPipeError):
        query.fetched(lake, heavy, waiting=enough)
    with ThreadPoolExecutor(1) as pool, pytest.raises(BrokenPipeError):  # also beside the main thread
        pool.submit(query.fetched, lake, heavy, waiting=enough).result()
    assert query.fetched(lake, "SELECT 1") == [(1,)]


@pytest.mark.parametrize(
    ("sql", "shown"),
    [
        ("SELECT count(*) FROM VPC_Flow", {"vpc_flow"}),
        ('FROM "vpc_flow_2_0" JOIN ledger_files USING (path)', {"vpc_flow", "ledger_files"}),
        ("WITH vpc_flow AS (SELECT * FROM vpc_flow) FROM vpc_flow", {"vpc_flow"}),
        ("WITH mine AS (FROM route53) SELECT * FROM mine", {"route53"}),
        ("SELECT * FROM guardduty_latest, cloud_trail_mgmt_unique", {"guardduty_findings", "cloud_trail_mgmt"}),
        ("FROM amazon_security_lake_glue_db_eu_west_1.amazon_security_lake_table_eu_west_1_s3_data_2_0", {"s3_data"}),
        ("SELECT 'route53' FROM information_schema.tables WHERE table_name <> 'vpc_flow'", None),
        ("SELECT * FROM vpc_flow, duckdb_views()", None),
        ("SHOW TABLES -- of route53", None),
        ("DESCRIBE vpc_flow", None),
        ("SELECT 1", set()),
        ("FROM vpc_flwo", None),
        ("SELECT (((", None),
    ],
)
def test_tables_are_left_out_only_where_it_is_certain_what_a_statement_reads(sql: str, shown: set[str] | None) -> None:
    parts = pruning.parts([sql], part_of)
    assert (None if parts is None else set(parts)) == shown


@pytest.mark.slow
def test_tables_can_be_listed_while_one_has_lost_a_file(whole: Path, tmp_path: Path) -> None:
    shutil.copytree(whole, tmp_path / "lake")
    for path in (tmp_path / "lake" / "aws" / "VPC_FLOW").rglob("*.parquet"):
        path.unlink()
    settings = config.load(lake=str(tmp_path / "lake"))
    for sql in ("SELECT 1", "SHOW TABLES", "SELECT count(*) FROM ledger_files WHERE table_name = 'vpc_flow'"):
        with query.connected(settings, sql) as connection:
            assert query.run(connection, sql).num_rows
    with query.connected(settings, "DESCRIBE vpc_flow") as connection:  # the columns are known without a file
        assert query.run(connection, "DESCRIBE vpc_flow").num_rows
    with pytest.raises(ReadError, match="is gone"), query.connected(settings, "SELECT * FROM vpc_flow"):
        pass


class _Interrupted:
    """A table of which DuckDB asks the columns at the moment of ^C."""

    @property
    def schema(self) -> None:
        raise KeyboardInterrupt

    def __arrow_c_stream__(self, _: object = None) -> None:
        raise KeyboardInterrupt


def _error_of_a_query(*_: object) -> None:
    raise RuntimeError("Query interrupted")


@pytest.mark.parametrize("part", [_error_of_a_query, lambda show, _: show.connection.register("x", _Interrupted())])
def test_an_interrupt_while_tables_are_shown_is_an_interrupt(
    whole: Path, part: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """DuckDB makes errors of its own of it."""
    monkeypatch.setattr(shown.Shown, "part", part)
    with pytest.raises(KeyboardInterrupt), query.connected(config.load(lake=str(whole)), "FROM vpc_flow"):
        pass
