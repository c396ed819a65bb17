"""The README's terminal sessions are what the commands print."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.flows.support import environment
from tests.support import PROJECT, SAMPLE_LOGS

README = (PROJECT / "README.md").read_text(encoding="utf-8")
SESSIONS = re.findall(r"^```console\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
AMOUNTS = re.compile(r" +\d+(?:\.\d)? (?:[kM]?B)|(?<=B) +\d+\.\d$", re.MULTILINE)
"""Sizes and seconds, which differ between machines and versions of packages."""


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[str, str, str]]:
    """Each command of the README with the output that it has there and the output that it has here."""
    folder = tmp_path_factory.mktemp("readme")
    (folder / "sample_logs").symlink_to(SAMPLE_LOGS)
    found = []
    for session in SESSIONS:
        for part in re.split(r"^\$ ", session, flags=re.MULTILINE)[1:]:
            command, _, output = part.partition("\n")
            found.append((command, output, _run(command, folder)))
    return found


def _run(command: str, folder: Path) -> str:
    run = subprocess.run(
        ["bash", "-c", command], cwd=folder, env=environment(), text=True, check=False,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=120,
    )  # fmt: skip
    return run.stdout


@pytest.mark.slow
def test_the_readme_shows_what_the_commands_print(shown: list[tuple[str, str, str]]) -> None:
    assert shown
    for command, said, printed in shown:
        assert AMOUNTS.sub(" #", printed) == AMOUNTS.sub(" #", said), command


def test_what_the_documentation_names_exists() -> None:
    run = subprocess.run(
        [sys.executable, "scripts/docs_check"], cwd=PROJECT, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr


def test_the_page_on_evidence_shows_what_the_commands_print(tmp_path: Path) -> None:
    (tmp_path / "sample_logs").symlink_to(SAMPLE_LOGS)
    page = (PROJECT / "docs/evidence.md").read_text(encoding="utf-8")
    for session in re.findall(r"^```console\n(.*?)^```", page, re.MULTILINE | re.DOTALL):
        for part in re.split(r"^\$ ", session, flags=re.MULTILINE)[1:]:
            command, _, output = part.partition("\n")
            assert _run(command, tmp_path).replace(str(tmp_path), "/home/ann") == output, command
