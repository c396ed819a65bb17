"""Rows written to local files, streamed; a file that is there is replaced when all is written."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
from pyarrow import parquet

from ocsf_mappers.errors import QueryError

GROUP_ROWS, GROUP_BYTES = 131_072, 16 << 20
"""A row group of a Parquet file has so many rows or bytes (in memory), roughly; so much memory writing takes."""


def write_parquet(path: str | os.PathLike[str], schema: pa.Schema, batches: Iterator[pa.RecordBatch]) -> int:
    """Writes rows to a Parquet file (zstd), and gives their number.

    Raises:
        QueryError: A column has a type that Parquet does not have.
    """
    rows = 0
    with replaced(path) as file:
        try:
            with parquet.ParquetWriter(file, schema, compression="zstd") as writer:
                for group in _groups(batches):
                    table = pa.Table.from_batches(group, schema)
                    group.clear()
                    writer.write_table(table, row_group_size=GROUP_ROWS)
                    rows += table.num_rows
        except pa.ArrowNotImplementedError as error:
            raise QueryError(f"Parquet cannot hold these rows: {error}", file=path) from error
    return rows


@contextmanager
def replaced(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A file to write beside the one that it replaces at the end; it is removed when something fails.

    A link stays, and what it names is replaced; what is no file, such as a pipe or `/dev/null`, is itself written to.
    """
    target = Path(path).resolve()
    if target.exists() and not target.is_file() and not target.is_dir():
        yield target
        return
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        yield part
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)


def _groups(batches: Iterator[pa.RecordBatch]) -> Iterator[list[pa.RecordBatch]]:
    """Batches put together to row groups."""
    group: list[pa.RecordBatch] = []
    rows = size = 0
    for batch in batches:
        group.append(batch)
        rows, size = rows + len(batch), size + batch.nbytes
        if rows >= GROUP_ROWS or size >= GROUP_BYTES:
            yield group
            group, rows, size = [], 0, 0
    if group:
        yield group
