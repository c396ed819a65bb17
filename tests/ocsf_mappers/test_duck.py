"""DuckDB as every room opens it."""

import subprocess
import sys
from pathlib import Path

import pytest

from ocsf_mappers import duck
from tests.support import PROJECT, SAMPLE_LOGS

SLOW = """
from ocsf_mappers import duck
connection = duck.connect()
connection.execute("SET progress_bar_time = 1")  # as if a query of a millisecond were a long one
connection.execute("CREATE TABLE t AS SELECT i, repeat('x', 100) || i AS s FROM range(500000) r(i)")
rows = connection.sql("SELECT i, md5(s) AS m FROM t ORDER BY m").to_arrow_table()
"""


JUPYTER = """
import sys, types
shell = types.SimpleNamespace(config={"IPKernelApp": {}})
sys.modules["IPython"] = types.ModuleType("IPython")
sys.modules["IPython"].get_ipython = lambda: shell  # so DuckDB knows that it is in a notebook
sys.modules["ipywidgets"] = None
import duckdb
try:
    duckdb.connect().execute("SET enable_progress_bar = false")
except duckdb.Error as error:
    assert "ipywidgets" in str(error)
else:
    raise AssertionError("DuckDB does not take this for a notebook any more")
import ocsf_lake
done = ocsf_lake.create(sys.argv[1]).ingest(sys.argv[2])
print(done.events, done.quarantined, len(ocsf_lake.open(sys.argv[1])["vpc_flow"]))
"""


@pytest.mark.slow
def test_records_are_mapped_in_a_notebook_without_widgets_too(tmp_path: Path) -> None:
    """DuckDB refuses to switch its progress bar off there, which is off."""
    logs = SAMPLE_LOGS / "aws_vpc_flow" / "version_5.log"
    command = [sys.executable, "-c", JUPYTER, str(tmp_path / "lake"), str(logs)]
    run = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    events, quarantined, rows = map(int, run.stdout.split())
    assert (events, quarantined) == (rows, 0)
    assert rows > 0


@pytest.mark.slow
def test_nothing_is_drawn_among_the_data_while_a_query_takes_long() -> None:
    run = subprocess.run([sys.executable, "-c", SLOW], capture_output=True, text=True, check=True)
    assert (run.stdout, run.stderr) == ("", "")


def test_the_first_rows_by_a_member_of_an_object_have_its_other_members(tmp_path: Path) -> None:
    file = tmp_path / "rows.parquet"
    with duck.connect() as connection:
        connection.execute(
            f"COPY (SELECT i AS time, {{type: 'Root', name: 'n' || i}} AS actor FROM range(9) r(i)) TO '{file}'"
        )
        query = f"SELECT actor.name FROM '{file}' WHERE actor.type = 'Root' ORDER BY time DESC LIMIT 2"
        assert connection.execute(query).fetchall() == [("n8",), ("n7",)]
