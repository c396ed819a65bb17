"""Runs the plans of `compiler.distinct`: records in, columns of results out, and which rows need the row by row way."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ocsf_mappers.compiler import distinct
from ocsf_mappers.compiler.compile import BatchShape
from ocsf_mappers.compiler.distinct import Plan, Step
from ocsf_mappers.compiler.program import EVENT_MAP, Program
from ocsf_mappers.engine.statements import Statements, another
from ocsf_mappers.readers.column import (
    Codes,
    Column,
    combined,
    compacted,
    compaction,
    encoded,
    hardly_any_are_equal,
    narrowed,
    plain,
    whole,
)
from ocsf_mappers.readers.json_members import Members
from ocsf_mappers.readers.tabular import UNDECLARED, column_name
from ocsf_mappers.vocabulary.mapper import Mapper
from ocsf_mappers.vocabulary.record import flatten

_NOTHING = Column(pa.nulls(1, pa.string()), None)
_FALSE, _TRUE = Column(pa.array([False]), None), Column(pa.array([True]), None)
_FALSE_TRUE = pa.array([False, True])

_OF_ROWS = ("leaf", "_key_", "_envelope", EVENT_MAP)
"""So begin the names of what steps read of records; what else is there has been computed with the leaves."""

_EMPTY = pa.array(["{}", "null"])

KEPT_VALUES, KEPT_BYTES = 16_384, 1 << 20
"""So many values of a step with one input are remembered with their results, in so many bytes."""

KEPT_TUPLES, LOOKED_UP = 1_024, 4_096
"""So many combinations of several inputs are remembered. They are looked up one by one, in Python, if they consist of
no more values than the second number: for more it is quicker to compute them again."""

KEPT_IN_ALL = 64 << 20
"""What all steps together remember comes to not more bytes than this."""

KEPT_STATEMENTS = 1_024
"""So many steps stay planned, each in about 0.1 MB, and so many remember something: logs can name columns without end,
and each set of them has steps of its own. A source has up to 60."""

_OBJECT_BYTES = 64
"""What a value takes in Python beside its characters, with its place in a tuple; a tuple takes twice as much."""


@dataclass(frozen=True)
class _Cached:
    """Combinations of a step's inputs, and their results."""

    values: Sequence[pa.Array]
    results: dict[str, pa.Array]
    numbers: dict[tuple[object, ...], int]
    """The place of each combination; of a single text it is searched for in `values` instead."""

    @property
    def count(self) -> int:
        """How many combinations."""
        return len(next(iter(self.results.values())))

    @property
    def size(self) -> int:
        """In bytes, about, with the numbers that all of them have once they are kept."""
        arrays = sum(array.nbytes for array in (*self.values, *self.results.values()))
        if _is_one_text(self.values):
            return int(arrays)
        texts = sum(array.nbytes for array in self.values)
        return int(arrays + texts + self.count * (len(self.values) + 2) * _OBJECT_BYTES)

    def places(self, values: Sequence[pa.Array]) -> pa.Array:
        """The place of each of some combinations, null where it is not there."""
        if _is_one_text(values):
            return pc.index_in(values[0], self.values[0])
        return pa.array([self.numbers.get(row) for row in _tuples(values)], pa.int32())


_DAY_MILLIS = 86_400_000
_OBJECT, _RECORD = "_object", "_record"
_PAIR = pa.struct(
    [
        pa.field("key", pa.string()),
        pa.field("prefix", pa.string()),
        pa.field("value", pa.string()),
        pa.field("skip", pa.list_(pa.string())),
    ]
)
_VALUE = "{'key': pair.key, 'prefix': pair.prefix, 'value': pair.value::JSON, 'skip': pair.skip}"
_ENTRIES = f"SELECT CASE WHEN pair IS NOT NULL THEN {flatten(f'[{_VALUE}]')} END AS entries FROM batch"


@dataclass(frozen=True)
class Results:
    """What was computed of some records.

    Args:
        program: How the results make up the table's columns.
        length: How many records.
        columns: Results by name, as `Program` names them; `_object`, `_record`, `_table`, `_event_map`, and of a text
            log what its undeclared columns hold.
        more_unmapped: Columns of lists of entries of `unmapped` beyond `Program.leftovers`.
        carried: For each of `Program.members`, the column and, a boolean a value, where it holds something.
    """

    program: Program
    length: int
    columns: Mapping[str, Column]
    more_unmapped: Sequence[Column]
    carried: Sequence[tuple[Column, np.ndarray[Any, Any]]]

    def take(self, rows: np.ndarray[Any, Any]) -> Results:
        """The results of some of the records. Columns that have the same codes go on having the same."""
        compactions: dict[int, tuple[np.ndarray[Any, Any], Codes | None]] = {}

        def places(codes: Codes, size: int) -> tuple[np.ndarray[Any, Any], Codes | None]:
            if (key := id(codes)) not in compactions:
                compactions[key] = compaction(codes[rows], size)
            return compactions[key]

        def of(column: Column) -> Column:
            if column.codes is None:
                return column
            used, codes = places(column.codes, len(column.values))
            return Column(column.values.take(pa.array(used)), codes)

        def flags(column: Column, present: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
            return present if column.codes is None else present[places(column.codes, len(present))[0]]

        columns = {name: of(column) for name, column in self.columns.items()}
        carried = [(of(column), flags(column, present)) for column, present in self.carried]
        return Results(self.program, len(rows), columns, [of(column) for column in self.more_unmapped], carried)

    def permuted(self, order: np.ndarray[Any, Any]) -> Results:
        """The results in another order. Columns that have the same codes go on having the same."""
        reordered: dict[int, Codes] = {}

        def of(column: Column) -> Column:
            if column.codes is None:
                return column
            if (key := id(column.codes)) not in reordered:
                reordered[key] = column.codes[order]
            return Column(column.values, reordered[key])

        columns = {name: of(column) for name, column in self.columns.items()}
        carried = [(of(column), present) for column, present in self.carried]
        return Results(self.program, self.length, columns, [of(column) for column in self.more_unmapped], carried)


def in_file_order(results: Results, sorted_by: Sequence[str]) -> Results:
    """Results by table, region, account and day, then by some OCSF paths and time; otherwise in the order they had."""
    program = results.program
    micros = results.columns[program.times["time"]] if "time" in program.times else _NOTHING
    if micros.codes is None:
        return results
    millis = (pc.fill_null(micros.values, 0).to_numpy(zero_copy_only=False) // 1000)[micros.codes]
    days = millis // _DAY_MILLIS
    groups = [narrowed(results.columns[name]) for name in ("_table", EVENT_MAP) if name in results.columns]
    groups += _narrow(results, ("cloud.region", "cloud.account.uid"))
    keys = [_numbers(groups, results.length), days - days.min(), _numbers(_narrow(results, sorted_by), results.length)]
    order = np.lexsort((millis, *keys[::-1]))
    return results if (np.diff(order) > 0).all() else results.permuted(order)


def _narrow(results: Results, paths: Sequence[str]) -> list[Column]:
    names = [results.program.values[path] for path in paths if path in results.program.values]
    return [narrowed(results.columns[name]) for name in names]


def _numbers(columns: Sequence[Column], length: int) -> np.ndarray[Any, Any]:
    """The number of each row's combination."""
    codes, _ = combined(columns, length)
    return np.zeros(length, np.int32) if codes is None else codes


@dataclass
class _Rows:
    """Records of a batch: how many, and their columns by name."""

    length: int
    columns: dict[str, Column]
    narrow: dict[str, Column] = field(default_factory=dict)
    texts: dict[str, Column] = field(default_factory=dict)
    """What members that are texts say."""

    def narrowed(self, name: str) -> Column:
        """A column with equal values, if any, brought together, so that it has few combinations with others."""
        if name not in self.narrow:
            column = self.columns[name]
            self.narrow[name] = column if hardly_any_are_equal(column.values) else narrowed(column)
        return self.narrow[name]


class Evaluator:
    """Computes what a mapper says, once for each distinct combination of what an expression reads.

    Not for several threads at once.

    Args:
        mapper: The mapper.
        version: The OCSF version.
        connection: To the database in which it is computed; each step has one more to it.
        validated: Leave invalid events to the other way, which says why.
    """

    def __init__(
        self, mapper: Mapper, version: str, connection: duckdb.DuckDBPyConnection, *, validated: bool
    ) -> None:
        self.mapper = mapper
        self.version = version
        self.validated = validated
        self._connection = connection
        self._prepared: dict[str, Statements] = {}
        self._cache: dict[str, _Cached] = {}
        self._cache_bytes = 0
        self._members = Members([member.name for member in mapper.record])

    def results(self, records: pa.Table, shape: BatchShape) -> tuple[Results, np.ndarray[Any, Any]]:
        """What is computed of some records, and those that have to be mapped row by row.

        Args:
            records: As the row by row query takes them, with dictionaries of object keys.
            shape: What is among them.

        Returns:
            The results, and a boolean a record: whether it is not among them.
        """
        rows, slow = self._read(records, shape)
        if len(self.mapper.events) > 1:
            rows.columns[EVENT_MAP] = self._chosen(rows, shape)
        plan = distinct.compile_steps(self.mapper, self.version, shape, validated=self.validated)
        results, struck = self._evaluated(plan, rows, shape)
        slow = slow | struck
        return (results.take(np.flatnonzero(~slow)) if slow.any() else results), slow

    # -- records as columns -------------------------------------------------------------------------------------------
    def _read(self, records: pa.Table, shape: BatchShape) -> tuple[_Rows, np.ndarray[Any, Any]]:
        extra = [name for name in records.column_names if name.startswith(("_key_", "_envelope"))]
        columns = {name: encoded(_text(records[name])) for name in extra}
        columns[_OBJECT], columns[_RECORD] = plain(records[_OBJECT]), plain(records[_RECORD])
        odd = np.zeros(len(records), bool)
        if shape.columns is not None:
            columns |= {name: encoded(records[column_name(name)]) for name in shape.columns}
            columns[UNDECLARED] = plain(records[UNDECLARED])
            return _Rows(len(records), columns), odd
        members, odd = self._members.read(records["_raw"])
        columns |= dict(zip(self._members.names, members, strict=True))
        for root, step in distinct.closer_look(self.mapper).items():
            flags = self._run(step, [columns[root].values])["odd"].to_numpy(zero_copy_only=False)
            if columns[root].some(flags):
                odd |= columns[root].rows_where(flags, len(records))
        return _Rows(len(records), columns), odd

    def _chosen(self, rows: _Rows, shape: BatchShape) -> Column:
        """The number of the event map that takes each record."""
        plan = distinct.compile_choice(self.mapper, self.version, shape)
        numbers = self._results(plan, _Rows(rows.length, self._leaves(plan, rows, shape)))["chosen"]
        return narrowed(numbers)

    def _leaves(self, plan: Plan, rows: _Rows, shape: BatchShape) -> dict[str, Column]:
        """The leaves that a plan reads, what it reads beside them, and the results that are made with leaves."""
        names = ("_key_", "_envelope", EVENT_MAP)
        columns = {name: column for name, column in rows.columns.items() if name.startswith(names)}
        if shape.columns is not None:
            return columns | {name: rows.columns[leaf.path[0]] for name, leaf in plan.leaves.items()}
        for root, step in plan.roots.items():
            column = rows.columns[root]
            if step.inputs[0] == "text":
                column = rows.texts[root] = rows.texts.get(root) or column.map(self._strings)
                if plan.is_text(step):
                    columns[step.outputs[0]] = column
                    continue
            inputs = [column, rows.columns[EVENT_MAP]] if EVENT_MAP in step.inputs else [column]
            codes, values = combined(inputs, rows.length)
            columns |= {name: _leaf(leaf_values, codes) for name, leaf_values in self._run(step, values).items()}
        return columns

    def _strings(self, values: pa.Array) -> pa.Array:
        """JSON texts as what they say; strings that hold no escapes are what stands between their quotes."""
        raw = values.cast(pa.binary())
        easy = pc.and_(pc.starts_with(raw, b'"'), pc.invert(pc.match_substring(raw, b"\\")))
        easy = pc.or_(pc.fill_null(easy, False), pc.is_null(raw))
        bare = pc.binary_slice(raw, 1, -1).cast(pa.string())
        if pc.all(easy).as_py():
            return bare
        escaped = pc.invert(easy)
        others = self._run(distinct.TEXT, [values.filter(escaped)])["text"]
        return pc.replace_with_mask(bare, escaped, others)

    # -- steps --------------------------------------------------------------------------------------------------------
    def _evaluated(self, plan: Plan, rows: _Rows, shape: BatchShape) -> tuple[Results, np.ndarray[Any, Any]]:
        """The results, and a boolean a record where they are not to be used."""
        leaves = self._leaves(plan, rows, shape)
        columns = self._results(plan, _Rows(rows.length, leaves))
        struck = np.zeros(rows.length, bool)
        for name in [name for name in columns if name.startswith("struck")]:
            column = columns.pop(name)
            flags = _flags(column.values)
            if column.some(flags):
                struck |= column.rows_where(flags, rows.length)
        more_unmapped = [entries for name in plan.pairs if (entries := self._entries(columns.pop(name))) is not None]
        carried = []
        for name in plan.carried:
            leaf = leaves[name.replace("held", "leaf")]
            present = leaf.valid()
            if name.startswith("held"):
                present = present & _flags(pc.invert(pc.is_in(leaf.values, _EMPTY)))
            carried.append((leaf, present))
        row_columns = {
            name: rows.columns[name] for name in (_OBJECT, _RECORD, UNDECLARED, EVENT_MAP) if name in rows.columns
        }
        return Results(plan.program, rows.length, columns | row_columns, more_unmapped, carried), struck

    def _results(self, plan: Plan, rows: _Rows) -> dict[str, Column]:
        """Every result of a plan."""
        columns = {name: rows.columns[leaf] for name, leaf in plan.aliases.items()}
        columns |= {name: column for name, column in rows.columns.items() if not name.startswith(_OF_ROWS)}
        for step in plan.steps:
            inputs = [_input(name, rows, columns, plan.program, many=len(step.inputs) > 1) for name in step.inputs]
            codes, values = combined(inputs, rows.length)
            results = self._run(step, values)
            columns |= {name: Column(result, codes) for name, result in results.items()}
        return columns

    def _run(self, step: Step, values: Sequence[pa.Array]) -> dict[str, pa.Array]:
        """A step's results for some combinations of its inputs."""
        few = sum(map(len, values)) <= LOOKED_UP and all(_is_simple(column.type) for column in values)
        return self._remembered(step, values) if few or _is_one_text(values) else self._computed(step, values)

    def _computed(self, step: Step, values: Sequence[pa.Array]) -> dict[str, pa.Array]:
        table = pa.table(dict(zip(step.inputs, values, strict=True)) or {"one": pa.array([1])})
        if step.sql not in self._prepared:
            if len(self._prepared) >= KEPT_STATEMENTS:
                del self._prepared[next(iter(self._prepared))]
            self._prepared[step.sql] = Statements(table.schema, another(self._connection))
        result = self._prepared[step.sql].run(step.sql, table)
        if len(result) != len(table):
            raise ValueError(f"{len(result)} results of a step for {len(table)} combinations")
        return {name: _whole(result[name]) for name in step.outputs}

    def _remembered(self, step: Step, values: Sequence[pa.Array]) -> dict[str, pa.Array]:
        """The same where combinations of the records before come again, as most do."""
        cached = self._cache.get(step.sql)
        if cached is None:
            computed = self._computed(step, values)
            self._remember(step, _Cached(values, computed, {}), 0)
            return computed
        places = cached.places(values)
        if not places.null_count:
            return {name: results.take(places) for name, results in cached.results.items()}
        new = places.is_null()
        others = [column.filter(new) for column in values]
        computed = self._computed(step, others)
        before = cached.count
        fresh = np.cumsum(new.to_numpy(zero_copy_only=False)) - 1 + before
        places = pc.if_else(new, pa.array(fresh, pa.int32()), places)
        every = {name: pa.concat_arrays([cached.results[name], computed[name]]) for name in step.outputs}
        joined = [pa.concat_arrays(pair) for pair in zip(cached.values, others, strict=True)]
        self._remember(step, _Cached(joined, every, cached.numbers), before)
        return {name: results.take(places) for name, results in every.items()}

    def _remember(self, step: Step, cached: _Cached, numbered: int) -> None:
        """Keeps combinations and their results; the first of them, as many as are `numbered`, have numbers."""
        self._forget(step.sql)
        one_text, size = _is_one_text(cached.values), cached.size
        if cached.count > (KEPT_VALUES if one_text else KEPT_TUPLES) or size > KEPT_BYTES:
            return  # there are always others
        if not one_text:
            new = _tuples([column.slice(numbered) for column in cached.values])
            cached.numbers.update(zip(new, range(numbered, cached.count), strict=True))
        while self._cache and (len(self._cache) >= KEPT_STATEMENTS or self._cache_bytes + size > KEPT_IN_ALL):
            self._forget(next(iter(self._cache)))
        self._cache[step.sql] = cached
        self._cache_bytes += size

    def _forget(self, sql: str) -> None:
        if (cached := self._cache.pop(sql, None)) is not None:
            self._cache_bytes -= cached.size

    def _entries(self, pairs: Column) -> Column | None:
        """The entries of `unmapped` that JSON values come to; None where no record has any."""
        if not pairs.some(pairs.valid()):
            return None
        step = Step(("pair",), _ENTRIES, ("entries",))
        return Column(self._computed(step, [pairs.values.cast(_PAIR)])["entries"], pairs.codes)


def _is_one_text(values: Sequence[pa.Array]) -> bool:
    return len(values) == 1 and pa.types.is_string(values[0].type) and len(values[0]) <= KEPT_VALUES


def _is_simple(kind: pa.DataType) -> bool:
    """Whether values of a type are equal only if they are the same."""
    return bool(pa.types.is_string(kind) or pa.types.is_integer(kind) or pa.types.is_boolean(kind))


def _tuples(values: Sequence[pa.Array]) -> Iterable[tuple[object, ...]]:
    """Each combination; of no inputs there is one."""
    return zip(*(column.to_pylist() for column in values), strict=True) if values else [()]


def _input(name: str, rows: _Rows, results: Mapping[str, Column], program: Program, *, many: bool) -> Column:
    """A column that a step reads: a leaf, whether one is null, an attribute, or whether that is null or a default."""
    if name.startswith("null"):
        return _boolean(rows.columns[f"leaf{name[4:]}"], lambda values: values.is_null())
    if name.startswith("vnull"):
        return _boolean(results[f"v{name[5:]}"], lambda values: values.is_null())
    if name.startswith("vdefault"):
        column = f"v{name.removeprefix('vdefault')}"
        default = program.default_of[column]
        return _boolean(results[column], lambda values: pc.fill_null(pc.equal(values, default), True))
    if name in results:
        return results[name]
    if name not in rows.columns:
        return _NOTHING  # nothing of an object's own name is known
    return rows.narrowed(name) if many else rows.columns[name]


def _boolean(column: Column, test: Callable[[pa.Array], pa.Array]) -> Column:
    flags = _flags(test(column.values))
    if column.codes is None or not flags.any() or flags.all():
        return _TRUE if flags[0] else _FALSE
    return compacted(_FALSE_TRUE, flags.astype(np.int32)[column.codes])


def _flags(values: pa.Array) -> np.ndarray[Any, Any]:
    """Booleans, null as false."""
    flags: np.ndarray[Any, Any] = pc.fill_null(values, False).to_numpy(zero_copy_only=False)
    return flags


def _leaf(values: pa.Array, codes: Codes | None) -> Column:
    return Column(values.slice(0, 1), None) if values.null_count == len(values) else Column(values, codes)


def _whole(chunked: pa.ChunkedArray) -> pa.Array:
    array = whole(chunked)
    return array.storage if isinstance(array, pa.ExtensionArray) else array


def _text(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return column.cast(pa.string()) if pa.types.is_dictionary(column.type) else column
