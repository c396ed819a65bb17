"""What a lake has of each day, by source and account: the table of days on a page.

Where hours are judged (`ocsf_lake.upkeep.coverage`), a day is as bad as its worst hour in any region. Otherwise nothing
says what was due: a day has events of its own, or it is unknown.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from importlib import import_module
from importlib.util import find_spec
from itertools import groupby
from typing import Any

from ocsf_lake.config import Settings
from ocsf_lake.lake import Lake
from ocsf_lake.ledger import reported
from ocsf_lake.storage import layout
from ocsf_mappers.errors import ConfigError

HOURS = "ocsf_lake.upkeep.coverage"
_HOURS_A_DAY = 24

WORST = (
    "missing", "suspicious gap", "late", "present", "unknown", "complete and proved", "empty and proved",
    "not expected",
)  # fmt: skip
"""States of hours, those first that a day takes over from one of its hours."""
MISSING = ("missing", "suspicious gap")
TEXTS = {
    "complete and proved": "digests name every log file of it, and the lake has them",
    "empty and proved": "digests prove that nothing was delivered",
    "present": "the lake has something; nothing proves that it is all",
    "missing": "it is known that something is not there",
    "suspicious gap": "there is nothing, and by the log's history there should be",
    "late": "it may still come",
    "not expected": "a call switched the log off",
    "unknown": "there is nothing, and nothing says whether there should be",
}
CELLS = 15_000
"""A page has so many cells, rows with gaps first; accounts without a row are counted in words."""


@dataclass
class Row:
    """One account of one source.

    Args:
        account: Its number; `unknown` where none is known.
        days: The state of each day.
    """

    account: str
    days: list[str]

    @property
    def missing(self) -> int:
        """On how many days something is missing, or seems to be."""
        return sum(state in MISSING for state in self.days)

    @property
    def spans(self) -> Iterator[tuple[str, int, int]]:
        """State, first and last index of days with gaps that follow each other."""
        for state, same in groupby(enumerate(self.days), key=lambda item: item[1]):
            places = [place for place, _ in same]
            if state in MISSING:
                yield state, places[0], places[-1]


@dataclass
class Source:
    """One source.

    Args:
        name: Its name.
        rows: Its accounts, those with most missing days first.
        hidden: Accounts that are left out of the table.
    """

    name: str
    rows: list[Row] = field(default_factory=list)
    hidden: int = 0
    _all: Counter[str] = field(default_factory=Counter)

    @property
    def counts(self) -> Counter[str]:
        """How many days of accounts there are of each state, those left out among them."""
        return self._all

    def settle(self) -> None:
        """Sorts and counts the rows, once they are all there."""
        self.rows.sort(key=lambda row: (-row.missing, row.account))
        for row in self.rows:
            self._all.update(row.days)


@dataclass
class Heat:
    """The table of days.

    Args:
        days: The days.
        sources: What each has, by name.
        judged: Whether hours were judged; without it no day can be missing.
    """

    days: Sequence[date]
    sources: list[Source]
    judged: bool

    @property
    def missing(self) -> int:
        """Days of accounts on which something is missing, or seems to be."""
        return sum(source.counts[state] for source in self.sources for state in MISSING)

    @property
    def unknown(self) -> int:
        """Days of accounts of which nothing is known."""
        return sum(source.counts["unknown"] for source in self.sources)

    @property
    def accounts(self) -> int:
        """How many accounts there are."""
        return len({row.account for source in self.sources for row in source.rows})

    @property
    def share(self) -> float | None:
        """Share of the days, of which it is known, that lack nothing; None where nothing is known."""
        total = sum((source.counts for source in self.sources), Counter())
        known_days = sum(number for state, number in total.items() if state not in ("unknown", "not expected", "late"))
        return 1 - self.missing / known_days if known_days and self.judged else None

    def gaps(self) -> Iterator[tuple[Source, Row, str, date, date]]:
        """Days with gaps that follow each other: source, account, state, first and last day."""
        for source in self.sources:
            for row in source.rows:
                for state, first, last in row.spans:
                    yield source, row, state, self.days[first], self.days[last]


def of_days(lake: Lake, settings: Settings, days: Sequence[date], now: datetime) -> Heat:
    """What the lake has of these days, which follow each other."""
    states, judged = _seen(lake, days), False
    if find_spec(HOURS) is not None:
        try:
            judged_states = _judged(settings, days, now)
        except ConfigError:  # no object's name says a day
            judged_states = {}
        judged = bool(judged_states)
        # Sources whose objects' names say no day have their events all the same.
        sources = {source for source, _ in judged_states}
        states = judged_states | {key: row for key, row in states.items() if key[0] not in sources}
    by_source: dict[str, Source] = {}
    for (source, account), row in sorted(states.items()):
        by_source.setdefault(source, Source(source)).rows.append(Row(account, row))
    for item in by_source.values():
        item.settle()
    return Heat(days, list(by_source.values()), judged)


def fold(heat: Heat, cells: int = CELLS) -> Heat:
    """The same with few enough rows for a page: where not all fit, those with gaps, the worst first."""
    most = max(1, cells // max(1, len(heat.days)))
    if sum(len(source.rows) for source in heat.sources) <= most:
        return heat
    worst = sorted((row for source in heat.sources for row in source.rows if row.missing), key=lambda row: -row.missing)
    kept = {id(row) for row in worst[:most]}
    sources = []
    for source in heat.sources:
        rows = [row for row in source.rows if id(row) in kept]
        sources.append(Source(source.name, rows, len(source.rows) - len(rows), source.counts))
    return Heat(heat.days, sources, heat.judged)


def _seen(lake: Lake, days: Sequence[date]) -> dict[tuple[str, str], list[str]]:
    """What has events on which day, as the ledger knows it."""
    place = {f"{day:%Y%m%d}": number for number, day in enumerate(days)}
    states: dict[tuple[str, str], list[str]] = {}
    first, last = f"{days[0]:%Y%m%d}", f"{days[-1]:%Y%m%d}"
    for source, account, day, rows in reported.places(lake.ledger.engine, first, last):
        if day in place and rows:
            states.setdefault((source, account), ["unknown"] * len(days))[place[day]] = "present"
    return states


def _judged(settings: Settings, days: Sequence[date], now: datetime) -> dict[tuple[str, str], list[str]]:
    """What is known of each day by its hours."""
    hours: Any = import_module(HOURS)
    rank = {state: number for number, state in enumerate(WORST)}
    rows: dict[tuple[str, str], list[str]] = {}
    if now.astimezone(UTC).date() < days[0]:
        return rows
    _, streams = hours.covered(settings, hours.Asked(first=days[0], last=days[-1]), now)
    midnight = datetime(days[0].year, days[0].month, days[0].day, tzinfo=UTC)
    start = int(midnight.timestamp()) // 3_600
    for stream in streams:
        account = stream.name.account or layout.UNKNOWN
        row = rows.setdefault((stream.name.source, account), [])
        row += [""] * (len(days) - len(row))
        for number in range(len(days)):
            at = start + number * _HOURS_A_DAY - stream.first
            codes = {str(hours.ALL[code]) for code in set(stream.codes[max(0, at) : max(0, at + _HOURS_A_DAY)])}
            states = codes | ({row[number]} if row[number] else set())
            row[number] = min(states, key=lambda state: rank.get(state, 0)) if states else ""
    return {key: [state or "unknown" for state in row] for key, row in rows.items()}


def day_range(first: date, last: date) -> list[date]:
    """The days from one to another, both included."""
    return [first + timedelta(days=number) for number in range((last - first).days + 1)]
