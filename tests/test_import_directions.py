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
        ("ocsf_mappers/compile.py", "import lake"),
        ("ocsf_mappers/compile.py", "from lake.layout import partition"),
        ("ocsf_mappers/compile.py", "import flows.cli"),
        ("ocsf_mappers/compile.py", "from prefect import flow"),
        ("ocsf_mappers/readers/parquet.py", "import s3fs"),
        ("ocsf_mappers/schema.py", "from os import environ"),
        ("ocsf_mappers/sources/aws_waf.py", "import lake"),
        ("ocsf_mappers/sources/aws_waf.py", "from ocsf_mappers.expr import col"),
        ("ocsf_mappers/sources/aws_waf.py", "from ocsf_mappers import compile"),
        ("ocsf_mappers/sources/aws_waf.py", "from ocsf_mappers.sources import aws_vpc_flow"),
        ("schemas/compile_ocsf.py", "import lake"),
        ("schemas/compile_ocsf.py", "import flows"),
        ("schemas/compile_ocsf.py", "import prefect"),
        ("lake/writer.py", "from flows import cli"),
        ("lake/catalog/glue.py", "import prefect.client"),
    ],
)
def test_an_import_against_the_direction_is_reported(path: str, line: str) -> None:
    assert banned_import_found(path, line)


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("ocsf_mappers/sources/aws_waf.py", "from ocsf_mappers import Mapper, col"),
        ("ocsf_mappers/compile.py", "from ocsf_mappers.expr import col"),
        ("lake/writer.py", "from ocsf_mappers import registry"),
        ("flows/ingest.py", "from lake import writer; import prefect"),
        ("tests/lake/test_writer.py", "import flows.cli, lake.writer"),
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
