"""The lint rule that holds who may import whom (the ruff.toml beside each package) really catches a violation."""

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from scripts import imports

ROOT = Path(__file__).parent.parent


def banned_import_found(path: str, line: str) -> bool:
    """Whether ruff reports TID251 for `line` standing in a file at `path`; nothing is written there."""
    run = subprocess.run(
        [sys.executable, "-m", "ruff", "check", "--no-cache", "--select=TID251", f"--stdin-filename={path}", "-"],
        cwd=ROOT,
        input=f"{line}\n",
        capture_output=True,
        text=True,
        check=False,
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
        ("ocsf_lake/storage/parquet.py", "from flows import ingest"),
        ("ocsf_lake/ingest/run.py", "from ocsf_lake.flows import ingest"),
        ("ocsf_lake/catalogs/glue.py", "import prefect.client"),
        ("flows/report.py", "from ocsf_lake.cli import terminal"),
        ("flows/report.py", "import flows.worker"),
        ("ocsf_lake/face/lake.py", "from ocsf_lake.cli import output"),
        ("ocsf_lake/face/lake.py", "import sqlalchemy as sa"),
        ("ocsf_lake/query/query.py", "from ocsf_lake.ingest import run"),
        ("ocsf_lake/query/query.py", "from ocsf_lake.upkeep import check"),
        ("ocsf_lake/query/lint.py", "import ocsf_lake.export.run"),
        ("ocsf_lake/query/query.py", "import sqlalchemy as sa"),
        ("ocsf_lake/inputs/coverage.py", "from sqlalchemy import select"),
        ("ocsf_lake/redaction/policy.py", "from ocsf_lake.ledger import redactions"),
        ("ocsf_lake/redaction/policy.py", "from ocsf_lake.ingest import run"),
        ("ocsf_lake/storage/store.py", "from ocsf_lake.config import Settings"),
        ("ocsf_lake/storage/store.py", "from ocsf_lake.ledger import ledger"),
        ("ocsf_lake/ledger/ledger.py", "from ocsf_lake.inputs import discovery"),
        ("ocsf_lake/ledger/replays.py", "from ocsf_lake.lake import Lake"),
        ("ocsf_lake/catalogs/glue.py", "from ocsf_lake.ledger.ledger import Ledger"),
        ("ocsf_lake/catalogs/glue.py", "from ocsf_lake.ingest import batch"),
        ("ocsf_lake/ingest/batch.py", "from ocsf_lake.upkeep import quarantine"),
        ("ocsf_lake/ingest/batch.py", "import sqlalchemy as sa"),
        ("ocsf_lake/upkeep/compact.py", "import sqlalchemy as sa"),
        ("ocsf_lake/upkeep/check.py", "from ocsf_lake.cli import output"),
        ("ocsf_lake/pages/facts.py", "from ocsf_lake.ingest import run"),
        ("ocsf_lake/pages/facts.py", "import sqlalchemy as sa"),
        ("ocsf_lake/upkeep/check.py", "from ocsf_lake.pages import todo"),
        ("ocsf_lake/evidence/bundle.py", "from ocsf_lake.lake import opened"),
        ("ocsf_lake/evidence/bundle.py", "from ocsf_lake.upkeep import trace"),
        ("ocsf_lake/evidence/bundle.py", "import sqlalchemy as sa"),
        ("ocsf_lake/evidence/verify.py", "from ocsf_lake.lake import opened"),
        ("ocsf_lake/evidence/verify.py", "from ocsf_lake.ledger import ledger"),
        ("ocsf_lake/evidence/tree.py", "from ocsf_lake.ingest import plan"),
        ("ocsf_lake/evidence/keys.py", "import sqlalchemy as sa"),
        ("ocsf_lake/detections/run.py", "from ocsf_lake.upkeep import check"),
        ("ocsf_lake/detections/run.py", "import sqlalchemy as sa"),
        ("ocsf_lake/ingest/run.py", "from ocsf_lake.detections import run"),
        ("ocsf_lake/detections/run.py", "from ocsf_lake.alerts import run"),
        ("ocsf_lake/alerts/run.py", "from ocsf_lake.detections import run"),
        ("ocsf_lake/alerts/run.py", "import prefect"),
        ("ocsf_lake/query/query.py", "from ocsf_lake.detections import rules"),
        ("ocsf_mappers/vocabulary/expr.py", "from ocsf_mappers.compiler import compile"),
        ("ocsf_mappers/readers/chunk.py", "from ocsf_mappers.vocabulary import record"),
        ("ocsf_mappers/ocsf/tables.py", "from ocsf_mappers.compiler import program"),
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
        ("ocsf_lake/ledger/files.py", "import sqlalchemy as sa"),
        ("ocsf_lake/upkeep/replay.py", "from ocsf_lake.query import query"),
        ("ocsf_lake/upkeep/trace.py", "from ocsf_lake.evidence import bundle"),
        ("ocsf_lake/evidence/tree.py", "from ocsf_lake.inputs import listing"),
        ("ocsf_lake/pages/facts.py", "from ocsf_lake.upkeep import health; from ocsf_lake.query import query"),
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
    missing = {f"ocsf_mappers.{name}" for name in names - {"__init__", "__main__", "sources"}} - closed
    assert not missing, f"add to ocsf_mappers/sources/ruff.toml: {sorted(missing)}"


STANDS_ON = {
    "storage": set(), "redaction": set(), "ledger": {"storage", "text"}, "catalogs": {"storage"},
    "inputs": {"config", "ledger", "storage"}, "evidence": {"config", "inputs", "storage"},
}  # fmt: skip
"""A room that knows little of `ocsf_lake` -> all that it may import of it."""


@pytest.mark.parametrize("room", STANDS_ON)
def test_a_room_that_knows_little_is_closed_to_the_rest(room: str) -> None:
    package = ROOT / "ocsf_lake"
    names = {path.stem for path in package.glob("*.py")} | {path.parent.name for path in package.glob("*/*.py")}
    rest = names - {"__init__", "__main__", "flows", "project", room} - STANDS_ON[room]
    missing = {f"ocsf_lake.{name}" for name in rest} - banned(room)
    assert not missing, f"add to ocsf_lake/{room}/ruff.toml: {sorted(missing)}"


def test_alerts_and_detections_are_for_the_command_line_and_flows() -> None:
    """And for `meant.py`, which reads mappers backwards as detections do."""
    rooms = {path.parent.name for path in (ROOT / "ocsf_lake").glob("*/*.py")} - {"cli", "flows"}
    for room in rooms:
        closed = {"ocsf_lake.alerts", "ocsf_lake.detections"} - {f"ocsf_lake.{room}"}
        assert closed <= banned(room), room


def banned(room: str) -> set[str]:
    rules = tomllib.loads((ROOT / "ocsf_lake" / room / "ruff.toml").read_text(encoding="utf-8"))
    return set(rules["lint"]["flake8-tidy-imports"]["extend-banned-api"])


def test_statements_over_the_ledger_are_written_in_the_ledger() -> None:
    """No room may except itself from the rule, and none knows the ledger's tables."""
    own_sql = {ROOT / "ocsf_lake/catalogs/iceberg.py", ROOT / "ocsf_lake/catalogs/iceberg_connection.py"}
    for path in [*(ROOT / "ocsf_lake").rglob("*.py"), *(ROOT / "flows").rglob("*.py")]:
        if path.is_relative_to(ROOT / "ocsf_lake/ledger"):
            continue
        closed = ("ocsf_lake.ledger.tables",) if path in own_sql else ("sqlalchemy", "ocsf_lake.ledger.tables")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [name.name for name in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                names += [node.module or "", *(f"{node.module}.{name.name}" for name in node.names)]
            assert not [name for name in names if name.startswith(closed)], path.relative_to(ROOT)


def test_one_source_does_not_build_on_another() -> None:
    """Ruff cannot tell a source's own folder from another source; what two share belongs in ocsf_mappers."""
    folder = ROOT / "ocsf_mappers/sources"
    for path in folder.rglob("*.py"):
        own = path.relative_to(folder).parts[0].removesuffix(".py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [name.name for name in node.names] if isinstance(node, ast.Import) else []
            names += [f"{'.' * node.level}{node.module or ''}"] if isinstance(node, ast.ImportFrom) else []
            others = [
                name for name in names
                if name.startswith((".", "ocsf_mappers.sources")) and name.split(".")[2:3] != [own]
            ]  # fmt: skip
            assert not others, f"{path.relative_to(ROOT)} imports {others}"


def test_rooms_make_no_circle() -> None:
    graph = {name: set(found) for name, found in imports.rooms().items()}
    while graph:
        free = [name for name, found in graph.items() if not found & graph.keys() - {name}]
        assert free, f"these import each other, one way or another: {graph}"
        for name in free:
            del graph[name]
