"""Parquet files as raw logs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet

from ocsf_mappers.errors import ReadError
from ocsf_mappers.readers.chunk import Chunk, as_text, failure
from ocsf_mappers.streams import Blocks


@dataclass(frozen=True)
class ParquetRows:
    """Parquet: one record a row; every column is read as text.

    Args:
        zero_padded: Column -> number of digits, for identifiers that a writer stored as numbers.
        nulls: Texts that stand for a missing value.
    """

    zero_padded: Mapping[str, int] = field(default_factory=dict)
    nulls: tuple[str, ...] = ("-", "None")
    label: str = "Parquet"

    def accepts(self, head: bytes) -> bool:
        """Parquet files begin with PAR1."""
        return head.startswith(b"PAR1")

    def read(self, blocks: Blocks) -> Iterator[Chunk]:
        """Chunks of text columns; records are numbered by row."""
        number = 0
        try:
            blocks.file.seek(0)
            for batch in pa.parquet.ParquetFile(blocks.file).iter_batches(batch_size=65_536):
                columns = {"_record": pa.array(range(number + 1, number + 1 + len(batch)), pa.int64())}
                for name, values in zip(batch.schema.names, batch.columns, strict=True):
                    key = name.lower().replace("-", "_")
                    columns[key] = self._text(key, values)
                number += len(batch)
                yield Chunk(pa.table(columns))
        except (pa.ArrowException, OSError) as error:
            yield failure(ReadError(f"the Parquet file is damaged: {error}"), number)

    def _text(self, name: str, values: pa.Array) -> pa.Array:
        kind = values.type
        if pa.types.is_floating(kind):
            whole = pc.cast(pc.floor(values), pa.int64(), safe=False)
            values = pc.if_else(pc.equal(pc.floor(values), values), whole.cast(pa.string()), values.cast(pa.string()))
        elif pa.types.is_timestamp(kind):
            values = pc.divide(values.cast(pa.timestamp("us")).cast(pa.int64()), 1_000_000).cast(pa.string())
        elif pa.types.is_nested(kind):
            values = pa.array([as_text(item) for item in values.to_pylist()], pa.string())
        else:
            values = values.cast(pa.string())
        if name in self.zero_padded and not pa.types.is_string(kind):
            values = pc.utf8_lpad(values, width=self.zero_padded[name], padding="0")
        return pc.if_else(pc.is_in(values, pa.array(self.nulls)), pa.scalar(None, pa.string()), values)
