"""How much memory a long answer of wide rows takes, by form; measured in a process of its own."""

from __future__ import annotations

import gzip
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest

from bench import cloudtrail
from ocsf_lake import config
from ocsf_lake.query import lines, query

RECORDS, FILES = 4_000, 15
BOUND = 210 << 20
"""Beside what a process takes that opens a lake and asks nothing: how much of its libraries it has mapped is the
kernel's matter, and was 40 MiB more where they had just been installed. Of a million rows up to 330 MiB were measured,
of 141 for such a process; once JSON took 365, CSV 783 and Parquet 435."""

MEASURE = """
import ctypes, os, sys
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(41, 1, 0, 0, 0)  # PR_SET_THP_DISABLE
out = os.open(os.devnull, os.O_WRONLY)
actions = [(os.POSIX_SPAWN_DUP2, out, 1)]
_, status, usage = os.wait4(os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ, file_actions=actions), 0)
print(os.waitstatus_to_exitcode(status), usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024))
"""
"""A program in between: a process's peak begins with that of the one that started it.

Without huge pages, which a kernel may give where much memory is free, and which took 35 MiB more.
"""


def peak(*arguments: str) -> int:
    program = str(Path(sys.executable).with_name("ocsf-lake"))
    done = subprocess.run(
        [sys.executable, "-S", "-c", MEASURE, program, *arguments], capture_output=True, text=True, check=True
    )
    code, most = map(int, done.stdout.split())
    assert code == 0, done.stderr
    return most


@pytest.mark.slow
def test_wide_rows_are_streamed_within_a_bound_in_each_form(tmp_path: Path) -> None:
    logs, lake = tmp_path / "logs", str(tmp_path / "lake")
    logs.mkdir()
    for number in range(FILES):
        records = cloudtrail.records(f"wide/{number}", RECORDS, "111122223333", "eu-west-1", 0)
        with gzip.open(logs / f"{number}.json.gz", "wt", compresslevel=1) as file:
            file.write('{"Records":[' + ",".join(records) + "]}")
    peak("ingest", "aws_cloudtrail", str(logs), "--all", "--lake", lake)
    sql = "SELECT * FROM cloud_trail_mgmt"
    ways = (["--format", "csv"], ["--format", "json"], ["--format", "jsonl"], ["--output", str(tmp_path / "a.parquet")])
    peaks = {way[1]: peak("query", sql, "--lake", lake, *way) for way in ways}
    idle = peak("query", "SELECT 1", "--lake", lake)
    assert max(peaks.values()) - idle < BOUND, {way: most >> 20 for way, most in (peaks | {"idle": idle}).items()}


def test_cells_of_csv_are_told_from_formulas_without_a_join() -> None:
    """DuckDB makes a join of a long IN, with a table in memory for each column."""
    connection = duckdb.connect()
    names, types = [f"c{number}" for number in range(30)], [duckdb.sqltype("VARCHAR")] * 30
    rows = "SELECT " + ", ".join(f"'=' || i AS {name}" for name in names) + " FROM range(3) AS r(i)"
    sql = lines.csv_query(rows, names, types, on_terminal=False)
    ((_, plan),) = connection.execute(f"EXPLAIN (FORMAT json) {sql}").fetchall()
    assert "JOIN" not in plan.upper()
    assert connection.sql(sql).fetchall()[0][0] == ",".join(["'=0"] * 30) + "\n"


def test_what_a_sort_moves_to_disk_waits_for_no_log_in_memory(ready_lake: Path) -> None:
    """DuckDB writes its log under a lock, and moving rows to disk is a line of it: in memory, making room waits."""
    with query.connected(config.load(lake=str(ready_lake)), "FROM vpc_flow") as connection:
        ((storage,),) = connection.execute("SELECT current_setting('logging_storage')").fetchall()
    assert storage == "file"
