"""Expressions over source columns, as frozen values.

An expression is data: it knows what it reads, and `render` turns it into SQL. The words are polars' (`col`,
`when().then().otherwise()`, `coalesce`, `replace`). A source value is text unless a method says otherwise; casts to the
OCSF type happen where the expression meets its attribute.

```python
col.action.replace(ACCEPT="Traffic", REJECT="Refuse")
when(col.flow_direction == "egress").then(col.vpc_id)
coalesce(col.pkt_srcaddr, col.srcaddr)
col.start.epoch_seconds()
col.resources.each({"uid": col.ARN, "type": col.type})
```
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn, TypeAlias

from ocsf_mappers.errors import MappingError


class Expr:
    """A value computed from the columns of one record; combine expressions with the methods below."""

    # -- values -----------------------------------------------------------------------------------------------------
    def replace(
        self, mapping: Mapping[str, str] | None = None, /, *, otherwise: Value | None = None, **named: str
    ) -> Expr:
        """Text swapped by table; text outside the table passes through, or becomes `otherwise` when that is given."""
        pairs = tuple({**(mapping or {}), **named}.items())
        return Replace(self, pairs, None if otherwise is None else as_expr(otherwise))

    def replace_prefix(self, mapping: Mapping[str, str], *, otherwise: Value) -> Expr:
        """The value of the first key that the text starts with, in upper or lower case.

        It keeps only a class of the text: consumes nothing.
        """
        return ReplacePrefix(self, tuple(mapping.items()), as_expr(otherwise))

    def json(self, *keys: str) -> Expr:
        """One member of a JSON column, as text; several keys go down one level each."""
        return Json(self, keys)

    def extract(self, pattern: str) -> Expr:
        """The first group of an RE2 pattern, null where it does not match. Consumes nothing."""
        return Extract(self, pattern)

    def every(self, path: str) -> Expr:
        """The values at a path inside a JSON column, `[]` standing for each item: `every("threats[].paths[]")`.

        For `each`; it consumes nothing, so what it reads is carried over by something else or stays in `unmapped`.
        """
        return Every(self, path)

    def each(self, fields: Mapping[str, Value], *, or_empty: bool = False) -> Expr:
        """One object per element of a JSON array of objects; a JSON object counts as an array of one.

        Inside, `col.x` means the element's member `x`, `element` the element itself and `outer.x` the record's
        column. An empty element (`{}`, null), one that maps to nothing, and constants alone make no object. Several
        `each` in a list are one list of objects after the other. `or_empty` gives an empty list instead of null where
        the record has no array: for lists whose emptiness is itself an answer.
        """
        return Each(self, tuple((path, as_expr(value)) for path, value in fields.items()), or_empty)

    def band(self, floors: Mapping[int, str], *, otherwise: Value) -> Expr:
        """The text of the highest floor that a number reaches, null where it is no number. Consumes nothing."""
        return Band(self, tuple(sorted(floors.items(), reverse=True)), as_expr(otherwise))

    # -- times ------------------------------------------------------------------------------------------------------
    def epoch_seconds(self, *, fraction: bool = False) -> Expr:
        """Unix seconds, UTC, as a point in time; `fraction` also takes decimals, such as `1639010703.5`."""
        return Epoch(self, 1_000_000, fraction)

    def epoch_millis(self) -> Expr:
        """Unix milliseconds, UTC, as a point in time."""
        return Epoch(self, 1_000)

    def iso8601(self) -> Expr:
        """ISO 8601 text with date and time as a point in time; without an offset it is UTC."""
        return Iso8601(self)

    # -- claims -----------------------------------------------------------------------------------------------------
    def is_null(self) -> Expr:
        """Whether the value is missing."""
        return IsNull(self)

    def is_in(self, *values: str) -> Expr:
        """Whether the text is one of these."""
        return IsIn(self, values)

    def matches(self, pattern: str) -> Expr:
        """Whether an RE2 pattern is found anywhere in the text."""
        return Test("regexp_matches", self, pattern)

    def contains(self, text: str) -> Expr:
        """Whether the text contains this text."""
        return Test("contains", self, text)

    def starts_with(self, text: str) -> Expr:
        """Whether the text begins with this text."""
        return Test("starts_with", self, text)

    def ends_with(self, text: str) -> Expr:
        """Whether the text ends with this text."""
        return Test("ends_with", self, text)

    def __eq__(self, other: object) -> Expr:  # type: ignore[override]
        return Compare("=", self, as_expr(other))

    def __ne__(self, other: object) -> Expr:  # type: ignore[override]
        return Compare("<>", self, as_expr(other))

    def __and__(self, other: Expr) -> Expr:
        return Logic("AND", self, other)

    def __or__(self, other: Expr) -> Expr:
        return Logic("OR", self, other)

    def __invert__(self) -> Expr:
        return Not(self)

    def __bool__(self) -> NoReturn:
        raise MappingError("an expression has no truth value yet: combine with & | ~ and test with when(...)")

    __hash__ = object.__hash__


Value: TypeAlias = "Expr | str | int | bool | Sequence[Expr | str | int]"


@dataclass(frozen=True, eq=False, repr=False)
class Column(Expr):
    """A source column, or a member of one: `col.userIdentity.arn`, `col["detail-type"]`."""

    parts: tuple[str, ...]

    def __getattr__(self, name: str) -> Column:
        if name.startswith("__"):
            raise AttributeError(name)
        return Column((*self.parts, name))

    def __getitem__(self, name: str) -> Column:
        return Column((*self.parts, name))


@dataclass(frozen=True, eq=False)
class Literal(Expr):
    """A constant."""

    value: str | int | bool


@dataclass(frozen=True, eq=False)
class ListOf(Expr):
    """A list of values; null items are left out, and a list without items is null."""

    items: tuple[Expr, ...]


@dataclass(frozen=True, eq=False)
class Replace(Expr):
    """Text swapped by table."""

    inner: Expr
    pairs: tuple[tuple[str, str], ...]
    otherwise: Expr | None


@dataclass(frozen=True, eq=False)
class ReplacePrefix(Expr):
    """Text classed by how it starts."""

    inner: Expr
    pairs: tuple[tuple[str, str], ...]
    otherwise: Expr


@dataclass(frozen=True, eq=False)
class Json(Expr):
    """One member of a JSON value."""

    inner: Expr
    keys: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Extract(Expr):
    """First group of a pattern."""

    inner: Expr
    pattern: str


@dataclass(frozen=True, eq=False)
class Every(Expr):
    """The values at a path through JSON arrays."""

    inner: Expr
    path: str


@dataclass(frozen=True, eq=False)
class Band(Expr):
    """A number classed by how high it is; floors are in falling order."""

    inner: Expr
    pairs: tuple[tuple[int, str], ...]
    otherwise: Expr


@dataclass(frozen=True, eq=False)
class Each(Expr):
    """A JSON array of objects, mapped element by element."""

    inner: Expr
    fields: tuple[tuple[str, Expr], ...]
    or_empty: bool = False


@dataclass(frozen=True, eq=False)
class Epoch(Expr):
    """A number of units since 1970, as a point in time."""

    inner: Expr
    micros: int
    fraction: bool = False


@dataclass(frozen=True, eq=False)
class Iso8601(Expr):
    """ISO 8601 text as a point in time."""

    inner: Expr


@dataclass(frozen=True, eq=False)
class Coalesce(Expr):
    """The first value that is not null."""

    items: tuple[Expr, ...]


@dataclass(frozen=True, eq=False)
class Case(Expr):
    """The value of the first branch whose condition holds; null when none does."""

    branches: tuple[tuple[Expr, Expr], ...]
    default: Expr | None = None

    def when(self, condition: Expr) -> When:
        """Another branch, tried when the ones before did not hold."""
        return When(condition, self.branches)

    def otherwise(self, value: Value) -> Case:
        """The value when no branch holds."""
        return Case(self.branches, as_expr(value))


@dataclass(frozen=True)
class When:
    """A condition waiting for its value."""

    condition: Expr
    before: tuple[tuple[Expr, Expr], ...] = ()

    def then(self, value: Value) -> Case:
        """The value where the condition holds."""
        return Case((*self.before, (self.condition, as_expr(value))))


@dataclass(frozen=True, eq=False)
class Compare(Expr):
    """Two values compared; false where either is null."""

    op: str
    left: Expr
    right: Expr


@dataclass(frozen=True, eq=False)
class Logic(Expr):
    """Two claims joined."""

    op: str
    left: Expr
    right: Expr


@dataclass(frozen=True, eq=False)
class Not(Expr):
    """A claim denied."""

    inner: Expr


@dataclass(frozen=True, eq=False)
class IsNull(Expr):
    """Whether a value is missing."""

    inner: Expr


@dataclass(frozen=True, eq=False)
class IsIn(Expr):
    """Whether text is one of a set."""

    inner: Expr
    values: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Test(Expr):
    """A text function that answers yes or no."""

    function: str
    inner: Expr
    argument: str


@dataclass(frozen=True, eq=False)
class Sql(Expr):
    """A piece of DuckDB SQL over the values it says it reads: the way out when the vocabulary ends."""

    template: str
    reads: tuple[Expr, ...]
    carries: bool = True


ELEMENT, OUTER = "@element", "@outer"
"""First steps of the columns that mean, inside `each`, the element itself and the record around it."""


class _Columns:
    """`col.name` and `col["odd-name"]` name a source column."""

    def __init__(self, *before: str) -> None:
        self._before = before

    def __getattr__(self, name: str) -> Column:
        if name.startswith("__"):
            raise AttributeError(name)
        return Column((*self._before, name))

    def __getitem__(self, name: str) -> Column:
        return Column((*self._before, name))


col = _Columns()
outer = _Columns(OUTER)
"""Inside `each`: the record's columns. A text is consumed where some element of the finished list holds it."""
element = Column((ELEMENT,))
"""Inside `each`: the element itself, a text or, of anything else, its JSON text; an empty object is null."""


def when(condition: Expr) -> When:
    """Start a conditional value: `when(col.a == "x").then(col.b).otherwise("y")`."""
    return When(condition)


def coalesce(*values: Value) -> Expr:
    """The first value that is not null; later ones are consumed only where they are used or equal."""
    return Coalesce(tuple(as_expr(value) for value in values))


def sql(template: str, *, reads: Sequence[Expr], carries: bool = True) -> Expr:
    """DuckDB SQL with `{0}`, `{1}`... standing for the values read, in order: `sql("upper({0})", reads=[col.x])`.

    It consumes what it reads, unless `carries` says that it keeps but a part.
    """
    return Sql(template, tuple(reads), carries)


def as_expr(value: object) -> Expr:
    """A Python constant or list as an expression.

    Raises:
        MappingError: The value is of a type that has no meaning in a mapping.
    """
    if isinstance(value, Expr):
        return value
    if isinstance(value, str | int | bool):
        return Literal(value)
    if isinstance(value, list | tuple):
        return ListOf(tuple(as_expr(item) for item in value))
    raise MappingError(f"{value!r} cannot stand in a mapping: give text, a number, a column or an expression")


def children(expr: Expr) -> Iterator[Expr]:
    """The expressions directly inside this one."""
    match expr:
        case Column() | Literal():
            pass
        case Case(branches, default):
            for condition, value in branches:
                yield condition
                yield value
            if default is not None:
                yield default
        case Coalesce(items) | ListOf(items):
            yield from items
        case Compare(_, left, right) | Logic(_, left, right):
            yield left
            yield right
        case Sql(_, reads, _):
            yield from reads
        case Replace(inner, _, otherwise):
            yield inner
            if otherwise is not None:
                yield otherwise
        case ReplacePrefix(inner, _, otherwise) | Band(inner, _, otherwise):
            yield inner
            yield otherwise
        case (
            Json(inner)
            | Every(inner)
            | Extract(inner)
            | Each(inner)
            | Epoch(inner)
            | Iso8601(inner)
            | Not(inner)
            | IsNull(inner)
            | IsIn(inner)
            | Test(inner=inner)
        ):
            yield inner
        case _:
            raise TypeError(f"unknown expression {expr!r}")


def columns(expr: Expr) -> Iterator[Column]:
    """Every column that the expression names, conditions included."""
    if isinstance(expr, Column):
        yield expr
    for child in children(expr):
        yield from columns(child)


def parts(expr: Expr) -> tuple[Each, ...]:
    """The `each` that make up a list of objects; empty for every other expression."""
    match expr:
        case Each():
            return (expr,)
        case ListOf(items) if items and all(isinstance(item, Each) for item in items):
            return tuple(item for item in items if isinstance(item, Each))
        case _:
            return ()


def element_fields(expr: Expr) -> Iterator[tuple[str, Expr]]:
    """Path inside the element and value of everything that a list of objects maps, lists inside it entered."""
    for part in parts(expr):
        for path, value in part.fields:
            yield path, value
            yield from ((f"{path}.{inner}", given) for inner, given in element_fields(value))
