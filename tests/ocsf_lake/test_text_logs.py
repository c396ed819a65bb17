"""Text logs of several sources in one folder, ingested without naming one, and asked about."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from ocsf_lake.config import Settings
from ocsf_lake.ingest import run as ingest
from tests.ocsf_lake.test_ingest import rows
from tests.support import SAMPLE_LOGS

LOGS = {
    "aws_alb": "access.log", "aws_nlb": "access.log", "aws_clb": "access.log", "aws_s3_access": "access.log",
    "aws_cloudfront": "standard.log", "linux_auth": "secure.log", "aws_rds": "postgresql.log",
}  # fmt: skip


@pytest.mark.slow
def test_logs_are_told_by_their_lines_and_answer(tmp_path: Path, settings: Callable[..., Settings]) -> None:
    folder = tmp_path / "mixed"
    folder.mkdir()
    for source, name in LOGS.items():
        shutil.copy(SAMPLE_LOGS / source / name, folder / f"{source}.txt")
    found = settings()
    summary = ingest.ingest([str(folder)], found)
    assert set(summary.sources) == LOGS.keys()
    assert summary.not_read == []
    refused = "SELECT count(*) FROM {} WHERE status_code = '403' AND src_endpoint.ip = '198.51.100.23'"
    numbers = {table: rows(found, refused.format(table))[0][0] for table in ("alb", "s3_access", "cloudfront")}
    deleted = "SELECT resources[1].name FROM s3_access WHERE api.request.uid = 'DELETEMANY000001' ORDER BY 1"
    keys = [name for (name,) in rows(found, deleted)]
    assert numbers == {"alb": 1, "s3_access": 2, "cloudfront": 1}
    failed = "SELECT count(*) FROM linux_auth WHERE status = 'Failure' AND user.name = 'root'"
    assert rows(found, failed) == [(3,)]
    guessed = "SELECT count(*) FROM rds WHERE class_uid = 3002 AND status = 'Failure' AND user.name = 'root'"
    assert rows(found, guessed) == [(1,)]
    # each key of one request is an event, and no duplicate
    assert keys == ["a.csv", "b.csv", "example-reports"]


@pytest.mark.slow
def test_a_journal_is_told_by_its_entries_and_names_who_forged_a_sign_in(
    tmp_path: Path, settings: Callable[..., Settings]
) -> None:
    folder = tmp_path / "journal"
    folder.mkdir()
    for path in (SAMPLE_LOGS / "linux_auth").glob("journal*.jsonl"):
        shutil.copy(path, folder)
    found = settings()
    summary = ingest.ingest([str(folder)], found)
    assert list(summary.sources) == ["linux_auth"]
    forged = (
        "SELECT user.name AS a, actor.process.name AS b, actor.process.user.uid AS c FROM linux_auth"
        " WHERE service.name = 'sshd' AND actor.process.file.name <> 'sshd'"
    )
    assert rows(found, forged) == [("root", "logger", "1001")]
