"""Rules as they are asked of a lake: texts of SQL, of which nothing has to be converted any more.

`Rule.asked` makes them; they are data alone, so that `compiled` can keep them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from pathlib import Path

from sqlglot import exp

from ocsf_lake.detections import places
from ocsf_lake.detections.dialects import DUCKDB, ROW
from ocsf_mappers import sqltext

PLACE = "source_object || '#' || source_record"
"""SQL of where an event stands."""
Pins = Mapping[str, frozenset[str | None]]
"""Column -> texts, in lower case, of which it is one wherever a condition holds; None where it may be null too."""


@dataclass(frozen=True)
class Relation:
    """The tables of a source as one relation, whose columns are paths: `"api.operation"`, see `flattened`.

    Args:
        source: Name of the source.
        tables: Its tables, sorted.
        names: Columns that the tables have.
        given: Table -> column -> SQL, where a table has something else in it.
        about: SQL of whom an event is about.
        uid: SQL of an event's id.
        columns: The columns that these two, and where an event stands, are made of.
    """

    source: str
    tables: tuple[str, ...]
    names: frozenset[str]
    given: Mapping[str, Mapping[str, str]] = field(hash=False)
    about: str
    uid: str
    columns: tuple[str, ...]

    @property
    def every_name(self) -> frozenset[str]:
        """All names of columns."""
        return self.names | {name for columns in self.given.values() for name in columns}

    def sql(self, columns: Collection[str] | None, where: str, filled: Collection[str] | None = None) -> str:
        """SQL of the relation.

        Args:
            columns: The columns that are read besides its own; None for all that there are.
            where: Condition on `time`.
            filled: Tables that have rows; None where that is not known.
        """
        paths = sorted({*(columns or ()), *self.columns})
        arms = [
            f"SELECT {self._listed(table, paths, is_whole=columns is None)} FROM {sqltext.name(table)} WHERE {where}"
            for table in self._read(filled)
        ]
        return f"({' UNION ALL BY NAME '.join(arms)}) AS {ROW}"

    def _read(self, filled: Collection[str] | None) -> list[str]:
        """The tables with rows; one that has all columns among them, which gives the others their types."""
        chosen = [table for table in self.tables if filled is None or table in filled]
        if all(table in self.given for table in chosen):
            chosen += [table for table in self.tables if table not in self.given][:1]
        return chosen

    def needed(self, filled: Collection[str]) -> list[str]:
        """The tables that have to be shown where some have rows; none where none of this source's has."""
        return self._read(filled) if any(table in filled for table in self.tables) else []

    def _listed(self, table: str, paths: Sequence[str], *, is_whole: bool) -> str:
        given = self.given.get(table, {})
        listed = []
        if is_whole:
            replaced = ", ".join(f"{sql} AS {sqltext.name(name)}" for name, sql in given.items() if name in self.names)
            added = [f"{sql} AS {sqltext.name(name)}" for name, sql in given.items() if name not in self.names]
            listed = [f"*{f' REPLACE ({replaced})' if replaced else ''}", *added]
        for path in paths:
            first, *steps = path.split(".")
            if (is_whole and not steps) or (first not in given and first not in self.names):
                continue
            value = given.get(first, sqltext.name(first))
            spelled = "NULL" if value == "NULL" else ".".join([value, *map(sqltext.name, steps)])
            listed.append(f"{spelled} AS {sqltext.name(path)}")
        return ", ".join(listed)


@dataclass(frozen=True)
class Look:
    """A condition on the events of one source.

    Args:
        condition: SQL over the columns of the source's relation.
        columns: Those that it reads; None for all that there are.
        pins: See `Pins`; None where it never holds.
    """

    condition: str
    columns: tuple[str, ...] | None
    pins: Pins | None = field(hash=False)


@dataclass(frozen=True)
class Arm:
    """The events of one rule and source that a correlation looks at.

    Args:
        relation: The source's relation.
        look: The events, of which all that is grouped and counted has a value.
        group: SQL of what they are grouped by.
        value: SQL of what is counted.
        number: Number of the rule among those of the correlation.
        columns: The columns that these values are made of.
    """

    relation: Relation
    look: Look
    group: tuple[str, ...]
    value: tuple[str, ...]
    number: int
    columns: tuple[str, ...]


@dataclass(frozen=True)
class Counted:
    """What a correlation counts, see `correlations.Correlation`.

    Args:
        kind: `event_count`, `value_count`, `temporal` or `temporal_ordered`.
        size: How many rules it looks at.
        window_ms: Within how many milliseconds.
        least: How many there have to be.
        arms: The events of its rules.
    """

    kind: str
    size: int
    window_ms: int
    least: int
    arms: tuple[Arm, ...]


@dataclass(frozen=True)
class Unseen:
    """What has to be new of a rule's events, see `first_seen.FirstSeen`.

    Args:
        baseline: Id of the baseline.
        learning_ms: For how many milliseconds after its first event nothing of a group is new.
        arms: The events of each source; of group and value one text each.
    """

    baseline: str
    learning_ms: int
    arms: tuple[Arm, ...]


@dataclass(frozen=True)
class Asked:
    """A rule, see `rules.Rule`, and what it looks for as SQL.

    Args:
        path: Its file.
        id: Its Sigma id.
        title: Its title.
        name: What correlation rules call it.
        version: Hash of its content.
        level: Its level.
        tags: Its tags.
        description: What it is about.
        log: Name of the log that it is for.
        key: What its findings are known by.
        is_silent: Whether it makes no findings of its own.
        reason: Why it cannot be used.
        notes: What has to be known of its parts.
        looks: Each source, and the events that it looks for there.
        counted: What it counts, where it is a correlation.
        unseen: What of its events has to be new; None where every event counts.
    """

    path: Path
    id: str | None
    title: str
    name: str | None
    version: str
    level: str | None
    tags: tuple[str, ...]
    description: str
    log: str | None
    key: str
    is_silent: bool
    reason: str | None
    notes: tuple[str, ...]
    looks: tuple[tuple[Relation, Look], ...] = ()
    counted: Counted | None = None
    unseen: Unseen | None = None

    @property
    def looks_at_each(self) -> bool:
        """Whether each event that its condition holds for counts by itself."""
        return self.counted is None and self.unseen is None

    @property
    def stem(self) -> str:
        """The name of its file without its ending."""
        return written(self.path.stem)

    @property
    def asked(self) -> Asked:
        """Itself, as a `Rule` has one."""
        return self

    @property
    def relations(self) -> list[Relation]:
        """The sources that it looks at."""
        return [*(one for one, _ in self.looks), *(arm.relation for arm in (self.counted.arms if self.counted else ()))]


def written(value: object) -> str:
    """A text that can be written: YAML and names of files may have halves of surrogate pairs."""
    return str(value).encode(errors="replace").decode()


def look(
    tree: exp.Expr, names: Collection[str], besides: Sequence[exp.Expr] = ()
) -> tuple[Look, list[str], tuple[str, ...]]:
    """A condition as it is asked; the SQL of other values, and the columns that these are made of.

    Args:
        tree: The condition, see `places`.
        names: Columns of the source's tables.
        besides: Values that have to be there where it holds.
    """
    lowered, read = flattened(tree, names)
    values, others = [], set[str]()
    for value in besides:
        flat, more = flattened(value, names)
        values.append(flat.sql("duckdb"))
        others |= more
    read |= others
    not_null = "".join(f" AND {value} IS NOT NULL" for value in dict.fromkeys(values))
    text = lowered.sql("duckdb")
    is_whole = any(node.name == places.ANY_TEXT for one in (tree, *besides) for node in one.find_all(exp.Anonymous))
    condition = f"({text}){not_null}" if not_null else text
    return Look(condition, None if is_whole else tuple(sorted(read)), _pins(lowered)), values, tuple(sorted(others))


def flattened(tree: exp.Expr, names: Collection[str]) -> tuple[exp.Expr, set[str]]:
    """A tree in DuckDB's dialect, whose columns are whole paths, so that nothing else of a structure is read.

    Args:
        tree: A condition or value, see `places`.
        names: The columns that there are; what else is called so is a variable.

    Returns:
        The tree, and the paths.
    """
    root = exp.Paren(this=DUCKDB.lowered(tree))
    read = set()
    for column in list(root.find_all(exp.Column)):
        steps = [part.name for part in column.parts]
        if steps[0] not in names:
            continue
        whole: exp.Expr = column
        while isinstance(whole.parent, exp.Dot) and whole.parent.this is whole:
            whole = whole.parent
            steps.append(whole.expression.name)
        path = ".".join(steps)
        read.add(path)
        whole.replace(exp.column(path, quoted=True))
    flat: exp.Expr = root.this
    return flat, read


def _pins(tree: exp.Expr) -> Pins | None:
    """Values that are one of few texts wherever a condition holds; None where it never does."""
    if isinstance(tree, exp.Paren):
        return _pins(tree.this)
    if isinstance(tree, exp.Boolean):
        return {} if tree.this else None
    # not by left and right: of a list with a thousand values that goes too deep
    if isinstance(tree, exp.And):
        return reduce(_both, map(_pins, tree.flatten()))
    if isinstance(tree, exp.Or):
        return reduce(_either, map(_pins, tree.flatten()))
    if isinstance(tree, exp.Case):
        return _pins_of_case(tree)
    if isinstance(tree, exp.EQ):
        value, texts = tree.this, [tree.expression]
    elif isinstance(tree, exp.In):
        value, texts = tree.this, tree.expressions
    else:
        return {}
    # Only so is it certain that the column holds texts.
    if not isinstance(value, exp.Lower) or not isinstance(value.this, exp.Column) or not all(map(_is_text, texts)):
        return {}
    return {value.this.name: frozenset(text.name for text in texts)} if texts else {}


def _pins_of_case(tree: exp.Case) -> Pins | None:
    """Of `CASE WHEN column IS NOT NULL THEN ... ELSE ... END`: so a member is read that may stand elsewhere."""
    branches = tree.args["ifs"]
    condition = branches[0].this
    is_null = condition.this if isinstance(condition, exp.Not) else None
    if len(branches) != 1 or tree.this is not None or not isinstance(is_null, exp.Is):
        return {}
    column, otherwise = is_null.this, tree.args.get("default")
    if not isinstance(column, exp.Column) or not isinstance(is_null.expression, exp.Null):
        return {}
    elsewhere = None if otherwise is None else _both({column.name: frozenset([None])}, _pins(otherwise))
    return _either(_pins(branches[0].args["true"]), elsewhere)


def _is_text(value: exp.Expr) -> bool:
    return isinstance(value, exp.Literal) and value.is_string


def _both(one: Pins | None, other: Pins | None) -> Pins | None:
    if one is None or other is None:
        return None
    common = {value: one[value] & other[value] for value in one.keys() & other.keys()}
    return {**one, **other, **common}


def _either(one: Pins | None, other: Pins | None) -> Pins | None:
    if one is None or other is None:
        return other if one is None else one
    return {value: one[value] | other[value] for value in one.keys() & other.keys()}
