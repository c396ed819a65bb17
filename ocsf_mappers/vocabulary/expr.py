"""How a mapper is written: expressions over source columns.

An expression wraps a word (see `word`) in the methods that make further words of it. The names are polars' (`col`,
`when().then().otherwise()`, `coalesce`, `replace`). A source value is text unless a method says otherwise; casts to the
OCSF type happen where the expression meets its attribute.

```python
col.action.replace(ACCEPT="Traffic", REJECT="Refuse")
when(col.flow_direction == "egress").then(col.vpc_id)
coalesce(col.pkt_srcaddr, col.srcaddr)
col.start.epoch_seconds()
col.resources.each({"uid": col.ARN, "type": col.type})
text("arn:{}:s3:::{}", col.partition, col.name)
obj({"ip": col.srcaddr, "port": col.srcport}, needs="ip")
```
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from string import Formatter
from types import MethodType
from typing import NoReturn, TypeAlias

from ocsf_mappers.errors import MappingError, nearest
from ocsf_mappers.vocabulary import lists, predicates, texts, values
from ocsf_mappers.vocabulary.record import Path
from ocsf_mappers.vocabulary.word import Word


class Expr:
    """A value computed from the columns of one record; combine expressions with the methods below."""

    __slots__ = ("_word",)

    def __init__(self, word: Word) -> None:
        self._word = word

    # -- values -----------------------------------------------------------------------------------------------------
    def replace(
        self, mapping: Mapping[str, str] | None = None, /, *, otherwise: Value | None = None, **named: str
    ) -> Expr:
        """Text swapped by table; text outside the table passes through, or becomes `otherwise` when that is given."""
        pairs = tuple({**(mapping or {}), **named}.items())
        return Expr(texts.Replace(self._word, pairs, None if otherwise is None else as_word(otherwise)))

    def replace_prefix(self, mapping: Mapping[str, str], *, otherwise: Value) -> Expr:
        """The value of the first key that the text starts with, in upper or lower case.

        It keeps only a class of the text: consumes nothing.
        """
        return Expr(texts.ReplacePrefix(self._word, tuple(mapping.items()), as_word(otherwise)))

    def json(self, *keys: str) -> Expr:
        """One member of a JSON column, as text; several keys go down one level each."""
        return Expr(values.Json(self._word, keys))

    def extract(self, pattern: str) -> Expr:
        """The first group of an RE2 pattern, null where it does not match. Consumes nothing."""
        return Expr(texts.Extract(self._word, pattern))

    def every(self, path: str) -> Expr:
        """The values at a path inside a JSON column, `[]` standing for each item: `every("threats[].paths[]")`.

        For `each`; it consumes nothing, so what it reads is carried over by something else or stays in `unmapped`.
        """
        return Expr(lists.Every(self._word, path))

    def each(self, fields: Mapping[str, Value], *, or_empty: bool = False) -> Expr:
        """One object per element of a JSON array of objects; a JSON object counts as an array of one.

        Inside, `col.x` means the element's member `x`, `element` the element itself and `outer.x` the record's
        column. An empty element (`{}`, null), one that maps to nothing, and constants alone make no object. Several
        `each` in a list are one list of objects after the other. `or_empty` gives an empty list instead of null where
        the record has no array: for lists whose emptiness is itself an answer.
        """
        return Expr(lists.Each(self._word, tuple(flat(fields)), or_empty))

    def band(self, floors: Mapping[int, str], *, otherwise: Value) -> Expr:
        """The text of the highest floor that a number reaches, null where it is no number. Consumes nothing."""
        return Expr(texts.Band(self._word, tuple(sorted(floors.items(), reverse=True)), as_word(otherwise)))

    def each_of(self, path: str | None = None, *, where: Expr | None = None, text: Value | None = None) -> Expr:
        """A list of texts from a JSON array: what is at a path in each element, or a text made of it.

        Inside `where` and `text`, `col.x` means the element's member `x`, as in `each`. Null and blank texts are left
        out. It consumes the array only where it takes all of it: without path, condition and text.
        """
        condition = None if where is None else as_condition(where)
        return Expr(lists.EachOf(self._word, path, condition, None if text is None else as_word(text)))

    def as_written(self) -> Expr:
        """The text of a column or member even where it is one that the mapper calls blank.

        Raises:
            MappingError: It is neither.
        """
        if not isinstance(self._word, values.Column | values.Json):
            raise MappingError("as_written() is for a column, or a member of one")
        return Expr(replace(self._word, as_written=True))

    def lower(self) -> Expr:
        """Text in lower case."""
        return Expr(texts.Lower(self._word))

    def where(self, condition: Expr) -> Expr:
        """The value where the condition holds, else null: `when(condition).then(value)`; of `each`, no element."""
        return Expr(lists.where(self._word, as_condition(condition)))

    # -- times ------------------------------------------------------------------------------------------------------
    def epoch_seconds(self, *, fraction: bool = False) -> Expr:
        """Unix seconds, UTC, as a point in time; `fraction` also takes decimals, such as `1639010703.5`."""
        return Expr(texts.Epoch(self._word, 1_000_000, fraction))

    def epoch_millis(self) -> Expr:
        """Unix milliseconds, UTC, as a point in time."""
        return Expr(texts.Epoch(self._word, 1_000))

    def epoch_micros(self) -> Expr:
        """Unix microseconds, UTC, as a point in time."""
        return Expr(texts.Epoch(self._word, 1))

    def iso8601(self) -> Expr:
        """ISO 8601 text with date and time as a point in time; without an offset it is UTC."""
        return Expr(texts.Iso8601(self._word))

    def seconds_to_millis(self) -> Expr:
        """A number of seconds, decimals too, as whole milliseconds; null where it is negative or none."""
        return Expr(texts.Millis(self._word))

    # -- claims -----------------------------------------------------------------------------------------------------
    def is_null(self) -> Expr:
        """Whether the value is missing."""
        return Expr(predicates.IsNull(self._word))

    def is_not_null(self) -> Expr:
        """Whether there is a value."""
        return Expr(predicates.Not(predicates.IsNull(self._word)))

    def is_in(self, *texts: str) -> Expr:
        """Whether the text is one of these."""
        return Expr(predicates.IsIn(self._word, texts))

    def matches(self, pattern: str) -> Expr:
        """Whether an RE2 pattern is found anywhere in the text."""
        return Expr(predicates.Test("regexp_matches", self._word, pattern))

    def contains(self, text: str) -> Expr:
        """Whether the text contains this text."""
        return Expr(predicates.Test("contains", self._word, text))

    def starts_with(self, text: str) -> Expr:
        """Whether the text begins with this text."""
        return Expr(predicates.Test("starts_with", self._word, text))

    def ends_with(self, text: str) -> Expr:
        """Whether the text ends with this text."""
        return Expr(predicates.Test("ends_with", self._word, text))

    def __eq__(self, other: object) -> Expr:  # type: ignore[override]
        return Expr(predicates.Compare("=", self._word, as_word(other)))

    def __ne__(self, other: object) -> Expr:  # type: ignore[override]
        return Expr(predicates.Compare("<>", self._word, as_word(other)))

    def __and__(self, other: Expr) -> Expr:
        return Expr(predicates.Logic("AND", as_condition(self), as_condition(other)))

    def __or__(self, other: Expr) -> Expr:
        return Expr(predicates.Logic("OR", as_condition(self), as_condition(other)))

    def __invert__(self) -> Expr:
        return Expr(predicates.Not(as_condition(self)))

    def __bool__(self) -> NoReturn:
        raise MappingError("an expression has no truth value yet: combine with & | ~ and test with when(...)")

    __hash__ = object.__hash__


Value: TypeAlias = "Expr | Obj | str | int | bool | Sequence[Expr | str | int] | Mapping[str, Value]"


class Obj:
    """An object: OCSF attributes below the path at which it stands."""

    def __init__(self, fields: Mapping[str, Value], needs: Sequence[str] = ()) -> None:
        self._words = dict(flat(fields))
        self._needs = needs
        for path in needs:
            if path not in self._words:
                raise MappingError(f"the object needs {path!r}, which it does not map{nearest(path, self._words)}")
            if self._words[path].is_constant or lists.parts(self._words[path]):
                raise MappingError(f"the object needs {path!r}, which is no value of the record: name one that is")

    def words(self) -> Iterator[tuple[str, Word]]:
        """Path below the object and word of everything in it, null where nothing that it needs is there."""
        if not self._needs:
            yield from self._words.items()
            return
        # A default is no value of its own.
        needed = tuple(values.without_default(self._words[path]) for path in self._needs)
        there = predicates.Not(predicates.IsUnread(needed))
        for path, word in self._words.items():
            yield path, word if path in self._needs else lists.where(word, there)


class Column(Expr):
    """A source column, or a member of one: `col.userIdentity.arn`, `col["detail-type"]`."""

    __slots__ = ("_path",)

    def __init__(self, path: Path) -> None:
        super().__init__(values.Column(path))
        self._path = path

    def __getattr__(self, name: str) -> Column:
        if name.startswith("__") or name in ("_word", "_path"):
            raise AttributeError(name)
        return Column((*self._path, name))

    def __getitem__(self, name: str) -> Column:
        return Column((*self._path, name))


class When:
    """A condition waiting for its value."""

    def __init__(self, condition: Expr, before: tuple[tuple[Word, Word], ...] = ()) -> None:
        self._condition = condition
        self._before = before

    def then(self, value: Value) -> Case:
        """The value where the condition holds."""
        return Case((*self._before, (as_condition(self._condition), as_word(value))))


class Case(Expr):
    """The value of the first branch whose condition holds; null when none does."""

    __slots__ = ("_branches",)

    def __init__(self, branches: tuple[tuple[Word, Word], ...]) -> None:
        super().__init__(values.Case(branches))
        self._branches = branches

    def when(self, condition: Expr) -> When:
        """Another branch, tried when the ones before did not hold."""
        return When(condition, self._branches)

    def otherwise(self, value: Value) -> Expr:
        """The value when no branch holds."""
        return Expr(values.Case(self._branches, as_word(value)))


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
outer = _Columns(values.OUTER)
"""Inside `each`: the record's columns. A text is consumed where some element of the finished list holds it."""
element = Column((values.ELEMENT,))
"""Inside `each`: the element itself, a text or, of anything else, its JSON text."""


def when(condition: Expr) -> When:
    """Start a conditional value: `when(col.a == "x").then(col.b).otherwise("y")`."""
    return When(condition)


def obj(fields: Mapping[str, Value], *, needs: str | Sequence[str] = ()) -> Obj:
    """An object that exists only where one of the attributes that it needs does: `obj({...}, needs="ip")`.

    Without `needs` it is the same as its fields alone, `{...}`.
    """
    return Obj(fields, (needs,) if isinstance(needs, str) else needs)


def flat(fields: Mapping[str, Value]) -> Iterator[tuple[str, Word]]:
    """Path and word of everything in a table of fields, objects entered.

    Raises:
        MappingError: A value has no meaning in a mapping; names its path.
    """
    for path, value in fields.items():
        if isinstance(value, Obj | Mapping):
            inner = value if isinstance(value, Obj) else Obj(value)
            yield from ((f"{path}.{below}", word) for below, word in inner.words())
        else:
            try:
                word = as_word(value)
            except MappingError as error:
                raise MappingError(f"{path}: {error}") from error
            yield path, word


def list_of(*given: Value) -> Expr:
    """A list of the values that are not null; null where all are. An attribute takes a Python list as well."""
    return Expr(values.ListOf(tuple(map(as_word, given))))


def first(*given: Value, default: str) -> Expr:
    """The first value that is not null, else the default: a text that OCSF wants, and that makes no object by itself.

    A value that is the same text counts as the default.
    """
    return Expr(values.First(tuple(map(as_word, given)), default))


def text(template: str, *given: Value) -> Expr:
    """Values put into a text, null where one of them is: `text("arn:{}:s3:::{}", outer.partition, col.name)`.

    Raises:
        MappingError: There is not one `{}` for each value.
    """
    pieces, marks = [""], []
    try:
        for literal, *mark in Formatter().parse(template):
            pieces[-1] += literal
            if mark[0] is not None:
                marks.append(mark)
                pieces.append("")
    except ValueError as error:
        raise MappingError(f"text({template!r}): {error}; write {{{{ or }}}} for a brace") from error
    if any(mark != ["", "", None] for mark in marks) or len(marks) != len(given) or not given:
        raise MappingError(f"text({template!r}) needs one {{}} for each of its {len(given)} values")
    return Expr(values.Text(tuple(pieces), tuple(map(as_word, given))))


def coalesce(*given: Value) -> Expr:
    """The first value that is not null; later ones are consumed only where they are used or equal."""
    return Expr(values.Coalesce(tuple(map(as_word, given))))


def sql(template: str, *, reads: Sequence[Expr], carries: bool = True) -> Expr:
    """DuckDB SQL with `{0}`, `{1}`... standing for the values read, in order: `sql("upper({0})", reads=[col.x])`.

    It consumes what it reads, unless `carries` says that it keeps but a part. A list is given as JSON text. What stands
    for a value may be the name of a column of the query, a word and a number such as `field0`: the variable of a lambda
    must not be called so.
    """
    return Expr(values.Sql(template, tuple(map(as_word, reads)), carries))


def as_word(value: object) -> Word:
    """The word of an expression; a Python constant or list as a word, a word as it is.

    Raises:
        MappingError: The value is of a type that has no meaning in a mapping.
    """
    if isinstance(value, Word):
        return value
    if isinstance(value, Expr):
        return value._word
    if isinstance(value, str | int | bool):
        return values.Literal(value)
    if isinstance(value, list | tuple):
        return values.ListOf(tuple(map(as_word, value)))
    if isinstance(value, MethodType) and isinstance(value.__self__, Column):
        name = value.__name__
        raise MappingError(f'{name}() is a word: write col["{name}"] where a member of the record is called so')
    raise MappingError(f"{value!r} cannot stand in a mapping: give text, a number, a column or an expression")


def as_condition(value: object) -> Word:
    """The word of a condition.

    Raises:
        MappingError: The value is not true or false of a record, such as a text, or a comparison of no column.
    """
    if isinstance(value, Expr) and isinstance(value._word, predicates.Claim | values.Sql):
        return value._word
    shown = "this expression" if isinstance(value, Expr) else repr(value)
    raise MappingError(f'{shown} is not a condition: compare a value, as in col.a == "x" or col.a.is_not_null()')
