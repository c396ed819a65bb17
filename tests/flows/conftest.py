from __future__ import annotations

import io
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ocsf_lake.cli import main as cli
from tests.flows.support import Run, environment
from tests.servers.commands import Commands
from tests.support import SAMPLE_LOGS

RunCommand = Callable[..., Run]


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An empty working folder, and no settings from outside it."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("OCSF_LAKE_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def ocsf_lake(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> RunCommand:
    """`ocsf_lake("query", "SELECT 1")` runs a command in this process."""

    def run(*arguments: str, stdin: bytes = b"") -> Run:
        monkeypatch.setattr(sys, "argv", ["ocsf-lake", *arguments])
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        try:
            cli.main()
            code = 0
        except SystemExit as ended:
            code = int(ended.code or 0)
        printed = capfd.readouterr()
        return Run(code, printed.out, printed.err)

    return run


@pytest.fixture(scope="session")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Variables of a shell whose `ocsf-lake` begins at once."""
    commands = Commands(tmp_path_factory.mktemp("bin"))
    kept = environment()
    yield {**kept, "PATH": f"{commands.folder}{os.pathsep}{kept['PATH']}"}
    commands.end()


@pytest.fixture(scope="session")
def ready_lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake with one good file of each source and one that ends partly in quarantine; do not change it."""
    from ocsf_lake import config
    from ocsf_lake.ingest import run as ingest

    folder = tmp_path_factory.mktemp("ready")
    names = ["aws_cloudtrail/console_login_success.json", "aws_vpc_flow/version_5.log", "aws_vpc_flow/short_line.log"]
    for name in names:
        (folder / name).parent.mkdir(exist_ok=True)
        shutil.copy(SAMPLE_LOGS / name, folder / name)
    uris = [str(folder / "aws_cloudtrail"), str(folder / "aws_vpc_flow")]
    ingest.ingest(uris, config.load(lake=str(folder / "lake")))
    return folder / "lake"
