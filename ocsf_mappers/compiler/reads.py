"""Where expressions find their values: in a record, or in one element of a list.

To look a member up, DuckDB reads the whole JSON text. Inside lists a mapping names dozens of members of the same text:
they are taken out together, in one pass, and each is then an item of a list of texts.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence

from ocsf_mappers import sqltext
from ocsf_mappers.readers.tabular import column_name
from ocsf_mappers.vocabulary.record import CARRIER, CARRIER_COLUMNS, OBJECT_KEY, Path
from ocsf_mappers.vocabulary.values import ELEMENT, OUTER, Column, Json
from ocsf_mappers.vocabulary.word import ABSENT, LONG_TABLE, Member, Resolver, Word, without_blank


class Columns:
    """Columns of a layer of the query: what several expressions want is computed once, under a name.

    Args:
        prefix: What the names begin with.
    """

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._names: dict[str, str] = {}

    def named(self, sql: str) -> str:
        """The name of the column that holds what some SQL gives."""
        return self._names.setdefault(sql, f"{self._prefix}{len(self._names)}")

    def selected(self) -> list[str]:
        """The columns that have been asked for so far, as SELECT lists them."""
        return [f"{sql} AS {name}" for sql, name in self._names.items()]


class Record(Resolver):
    """The record's columns.

    Args:
        columns: Declared columns of a text log; None for JSON text, whose members are those of the struct `r`.
        object_key: Columns from the object's own name that are present.
        leaves: Every declared member, and whether it is JSON.
        blank: Texts that say nothing.
        envelope: Whether something stood around records, in `_envelope`.
    """

    def __init__(
        self,
        columns: frozenset[str] | None,
        object_key: tuple[str, ...],
        leaves: Mapping[Path, bool],
        blank: Sequence[str] = (),
        *,
        envelope: bool = False,
    ) -> None:
        self._columns = columns
        self._object_key = object_key
        self._leaves = leaves
        self._blank = tuple(blank)
        self._envelope = envelope
        self.fields, self.nonblank_columns, self.tables = Columns("field"), Columns("known"), Columns("table")
        """Members of `r`, members and columns without blank texts, and constants."""
        self._shared: dict[Word, tuple[str, str]] = {}
        self.casts: dict[Word, Callable[[str], str]] = {}
        """What makes numbers of some values, where all attributes that they fill are such; null where they are none."""

    def __call__(self, path: Path) -> str:
        """SQL for a source column."""
        if path[0] == CARRIER:
            return f"({CARRIER_COLUMNS[path[1]]})" if self._envelope else ABSENT
        if path[0] == OBJECT_KEY:
            return f"_key_{path[1]}" if path[1] in self._object_key else ABSENT
        if self._columns is None:
            member = "r." + ".".join(sqltext.name(step) for step in path)
            return self.fields.named(member)
        return sqltext.name(column_name(path[0])) if path[0] in self._columns else ABSENT

    def is_json(self, path: Path) -> bool:
        """Whether a column surely holds JSON: an open-ended member of a JSON record, which has been parsed."""
        return self._columns is None and self._leaves.get(path, False)

    def nonblank(self, path: Path) -> str:
        """SQL for a column, null where its text says nothing: that is asked once."""
        text = super().nonblank(path)
        return text if text == self(path) else self.nonblank_columns.named(text)

    def blank(self, path: Path) -> tuple[str, ...]:
        """The texts that say nothing in a column."""
        return () if self._leaves.get(path, False) else self._blank

    def is_unread(self, word: Word) -> str:
        """SQL that is true where a value is missing, or none of its attribute's type."""
        return f"({self.casts[word](word.sql(self))} IS NULL)" if word in self.casts else self.is_null(word)

    def shared(self, word: Word, sql: str) -> str:
        """A column that is computed once a record, however many expressions read it."""
        return self._shared.setdefault(word, (f"b{len(self._shared)}", sql))[0]

    def table_column(self, sql: str) -> str:
        """The name of a column that holds a constant."""
        return self.tables.named(sql)

    def shared_columns(self) -> list[str]:
        """The columns that `shared` refers to, those first that others read."""
        return [f"{sql} AS {name}" for name, sql in self._shared.values()]


class SharedRecord(Resolver):
    """The same columns; members of those that hold JSON are taken out once, ahead of all that reads them."""

    def __init__(self, record: Record) -> None:
        self._record = record
        self._members: dict[str, dict[str, int]] = {}
        self.taken = Columns("member")
        """Members of JSON columns, null where they say nothing."""

    def __call__(self, path: Path) -> str:
        """SQL for a source column."""
        return self._record(path)

    def member(self, word: Member) -> str:
        """SQL for a member of a JSON column, taken out beforehand."""
        if not self._is_json(word.inner):
            return word.taken(self)
        text = word.inner.sql(self._record)
        places = self._members.setdefault(text, {})
        place = _place(places, sqltext.pointer(*word.keys))
        return f"q{list(self._members).index(text)}[{place}]"

    def nonblank_member(self, word: Member, blank: tuple[str, ...]) -> str:
        """SQL for a member of a JSON value, null where its text says nothing: of JSON columns that is asked once."""
        text = super().nonblank_member(word, blank)
        return self.taken.named(text) if self._is_json(word.inner) else text

    def _is_json(self, word: Word) -> bool:
        """Whether members can be taken out of it for every record: a text may be no JSON where no mapping looks in."""
        return isinstance(word, Column) and self._record.is_json(word.path)

    def blank(self, path: Path) -> tuple[str, ...]:
        """The texts that say nothing in a column."""
        return self._record.blank(path)

    def nonblank(self, path: Path) -> str:
        """SQL for a source column, null where its text says nothing."""
        return self._record.nonblank(path)

    def is_unread(self, word: Word) -> str:
        """SQL that is true where a value is missing, or none of its attribute's type."""
        return self._record.is_unread(word)

    def shared(self, word: Word, sql: str) -> str:
        """A column that is computed once a record."""
        return self._record.shared(word, sql)

    def table_column(self, sql: str) -> str:
        """The name of a column that holds a constant."""
        return self._record.table_column(sql)

    def columns(self) -> Iterator[str]:
        """The columns that `member` refers to, as far as it has been asked."""
        for number, (text, places) in enumerate(self._members.items()):
            yield f"{_extracted(text, places)} AS q{number}"


class Element(Resolver):
    """What the fields of one `each` read of an element; `read` gives the list that they read it from.

    Args:
        variable: Name of the lambda's variable that stands for what is taken out of an element.
        record: The record around it.
        fields: The expressions that are rendered with this object.
        extra: Further values of each element: name -> SQL over `i`, the element.
        casts: As of `Record`.
    """

    def __init__(
        self,
        variable: str,
        record: Resolver,
        fields: Iterator[Word],
        extra: dict[str, str] | None = None,
        casts: Mapping[Word, Callable[[str], str]] | None = None,
    ) -> None:
        self._variable = variable
        self._record = record
        self._extra = extra or {}
        self._members: dict[str, dict[str, int]] = {"a": {}, "w": {}}
        """The members that are read, without blank texts (`a`) and as they are written (`w`), and their places."""
        self._inner: dict[str, dict[str, int]] = {}
        self._casts = casts or {}
        self._plain = not self._extra and not any(_looks_inside(word) or _is_written(word) for word in fields)

    @property
    def record(self) -> Resolver:
        """What the record's own columns are read from."""
        return self._record

    def __call__(self, path: Path, kind: str = "w") -> str:
        """SQL for a member of the element, for the element itself, or for a column of the record."""
        if path[0] == OUTER:
            return self._record(path[1:])
        if path == (ELEMENT,):
            return self._member(sqltext.text("$"), kind)
        return self._member(sqltext.pointer(*(path[1:] if path[0] == ELEMENT else path)), kind)

    def _member(self, pointer: str, kind: str) -> str:
        assert kind == "a" or not self._plain
        # Not a struct of declared members: DuckDB's struct names ignore case, and logs hold both `ARN` and `arn`.
        return f"{self._variable}{'' if self._plain else f'.{kind}'}[{_place(self._members[kind], pointer)}]"

    def member(self, word: Member) -> str:
        """SQL for a member of a JSON value that an expression makes."""
        if isinstance(word.inner, Column) and _is_outer(word.inner):
            return self._record.member(Json(Column(word.inner.path[1:]), word.keys))
        if _looks_inside(word.inner):
            return word.taken(self)
        text = word.inner.sql(self)
        places = self._inner.setdefault(text, {})
        place = _place(places, sqltext.pointer(*word.keys))
        return f"{self._variable}.d{list(self._inner).index(text)}[{place}]"

    def nonblank_member(self, word: Member, blank: tuple[str, ...]) -> str:
        """SQL for a member of a JSON value, null where its text says nothing."""
        if isinstance(word.inner, Column) and _is_outer(word.inner):
            return self._record.nonblank_member(Json(Column(word.inner.path[1:]), word.keys), blank)
        return super().nonblank_member(word, blank)

    def blank(self, path: Path) -> tuple[str, ...]:
        """The texts that say nothing in an element's member, or in a column of the record."""
        return self._record.blank(path[1:] if path[0] == OUTER else (ELEMENT,))

    def is_unread(self, word: Word) -> str:
        """SQL that is true where a value is missing, or none of its attribute's type."""
        return f"({self._casts[word](word.sql(self))} IS NULL)" if word in self._casts else self.is_null(word)

    def nonblank(self, path: Path) -> str:
        """SQL for a column, null where its text says nothing: of all members that is asked once, in `read`."""
        if path[0] == OUTER:
            return self._record.nonblank(path[1:])
        return self(path, "a")

    def table(self, entries: Mapping[str, str] | tuple[str, ...]) -> str | None:
        """The name of the record's column with a long table."""
        if len(entries) < LONG_TABLE:
            return None
        kind = '"MAP(VARCHAR, VARCHAR)"' if isinstance(entries, Mapping) else '["VARCHAR"]'
        return self._record.table_column(f"from_json({sqltext.text(json.dumps(entries))}, {sqltext.text(kind)})")

    def read(self, elements: str, using_sql: str) -> str:
        """SQL for the members that some SQL refers to, taken out of each of some elements.

        Args:
            elements: SQL of the list of elements.
            using_sql: The SQL that refers to them.
        """
        inner = {f"d{number}": _extracted(text, places) for number, (text, places) in enumerate(self._inner.items())}
        inner = {name: sql for name, sql in inner.items() if f"{self._variable}.{name}[" in using_sql}
        texts = {kind: _extracted("i", places) for kind, places in self._members.items()}
        if blank := self.blank((ELEMENT,)):
            texts["a"] = f"list_transform({texts['a']}, lambda t: {without_blank('t', blank)})"
        if self._plain:
            return f"list_transform({elements}, lambda i: {texts['a']})" if self._members["a"] else elements
        read_of = "".join([using_sql, *inner.values()])
        members = {kind: sql for kind, sql in texts.items() if f"{self._variable}.{kind}[" in read_of} | self._extra
        objects = f"list_transform({elements}, lambda i: {_struct(members)})" if members else elements
        if not inner:
            return objects
        passed = {name: f"{self._variable}.{name}" for name in members}
        return f"list_transform({objects}, lambda {self._variable}: {_struct(passed | inner)})"


def _looks_inside(word: Word) -> bool:
    """Whether a member is taken out of a value that a word makes of the element."""
    return any(isinstance(part, Json) and not _is_outer(part.inner) for part in word.every())


def _is_written(word: Word) -> bool:
    """Whether it keeps blank texts."""
    return any(isinstance(part, Column) and part.as_written for part in word.every())


def _is_outer(word: Word) -> bool:
    return isinstance(word, Column) and word.path[0] == OUTER


def _place(places: dict[str, int], pointer: str) -> int:
    return places.setdefault(pointer, len(places) + 1)


def _extracted(text: str, places: dict[str, int]) -> str:
    return f"json_extract_string({text}, [{', '.join(places)}])"


def _struct(members: dict[str, str]) -> str:
    return "{" + ", ".join(f"{name}: {sql}" for name, sql in members.items()) + "}"
