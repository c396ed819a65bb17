"""Evidence of some events in a folder of its own, which a second person verifies without a lake.

```
README.txt      what this is, and how it is verified
manifest.json   where everything came from, by what, with the SHA-256 of every other file
events.jsonl    each event as the lake had it, and mapped again
raw/            bytes of records, of the documents that carried them, and of whole objects
SHA256SUMS      of all files, for `sha256sum -c`
```

Names of files are numbers; nothing that came with a log is part of one. Whoever can write a file can write the manifest
too: what holds a bundle together is the manifest's own SHA-256, which is printed at the export and kept elsewhere.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from io import BufferedReader
from pathlib import Path
from typing import Any, BinaryIO

from ocsf_mappers.errors import ConfigError, ReadError
from ocsf_mappers.readers import streams
from ocsf_mappers.readers.streams import Limits

FORMAT = "ocsf-lake evidence 1"
MANIFEST, EVENTS, README, SUMS, RAW = "manifest.json", "events.jsonl", "README.txt", "SHA256SUMS", "raw"
MOST_MANIFEST = 256 << 20
"""A longer manifest is not read: none that was written here is."""

_NAME = re.compile(r"(?:raw/)?[A-Za-z0-9][A-Za-z0-9._-]{0,99}", re.ASCII)
_HEX = re.compile(r"[0-9a-f]{64}", re.ASCII)
_BLOCK_BYTES = 4 << 20

_README = """Evidence exported by ocsf-lake {version} on {time}.

{events}, from the lake {lake}

manifest.json  what each event is, where it came from, and the SHA-256 of every file
events.jsonl   each event as the lake had it ("stored") and as the mapper of that day maps its record ("mapped again")
raw/           record-N.txt: the bytes of the record of event N; document-N.txt: of the document that carried it;
               values-N.json: values of a record that has no text; object-N.bin: a whole raw object, as it was stored
SHA256SUMS     the same hashes, for: sha256sum -c SHA256SUMS

To verify: ocsf-lake trace --verify-bundle DIR
It prints the SHA-256 of manifest.json. Compare it with the one that was told at the export and kept elsewhere:
whoever can change files here can change manifest.json too.
"""


@dataclass(frozen=True)
class RawObject:
    """A whole raw object.

    Args:
        uri: Its URI.
        etag: Its ETag.
        opened: Opens its bytes, as they are stored.
    """

    uri: str
    etag: str
    opened: Callable[[], AbstractContextManager[BinaryIO]]


@dataclass
class Item:
    """One event of a bundle.

    Args:
        about: All that is known of it, in JSON's types, without its two events.
        stored: The event as the lake has it.
        mapped: The record mapped again; None where that cannot be.
        record: The record's bytes.
        document: Those of the document that carried it.
        values: Its values, where it has no text.
        whole: The object; None where it is not wanted or not to be had.
    """

    about: dict[str, Any]
    stored: dict[str, Any]
    mapped: dict[str, Any] | None = None
    record: bytes | None = None
    document: bytes | None = None
    values: Mapping[str, str | None] | None = None
    whole: RawObject | None = None


# -- writing ----------------------------------------------------------------------------------------------------------
def write(
    folder: Path, about: Mapping[str, Any], items: Sequence[Item], *, version: str, time: str,
    limits: Limits | None = None,
) -> str:  # fmt: skip
    """Writes a bundle.

    Args:
        folder: Where: it must not be there, or be empty. It is made for its owner alone.
        about: What the manifest has besides the events: lake, what was asked for, how many were found.
        items: The events.
        version: Of this program.
        time: Of the export, ISO 8601, UTC.
        limits: How far whole objects may grow when they are decompressed.

    Returns:
        SHA-256 of the manifest, in hex.

    Raises:
        ConfigError: The folder is not empty, or no folder.
        OcsfMappersError: A raw object cannot be read.
    """
    if folder.is_symlink() or (folder.exists() and (not folder.is_dir() or any(folder.iterdir()))):
        raise ConfigError(f"{str(folder)!r} is there already: name a folder that is not, or an empty one")
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    writing = _Writing(folder, limits or Limits())
    (folder / RAW).mkdir(mode=0o700)
    events = [writing.item(number, item) for number, item in enumerate(items, start=1)]
    lines = (line for number, item in enumerate(items, start=1) for line in _lines(number, item))
    writing.add(EVENTS, "".join(lines).encode())
    number = f"{len(items):,} event{'' if len(items) == 1 else 's'}"
    text = _README.format(version=version, time=time, events=number, lake=_printable(str(about.get("lake", ""))))
    writing.add(README, text.encode())
    manifest = {
        "format": FORMAT, "exported_at": time, "tool": f"ocsf-lake {version}", **about, "events": events,
        "files": writing.files,
    }  # fmt: skip
    data = json.dumps(manifest, indent=1, ensure_ascii=True, allow_nan=False).encode() + b"\n"
    writing.put(MANIFEST, data)
    digest = hashlib.sha256(data).hexdigest()
    writing.put(SUMS, _sums({name: entry["sha256"] for name, entry in writing.files.items()} | {MANIFEST: digest}))
    return digest


@dataclass
class _Writing:
    folder: Path
    limits: Limits
    files: dict[str, dict[str, Any]] = field(default_factory=dict)
    objects: dict[tuple[str, str], str] = field(default_factory=dict)

    def item(self, number: int, item: Item) -> dict[str, Any]:
        """Writes the files of one event; gives its entry in the manifest."""
        named: dict[str, str] = {}
        if item.record is not None:
            named["record"] = self.add(f"{RAW}/record-{number}.txt", item.record)
        if item.document is not None:
            named["document"] = self.add(f"{RAW}/document-{number}.txt", item.document)
        if item.values is not None:
            values = json.dumps(item.values, indent=1, ensure_ascii=False).encode() + b"\n"
            named["values"] = self.add(f"{RAW}/values-{number}.json", values)
        if item.whole is not None:
            key = item.whole.uri, item.whole.etag
            if key not in self.objects:
                self.objects[key] = self._whole(f"{RAW}/object-{len(self.objects) + 1}.bin", item.whole)
            named["object"] = self.objects[key]
        return {"event": number, **item.about, "files": named}

    def add(self, name: str, data: bytes) -> str:
        """Writes a file and notes its hash."""
        self.put(name, data)
        self.files[name] = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
        return name

    def put(self, name: str, data: bytes) -> None:
        """Writes a file."""
        with self._new(name) as file:
            file.write(data)

    def _whole(self, name: str, whole: RawObject) -> str:
        digest, size = hashlib.sha256(), 0
        with whole.opened() as source, self._new(name) as file:
            while block := source.read(_BLOCK_BYTES):
                digest.update(block)
                size += len(block)
                file.write(block)
        self.files[name] = {"sha256": digest.hexdigest(), "bytes": size}
        if (content := _content(self.folder / name, self.limits)) is not None:
            self.files[name]["content_sha256"] = content
        return name

    @contextmanager
    def _new(self, name: str) -> Iterator[BinaryIO]:
        handle = os.open(self.folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "wb") as file:
            yield file


def _content(path: Path, limits: Limits) -> str | None:
    """SHA-256 of an object's decompressed bytes, which a digest of CloudTrail names; None where it is damaged."""
    try:
        with path.open("rb") as file:
            return streams.hashes(file, limits)[0][-1]
    except ReadError:
        return None


def _lines(number: int, item: Item) -> Iterator[str]:
    for what, event in (("stored", item.stored), ("mapped again", item.mapped)):
        if event is not None:
            yield json.dumps({"event": number, "what": what, "ocsf": event}, ensure_ascii=True) + "\n"


def _sums(hashes: Mapping[str, str]) -> bytes:
    return "".join(f"{digest}  {name}\n" for name, digest in sorted(hashes.items())).encode()


def _printable(text: str) -> str:
    return text.encode("ascii", "backslashreplace").decode() if text.isprintable() else repr(text)


# -- verifying --------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Fault:
    """What is wrong with a bundle: the file, as the manifest or the folder names it, and why."""

    file: str
    reason: str


@dataclass
class Verified:
    """What was found of a bundle.

    Args:
        faults: What is wrong; nothing, if it is as it was written.
        manifest_sha256: Of manifest.json, to be compared with the one that was printed at the export.
        files: Files that were hashed.
        bytes: Their size.
        objects: Whole raw objects among them.
        etags: Those of them whose MD5 is the ETag that they had when they were read. That of an object which was put in
            parts, or encrypted with KMS, is none.
        about: The manifest's own words: when it was exported, by what, from which lake, how many events.
    """

    faults: list[Fault] = field(default_factory=list)
    manifest_sha256: str | None = None
    files: int = 0
    bytes: int = 0
    objects: int = 0
    etags: int = 0
    about: dict[str, Any] = field(default_factory=dict)


def verify(folder: Path, expected: str | None = None, limits: Limits | None = None) -> Verified:
    """Holds a bundle against its manifest; no lake is needed.

    Args:
        folder: The bundle.
        expected: SHA-256 that manifest.json has to have.
        limits: How far whole objects may grow when they are decompressed.

    Raises:
        ConfigError: There is no such folder, or what is expected is no SHA-256.
    """
    if folder.is_symlink() or not folder.is_dir():
        raise ConfigError(f"there is no folder {str(folder)!r}")
    if expected is not None and not _HEX.fullmatch(expected.strip().lower()):
        raise ConfigError(f"{expected!r} is no SHA-256: 64 hexadecimal digits")
    verified = Verified()
    data = _read(folder, MANIFEST, MOST_MANIFEST, verified)
    if data is None:
        return verified
    if len(data) > MOST_MANIFEST:
        reason = f"it is not a bundle manifest: it has more than {MOST_MANIFEST:,} bytes"
        verified.faults.append(Fault(MANIFEST, reason))
        return verified
    verified.manifest_sha256 = hashlib.sha256(data).hexdigest()
    if expected is not None and expected.strip().lower() != verified.manifest_sha256:
        reason = f"its SHA-256 is {verified.manifest_sha256}, not the one that was expected"
        verified.faults.append(Fault(MANIFEST, reason))
    try:
        manifest = json.loads(data, object_pairs_hook=_once)
        files = _checked(manifest)
    except (ValueError, RecursionError) as error:
        verified.faults.append(Fault(MANIFEST, f"it is not a bundle manifest: {error}"))
        return verified
    verified.about = {name: manifest.get(name) for name in ("exported_at", "tool", "lake", "total")}
    verified.about["events"] = len(manifest["events"])
    for name, entry in sorted(files.items()):
        _hash(folder, name, entry, verified)
    sums = _sums({name: str(entry["sha256"]) for name, entry in files.items()} | {MANIFEST: verified.manifest_sha256})
    written = _read(folder, SUMS, len(sums), verified)
    if written is not None and written != sums:
        verified.faults.append(Fault(SUMS, "it has other hashes than the manifest"))
    for name in sorted(_there(folder)):
        if name not in files and name not in (MANIFEST, SUMS):
            verified.faults.append(Fault(name, "it is no file of the bundle"))
    if not verified.faults:
        _hold_together(folder, manifest, verified, limits or Limits())
    return verified


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise ValueError("a member stands in it twice")
    return made


def _checked(manifest: Any) -> dict[str, dict[str, Any]]:
    """The files of a manifest, which anybody may have written."""
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise ValueError(f"its format is not {FORMAT!r}")
    if not all(isinstance(manifest.get(name), str) for name in ("exported_at", "tool", "lake")):
        raise ValueError("it does not say when, by what and from which lake it was exported")
    if type(manifest.get("total")) is not int:
        raise ValueError("it does not say how many events there were")
    files, events = manifest.get("files"), manifest.get("events")
    if not isinstance(files, dict) or not isinstance(events, list) or not all(isinstance(one, dict) for one in events):
        raise ValueError("it has no files and events")
    for name, entry in files.items():
        if not _NAME.fullmatch(name) or name in (MANIFEST, SUMS) or not isinstance(entry, dict):
            raise ValueError(f"{name!r} is no name of a file of a bundle")
        if not isinstance(entry.get("bytes"), int) or not _HEX.fullmatch(str(entry.get("sha256"))):
            raise ValueError(f"{name} has no size and SHA-256")
    if not {README, EVENTS} <= files.keys():
        raise ValueError(f"{README} and {EVENTS} are not among its files")
    for event in events:
        named = event.get("files")
        if not isinstance(named, dict) or not all(isinstance(name, str) and name in files for name in named.values()):
            raise ValueError("an event names a file that the bundle does not have")
        record = event.get("record")
        if not isinstance(record, dict) or not isinstance(event.get("object"), dict):
            raise ValueError("an event has no record and object")
        offsets = [("record", record.get("offset"))] if record.get("exact") else []
        offsets += [("document", record.get("document_offset"))]
        if any(what in named and type(offset) is not int for what, offset in offsets):
            raise ValueError("an event does not say where its record stands")
    return files


def _there(folder: Path) -> Iterator[str]:
    """Everything in the folder, but for the folder of raw files itself."""
    for step, folders, names in os.walk(folder):
        base = Path(step).relative_to(folder)
        for name in [*names, *folders]:
            path = base / name
            if path.as_posix() != RAW or (folder / path).is_symlink() or not (folder / path).is_dir():
                yield path.as_posix()


def _opened(folder: Path, name: str, verified: Verified) -> BufferedReader | None:
    """A file of the bundle; a fault where it is missing or something else than a file."""
    path = folder / name
    try:
        if path.is_symlink() or (path.parent != folder and path.parent.is_symlink()):
            verified.faults.append(Fault(name, "it is a link, and no file"))
        elif not stat.S_ISREG(path.stat().st_mode):
            verified.faults.append(Fault(name, "it is no file"))
        else:
            return path.open("rb")
    except FileNotFoundError:
        verified.faults.append(Fault(name, "it is missing"))
    except OSError as error:
        verified.faults.append(Fault(name, f"it cannot be read: {error.strerror}"))
    return None


def _read(folder: Path, name: str, most: int, verified: Verified) -> bytes | None:
    file = _opened(folder, name, verified)
    if file is None:
        return None
    with file:
        return file.read(most + 1)


def _hash(folder: Path, name: str, entry: Mapping[str, Any], verified: Verified) -> None:
    file = _opened(folder, name, verified)
    if file is None:
        return
    with file:
        size = os.fstat(file.fileno()).st_size
        if size != entry["bytes"]:  # not hashed: it may be of any size
            verified.faults.append(Fault(name, f"it has {size:,} bytes, and the manifest says {entry['bytes']:,}"))
            return
        digest = hashlib.file_digest(file, "sha256")
    verified.files += 1
    verified.bytes += size
    if digest.hexdigest() != entry["sha256"]:
        verified.faults.append(Fault(name, "it has another SHA-256 than the manifest says"))


def _hold_together(folder: Path, manifest: Mapping[str, Any], verified: Verified, limits: Limits) -> None:
    """Whether records stand in the whole objects where the manifest says, and have the hashes that it says."""
    compared: set[str] = set()
    for event in manifest["events"]:
        named, record = event["files"], event["record"]
        if "record" in named and record.get("sha256") != manifest["files"][named["record"]]["sha256"]:
            verified.faults.append(Fault(named["record"], "the manifest says two different hashes of it"))
        for what, offset in (("record", record.get("offset")), ("document", record.get("document_offset"))):
            if what not in named or "object" not in named or not isinstance(offset, int):
                continue
            with (folder / named["object"]).open("rb") as whole, (folder / named[what]).open("rb") as part:
                if not _stands(whole, part, offset, limits):
                    reason = f"it does not stand at byte {offset:,} of {named['object']}, decompressed"
                    verified.faults.append(Fault(named[what], reason))
        if "object" in named and named["object"] not in compared:
            compared.add(named["object"])
            content = manifest["files"][named["object"]].get("content_sha256")
            if content is not None and content != _content(folder / named["object"], limits):
                reason = "it has another content, decompressed, than the manifest says"
                verified.faults.append(Fault(named["object"], reason))
            with (folder / named["object"]).open("rb") as file:
                digest = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False))
            verified.objects += 1
            verified.etags += digest.hexdigest() == event["object"].get("etag")


def _stands(whole: BinaryIO, part: BinaryIO, offset: int, limits: Limits) -> bool:
    """Whether a file's bytes stand at a place of an object's decompressed bytes; neither is held in memory."""
    remaining = os.fstat(part.fileno()).st_size
    base = 0
    try:
        for block in streams.uncompressed(whole, limits):
            if base + len(block) > offset >= 0:
                here = block[max(offset - base, 0) :][:remaining]
                if part.read(len(here)) != here:
                    return False
                remaining -= len(here)
            base += len(block)
            if not remaining:
                break
    except ReadError:
        pass  # of a damaged object, what stands before the damage was read
    return not remaining
