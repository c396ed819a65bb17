"""One file, folder or source that is out of reach is named, and the run goes on without it."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any, BinaryIO

import fsspec
import pytest

from ocsf_lake.config import Settings
from ocsf_lake.ingest import incremental, plan
from ocsf_lake.ingest import run as ingest
from ocsf_lake.inputs import discovery, listing
from ocsf_lake.ledger.results import State
from ocsf_lake.storage import objects
from ocsf_mappers import registry
from ocsf_mappers.errors import ConfigError, MappingError, RetriableError
from ocsf_mappers.readers.streams import Limits
from tests.ocsf_lake.conftest import CLOUDTRAIL_KEY, call, write
from tests.ocsf_lake.test_ingest import rows
from tests.support import PROJECT

Make = Callable[..., Settings]


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    """Three readable objects whose names say nothing, in folders of their own."""
    for name in ("a/one.json", "b/c/two.json", "d/three.json"):
        write(tmp_path / "in" / name, json.dumps(call(len(name) + ord(name[0]))))
    return tmp_path / "in"


def failed(summary: ingest.Summary) -> dict[str, str]:
    """Name of each object or folder that failed -> why."""
    return {Path(item.uri).name: item.reason for item in summary.not_read if item.state is State.FAILED}


# -- folders ----------------------------------------------------------------------------------------------------------
@pytest.fixture
def denied_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder called `c` cannot be listed, whoever asks."""
    scandir = os.scandir

    def refusing(path: Any = ".") -> Any:
        if str(path).endswith("/c"):
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)


@pytest.mark.usefixtures("denied_folder")
@pytest.mark.parametrize("pattern", ["", "/*", "/**/*.json", "/b/*", "/b/c/*"])
def test_a_folder_that_cannot_be_listed_is_named(pattern: str, logs: Path, settings: Make) -> None:
    summary = ingest.ingest([f"{logs}{pattern}"], settings())
    assert "the folder cannot be listed" in failed(summary)["c"]
    assert summary.counts.events == (0 if "/b" in pattern else 2)


def test_an_account_that_is_denied_is_named(settings: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    fs = fsspec.filesystem("memory")
    now = datetime(2025, 3, 11, 12, tzinfo=UTC)
    for account in ("111122223333", "012345678901"):
        key = CLOUDTRAIL_KEY.format(account=account, region="eu-west-1", hhmm="0900", tag="t")
        fs.pipe(f"/denied-test/{key.removesuffix('.gz')}", json.dumps(call(1, account)).encode())
    ls = type(fs).ls

    def refusing(self: Any, path: str, detail: bool = True, **more: Any) -> Any:
        if path.endswith("AWSLogs/012345678901"):
            raise PermissionError("Access Denied")
        return ls(self, path, detail, **more)

    monkeypatch.setattr(type(fs), "ls", refusing)
    found = settings()
    planned = incremental.plan_fresh("aws_cloudtrail", "memory://denied-test", found, now)
    summary = ingest.work(planned.batch_ids, found)
    summary.add_planned(planned)
    assert summary.counts.events == 1
    assert list(failed(summary)) == ["012345678901"]
    fs.rm("/denied-test", recursive=True)


class _Store:
    """A bucket of which one prefix is denied."""

    protocol = ("s3",)
    endpoint_url = "http://store.example.com"

    def split_path(self, path: str) -> tuple[str, str, None]:
        bucket, _, key = path.partition("/")
        return bucket, key, None

    def unstrip_protocol(self, path: str) -> str:
        return f"s3://{path}"

    def call_s3(self, _: str, *__: object, Prefix: str, **___: object) -> dict[str, Any]:  # noqa: N803 - S3's own
        if Prefix == "b/":
            raise PermissionError("Access Denied")
        return {"Contents": [{"Key": f"{Prefix}x.json", "Size": 1, "ETag": '"e"'}], "Name": "bucket"}


def test_a_prefix_that_is_denied_is_noted() -> None:
    calls = listing.Calls()
    found = [[ref.uri for page in listing.below(_Store(), f"bucket/{key}", calls) for ref in page] for key in "abc"]
    assert found == [["s3://bucket/a/x.json"], [], ["s3://bucket/c/x.json"]]
    assert list(calls.refused) == ["s3://bucket/b"]


# -- objects ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "error",
    [OSError(errno.EIO, "Input/output error"), PermissionError(errno.EACCES, "no"), RecursionError(), MemoryError()],
)
def test_an_object_whose_source_cannot_be_told_is_named(
    error: Exception, logs: Path, settings: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = discovery.sniffed

    def fails(uri: str, file: BinaryIO, limits: Limits) -> discovery.Sniffed:
        if uri.endswith("two.json"):
            raise error
        return told(uri, file, limits)

    monkeypatch.setattr(discovery, "sniffed", fails)
    summary = ingest.ingest([str(logs)], settings())
    assert summary.counts.events == 2
    assert list(failed(summary)) == ["two.json"]
    monkeypatch.undo()
    assert ingest.ingest([str(logs)], settings()).counts.events == 1


def test_a_store_that_gives_no_object_is_no_fault_of_the_objects(
    logs: Path, settings: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object) -> None:
        raise RetriableError("out of reach")

    monkeypatch.setattr(discovery, "sniffed", away)
    with pytest.raises(RetriableError):
        ingest.ingest([str(logs)], settings())
    assert rows(settings(), "SELECT count(*) FROM ledger_objects") == [(0,)]


def test_a_link_that_leads_nowhere_is_named(logs: Path, settings: Make) -> None:
    (logs / "link.json").symlink_to(logs / "nowhere")
    key = CLOUDTRAIL_KEY.format(account="111122223333", region="eu-west-1", hhmm="0900", tag="t")
    (logs / Path(key).name).symlink_to(logs / "nowhere")
    summary = ingest.ingest([str(logs)], settings())
    assert summary.counts.events == 3
    assert set(failed(summary)) == {"link.json", Path(key).name}


def test_an_object_that_vanishes_while_objects_are_looked_at(
    logs: Path, settings: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_etag = objects.with_etag

    def vanishing(ref: objects.ObjectRef) -> objects.ObjectRef:
        (logs / "b/c/two.json").unlink(missing_ok=True)
        return with_etag(ref)

    monkeypatch.setattr(objects, "with_etag", vanishing)
    summary = ingest.ingest([str(logs)], settings())
    assert (summary.counts.events, list(failed(summary))) == (2, ["two.json"])


OTHER_USER = """
import os, sys
from ocsf_lake import config
from ocsf_lake.ingest import run as ingest
from tests.ocsf_lake.test_out_of_reach import failed

warm, logs, lake = sys.argv[1:]
ingest.ingest([warm], config.load(lake=f"{lake}-warm"))  # whatever is imported late may be out of that user's reach
if os.geteuid() == 0:  # modes say nothing to root
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
summary = ingest.ingest([logs], config.load(lake=lake))
print(summary.counts.events, sorted(failed(summary)))
"""


@pytest.mark.slow
def test_real_permissions(logs: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="ocsf-lake-test-") as folder:
        Path(folder).chmod(0o777)
        there = Path(folder) / "in"
        logs.rename(there)
        warm = write(Path(folder) / "warm.json", json.dumps(call(1)))
        (there / "d/three.json").chmod(0o000)
        (there / "b/c").chmod(0o000)
        done = subprocess.run(
            [sys.executable, "-c", OTHER_USER, str(warm), str(there), f"{folder}/lake"],
            env={"PATH": os.environ["PATH"], "PYTHONPATH": str(PROJECT), "HOME": folder},
            cwd=folder, capture_output=True, text=True, check=False,
        )  # fmt: skip
        (there / "b/c").chmod(0o755)
    assert done.stdout.splitlines()[-1:] == ["1 ['c', 'three.json']"], done.stderr


# -- sources ----------------------------------------------------------------------------------------------------------
class _Offer:
    """An entry point of another package."""

    def __init__(self, load: Callable[[], object]) -> None:
        self.load = load


def _raising(error: BaseException) -> Callable[[], object]:
    def load() -> object:
        raise error

    return load


BROKEN = [
    _raising(ImportError("No module named 'acme'")), _raising(SystemExit(3)),
    _raising(MappingError("no attribute 'x'")), _raising(RuntimeError()), lambda: "no mapper",
]  # fmt: skip


@pytest.fixture(params=BROKEN, ids=["import", "exit", "mapping", "any", "type"])
def broken(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Another package offers a source `acme` that cannot be loaded."""
    monkeypatch.setattr(registry, "_offered", lambda: {"acme": _Offer(request.param)})
    registry.forget()
    yield
    registry.forget()


@pytest.mark.usefixtures("broken")
def test_a_broken_source_stops_no_other(logs: Path, settings: Make) -> None:
    summary = ingest.ingest([str(logs)], settings())
    assert summary.counts.events == 3
    assert list(summary.broken) == ["acme"]
    assert "cannot be loaded" in summary.broken["acme"]
    assert ingest.resume(settings()).broken == {}  # nothing there is of that source
    with pytest.raises(MappingError, match="'acme' cannot be loaded"):
        ingest.ingest([str(logs)], settings(), source="acme")
    with pytest.raises(ConfigError, match="no source"):
        registry.usable(["acmee"])


@pytest.mark.slow
def test_objects_and_batches_of_a_broken_source_wait(
    logs: Path, settings: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    later = write(logs / "e/later.json", json.dumps(call(7)))
    later.rename(logs.parent / "later.json")
    planned = ingest.plan([str(logs)], settings())
    (logs.parent / "later.json").rename(later)
    with monkeypatch.context() as patched:
        patched.setattr(registry, "_offered", lambda: {"aws_cloudtrail": _Offer(_raising(ImportError("gone")))})
        registry.forget()
        summary = ingest.ingest([str(logs)], settings())
        assert (summary.counts.read, list(summary.broken)) == (0, ["aws_cloudtrail"])
        skipped = {Path(item.uri).name: item.reason for item in summary.not_read if item.state is State.SKIPPED}
        assert list(skipped) == ["later.json"]
        assert "may be of one that cannot be used: aws_cloudtrail" in skipped["later.json"]
        assert list(ingest.work(planned.batch_ids, settings()).broken) == ["aws_cloudtrail"]
    registry.forget()
    assert ingest.ingest([str(logs)], settings()).counts.events == 4


def test_batches_of_a_source_that_is_no_longer_installed_wait(
    logs: Path, settings: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    planned = ingest.plan([str(logs)], settings())
    with monkeypatch.context() as patched:
        patched.setattr(registry, "names", lambda: ["aws_vpc_flow"])
        assert "not installed" in ingest.work(planned.batch_ids, settings()).broken["aws_cloudtrail"]
    assert ingest.work(planned.batch_ids, settings()).counts.events == 3


def test_a_mapper_that_does_not_compile_stops_no_other(
    logs: Path, settings: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    fingerprint = plan.fingerprint

    def fails(mapper: Any, version: str) -> str:
        if mapper.name == "aws_cloudtrail":
            raise MappingError("no attribute 'x' in 1.1.0")
        return fingerprint(mapper, version)

    write(logs / "flow.json", json.dumps({"interface-id": "eni-1", "srcaddr": "10.0.0.1", "dstaddr": "10.0.0.2"}))
    with monkeypatch.context() as patched:
        patched.setattr(plan, "fingerprint", fails)
        summary = ingest.ingest([str(logs)], settings())
    assert list(summary.sources) == ["aws_vpc_flow"]
    assert list(summary.broken) == ["aws_cloudtrail"]
    assert ingest.ingest([str(logs)], settings()).counts.events == 3


def test_the_entry_point_group_is_the_documented_one(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def entry_points(*, group: str) -> list[EntryPoint]:
        asked.append(group)
        return [EntryPoint("acme", "no_such_package_of_acme:MAPPER", group)]

    monkeypatch.setattr(registry, "entry_points", entry_points)
    registry.forget()
    try:
        assert registry.usable()[1].keys() == {"acme"}
        assert set(asked) == {"ocsf_lake.sources"}
    finally:
        registry.forget()
