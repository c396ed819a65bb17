"""Runs a mapper over raw records: Arrow in, OCSF events out.

Mapping is a pure function of the records, the object they came from, the mapper and the OCSF version.
"""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ocsf_mappers import sqltext
from ocsf_mappers.compiler import distinct, statistics
from ocsf_mappers.compiler.compile import BatchShape, compile_mapper
from ocsf_mappers.compiler.program import Program
from ocsf_mappers.compiler.statistics import Census
from ocsf_mappers.engine.assemble import Assembler
from ocsf_mappers.engine.counting import count
from ocsf_mappers.engine.distinct import Evaluator, Results, in_file_order
from ocsf_mappers.engine.statements import TOO_MUCH, BadDataError, Statements
from ocsf_mappers.ocsf import tables
from ocsf_mappers.ocsf.schema import DEFAULT_VERSION
from ocsf_mappers.readers import Chunk, Envelope, JsonRecords, tabular, wrapped
from ocsf_mappers.readers.column import alike, plain
from ocsf_mappers.readers.tabular import UNDECLARED
from ocsf_mappers.vocabulary.check import table_names
from ocsf_mappers.vocabulary.mapper import Mapper
from ocsf_mappers.vocabulary.record import OBJECT_KEY_COLUMNS, json_path

REJECTS = pa.schema(
    [
        pa.field("source_object", pa.string()),
        pa.field("source_etag", pa.string()),
        pa.field("source_record", pa.int64()),
        pa.field("reason", pa.string()),
        pa.field("raw", pa.string()),
    ]
)
"""Records that became no event: where they stood, why, and their text."""

KEPT_SHAPES = 32
"""Queries for this many sets of columns stay compiled and planned."""

KEPT_COLUMN_SETS = 8
"""So many sets of columns have a query of their own, without what is missing; logs can name columns without end. All
others share one that knows every column, which gives the same and takes a third longer."""

_TYPES = {"_record": pa.int64(), UNDECLARED: tabular.ENTRIES}
"""Columns that queries take and that are no texts."""

VECTOR_ROWS = 2_048
"""DuckDB computes this many rows at once."""

VECTOR_VALUES = 400_000
"""As many rows as are computed at once may hold this many JSON values; ordinary records have some twenty each."""


_log = logging.getLogger(__name__)

FEW_ROWS = 2_000
"""So few records are mapped row by row: that needs one query instead of dozens."""

MOST_SQL = 300_000
"""Characters of the steps. Where a mapping comes to more, as GuardDuty's lists do, to plan it costs more than equal
values save."""

PROVENANCE = ("source_object", "source_etag", "source_record", "mapper_version")

SAME_FAILURES = 32
"""So many records that fail alone for one reason, and no other, are taken for a mistake that every record meets."""


@dataclass(frozen=True)
class RawObject:
    """Where records come from: what provenance says, and what the object's own name says (see `mapper.object_key`)."""

    uri: str
    etag: str = ""
    region: str | None = None
    account: str | None = None
    time: str | None = None
    window: str | None = None


@dataclass(frozen=True)
class Mapped:
    """What became of some records.

    `events` has the lake table's columns and `_table`, its name, one row per event, in the order that `Engine.map` was
    asked for; `read` = rows of `events` + rows of `rejects` + `dropped`.
    """

    events: pa.Table
    rejects: pa.Table
    dropped: Counter[str] = field(default_factory=Counter)
    failed_casts: Counter[str] = field(default_factory=Counter)
    census: Census = field(default_factory=Census)

    @property
    def read(self) -> int:
        """How many records and lines this accounts for."""
        return len(self.events) + len(self.rejects) + self.dropped.total()


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
        self.table = tables.get(table_names(mapper)[0])
        self.fingerprint = fingerprint(mapper, version)
        self.envelopes = [
            envelope
            for reader in mapper.readers
            if isinstance(reader, JsonRecords)
            for envelope in reader.known_envelopes
        ]
        self._evaluator: Evaluator | None = None
        self._programs: dict[BatchShape, Program] = {}
        self._declared = frozenset(path[0] for path in mapper.shape.leaves)
        self._column_sets: set[tuple[str, ...]] = set()
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
        for raw_object, chunk in parts:
            dropped.update(chunk.dropped)
            bad += [_reject(raw_object, item.record, item.reason, item.text) for item in chunk.bad]
            if len(chunk.records):
                records = self._arranged(chunk)
                groups.setdefault(tuple(records.column_names), []).append((raw_object, records, chunk))
        batches = [_Batch(found, self.envelopes) for found in groups.values()]
        mapped = [found for batch in batches for found in self._mapped(batch, ordered=ordered)]
        events = _stacked([found.events for found in mapped]) if mapped else self._no_events()
        rejects = pa.concat_tables([pa.Table.from_pylist(bad, REJECTS), *(found.rejects for found in mapped)])
        failed = sum((found.failed_casts for found in mapped), Counter())
        return Mapped(events, rejects, dropped, failed, statistics.merged(found.census for found in mapped))

    def _arranged(self, chunk: Chunk) -> pa.Table:
        """A chunk's records as queries take them, so that one query serves as many as may be."""
        records = chunk.records
        if "_raw" not in records.column_names:
            records = tabular.arranged(chunk, self._declared)
            if len(self._column_sets) < KEPT_COLUMN_SETS:
                self._column_sets.add(tuple(records.column_names))
            elif tuple(records.column_names) not in self._column_sets:
                records = tabular.completed(records, self._declared)
        elif self.envelopes and "_envelope" not in records.column_names:
            records = records.append_column("_envelope", pa.nulls(len(records), pa.string()))
        return records.cast(pa.schema([pa.field(name, _TYPES.get(name, pa.string())) for name in records.column_names]))

    def texts(self, chunk: Chunk) -> list[str]:
        """The text of each record of a chunk as a reject has it."""
        if not len(chunk.records):
            return []
        batch = _Batch([(RawObject(""), self._arranged(chunk), chunk)], self.envelopes)
        found: list[str] = batch.texts().to_pylist()
        return found

    def _no_events(self) -> pa.Table:
        return self.table.arrow.append(pa.field("_table", pa.string())).empty_table()

    def _mapped(self, batch: _Batch, *, ordered: bool) -> Iterator[Mapped]:
        """The events of records with the same columns, brought into order where that was asked for."""
        mapped = list(self._ways(batch, ordered=ordered))
        if ordered and len(mapped) > 1:
            places = {raw_object.uri: number for number, raw_object in reversed(list(enumerate(batch.objects)))}
            whole = _joined(mapped)
            mapped = [replace(whole, events=_in_order(whole.events, places))]
        yield from mapped

    def _ways(self, batch: _Batch, *, ordered: bool) -> Iterator[Mapped]:
        """Events of some records: what can be is computed once for equal values, the rest row by row."""
        if len(batch) >= FEW_ROWS and self._pays(batch):
            try:
                self._evaluator = self._evaluator or Evaluator(self.mapper, self.version, validated=self.validate)
                results, slow = self._evaluator.results(batch.records, batch.shape(self.mapper, careful=False))
                if not ordered:
                    results = in_file_order(results, self.table.sorted_by)
                mapped = self._of_results(results, batch) if results.length else None
            except duckdb.InterruptException:
                raise
            except Exception:
                # The row by row way finds the record that is to blame.
                _log.debug("%s: mapping row by row", self.mapper.name, exc_info=True)
                self._evaluator = None
            else:
                if mapped is not None:
                    yield mapped
                if not slow.any():
                    return
                batch = batch.filter(pa.array(slow))
        for portion in batch.portions():
            yield self._map(portion, _Attempts())

    def _pays(self, batch: _Batch) -> bool:
        """Whether planning the steps costs less than they save."""
        shape = batch.shape(self.mapper, careful=False)
        plan = distinct.compile_steps(self.mapper, self.version, shape, validated=self.validate)
        return plan.size <= MOST_SQL

    def _of_results(self, results: Results, batch: _Batch) -> Mapped:
        """The events of results."""
        columns, more = results.columns, list(results.more)
        if UNDECLARED in columns:
            more.append(columns[UNDECLARED])
        own = [field for field in self.table.arrow if field.name not in PROVENANCE]
        arrays = Assembler(results.program, columns, results.length, more).columns(own)
        numbers = pa.array(columns["_object"].array(results.length))
        uris = [raw_object.uri for raw_object in batch.objects]
        made = {
            **dict(zip([field.name for field in own], arrays, strict=True)),
            "source_object": pa.DictionaryArray.from_arrays(numbers, pa.array(uris)),
            "source_etag": pa.DictionaryArray.from_arrays(numbers, pa.array([item.etag for item in batch.objects])),
            "source_record": columns["_record"].array(results.length),
            "mapper_version": _repeated(self.fingerprint, results.length),
            "_table": columns["_table"].array(results.length),
        }
        events = pa.table({name: made[name] for name in [*self.table.arrow.names, "_table"]})
        unmapped, carried = made["unmapped"], results.carried
        counted = count(results.program, self.mapper.shape, columns, results.length, unmapped, uris, carried)
        return Mapped(events, REJECTS.empty_table(), census=counted)

    def _map(self, batch: _Batch, attempts: _Attempts) -> Mapped:
        if not len(batch):
            return Mapped(self._no_events(), REJECTS.empty_table())
        found = self._attempt(batch)
        if isinstance(found, Mapped):
            attempts.worked = True
            return found
        if batch.is_json and (split := self._malformed(batch)) is not None:
            good, rejects = split
            return _joined([self._map(good, attempts), Mapped(self._no_events(), rejects)])
        if len(batch) == 1 or self._all_fail(batch, found, attempts):
            attempts.alone[found] += len(batch) == 1
            return Mapped(self._no_events(), batch.rejects([found] * len(batch)))
        # Some record cannot be computed: halve until it stands alone.
        middle = len(batch) // 2
        return _joined([self._map(batch.slice(0, middle), attempts), self._map(batch.slice(middle), attempts)])

    def _attempt(self, batch: _Batch) -> Mapped | str:
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
            if isinstance(error, (duckdb.FatalException, duckdb.InternalException)):
                self._statements.clear()  # after such an error a connection may refuse every query
            return f"mapping failed: {type(error).__name__}: {(str(error).splitlines() or [''])[0]}"

    def _all_fail(self, batch: _Batch, reason: str, attempts: _Attempts) -> bool:
        """Whether every record fails for the same reason, as with a mistake in a mapper: halving would take hours.

        Only asked after many records in a row failed alone; then records from all over the rest are tried alone too.
        """
        if attempts.worked or attempts.alone[reason] < SAME_FAILURES or len(batch) <= SAME_FAILURES:
            return False
        step = len(batch) // SAME_FAILURES
        tried = (self._attempt(batch.slice(row, 1)) for row in range(0, len(batch), step))
        attempts.worked = not all(found == reason for found in tried)
        return not attempts.worked

    def _malformed(self, batch: _Batch) -> tuple[_Batch, pa.Table] | None:
        try:
            valid = self._query("SELECT json_valid(_raw) AS valid FROM batch", batch)["valid"]
        except duckdb.InterruptException:
            raise
        except Exception:
            return None  # then halving finds the record
        if pc.all(valid).as_py():
            return None
        broken = batch.filter(pc.invert(valid))
        return batch.filter(valid), broken.rejects(["the record is not valid JSON"] * len(broken))

    def _run(self, batch: _Batch) -> Mapped:
        shape = batch.shape(self.mapper, careful=batch.is_json and self._needs_care(batch))
        program = self._program(shape)
        found = self._query(program.sql, batch)
        failed = Counter(name for names in found["_failed"].drop_null().to_pylist() for name in names)
        problems = found["_problems"]
        rejects = REJECTS.empty_table()
        if problems.null_count < len(problems):
            invalid = pc.is_valid(problems)
            broken = batch.filter(invalid)
            rejects = broken.rejects(_reasons(problems.filter(invalid), found["_failed"].filter(invalid)))
            found, batch = found.filter(pc.invert(invalid)), batch.filter(pc.invert(invalid))
        events = self._events(program, found, batch)
        unmapped = events["unmapped"].combine_chunks()
        columns = {name: plain(found[name]) for name in found.column_names}
        uris = [item.uri for item in batch.objects]
        counted = count(program, self.mapper.shape, columns, len(found), unmapped, uris)
        return Mapped(events, rejects, failed_casts=failed, census=counted)

    def _program(self, shape: BatchShape) -> Program:
        if shape not in self._programs:
            _forget_oldest(self._programs)
            self._programs[shape] = compile_mapper(self.mapper, self.version, shape, validated=self.validate)
        return self._programs[shape]

    def _query(self, query: str, batch: _Batch) -> pa.Table:
        """A query's rows; `batch` is what its relation of that name holds."""
        # Statements depend on the order of columns and on their types, which follow from the names.
        records = batch.records.select(sorted({*batch.records.column_names} - {UNDECLARED}))
        key = tuple(records.column_names)
        if key not in self._statements:
            _forget_oldest(self._statements)
            self._statements[key] = Statements(records.schema)
        return self._statements[key].run(query, records)

    def _needs_care(self, batch: _Batch) -> bool:
        """Whether some record has undeclared, repeated or mistyped members. Few key sets stand for many records."""
        shape = self.mapper.shape
        keyed = f"(SELECT _raw, json_keys(_raw, {shape.object_paths}) AS k FROM batch)"
        keys_of = self._query(f"SELECT any_value(k) AS k FROM {keyed} GROUP BY hash(k)", batch)["k"].to_pylist()
        declared = [set(names) for names in shape.objects.values()]
        for keys in keys_of:
            for names, known in zip(keys, declared, strict=True):
                if names and (len(set(names)) < len(names) or not known.issuperset(names)):
                    return True
        # No keys: an empty object, null, or another type where an object is declared.
        doubtful = [
            f"(len(k[{number}]) = 0 AND json_type(_raw, {sqltext.text(json_path(path))}) NOT IN ('OBJECT', 'NULL'))"
            for number, path in enumerate(shape.objects, start=1)
            if any(keys[number - 1] == [] for keys in keys_of)
        ]
        return any(self._query(f"SELECT 1 FROM {keyed} WHERE {test} LIMIT 1", batch).num_rows for test in doubtful)

    def _events(self, program: Program, found: pa.Table, batch: _Batch) -> pa.Table:
        provenance = {
            "source_object": batch.per_object([raw_object.uri for raw_object in batch.objects]),
            "source_etag": batch.per_object([raw_object.etag for raw_object in batch.objects]),
            "source_record": found["_record"],
            "mapper_version": _repeated(self.fingerprint, len(found)),
        }
        columns = {name: plain(found[name]) for name in found.column_names}
        more = [columns["_more"], *([] if batch.is_json else [plain(batch.records[UNDECLARED])])]
        own = [field for field in self.table.arrow if field.name not in provenance]
        arrays = Assembler(program, columns, len(found), more).columns(own)
        made = {**dict(zip([field.name for field in own], arrays, strict=True)), **provenance}
        return pa.table({name: made[name] for name in self.table.arrow.names} | {"_table": found["_table"]})


def _forget_oldest(kept: dict[Any, Any]) -> None:
    """Makes room for one more: logs can name columns without end, and each set of them has a query of its own."""
    if len(kept) == KEPT_SHAPES:
        del kept[next(iter(kept))]


def _stacked(parts: Sequence[pa.Table]) -> pa.Table:
    """Tables of events one after the other; a text that is a dictionary in one of them is one in all."""
    parts = [part for part in parts if len(part)] or list(parts[:1])
    if len(parts) == 1:
        return parts[0]
    target = pa.schema(
        [pa.field(name, alike([part.schema.field(name).type for part in parts])) for name in parts[0].column_names]
    )
    return pa.concat_tables([part.cast(target) for part in parts]).unify_dictionaries().combine_chunks()


def _in_order(events: pa.Table, places: Mapping[str, int]) -> pa.Table:
    """Events in the order of their objects and records."""
    uris = events["source_object"].combine_chunks()
    uris = uris.chunk(0) if isinstance(uris, pa.ChunkedArray) else uris
    ranks = np.array([places[uri] for uri in uris.dictionary.to_pylist()])[uris.indices.to_numpy()]
    order = np.lexsort((events["source_record"].to_numpy(), ranks))
    return events if (np.diff(order) == 1).all() else events.take(pa.array(order))


def _reasons(problems: pa.ChunkedArray, failed: pa.ChunkedArray) -> list[str]:
    """Why events are invalid, with the attributes whose text could not be read as their type."""
    reasons = []
    for said, names in zip(problems.to_pylist(), failed.to_pylist(), strict=True):
        unreadable = [f"not readable as its type: {', '.join(names)}"] if names else []
        reasons.append("; ".join([*said, *unreadable]))
    return reasons


def _in_vectors(records: pa.Table) -> pa.Table:
    """The records in chunks that fill DuckDB's vectors, of which each costs the same, however few rows it has."""
    chunks = max((column.num_chunks for column in records.columns), default=0)
    return records.combine_chunks() if chunks > 1 and len(records) < chunks * VECTOR_ROWS else records


def _repeated(text: str, length: int) -> pa.Array:
    return pa.DictionaryArray.from_arrays(pa.repeat(pa.scalar(0, pa.int32()), length), pa.array([text]))


class _Batch:
    """Records with the same columns, from one or several objects."""

    def __init__(self, parts: Sequence[tuple[RawObject, pa.Table, Chunk]], envelopes: Sequence[Envelope] = ()) -> None:
        self.envelopes = envelopes
        self.objects = [raw_object for raw_object, _, _ in parts]
        self.chunks = [chunk for _, _, chunk in parts]
        tagged = []
        for number, (_, records, _) in enumerate(parts):
            tagged.append(records.append_column("_object", pa.repeat(pa.scalar(number, pa.int32()), len(records))))
        self.records = _in_vectors(pa.concat_tables(tagged))
        self.is_json = "_raw" in self.records.column_names
        for name in OBJECT_KEY_COLUMNS:
            values = [getattr(raw_object, name) for raw_object in self.objects]
            if any(values):
                self.records = self.records.append_column(f"_key_{name}", self.per_object(values).cast(pa.string()))

    def __len__(self) -> int:
        return len(self.records)

    def _with(self, records: pa.Table) -> _Batch:
        other = object.__new__(_Batch)
        other.objects, other.chunks, other.records = self.objects, self.chunks, records
        other.envelopes, other.is_json = self.envelopes, self.is_json
        return other

    def slice(self, start: int, length: int | None = None) -> _Batch:
        """Some of the rows."""
        return self._with(self.records.slice(start, length))

    def portions(self) -> Iterator[_Batch]:
        """The rows, in as few parts as keep what is computed at once within bounds."""
        if not self.is_json or len(self) == 1:
            yield self
            return
        # Commas inside texts count too, which does no harm.
        values = np.cumsum(pc.add(pc.count_substring(self.records["_raw"], ","), 1).to_numpy())
        heaviest = (values[VECTOR_ROWS:] - values[:-VECTOR_ROWS]).max(initial=values[:VECTOR_ROWS][-1])
        start = before = 0
        while heaviest > VECTOR_VALUES and start < len(self):
            end = max(int(np.searchsorted(values, before + VECTOR_VALUES, side="right")), start + 1)
            yield self.slice(start, end - start)
            start, before = end, int(values[end - 1])
        if start < len(self):
            yield self.slice(start)

    def filter(self, mask: pa.ChunkedArray) -> _Batch:
        """The rows where the mask is true."""
        return self._with(self.records.filter(mask))

    def per_object(self, values: Sequence[str | None]) -> pa.ChunkedArray:
        """A value of each row's object, as a dictionary column."""
        dictionary = pa.array(values, pa.string())
        chunks = [pa.DictionaryArray.from_arrays(chunk, dictionary) for chunk in self.records["_object"].chunks]
        return pa.chunked_array(chunks, pa.dictionary(pa.int32(), pa.string()))

    def shape(self, mapper: Mapper, *, careful: bool) -> BatchShape:
        """What the compiler has to know of the columns."""
        present = set(self.records.column_names)
        keys = tuple(name for name in OBJECT_KEY_COLUMNS if f"_key_{name}" in present)
        if self.is_json:
            return BatchShape(object_key=keys, envelope="_envelope" in present, careful=careful)
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
        found = np.full(len(self), None, object)
        for number in np.unique(numbers).tolist():
            chunk = self.chunks[number].records
            rows = pc.index_in(self.records["_record"].filter(pa.array(numbers == number)), chunk["_record"])
            found[numbers == number] = tabular.texts(chunk.take(rows)).to_pylist()
        return pa.chunked_array([pa.array(found, pa.string())])


def _reject(raw_object: RawObject, record: int, reason: str, text: str) -> dict[str, object]:
    return {
        "source_object": raw_object.uri,
        "source_etag": raw_object.etag,
        "source_record": record,
        "reason": reason,
        "raw": text,
    }


def _joined(parts: Sequence[Mapped]) -> Mapped:
    return Mapped(
        _stacked([part.events for part in parts]),
        pa.concat_tables([part.rejects for part in parts]),
        sum((part.dropped for part in parts), Counter()),
        failed_casts=sum((part.failed_casts for part in parts), Counter()),
        census=statistics.merged(part.census for part in parts),
    )


def fingerprint(mapper: Mapper, version: str) -> str:
    """Name of the mapper as it is now: OCSF version and a digest of all that decides its events.

    That is the query, how the source is read, and this package's own code. A changed comment gives a new name too: that
    costs no more than planning open batches anew. A changed reader that kept the name would mix two kinds of events.
    """
    return _fingerprint(mapper, version, _code())


@lru_cache(maxsize=128)
def _fingerprint(mapper: Mapper, version: str, code: bytes) -> str:
    columns = frozenset(path[0] for path in mapper.shape.leaves)
    shapes = (BatchShape(object_key=OBJECT_KEY_COLUMNS, careful=True), BatchShape(columns, OBJECT_KEY_COLUMNS))
    digest = hashlib.sha256(code)
    digest.update(repr(mapper.readers).encode())
    for shape in shapes:
        digest.update(repr(compile_mapper(mapper, version, shape)).encode())
    return f"{mapper.name}-{version}-{digest.hexdigest()[:12]}"


@cache
def _code() -> bytes:
    """A digest of this package's modules, without the sources, whose tables are compiled into the query."""
    digest = hashlib.sha256()
    root = Path(__file__).parents[1]
    for module in sorted(root.rglob("*.py")):
        name = module.relative_to(root).as_posix()
        if not name.startswith("sources/"):
            digest.update(name.encode() + b"\0" + module.read_bytes() + b"\0")
    return digest.digest()
