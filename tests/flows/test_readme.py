"""The terminal sessions of the README and of docs/ are what the commands print."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.support import PROJECT, SAMPLE_LOGS

PAGES = ("README.md", *(f"docs/{name}.md" for name in ("query", "backfill", "quarantine", "sources")))
"""In this order: the README makes the lake that other pages ask."""
SESSION = re.compile(r"^```console\n(.*?)^```", re.MULTILINE | re.DOTALL)
AMOUNTS = re.compile(r" +\d+(?:\.\d)? (?:[kM]?B)|(?<=B) +\d+\.\d$", re.MULTILINE)
"""Sizes and seconds, which differ between machines and versions of packages."""


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory, shell: dict[str, str]) -> list[tuple[str, str, str]]:
    """Each command of the pages with the output that it has there and the output that it has here."""
    folder = tmp_path_factory.mktemp("readme")
    (folder / "sample_logs").symlink_to(SAMPLE_LOGS)
    found = []
    texts = ((PROJECT / page).read_text(encoding="utf-8") for page in PAGES)
    for session in (session for text in texts for session in SESSION.findall(text)):
        for part in re.split(r"^\$ ", session, flags=re.MULTILINE)[1:]:
            command, _, output = part.partition("\n")
            found.append((command, output, _run(command, folder, shell)))
    return found


def _run(command: str, folder: Path, shell: dict[str, str]) -> str:
    run = subprocess.run(
        ["bash", "-c", command], cwd=folder, env=shell, text=True, check=False,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=120,
    )  # fmt: skip
    return run.stdout


@pytest.mark.slow
def test_the_pages_show_what_the_commands_print(shown: list[tuple[str, str, str]]) -> None:
    assert shown
    for command, said, printed in shown:
        assert alike(printed) == alike(said), command


def alike(output: str) -> str:
    """Output without amounts, and without the width that they give to a column."""
    return re.sub(r"─+", "─", re.sub(" +", " ", AMOUNTS.sub(" #", output)))


def test_the_page_on_evidence_shows_what_the_commands_print(tmp_path: Path, shell: dict[str, str]) -> None:
    (tmp_path / "sample_logs").symlink_to(SAMPLE_LOGS)
    page = (PROJECT / "docs/evidence.md").read_text(encoding="utf-8")
    for session in SESSION.findall(page):
        for part in re.split(r"^\$ ", session, flags=re.MULTILINE)[1:]:
            command, _, output = part.partition("\n")
            assert _run(command, tmp_path, shell).replace(str(tmp_path), "/home/ann") == output, command
