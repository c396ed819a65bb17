"""How long logs take into the lake: from the time in an object's name to the commit of its events."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from ocsf_lake.inputs import discovery
from ocsf_lake.lake import Lake
from ocsf_lake.ledger import reported

OBJECTS = 100_000
"""So many objects are looked at, the latest first."""
_FINE = ("second", "minute")
"""Names that say no more than the hour say nothing of minutes."""


@dataclass(frozen=True)
class Lag:
    """Of one source, and of one day of delivery, in minutes.

    Args:
        source: Its name.
        day: The day.
        median: As long as half of its objects took at most.
        p95: As long as 95 of 100 took at most.
        objects: How many there were.
    """

    source: str
    day: date
    median: float
    p95: float
    objects: int


@dataclass(frozen=True)
class Lags:
    """All of them.

    Args:
        rows: By source and day.
        untimed: Sources whose objects' names have no time that is fine enough.
        cut: Whether there were more objects than were looked at.
    """

    rows: list[Lag]
    untimed: list[str]
    cut: bool

    def newest(self) -> list[Lag]:
        """Of each source the last day of which something is known."""
        return list({row.source: row for row in self.rows}.values())


def of_days(lake: Lake, first: date, last: date, limit: int = OBJECTS) -> Lags:
    """The lag of what was delivered on these days."""
    since = f"{first:%Y-%m-%d}"
    minutes: dict[tuple[str, date], list[float]] = {}
    sources: set[str] = set()
    number = 0
    for source, uri, done_at in reported.arrivals(lake.ledger.engine, since, limit):
        number += 1
        sources.add(source)
        time, window = discovery.time_of(uri)
        if time is None or window not in _FINE:
            continue
        begun = _moment(time)
        if first <= begun.date() <= last:
            took = (_moment(done_at) - begun) / timedelta(minutes=1)
            minutes.setdefault((source, begun.date()), []).append(took)
    timed = {source for source, _ in minutes}
    rows = [Lag(source, day, *_middle(values), len(values)) for (source, day), values in sorted(minutes.items())]
    return Lags(rows, sorted(sources - timed), number >= limit)


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _middle(values: Iterable[float]) -> tuple[float, float]:
    ordered = sorted(values)
    return ordered[(len(ordered) - 1) // 2], ordered[min(len(ordered) - 1, -(-len(ordered) * 95 // 100) - 1)]
