"""`ocsf-lake verify` of raw CloudTrail files."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from ocsf_mappers.errors import RetriableError
from tests.flows.conftest import RunCommand
from tests.support import SAMPLE_LOGS

KEYS = str(SAMPLE_LOGS / "evidence/public-keys.json")
VERIFY = ("verify", "aws_cloudtrail", str(SAMPLE_LOGS / "evidence"), "--from", "2026-03-17", "--to", "2026-03-17")


def test_verify_says_what_it_proved(ocsf_lake: RunCommand) -> None:
    run = ocsf_lake(*VERIFY, "--public-keys", KEYS)
    assert (run.code, run.out) == (0, "")
    assert "111122223333 eu-central-1 org-trail (eu-central-1): 25 digests from 2026-03-16T23:08:15Z" in run.err
    assert "proved: 25 of 25 digests in 1 chain, 25 hours, 8 log files" in run.err


def test_verify_names_each_fault_on_a_line(ocsf_lake: RunCommand, tmp_path: Path) -> None:
    copy = shutil.copytree(SAMPLE_LOGS / "evidence", tmp_path / "copy")
    changed, deleted, *_ = sorted(copy.glob("AWSLogs/**/*_CloudTrail_*20260317T*.json.gz"))
    changed.write_bytes(changed.read_bytes() * 2)
    deleted.unlink()
    given = ("verify", "aws_cloudtrail", str(copy), *VERIFY[3:], "--public-keys", KEYS)
    run = ocsf_lake(*given)
    assert run.code == 1
    assert [line.partition(": file://")[0].split("  ") for line in run.out.splitlines()] == [
        ["2026-03-17T04:08:15Z", "log file changed"], ["2026-03-17T04:08:15Z", "log file missing"],
    ]  # fmt: skip
    *faults, chain, summary = [json.loads(line) for line in ocsf_lake(*given, "--json").out.splitlines()]
    assert [(fault["type"], fault["what"], fault["start"]) for fault in faults] == [
        ("fault", "log file changed", "2026-03-17T04:08:15Z"), ("fault", "log file missing", "2026-03-17T04:08:15Z"),
    ]  # fmt: skip
    assert (chain["type"], chain["proved"], chain["first"]) == ("chain", 25, "2026-03-16T23:08:15Z")
    assert (summary["type"], summary["faults"], summary["files"]) == ("summary", 2, 6)


def test_verify_without_keys_claims_nothing(ocsf_lake: RunCommand, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", "/nonexistent")
    run = ocsf_lake(*VERIFY)
    assert run.code == 1
    assert "AWS was asked for it" in run.out
    assert "proved: 0 of 25 digests" in run.err
    run = ocsf_lake(*VERIFY, "--no-signatures")
    assert (run.code, run.out) == (0, "")
    assert "signatures were not checked" in run.err
    assert "25 fit each other" in run.err


def test_verify_that_is_cut_off_claims_nothing(ocsf_lake: RunCommand, monkeypatch: pytest.MonkeyPatch) -> None:
    def cut_off(*_: object) -> None:
        raise RetriableError("the store is busy")

    monkeypatch.setattr("ocsf_lake.evidence.days.hashes", cut_off)
    run = ocsf_lake(*VERIFY, "--public-keys", KEYS)
    assert run.code == 1
    assert "proved" not in run.out + run.err
    assert "not everything was checked" in run.err


def test_verify_refuses_what_it_cannot_verify(ocsf_lake: RunCommand, tmp_path: Path) -> None:
    assert ocsf_lake("verify", "aws_waf", str(tmp_path)).code == 2
    assert ocsf_lake("verify", "aws_cloudtrail", str(tmp_path)).code == 2
    assert ocsf_lake("verify", "aws_cloudtrail", str(tmp_path / "none")).code == 2
    assert ocsf_lake(*VERIFY, "--public-keys", str(tmp_path / "none")).code == 2
    assert ocsf_lake(*VERIFY, "--public-keys", KEYS, "--no-signatures").code == 2
    assert ocsf_lake(*VERIFY, "--account", "999988887777").code == 2
