"""The lint rule that holds who may import whom (the ruff.toml beside each package) really catches a violation."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def banned_import_found(path: str, line: str) -> bool:
    """Whether ruff reports TID251 for `line` standing in a file at `path`; nothing is written there."""
    run = subprocess.run(
        [sys.executable, "-m", "ruff", "check", "--no-cache", "--select=TID251", f"--stdin-filename={path}", "-"],
        cwd=ROOT, input=f"{line}\n", capture_output=True, text=True, check=False,
    )
    assert run.returncode in (0, 1), run.stderr
    return "TID251" in run.stdout


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("ocsf_mappers/compiler/compile.py", "import ocsf_lake"),
        ("ocsf_mappers/compiler/compile.py", "from ocsf_lake.storage.layout import partition"),
        ("ocsf_mappers/compiler/compile.py", "import flows.ingest"),
        ("ocsf_mappers/compiler/compile.py", "from prefect import flow"),
        ("ocsf_mappers/readers/parquet.py", "import s3fs"),
        ("ocsf_mappers/ocsf/schema.py", "from os import environ"),
        ("ocsf_mappers/sources/aws_waf.py", "import ocsf_lake"),
        ("ocsf_mappers/sources/aws_waf.py", "from ocsf_mappers.vocabulary.expr import col"),
        ("ocsf_mappers/sources/aws_waf.py", "from ocsf_mappers import compiler"),
        ("ocsf_mappers/sources/aws_waf.py", "from ocsf_mappers.sources import aws_vpc_flow"),
        ("ocsf_lake/storage/parquet.py", "from flows import ingest"),
        ("ocsf_lake/ingest/run.py", "from ocsf_lake.flows import ingest"),
        ("ocsf_lake/catalogs/glue.py", "import prefect.client"),
        ("flows/report.py", "from ocsf_lake.cli import terminal"),
        ("flows/report.py", "import flows.worker"),
    ],
)
def test_an_import_against_the_direction_is_reported(path: str, line: str) -> None:
    assert banned_import_found(path, line)


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("ocsf_mappers/sources/aws_waf.py", "from ocsf_mappers import Mapper, col"),
        ("ocsf_mappers/compiler/compile.py", "from ocsf_mappers.vocabulary.expr import col"),
        ("ocsf_lake/storage/parquet.py", "from ocsf_mappers import registry"),
        ("flows/ingest.py", "from ocsf_lake.storage import parquet; import prefect"),
        ("tests/ocsf_lake/test_writer.py", "import ocsf_lake.flows.ingest, ocsf_lake.storage.parquet"),
    ],
)
def test_an_import_along_the_direction_passes(path: str, line: str) -> None:
    assert not banned_import_found(path, line)


def test_every_module_of_ocsf_mappers_is_closed_to_sources() -> None:
    rules = tomllib.loads((ROOT / "ocsf_mappers/sources/ruff.toml").read_text(encoding="utf-8"))
    closed = set(rules["lint"]["flake8-tidy-imports"]["extend-banned-api"])
    package = ROOT / "ocsf_mappers"
    names = {path.stem for path in package.glob("*.py")} | {path.parent.name for path in package.glob("*/*.py")}
    missing = {f"ocsf_mappers.{name}" for name in names - {"__init__", "__main__"}} - closed
    assert not missing, f"add to ocsf_mappers/sources/ruff.toml: {sorted(missing)}"
