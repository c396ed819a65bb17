"""Whether the files that a query read still have the bytes that were written.

DuckDB does not look at the checksums of Parquet's pages: of 120 flipped bits that were tried it gave 113 as other
values. So after a query the local files that it opened, and only those, are held against the ledger's SHA-256; DuckDB's
own log says which they were. That is 1.3 GB a second and core, each file once for a connection. S3 checks what it
keeps, and connections check what they carry: files there are not read a second time.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from weakref import WeakKeyDictionary

import duckdb

from ocsf_mappers.errors import ReadError

WORKERS = 4
_LOGGED = (
    "SELECT DISTINCT message FROM duckdb_logs() WHERE type = 'FileSystem' AND contains(message, '\"op\":\"OPEN\"')"
)
"""Not the view of that name, which joins and sorts what every read left: it was a third of a long answer's time."""
_OPENED = re.compile(r'"path":"(.*)","op":"OPEN"', re.DOTALL)
"""What the log says of a file that is opened; like JSON, but quotes in a path are not escaped, so DuckDB's own parser
of its log refuses it."""

_WRITTEN: WeakKeyDictionary[duckdb.DuckDBPyConnection, dict[str, str]] = WeakKeyDictionary()
"""Files still to be compared with the ledger, by connection: path -> SHA-256."""


def watch(connection: duckdb.DuckDBPyConnection) -> None:
    """Begins to note which files a connection opens; its settings must not be locked yet."""
    connection.execute("CALL enable_logging('FileSystem', level = 'trace')")


def expect(connection: duckdb.DuckDBPyConnection, written: Mapping[str, str]) -> None:
    """Says what the files of a watched connection should hold.

    Args:
        connection: The connection.
        written: Path of each file that it may read -> SHA-256 of its bytes, in hex.
    """
    _WRITTEN[connection] = dict(written)


def check(connection: duckdb.DuckDBPyConnection) -> None:
    """Looks at the files that were opened since the last time; nothing where a connection is not watched.

    Raises:
        ReadError: One has other bytes than were written, so what was read is not what the log said.
    """
    written = _WRITTEN.get(connection)
    if not written:
        return
    lines = connection.cursor().execute(_LOGGED).fetchall()
    opened = {match[1] for (line,) in lines if (match := _OPENED.search(line))}
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
