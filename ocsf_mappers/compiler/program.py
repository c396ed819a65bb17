"""What a compiled mapping is: one SQL query that gives flat columns, and how they make up the table's.

DuckDB computes values; Arrow puts them together. Constants, captions and the text of class names never pass through the
query: they are dictionaries with an index a row, which costs a byte or two where text would cost twenty.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

EVENT_MAP = "_event_map"
"""Column with the number of the event map that took the record."""


@dataclass(frozen=True)
class Caption:
    """An enum id and its sibling.

    Args:
        column: Column with the id.
        other: Column with the text of ids that are 99, None when there can be none.
        captions: For each event map, the enum's captions by id; empty where the event map does not fill it.
        sibling: Path of the sibling text, None when another field or nothing fills it.
        passes_text: For each event map, whether an id of 99 means a text that the mapping did not expect.
    """

    column: str
    other: str | None
    captions: Sequence[Mapping[int, str]]
    sibling: str | None
    passes_text: Sequence[bool] = ()


@dataclass(frozen=True)
class Observable:
    """A value that is listed among the observables.

    Args:
        name: Path as the observable gives it, with `[]` behind lists.
        path: Path of the column, or of the list that it stands in.
        members: Members to go down to in the list's elements.
        type: Caption of its type.
        type_id: Id of its type.
        shape: RE2 pattern of the values that are of this type; None for all.
        relative: Whether it is the relative form of absolute DNS names, and nothing for other names.
    """

    name: str
    path: str
    members: tuple[str, ...]
    type: str
    type_id: int
    shape: str | None = None
    relative: bool = False


@dataclass(frozen=True)
class Program:
    """A query over `batch` and the plan for its result.

    Args:
        sql: The query. Beside the columns named below it gives `_object`, `_record`, `_table`, `_failed`, `_problems`
            and `_more` (further unmapped entries, null where there are none).
        constants: Path -> the value for each event map.
        values: Path -> column.
        times: Path without `_dt` -> column of microseconds since 1970.
        captions: Path of an id -> how it and its sibling come about.
        class_captions: For each event map, the class's caption and uid.
        leftovers: Key in `unmapped` -> column, null where there is nothing left.
        observables: What is listed among the observables.
        members: Source paths of the declared members that some event map carries over.
        carriers: For each of `members`, the numbers of the event maps that carry it over.
        member_bits: Columns with a bit for each of `members`, set where the record has a value there; see
            `statistics.bits`.
        defaults: Path -> the value that stands where the log says nothing: 0 for an id that OCSF requires. It does not
            make its object exist.
        unlisted: Source path -> column with the text that is not among those the mapper lists, null elsewhere.
    """

    sql: str
    constants: Mapping[str, Sequence[str | int | bool | Sequence[str] | None]]
    values: Mapping[str, str]
    times: Mapping[str, str]
    captions: Mapping[str, Caption]
    class_captions: Sequence[tuple[str, int]]
    leftovers: Mapping[str, str]
    observables: Sequence[Observable]
    members: Sequence[str] = ()
    carriers: Sequence[frozenset[int]] = ()
    member_bits: Sequence[str] = ()
    unlisted: Mapping[str, str] = field(default_factory=dict)
    defaults: Mapping[str, int | str] = field(default_factory=dict)

    @cached_property
    def default_of(self) -> Mapping[str, int | str]:
        """The same by column."""
        columns = {path: caption.column for path, caption in self.captions.items()} | dict(self.values)
        return {columns[path]: default for path, default in self.defaults.items()}
