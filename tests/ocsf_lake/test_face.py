"""`import ocsf_lake` as a user holds it: opened, asked, streamed, written, and what it refuses."""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess
import sys
from datetime import date, datetime
from decimal import Decimal
from importlib.metadata import version
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest
from pyarrow import parquet

import ocsf_lake
from ocsf_lake.face import events as face_events
from ocsf_lake.face import lake as face_lake
from ocsf_lake.face import rows as face_rows
from ocsf_mappers import errors
from tests.servers.postgres import Postgres
from tests.support import PROJECT, SAMPLE_LOGS

HOSTILE = "<script>alert(1)</script>\x1b[31m\u202e"


@pytest.fixture(scope="module")
def place(logs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake of 80 CloudTrail records, 60 flows and what could not be read; do not change it."""
    found = tmp_path_factory.mktemp("face") / "lake"
    ocsf_lake.create(found).ingest(logs)
    return found


@pytest.fixture
def lake(place: Path) -> ocsf_lake.Lake:
    return ocsf_lake.open(place)


def tree(folder: Path) -> dict[str, bytes]:
    """Every file of a folder; the ledger's own shared memory excepted, which readers of SQLite make."""
    files = (path for path in folder.rglob("*") if path.is_file() and not path.name.endswith(("-shm", "-wal")))
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


# -- the module -------------------------------------------------------------------------------------------------------
def test_importing_it_is_quick_because_it_imports_nothing_heavy() -> None:
    heavy = "duckdb", "numpy", "ocsf_mappers", "prefect", "pyarrow", "pydantic_settings", "sqlalchemy", "typer"
    code = f"import sys, ocsf_lake\nsys.exit(' '.join(set({heavy!r}) & set(sys.modules)) or 0)"
    run = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr


@pytest.mark.slow
def test_using_a_lake_does_not_import_prefect(place: Path) -> None:
    code = (
        f"import sys, ocsf_lake\nlen(ocsf_lake.open({str(place)!r})['vpc_flow'])\n"
        "sys.exit(' '.join({'prefect', 'typer'} & set(sys.modules)) or 0)"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr


def test_all_is_what_is_offered() -> None:
    assert ocsf_lake.__all__ == sorted(ocsf_lake.__all__)
    homes = {
        "Error": errors.OcsfMappersError,
        **{name: getattr(errors, name) for name in ocsf_lake.__all__ if hasattr(errors, name)},
        **{name: getattr(face_events, name) for name in ("Events", "Problem", "Reject", "map", "validate")},
        **{name: getattr(face_lake, name) for name in ("Lake", "Result", "create", "open")},
        **{name: getattr(face_rows, name) for name in ("QueryWarning", "Rows")},
    }
    assert {name: getattr(ocsf_lake, name) for name in ocsf_lake.__all__} == homes
    assert set(ocsf_lake.__all__) <= set(dir(ocsf_lake))
    for name in ("ConfigError", "QueryError", "ReadError", "RetriableError", "WriteError"):
        assert issubclass(homes[name], ocsf_lake.Error)
    with pytest.raises(AttributeError, match="nonsense"):
        _ = ocsf_lake.nonsense


def test_everything_offered_is_described_in_the_documentation() -> None:
    page = (PROJECT / "docs" / "python.md").read_text(encoding="utf-8")
    public = [name for kind in (ocsf_lake.Lake, ocsf_lake.Rows, ocsf_lake.Result) for name in vars(kind)]
    missing = [name for name in [*ocsf_lake.__all__, *public] if not name.startswith("_") and name not in page]
    assert not missing


def test_both_packages_are_typed() -> None:
    assert all((PROJECT / package / "py.typed").is_file() for package in ("ocsf_lake", "ocsf_mappers"))


def test_the_module_runs_as_the_command() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "ocsf_lake", "--version"], cwd=PROJECT, capture_output=True, text=True, check=False
    )
    assert (run.returncode, run.stdout) == (0, f"{version('ocsf-lake')}\n"), run.stderr


# -- opening ----------------------------------------------------------------------------------------------------------
def test_open_never_makes_a_lake(tmp_path: Path) -> None:
    with pytest.raises(ocsf_lake.ConfigError, match=r"there is no lake at .*ocsf_lake\.create"):
        ocsf_lake.open(tmp_path / "nothing")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_lake_that_is_open_for_reading_cannot_be_written(lake: ocsf_lake.Lake, place: Path, logs: Path) -> None:
    before = tree(place)
    with pytest.raises(ocsf_lake.ConfigError, match="writable=True"):
        lake.ingest(logs)
    with pytest.raises(ocsf_lake.ConfigError, match="writable=True"):
        lake.backfill("aws_vpc_flow", logs, since="2025-03-11", until="2025-03-11")
    with pytest.raises(ocsf_lake.ConfigError, match="one statement that reads"):
        lake.sql("DELETE FROM vpc_flow")
    assert len(lake["vpc_flow"].to_arrow()) == len(lake["vpc_flow"]) == 60
    assert tree(place) == before


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_permission_to_read_is_enough(place: Path) -> None:
    for path in (place, *place.rglob("*")):
        path.chmod(0o500 if path.is_dir() else 0o400)
    try:
        assert len(ocsf_lake.open(place)["vpc_flow"]) == 60
    finally:
        for path in (place, *place.rglob("*")):
            path.chmod(0o700 if path.is_dir() else 0o600)


def test_create_makes_a_lake_once(tmp_path: Path) -> None:
    lake = ocsf_lake.create(tmp_path / "lake")
    assert len(lake["vpc_flow"]) == 0
    with pytest.raises(ocsf_lake.ConfigError, match="there is a lake at"):
        ocsf_lake.create(tmp_path / "lake")
    assert len(ocsf_lake.create(tmp_path / "lake", exist_ok=True)["vpc_flow"]) == 0


def test_a_relative_path_stays_the_same_lake(place: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(place.parent)
    lake = ocsf_lake.open("lake")
    monkeypatch.chdir(tmp_path)
    assert len(lake["vpc_flow"]) == 60
    assert lake.uri == str(place)


def test_settings_are_given_by_name(place: Path) -> None:
    with pytest.raises(ocsf_lake.ConfigError, match="did you mean 'workers'"):
        ocsf_lake.open(place, worker=1)


@pytest.mark.slow
@pytest.mark.integration
def test_a_ledger_in_postgresql_is_named_by_a_setting(postgres_server: Postgres, logs: Path, tmp_path: Path) -> None:
    place, ledger = tmp_path / "lake", postgres_server.database()
    with pytest.raises(ocsf_lake.ConfigError, match="there is no lake at"):
        ocsf_lake.open(place, ledger_url=ledger)
    written = ocsf_lake.create(place, ledger_url=ledger)
    with pytest.raises(ocsf_lake.ConfigError, match="there is a lake at"):
        ocsf_lake.create(place, ledger_url=ledger)
    written.ingest(logs / "AWSLogs" / "012345678901")
    lake = ocsf_lake.open(place, ledger_url=ledger)
    (flows,) = [line.split() for line in repr(lake.tables).splitlines() if line.startswith("vpc_flow ")]
    assert flows == ["vpc_flow", "30", "20250311", "20250311", "aws_vpc_flow"]
    objects = {row["source"]: row["objects"] for row in lake.status().to_dicts()}
    assert objects == {"aws_cloudtrail": 2, "aws_vpc_flow": 2}
    assert len(lake["vpc_flow"]) == 30


@pytest.mark.slow
@pytest.mark.integration
def test_a_lake_on_s3_is_opened_asked_and_written(bucket: str, logs: Path, tmp_path: Path) -> None:
    uri = f"s3://{bucket}/lake"
    with pytest.raises(ocsf_lake.ConfigError, match="OCSF_LAKE_STATE"):
        ocsf_lake.open(uri)
    result = ocsf_lake.create(uri, state=tmp_path / "state").ingest(logs / "AWSLogs" / "012345678901")
    assert result.events > 30
    lake = ocsf_lake.open(uri, state=tmp_path / "state")
    assert lake.sql("FROM vpc_flow WHERE accountid = $a", a="012345678901").to_arrow().num_rows == 30


# -- asking -----------------------------------------------------------------------------------------------------------
def test_values_are_parameters_and_never_part_of_the_statement(lake: ocsf_lake.Lake) -> None:
    rows = lake.sql("SELECT $text AS value, $number AS n, $day AS day", text="'; DROP", number=7, day=date(2025, 3, 11))
    assert rows.to_dicts() == [{"value": "'; DROP", "n": 7, "day": date(2025, 3, 11)}]
    denied = lake.sql("SELECT count(*) AS n FROM vpc_flow WHERE accountid = $a", a="012345678901")
    assert denied.to_dicts() == [{"n": 30}]


@pytest.mark.parametrize(
    ("query", "given", "message"),
    [
        ("SELECT $a", {}, "no value for a"),
        ("SELECT 1", {"b": 1}, r"no \$b in it"),
        ("SELECT 1; SELECT 2", {}, "one statement that reads"),
        ("COPY vpc_flow TO 'x'", {}, "one statement that reads"),
        ("SET threads = 1", {}, "one statement that reads"),
    ],
)
def test_what_is_no_question_is_refused_before_it_runs(
    lake: ocsf_lake.Lake, query: str, given: dict[str, object], message: str
) -> None:
    with pytest.raises(ocsf_lake.ConfigError, match=message):
        lake.sql(query, **given)


@pytest.mark.parametrize("query", ["SELEC 1", "SELECT nope FROM vpc_flow", "FROM nope", "SELECT 1 WHERE error('boom')"])
def test_a_query_that_cannot_run_is_an_error_of_ours(lake: ocsf_lake.Lake, query: str) -> None:
    with pytest.raises(ocsf_lake.QueryError, match=r"(?i)error"):
        lake.sql(query).to_arrow()


@pytest.mark.slow
def test_a_query_sees_the_lake_s_files_and_no_others(lake: ocsf_lake.Lake, tmp_path: Path) -> None:
    secret = tmp_path / "secret.csv"
    secret.write_text("a\n1\n")
    with pytest.raises(ocsf_lake.QueryError, match=r"(?i)permission"):
        lake.sql(f"FROM '{secret}'").to_arrow()
    with pytest.raises(ocsf_lake.QueryError, match="does not exist"):
        lake.sql("FROM secret").to_arrow()  # nor a variable of the caller


@pytest.mark.parametrize(
    "query", ["SELECT 1 AS a;", "SELECT 1 AS a -- é", "SELECT 1 AS a, 'é;' AS b; -- ';", "FROM (SELECT 1 AS a) ;"]
)
def test_semicolons_and_comments_at_the_end_do_no_harm(lake: ocsf_lake.Lake, query: str) -> None:
    rows = lake.sql(query)
    assert (len(rows), next(iter(rows.columns)), rows.to_dicts()[0]["a"]) == (1, "a", 1)


@pytest.mark.slow
def test_every_form_holds_the_same_rows(lake: ocsf_lake.Lake, tmp_path: Path) -> None:
    rows = lake.sql("SELECT src_endpoint, time_dt, accountid, unmapped FROM vpc_flow ORDER BY time, source_record")
    expected = rows.to_dicts()
    assert len(expected) == len(rows) == 60
    assert expected[0]["accountid"] in ("012345678901", "111122223333")
    assert isinstance(expected[0]["src_endpoint"], dict)
    assert isinstance(expected[0]["time_dt"], datetime)
    assert expected[0]["time_dt"].utcoffset() is not None
    assert rows.to_arrow().to_pylist(maps_as_pydicts="strict") == expected
    batches = list(rows.to_batches(7))
    assert max(map(len, batches)) <= 7
    assert pa.Table.from_batches(batches).to_pylist(maps_as_pydicts="strict") == expected
    assert pa.table(rows).to_pylist(maps_as_pydicts="strict") == expected
    with duckdb.connect() as connection:
        taken = connection.from_arrow(rows).project("accountid").fetchall()
    assert taken == [(row["accountid"],) for row in expected]
    rows.to_parquet(tmp_path / "rows.parquet")
    assert parquet.read_table(tmp_path / "rows.parquet").to_pylist(maps_as_pydicts="strict") == expected
    rows.to_csv(tmp_path / "rows.csv")
    with (tmp_path / "rows.csv").open(newline="") as file:
        read = list(csv.DictReader(file))
    assert [json.loads(row["src_endpoint"]) for row in read] == [row["src_endpoint"] for row in expected]
    assert [row["accountid"] for row in read] == [row["accountid"] for row in expected]
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["rows.csv", "rows.parquet"]
    assert not hasattr(rows, "arrow")  # a table in most heads, a reader in DuckDB's


@pytest.mark.slow
def test_rows_become_frames_of_pandas_and_polars(lake: ocsf_lake.Lake) -> None:
    pandas, polars = pytest.importorskip("pandas"), pytest.importorskip("polars")
    rows = lake.sql("SELECT src_endpoint, time_dt, accountid, unmapped FROM vpc_flow ORDER BY time, source_record")
    expected = rows.to_dicts()
    for frame in (rows.to_pandas(), rows.df()):
        assert isinstance(frame, pandas.DataFrame)
        assert list(frame["accountid"]) == [row["accountid"] for row in expected]
        assert list(frame["unmapped"]) == [row["unmapped"] for row in expected]
        assert list(frame["time_dt"]) == [row["time_dt"] for row in expected]
    for frame in (rows.to_polars(), rows.pl(), polars.DataFrame(rows)):
        assert isinstance(frame, polars.DataFrame)
        assert frame["accountid"].to_list() == [row["accountid"] for row in expected]
        assert frame["time_dt"].to_list() == [row["time_dt"] for row in expected]


def test_a_missing_library_is_named(lake: ocsf_lake.Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "polars", None)
    with pytest.raises(ocsf_lake.ConfigError, match="pip install polars"):
        lake["vpc_flow"].pl()


@pytest.mark.slow
def test_rows_of_nothing_have_their_columns(lake: ocsf_lake.Lake, tmp_path: Path) -> None:
    rows = lake.sql("SELECT accountid FROM vpc_flow WHERE false")
    assert (len(rows), rows.to_dicts(), rows.to_arrow().column_names) == (0, [], ["accountid"])
    rows.to_parquet(tmp_path / "rows.parquet")
    assert parquet.read_table(tmp_path / "rows.parquet").column_names == ["accountid"]
    rows.to_csv(tmp_path / "rows.csv")
    assert (tmp_path / "rows.csv").read_text() == "accountid\n"


@pytest.mark.slow
def test_a_file_that_is_there_is_replaced_by_a_whole_one_or_not_at_all(lake: ocsf_lake.Lake, tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    file.write_text("before\n")
    with pytest.raises(ocsf_lake.QueryError, match="boom"):
        lake.sql("SELECT CASE WHEN i = 5000 THEN error('boom') ELSE 'x' END AS v FROM range(6000) t(i)").to_csv(file)
    assert file.read_text() == "before\n"
    with pytest.raises(ocsf_lake.QueryError, match="Parquet cannot hold"):
        lake.sql("SELECT INTERVAL 1 month AS i").to_parquet(file)
    assert [path.name for path in tmp_path.iterdir()] == ["rows.csv"]
    lake.sql("SELECT '=1+1' AS v, 1.5::DECIMAL(4, 2) AS d").to_csv(file)
    assert file.read_text() == "v,d\n'=1+1,1.50\n"


@pytest.mark.slow
def test_other_statements_that_read_have_rows_too(lake: ocsf_lake.Lake) -> None:
    assert "vpc_flow" in {row["name"] for row in lake.sql("SHOW TABLES").to_dicts()}
    assert len(lake.sql("DESCRIBE vpc_flow")) == len(lake["vpc_flow"].columns)
    assert "PARQUET" in lake.sql("EXPLAIN SELECT * FROM vpc_flow").to_dicts()[0]["explain_value"].upper()


@pytest.mark.slow
def test_each_method_sees_the_lake_as_it_is_then(logs: Path, tmp_path: Path) -> None:
    lake = ocsf_lake.create(tmp_path / "lake")
    flows = lake["vpc_flow"]
    assert len(flows) == 0
    lake.ingest(logs / "AWSLogs" / "012345678901" / "vpcflowlogs")
    assert len(flows) == 30


INTERRUPTED = r"""
import signal, sys
import ocsf_lake
rows = ocsf_lake.open(sys.argv[1]).sql("SELECT sum(a.i * b.i) AS s FROM range(10_000_000) a(i), range(1_000_000) b(i)")
signal.signal(signal.SIGALRM, signal.default_int_handler)
signal.setitimer(signal.ITIMER_REAL, 0.5)
try:
    rows.to_arrow()
except KeyboardInterrupt:
    print("interrupted")
"""


@pytest.mark.slow
def test_an_interrupt_ends_a_query_that_computes(place: Path) -> None:
    """It would take an hour."""
    run = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, str(place)], cwd=PROJECT, capture_output=True, text=True, check=False,
        timeout=60,
    )  # fmt: skip
    assert run.stdout == "interrupted\n", run.stderr


@pytest.mark.slow
def test_an_event_is_followed_to_its_record(lake: ocsf_lake.Lake) -> None:
    found = lake.sql("SELECT metadata.uid AS uid, source_object, source_record FROM cloud_trail_mgmt LIMIT 1")
    uid, uri, record = found.to_dicts()[0].values()
    place = f"{uri}#{record}"
    (event,) = lake.trace(uid)["events"]
    assert json.loads(event["record"]["text"])["eventID"] == uid
    assert lake.trace(place, table="cloud_trail_mgmt")["events"] == [event]
    (row,) = found.to_dicts()
    assert lake.trace(row)["events"] == [event]
    assert lake.trace("none")["events"] == []
    with pytest.raises(ocsf_lake.ConfigError, match="source_object and source_record"):
        lake.trace({"uid": uid})


@pytest.mark.slow
def test_hours_are_rows_and_a_page_is_written(lake: ocsf_lake.Lake, tmp_path: Path) -> None:
    first, count = lake.sql("SELECT min(hour)::DATE::VARCHAR, count(*) FROM coverage").to_dicts()[0].values()
    assert 0 < len(lake.coverage(since=first, until=date.fromisoformat(first))) < len(lake.coverage()) == count
    with pytest.raises(ocsf_lake.ConfigError, match="no day such as"):
        lake.coverage(since="yesterday")
    lake.report(tmp_path / "page.html", since="2026-03-16", until="2026-03-19")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert page.startswith("<!doctype html>")
    assert "2026-03-17" in page
    with pytest.raises(ocsf_lake.ConfigError, match="cannot write"):
        lake.report(tmp_path / "nowhere" / "page.html")


# -- a damaged lake ---------------------------------------------------------------------------------------------------
@pytest.mark.slow
def test_a_file_that_is_gone_or_changed_is_an_error_and_no_smaller_answer(logs: Path, tmp_path: Path) -> None:
    lake = ocsf_lake.create(tmp_path / "lake")
    lake.ingest(logs / "AWSLogs" / "012345678901" / "vpcflowlogs")
    flows = lake["vpc_flow"]
    (file,) = (tmp_path / "lake").rglob("*.parquet")
    whole = file.read_bytes()
    file.write_bytes(whole[:200] + bytes([whole[200] ^ 1]) + whole[201:])
    ways = flows.to_arrow, flows.to_dicts, lambda: list(flows.to_batches()), lambda: flows.to_csv(tmp_path / "x")
    for read in ways:
        with pytest.raises(ocsf_lake.ReadError, match="catalog sync"):
            read()
    assert not (tmp_path / "x").exists()
    file.unlink()
    with pytest.raises(ocsf_lake.ReadError, match="is gone"):
        flows.to_arrow()


def test_no_batch_is_given_before_its_file_is_held_against_its_checksum(logs: Path, tmp_path: Path) -> None:
    lake = ocsf_lake.create(tmp_path / "lake")
    lake.ingest(logs / "AWSLogs" / "012345678901" / "vpcflowlogs")
    (file,) = (tmp_path / "lake").rglob("*.parquet")
    whole = bytearray(file.read_bytes())
    whole[len(whole) // 3] ^= 1
    file.write_bytes(whole)
    with pytest.raises(ocsf_lake.Error):
        next(lake.sql("SELECT accountid FROM vpc_flow").to_batches(5))


# -- memory -----------------------------------------------------------------------------------------------------------
STREAM = r"""
import pathlib, re, sys
import ocsf_lake
lake = ocsf_lake.open(sys.argv[1])
for times in sys.argv[4:]:
    rows = lake.sql(f"SELECT t.*, i, repeat('x', 2000) || i AS filler FROM vpc_flow t, range({times}) r(i)")
    match sys.argv[2]:
        case "batches":
            found = sum(map(len, rows.to_batches()))
        case "parquet":
            rows.to_parquet(sys.argv[3])
            found = len(rows)
    peak = int(re.search(r"VmHWM:\s+(\d+)", pathlib.Path("/proc/self/status").read_text())[1])
    print(found, peak // 1024)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads peak memory as Linux tells it")
@pytest.mark.parametrize("form", ["batches", "parquet"])
def test_memory_does_not_grow_with_the_rows_that_are_streamed(place: Path, tmp_path: Path, form: str) -> None:
    few, many = 10, 2_000  # 120,000 rows of 2 kB and more: 240 MB
    run = subprocess.run(
        [sys.executable, "-c", STREAM, str(place), form, str(tmp_path / "rows.parquet"), f"{few}", f"{many}"],
        cwd=PROJECT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    (of_few, small), (of_many, large) = (map(int, line.split()) for line in run.stdout.splitlines())
    assert (of_few, of_many) == (60 * few, 60 * many)
    assert large < small + 150  # from 60,000 rows to five times as many, 50 MB for batches and 95 for Parquet


# -- tables -----------------------------------------------------------------------------------------------------------
@pytest.mark.slow
def test_tables_are_listed_with_what_they_hold(lake: ocsf_lake.Lake) -> None:
    assert next(iter(lake.tables)) == "cloud_trail_mgmt"
    assert len(lake.tables["vpc_flow"]) == 60
    lines = repr(lake.tables).splitlines()
    written = {row["table_name"] for row in lake.sql("SELECT DISTINCT table_name FROM ledger_files").to_dicts()}
    filled = [name for name in lake.tables if name in written]
    assert [line.split()[0] for line in lines[1:]] == filled  # of the others there is nothing to say
    assert 0 < len(filled) < len(lake.tables)
    (flows,) = [line.split() for line in lines if line.startswith("vpc_flow ")]
    assert flows == ["vpc_flow", "60", "20250311", "20250311", "aws_vpc_flow"]
    assert "<td>60</td>" in lake.tables._repr_html_()
    with pytest.raises(KeyError, match="did you mean 'vpc_flow'"):
        lake.tables["vpcflow"]
    assert "nope" not in lake.tables


@pytest.mark.slow
def test_a_table_is_asked_by_any_of_its_names(lake: ocsf_lake.Lake) -> None:
    assert len(lake["vpc_flow_2_0"]) == len(lake["vpc_flow"])
    assert len(lake["guardduty_latest"]) == 0
    assert lake["vpc_flow"].columns["accountid"] == "VARCHAR"
    assert re.search(r"^accountid +VARCHAR$", repr(lake["vpc_flow"].columns), re.MULTILINE)
    with pytest.raises(KeyError, match="did you mean 'vpc_flow'"):
        lake["vpcflow"]


def test_status_and_quarantine_are_rows(lake: ocsf_lake.Lake) -> None:
    status = {row["source"]: row for row in lake.status().to_dicts()}
    assert (status["aws_vpc_flow"]["events"], status["aws_vpc_flow"]["batches"]) == (60, {"done": 1})
    assert {row["source"] for row in lake.quarantine.to_dicts()} == {"aws_cloudtrail"}


def frames(tmp_path: Path) -> dict[str, object]:
    """Two accounts and a note, in every form that a table may have."""
    rows = [{"account": "012345678901"}, {"account": "5", "note": "x"}]
    table = pa.table({"account": ["012345678901", "5"], "note": [None, "x"]})
    parquet.write_table(table, tmp_path / "t.parquet")
    (tmp_path / "t [1].csv").write_text("account,note\n012345678901,\n5,x\n")
    (tmp_path / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return {
        "arrow": table, "batches": pa.RecordBatchReader.from_batches(table.schema, table.to_batches()),
        "dictionary": {"account": ["012345678901", "5"]}, "rows": rows, "parquet": tmp_path / "t.parquet",
        "csv": str(tmp_path / "t [1].csv"), "jsonl": tmp_path / "t.jsonl",
    }  # fmt: skip


@pytest.mark.slow
def test_tables_of_one_s_own_stand_beside_the_lake_s(lake: ocsf_lake.Lake, tmp_path: Path) -> None:
    for form, given in frames(tmp_path).items():
        more = lake.with_tables(Mine=given)
        query = "SELECT count(*) AS n FROM vpc_flow JOIN mine ON accountid = account"
        for _ in range(2 if form == "batches" else 1):  # a stream is read once, and kept
            assert more.sql(query).to_dicts() == [{"n": 30}], form
        assert len(more["Mine"]) == 2
        if form in ("rows", "jsonl", "csv"):
            assert more.sql("SELECT note FROM mine WHERE account = '5'").to_dicts() == [{"note": "x"}]
    with pytest.raises(ocsf_lake.QueryError):
        lake.sql("FROM mine").to_arrow()
    assert len(lake.with_tables(flows=lake["vpc_flow"])["flows"]) == 60


def test_what_is_no_table_is_refused(lake: ocsf_lake.Lake, tmp_path: Path) -> None:
    (tmp_path / "broken.parquet").write_bytes(b"PAR1")
    (tmp_path / "broken.jsonl").write_bytes(b"{")
    for name, given, message in (
        ("vpc_flow", {"a": [1]}, "there is a table"), ("LEDGER_files", {"a": [1]}, "there is a table"),
        ("a b", {"a": [1]}, "not a valid table name"), ("x", 7, "is a int, and no table"),
        ("x", {"a": [1], "b": []}, "is no table"), ("x", tmp_path / "t.xlsx", "must end in"),
    ):  # fmt: skip
        with pytest.raises(ocsf_lake.ConfigError, match=message):
            lake.with_tables(**{name: given})
    for name in ("broken.parquet", "broken.jsonl", "nothing.csv"):
        with pytest.raises(ocsf_lake.ReadError, match=name):
            lake.with_tables(x=tmp_path / name)


# -- what people see --------------------------------------------------------------------------------------------------
@pytest.mark.slow
def test_a_notebook_shows_twenty_rows_and_no_markup_of_a_log(lake: ocsf_lake.Lake) -> None:
    page = lake.sql(f"SELECT '{HOSTILE}' AS \"{HOSTILE}\", [1] AS list FROM range(25)")._repr_html_()
    assert page.count("<tr>") == 21
    assert "the first 20 rows" in page
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert not set("\x1b\u202e") & set(page)
    assert "the first" not in lake.sql("SELECT 1 FROM range(20)")._repr_html_()
    assert len(lake.sql("SELECT repeat('y', 9999) AS y")._repr_html_()) < 500


def test_repr_runs_nothing(lake: ocsf_lake.Lake) -> None:
    assert repr(lake.sql("SELECT error('boom')\n  FROM vpc_flow")) == "<Rows SELECT error('boom') FROM vpc_flow>"
    assert repr(lake) == f"<Lake {lake.uri}, read-only>"


@pytest.mark.parametrize(
    ("sql", "parameters"),
    [
        ("FROM vpc_flow WHERE action = 'REJECT'", {}),
        ("SELECT count(*) FROM vpc_flow WHERE action <> 'REJECT'", {}),
        ("FROM vpc_flow WHERE action = $a", {"a": "reject"}),
    ],
)
def test_a_condition_that_no_row_meets_is_a_warning_at_the_caller(
    lake: ocsf_lake.Lake, sql: str, parameters: dict[str, str]
) -> None:
    with pytest.warns(ocsf_lake.QueryWarning, match=r"no row has '(?i:reject)'.*'Denied'") as told:
        lake.sql(sql, **parameters).to_dicts()
    assert [warning.filename for warning in told] == [__file__]


def test_a_right_query_warns_of_nothing(lake: ocsf_lake.Lake) -> None:
    for sql in ("FROM vpc_flow WHERE action = 'Denied' AND time < 0", "FROM vpc_flow WHERE action <> 'Denied'"):
        lake.sql(sql).to_arrow()  # a warning is an error here


def test_explain_says_what_was_read_and_what_is_doubtful(lake: ocsf_lake.Lake) -> None:
    rows = lake.sql("FROM vpc_flow WHERE accountid = $a AND action = $b", a="012345678901", b="REJECT")
    found = rows.explain()
    assert (found.cost.rows, found.cost.files, found.cost.of_files) == (0, 1, 2)
    assert [finding.rule for finding in found.findings] == ["no-such-value"]
    assert "0 rows from 1 of 2 files" in repr(found)
    assert "action = 'Denied'" in repr(found)


# -- writing ----------------------------------------------------------------------------------------------------------
@pytest.mark.slow
def test_ingest_says_what_became_of_the_records(logs: Path, tmp_path: Path) -> None:
    lake = ocsf_lake.create(tmp_path / "lake")
    done = lake.ingest(logs)
    assert done.records == done.events + done.quarantined + done.dropped
    assert (done.objects, done.events, done.quarantined) == (8, 140, 2)
    assert (done.failed, done.raise_for_failures()) == (False, done)
    assert done.to_dict()["sources"]["aws_vpc_flow"]["events"] == 60
    assert repr(done).startswith("<Result 8 objects, ")
    assert "aws_vpc_flow" in done._repr_html_()
    assert lake.ingest(logs).events == 0  # each record once
    assert len(lake["vpc_flow"]) == 60
    writable = ocsf_lake.open(tmp_path / "lake", writable=True)
    assert writable.ingest(str(logs), source="aws_vpc_flow").events == 0


def test_what_fails_is_told(tmp_path: Path) -> None:
    lake = ocsf_lake.create(tmp_path / "lake")
    (tmp_path / "x.log").write_text("nothing that is known\n")
    done = lake.ingest(tmp_path / "x.log")
    assert done.failed
    with pytest.raises(ocsf_lake.WriteError, match="1 object skipped"):
        done.raise_for_failures()
    assert "1 object skipped" in repr(done)
    with pytest.raises(ocsf_lake.ConfigError, match="say what to ingest"):
        lake.ingest()
    with pytest.raises(ocsf_lake.ConfigError):
        lake.ingest(tmp_path / "nothing")


@pytest.mark.slow
def test_backfill_takes_days_as_dates_or_text(logs: Path, tmp_path: Path) -> None:
    lake = ocsf_lake.create(tmp_path / "lake")
    day = {"since": date(2025, 3, 11), "until": "2025-03-11"}
    expected = ocsf_lake.open(tmp_path / "lake").backfill("aws_vpc_flow", logs, **day, dry_run=True)
    assert (expected.objects, expected.known) == (4, 0)
    assert lake.backfill("aws_vpc_flow", logs, **day, accounts=["012345678901"]).events == 30
    assert lake.backfill("aws_vpc_flow", str(logs), **day).events == 30
    with pytest.raises(ocsf_lake.ConfigError, match="since is 'yesterday'"):
        lake.backfill("aws_vpc_flow", logs, since="yesterday", until="2025-03-11")
    with pytest.raises(ocsf_lake.ConfigError, match="the range ends"):
        lake.backfill("aws_vpc_flow", logs, since="2025-03-12", until="2025-03-11")


# -- without a lake ---------------------------------------------------------------------------------------------------
@pytest.mark.slow
def test_a_file_is_mapped_and_the_events_are_valid() -> None:
    file = SAMPLE_LOGS / "aws_cloudtrail" / "console_login_success.json"
    expected = json.loads(file.with_name("console_login_success.expected.json").read_text(encoding="utf-8"))
    events = ocsf_lake.map(file)
    assert events.source == "aws_cloudtrail"
    for _ in range(2):
        found = list(events)
        assert [event["class_uid"] for event in found] == [item["event"]["class_uid"] for item in expected["events"]]
        assert (events.rejects, ocsf_lake.validate(found)) == ([], [])
    assert ocsf_lake.map(file, "aws_cloudtrail", ocsf_version="1.5.0").source == "aws_cloudtrail"
    assert next(iter(ocsf_lake.map(file, ocsf_version="1.5.0")))["metadata"]["version"] == "1.5.0"


def test_a_record_that_becomes_no_event_is_not_passed_over_in_silence() -> None:
    events = ocsf_lake.map(SAMPLE_LOGS / "aws_vpc_flow" / "short_line.log")
    with pytest.warns(UserWarning, match="1 record of .* became no events"):
        assert len(list(events)) == 1
    assert events.rejects == [ocsf_lake.Reject(2, "9 values where the header names 14")]


def test_what_cannot_be_mapped_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "x.log").write_text("nothing that is known\n")
    with pytest.raises(ocsf_lake.ConfigError, match="name the source"):
        ocsf_lake.map(tmp_path / "x.log")
    with pytest.raises(ocsf_lake.ConfigError, match="cannot read"):
        ocsf_lake.map(tmp_path / "nothing.log")
    with pytest.raises(ocsf_lake.ConfigError, match="did you mean"):
        ocsf_lake.map(tmp_path / "x.log", "aws_vpcflow")
    with pytest.raises(ocsf_lake.ReadError, match="none of the formats"):
        list(ocsf_lake.map(tmp_path / "x.log", "aws_guardduty"))


@pytest.mark.slow
def test_events_are_validated_in_every_form(lake: ocsf_lake.Lake, tmp_path: Path) -> None:
    bad = {"class_uid": 4001, "metadata": {"version": "1.1.0"}, "score": Decimal("1.5")}
    expected = ocsf_lake.validate(bad)
    assert {problem.event for problem in expected} == {1}
    assert ("activity_id", False) in {(problem.path, problem.warning) for problem in expected}
    text = json.dumps(bad, default=float)
    (tmp_path / "bad.json").write_text(text)
    assert ocsf_lake.validate([bad]) == ocsf_lake.validate([text]) == ocsf_lake.validate([text.encode()]) == expected
    assert ocsf_lake.validate(tmp_path / "bad.json") == ocsf_lake.validate(str(tmp_path / "bad.json")) == expected
    assert [problem for problem in ocsf_lake.validate(lake.sql("FROM vpc_flow")) if not problem.warning] == []
    with pytest.raises(ocsf_lake.ConfigError, match="cannot read"):
        ocsf_lake.validate(tmp_path / "nothing.json")
