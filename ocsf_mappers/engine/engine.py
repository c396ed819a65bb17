"""Runs a mapper over raw records: Arrow in, OCSF events out.

Mapping is a pure function of the records, the object they came from, the mapper and the OCSF version.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ocsf_mappers import sqltext
from ocsf_mappers.compiler import distinct
from ocsf_mappers.compiler.compile import BatchShape, compile_mapper
from ocsf_mappers.compiler.program import Program
from ocsf_mappers.engine.assemble import Assembler
from ocsf_mappers.engine.batch import Batch, RawObject, reject
from ocsf_mappers.engine.counting import count
from ocsf_mappers.engine.distinct import Evaluator, Results, in_file_order
from ocsf_mappers.engine.fingerprint import fingerprint
from ocsf_mappers.engine.mapped import REJECTS, Mapped, in_order, joined
from ocsf_mappers.engine.statements import TOO_MUCH, BadDataError, Statements, another, connection
from ocsf_mappers.ocsf.schema import DEFAULT_VERSION
from ocsf_mappers.readers import Chunk, JsonRecords, tabular
from ocsf_mappers.readers.column import plain
from ocsf_mappers.readers.lines import Lines
from ocsf_mappers.readers.tabular import UNDECLARED
from ocsf_mappers.vocabulary.mapper import Mapper
from ocsf_mappers.vocabulary.record import json_path

_log = logging.getLogger(__name__)

KEPT_SHAPES = 32
"""Queries for this many sets of columns stay compiled and planned."""

KEPT_COLUMN_SETS = 8
"""So many sets of columns among records that are mapped together have a query of their own, without what is missing;
logs can name columns without end. All others share one that knows every column, which gives the same and takes a third
longer. Lines of several layouts share it from the first: they alternate, and a query for each layout cost 3 to 8 times
as much."""

FEW_ROWS = 2_000
"""So few records are mapped row by row: that needs one query instead of dozens."""

MOST_SQL = 300_000
"""Characters of the steps. Where a mapping comes to more, as GuardDuty's lists do, to plan it costs more than equal
values save."""

PROVENANCE = ("source_object", "source_etag", "source_record", "mapper_version")

SAME_FAILURES = 32
"""So many records that fail alone for one reason, and no other, are taken for a mistake that every record meets."""

_TYPES = {"_record": pa.int64(), UNDECLARED: tabular.ENTRIES}
"""Columns that queries take and that are no texts."""


@lru_cache(maxsize=KEPT_SHAPES)
def _schema(*names: str) -> pa.Schema:
    """Columns as queries take them."""
    return pa.schema([pa.field(name, _TYPES.get(name, pa.string())) for name in names])


@dataclass
class _Attempts:
    """How halving went so far: whether some records became events, and how many failed alone for each reason."""

    worked: bool = False
    alone: Counter[str] = field(default_factory=Counter)


class Engine:
    """Maps records of one source to one OCSF version.

    Not for several threads at once: make one per thread.
    """

    def __init__(self, mapper: Mapper, version: str = DEFAULT_VERSION, *, validate: bool = True) -> None:
        self.mapper = mapper
        self.version = version
        self.validate = validate
        self.table = mapper.lake_table
        self.fingerprint = fingerprint(mapper, version)
        self.envelopes = [
            envelope
            for reader in mapper.readers
            if isinstance(reader, JsonRecords)
            for envelope in reader.known_envelopes
        ]
        self._kept_column_sets = 0 if any(isinstance(reader, Lines) for reader in mapper.readers) else KEPT_COLUMN_SETS
        self._database: duckdb.DuckDBPyConnection | None = None
        self._evaluator: Evaluator | None = None
        self._programs: dict[BatchShape, Program] = {}
        self._declared = frozenset(path[0] for path in mapper.shape.leaves)
        self._statements: dict[tuple[str, ...], Statements] = {}

    def map(self, parts: Iterable[tuple[RawObject, Chunk]], *, ordered: bool = True) -> Mapped:
        """The events of some chunks; chunks with the same columns are mapped together, whichever object they are of.

        Args:
            parts: Chunks, and the objects that they are of.
            ordered: Whether events of records with the same columns stand in the order of objects and records.
                Otherwise they may stand as files want them, see `distinct.in_file_order`.
        """
        dropped: Counter[str] = Counter()
        bad: list[dict[str, object]] = []
        groups: dict[tuple[str, ...], list[tuple[RawObject, pa.Table, Chunk]]] = {}
        # Of these chunks alone: what an engine has mapped before changes nothing, not the order of events either.
        column_sets: set[tuple[str, ...]] = set()
        for raw_object, chunk in parts:
            dropped.update(chunk.dropped)
            bad += [reject(raw_object, item.record, item.reason, item.text) for item in chunk.bad]
            if len(chunk.records):
                records = self._arranged(chunk, column_sets)
                names = tuple(name for name in records.column_names if name != "_envelope")
                groups.setdefault(names, []).append((raw_object, records, chunk))
        batches = [Batch(group, self.envelopes) for group in groups.values()]
        unread = Mapped(self._no_events(), pa.Table.from_pylist(bad, REJECTS), dropped)
        return joined([unread, *(mapped for batch in batches for mapped in self._mapped(batch, ordered=ordered))])

    def _arranged(self, chunk: Chunk, column_sets: set[tuple[str, ...]]) -> pa.Table:
        """A chunk's records as queries take them, so that one query serves as many as may be.

        Args:
            chunk: The chunk.
            column_sets: Those that have a query of their own; one more is added as long as there are few.
        """
        records = chunk.records
        if "_raw" not in records.column_names:
            records = tabular.arranged(chunk, self._declared)
            if len(column_sets) < self._kept_column_sets:
                column_sets.add(tuple(records.column_names))
            elif tuple(records.column_names) not in column_sets:
                records = tabular.completed(records, self._declared)
        schema = _schema(*records.column_names)
        return records if records.schema.equals(schema) else records.cast(schema)

    def texts(self, chunk: Chunk) -> list[str]:
        """The text of each record of a chunk as a reject has it."""
        if not len(chunk.records):
            return []
        batch = Batch([(RawObject(""), self._arranged(chunk, set()), chunk)], self.envelopes)
        texts: list[str] = batch.texts().to_pylist()
        return texts

    def _no_events(self) -> pa.Table:
        return self.table.arrow.append(pa.field("_table", pa.string())).empty_table()

    def _nothing(self) -> Mapped:
        return Mapped(self._no_events(), REJECTS.empty_table())

    def _mapped(self, batch: Batch, *, ordered: bool) -> Iterator[Mapped]:
        """The events of records with the same columns, brought into order where that was asked for."""
        mapped = list(self._ways(batch, ordered=ordered))
        if ordered and len(mapped) > 1:
            places = {raw_object.uri: number for number, raw_object in reversed(list(enumerate(batch.objects)))}
            whole = joined(mapped)
            mapped = [replace(whole, events=in_order(whole.events, places))]
        yield from mapped

    def _ways(self, batch: Batch, *, ordered: bool) -> Iterator[Mapped]:
        """Events of some records: what can be is computed once for equal values, the rest row by row."""
        if len(batch) >= FEW_ROWS:
            try:
                result = self._over_values(batch, ordered=ordered)
            except duckdb.InterruptException:
                raise
            except Exception as error:
                # The row by row way finds the record that is to blame.
                _log.debug("%s: mapping row by row", self.mapper.name, exc_info=True)
                self._evaluator = None
                self._leave_if_broken(error)
                reason = MemoryError.__name__ if str(error) == TOO_MUCH else type(error).__name__
                yield replace(self._nothing(), fallbacks=Counter({reason: len(batch)}))
            else:
                mapped, slow = result
                yield mapped
                if not slow.any():
                    return
                batch = batch.filter(pa.array(slow))
        for portion in batch.portions():
            yield self._map(portion, _Attempts())

    def _over_values(self, batch: Batch, *, ordered: bool) -> tuple[Mapped, np.ndarray[Any, Any]]:
        """What is computed once for equal values, and a boolean a record: whether it is left to the other way."""
        shape = batch.shape(self.mapper, check_keys=False)
        plan = distinct.compile_steps(self.mapper, self.version, shape, validated=self.validate)
        if plan.size > MOST_SQL:
            return self._nothing(), np.ones(len(batch), bool)
        self._evaluator = self._evaluator or Evaluator(
            self.mapper, self.version, self._connection(), validated=self.validate
        )
        results, slow = self._evaluator.results(batch.records, shape)
        if not results.length:
            return self._nothing(), slow
        return self._of_results(results if ordered else in_file_order(results, self.table.sorted_by), batch), slow

    def _of_results(self, results: Results, batch: Batch) -> Mapped:
        """The events of results."""
        columns, more_unmapped = results.columns, list(results.more_unmapped)
        if UNDECLARED in columns:
            more_unmapped.append(columns[UNDECLARED])
        fields = [field for field in self.table.arrow if field.name not in PROVENANCE]
        arrays = Assembler(results.program, columns, results.length, more_unmapped).columns(fields)
        numbers = pa.array(columns["_object"].array(results.length))
        uris = [raw_object.uri for raw_object in batch.objects]
        values = {
            **dict(zip([field.name for field in fields], arrays, strict=True)),
            "source_object": pa.DictionaryArray.from_arrays(numbers, pa.array(uris)),
            "source_etag": pa.DictionaryArray.from_arrays(numbers, pa.array([item.etag for item in batch.objects])),
            "source_record": columns["_record"].array(results.length),
            "mapper_version": _repeated(self.fingerprint, results.length),
            "_table": columns["_table"].array(results.length),
        }
        events = pa.table({name: values[name] for name in [*self.table.arrow.names, "_table"]})
        unmapped, carried = values["unmapped"], results.carried
        counted = count(results.program, self.mapper.shape, columns, results.length, unmapped, uris, carried)
        return Mapped(events, REJECTS.empty_table(), statistics=counted)

    def _map(self, batch: Batch, attempts: _Attempts) -> Mapped:
        if not len(batch):
            return self._nothing()
        outcome = self._attempt(batch)
        if isinstance(outcome, Mapped):
            attempts.worked = True
            return outcome
        if batch.is_json and (split := self._malformed(batch)) is not None:
            good, rejects = split
            return joined([self._map(good, attempts), Mapped(self._no_events(), rejects)])
        if len(batch) == 1 or self._all_fail(batch, outcome, attempts):
            attempts.alone[outcome] += len(batch) == 1
            return Mapped(self._no_events(), batch.rejects([outcome] * len(batch)))
        # Some record cannot be computed: halve until it stands alone.
        middle = len(batch) // 2
        return joined([self._map(batch.slice(0, middle), attempts), self._map(batch.slice(middle), attempts)])

    def _attempt(self, batch: Batch) -> Mapped | str:
        """The events, or why there are none: whatever a record makes a library raise may cost only that record."""
        try:
            return self._run(batch)
        except BadDataError as error:
            return str(error)
        except MemoryError:
            return TOO_MUCH
        except duckdb.InterruptException:
            raise
        except Exception as error:
            self._leave_if_broken(error)
            return f"mapping failed: {type(error).__name__}: {(str(error).splitlines() or [''])[0]}"

    def _all_fail(self, batch: Batch, reason: str, attempts: _Attempts) -> bool:
        """Whether every record fails for the same reason, as with a mistake in a mapper: halving would take hours.

        Only asked after many records in a row failed alone; then records from all over the rest are tried alone too.
        """
        if attempts.worked or attempts.alone[reason] < SAME_FAILURES or len(batch) <= SAME_FAILURES:
            return False
        step = len(batch) // SAME_FAILURES
        tried = (self._attempt(batch.slice(row, 1)) for row in range(0, len(batch), step))
        attempts.worked = not all(outcome == reason for outcome in tried)
        return not attempts.worked

    def _malformed(self, batch: Batch) -> tuple[Batch, pa.Table] | None:
        try:
            valid = self._query("SELECT json_valid(_raw) AS valid FROM batch", batch)["valid"]
        except duckdb.InterruptException:
            raise
        except Exception as error:
            self._leave_if_broken(error)
            return None  # then halving finds the record
        if pc.all(valid).as_py():
            return None
        broken = batch.filter(pc.invert(valid))
        return batch.filter(valid), broken.rejects(["the record is not valid JSON"] * len(broken))

    def _run(self, batch: Batch) -> Mapped:
        shape = batch.shape(self.mapper, check_keys=batch.is_json and self._needs_care(batch))
        program = self._program(shape)
        result = self._query(program.sql, batch)
        failed = Counter(name for names in result["_failed"].drop_null().to_pylist() for name in names)
        problems = result["_problems"]
        rejects = REJECTS.empty_table()
        if problems.null_count < len(problems):
            invalid = pc.is_valid(problems)
            broken = batch.filter(invalid)
            rejects = broken.rejects(_reasons(problems.filter(invalid), result["_failed"].filter(invalid)))
            result, batch = result.filter(pc.invert(invalid)), batch.filter(pc.invert(invalid))
        events = self._events(program, result, batch)
        unmapped = events["unmapped"].combine_chunks()
        columns = {name: plain(result[name]) for name in result.column_names}
        uris = [item.uri for item in batch.objects]
        counted = count(program, self.mapper.shape, columns, len(result), unmapped, uris)
        return Mapped(events, rejects, failed_casts=failed, statistics=counted)

    def _program(self, shape: BatchShape) -> Program:
        if shape not in self._programs:
            _forget_oldest(self._programs)
            self._programs[shape] = compile_mapper(self.mapper, self.version, shape, validated=self.validate)
        return self._programs[shape]

    def _query(self, query: str, batch: Batch) -> pa.Table:
        """A query's rows; `batch` is what its relation of that name holds."""
        # Statements depend on the order of columns and on their types, which follow from the names.
        records = batch.records.select(sorted({*batch.records.column_names} - {UNDECLARED}))
        key = tuple(records.column_names)
        if key not in self._statements:
            _forget_oldest(self._statements)
            self._statements[key] = Statements(records.schema, self._connection())
        return self._statements[key].run(query, records)

    def _connection(self) -> duckdb.DuckDBPyConnection:
        """One more to the database of this engine. To open a database takes as long as to map some hundred records."""
        self._database = self._database or connection()
        return another(self._database)

    def _leave_if_broken(self, error: Exception) -> None:
        """Leaves the database after an error that may make it refuse every query."""
        if isinstance(error, (duckdb.FatalException, duckdb.InternalException)):
            self._statements.clear()
            self._evaluator = self._database = None

    def _needs_care(self, batch: Batch) -> bool:
        """Whether some record has undeclared, repeated or mistyped members. Few key sets stand for many records."""
        shape = self.mapper.shape
        keyed = f"(SELECT _raw, json_keys(_raw, {shape.object_paths}) AS k FROM batch)"
        keys_of = self._query(f"SELECT any_value(k) AS k FROM {keyed} GROUP BY hash(k)", batch)["k"].to_pylist()
        declared = [set(names) for names in shape.objects.values()]
        for keys in keys_of:
            for names, expected in zip(keys, declared, strict=True):
                if names and (len(set(names)) < len(names) or not expected.issuperset(names)):
                    return True
        # No keys: an empty object, null, or another type where an object is declared.
        doubtful = [
            f"(len(k[{number}]) = 0 AND json_type(_raw, {sqltext.text(json_path(path))}) NOT IN ('OBJECT', 'NULL'))"
            for number, path in enumerate(shape.objects, start=1)
            if any(keys[number - 1] == [] for keys in keys_of)
        ]
        return any(self._query(f"SELECT 1 FROM {keyed} WHERE {test} LIMIT 1", batch).num_rows for test in doubtful)

    def _events(self, program: Program, result: pa.Table, batch: Batch) -> pa.Table:
        provenance = {
            "source_object": batch.per_object([raw_object.uri for raw_object in batch.objects]),
            "source_etag": batch.per_object([raw_object.etag for raw_object in batch.objects]),
            "source_record": result["_record"],
            "mapper_version": _repeated(self.fingerprint, len(result)),
        }
        columns = {name: plain(result[name]) for name in result.column_names}
        more_unmapped = [columns["_more"], *([] if batch.is_json else [plain(batch.records[UNDECLARED])])]
        fields = [field for field in self.table.arrow if field.name not in provenance]
        arrays = Assembler(program, columns, len(result), more_unmapped).columns(fields)
        values = {**dict(zip([field.name for field in fields], arrays, strict=True)), **provenance}
        return pa.table({name: values[name] for name in self.table.arrow.names} | {"_table": result["_table"]})


def _forget_oldest(cache: dict[Any, Any]) -> None:
    """Makes room for one more: logs can name columns without end, and each set of them has a query of its own."""
    if len(cache) == KEPT_SHAPES:
        del cache[next(iter(cache))]


def _reasons(problems: pa.ChunkedArray, failed: pa.ChunkedArray) -> list[str]:
    """Why events are invalid, with the attributes whose text could not be read as their type."""
    reasons = []
    for messages, names in zip(problems.to_pylist(), failed.to_pylist(), strict=True):
        unreadable = [f"not readable as its type: {', '.join(names)}"] if names else []
        reasons.append("; ".join([*messages, *unreadable]))
    return reasons


def _repeated(text: str, length: int) -> pa.Array:
    return pa.DictionaryArray.from_arrays(pa.repeat(pa.scalar(0, pa.int32()), length), pa.array([text]))
