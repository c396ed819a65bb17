"""Files of a partition into fewer ones: the same rows, by time, a class a file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from functools import cache
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from ocsf_lake.config import Settings
from ocsf_lake.ledger.results import CountError
from ocsf_lake.storage import evolution, ordered
from ocsf_mappers import registry, sqltext
from ocsf_mappers.errors import ConfigError

SPAN_BYTES = 64 << 20
"""Rows that are sorted at once, before compression. For each span all files are read that have rows of it, which files
of a whole day have for all: fewer spans, fewer readings."""


def written(
    paths: Sequence[Path], table: str, rows: Sequence[int], settings: Settings, folder: Path
) -> Iterator[Path]:
    """Writes the rows of files, in their order, into files of so many rows each.

    No more than a span of time is in memory, whatever the size of the files; the same rows give the same bytes.

    Args:
        paths: The files, on this machine's disk.
        table: The table that they are of; what is written has the columns that it has today.
        rows: Rows of each file to be written, in order; together as many as the files have.
        settings: Form of the files.
        folder: Where to write, and to sort what memory does not hold.

    Yields:
        Each file; it is gone when the next one is asked for.

    Raises:
        ConfigError: A file has columns that this release does not know.
        CountError: The files have other rows.
    """
    schema = registry.table(table).arrow
    groups: dict[str, list[str]] = {}
    total = 0
    for path in paths:
        facts = pq.read_metadata(path)
        leaves = {facts.schema.column(number).path for number in range(facts.num_columns)}
        if strange := sorted(leaves - _leaves(table)):
            raise ConfigError(
                f"files of {table} have columns that this release does not know, which it would lose: "
                f"{', '.join(strange[:5])}; compact with the version that wrote them"
            )
        total += facts.num_rows
        groups.setdefault("\n".join(sorted(leaves)), []).append(str(path))
    if total != sum(rows):
        raise CountError(f"files of {total:,} rows were to become files of {sum(rows):,}", table=table)
    sizes = ordered.Facts.of(paths)
    target = folder / "merged.parquet"
    with closing(ordered.connect(folder)) as connection:
        every = evolution.select(connection, schema.empty_table(), [groups[name] for name in sorted(groups)], _read)
        bounds = ordered.bounds(connection, f"({every})", sizes.bytes, SPAN_BYTES)
        left = ordered.Rows(ordered.spans(connection, f"SELECT * FROM ({every})", bounds), schema, settings)
        for number in rows:
            if (written_rows := ordered.write(left, target, number, settings, sizes.step(settings))) != number:
                raise CountError(f"a file of {number:,} rows would have {written_rows:,}", table=table)
            yield target
            target.unlink()
        if left.more():
            raise CountError("files would have fewer rows than those that they are made of", table=table)


def _read(paths: Sequence[str]) -> str:
    return f"SELECT * FROM read_parquet({sqltext.texts(paths)}, hive_partitioning = false)"


@cache
def _leaves(table: str) -> frozenset[str]:
    """The columns of a table's files, as Parquet names them."""
    sink = pa.BufferOutputStream()
    pq.write_table(registry.table(table).arrow.empty_table(), sink, store_schema=False)
    schema = pq.read_metadata(pa.BufferReader(sink.getvalue())).schema
    return frozenset(schema.column(number).path for number in range(len(schema.names)))


def shares(rows: int, files: int) -> list[int]:
    """Rows divided evenly among files."""
    least, more = divmod(rows, files)
    return [least + (number < more) for number in range(files)]


