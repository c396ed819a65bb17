"""Whether the files that a query read still have the bytes that were written.

DuckDB does not look at the checksums of Parquet's pages: of 120 flipped bits that were tried it gave 113 as other
values. So after a query the local files that it opened, and only those, are held against the ledger's SHA-256; DuckDB's
own log says which they were. That is 1.3 GB a second and core, each file once for a connection. S3 checks what it
keeps, and connections check what they carry: files there are not read a second time.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from weakref import WeakKeyDictionary

import duckdb

from ocsf_mappers.errors import ReadError

WORKERS = 4
_BLOCK = 4 << 20
_LOGGED = "SELECT DISTINCT path FROM duckdb_logs_parsed('FileSystem') WHERE op = 'OPEN'"

_WRITTEN: WeakKeyDictionary[duckdb.DuckDBPyConnection, dict[str, str]] = WeakKeyDictionary()
"""What is left to be held against the ledger, by connection: path -> SHA-256."""


def watch(connection: duckdb.DuckDBPyConnection, written: Mapping[str, str]) -> None:
    """Begins to note which files a connection opens.

    Args:
        connection: The connection, before its settings are locked.
        written: Path of each file that it may read -> SHA-256 of its bytes, in hex.
    """
    _WRITTEN[connection] = dict(written)
    connection.execute("CALL enable_logging('FileSystem', level = 'trace')")


def check(connection: duckdb.DuckDBPyConnection) -> None:
    """Looks at the files that were opened since the last time; nothing where a connection is not watched.

    Raises:
        ReadError: One has other bytes than were written, so what was read is not what the log said.
    """
    written = _WRITTEN.get(connection)
    if not written:
        return
    opened = [path for (path,) in connection.cursor().execute(_LOGGED).fetchall()]
    wanted = {path: written.pop(path) for path in opened if path in written}
    with ThreadPoolExecutor(WORKERS) as pool:
        for path, digest in zip(wanted, pool.map(_sha256, wanted), strict=True):
            if digest != wanted[path]:
                raise ReadError(
                    "a file of the lake has other bytes than were written, so the answer would be wrong; `ocsf-lake "
                    "catalog sync --deep` makes it again from the raw objects",
                    file=path,
                )


def _sha256(path: str) -> str | None:
    digest = hashlib.sha256()
    try:
        with Path(path).open("rb") as file:
            while block := file.read(_BLOCK):
                digest.update(block)
    except FileNotFoundError:
        return None
    return digest.hexdigest()
