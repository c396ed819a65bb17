"""A mapper compiled for distinct values: every expression once for each combination of the values that it reads.

Logs repeat themselves: a million records have a few thousand combinations of caller and agent. So a column is a list
of distinct values and a code a row, and what the query of `compile` computes for each row is computed here for the
distinct combinations of what it reads.

What is read are leaves: a column of a text log, a declared member of a record, or a member of an open-ended one. Leaves
are taken out of the record's own members (roots) first. Then come steps, each a query over the combinations of a few
leaves; whatever reads the same leaves is one step. A leaf of which only its absence is read counts as a boolean. The
last step looks at which attributes are there, for the checks that compare several.

Leaves of one root have the values of the root, so what reads leaves of a single root is computed with them.

Names in the queries: `leaf0`, `null0` (whether the leaf is null), x, v, o, u, j, n as in `compile`, `vnull0` and
`vdefault0` (whether v0 is null, or a default), `struck` (whether the row has to go through the query of `compile`,
which says what is wrong with it).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import orjson
import pyarrow as pa

from ocsf_mappers import sqltext
from ocsf_mappers.compiler import captions
from ocsf_mappers.compiler.compile import BatchShape, Compiler
from ocsf_mappers.compiler.each import SharedLists
from ocsf_mappers.compiler.program import EVENT_MAP, Program
from ocsf_mappers.compiler.reads import Record
from ocsf_mappers.vocabulary.record import CARRIER, OBJECT_KEY, Path, json_path, json_spec
from ocsf_mappers.vocabulary.values import Coalesce, Column, First, Json
from ocsf_mappers.vocabulary.word import ABSENT, Member, Resolver, Word

if TYPE_CHECKING:
    from ocsf_mappers.vocabulary.mapper import Mapper

_NAMES = re.compile(
    r"""'[^']*'|"[^"]*"|\b(leaf\d+|null\d+|vnull\d+|vdefault\d+|[bxvk]\d+|_key_\w+|_envelope|_event_map)\b"""
)
"""Every name that a query may read. They are made here and in `compile`, and nothing else is called so; what stands
between quotes is passed over, for a mapper's text may look like one."""

_ROW = re.compile(r"leaf|null|_")
_LAYERS = "bxvk"


@dataclass(frozen=True)
class Leaf:
    """One value of a record.

    Args:
        path: The declared member or column.
        keys: The member of it, where it is open-ended; empty for the whole.
        is_json: Whether it is JSON text.
    """

    path: Path
    keys: tuple[str, ...] = ()
    is_json: bool = False


@dataclass(frozen=True)
class Step:
    """A query over the distinct combinations of its inputs, one row for each, in their order.

    Args:
        inputs: Columns of the relation `batch`: leaves as text, `null...`, `vnull...` and `vdefault...` as booleans.
        sql: The query.
        outputs: Its columns.
    """

    inputs: tuple[str, ...]
    sql: str
    outputs: tuple[str, ...]


@dataclass(frozen=True)
class Plan:
    """What there is to compute for some records.

    Args:
        program: How the results make up the table's columns, see `Program`.
        leaves: The leaves that are read.
        roots: For each top-level member of a JSON record, the query that takes its leaves out of it, and gives the
            results that read nothing else but the number of the event map. It reads `root`, the member's JSON text,
            or, of a member that is a text, `text`, what that says.
        steps: In any order, but the last needs the others' results.
        aliases: Results that are a leaf as it is -> the leaf.
        pairs: Results that hold JSON which is left over (see `record.flatten`).
        carried: For each of `program.members`, the leaf and, for JSON, the result that says where it holds something.
    """

    program: Program
    leaves: Mapping[str, Leaf]
    roots: Mapping[str, Step]
    steps: Sequence[Step]
    aliases: Mapping[str, str]
    pairs: Sequence[str]
    carried: Sequence[str]

    def is_text(self, root: Step) -> bool:
        """Whether a root's only result is the text that it reads."""
        leaf = self.leaves.get(root.outputs[0]) if len(root.outputs) == 1 else None
        return leaf is not None and not leaf.keys and root.inputs == ("text",)

    @property
    def size(self) -> int:
        """Characters of SQL that there are to plan."""
        return sum(len(step.sql) for step in (*self.roots.values(), *self.steps))


_TEXT = """from_json('{"text":' || root || '}', '{"text":"VARCHAR"}').text"""
TEXT = Step(("root",), f"SELECT {_TEXT} AS text FROM batch", ("text",))
"""What a JSON text says, as the query of the whole record reads a member that is declared as a text."""


@lru_cache(maxsize=64)
def compile_steps(mapper: Mapper, version: str, batch: BatchShape, *, validated: bool) -> Plan:
    """The plan that maps batches of this shape, where `_event_map` says which event map takes a record."""
    return _Distinct(mapper, version, batch).plan(validated=validated)


@lru_cache(maxsize=64)
def compile_choice(mapper: Mapper, version: str, batch: BatchShape) -> Plan:
    """The plan that finds which event map takes a record: its only result is `chosen`, the number."""
    return _Distinct(mapper, version, batch).choice()


@lru_cache(maxsize=32)
def closer_look(mapper: Mapper) -> Mapping[str, Step]:
    """For each member of a JSON record that is an object with declared members, the query over `root`, its JSON text.

    Its result, `odd`, is true where the object, or one inside it, has undeclared or repeated members, or is none.
    """
    by_root: dict[str, dict[Path, tuple[str, ...]]] = {}
    for path, names in mapper.shape.objects.items():
        if path:
            by_root.setdefault(path[0], {})[path] = names
    return {root: Step(("root",), _odd_objects(root, objects), ("odd",)) for root, objects in by_root.items()}


def _odd_objects(root: str, objects: Mapping[Path, tuple[str, ...]]) -> str:
    tests = []
    for number, (path, names) in enumerate(objects.items(), start=1):
        keys = f"k[{number}]"
        tests += [
            f"NOT list_has_all({sqltext.texts(names)}, {keys})",
            f"len({keys}) > list_unique({keys})",
            f"(len({keys}) = 0 AND json_type(document, {sqltext.text(json_path(path))}) NOT IN ('OBJECT', 'NULL'))",
        ]
    paths = "[" + ", ".join(sqltext.text(json_path(path)) for path in objects) + "]"
    documents = f"SELECT {_document(root)} AS document FROM batch"
    return f"SELECT {_any(tests)} AS odd FROM (SELECT document, json_keys(document, {paths}) AS k FROM ({documents}))"


def _document(root: str) -> str:
    """SQL for a record that has one member, `root`.

    As a member it is read as in the query of the whole record: null and what is not there alike.
    """
    return f"{sqltext.text('{' + orjson.dumps(root).decode() + ':')} || root || '}}'"


class Leaves(Resolver):
    """A record's columns and members, each under a name of its own.

    Args:
        record: Which of them the batch has.
        is_json: Whether a declared member is open-ended; None for a text log.
    """

    def __init__(self, record: Record, is_json: Mapping[Path, bool] | None) -> None:
        self._record = record
        self._is_json = is_json or {}
        self._names: dict[Leaf, str] = {}
        self._shared: dict[Word, tuple[str, str]] = {}

    def __call__(self, path: Path) -> str:
        """The name of a source column."""
        if path[0] in (OBJECT_KEY, CARRIER) or self._record(path) == ABSENT:
            return self._record(path)
        return self._name(Leaf(path, (), self._is_json.get(path, False)))

    def member(self, word: Member) -> str:
        """The name of a member of an open-ended column; SQL where it is taken out of something else."""
        if isinstance(word.inner, Column) and self._is_json.get(word.inner.path, False):
            return self._name(Leaf(word.inner.path, word.keys))
        return word.taken(self)

    def is_null(self, word: Word) -> str:
        """SQL that is true where a value is missing; of columns their absence is all that is read."""
        match word:
            case Column() | Json():
                text = word.sql(self)
                return "null" + text.removeprefix("leaf") if _is_leaf(text) else f"({text} IS NULL)"
            case First():
                return "false"
            case Coalesce(items):
                return "(" + " AND ".join(map(self.is_null, items)) + ")"
            case _:
                return f"({word.sql(self)} IS NULL)"

    def is_unread(self, word: Word) -> str:
        """SQL that is true where a value is missing, or none of its attribute's type."""
        cast = self._record.casts.get(word)
        return self.is_null(word) if cast is None else f"({cast(word.sql(self))} IS NULL)"

    def blank(self, path: Path) -> tuple[str, ...]:
        """The texts that say nothing in a column."""
        return self._record.blank(path)

    def shared(self, word: Word, sql: str) -> str:
        """The name of a layer that is computed once."""
        return self._shared.setdefault(word, (f"b{len(self._shared)}", sql))[0]

    @property
    def layers(self) -> dict[str, str]:
        """Name and SQL of each layer that has been asked for."""
        return dict(self._shared.values())

    def _name(self, leaf: Leaf) -> str:
        return self._names.setdefault(leaf, f"leaf{len(self._names)}")

    @property
    def named(self) -> dict[str, Leaf]:
        """Every leaf that has been asked for."""
        return {name: leaf for leaf, name in self._names.items()}


def _is_leaf(text: str) -> bool:
    return re.fullmatch(r"leaf\d+", text) is not None


class _Distinct(Compiler):
    """Compiles to steps what `Compiler` compiles to one query."""

    def _resolver(self) -> Resolver:
        leaves, blank = self.mapper.shape.leaves, self.mapper.blank
        self._record = record = Record(
            self.batch.columns, self.batch.object_key, leaves, blank, envelope=self.batch.envelope
        )
        is_json = None if self.batch.columns is not None else self.mapper.shape.leaves
        self.leaves = Leaves(record, is_json)
        return self.leaves

    def _shared_lists(self) -> SharedLists | None:
        """None: there is no query of the whole record that could have columns for lists."""
        return None

    def is_missing(self, number: int) -> str:
        """A boolean beside the steps: whether an attribute has no value."""
        return f"vnull{number}"

    def is_default(self, number: int) -> str:
        """A boolean beside the steps: whether an id is only its default."""
        return f"vdefault{number}"

    def choice(self) -> Plan:
        """The plan of the event map's number."""
        program = Program("", {}, {}, {}, {}, [], {}, [])
        return self._planned(program, {"chosen": self._event_map()}, {}, [])

    def plan(self, *, validated: bool) -> Plan:
        """The plan of the events."""
        program = self.outline()
        inner = {f"x{self.numbers[path]}": self._chosen(path) for path in self.casts}
        for path, number in self.numbers.items():
            inner[f"v{number}"] = self.casts.get(path) or self._chosen(path)
        results = {f"v{number}": f"v{number}" for number in self.numbers.values()}
        results["_table"] = self._table()
        for path, caption in program.captions.items():
            if caption.other and (text := self._other_text(path)):
                test = f"CASE WHEN v{self.numbers[path]} = {captions.OTHER} THEN {text} END"
                results[caption.other] = f"({test})::VARCHAR"
        results |= {f"u{number}": sql for number, (_, sql) in enumerate(self._leftovers.singles())}
        pairs = {f"j{number}": sql for number, sql in enumerate(self._leftovers.pairs())}
        results |= pairs
        results |= {program.unlisted[name]: sql for name, sql in self._unlisted()}
        strikes = self._strikes()
        if validated:
            tallies, checks = self._checks
            inner |= tallies
            strikes += [check.strikes for check in checks]
        carried = []
        for member in self._taken:
            name = self.leaves(member)
            carried.append(name)
            if self.mapper.shape.leaves[member]:
                carried[-1] = f"held{name.removeprefix('leaf')}"
        plan = self._planned(program, results, inner, strikes)
        return Plan(**{**vars(plan), "pairs": tuple(pairs), "carried": tuple(carried)})

    # -- steps --------------------------------------------------------------------------------------------------------
    def _planned(
        self, program: Program, results: Mapping[str, str], inner: Mapping[str, str], strikes: Iterable[str]
    ) -> Plan:
        """A plan of results and the layers between, both name -> SQL, and of tests that strike a row."""
        inner = {**self.leaves.layers, **inner}
        reads = _Reads(inner)
        aliases: dict[str, str] = {}
        groups: dict[frozenset[str], dict[str, str]] = {}
        for name, sql in results.items():
            whole = inner.get(sql, sql)
            if _is_leaf(whole) and not self._is_json(whole):
                aliases[name] = whole
            else:
                groups.setdefault(reads.rows(sql), {})[name] = sql
        tests: dict[frozenset[str], list[str]] = {}
        late: list[str] = []
        for strike in dict.fromkeys(strikes):
            if reads.is_late(strike):
                late.append(strike)
            else:
                tests.setdefault(reads.rows(strike), []).append(strike)
        for number, (read, struck) in enumerate(tests.items()):
            groups.setdefault(read, {})[f"struck{number}"] = _any(struck)
        of_root: dict[str, dict[str, str]] = {}
        steps = []
        for read, outputs in groups.items():
            if (root := self._root(read)) is not None:
                of_root.setdefault(root, {}).update(outputs)
            else:
                steps.append(self._step(read, outputs, inner, reads))
        if late:
            read = frozenset(name for strike in late for name in reads.names(strike))
            steps.append(self._step(read, {f"struck{len(tests)}": _any(late)}, {}, _Reads({})))
        carried = self._taken if program.members else ()
        leaves = self._used([name for step in steps for name in step.inputs] + list(aliases.values()), carried)
        return Plan(program, leaves, self._roots(leaves, of_root, inner, reads), steps, aliases, (), ())

    def _used(self, names: Iterable[str], carried: Iterable[Path]) -> dict[str, Leaf]:
        """The leaves that are read by name, and the members that are counted."""
        used = {"leaf" + name.removeprefix("null") if name.startswith("null") else name for name in names}
        used.update(map(self.leaves, carried))
        return {name: leaf for name, leaf in self.leaves.named.items() if name in used}

    def _root(self, read: Iterable[str]) -> str | None:
        """The member of a JSON record that all of these leaves are of; None where they are not of one."""
        if self.batch.columns is not None:
            return None
        leaf_by_name = self.leaves.named
        numbers = [name.removeprefix("leaf").removeprefix("null") for name in read if name != EVENT_MAP]
        leaves = [leaf_by_name.get(f"leaf{number}") for number in numbers]
        roots = {leaf.path[0] if leaf else None for leaf in leaves}
        return roots.pop() if len(roots) == 1 else None

    def _is_json(self, name: str) -> bool:
        return self.leaves.named[name].is_json

    def _step(self, read: frozenset[str], outputs: Mapping[str, str], inner: Mapping[str, str], reads: _Reads) -> Step:
        inputs = tuple(sorted(read))
        columns = [f"{name}::JSON AS {name}" if _is_leaf(name) and self._is_json(name) else name for name in inputs]
        columns += [f"({name} IS NULL) AS null{name.removeprefix('leaf')}" for name in inputs if _is_leaf(name)]
        sql = f"SELECT {', '.join(columns) or '1 AS one'} FROM batch"
        return Step(inputs, self._layered(sql, outputs, inner, reads), tuple(outputs))

    @staticmethod
    def _layered(sql: str, outputs: Mapping[str, str], inner: Mapping[str, str], reads: _Reads) -> str:
        """The outputs over a query of leaves, the layers that they need between."""
        needed = reads.between(outputs.values())
        for layer in _LAYERS:
            if columns := [f"{inner[name]} AS {name}" for name in needed if name.startswith(layer)]:
                sql = f"SELECT *, {', '.join(columns)} FROM ({sql})"
        selected = ", ".join(f"{text} AS {name}" for name, text in outputs.items())
        return f"SELECT {selected} FROM ({sql})"

    def _roots(
        self,
        leaves: Mapping[str, Leaf],
        results: Mapping[str, Mapping[str, str]],
        inner: Mapping[str, str],
        reads: _Reads,
    ) -> dict[str, Step]:
        """What takes the leaves out of the members of JSON records, with the results that read no other member."""
        if self.batch.columns is not None:
            return {}
        leaf_by_name = self.leaves.named
        steps = {}
        for root in dict.fromkeys([*(leaf.path[0] for leaf in leaves.values()), *results]):
            outputs = results.get(root, {})
            names = {name for sql in outputs.values() for name in reads.rows(sql)}
            value = "text" if self._is_text(root) else "root"
            inputs = (value, EVENT_MAP) if EVENT_MAP in names else (value,)
            read = {f"leaf{name[4:]}" for name in names}
            used = leaves.keys() | read
            root_leaves = {name: leaf for name, leaf in leaf_by_name.items() if leaf.path[0] == root and name in used}
            plain = {name: f"{name}::VARCHAR" for name in root_leaves if name in leaves}
            sql = self._layered(self._root_sql(root, root_leaves, inputs[1:]), {**plain, **outputs}, inner, reads)
            steps[root] = Step(inputs, sql, (*plain, *outputs))
        return steps

    def _is_text(self, root: str) -> bool:
        return bool(pa.types.is_string(self.mapper.shape.type.field(root).type))

    def _root_sql(self, root: str, leaves: Mapping[str, Leaf], others: Sequence[str]) -> str:
        """The leaves of a root, whether each is null, and other columns beside them."""
        spec = sqltext.text(orjson.dumps({root: json_spec(self.mapper.shape.type.field(root).type)}).decode())
        given = "{" + sqltext.name(root) + ": text}" if self._is_text(root) else f"from_json({_document(root)}, {spec})"
        columns = list(others)
        pointers: dict[Path, dict[str, str]] = {}
        for name, leaf in leaves.items():
            if leaf.keys:
                pointers.setdefault(leaf.path, {})[name] = sqltext.pointer(*leaf.keys)
            else:
                columns.append(f"{_of_root(leaf.path)} AS {name}")
        members = []
        for number, (path, keys) in enumerate(pointers.items()):
            # To look a member up, DuckDB reads the whole text: all of them are taken out together.
            members.append(f"json_extract_string({_of_root(path)}, [{', '.join(keys.values())}]) AS q{number}")
            columns += [f"q{number}[{place}] AS {name}" for place, name in enumerate(keys, start=1)]
        nulls = "".join(f", ({name} IS NULL) AS null{name[4:]}" for name in leaves)
        document = ", ".join([f"{given} AS r", *others])
        read = f"SELECT {', '.join(['*', *members])} FROM (SELECT {document} FROM batch)"
        return f"SELECT *{nulls} FROM (SELECT {', '.join(columns)} FROM ({read}))"


def _of_root(path: Path) -> str:
    return "r." + ".".join(sqltext.name(step) for step in path)


class _Reads:
    """What SQL reads, layers between followed.

    Args:
        inner: Name -> SQL of each layer between leaves and results.
    """

    def __init__(self, inner: Mapping[str, str]) -> None:
        self._inner = inner
        self._names_by_sql: dict[str, list[str]] = {}

    def names(self, sql: str) -> list[str]:
        """The names that SQL reads, as often as it does; layers are asked for many times, and long."""
        if sql not in self._names_by_sql:
            self._names_by_sql[sql] = [name for name in _NAMES.findall(sql) if name]
        return self._names_by_sql[sql]

    def between(self, texts: Iterable[str]) -> list[str]:
        """Names of the layers that some SQL needs, those it needs first coming first."""
        ordered: dict[str, None] = {}

        def follow(text: str) -> None:
            for name in self.names(text):
                if name in self._inner and name not in ordered:
                    follow(self._inner[name])
                    ordered[name] = None

        for text in texts:
            follow(text)
        return list(ordered)

    def rows(self, sql: str) -> frozenset[str]:
        """The leaves and what else of a row SQL reads."""
        texts = [sql, *(self._inner[name] for name in self.between([sql]))]
        names = {name for text in texts for name in self.names(text) if _ROW.match(name)}
        return frozenset(name for name in names if not (name.startswith("null") and f"leaf{name[4:]}" in names))

    def is_late(self, sql: str) -> bool:
        """Whether it asks which attributes are there."""
        return any(name.startswith(("vnull", "vdefault")) for name in self.names(sql))


def _any(tests: Sequence[str]) -> str:
    return " OR ".join(f"coalesce({test}, false)" for test in tests)
