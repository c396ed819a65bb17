"""The lake's files: put whole, named relative to the lake's root, on any file system of fsspec."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa

from lake import objects, private, retry, s3
from lake.s3 import Access
from ocsf_mappers.errors import WriteError


class Store:
    """The folder or bucket prefix that holds a lake.

    Args:
        uri: Root of the lake.
        access: How S3 is reached.
        umask: Permissions that new local files and folders do not get.
    """

    def __init__(self, uri: str, access: Access = objects.DEFAULT_ACCESS, umask: int = private.UMASK) -> None:
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
            with s3.explained(self.uri(name), denied=WriteError):
                if self.is_local:
                    _put_local(Path(path), data, self.umask)
                elif s3.is_s3(self.fs):
                    retry.call(s3.put, self.fs, path, data.to_pybytes())
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
            with s3.explained(self.uri(name), denied=WriteError), pa.memory_map(str(file)) as mapped:
                data = mapped.read_buffer()
                if self.is_local:
                    return _put_new_local(Path(path), data, self.umask)
                if s3.is_s3(self.fs):
                    digest = hashlib.sha256(data).digest()
                    return retry.call(s3.put_new, self.fs, path, s3.Pieces(data), digest)
                if retry.call(self.fs.exists, path):
                    return False
                retry.call(self.fs.pipe_file, path, data.to_pybytes())
                return True
        except OSError as error:
            raise WriteError(f"cannot write: {error}", file=self.uri(name)) from error

    def size(self, name: str) -> int | None:
        """Size of a file, None when there is none."""
        try:
            with s3.explained(self.uri(name)):
                return int(retry.call(self.fs.info, self.path(name))["size"])
        except FileNotFoundError:
            return None

    def sizes(self, prefix: str) -> dict[str, int]:
        """Name and size of every file below a folder; empty when there is no such folder."""
        start = len(self.path(""))
        with s3.explained(self.uri(prefix)):
            self.fs.invalidate_cache()
            found = retry.call(self.fs.find, self.path(prefix), detail=True)
        return {name[start:]: int(info["size"]) for name, info in found.items() if info["type"] == "file"}

    @contextmanager
    def opened(self, name: str) -> Iterator[BinaryIO]:
        """A file's bytes."""
        with s3.explained(self.uri(name)), self.fs.open(self.path(name), "rb") as file:
            yield file

    def move(self, name: str, to: str) -> None:
        """Gives a file another name."""
        source, target = self.path(name), self.path(to)
        with s3.explained(self.uri(name), denied=WriteError):
            if self.is_local:
                private.make_folder(Path(target).parent, self.umask)
            retry.call(self.fs.mv, source, target)

    def remove(self, names: Iterable[str]) -> None:
        """Removes files; those that are gone already count as removed."""
        for name in names:
            try:
                with s3.explained(self.uri(name), denied=WriteError):
                    retry.call(self.fs.rm_file, self.path(name))
            except FileNotFoundError:
                continue


def _put_local(path: Path, data: pa.Buffer, umask: int) -> None:
    _unfinished(path, data, umask).replace(path)


def _put_new_local(path: Path, data: pa.Buffer, umask: int) -> bool:
    unfinished = _unfinished(path, data, umask)
    try:
        os.link(unfinished, path)
    except FileExistsError:
        return False
    finally:
        unfinished.unlink()
    return True


def _unfinished(path: Path, data: pa.Buffer, umask: int) -> Path:
    """The bytes on disk beside the file that they will be."""
    private.make_folder(path.parent, umask)
    unfinished = path.with_name(f".{path.name}.tmp")
    with private.open_file(unfinished, umask) as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    return unfinished
