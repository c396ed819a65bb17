"""docs/tutorial.md, run as it stands: its commands in a shell, its files written, what it shows compared."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import PROJECT

PAGE = PROJECT / "docs" / "tutorial.md"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def steps() -> Iterator[tuple[str, str]]:
    yield from BLOCK.findall(PAGE.read_text(encoding="utf-8"))


@pytest.mark.slow
def test_the_tutorial_does_what_it_says(tmp_path: Path, shell: dict[str, str]) -> None:
    # one shell for all of it, as its reader has one; a line of ours tells where the output of each block ends
    script, shown = ["set -e"], []
    for kind, text in steps():
        if kind == "sh":
            script += [text, "echo '--- end of a block'"]
            shown.append("")
        elif kind == "python":
            place, _, _ = text.partition("\n")
            script.append(f"cat > {place.removeprefix('# ')} <<'END OF FILE'\n{text}END OF FILE")
        else:
            shown[-1] = text
    run = subprocess.run(
        ["bash", "-c", "\n".join(script)], cwd=tmp_path, env={**shell, "COLUMNS": "200"}, capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout + run.stderr
    blocks = run.stdout.split("--- end of a block\n")[:-1]
    assert [_plain(text) for text in blocks] == [_plain(text) for text in shown]
    tests = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "mappers"]
    run = subprocess.run(tests, cwd=tmp_path / "my-lake", capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout


def _plain(text: str) -> list[str]:
    return [line.rstrip() for line in text.splitlines()]
