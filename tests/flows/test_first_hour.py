"""docs/first-hour.md: what it does not install or serve, run as it stands in one shell."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.flows.test_tutorial import BLOCK
from tests.support import PROJECT, SAMPLE_LOGS

PAGE = (PROJECT / "docs" / "first-hour.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_first_hour_ends_at_the_bytes_of_a_record(tmp_path: Path, shell: dict[str, str]) -> None:
    (tmp_path / "sample_logs").symlink_to(SAMPLE_LOGS)
    rules = tmp_path / "rules"  # one of the pack's: asking all takes half a minute
    rules.mkdir()
    (rules / "rule.yml").write_bytes((PROJECT / "ocsf_lake/detections/pack/trail_switched_off.yml").read_bytes())
    assert "detect --rules pack" in PAGE
    page = PAGE.replace("--rules pack", f"--rules {rules}")
    script = ["set -e", *(text for kind, text in BLOCK.findall(page) if kind == "sh")]
    run = subprocess.run(
        ["bash", "-c", "\n".join(script)], cwd=tmp_path, env=shell, capture_output=True, text=True, check=False,
        timeout=300,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout + run.stderr
    assert "soc: arrived" in run.stderr
    assert "mapped again the same event" in run.stdout
    assert "0 faults" in run.stderr
    lake = tmp_path / "my-lake"
    told = [json.loads(line) for line in (lake / "received.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [alert["title"] for alert in told][1:] == ["[high] CloudTrail switched off"]
    assert "StopLogging" in run.stdout
    assert (lake / "report.html").stat().st_size > 10_000
    (program,) = (text for kind, text in BLOCK.findall(PAGE) if kind == "python")
    if find_spec("polars") is None:
        program = "\n".join(line for line in program.replace(", polars", "").splitlines() if "polars" not in line)
    run = subprocess.run([sys.executable, "-c", program], cwd=lake, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert "012345678901" in run.stdout
