"""Parquet files as raw logs."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet

from ocsf_mappers.errors import ReadError
from ocsf_mappers.readers.chunk import COLUMNS, Bad, Chunk, as_text, bad_text, failure, positions
from ocsf_mappers.readers.json_split import RECORD_BYTES, TOO_LONG
from ocsf_mappers.readers.parquet_pages import Footer
from ocsf_mappers.readers.streams import Blocks, Limits

CHUNK_BYTES = 16 << 20
"""Rows become text in chunks of this size. What a file holds once and refers to often is written out only then."""

_UNIT_DIGITS = {"s": 0, "ms": 3, "us": 6, "ns": 9}

_Sizes = np.ndarray[Any, np.dtype[np.int64]]


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
        file = _Watched(blocks.file)
        try:
            footer = Footer(file)
            spent = 0
            for names, batch in _batches(footer):
                for chunk in self._chunks(names, batch, number):
                    spent += chunk.records.nbytes
                    _check_growth(spent, footer.size, blocks.limits)
                    yield chunk
                    number += chunk.read
        except ReadError as error:
            yield failure(error, number)
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            if file.error is not None:
                raise file.error from error
            yield failure(ReadError(f"the Parquet file is damaged: {error}"), number)

    def _chunks(self, names: Sequence[str], batch: pa.RecordBatch, before: int) -> Iterator[Chunk]:
        """A batch as text, in as many chunks as its size asks for."""
        sizes = np.full(len(batch), 1, np.int64)
        for values in batch.columns:
            sizes += _sizes(values)
        ends = np.cumsum(sizes)
        start = 0
        while start < len(batch):
            written = int(ends[start - 1]) if start else 0
            end = max(int(np.searchsorted(ends, written + CHUNK_BYTES, side="right")), start + 1)
            if sizes[start] > RECORD_BYTES:
                end = start + 1
                beginning = " ".join(_beginning(values[start]) for values in batch.columns)
                yield _rows(names, [], [], [Bad(before + end, TOO_LONG, beginning)])
            else:
                if long := np.flatnonzero(sizes[start:end] > RECORD_BYTES).tolist():
                    end = start + long[0]
                yield self._chunk(names, batch.slice(start, end - start), before + start)
            start = end

    def _chunk(self, names: Sequence[str], batch: pa.RecordBatch, before: int) -> Chunk:
        numbers = np.arange(before + 1, before + 1 + len(batch))
        columns, broken = [], np.zeros(len(batch), bool)
        for name, values in zip(names, batch.columns, strict=True):
            text, not_utf8 = self._text(name.lower().replace("-", "_"), values)
            columns.append(text)
            broken |= not_utf8
        if not broken.any():
            return _rows(names, numbers, columns)
        bad = [
            Bad(int(numbers[row]), "invalid UTF-8 in the row", " ".join(_beginning(v[row]) for v in batch.columns))
            for row in np.flatnonzero(broken).tolist()
        ]
        return _rows(names, numbers[~broken], [column.filter(pa.array(~broken)) for column in columns], bad)

    def _text(self, name: str, values: pa.Array) -> tuple[pa.Array, _Sizes]:
        """A column as text, and where it holds bytes that are no text."""
        indices = None
        if pa.types.is_dictionary(values.type):
            values, indices = _used(values)
        kind = values.type
        values, not_utf8 = _as_text(values)
        number = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
        if name in self.zero_padded and number:
            values = pc.utf8_lpad(values, width=self.zero_padded[name], padding="0")
        values = pc.if_else(pc.is_in(values, pa.array(self.nulls)), pa.scalar(None, pa.string()), values)
        if indices is None:
            return values, not_utf8
        return values.take(indices), np.append(not_utf8, False)[indices.fill_null(len(values)).to_numpy()]


class _Watched(io.RawIOBase):
    """A file that remembers an error of its own: it is no damage of what it holds, for which it would be taken."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.error: OSError | None = None

    def read(self, size: int = -1) -> bytes:
        try:
            return self.file.read(size)
        except OSError as error:
            self.error = error
            raise

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return self.file.seek(offset, whence)

    def tell(self) -> int:
        return self.file.tell()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True


def _batches(footer: Footer) -> Iterator[tuple[list[str], pa.RecordBatch]]:
    """The names of the columns, and some rows; texts as dictionaries, as the file holds them.

    Raises:
        ReadError: Decoding would take more memory than is allowed, or rows are missing.
    """
    if len(footer.leaves) > COLUMNS:
        raise ReadError(f"the file has {len(footer.leaves)} columns, more than the {COLUMNS} that are read")
    metadata = None
    for number in range(len(footer.groups)):
        how = footer.plan(number)
        parquet = pa.parquet.ParquetFile(
            footer.file, metadata=metadata, read_dictionary=how.dictionaries, page_checksum_verification=True
        )
        metadata = parquet.metadata
        missing = how.total
        for batch in parquet.iter_batches(batch_size=how.rows, row_groups=[number], use_threads=False):
            batch.validate()
            missing -= len(batch)
            yield batch.schema.names, batch
        if missing:
            raise ReadError(f"the Parquet file is damaged: {missing} rows of row group {number + 1} are missing")


def _check_growth(spent: int, size: int, limits: Limits) -> None:
    """Refuses what unfolds beyond the limits of decompression."""
    if spent > limits.max_bytes:
        raise ReadError(f"the rows take more than {limits.max_bytes} bytes; the rest was not read")
    if spent > limits.ratio_from_bytes and spent > limits.max_ratio * size:
        raise ReadError(
            f"the rows take more than {limits.max_ratio} times the file's size, like a zip bomb; "
            f"the rest was not read after {spent} bytes"
        )


def _rows(
    names: Sequence[str], numbers: Sequence[int] | _Sizes, columns: Sequence[pa.Array], bad: Sequence[Bad] = ()
) -> Chunk:
    if not len(numbers):
        columns = [pa.array([], pa.string())] * len(names)
    arrays = [pa.array(numbers, pa.int64()), *columns]
    return Chunk(pa.table(arrays, names=["_record", *positions(len(names))]), bad, names=tuple(names))


def _sizes(values: pa.Array) -> _Sizes:
    """How many bytes each value takes as text, roughly, with what it refers to written out.

    Raises:
        ReadError: The values refer to what is not there, or are of a type that is not read.
    """
    kind = values.type
    if pa.types.is_dictionary(kind):
        last = len(values.dictionary)
        numbers = values.indices.fill_null(last).to_numpy()
        if len(numbers) and not 0 <= numbers.min() <= numbers.max() <= last:
            raise ReadError("the Parquet file is damaged: a row refers to a value that is not there")
        sizes: _Sizes = np.append(_sizes(values.dictionary), 0)[numbers]
        return sizes
    if _is_text(kind) or pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        return np.asarray(pc.fill_null(pc.binary_length(values), 0), np.int64)
    if pa.types.is_struct(kind):
        return sum((_sizes(values.field(n)) for n in range(kind.num_fields)), np.full(len(values), 16, np.int64))
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_map(kind):
        offsets = values.offsets.to_numpy()
        if not 0 <= offsets[0] <= offsets[-1] <= len(values.values) or (np.diff(offsets) < 0).any():
            raise ReadError("the Parquet file is damaged: a list reaches beyond its values")
        before = np.concatenate([[0], np.cumsum(_sizes(values.values) + 8)])
        return np.asarray(before[offsets[1:]] - before[offsets[:-1]], np.int64)
    if pa.types.is_fixed_size_list(kind):
        return _sizes(values.cast(pa.list_(kind.value_type)))
    if pa.types.is_fixed_size_binary(kind):
        return np.full(len(values), kind.byte_width, np.int64)
    if not (pa.types.is_primitive(kind) or pa.types.is_null(kind) or pa.types.is_decimal(kind)):
        raise ReadError(f"columns of type {kind} are not read")
    return np.full(len(values), 8, np.int64)


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _beginning(value: pa.Scalar) -> str:
    """The beginning of a value for quarantine; nothing of what holds other values, which may be large."""
    if isinstance(value, pa.DictionaryScalar):
        value = value.value
    if not value.is_valid:
        return "-"
    if pa.types.is_nested(value.type):
        return "..."
    if not hasattr(value, "as_buffer"):
        return str(value)
    buffer = value.as_buffer()
    return bad_text(buffer.slice(0, min(buffer.size, 1000)).to_pybytes())


def _used(values: pa.DictionaryArray) -> tuple[pa.Array, pa.Array]:
    """The values of a dictionary that some row refers to, and their numbers by row."""
    indices = values.indices
    present = np.unique(indices.drop_null().to_numpy())
    place = np.zeros(int(present[-1]) + 1 if len(present) else 0, np.int32)
    place[present] = np.arange(len(present), dtype=np.int32)
    numbers = place[indices.fill_null(0).to_numpy()] if len(present) else np.zeros(len(indices), np.int32)
    return values.dictionary.take(pa.array(present)), pa.array(numbers, mask=indices.is_null().to_numpy(False))


def _as_text(values: pa.Array) -> tuple[pa.Array, _Sizes]:
    """Values as text, and where they are bytes that are no text (there the text is null)."""
    kind = values.type
    fine = np.zeros(len(values), bool)
    if pa.types.is_nested(kind):
        texts = [_nested(item) for item in values]
        return pa.array([text for text, _ in texts], pa.string()), np.array([not good for _, good in texts], bool)
    if pa.types.is_floating(kind):
        return _numbers(values.cast(pa.float32()) if pa.types.is_float16(kind) else values), fine
    if pa.types.is_timestamp(kind):
        return _seconds(values), fine
    if _is_text(kind) or pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        return _utf8(values.cast(pa.binary()))
    if pa.types.is_fixed_size_binary(kind):
        return _utf8(values.cast(pa.binary()))
    return values.cast(pa.string()), fine


def _nested(value: pa.Scalar) -> tuple[str | None, bool]:
    """JSON of a value, and whether it has one."""
    try:
        return as_text(value.as_py()), True
    except UnicodeDecodeError:
        return None, False


def _utf8(values: pa.Array) -> tuple[pa.Array, _Sizes]:
    try:
        return values.cast(pa.string()), np.zeros(len(values), bool)
    except pa.ArrowInvalid:
        pass
    texts = []
    for item in values.to_pylist():
        try:
            texts.append(None if item is None else item.decode())
        except UnicodeDecodeError:
            texts.append(None)
    decoded = pa.array(texts, pa.string())
    return decoded, pc.and_(decoded.is_null(), values.is_valid()).to_numpy(False)


def _numbers(values: pa.Array) -> pa.Array:
    """Floating point as text, whole numbers without a fraction."""
    whole = pc.and_(pc.equal(pc.floor(values), values), pc.less(pc.abs(values.cast(pa.float64())), 2.0**63))
    integers = pc.if_else(whole, values, pa.scalar(None, values.type)).cast(pa.int64()).cast(pa.string())
    return pc.if_else(whole, integers, values.cast(pa.string()))


def _seconds(values: pa.Array) -> pa.Array:
    """Times as seconds since 1970, with a fraction where there is one."""
    digits = _UNIT_DIGITS[values.type.unit]
    ticks = values.cast(pa.int64())
    numbers = pc.fill_null(ticks, 0).to_numpy()
    whole, remainder = np.divmod(np.abs(numbers), 10**digits)
    seconds = pa.array(whole).cast(pa.string())
    if remainder.any():
        padded = pc.utf8_lpad(pa.array(remainder).cast(pa.string()), width=digits, padding="0")
        fraction = pc.binary_join_element_wise(seconds, pc.utf8_rtrim(padded, "0"), ".")
        seconds = pc.if_else(pa.array(remainder != 0), fraction, seconds)
    if (numbers < 0).any():
        seconds = pc.if_else(pa.array(numbers < 0), pc.binary_join_element_wise("-", seconds, ""), seconds)
    return pc.if_else(ticks.is_valid(), seconds, pa.scalar(None, pa.string()))
