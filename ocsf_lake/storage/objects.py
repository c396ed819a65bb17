"""Raw objects by URI: what a folder, a glob or a file name stands for, and their bytes.

Any URI that fsspec knows: a local path, `file://`, `memory://`, `s3://`. An object is known by its URI and ETag, so
that an object written anew under its old name is another object. Small objects of S3 are fetched ahead, many at once,
each in one request that also checks the ETag.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO

import fsspec
from fsspec.core import split_protocol

from ocsf_lake.storage import retry, s3, transfer
from ocsf_lake.storage.direct import Changed, FailedError, Stream
from ocsf_lake.storage.s3 import Access
from ocsf_mappers.errors import ConfigError, OcsfMappersError

SKIPPED_SUFFIXES = (".expected.json", ".md", ".py", ".toml")
"""Files beside logs that are no logs: reviewed results, notes, programs. Hidden files are skipped too."""
HIDDEN = "hidden, as their names, or those of folders, begin with a dot"
NO_LOG = f"no logs, as their names end in one of {' '.join(SKIPPED_SUFFIXES)}"
NO_FILE = "no files, but pipes, sockets or devices"
OF_THE_LAKE = "the lake's own files"
FOLDER_WITH_CONTENT = "objects with content whose names end in a slash, as those of folders; copy them to other names"
"""Why a name is passed over."""

WHOLE_BYTES = 32 << 20
"""Objects of S3 up to this size are got whole, larger ones piece by piece."""

AHEAD_OBJECTS, AHEAD_BYTES = 24, 48 << 20
"""So many objects, and of so many bytes together, are fetched before they are asked for."""

KEPT_BYTES, KEPT_FILE_BYTES = 16 << 20, 256 << 10
"""So many bytes of local files, none of them larger, are kept from hashing to reading: small ones are read once."""

DEFAULT_ACCESS = Access()

_ASKED_AGAIN = (
    "an event leads to its object by name, which has to give the same bytes again; write stdin or a pipe to a file"
)

_SIGNED = re.compile(r"(?i)[?&](x-amz-(signature|credential|security-token)|signature|sig|[\w-]*token|awsaccesskeyid)=")
_HASHED_BYTES = 4 << 20
_BUFFER_BYTES = 1 << 20
_GLOB = frozenset("*?[")


class ObjectError(OcsfMappersError):
    """An object cannot be opened or read, or is not the object that was listed; others are not concerned."""


class GoneError(ObjectError):
    """An object is not there any more, or has another content: trying again gives nothing else."""


@dataclass(frozen=True, order=True)
class ObjectRef:
    """One raw object as it was listed.

    Args:
        uri: Absolute URI.
        etag: The store's ETag; MD5 of the bytes, in hex, for local files and memory.
        size: Bytes, as stored.
        stamp: Modification time, size and inode of a local file, "" elsewhere. While it stays, so does the ETag.
        archived: Whether the listing says that it cannot be read before it is restored.
    """

    uri: str
    etag: str
    size: int
    stamp: str = ""
    archived: bool = field(default=False, compare=False)

    @property
    def key(self) -> tuple[str, str]:
        """The object's key in the ledger."""
        return self.uri, self.etag


def filesystem(uri: str, access: Access = DEFAULT_ACCESS) -> tuple[Any, str]:
    """The fsspec file system of a URI, and the path in it, without a slash at the end.

    Args:
        uri: What to open.
        access: How S3 is reached.

    Raises:
        ConfigError: No file system stands behind the URI, or it holds a secret.
    """
    fs, path = _as_named(uri, access)
    # One name for one file, whichever links lead to it: the ledger knows objects by name.
    return fs, os.path.realpath(path) if is_local(fs) else path


def _as_named(uri: str, access: Access = DEFAULT_ACCESS) -> tuple[Any, str]:
    """The same without a look for links on the way, which costs a call of the system for each step of a path."""
    if not uri.strip():
        raise ConfigError("a URI is empty, as a variable is that was not set; . stands for the working folder")
    _check_no_secret(uri)
    if s3.concerns(uri):
        bucket, _, key = uri.partition("://")[2].partition("/")
        if not bucket:
            raise ConfigError(f"{uri!r} names no bucket")
        return s3.filesystem(access), f"{bucket}/{key}".rstrip("/")
    # Not fsspec's url_to_fs: it takes what follows "::" in a name for the URI of another file system.
    protocol = split_protocol(uri)[0] or "file"
    try:
        fs = _local() if protocol == "file" else fsspec.filesystem(protocol)
    except (ValueError, ImportError) as error:
        raise ConfigError(f"no file system for {uri!r}: {error}") from error
    return fs, str(fs._strip_protocol(uri)).rstrip("/") or "/"


@cache
def _local() -> Any:
    """This machine's file system, which keeps nothing; fsspec would reckon each time whose instance is asked for."""
    return fsspec.filesystem("file")


def uri_of(uri: str, access: Access = DEFAULT_ACCESS) -> str:
    """A URI as listing gives it, were it that of an object."""
    fs, path = filesystem(uri, access)
    return str(fs.unstrip_protocol(path))


def _check_no_secret(uri: str) -> None:
    """Refuses a URI with a password or signature: it would stand in the ledger and in every event."""
    protocol, _, rest = uri.partition("://")
    signed = protocol in ("http", "https") and _SIGNED.search(rest)
    if rest and protocol not in ("file", "memory") and ("@" in rest.partition("/")[0] or signed):
        raise ConfigError(
            f"a {protocol}:// URI with a password or signature in it is not read, as it would stand in every event; "
            "credentials come from the environment or a role"
        )


def is_local(fs: Any) -> bool:
    """Whether the file system is this machine's own."""
    return "file" in protocols(fs)


def protocols(fs: Any) -> tuple[str, ...]:
    """The names that a file system goes by, such as `s3`."""
    return (fs.protocol,) if isinstance(fs.protocol, str) else tuple(fs.protocol)


def without_nested(uris: Iterable[str]) -> list[str]:
    """The URIs in order, without those that lie in another one's folder: their objects would be listed twice."""
    uri_by_path: dict[tuple[tuple[str, ...], str], str] = {}
    for uri in uris:
        fs, path = filesystem(uri)
        uri_by_path.setdefault((protocols(fs), path), uri)
    folders = {(kind, path.rstrip("/")) for kind, path in uri_by_path}
    return [
        uri
        for (kind, path), uri in uri_by_path.items()
        if not any((kind, path[: slash.start()]) in folders for slash in re.finditer("/", path.rstrip("/")))
    ]


def check(uris: Iterable[str], access: Access = DEFAULT_ACCESS) -> None:
    """Looks whether something is there, before anything is made for it.

    Raises:
        ConfigError: A URI stands for nothing, or its store refuses us.
        RetriableError: Its store is busy or out of reach.
    """
    for uri in uris:
        fs, path = filesystem(uri, access)
        fs.invalidate_cache()
        if is_local(fs):
            _check_no_pipe(uri)
        with s3.translate_errors(uri):
            if kind(fs, path) is not None:
                continue
            if not _GLOB & set(path):
                raise ConfigError(f"there is nothing at {uri!r}" + (f": {_ASKED_AGAIN}" if uri == "-" else ""))
            # A pattern may match nothing today; what is misspelt in the folders before it never will.
            folder = re.split(r"[*?\[]", path, maxsplit=1)[0].rpartition("/")[0]
            if folder and kind(fs, folder) is None:
                raise ConfigError(f"there is nothing at {folder!r}, where {uri!r} begins")


def _check_no_pipe(uri: str) -> None:
    """Refuses what gives its bytes once, such as `/dev/stdin` and the `<(...)` of a shell; links lead to no path."""
    path = Path(_as_named(uri)[1])
    if path.exists() and not path.is_file() and not path.is_dir():
        raise ConfigError(f"{uri!r} is neither a file nor a folder: {_ASKED_AGAIN}")


def kind(fs: Any, path: str) -> str | None:
    """`file`, `directory`, or None when nothing is there; fsspec's own questions answer no to every error."""
    if s3.is_s3(fs):
        return s3.kind(fs, path)
    try:
        return str(retry.call(fs.info, path)["type"])
    except FileNotFoundError:
        return None


def skipped(path: str) -> str | None:
    """Why a path below a folder is passed over: that of a hidden file, or of one that is no log. None: it is not."""
    steps = path.strip("/").split("/")
    if any(step.startswith(".") for step in steps):
        return HIDDEN
    return NO_LOG if steps[-1].endswith(SKIPPED_SUFFIXES) else None


def followed(fs: Any, info: dict[str, Any]) -> dict[str, Any]:
    """What a local link leads to, under its own name; everything else, and a link that leads nowhere, as it is."""
    if not info.get("islink"):
        return info
    target = os.path.realpath(info["name"])
    try:
        return dict(fs.info(target))
    except OSError:
        return {**info, "type": "file"}


def unhashed(fs: Any, info: dict[str, Any]) -> ObjectRef:
    """An object as the file system lists it; of a local file or one in memory, the ETag is left empty."""
    etag = str(info.get("ETag") or info.get("etag") or "").strip('"')
    stamp = ""
    if not etag and is_local(fs):
        try:
            stamp = _stamp(os.stat(info["name"]))  # noqa: PTH116 - see `_open_local`
        except OSError:
            stamp = ""  # it vanished: opening it will fail
    # What is no UTF-8 in a name is spelled out: the ledger and the lake hold text. Opening it raises what to do.
    uri = fs.unstrip_protocol(info["name"]).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return ObjectRef(uri, etag, int(info["size"] or 0), stamp, s3.is_s3(fs) and s3.is_archived(fs, info))


def with_etag(ref: ObjectRef) -> ObjectRef:
    """The object with the MD5 of its bytes as its ETag, if it has none; S3 gives each one its own."""
    if ref.etag:
        return ref
    fs, path = _as_named(ref.uri)
    try:
        if is_local(fs) and (data := _small(path, ref)) is not None:
            tagged = replace(ref, etag=hashlib.md5(data, usedforsecurity=False).hexdigest())
            _small_files.keep(tagged, data)
            return tagged
        return replace(ref, etag=_md5(fs, path, ref))
    except OSError:
        # It vanished or is closed to us: opening it for reading will fail, and then it counts as a failed object.
        return ref


def _stamp(status: os.stat_result) -> str:
    return f"{status.st_mtime_ns}-{status.st_size}-{status.st_ino}"


class _SmallFiles:
    """The bytes of local files that were hashed and not read yet; the oldest ones give way. For several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._files: dict[ObjectRef, bytes] = {}
        self._bytes = 0

    def keep(self, ref: ObjectRef, data: bytes) -> None:
        """Keeps the bytes of an object, which has its ETag."""
        with self._lock:
            self._take(ref)
            self._files[ref] = data
            self._bytes += len(data)
            while self._bytes > KEPT_BYTES:
                self._take(next(iter(self._files)))

    def take(self, ref: ObjectRef, path: str) -> bytes | None:
        """The bytes of an object, once, if they are kept and its file has not been touched since it was listed."""
        with self._lock:
            data = self._take(ref)
        if data is not None:
            with suppress(OSError):  # opening it raises the error
                return data if _stamp(os.stat(path)) == ref.stamp else None  # noqa: PTH116 - see `_open_local`
        return None

    def _take(self, ref: ObjectRef) -> bytes | None:
        data = self._files.pop(ref, None)
        self._bytes -= len(data or b"")
        return data


_small_files = _SmallFiles()


def _small(path: str, ref: ObjectRef) -> bytes | None:
    """The bytes of a small local file that is as it was listed."""
    if ref.size > KEPT_FILE_BYTES:
        return None
    with _open_local(path) as file:
        data = file.read(KEPT_FILE_BYTES + 1)
        return data if _stamp(os.fstat(file.fileno())) == ref.stamp and len(data) == ref.size else None


def _open_local(path: str) -> BinaryIO:
    """A local file: fsspec's own wrapper costs a Python call per read, and a `Path` as much as to open it."""
    return open(path, "rb")  # noqa: PTH123


def _md5(fs: Any, path: str, ref: ObjectRef) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    with fs.open(path, "rb") if is_local(fs) else _open_resuming(fs, path, ref) as file:
        while block := file.read(_HASHED_BYTES):
            digest.update(block)
    return digest.hexdigest()


def _open_resuming(fs: Any, path: str, ref: ObjectRef) -> BinaryIO:
    begun = transfer.stream(fs, path, ref.etag) if s3.is_s3(fs) else None
    return io.BufferedReader(ResumingReader(fs, path, ref, begun), _BUFFER_BYTES)


class ResumingReader(io.RawIOBase):
    """An object of a remote store, read on where a connection broke.

    Args:
        fs: Its file system.
        path: Its path there.
        ref: The object as it was listed: less than its size is an answer cut short, and it stays the one that it was.
        begun: A shorter way to it, taken for as long as it is read from begin to end and nothing fails.
    """

    def __init__(self, fs: Any, path: str, ref: ObjectRef, begun: Stream | None = None) -> None:
        self._fs = fs
        self._path = path
        self._etag = ref.etag
        self._size = ref.size
        self._at = 0
        self._file: Any = begun

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Goes to a place; nothing is read yet."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = base + offset
        return self._at

    def tell(self) -> int:
        """The place."""
        return self._at

    def readinto(self, buffer: Any) -> int:
        """Reads; raises RetriableError when trying again has not helped."""
        data = retry.call(self._read, len(buffer))
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)

    def _read(self, size: int) -> bytes:
        try:
            if isinstance(self._file, Stream) and self._file.tell() != self._at:
                self._forget()
            if self._file is None:
                self._file = self._fs.open(self._path, "rb")
                # s3fs reads on only what has the ETag that it finds here.
                details = getattr(self._file, "details", None) or {}
                if self._etag and "ETag" in details and str(details["ETag"]).strip('"') != self._etag:
                    raise Changed
            if self._file.tell() != self._at:
                self._file.seek(self._at)
            data: bytes = self._file.read(min(size, max(0, self._size - self._at)))
            if not data and self._at < self._size:
                raise TimeoutError(f"the answer ends after {self._at} of {self._size} bytes")
            return data
        except FailedError:
            self._forget()
            return self._read(size)
        except BaseException:
            self._forget()
            raise

    def _forget(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            file.close()

    def close(self) -> None:
        """Closes the connection."""
        self._forget()
        super().close()


class Prefetcher:
    """Opens the objects of a batch one after the other, and fetches the next ones meanwhile where that helps.

    Args:
        refs: The objects, in the order in which they will be asked for.
        access: How S3 is reached.
    """

    def __init__(self, refs: Sequence[ObjectRef] = (), access: Access = DEFAULT_ACCESS) -> None:
        self.access = access
        self._next = deque(ref for ref in refs if _whole(ref))
        self._fetched: dict[ObjectRef, Future[bytes]] = {}
        self._ahead = 0

    @contextmanager
    def opened(self, ref: ObjectRef) -> Iterator[BinaryIO]:
        """The object's bytes, raw.

        Raises:
            ObjectError: It vanished, is closed to us, is not the object that was listed, or was written to meanwhile.
            ConfigError: The store refuses us altogether.
            RetriableError: The store is busy or out of reach.
        """
        if not _whole(ref):
            with _streamed(ref, self.access) as file:
                yield file
            return
        with _opening(ref):
            data = retry.call(self._whole, ref)
        yield io.BytesIO(data)

    def close(self) -> None:
        """Gives up what was fetched and not asked for."""
        for future in self._fetched.values():
            future.cancel()
        self._fetched.clear()
        self._ahead = 0

    def _whole(self, ref: ObjectRef) -> bytes:
        """The object, fetched now if it was not before; starts to fetch those after it as far as they fit."""
        if ref not in self._fetched:
            self._fetch(ref)
            while self._next and self._next.popleft() != ref:
                continue
        while self._next and len(self._fetched) < AHEAD_OBJECTS and self._ahead + self._next[0].size <= AHEAD_BYTES:
            self._fetch(self._next.popleft())
        self._ahead -= ref.size
        return self._fetched.pop(ref).result()

    def _fetch(self, ref: ObjectRef) -> None:
        fs, path = filesystem(ref.uri, self.access)
        if ref not in self._fetched:
            self._ahead += ref.size
        self._fetched[ref] = transfer.fetch(fs, path, ref.etag, ref.size)


def _whole(ref: ObjectRef) -> bool:
    return s3.concerns(ref.uri) and ref.size <= WHOLE_BYTES


@contextmanager
def opened(ref: ObjectRef, access: Access = DEFAULT_ACCESS) -> Iterator[BinaryIO]:
    """One object's bytes, raw; see `Prefetcher.opened`."""
    with Prefetcher((), access).opened(ref) as file:
        yield file


def described(ref: ObjectRef, access: Access = DEFAULT_ACCESS) -> tuple[bytes, dict[str, str]]:
    """A small object whole, and its metadata, of which only stores like S3 have any; see `Prefetcher.opened`."""
    if not _whole(ref):
        with opened(ref, access) as file:
            return file.read(), {}
    fs, path = filesystem(ref.uri, access)
    with _opening(ref):
        return retry.call(lambda: transfer.fetch_described(fs, path, ref.etag, ref.size).result())


@contextmanager
def _opening(ref: ObjectRef) -> Iterator[None]:
    """Makes errors of the store `ObjectError`, where they are about this object."""
    try:
        with s3.translate_errors(ref.uri, denied=ObjectError):
            yield
    except Changed:
        raise GoneError("the object changed since it was listed; the next run reads it", object=ref.uri) from None
    except FileNotFoundError as error:
        raise GoneError("the object is gone since it was listed", object=ref.uri) from error
    except OSError as error:
        raise ObjectError(f"the object cannot be opened: {error}", object=ref.uri) from error


@contextmanager
def _streamed(ref: ObjectRef, access: Access) -> Iterator[BinaryIO]:
    fs, path = _as_named(ref.uri, access)
    local = is_local(fs)
    if local and (content := _small_files.take(ref, path)) is not None:
        yield io.BytesIO(content)
        return
    try:
        with s3.translate_errors(ref.uri, denied=ObjectError):
            same = local or _same(fs, path, ref)
            file = _open_local(path) if local else _open_resuming(fs, path, ref)
    except Changed:
        raise GoneError("the object changed since it was listed; the next run reads it", object=ref.uri) from None
    except FileNotFoundError as error:
        hint = "; a name that is not UTF-8 cannot be read, rename it" if local and "\\x" in ref.uri else ""
        raise GoneError(f"the object is gone since it was listed{hint}", object=ref.uri) from error
    except OSError as error:
        raise ObjectError(f"the object cannot be opened: {error}", object=ref.uri) from error
    with file:
        before = _stamp(os.fstat(file.fileno())) if local else ""
        if local and before != ref.stamp:
            same = _md5(fs, path, ref) == ref.etag
        if not same:
            raise GoneError("the object changed since it was listed; the next run reads it", object=ref.uri)
        try:
            with s3.translate_errors(ref.uri, denied=ObjectError):
                yield file
        except Changed:
            raise ObjectError(
                "the object changed while it was read; the next run reads it", object=ref.uri
            ) from None  # fmt: skip
        if local and _stamp(os.fstat(file.fileno())) != before:
            raise GoneError("the object changed while it was read; the next run reads it", object=ref.uri)


def _same(fs: Any, path: str, ref: ObjectRef) -> bool:
    info = retry.call(fs.info, path)
    if etag := info.get("ETag") or info.get("etag"):
        return str(etag).strip('"') == ref.etag
    return _md5(fs, path, ref) == ref.etag
