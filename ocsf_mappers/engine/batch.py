"""Records that are mapped together, and their texts for quarantine."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ocsf_mappers.compiler.compile import BatchShape
from ocsf_mappers.readers import Chunk, Envelope, tabular, wrapped
from ocsf_mappers.vocabulary.mapper import Mapper
from ocsf_mappers.vocabulary.record import OBJECT_KEY_COLUMNS

VECTOR_ROWS = 2_048
"""DuckDB computes this many rows at once."""

VECTOR_VALUES = 100_000
"""As many rows as are computed at once may hold this many JSON values; ordinary records have twenty to forty each.
Where they hold more, as findings of GuardDuty do, no query maps more of them together: what it gives is in memory
twice, 150 MB for 2,000 findings."""


@dataclass(frozen=True)
class RawObject:
    """Where records come from: what provenance says, and what the object's own name says (see `mapper.object_key`)."""

    uri: str
    etag: str = ""
    region: str | None = None
    account: str | None = None
    time: str | None = None
    window: str | None = None


class Batch:
    """Records with the same columns, from one or several objects."""

    def __init__(self, parts: Sequence[tuple[RawObject, pa.Table, Chunk]], envelopes: Sequence[Envelope] = ()) -> None:
        self.envelopes = envelopes
        self.objects = [raw_object for raw_object, _, _ in parts]
        self.chunks = [chunk for _, _, chunk in parts]
        tables = [records for _, records, _ in parts]
        records = pa.concat_tables(tables, promote_options="default")  # only some may have come in envelopes
        self.is_json = "_raw" in records.column_names
        if envelopes and self.is_json and "_envelope" not in records.column_names:
            records = records.append_column("_envelope", pa.nulls(len(records), pa.string()))
        numbers = np.repeat(np.arange(len(tables), dtype=np.int32), [len(table) for table in tables])
        self.records = records.append_column("_object", pa.array(numbers))
        for name in OBJECT_KEY_COLUMNS:
            values = [getattr(raw_object, name) for raw_object in self.objects]
            if any(values):
                self.records = self.records.append_column(f"_key_{name}", self.per_object(values).cast(pa.string()))

    def __len__(self) -> int:
        return len(self.records)

    def _with(self, records: pa.Table) -> Batch:
        other = object.__new__(Batch)
        other.objects, other.chunks, other.records = self.objects, self.chunks, records
        other.envelopes, other.is_json = self.envelopes, self.is_json
        return other

    def slice(self, start: int, length: int | None = None) -> Batch:
        """Some of the rows."""
        return self._with(self.records.slice(start, length))

    def portions(self) -> Iterator[Batch]:
        """The rows as queries take them, in as few parts as keep what is computed at once within bounds."""
        batch = self._with(_in_vectors(self.records))
        if not self.is_json or len(self) == 1:
            yield batch
            return
        # Commas inside texts count too, which does no harm.
        values = np.cumsum(pc.add(pc.count_substring(batch.records["_raw"], ","), 1).to_numpy())
        heaviest = (values[VECTOR_ROWS:] - values[:-VECTOR_ROWS]).max(initial=values[:VECTOR_ROWS][-1])
        start = before = 0
        while heaviest > VECTOR_VALUES and start < len(self):
            end = max(int(np.searchsorted(values, before + VECTOR_VALUES, side="right")), start + 1)
            yield batch.slice(start, end - start)
            start, before = end, int(values[end - 1])
        if start < len(self):
            yield batch.slice(start)

    def filter(self, mask: pa.Array | pa.ChunkedArray) -> Batch:
        """The rows where the mask is true."""
        return self._with(self.records.filter(mask))

    def per_object(self, values: Sequence[str | None]) -> pa.ChunkedArray:
        """A value of each row's object, as a dictionary column."""
        dictionary = pa.array(values, pa.string())
        chunks = [pa.DictionaryArray.from_arrays(chunk, dictionary) for chunk in self.records["_object"].chunks]
        return pa.chunked_array(chunks, pa.dictionary(pa.int32(), pa.string()))

    def shape(self, mapper: Mapper, *, check_keys: bool) -> BatchShape:
        """What the compiler has to know of the columns."""
        present = set(self.records.column_names)
        keys = tuple(name for name in OBJECT_KEY_COLUMNS if f"_key_{name}" in present)
        if self.is_json:
            return BatchShape(object_key=keys, envelope="_envelope" in present, check_keys=check_keys)
        declared = (path[0] for path in mapper.shape.leaves)
        return BatchShape(frozenset(name for name in declared if tabular.column_name(name) in present), keys)

    def rejects(self, reasons: Sequence[str]) -> pa.Table:
        """Every row as a reject, with its reason."""
        return pa.table(
            {
                "source_object": self.per_object([raw_object.uri for raw_object in self.objects]).cast(pa.string()),
                "source_etag": self.per_object([raw_object.etag for raw_object in self.objects]).cast(pa.string()),
                "source_record": self.records["_record"],
                "reason": pa.array(reasons, pa.string()),
                "raw": self.texts(),
            }
        )

    def texts(self) -> pa.ChunkedArray:
        """Each row as the text that quarantine keeps: what it was read from, with what stood around it."""
        if self.is_json:
            if "_envelope" not in self.records.column_names:
                return self.records["_raw"]
            pairs = zip(self.records["_raw"].to_pylist(), self.records["_envelope"].to_pylist(), strict=True)
            texts = [raw if around is None else wrapped(raw, around, self.envelopes) for raw, around in pairs]
            return pa.chunked_array([pa.array(texts, pa.string())])
        numbers = self.records["_object"].to_numpy()
        row_texts = np.full(len(self), None, object)
        for number in np.unique(numbers).tolist():
            chunk = self.chunks[number].records
            rows = pc.index_in(self.records["_record"].filter(pa.array(numbers == number)), chunk["_record"])
            row_texts[numbers == number] = tabular.texts(chunk.take(rows)).to_pylist()
        return pa.chunked_array([pa.array(row_texts, pa.string())])


def _in_vectors(records: pa.Table) -> pa.Table:
    """The records in chunks that fill DuckDB's vectors, of which each costs the same, however few rows it has."""
    chunks = max((column.num_chunks for column in records.columns), default=0)
    return records.combine_chunks() if chunks > 1 and len(records) < chunks * VECTOR_ROWS else records


def reject(raw_object: RawObject, record: int, reason: str, text: str) -> dict[str, object]:
    """A record that a reader could not read, as a row of `REJECTS`."""
    return {
        "source_object": raw_object.uri,
        "source_etag": raw_object.etag,
        "source_record": record,
        "reason": reason,
        "raw": text,
    }
