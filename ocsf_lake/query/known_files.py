"""Files whose sizes are known from the catalog, for DuckDB: what it asks of a file before it reads it costs no request.

For every query DuckDB asks a store several times for each file of a table, one after the other, also for those that the
query's conditions then leave out. Of S3 that would be minutes, and a bill, before the first byte is read.
"""

from __future__ import annotations

import io
import threading
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, BinaryIO

from fsspec import AbstractFileSystem
from fsspec.spec import AbstractBufferedFile

from ocsf_lake.storage import retry

WHOLE_BYTES = 4 << 20
"""A file of up to this size is read with one request, whatever is wanted of it."""

BLOCK_BYTES = 4 << 20
"""Of a larger one, so much is read ahead."""

KEPT_BYTES = 64 << 20
"""So much of files that were read whole is kept in memory."""

_WRITTEN = datetime(2000, 1, 1, tzinfo=UTC)
"""Files of a lake never change, so any time does."""


class KnownFiles(AbstractFileSystem):  # type: ignore[misc]
    """Reads files of another file system; knows only those that were added.

    Args:
        inner: The file system that has the files.
    """

    cachable = False

    def __init__(self, inner: AbstractFileSystem) -> None:
        super().__init__()
        self.inner = inner
        self.protocol = inner.protocol
        self._sizes: dict[str, int] = {}
        self._contents: dict[str, bytes] = {}
        self._contents_bytes = 0
        self._lock = threading.Lock()

    def add(self, sizes: Mapping[str, int]) -> None:
        """Tells of files.

        Args:
            sizes: URI -> bytes.
        """
        self._sizes |= {self._strip_protocol(uri): size for uri, size in sizes.items()}

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        """Name, size and type of a file.

        Raises:
            FileNotFoundError: It is none that we know.
        """
        name = self._strip_protocol(path)
        if name not in self._sizes:
            raise FileNotFoundError(path)
        return {"name": name, "size": self._sizes[name], "type": "file"}

    def exists(self, path: str, **_: Any) -> bool:
        """Whether it is a file that we know."""
        return self._strip_protocol(path) in self._sizes

    def glob(self, path: str, **_: Any) -> list[str]:
        """The file of this name; a lake's files have no patterns in their names."""
        return [self._strip_protocol(path)] if self.exists(path) else []

    def isdir(self, path: str) -> bool:
        """Whether it is a folder: none is known."""
        return False

    def modified(self, path: str) -> datetime:
        """When the file was written, which is as good as any time."""
        return _WRITTEN

    def open(self, path: str, mode: str = "rb", **_: Any) -> BinaryIO | AbstractBufferedFile:
        """The file's bytes, which are fetched when they are read.

        Raises:
            FileNotFoundError: It is none that we know.
        """
        size = self.info(path)["size"]
        name = self._strip_protocol(path)
        if size <= WHOLE_BYTES:
            return io.BytesIO(self._whole(name, size))
        return _File(self, name, mode, BLOCK_BYTES, cache_type="readahead", size=size)

    def fetch(self, name: str, start: int, end: int) -> bytes:
        """Some of a file's bytes, with one request, and again while the store is busy."""
        try:
            return bytes(retry.call(self.inner.cat_file, name, start=start, end=end))
        except FileNotFoundError as error:
            raise FileNotFoundError(self.inner.unstrip_protocol(name)) from error

    def _whole(self, name: str, size: int) -> bytes:
        # DuckDB opens a file for each view that is made of it, and again for the query.
        with self._lock:
            data = self._contents.get(name)
        if data is None:
            data = self.fetch(name, 0, size)
            with self._lock:
                self._contents_bytes += 0 if name in self._contents else len(data)
                self._contents[name] = data
                while self._contents_bytes > KEPT_BYTES:
                    self._contents_bytes -= len(self._contents.pop(next(iter(self._contents))))
        return data

    def _strip_protocol(self, path: str) -> str:
        return str(self.inner._strip_protocol(path))


class _File(AbstractBufferedFile):  # type: ignore[misc]
    def _fetch_range(self, start: int, end: int) -> bytes:
        data: bytes = self.fs.fetch(self.path, start, end)
        return data
