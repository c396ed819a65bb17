"""What commands do before and after what they are for: each module that is loaded is time that everybody waits."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import PROJECT

LOG = PROJECT / "sample_logs" / "aws_vpc_flow"

SCRIPT = """
import json, sys
from ocsf_lake.cli.main import app

def loaded(*arguments):
    app([*arguments, "--lake", sys.argv[1]], standalone_mode=False)
    return sorted(sys.modules)

print(json.dumps(loaded(*sys.argv[2:])), file=sys.stderr)
"""


@pytest.mark.slow
def test_a_query_loads_no_engine_and_no_command_pandas_or_another_database(tmp_path: Path) -> None:
    from ocsf_lake import config, lake

    with lake.opened(config.load(lake=str(tmp_path / "lake"))):
        pass
    stub = tmp_path / "installed" / "pandas"  # what is asked for whenever pandas is installed
    stub.mkdir(parents=True)
    (stub / "__init__.py").write_text("__version__ = '3.0.0'\n")

    def loaded(*arguments: str) -> list[str]:
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT, str(tmp_path / "lake"), *arguments],
            env={**os.environ, "PYTHONPATH": str(stub.parent)}, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        modules: list[str] = json.loads(done.stderr.splitlines()[-1])
        return modules

    query = loaded("query", "SELECT count(*) + 1 AS n FROM vpc_flow_2_0")
    ingest = loaded("ingest", str(next(LOG.glob("*.log"))))
    assert "duckdb" in query
    heavy = ("ocsf_mappers.engine", "ocsf_mappers.readers", "ocsf_mappers.vocabulary.mapper", "ocsf_mappers.sources.")
    assert [name for name in query if name.startswith((*heavy, "pyarrow.parquet", "prefect", "boto"))] == []
    assert "ocsf_mappers.engine.engine" in ingest
    assert "pandas" not in {*query, *ingest}
    assert "sqlalchemy.dialects.sqlite" in ingest
    assert [name for name in {*query, *ingest} if name.startswith("sqlalchemy.dialects.postgresql")] == []


ENDING = """
import atexit, os
from ocsf_lake.cli import main as cli

class Part:
    def __del__(self, write=os.write):
        write(2, b"taken apart")

part = Part()
part.itself = part

def main(run=cli.main):
    atexit.register(print, "closed")
    run()

cli.main = main
cli.entry_point()
"""


def ended(*arguments: str, out: int = subprocess.PIPE) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", ENDING, *arguments]
    return subprocess.run(command, stdout=out, stderr=subprocess.PIPE, text=True, check=False)


@pytest.mark.slow
def test_a_command_ends_when_all_is_closed_and_written_and_takes_nothing_apart() -> None:
    done = ended("sources", "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == "closed"
    assert "Usage:" in done.stdout
    done = ended("sauces")
    assert done.returncode == 2
    assert "No such command" in done.stderr
    assert "taken apart" not in done.stderr


@pytest.mark.slow
def test_a_command_whose_answer_cannot_be_written_fails() -> None:
    with Path("/dev/full").open("w") as full:
        done = ended("sources", "--help", out=full.fileno())
    assert done.returncode != 0
    assert "No space left on device" in done.stderr
