"""The lake's files: put whole, named relative to the lake's root, on any file system of fsspec."""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa

from ocsf_lake.storage import layout, objects, permissions, retry, s3, transfer
from ocsf_lake.storage.s3 import Access
from ocsf_mappers.errors import ConfigError, WriteError

_BLOCK_BYTES = 4 << 20
_UNFINISHED = ".tmp"
"""Ends the name of a local file that is being written; a dot begins it."""


class Store:
    """The folder or bucket prefix that holds a lake.

    Args:
        uri: Root of the lake.
        access: How S3 is reached.
        umask: Permissions that new local files and folders do not get.
    """

    def __init__(self, uri: str, access: Access = objects.DEFAULT_ACCESS, umask: int = permissions.UMASK) -> None:
        self.access = access
        self.umask = umask
        self.fs, self.root = objects.filesystem(uri, access)
        self.is_local = objects.is_local(self.fs)

    def path(self, name: str) -> str:
        """Path of a file on the file system, without protocol."""
        return f"{self.root.rstrip('/')}/{name}"

    def uri(self, name: str) -> str:
        """URI of a file."""
        return str(self.fs.unstrip_protocol(self.path(name)))

    def put(self, name: str, data: pa.Buffer) -> None:
        """Writes a file so that its name never stands for half of it. A file of this name is replaced.

        Raises:
            WriteError: The file system refused.
            RetriableError: The store is busy or out of reach.
        """
        path = self.path(name)
        try:
            # memory:// and object stores show an object once it is whole.
            with s3.translate_errors(self.uri(name), denied=WriteError):
                if self.is_local:
                    _put_local(Path(path), data, self.umask)
                elif s3.is_s3(self.fs):
                    retry.call(transfer.put, self.fs, path, data.to_pybytes())
                else:
                    retry.call(self.fs.pipe_file, path, data.to_pybytes())
        except OSError as error:
            raise WriteError(f"cannot write to the lake: {error}", file=self.uri(name)) from error

    def put_new(self, name: str, file: Path) -> bool:
        """Writes a copy of a local file, unless there is a file of this name; that one is left as it is.

        Returns:
            Whether it was written.

        Raises:
            WriteError: The file system refused.
            RetriableError: The store is busy or out of reach.
        """
        path = self.path(name)
        try:
            with s3.translate_errors(self.uri(name), denied=WriteError), pa.memory_map(str(file)) as mapped:
                data = mapped.read_buffer()
                if self.is_local:
                    return _put_new_local(Path(path), data, self.umask)
                if s3.is_s3(self.fs):
                    digest = hashlib.sha256(data).digest()
                    return transfer.put_new(self.fs, path, transfer.Pieces(data), digest)
                if retry.call(self.fs.exists, path):
                    return False
                retry.call(self.fs.pipe_file, path, data.to_pybytes())
                return True
        except OSError as error:
            raise WriteError(f"cannot write: {error}", file=self.uri(name)) from error

    def put_once(self, name: str, data: bytes) -> bool:
        """Writes a small file, unless there is one of this name; of several that try at once, one succeeds.

        Returns:
            Whether it was written.

        Raises:
            WriteError: The file system refused.
            RetriableError: The store is busy or out of reach.
        """
        path, buffer = self.path(name), pa.py_buffer(data)
        try:
            with s3.translate_errors(self.uri(name), denied=WriteError):
                if self.is_local:
                    return _put_new_local(Path(path), buffer, self.umask)
                if s3.is_s3(self.fs):
                    return transfer.put_new(self.fs, path, transfer.Pieces(buffer), hashlib.sha256(data).digest())
                if retry.call(self.fs.exists, path):
                    return False
                retry.call(self.fs.pipe_file, path, data)
                return True
        except OSError as error:
            raise WriteError(f"cannot write to the lake: {error}", file=self.uri(name)) from error

    def get(self, name: str) -> bytes | None:
        """A small file's bytes; None when there is none.

        Raises:
            ConfigError: The file system refuses us.
            RetriableError: The store is busy or out of reach.
        """
        try:
            with s3.translate_errors(self.uri(name)):
                return bytes(retry.call(self.fs.cat_file, self.path(name)))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise ConfigError(f"cannot read the lake: {error}", file=self.uri(name)) from error

    def names_after(self, prefix: str, last: str) -> list[str]:
        """Names of files right in a folder that come after another name in the order of text; at most a thousand.

        Args:
            prefix: The folder.
            last: The name, without the folder.
        """
        folder = self.path(prefix)
        with s3.translate_errors(self.uri(prefix)):
            if s3.is_s3(self.fs):
                return s3.names_after(self.fs, folder, last)
            if self.is_local:
                with suppress(FileNotFoundError):
                    # Names alone: a Path for each of thousands would take ten times as long.
                    names = os.listdir(folder)  # noqa: PTH208
                    return sorted(name for name in names if name > last and not name.startswith("."))
                return []
            try:
                names = [str(name).rpartition("/")[2] for name in self.fs.ls(folder, detail=False)]
            except FileNotFoundError:
                return []
            return sorted(name for name in names if name > last)

    def unfinished(self, prefix: str) -> list[str]:
        """Names of the unfinished files right in a folder: being written, or left by who died over it.

        Object stores show none.
        """
        if self.is_local:
            with suppress(FileNotFoundError):
                names = os.listdir(self.path(prefix))  # noqa: PTH208 - as in `names_after`
                return sorted(f"{prefix}/{name}" for name in names if name[:1] == "." and name.endswith(_UNFINISHED))
        return []

    def size(self, name: str) -> int | None:
        """Size of a file, None when there is none."""
        try:
            with s3.translate_errors(self.uri(name)):
                return int(retry.call(self.fs.info, self.path(name))["size"])
        except FileNotFoundError:
            return None

    def sizes(self, prefix: str) -> dict[str, int]:
        """Name and size of every file below a folder; empty when there is no such folder."""
        start = len(self.path(""))
        with s3.translate_errors(self.uri(prefix)):
            self.fs.invalidate_cache()
            files = retry.call(self.fs.find, self.path(prefix), detail=True)
        return {name[start:]: int(info["size"]) for name, info in files.items() if info["type"] == "file"}

    def walk(self, prefix: str) -> Iterator[tuple[str, int]]:
        """Name and size of every file below a folder, some at a time; unfinished ones and links among them."""
        start = len(self.path(""))
        with s3.translate_errors(self.uri(prefix)):
            if s3.is_s3(self.fs):
                for path, size in s3.walk(self.fs, self.path(prefix)):
                    yield path[start:], size
            elif self.is_local:
                yield from ((path[start:], size) for path, size in _walk_local(self.path(prefix)))
            else:
                yield from self.sizes(prefix).items()

    def check_lock(self) -> None:
        """Whether files can be put with Object Lock.

        Raises:
            ConfigError: They cannot.
            RetriableError: The store is busy or out of reach.
        """
        if not s3.is_s3(self.fs):
            raise ConfigError(f"setting object_lock: the lake {self.uri('')!r} is not on S3")
        with s3.translate_errors(self.uri("")):
            s3.check_lock(self.fs, self.root.partition("/")[0])

    def versions(self, name: str) -> list[s3.Version]:
        """Versions of a file on S3, and markers of its removal; none elsewhere, or where we may not look."""
        if not s3.is_s3(self.fs):
            return []
        try:
            return s3.versions(self.fs, self.path(name))
        except (PermissionError, NotImplementedError):
            return []

    def read_version(self, name: str, version: str) -> bytes:
        """The bytes of one version of a file on S3."""
        with s3.translate_errors(self.uri(name)):
            return s3.read_version(self.fs, self.path(name), version)

    def remove_version(self, name: str, version: str) -> bool:
        """Removes one version of a file on S3 for good; gives whether it may go: not while it is locked, or we may not.

        Raises:
            RetriableError: The store is busy or out of reach.
        """
        with s3.translate_errors(self.uri(name), denied=WriteError):
            return s3.remove_version(self.fs, self.path(name), version)

    def some(self, prefix: str) -> Iterator[str]:
        """Names of files below a folder, a few at least where there are any; not all of them are looked for."""
        folder = self.path(prefix)
        with s3.translate_errors(self.uri(prefix)):
            if s3.is_s3(self.fs):
                yield from s3.names_after(self.fs, folder, "")
            elif self.is_local:
                yield from (name for _, _, names in os.walk(folder) for name in names)
            else:
                yield from self.sizes(prefix)

    def sha256(self, name: str) -> str:
        """Checksum of a file's bytes, in hex."""
        digest = hashlib.sha256()
        with self.opened(name) as file:
            while block := file.read(_BLOCK_BYTES):
                digest.update(block)
        return digest.hexdigest()

    @contextmanager
    def opened(self, name: str) -> Iterator[BinaryIO]:
        """A file's bytes."""
        with s3.translate_errors(self.uri(name)), self.fs.open(self.path(name), "rb") as file:
            yield file

    def copy(self, name: str, to: str) -> None:
        """Gives a file a second name; files are never changed, so that on a disk both are names of one.

        Raises:
            WriteError: The file system refused.
            RetriableError: The store is busy or out of reach.
        """
        source, target = self.path(name), self.path(to)
        try:
            with s3.translate_errors(self.uri(to), denied=WriteError):
                if self.is_local:
                    _link_local(Path(source), Path(target), self.umask)
                else:
                    retry.call(self.fs.copy, source, target, **s3.lock_of(self.fs))  # it is not inherited
        except OSError as error:
            raise WriteError(f"cannot copy: {error}", file=self.uri(name)) from error

    def move(self, name: str, to: str) -> None:
        """Gives a file another name."""
        source, target = self.path(name), self.path(to)
        with s3.translate_errors(self.uri(name), denied=WriteError):
            if self.is_local:
                # Not fsspec's: it asks shutil, which copies where a rename would do, and takes a folder for a place.
                permissions.make_folder(Path(target).parent, self.umask)
                Path(source).replace(target)
                permissions.sync_folder(Path(target).parent)
                return
            retry.call(self.fs.copy, source, target, **s3.lock_of(self.fs))
            retry.call(self.fs.rm_file, source)

    def move_aside(self, name: str) -> None:
        """Moves a file to where nobody counts its rows, beside those of the same name that were moved there before.

        On a store that cannot rename, who dies in between, or may not remove, is continued by doing it again. One that
        is gone counts as moved: by somebody else.
        """
        folder, _, file = name.rpartition("/")
        to, number = f"{layout.FOREIGN}/{name}", 1
        while (size := self.size(to)) is not None:
            if size == self.size(name) and self.sha256(to) == self.sha256(name):
                self.remove([name])
                return
            number += 1
            to = f"{layout.FOREIGN}/{folder}/{number}/{file}"
        with suppress(FileNotFoundError):
            self.move(name, to)

    def remove(self, names: Iterable[str]) -> None:
        """Removes files; those that are gone already count as removed."""
        for name in names:
            try:
                with s3.translate_errors(self.uri(name), denied=WriteError):
                    retry.call(self.fs.rm_file, self.path(name))
            except FileNotFoundError:
                continue


def _walk_local(folder: str) -> Iterator[tuple[str, int]]:
    """Links to folders are named as files are, and not followed."""
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    yield from _walk_local(entry.path)
                else:
                    yield entry.path, entry.stat(follow_symlinks=False).st_size
    except (FileNotFoundError, NotADirectoryError):
        return  # it, or a file in it, went meanwhile; or a file has its name


def _put_local(path: Path, data: pa.Buffer, umask: int) -> None:
    _unfinished(path, data, umask).replace(path)
    permissions.sync_folder(path.parent)


def _put_new_local(path: Path, data: pa.Buffer, umask: int) -> bool:
    permissions.make_folder(path.parent, umask)
    unfinished = _unfinished_path(path)
    with _alone(unfinished, umask) as file:
        try:
            # Of somebody who died after the link it is another name of the finished file, which must not be written to.
            if os.fstat(file.fileno()).st_nlink > 1:
                return False
            file.truncate(0)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
            os.link(unfinished, path)
        except FileExistsError:
            return False
        finally:
            unfinished.unlink()
    permissions.sync_folder(path.parent)
    return True


def _alone(path: Path, umask: int) -> BinaryIO:
    """The file that this path names, made if it is missing; nobody else has it this way, and whoever dies lets go."""
    while True:
        permissions.touch(path, umask)
        try:
            file = path.open("r+b")
        except FileNotFoundError:
            continue  # who had it has removed it
        fcntl.flock(file, fcntl.LOCK_EX)
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                return file
        file.close()


def _link_local(source: Path, target: Path, umask: int) -> None:
    permissions.make_folder(target.parent, umask)
    try:
        os.link(source, target)
    except FileExistsError:
        if source.samefile(target):
            return
        target.unlink()  # of an attempt that died, when the file was another one
        os.link(source, target)
    except OSError:
        if not source.exists():
            raise
        # A file system without links.
        with pa.memory_map(str(source)) as mapped:
            _unfinished(target, mapped.read_buffer(), umask).replace(target)
    permissions.sync_folder(target.parent)


def _unfinished(path: Path, data: pa.Buffer, umask: int) -> Path:
    """The bytes on disk beside the file that they will be."""
    permissions.make_folder(path.parent, umask)
    unfinished = _unfinished_path(path)
    with permissions.open_file(unfinished, umask) as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    return unfinished


def _unfinished_path(path: Path) -> Path:
    return path.with_name(f".{path.name}{_UNFINISHED}")
