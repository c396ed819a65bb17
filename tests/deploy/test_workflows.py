"""GitHub's workflows, as far as they can be judged without GitHub: form, pinned actions, the shell of their steps."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support import PROJECT

WORKFLOWS = sorted((PROJECT / ".github" / "workflows").glob("*.yml"))
NAMES = [path.name for path in WORKFLOWS]


def steps(path: Path) -> Iterator[dict[str, Any]]:
    for job in yaml.safe_load(path.read_text(encoding="utf-8"))["jobs"].values():
        assert job["runs-on"]
        yield from job["steps"]


@pytest.mark.parametrize("path", WORKFLOWS, ids=NAMES)
def test_actions_are_pinned_to_commits_and_keep_no_credentials(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.count("uses: ") == len(re.findall(r"uses: [\w./-]+@[0-9a-f]{40} # v\d+(\.\d+)+$", text, re.MULTILINE))
    for step in steps(path):
        assert ("uses" in step) != ("run" in step)
        if step.get("uses", "").startswith("actions/checkout@"):
            assert step["with"]["persist-credentials"] is False
    # What a job may do beyond reading is said by the job.
    assert yaml.safe_load(text)["permissions"] == {"contents": "read"}


@pytest.mark.parametrize("path", WORKFLOWS, ids=NAMES)
def test_steps_are_shell_and_run_what_there_is(path: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (PROJECT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    scripts = [step["run"] for step in steps(path) if "run" in step]
    assert scripts
    for script in scripts:
        plain = re.sub(r"\$\{\{.*?\}\}", "x", script)
        run = subprocess.run(["bash", "-n"], input=plain, capture_output=True, text=True, check=False)
        assert run.stderr == "", script
        # A value of the event or the tag is a variable of the shell, never text of the script.
        assert "${{" not in script
        assert set(re.findall(r"\bmake ([a-z-]+)", script)) <= targets
        for name in re.findall(r"(?<![\w/])(\.ci/\w+|sample_logs/\S+|deploy/\w+)", script):
            assert (PROJECT / name).exists(), name
