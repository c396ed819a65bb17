"""Whether the files that a query read still have the bytes that were written.

DuckDB does not look at the checksums of Parquet's pages: of 120 flipped bits that were tried it gave 113 as other
values. So after a query the local files that it opened, and only those, are held against the ledger's SHA-256; DuckDB's
own log says which they were. That is 1.3 GB a second and core, each file once for a connection. S3 checks what it
keeps, and connections check what they carry: files there are not read a second time.
"""

from __future__ import annotations

import csv
import hashlib
import re
import shutil
import tempfile
import weakref
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import duckdb

from ocsf_mappers import duck, sqltext
from ocsf_mappers.errors import ReadError

WORKERS = 4
_OPENED = re.compile(r'"path":"(.*)","op":"OPEN"', re.DOTALL)
"""What the log says of a file that is opened; like JSON, but quotes in a path are not escaped, so DuckDB's own parser
of its log refuses it."""

_ENTRY_END = b'}"\n'
"""Ends a line of the log: in a name a quote is doubled."""
_NAME = "duckdb_log_entries.csv"


@dataclass
class _Watched:
    """What is known of a watched connection.

    Args:
        log: The log of what it does with files.
        read: So many bytes of the log were looked at.
        written: Files still to be compared with the ledger: path -> SHA-256.
    """

    log: Path
    read: int = 0
    written: dict[str, str] = field(default_factory=dict)

    def opened(self) -> set[str]:
        """The files that were opened since the last time.

        A line that is not whole yet is left to the next time: of a file that is opened the next one says that it is
        read.
        """
        if self.log.stat().st_size <= self.read:
            return set()
        with self.log.open("rb") as file:
            file.seek(self.read)
            lines = file.read()
        lines = lines[: lines.rfind(_ENTRY_END) + len(_ENTRY_END)] if _ENTRY_END in lines else b""
        self.read += len(lines)
        messages = (row[-1] for row in csv.reader(lines.decode(errors="surrogateescape").splitlines(keepends=True)))
        return {match[1] for message in messages if (match := _OPENED.search(message))}


_WATCHED: weakref.WeakKeyDictionary[duckdb.DuckDBPyConnection, _Watched] = weakref.WeakKeyDictionary()


def watch(connection: duckdb.DuckDBPyConnection) -> None:
    """Begins to note which files a connection opens; its settings must not be locked yet.

    The log is a file, though it could be in memory: DuckDB holds its lock while it makes room for a line there, and
    waits for ever where that moves what a sort holds to the disk, which is a line of the log too.
    """
    folder = tempfile.mkdtemp(dir=duck.spill_folder())
    weakref.finalize(connection, shutil.rmtree, folder, ignore_errors=True)
    connection.execute(
        "CALL enable_logging('FileSystem', level = 'trace', storage = 'file', storage_buffer_size = 1, "
        f"storage_path = {sqltext.text(folder)})"
    )
    _WATCHED[connection] = _Watched(Path(folder, _NAME))


def expect(connection: duckdb.DuckDBPyConnection, written: Mapping[str, str]) -> None:
    """Says what the files of a watched connection should hold.

    Args:
        connection: The connection.
        written: Path of each file that it may read -> SHA-256 of its bytes, in hex.
    """
    _WATCHED[connection].written = dict(written)


def check(connection: duckdb.DuckDBPyConnection) -> None:
    """Looks at the files that were opened since the last time; nothing where a connection is not watched.

    Raises:
        ReadError: One has other bytes than were written, so what was read is not what the log said.
    """
    watched = _WATCHED.get(connection)
    if watched is None or not watched.written:
        return
    written, opened = watched.written, watched.opened()
    expected = {path: written.pop(path) for path in sorted(opened & written.keys())}
    with ExitStack() as stack:
        # A thread has memory of its own, and rows that are streamed come from one file after the other.
        many = len(expected) > 1
        digests = stack.enter_context(ThreadPoolExecutor(WORKERS)).map if many else map
        for path, digest in zip(expected, digests(_sha256, expected), strict=True):
            if digest != expected[path]:
                raise ReadError(
                    "a file of the lake has other bytes than were written, so the answer would be wrong; `ocsf-lake "
                    "catalog sync --deep` makes it again from the raw objects",
                    file=path,
                )


def _sha256(path: str) -> str | None:
    try:
        with Path(path).open("rb", buffering=0) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        return None
