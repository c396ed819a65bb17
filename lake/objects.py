"""Raw objects by URI: what a folder, a glob or a file name stands for, and their bytes.

Any URI that fsspec knows: a local path, `file://`, `memory://`, `s3://`. An object is known by its URI and ETag, so
that an object written anew under its old name is another object.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from fsspec.core import url_to_fs

from ocsf_mappers.errors import ConfigError, OcsfMappersError

SKIPPED_SUFFIXES = (".expected.json", ".md", ".py", ".toml")
"""Files beside logs that are no logs: reviewed results, notes, programs. Hidden files are skipped too."""

_HASHED_BYTES = 4 << 20
_GLOB = frozenset("*?[")


class ObjectError(OcsfMappersError):
    """An object cannot be opened or read, or is not the object that was listed; others are not concerned."""


@dataclass(frozen=True, order=True)
class ObjectRef:
    """One raw object as it was listed.

    Args:
        uri: Absolute URI.
        etag: The store's ETag; MD5 of the bytes, in hex, for local files and memory.
        size: Bytes, as stored.
        stamp: Modification time, size and inode of a local file, "" elsewhere. While it stays, so does the ETag.
    """

    uri: str
    etag: str
    size: int
    stamp: str = ""

    @property
    def key(self) -> tuple[str, str]:
        """What the ledger knows the object by."""
        return self.uri, self.etag


KnownEtag = Callable[[str, int, str], str | None]
"""URI, size and stamp -> the ETag that this file had when it was last seen so; None when it was not."""


def filesystem(uri: str) -> tuple[Any, str]:
    """The fsspec file system of a URI, and the path in it, without a slash at the end.

    Raises:
        ConfigError: No file system stands behind the URI.
    """
    try:
        found, path = url_to_fs(uri)
    except (ValueError, ImportError) as error:
        raise ConfigError(f"no file system for {uri!r}: {error}") from error
    return found, path.rstrip("/") or "/"


def is_local(fs: Any) -> bool:
    """Whether the file system is this machine's own."""
    return "file" in _protocols(fs)


def _protocols(fs: Any) -> tuple[str, ...]:
    return (fs.protocol,) if isinstance(fs.protocol, str) else tuple(fs.protocol)


def check(uris: Iterable[str]) -> None:
    """Looks whether something is there, before anything is made for it.

    Raises:
        ConfigError: A URI stands for nothing.
    """
    for uri in uris:
        fs, path = filesystem(uri)
        fs.invalidate_cache()
        if not fs.exists(path) and not _GLOB & set(path):
            raise ConfigError(f"there is nothing at {uri!r}")


def listed(uris: Iterable[str], known: KnownEtag | None = None) -> list[ObjectRef]:
    """The objects that the URIs stand for, each once, sorted by URI.

    Args:
        uris: Folders (listed recursively), globs and files.
        known: Saves hashing local files again that did not change.

    Raises:
        ConfigError: A URI stands for nothing.
    """
    found: dict[str, ObjectRef] = {}
    for uri in uris:
        fs, path = filesystem(uri)
        for info in _infos(fs, path, uri):
            reference = fs.unstrip_protocol(info["name"])
            if reference not in found:
                found[reference] = _ref(fs, info, reference, known)
    return [found[reference] for reference in sorted(found)]


def _infos(fs: Any, path: str, uri: str) -> Iterator[dict[str, Any]]:
    # A local listing may be cached by the file system instance; ask the store itself.
    fs.invalidate_cache()
    if fs.isfile(path):
        yield fs.info(path)
        return
    if fs.isdir(path):
        names = fs.find(path, detail=True)
    elif _GLOB & set(path):
        names = {}
        for name, info in fs.glob(path, detail=True).items():
            names |= fs.find(name, detail=True) if info["type"] == "directory" else {name: info}
    else:
        raise ConfigError(f"there is nothing at {uri!r}")
    root = len(path) if fs.isdir(path) else len(path.split("*")[0].split("?")[0].split("[")[0])
    for name, info in sorted(names.items()):
        if info["type"] == "file" and not _skipped(name[root:]):
            yield info


def _skipped(path: str) -> bool:
    steps = path.strip("/").split("/")
    return any(step.startswith(".") for step in steps) or steps[-1].endswith(SKIPPED_SUFFIXES)


def _ref(fs: Any, info: dict[str, Any], uri: str, known: KnownEtag | None) -> ObjectRef:
    size = int(info["size"] or 0)
    if etag := info.get("ETag") or info.get("etag"):
        return ObjectRef(uri, str(etag).strip('"'), size)
    stamp = ""
    try:
        stamp = _stamp(Path(info["name"]).stat()) if is_local(fs) else ""
        if stamp and known is not None and (etag := known(uri, size, stamp)):
            return ObjectRef(uri, etag, size, stamp)
        return ObjectRef(uri, _md5(fs, info["name"]), size, stamp)
    except OSError:
        # It vanished or is closed to us: opening it for reading will say so, and then it counts as a failed object.
        return ObjectRef(uri, "", size, stamp)


def _stamp(status: os.stat_result) -> str:
    return f"{status.st_mtime_ns}-{status.st_size}-{status.st_ino}"


def _md5(fs: Any, path: str) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    with fs.open(path, "rb") as file:
        while block := file.read(_HASHED_BYTES):
            digest.update(block)
    return digest.hexdigest()


@contextmanager
def opened(ref: ObjectRef) -> Iterator[BinaryIO]:
    """The object's bytes, raw.

    Raises:
        ObjectError: It vanished, is closed to us, is not the object that was listed, or was written to meanwhile.
    """
    try:
        fs, path = filesystem(ref.uri)
        local = is_local(fs)
        same = local or _same(fs, path, ref)
        # fsspec's own wrapper of local files costs a Python call per read.
        file = Path(path).open("rb") if local else fs.open(path, "rb")  # noqa: SIM115 - closed below
    except FileNotFoundError as error:
        raise ObjectError("the object is gone since it was listed", object=ref.uri) from error
    except OSError as error:
        raise ObjectError(f"the object cannot be opened: {error}", object=ref.uri) from error
    with file:
        before = _stamp(os.fstat(file.fileno())) if local else ""
        if local and before != ref.stamp:
            same = _md5(fs, path) == ref.etag
        if not same:
            raise ObjectError("the object changed since it was listed; the next run reads it", object=ref.uri)
        yield file
        if local and _stamp(os.fstat(file.fileno())) != before:
            raise ObjectError("the object changed while it was read; the next run reads it", object=ref.uri)


def _same(fs: Any, path: str, ref: ObjectRef) -> bool:
    info = fs.info(path)
    if etag := info.get("ETag") or info.get("etag"):
        return str(etag).strip('"') == ref.etag
    return _md5(fs, path) == ref.etag
