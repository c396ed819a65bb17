"""Events to Parquet: by table, partition and class, in order, the same bytes for the same events."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from functools import cache, lru_cache
from itertools import pairwise
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ocsf_lake.storage import layout, packing
from ocsf_lake.storage.fileinfo import FileInfo
from ocsf_lake.storage.layout import Partition
from ocsf_mappers import registry
from ocsf_mappers.ocsf import tables

TABLE_COLUMN = "_table"

STATISTICS = frozenset(
    [
        *("time", "time_dt", "start_time_dt", "end_time_dt", "region", "accountid", "source_record"),
        *("class_uid", "type_uid", "activity_id", "severity_id", "status_id"),
    ]
)
"""Columns whose bounds can rule a row group out. Bounds of unsorted text rule nothing out and cost time."""

NO_DICTIONARY = frozenset(
    [
        *("time", "time_dt", "source_record"),
        *("traffic.bytes", "traffic.packets", "src_endpoint.port", "dst_endpoint.port"),
        *("metadata.uid", "api.request.uid", "api.response.data", "api.response.message"),
        *("session.uid", "session.credential_uid"),
    ]
)
"""Columns of so many values that a file with a dictionary of them is larger, as measured."""

FEW_ROWS = 100
"""A file of fewer rows is packed by snappy. What zstd sets up for each column costs it half of its time, and there is
little to pack: 10 events of CloudTrail 1.9 ms and 17.7 kB instead of 3.8 ms and 18.4 kB. From some 200 rows on the
bytes that zstd saves are worth more than its time."""

MOST_ROWS_PER_STEP = 1024
"""Rows that are added to a page before its size is looked at, at most."""


class Form(Protocol):
    """The form of files, as settings give it."""

    @property
    def row_group_rows(self) -> int:
        """Rows of a row group at most."""

    @property
    def compression_level(self) -> int:
        """Of zstd."""

    @property
    def data_page_bytes(self) -> int:
        """Bytes of a page before compression, about."""


Encoded = tuple[FileInfo, pa.Buffer]
"""A file and its bytes, not written yet."""

Slice = tuple[Partition, int | None, pa.Table]
"""Rows of one partition and class; None where they are no events. Texts may be dictionaries."""


def split(events: pa.Table) -> Iterator[Slice]:
    """The events of each table, class and partition, in their order.

    Those of a file have equal values of the table's `sorted_by` together, and stand by time, object and record within.
    Few values then follow one another, which compresses best; a file's own bounds of time are the same in any order.

    The rows have the table's exact types, texts perhaps as dictionaries, and the partition's own region and account.
    """
    if not len(events):
        return
    groups, numbers = _groups(events)
    order = _order(events, numbers, registry.table(groups[0][0].table).sorted_by)
    if order is not None:
        events, numbers = events.take(pa.array(order)), numbers[order]
    starts = np.flatnonzero(np.diff(numbers, prepend=-1)).tolist()
    slices = sorted((int(numbers[start]), start, end) for start, end in pairwise([*starts, len(events)]))
    typed: dict[str, pa.Table] = {}
    for number, start, end in slices:
        partition, class_uid = groups[number]
        if partition.table not in typed:
            typed[partition.table] = _typed(events, registry.table(partition.table).arrow)
        yield partition, class_uid, _rows(typed[partition.table].slice(start, end - start), partition)


def _order(events: pa.Table, numbers: np.ndarray[Any, Any], sorted_by: Sequence[str]) -> np.ndarray[Any, Any] | None:
    """The rows by group, key, time, object and record; None where they stand so already, groups and keys in any order.

    Args:
        events: The events.
        numbers: The group of each.
        sorted_by: The paths of the key.
    """
    key = np.zeros(len(numbers), np.int64)
    for path in sorted_by:
        column = _encoded(_leaf(events, path))
        key = key * len(column.dictionary) + column.indices.to_numpy()
        key = pa.array(key).dictionary_encode().indices.to_numpy().astype(np.int64)
    times = events["time"].to_numpy()
    objects = _ranks(events["source_object"])
    records = events["source_record"].to_numpy()
    together = numbers.astype(np.int64) * (int(key.max()) + 1) + key
    grouped = _stands_together(numbers) and _stands_together(together)
    if grouped and _ascends(times, objects, records, np.diff(together) == 0):
        return None
    order: np.ndarray[Any, Any] = np.lexsort((records, objects, times, key, numbers))
    return order


def in_order(rows: pa.Table, sorted_by: Sequence[str]) -> pa.Table:
    """Rows of one partition and class in the order of `split`.

    Args:
        rows: The rows.
        sorted_by: The paths of their table's key.
    """
    order = _order(rows, np.zeros(len(rows), np.int32), sorted_by)
    return rows if order is None else rows.take(pa.array(order))


def _leaf(events: pa.Table, path: str) -> pa.Array:
    name, *members = path.split(".")
    column = _whole(events[name])
    for member in members:
        column = pc.struct_field(column, member)
    return column


def _stands_together(numbers: np.ndarray[Any, Any]) -> bool:
    """Whether equal numbers follow one another."""
    return bool(np.count_nonzero(np.diff(numbers)) + 1 == len(pc.unique(pa.array(numbers))))


def _ascends(*keys: np.ndarray[Any, Any]) -> bool:
    """Whether each row is behind the one before by these keys, the first counting most, where the last one is true."""
    *ranks, same = keys
    ascends = np.zeros(len(same), bool)
    tie = np.ones(len(same), bool)
    for rank in ranks:
        step = np.diff(rank)
        ascends |= tie & (step > 0)
        tie &= step == 0
    return bool((ascends | ~same).all())


def partitions(events: pa.Table) -> list[tuple[Partition, int]]:
    """The partitions and classes that events go to, sorted."""
    return _groups(events)[0] if len(events) else []


def _groups(events: pa.Table) -> tuple[list[tuple[Partition, int]], np.ndarray[Any, Any]]:
    """The groups of rows that share a file, sorted, and the number of each row's group."""
    days = events["time"].cast(pa.timestamp("ms")).cast(pa.date32()).cast(pa.int32())
    columns = [events[TABLE_COLUMN], events["class_uid"], events["region"], events["accountid"], days]
    code, distinct = None, []
    for column in columns:
        encoded = _encoded(column)
        distinct.append(encoded.dictionary.to_pylist())
        indices = encoded.indices.cast(pa.int64())
        code = indices if code is None else pc.add(pc.multiply(code, len(distinct[-1])), indices)
    combined = _encoded(code)
    group_by_code = []
    for value in combined.dictionary.to_pylist():
        picked = []
        for values in reversed(distinct):
            value, index = divmod(value, len(values))
            picked.append(values[index])
        day, account, region, class_uid, table = picked
        keys = (layout.region(region), layout.account(account), layout.event_day(day))
        group_by_code.append((Partition(table, keys), class_uid))
    groups = sorted(set(group_by_code))
    rank = {group: number for number, group in enumerate(groups)}
    return groups, np.array([rank[group] for group in group_by_code], np.int32)[combined.indices.to_numpy()]


def _encoded(column: pa.ChunkedArray | pa.Array) -> pa.DictionaryArray:
    """A column as one dictionary array, null among its values."""
    if isinstance(column, pa.ChunkedArray):
        column = _whole(column)
    if pa.types.is_dictionary(column.type):
        if column.null_count or column.dictionary.null_count:
            column = column.cast(column.type.value_type)
        else:
            return column
    return column.dictionary_encode(null_encoding="encode")


def _ranks(column: pa.ChunkedArray) -> np.ndarray[Any, Any]:
    """The place of each value among the sorted values."""
    encoded = _encoded(column)
    values = encoded.dictionary.to_pylist()
    rank = {value: number for number, value in enumerate(sorted(values))}
    ranks: np.ndarray[Any, Any] = np.array([rank[value] for value in values], np.int32)[encoded.indices.to_numpy()]
    return ranks


def _typed(events: pa.Table, schema: pa.Schema) -> pa.Table:
    """Events in a table's columns and types, but for texts that are dictionaries and for the partition's keys."""
    columns = []
    for field in schema:
        values = _whole(events[field.name])
        columns.append(values if field.name in tables.PARTITION_KEYS else _exact(values, field.type))
    return pa.table(columns, names=schema.names)


def _rows(events: pa.Table, partition: Partition) -> pa.Table:
    """Rows of `_typed` events that are a partition's."""
    constant = dict(zip(tables.PARTITION_KEYS, partition.values, strict=True))
    schema = registry.table(partition.table).arrow
    columns = []
    for field, values in zip(schema, events.itercolumns(), strict=True):
        if (value := constant.get(field.name)) is not None:
            columns.append(pa.repeat(pa.scalar(value, field.type), len(events)))
        else:
            columns.append(packing.packed(_whole(values)))
    return pa.table(columns, names=schema.names)


def _whole(column: pa.ChunkedArray) -> pa.Array:
    """One array of all chunks; a single one is not copied, be it a slice."""
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def _exact(values: pa.Array, kind: pa.DataType) -> pa.Array:
    """Values in a column's type, but for texts that are dictionaries."""
    coded = _coded(kind, values.type)
    return values if values.type == coded else values.cast(coded)


@lru_cache(maxsize=1024)
def _coded(kind: pa.DataType, like: pa.DataType) -> pa.DataType:
    """The type with dictionaries for texts where another one has them."""
    if pa.types.is_dictionary(like) and pa.types.is_string(kind):
        return like
    if pa.types.is_struct(kind) and pa.types.is_struct(like):
        fields = [(field, like.field(field.name).type) for field in kind if like.get_field_index(field.name) >= 0]
        coded = {field.name: _coded(field.type, other) for field, other in fields}
        return pa.struct([pa.field(field.name, coded.get(field.name, field.type)) for field in kind])
    if pa.types.is_map(kind) and pa.types.is_map(like):
        return pa.map_(_coded(kind.key_type, like.key_type), _coded(kind.item_type, like.item_type))
    if pa.types.is_list(kind) and pa.types.is_list(like):
        return pa.list_(_coded(kind.value_type, like.value_type))
    return kind


def encode(rows: pa.Table, settings: Form, sort_by: str | None = None) -> pa.Buffer:
    """A Parquet file of these rows, of plain types: what is text here is text to every reader."""
    sink = pa.BufferOutputStream()
    arguments = form(rows.schema, settings, sort_by)
    if len(rows) < FEW_ROWS:
        arguments |= {"compression": "snappy", "compression_level": None}
    pq.write_table(
        rows,
        sink,
        row_group_size=settings.row_group_rows,
        write_batch_size=rows_per_step(rows, settings),
        **arguments,
    )
    return sink.getvalue()


def form(schema: pa.Schema, settings: Form, sort_by: str | None = None) -> dict[str, Any]:
    """What all our Parquet files have in common, as arguments of pyarrow's writers."""
    encoded, bounded = _leaves(schema)
    return {
        "compression": "zstd",
        "compression_level": settings.compression_level,
        "use_dictionary": encoded,
        "write_statistics": bounded,
        "data_page_size": settings.data_page_bytes,
        "store_schema": False,
        "write_page_checksum": True,
        "sorting_columns": pq.SortingColumn.from_ordering(schema, [(sort_by, "ascending")]) if sort_by else None,
    }


def rows_per_step(rows: pa.Table, settings: Form) -> int:
    """Rows between two looks at a page's size: few where rows are long, so that a page does not grow past its bound."""
    return max(1, min(MOST_ROWS_PER_STEP, settings.data_page_bytes * len(rows) // max(int(rows.nbytes), 1)))


@cache
def _leaves(schema: pa.Schema) -> tuple[list[str], list[str]]:
    """The Parquet columns that get a dictionary, and those that get statistics."""
    sink = pa.BufferOutputStream()
    pq.write_table(schema.empty_table(), sink, store_schema=False)
    columns = pq.read_metadata(pa.BufferReader(sink.getvalue())).schema
    paths = [columns.column(number).path for number in range(len(columns.names))]
    return [path for path in paths if path not in NO_DICTIONARY], [path for path in paths if path in STATISTICS]


def checksum(data: pa.Buffer) -> str:
    """SHA-256 of a file's bytes, in hex."""
    return hashlib.sha256(data).hexdigest()
