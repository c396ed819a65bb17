"""The rows of many Parquet files in one order, written into a few: memory is bounded, and the bytes are the same again.

A span of time is sorted after the other, in DuckDB, so that no more than a span is in memory.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from ocsf_lake.storage import parquet
from ocsf_mappers import duck

MEMORY_BYTES = 512 << 20
"""For sorting; a span that takes more goes to disk."""
SPAN_BYTES = 32 << 20
"""Rows that are sorted at once, as Parquet has them before compression; in memory they are several times as large."""
GROUP_BYTES = 64 << 20
"""A row group is cut at so many bytes in memory; Security Lake wants at most 256 MB of it compressed."""
BATCH_ROWS = 2_048
_ORDER = ("time", "source_object", "source_etag", "source_record")


def connect(folder: Path) -> duckdb.DuckDBPyConnection:
    """DuckDB with bounded memory, which sorts in a folder what does not fit."""
    connection = duck.connect(temp_directory=str(folder / "sorting"))
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute("SET preserve_insertion_order = false")
    connection.execute(f"SET memory_limit = '{MEMORY_BYTES}B'")
    return connection


@dataclass(frozen=True)
class Facts:
    """What the files' footers show: bytes of all row groups before compression, and of a row where rows are widest."""

    bytes: int
    row_bytes: int

    @classmethod
    def of(cls, paths: Sequence[Path]) -> Facts:
        """Of some files."""
        total, widest = 0, 1
        for path in paths:
            metadata = pq.read_metadata(path)
            for number in range(metadata.num_row_groups):
                group = metadata.row_group(number)
                total += group.total_byte_size
                widest = max(widest, group.total_byte_size // group.num_rows)
        return cls(total, widest)

    def step(self, settings: parquet.Form) -> int:
        """Rows between two looks at a page's size, so that they fill no more than half of it."""
        return max(1, min(parquet.MOST_ROWS_PER_STEP, settings.data_page_bytes // 2 // self.row_bytes))


def bounds(connection: duckdb.DuckDBPyConnection, files: str, size: int, span: int | None = None) -> list[int]:
    """Times that divide the rows into spans of about so many bytes, `SPAN_BYTES` if not given, in order."""
    number = -(-size // (span or SPAN_BYTES))
    if number <= 1:
        return []
    shares = ", ".join(str(share / number) for share in range(1, number))
    return sorted(set(connection.sql(f"SELECT quantile_disc(time, [{shares}]) FROM {files}").fetchall()[0][0]))


def spans(connection: duckdb.DuckDBPyConnection, selected: str, bounds: Sequence[int]) -> Iterator[pa.RecordBatch]:
    """The rows of a SELECT, sorted a span of time after the other: row groups of other times are not read for it."""
    for first, end in zip([None, *bounds], [*bounds, None], strict=True):
        tests = ["true"]
        tests += [] if first is None else [f"time >= {first}"]
        tests += [] if end is None else [f"time < {end}"]
        query = f"{selected} WHERE {' AND '.join(tests)} ORDER BY {', '.join(_ORDER)}"
        yield from connection.sql(query).to_arrow_reader(BATCH_ROWS)


class Rows:
    """Rows in order, a row group at a time."""

    def __init__(self, batches: Iterator[pa.RecordBatch], schema: pa.Schema, settings: parquet.Form) -> None:
        self.schema = schema
        self._batches = batches
        self._most_rows = settings.row_group_rows
        self._pending: deque[pa.RecordBatch] = deque()

    def more(self) -> bool:
        """Whether a row is left."""
        while not self._pending:
            batch = next(self._batches, None)
            if batch is None:
                return False
            if len(batch):
                self._pending.append(batch)
        return True

    def group(self, most: int | None) -> pa.Table:
        """The next row group, of bounded rows and bytes; without rows at the end."""
        limit = self._most_rows if most is None else min(most, self._most_rows)
        batches, number, size = [], 0, 0
        while number < limit and size < GROUP_BYTES and self.more():
            batch = self._pending.popleft()
            if len(batch) > limit - number:
                self._pending.appendleft(batch.slice(limit - number))
                batch = batch.slice(0, limit - number)
            batches.append(batch)
            number += len(batch)
            size += batch.nbytes
        if not batches:
            return self.schema.empty_table()
        # As one chunk: pages end where chunks do, and the same rows shall give the same bytes.
        return pa.Table.from_batches(batches).combine_chunks().cast(self.schema)

    def skip(self, number: int) -> None:
        """Leaves rows out."""
        while number and self.more():
            batch = self._pending.popleft()
            if len(batch) > number:
                self._pending.appendleft(batch.slice(number))
            number -= min(number, len(batch))


def write(
    rows: Rows, file: Path, number: int | None, settings: parquet.Form, step: int, most_bytes: int | None = None
) -> int:
    """Writes a file to disk, sorted as its rows come, and gives their number.

    Args:
        rows: What is left of the rows.
        file: Where to write.
        number: So many rows, if as many are left; None for as many as the size allows.
        settings: Form of the file.
        step: Rows between two looks at a page's size, see `Facts.step`.
        most_bytes: Size from which on rows go into another file.
    """
    form = parquet.form(rows.schema, settings, "time")
    # A page is closed once it is past its size: half of what it may have, and a step of up to the other half.
    half = settings.data_page_bytes // 2
    form |= {"data_page_size": half, "dictionary_pagesize_limit": half, "write_batch_size": step}
    written = 0
    with pa.OSFile(str(file), "wb") as sink, pq.ParquetWriter(sink, rows.schema, **form) as writer:
        while number is None or written < number:
            group = rows.group(None if number is None else number - written)
            if not len(group):
                break
            writer.write_table(group, row_group_size=len(group))
            written += len(group)
            if number is None and most_bytes is not None and sink.tell() >= most_bytes:
                break
    return written
