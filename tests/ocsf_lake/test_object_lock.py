"""Files of a lake with Object Lock cannot be removed, and what a stranger hides or overwrites is told as that."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from ocsf_lake import config
from ocsf_lake.config import Settings
from ocsf_lake.ingest import run as ingest
from ocsf_lake.lake import opened
from ocsf_lake.ledger import chain
from ocsf_lake.ledger.tables import VERSIONS
from ocsf_lake.storage import s3, transfer
from ocsf_lake.storage.s3 import Access, Lock
from ocsf_lake.upkeep import compact, hold, rebuild_ledger, remap, verify
from ocsf_mappers.errors import ConfigError
from tests.ocsf_lake.compacting import ledger, log
from tests.ocsf_lake.conftest import BOUNDS
from tests.ocsf_lake.test_chain import faults, summary
from tests.servers import seaweed

LOCK_DAYS = 3
LOCK = {"mode": "GOVERNANCE", "days": LOCK_DAYS}
Make = Callable[..., Settings]


class Locked:
    """A bucket with Object Lock, and lakes in it."""

    def __init__(self, client: Any, tmp_path: Path, endpoint: str) -> None:
        self.client, self.tmp_path, self.endpoint = client, tmp_path, endpoint
        self.bucket = f"locked-{uuid.uuid4().hex}"
        client.create_bucket(Bucket=self.bucket, ObjectLockEnabledForBucket=True)

    def settings(self, **more: Any) -> Settings:
        place = {"lake": f"s3://{self.bucket}/lake", "state": self.tmp_path / "state", "s3_endpoint": self.endpoint}
        return config.load(**{**place, "object_lock": LOCK, **BOUNDS, **more})

    def take(self, *numbers: int, **more: Any) -> Settings:
        used = self.settings(**more)
        for number in numbers:
            log(self.tmp_path / "logs", number)
            ingest.ingest([str(self.tmp_path / "logs")], used)
        return used

    def keys(self, prefix: str = "") -> list[str]:
        found = self.client.list_objects_v2(Bucket=self.bucket, Prefix=f"lake/{prefix}").get("Contents", ())
        return [item["Key"] for item in found]

    def head(self, key: str) -> dict[str, Any]:
        found: dict[str, Any] = self.client.head_object(Bucket=self.bucket, Key=key)
        return found


@pytest.fixture(params=["rgw", "seaweed"])
def locked(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Locked]:
    """A bucket on each of both servers."""
    if request.param == "rgw":
        server = request.getfixturevalue("s3_owner")
        yield Locked(server.client(), tmp_path, server.endpoint)
        return
    tables = request.getfixturevalue("tables_server")
    keys = {"AWS_ACCESS_KEY_ID": seaweed.KEY, "AWS_SECRET_ACCESS_KEY": seaweed.SECRET}
    for name, value in {**keys, "AWS_DEFAULT_REGION": seaweed.REGION, "AWS_EC2_METADATA_DISABLED": "true"}.items():
        monkeypatch.setenv(name, value)
    s3.forget()
    yield Locked(tables.client("s3"), tmp_path, tables.s3)
    s3.forget()


@pytest.mark.slow
@pytest.mark.integration
def test_every_file_is_put_with_the_lock(locked: Locked) -> None:
    used = locked.take(0)
    keys = locked.keys()
    assert {key.split("/")[1] for key in keys} == {"aws", "_lake"}
    least = datetime.now(UTC) + timedelta(days=3, minutes=-10)
    for key in keys:
        about = locked.head(key)
        assert about["ObjectLockMode"] == "GOVERNANCE", key
        assert least < about["ObjectLockRetainUntilDate"] < least + timedelta(minutes=20)
    assert summary(used).live == 1


@pytest.mark.slow
@pytest.mark.integration
def test_what_a_stranger_hides_or_overwrites_is_there_and_told(locked: Locked) -> None:
    used = locked.take(0, 1)
    one, other = locked.keys("aws/")
    locked.client.delete_object(Bucket=locked.bucket, Key=one)
    locked.client.put_object(Bucket=locked.bucket, Key=other, Body=b"forged")
    path = one.removeprefix("lake/")
    assert sorted(faults(used)) == sorted([f"file hidden: {path}", f"file changed: {other.removeprefix('lake/')}"])
    reasons = {fault.what: fault.reason for fault in verify.verify(used, verify.Asked(), verify.Summary())}
    assert "has the bytes that were written" in reasons["file hidden"]
    assert "still has them" in reasons["file changed"]
    version = s3.versions(s3.filesystem(used.lake_access), f"{locked.bucket}/{one}")
    (data,) = [item for item in version if not item.is_marker]
    with pytest.raises(Exception, match=r"[Dd]enied"):
        locked.client.delete_object(Bucket=locked.bucket, Key=one, VersionId=data.id)
    (marker,) = [item for item in version if item.is_marker]
    locked.client.delete_object(Bucket=locked.bucket, Key=one, VersionId=marker.id)
    assert faults(used) == [f"file changed: {other.removeprefix('lake/')}"]


@pytest.mark.slow
@pytest.mark.integration
def test_a_hidden_record_is_named_without_a_ledger(locked: Locked) -> None:
    used = locked.take(0, 1)
    locked.client.delete_object(Bucket=locked.bucket, Key=f"lake/{chain.name(2)}")
    without = locked.settings(state=None)
    found = faults(without)
    assert f"record hidden: {chain.name(2)}" in found
    assert f"record missing: {chain.name(2)}" in found
    assert f"record missing: {chain.name(2)}" in faults(used)


@pytest.mark.slow
@pytest.mark.integration
def test_what_a_compaction_removes_is_hidden_and_its_versions_are_in_the_chain(locked: Locked) -> None:
    used = locked.take(0, 1, compact_grace_hours=0)
    old = [key.removeprefix("lake/") for key in locked.keys("aws/")]
    compact.compact(used)
    assert locked.keys("aws/") == []
    fs = s3.filesystem(used.lake_access)
    with opened(used, reading=True) as lake, lake.ledger.engine.connect() as connection:
        *_, last = chain.rows(connection)
    record = chain.parsed(chain.content(last.body, last.hash, last.signature))
    assert record.kind == "removal"
    for path in old:
        versions = s3.versions(fs, f"{locked.bucket}/lake/{path}")
        assert record.detail["versions"][path] == [item.id for item in versions if not item.is_marker]
        assert any(item.is_marker and item.is_latest for item in versions)
    assert faults(used) == []


@pytest.mark.slow
@pytest.mark.integration
def test_versions_go_by_their_ids_when_their_locks_have_ended_and_no_hold_stands(locked: Locked) -> None:
    def later() -> datetime:
        return datetime.now(UTC) + timedelta(days=LOCK_DAYS + 1)

    locked.take(0, object_lock=None)
    used = locked.take(1, compact_grace_hours=0)
    free, kept = sorted(locked.keys("aws/"), key=lambda key: "ObjectLockMode" in locked.head(key))
    compact.compact(used)
    assert compact.compact(used).of_versions == []  # by the ledger they are locked
    placed = hold.add(used, "111122223333", None, None, None, "case 7").hold
    assert compact.compact(used, clock=later).of_versions == []
    hold.release(used, placed.id)
    revived = locked.client.put_object(Bucket=locked.bucket, Key=free, Body=b"a stranger's")["VersionId"]
    assert compact.compact(used, clock=later).of_versions == [
        "1 locked version of an earlier run removed", "1 version kept by the store"
    ]  # fmt: skip
    fs = s3.filesystem(used.lake_access)
    left = {
        key: [item.id for item in s3.versions(fs, f"{locked.bucket}/{key}") if not item.is_marker]
        for key in (free, kept)
    }
    assert left[free] == [revived]
    with opened(used, reading=True) as lake, lake.ledger.engine.connect() as connection:
        *_, last = chain.rows(connection)
        before = hidden(used)
    record = chain.parsed(chain.content(last.body, last.hash, last.signature))
    (removed,) = record.detail["versions_removed"].items()
    assert removed == (free.removeprefix("lake/"), [row["id"] for row in before if row["removed_at"]])
    assert [row["id"] for row in before if not row["removed_at"]] == left[kept]
    assert faults(used) == [f"file added: {free.removeprefix('lake/')}"]
    shutil.rmtree(locked.tmp_path / "state")
    rebuild_ledger.rebuild(used)
    assert [(row["id"], bool(row["removed_at"])) for row in hidden(used)] == [
        (row["id"], bool(row["removed_at"])) for row in before
    ]


def hidden(settings: Settings) -> list[dict[str, Any]]:
    return ledger(settings, VERSIONS)


@pytest.mark.integration
def test_large_files_and_copies_are_locked_too(locked: Locked, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "MULTIPART_BYTES", 6 << 20)
    monkeypatch.setattr(transfer, "PART_BYTES", 5 << 20)
    with opened(locked.settings()) as lake:
        lake.store.put("large", pa.py_buffer(b"x" * (7 << 20)))
        lake.store.copy("large", "copied")
    for name in ("large", "copied"):
        assert locked.head(f"lake/{name}")["ObjectLockMode"] == "GOVERNANCE"


@pytest.mark.integration
def test_a_bucket_without_lock_is_refused_before_any_work(bucket: str, tmp_path: Path) -> None:
    used = config.load(lake=f"s3://{bucket}/lake", state=tmp_path / "state", object_lock=LOCK)
    log(tmp_path / "logs", 0)
    with pytest.raises(ConfigError, match=f"bucket '{bucket}' has no Object Lock"):
        ingest.ingest([str(tmp_path / "logs")], used)


def test_a_lake_in_a_folder_has_no_lock(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is not on S3"), opened(config.load(lake=str(tmp_path), object_lock=LOCK)):
        pass


def test_under_compliance_nothing_is_written_anew_unless_that_is_wanted(compactable: Make) -> None:
    locked = compactable(object_lock={"mode": "COMPLIANCE", "days": 400})
    for work in (
        lambda: compact.compact(locked),
        lambda: remap.remap(locked, remap.Chosen("aws_cloudtrail", datetime.now(UTC).date(), datetime.now(UTC).date())),
    ):
        with pytest.raises(ConfigError, match=r"nothing can be removed for 400 days.*double"):
            work()
    compact.check_lock(compactable(object_lock={"mode": "COMPLIANCE", "days": 1}, object_lock_compact=True))
    compact.check_lock(compactable(object_lock=LOCK))


@pytest.mark.parametrize("lock", [{"mode": "governance", "days": 1}, {"mode": "COMPLIANCE"}, {**LOCK, "days": 0}, "x"])
def test_a_lock_that_is_none_is_refused(lock: object) -> None:
    with pytest.raises(ConfigError, match="object_lock"):
        config.load(object_lock=lock)


def test_the_lock_may_come_from_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OCSF_LAKE_OBJECT_LOCK", '{"mode": "COMPLIANCE", "days": 30}')
    access = config.load().lake_access
    assert access == Access(lock=Lock("COMPLIANCE", 30))
    assert config.load().input_access.lock is None
