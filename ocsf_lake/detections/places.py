"""Where a member of a raw record stands in our columns, and conditions on the values there.

A condition is built once, as a tree of sqlglot's nodes, some of which are ours (`NODES`): what each dialect spells in
its own way. `ocsf_lake.detections.dialects` lowers the tree to one of them.

A record may have several values at a member, as Sigma means it: of a list those of its items. A condition holds when it
holds for one of them; JSON's null is no value.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from sqlglot import exp, parse_one

Condition = Callable[[exp.Expr], exp.Expr]
"""Gives, for a value as text, whether it is one that is looked for."""

JSON_TEXT = "ocsf_json_text"
"""(document, step, ...): the value at a path of a JSON text, as text."""
HAS_LIST = "ocsf_has_list"
"""(document): whether there may be a list in a JSON text."""
IS_LIST = "ocsf_is_list"
"""(text): whether it is a JSON list."""
ANY_MEMBER = "ocsf_any_member"
"""(document, step, ..., condition): whether a value at a path, of lists an item, meets a condition on `VALUE`."""
ANY_ITEM = "ocsf_any_item"
"""(list, condition): whether an item of a list meets a condition on `VALUE`."""
FIRST_ITEM = "ocsf_first_item"
"""(list, value of `VALUE`): the first value that items of a list have."""
ANY_TEXT = "ocsf_any_text"
"""(condition): whether a value anywhere in the row meets a condition on `VALUE`."""
UNMAPPED = "ocsf_unmapped"
"""(key): what stands in `unmapped` under a key."""
CONTAINS = "ocsf_contains"
ENDS_WITH = "ocsf_ends_with"
"""(text, part)."""
IN_NETWORK = "ocsf_in_network"
"""(text, network): whether it is an address of a network, of either family."""
TIME_TEXT = "ocsf_time_text"
"""(milliseconds): a time as AWS writes it."""
TIME_PART = "ocsf_time_part"
"""(milliseconds, part): year, month, week, day, hour or minute of a time, UTC."""
MILLIS = "ocsf_millis"
"""(timestamp): milliseconds since 1970."""
NODES = frozenset(
    [JSON_TEXT, HAS_LIST, IS_LIST, ANY_MEMBER, ANY_ITEM, ANY_TEXT, UNMAPPED, CONTAINS, ENDS_WITH, IN_NETWORK]
) | {FIRST_ITEM, TIME_TEXT, TIME_PART, MILLIS}

VALUE = "value"
"""What the value is called in conditions of the nodes above, followed by a number that no other condition has."""


def node(name: str, *arguments: exp.Expr) -> exp.Expr:
    """One of our nodes."""
    return exp.Anonymous(this=name, expressions=[argument.copy() for argument in arguments])


def text(value: str) -> exp.Expr:
    """A constant text.

    Raises:
        UnicodeEncodeError: It has half of a pair of surrogates, which no text has that is written.
    """
    value.encode()
    return exp.Literal.string(value)


def column(path: str) -> exp.Expr:
    """A column, or a member of one: `actor.user.uid`."""
    first, *steps = path.split(".")
    tree: exp.Expr = exp.column(first, quoted=True)
    for step in steps:
        tree = exp.Dot(this=tree, expression=exp.to_identifier(step, quoted=True))
    return tree


def sql(written: str) -> exp.Expr:
    """An expression that is the same in all dialects but for its spelling, as DuckDB writes it."""
    return parse_one(written, read="duckdb")


class Kind(StrEnum):
    """What a column holds."""

    TEXT = "text"
    NUMBER = "number"
    BOOLEAN = "boolean"
    TIME = "time"


@dataclass(frozen=True)
class Column:
    """A column with one value a row.

    Args:
        value: The column, or an expression over columns.
        kind: Its type; `TIME` is milliseconds since 1970, UTC.
    """

    value: exp.Expr
    kind: Kind = Kind.TEXT

    @property
    def as_text(self) -> exp.Expr:
        """The value as the record has it."""
        if self.kind is Kind.NUMBER:
            return exp.cast(self.value.copy(), "text")
        if self.kind is Kind.BOOLEAN:
            return exp.case().when(self.value.copy(), text("true")).when(exp.not_(self.value.copy()), text("false"))
        return node(TIME_TEXT, self.value) if self.kind is Kind.TIME else self.value.copy()

    @property
    def cost(self) -> int:
        """How long it takes to look at, compared with others."""
        return 0

    def any(self, condition: Condition) -> exp.Expr:
        """Whether a value meets a condition."""
        return condition(self.as_text)

    def exists(self) -> exp.Expr:
        """Whether there is a value."""
        return exp.not_(exp.Is(this=self.value.copy(), expression=exp.Null()))


@dataclass(frozen=True)
class Unmapped:
    """What our mapper left over.

    Args:
        key: Its name, with dots.
        may_be_list: Whether it may be JSON that is a list.
    """

    key: str
    may_be_list: bool = False

    @property
    def cost(self) -> int:
        """See `Column`."""
        return 2

    def any(self, condition: Condition) -> exp.Expr:
        """See `Column`."""
        value = node(UNMAPPED, text(self.key))
        if not self.may_be_list:
            return condition(value)
        return exp.case().when(node(IS_LIST, value), _any_member(value, (), condition)).else_(condition(value))

    def exists(self) -> exp.Expr:
        """See `Column`."""
        return exp.not_(exp.Is(this=node(UNMAPPED, text(self.key)), expression=exp.Null()))


@dataclass(frozen=True)
class Member:
    """A member of JSON text; some step of the path may be a list.

    Args:
        document: The JSON text.
        path: The steps.
    """

    document: exp.Expr
    path: tuple[str, ...]

    @property
    def cost(self) -> int:
        """See `Column`."""
        return 3

    def any(self, condition: Condition) -> exp.Expr:
        """See `Column`."""
        one = condition(node(JSON_TEXT, self.document, *map(text, self.path)))
        every = _any_member(self.document, self.path, condition)
        return exp.case().when(node(HAS_LIST, self.document), every).else_(one)

    def exists(self) -> exp.Expr:
        """See `Column`."""
        return self.any(lambda value: exp.not_(exp.Is(this=value, expression=exp.Null())))


@dataclass(frozen=True)
class Items:
    """A list column, or a member of the objects in one.

    Args:
        items: The list.
        member: Path of the member; empty for the items themselves.
    """

    items: exp.Expr
    member: str = ""

    @property
    def cost(self) -> int:
        """See `Column`."""
        return 1

    def any(self, condition: Condition) -> exp.Expr:
        """See `Column`."""
        variable = _variable()
        value: exp.Expr = exp.column(variable)
        for step in self.member.split(".") if self.member else ():
            value = exp.Dot(this=value, expression=exp.to_identifier(step, quoted=True))
        return node(ANY_ITEM, self.items, _lambda(variable, condition(value)))

    def exists(self) -> exp.Expr:
        """See `Column`."""
        return self.any(lambda value: exp.not_(exp.Is(this=value, expression=exp.Null())))


@dataclass(frozen=True)
class Documents:
    """A member of JSON texts in the objects of a list column.

    Args:
        items: The list.
        document: The member of its objects that is JSON text.
        path: The steps in it.
        where: Condition on the row; None for any.
    """

    items: exp.Expr
    document: str
    path: tuple[str, ...]
    where: exp.Expr | None = None

    @property
    def cost(self) -> int:
        """See `Column`."""
        return 4

    def any(self, condition: Condition) -> exp.Expr:
        """See `Column`."""
        variable = _variable()
        document = exp.Dot(this=exp.column(variable), expression=exp.to_identifier(self.document, quoted=True))
        matches = node(ANY_ITEM, self.items, _lambda(variable, Member(document, self.path).any(condition)))
        return matches if self.where is None else exp.and_(self.where.copy(), matches)

    def exists(self) -> exp.Expr:
        """See `Column`."""
        return self.any(lambda value: exp.not_(exp.Is(this=value, expression=exp.Null())))


Place = Column | Unmapped | Member | Items | Documents


@dataclass(frozen=True)
class Field:
    """Where a member stands: in the first of these places that has a value.

    Args:
        places: The places.
        note: What a reader of a rule has to know of it.
    """

    places: tuple[Place, ...]
    note: str | None = None

    @property
    def cost(self) -> int:
        """How long it takes to look at, compared with others."""
        return self.places[0].cost

    def any(self, condition: Condition) -> exp.Expr:
        """Whether a value meets a condition; null counts as no."""
        *earlier, last = self.places
        matches = last.any(condition)
        for place in reversed(earlier):
            matches = exp.case().when(place.exists(), place.any(condition)).else_(matches)
        return matches

    def exists(self) -> exp.Expr:
        """Whether there is a value."""
        return exp.or_(*(place.exists() for place in self.places))

    @property
    def value(self) -> exp.Expr:
        """One value as text, for grouping; null where there is none.

        Raises:
            ValueError: There may be several.
        """
        values = [_one(place) for place in self.places]
        return exp.Coalesce(this=values[0], expressions=values[1:]) if len(values) > 1 else values[0]

    @property
    def number(self) -> exp.Expr | None:
        """The value as a number, where it is a column of numbers."""
        (first, *others) = self.places
        if isinstance(first, Column) and first.kind is Kind.NUMBER and not others:
            return first.value.copy()
        return None

    @property
    def time(self) -> exp.Expr | None:
        """The value as milliseconds since 1970, where it is a time."""
        first = self.places[0]
        return first.value.copy() if isinstance(first, Column) and first.kind is Kind.TIME else None


class Unmappable(Exception):  # noqa: N818  it is a finding about a rule, and ends nothing
    """Why a member of a log stands nowhere in our columns."""


def anywhere(condition: Condition) -> exp.Expr:
    """Whether a value anywhere in the row meets a condition: keywords."""
    variable = _variable()
    return node(ANY_TEXT, _lambda(variable, condition(exp.column(variable))))


def _one(place: Place) -> exp.Expr:
    if isinstance(place, Column):
        return place.as_text
    if isinstance(place, Unmapped):
        return node(UNMAPPED, text(place.key))
    if isinstance(place, Member):
        return node(JSON_TEXT, place.document, *map(text, place.path))
    if isinstance(place, Documents):  # the list is ours: the record has one such object
        variable = _variable()
        document = exp.Dot(this=exp.column(variable), expression=exp.to_identifier(place.document, quoted=True))
        value = node(JSON_TEXT, document, *map(text, place.path))
        first = node(FIRST_ITEM, place.items, _lambda(variable, value))
        return first if place.where is None else exp.case().when(place.where.copy(), first)
    raise ValueError("it is a list")


def _any_member(document: exp.Expr, path: Sequence[str], condition: Condition) -> exp.Expr:
    variable = _variable()
    return node(ANY_MEMBER, document, *map(text, path), _lambda(variable, condition(exp.column(variable))))


_numbers = iter(range(1 << 62))


def _variable() -> str:
    """A name for a value; conditions may stand in one another."""
    return f"{VALUE}{next(_numbers)}"


def _lambda(variable: str, body: exp.Expr) -> exp.Expr:
    return exp.Lambda(this=body, expressions=[exp.to_identifier(variable)])
