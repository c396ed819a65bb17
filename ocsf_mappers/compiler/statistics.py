"""What records hold: members carried over and left over, and what no release knows yet, counted while they are mapped.

Counted on whole columns, by day of the event. A log can invent names and days without end, so only so many are told
apart; what lies beyond is counted under `OTHER`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from ocsf_mappers.vocabulary.record import RecordShape

OTHER = "(other)"
"""Stands for names, texts and days beyond those that are counted each."""
UNKNOWN_DAY = "unknown"

KEPT_NAMES = 1_000
KEPT_DAYS = 100
KEPT_CHARACTERS = 200

BITS = 62
"""Members in one column of `Program.member_bits`: they stay clear of the sign."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LAST_DAY = (datetime(9999, 12, 31, tzinfo=UTC) - _EPOCH).days


class DriftKind(StrEnum):
    """The kind of schema drift.

    member: a name that the mapper's record type does not declare. open_member: a name inside a member whose content
    differs by API, or around the record. value: a text that is not among those a mapper lists for a member (a new
    version of the format). enum_text: a text that an OCSF enum does not know, so that it became 99, Other.
    """

    MEMBER = "member"
    OPEN_MEMBER = "open_member"
    VALUE = "value"
    ENUM_TEXT = "enum_text"


@dataclass(frozen=True, order=True)
class SchemaDrift:
    """One thing that may be new.

    Args:
        kind: Why.
        name: Source path of a member or value, OCSF path of an enum text.
        text: The value or text; empty for members.
    """

    kind: DriftKind
    name: str
    text: str = ""


@dataclass
class FirstSeen:
    """Where something stands.

    Args:
        records: In so many records.
        object: URI of the first one's object.
        record: Number of the first one.
        day: Day of the first one's event, `YYYYMMDD`.
    """

    records: int
    object: str
    record: int
    day: str


@dataclass
class Statistics:
    """What the records of some events hold, by day of the event, `YYYYMMDD`.

    Args:
        events: Events of a day.
        mapped: Records of a day in which a declared member had a value that an attribute carries.
        unmapped: Events of a day with this name in `unmapped`.
        failed: Events of a day in which this attribute's text could not be read as its type.
        drift: What may be new.
    """

    events: Counter[str] = field(default_factory=Counter)
    mapped: Counter[tuple[str, str]] = field(default_factory=Counter)
    unmapped: Counter[tuple[str, str]] = field(default_factory=Counter)
    failed: Counter[tuple[str, str]] = field(default_factory=Counter)
    drift: dict[SchemaDrift, FirstSeen] = field(default_factory=dict)

    def add(self, other: Statistics) -> None:
        """Counts later records as well."""
        self.events.update(other.events)
        self.mapped.update(other.mapped)
        self.unmapped.update(other.unmapped)
        self.failed.update(other.failed)
        for drift, seen in other.drift.items():
            if (first_seen := self.drift.get(drift)) is None:
                self.drift[drift] = FirstSeen(**vars(seen))
            else:
                first_seen.records += seen.records
        self._bound()

    def _bound(self) -> None:
        for name in ("mapped", "unmapped", "failed"):
            counts: Counter[tuple[str, str]] = getattr(self, name)
            if len(counts) > 16 * KEPT_NAMES:
                setattr(self, name, bounded(counts, 8 * KEPT_NAMES))
        if len(self.drift) > 4 * KEPT_NAMES:
            self.drift = dict(sorted(self.drift.items(), key=_importance)[: 2 * KEPT_NAMES])


def merged(parts: Iterable[Statistics]) -> Statistics:
    """Several counts as one, in order."""
    total = Statistics()
    for part in parts:
        total.add(part)
    return total


def bounded(counts: Counter[tuple[str, str]], limit: int) -> Counter[tuple[str, str]]:
    """The largest counts; the rest of a day is together under `OTHER`."""
    if len(counts) <= limit:
        return counts
    largest = dict(sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:limit])
    result = Counter(largest)
    for (day, name), number in counts.items():
        if (day, name) not in largest:
            result[day, OTHER] += number
    return result


def _importance(item: tuple[SchemaDrift, FirstSeen]) -> tuple[bool, int, SchemaDrift]:
    drift, seen = item
    return drift.kind is DriftKind.OPEN_MEMBER, -seen.records, drift


def shortened(text: str) -> str:
    """The text, or its beginning where it is long."""
    return text if len(text) <= KEPT_CHARACTERS else f"{text[: KEPT_CHARACTERS - 1]}…"


def taken(shape: RecordShape, used: Iterable[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """The declared members that some event map carries over, in the order of the declaration."""
    paths = set(used)
    return [path for path in shape.leaves if path in paths]


def bits(tests: Sequence[str]) -> Iterator[str]:
    """SQL for columns whose bits say which of the tests hold; a test is not null where it holds."""
    for start in range(0, len(tests), BITS):
        places = enumerate(tests[start : start + BITS])
        columns = [f"CASE WHEN {test} THEN {1 << place} ELSE 0 END" for place, test in places]
        yield f"({' + '.join(columns)})::BIGINT"


def day_name(day: int) -> str:
    """`YYYYMMDD` of a number of days since 1970-01-01."""
    return (_EPOCH + timedelta(days=day)).strftime("%Y%m%d") if 0 <= day <= _LAST_DAY else UNKNOWN_DAY
