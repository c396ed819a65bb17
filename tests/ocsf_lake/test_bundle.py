"""Evidence bundles: whatever is changed in one is named, and nothing in one leads out of its folder."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ocsf_lake import config
from ocsf_lake.evidence import bundle
from ocsf_lake.ingest import run as ingest
from ocsf_lake.upkeep import trace
from ocsf_lake.upkeep.trace import Asked
from ocsf_mappers.errors import ConfigError
from ocsf_mappers.readers.streams import Limits
from tests.ocsf_lake.conftest import HEADER, Make, call, flow, write
from tests.ocsf_lake.test_discovery import in_cloudwatch
from tests.ocsf_lake.test_trace import uid


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A bundle of two events of one uid, of which one came in a carrier, with their objects; and its hash."""
    folder = tmp_path_factory.mktemp("bundle")
    settings = config.load(lake=str(folder / "lake"))
    write(folder / "logs/calls.json.gz", json.dumps({"Records": [call(1), call(2, note="../../é\n")]}))
    write(folder / "logs/z.json", in_cloudwatch(call(2)) + "\n")
    ingest.ingest([str(folder / "logs")], settings, "aws_cloudtrail")
    found = trace.trace(settings, Asked(uid(2)))
    return folder / "case", trace.export(found, folder / "case", whole_objects=True)


@pytest.fixture
def case(exported: tuple[Path, str], tmp_path: Path) -> Path:
    """A copy of it."""
    shutil.copytree(exported[0], tmp_path / "case")
    return tmp_path / "case"


def faults(case: Path, expected: str | None = None) -> list[tuple[str, str]]:
    return [(fault.file, fault.reason) for fault in bundle.verify(case, expected).faults]


@pytest.mark.slow
def test_a_bundle_holds_all_and_is_verified_without_a_lake(exported: tuple[Path, str], case: Path) -> None:
    digest = exported[1]
    names = {path.relative_to(case).as_posix() for path in case.rglob("*") if path.is_file()}
    raw = {"record-1.txt", "object-1.bin", "record-2.txt", "document-2.txt", "object-2.bin"}
    assert names == {"README.txt", "manifest.json", "events.jsonl", "SHA256SUMS", *(f"raw/{name}" for name in raw)}
    found = bundle.verify(case, digest.upper())
    assert (found.faults, found.manifest_sha256, found.files) == ([], digest, 7)
    assert (found.objects, found.etags, found.about["events"]) == (2, 2, 2)
    assert datetime.fromisoformat(found.about["exported_at"]).tzinfo is not None
    assert (case / "raw/record-1.txt").read_bytes() == json.dumps(call(2, note="../../é\n")).encode()
    assert (case / "raw/document-2.txt").read_text() == in_cloudwatch(call(2))
    events = [json.loads(line) for line in (case / "events.jsonl").read_text().splitlines()]
    assert [(event["event"], event["what"]) for event in events] == [
        (1, "stored"), (1, "mapped again"), (2, "stored"), (2, "mapped again"),
    ]  # fmt: skip
    assert {event["ocsf"]["metadata"]["uid"] for event in events} == {uid(2)}
    manifest = json.loads((case / "manifest.json").read_text())
    first = manifest["events"][0]
    assert (first["object"]["state"], first["mapper"]["is_same"], first["differences"]) == ("unchanged", True, [])
    assert (manifest["asked"], manifest["total"]) == ({"uid": uid(2)}, 2)
    content = gzip.decompress((case / "raw/object-1.bin").read_bytes())
    assert manifest["files"]["raw/object-1.bin"]["content_sha256"] == hashlib.sha256(content).hexdigest()
    assert [path.stat().st_mode & 0o777 for path in (exported[0], exported[0] / "manifest.json")] == [0o700, 0o600]
    check = subprocess.run(["sha256sum", "-c", "SHA256SUMS"], cwd=case, capture_output=True, check=False)
    assert check.returncode == 0


def flipped(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def linked(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to(path.with_name("elsewhere"))


def replaced_raw(case: Path) -> None:
    (case / "raw").rename(case.parent / "raw")
    (case / "raw").symlink_to(case.parent / "raw")


FORGED: dict[str, tuple[Callable[[Path], object], dict[str, str]]] = {
    "record": (lambda case: flipped(case / "raw/record-1.txt"), {"raw/record-1.txt": "another SHA-256"}),
    "event": (lambda case: flipped(case / "events.jsonl"), {"events.jsonl": "another SHA-256"}),
    "readme": (lambda case: (case / "README.txt").write_text("trust me"), {"README.txt": "the manifest says"}),
    "huge": (lambda case: os.truncate(case / "raw/object-1.bin", 1 << 40), {"raw/object-1.bin": "the manifest says"}),
    "removed": (lambda case: (case / "raw/object-2.bin").unlink(), {"raw/object-2.bin": "missing"}),
    "added": (lambda case: (case / "raw/record-3.txt").write_text("{}"), {"raw/record-3.txt": "no file of the bundle"}),
    "hidden": (lambda case: (case / ".x").write_text(""), {".x": "no file of the bundle"}),
    "folder": (lambda case: (case / "raw/more").mkdir(), {"raw/more": "no file of the bundle"}),
    "link": (
        lambda case: linked(case / "raw/record-1.txt"),
        {"raw/record-1.txt": "it is a link", "raw/elsewhere": "no file of the bundle"},
    ),
    "other folder": (replaced_raw, {"raw": "no file of the bundle", "raw/record-1.txt": "it is a link"}),
    "folder for a file": (
        lambda case: ((case / "README.txt").unlink(), (case / "README.txt").mkdir()),
        {"README.txt": "it is no file"},
    ),
    "sums": (lambda case: flipped(case / "SHA256SUMS"), {"SHA256SUMS": "other hashes"}),
    "more sums": (
        lambda case: (case / "SHA256SUMS").write_bytes((case / "SHA256SUMS").read_bytes() + b"x"),
        {"SHA256SUMS": "other hashes"},
    ),
    "no manifest": (lambda case: (case / "manifest.json").unlink(), {"manifest.json": "missing"}),
    "empty manifest": (lambda case: (case / "manifest.json").write_text(""), {"manifest.json": "not a bundle"}),
    "deep manifest": (
        lambda case: (case / "manifest.json").write_text("[" * 100_000), {"manifest.json": "not a bundle"},
    ),
    "not UTF-8": (lambda case: (case / "manifest.json").write_bytes(b"\xff"), {"manifest.json": "not a bundle"}),
}  # fmt: skip


@pytest.mark.parametrize("kind", FORGED)
def test_each_forgery_is_named(kind: str, case: Path) -> None:
    forge, expected = FORGED[kind]
    forge(case)
    found = dict(faults(case))
    for name, reason in expected.items():
        assert reason in found[name]


def forged(case: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Changes the manifest, and the sums to fit it."""
    manifest = json.loads((case / "manifest.json").read_text())
    for name, wanted in list(manifest["files"].items()):
        data = (case / name).read_bytes()
        wanted |= {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
    change(manifest)
    text = json.dumps(manifest)
    (case / "manifest.json").write_text(text)
    files = manifest["files"] if isinstance(manifest["files"], dict) else {}
    hashes = {name: wanted["sha256"] for name, wanted in files.items() if isinstance(wanted, dict)}
    hashes["manifest.json"] = hashlib.sha256(text.encode()).hexdigest()
    (case / "SHA256SUMS").write_text("".join(f"{hashes[name]}  {name}\n" for name in sorted(hashes)))


def test_who_changes_the_manifest_too_is_told_by_its_hash(exported: tuple[Path, str], case: Path) -> None:
    (case / "events.jsonl").write_text("{}\n")
    forged(case, lambda manifest: None)
    assert faults(case) == []
    ((name, reason),) = faults(case, exported[1])
    assert (name, "not the one that was expected" in reason) == ("manifest.json", True)


def test_a_record_that_does_not_stand_in_its_object_is_told_whatever_the_manifest_says(case: Path) -> None:
    (case / "raw/record-1.txt").write_text('{"eventName":"Nothing"}')
    record = {"sha256": hashlib.sha256(b'{"eventName":"Nothing"}').hexdigest()}
    forged(case, lambda manifest: manifest["events"][0]["record"].update(record))
    ((name, reason),) = faults(case)
    assert name == "raw/record-1.txt"
    assert "does not stand at byte" in reason


def test_an_object_with_another_content_than_the_manifest_says_is_told(case: Path) -> None:
    forged(case, lambda manifest: manifest["files"]["raw/object-2.bin"].update(content_sha256="0" * 64))
    ((name, reason),) = faults(case)
    assert (name, "another content" in reason) == ("raw/object-2.bin", True)


def test_a_record_with_another_hash_than_the_manifest_says_of_it_is_told(case: Path) -> None:
    forged(case, lambda manifest: manifest["events"][1]["record"].update(sha256="0" * 64))
    assert faults(case) == [("raw/record-2.txt", "the manifest says two different hashes of it")]


@pytest.mark.parametrize(
    "change",
    [
        lambda manifest: manifest.update(format="other"),
        lambda manifest: manifest.update(files=[]),
        lambda manifest: manifest.update(events={}),
        lambda manifest: manifest.update(events=["x"]),
        lambda manifest: manifest["files"].update({"../../etc/passwd": {"sha256": "0" * 64, "bytes": 1}}),
        lambda manifest: manifest["files"].update({"raw/../x": {"sha256": "0" * 64, "bytes": 1}}),
        lambda manifest: manifest["files"].update({"/etc/passwd": {"sha256": "0" * 64, "bytes": 1}}),
        lambda manifest: manifest["files"].update({"raw/x\n": {"sha256": "0" * 64, "bytes": 1}}),
        lambda manifest: manifest["files"].update({"x": 3}),
        lambda manifest: manifest["files"]["README.txt"].update(bytes="1"),
        lambda manifest: manifest["files"]["README.txt"].update(sha256="x"),
        lambda manifest: manifest["files"].pop("events.jsonl"),
        lambda manifest: manifest["events"][0].update(files={"record": "raw/none"}),
        lambda manifest: manifest["events"][0].update(files={"record": ["x"]}),
        lambda manifest: manifest["events"][0].update(record=None),
        lambda manifest: manifest["events"][0]["record"].update(offset="1"),
        lambda manifest: manifest.update(lake=json.loads("[" * 900 + "]" * 900)),
        lambda manifest: manifest.update(tool=None),
        lambda manifest: manifest.update(total="2"),
    ],
)
def test_a_manifest_that_is_none_is_a_fault_and_no_error(
    case: Path, change: Callable[[dict[str, Any]], object]
) -> None:
    forged(case, change)
    assert [name for name, _ in faults(case)] == ["manifest.json"]


def test_a_longer_manifest_than_any_is_not_read(case: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle, "MOST_MANIFEST", 100)
    assert faults(case) == [("manifest.json", "it is not a bundle manifest: it has more than 100 bytes")]


@pytest.mark.parametrize("expected", ["", "x" * 64, "0" * 63])
def test_what_is_no_hash_is_no_expected_one(case: Path, expected: str) -> None:
    with pytest.raises(ConfigError, match="is no SHA-256"):
        bundle.verify(case, expected)


def test_a_record_is_compared_wherever_blocks_end(tmp_path: Path) -> None:
    content = b"".join(b"%07d\n" % number for number in range(400_000))
    write(tmp_path / "whole.gz", content.decode())
    part = tmp_path / "part"

    def stands(data: bytes, offset: int) -> bool:
        part.write_bytes(data)
        with (tmp_path / "whole.gz").open("rb") as whole, part.open("rb") as file:
            return bundle._stands(whole, file, offset, Limits())

    end = len(content)
    for offset, size in ((0, 1), (0, end), (8, 3_000_000), (end - 1, 1), (1_048_575, 2)):
        assert stands(content[offset : offset + size], offset)
    assert not stands(content[8:3_000_000] + b"x", 8)
    assert not stands(content[8:] + b"x", 8)
    assert not stands(content[8:16], 16)
    assert not stands(content[-8:], -8)
    assert not stands(b"0", end)


def test_a_member_that_stands_twice_in_a_manifest_is_a_fault(case: Path) -> None:
    text = (case / "manifest.json").read_text()
    (case / "manifest.json").write_text(text.replace('"total": 2', '"total": 2, "total": 3'))
    assert faults(case) == [("manifest.json", "it is not a bundle manifest: a member stands in it twice")]


def test_a_bundle_needs_a_folder_of_its_own(case: Path, tmp_path: Path) -> None:
    def write_to(folder: Path) -> None:
        bundle.write(folder, {"lake": "x", "total": 0}, [], version="1", time="now")

    (tmp_path / "file").write_text("x")
    (tmp_path / "link").symlink_to(tmp_path / "empty")
    for taken in (case, tmp_path / "file", tmp_path / "link"):
        with pytest.raises(ConfigError, match="is there already"):
            write_to(taken)
    (tmp_path / "empty").mkdir()
    write_to(tmp_path / "empty")
    assert faults(tmp_path / "empty") == []
    for wrong in (tmp_path / "none", tmp_path / "file"):
        with pytest.raises(ConfigError, match="there is no folder"):
            bundle.verify(wrong)


def test_what_has_no_text_or_is_gone_is_in_the_bundle_with_its_reason(settings: Make, tmp_path: Path) -> None:
    values = zip(HEADER.replace("-", "_").split(), flow(1).split(), strict=True)
    (tmp_path / "logs").mkdir()
    path = tmp_path / "logs/flows.parquet"
    pq.write_table(pa.table({name: [value] for name, value in values}), path)
    ingest.ingest([str(path)], settings(), "aws_vpc_flow")
    wanted = Asked(None, str(path), 1)
    trace.export(trace.trace(settings(), wanted), tmp_path / "case", whole_objects=True)
    assert json.loads((tmp_path / "case/raw/values-1.json").read_text())["srcaddr"] == flow(1).split()[3]
    assert (tmp_path / "case/raw/object-1.bin").read_bytes() == path.read_bytes()
    path.unlink()
    trace.export(trace.trace(settings(), wanted), tmp_path / "gone", whole_objects=True)
    (event,) = json.loads((tmp_path / "gone/manifest.json").read_text())["events"]
    assert (event["files"], event["object"]["state"]) == ({}, "gone")
    assert (event["record"]["reason"], event["not_mapped_because"]) == ("the object is gone", "the object is gone")
    assert faults(tmp_path / "case") == faults(tmp_path / "gone") == []
