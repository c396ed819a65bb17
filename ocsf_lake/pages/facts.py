"""What a page says of a lake, gathered from its ledger and from a few files; nothing is changed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from importlib import import_module
from importlib.util import find_spec
from typing import Any, TypeVar

import duckdb

from ocsf_lake.config import Settings
from ocsf_lake.lake import Lake, opened
from ocsf_lake.ledger import overview, reported
from ocsf_lake.ledger.reported import New, Spent, Stored
from ocsf_lake.pages import asked, heat, lag
from ocsf_lake.storage import layout
from ocsf_lake.upkeep import health
from ocsf_mappers.compiler.statistics import DriftKind
from ocsf_mappers.errors import ConfigError, OcsfMappersError
from ocsf_mappers.ocsf import schema as ocsf

T = TypeVar("T")
DAYS = 30
"""So many days are looked at where none are named."""
MOST_DAYS = 400
HOLDS = "ocsf_lake.ledger.holds"
DRIFT = 40
"""So much drift is listed."""
_ASIDE = (layout.QUARANTINE, layout.OUTCOMES, layout.DUPLICATES)
_NO_CLASS = "no class"


@dataclass
class Facts:
    """A lake, as it was at one moment.

    Args:
        settings: The settings in force.
        now: The moment, UTC.
        days: The days that are looked at.
        heat: What the lake has of each.
        lags: How long logs took.
        volume: Day and class -> events.
        refused: What is in quarantine.
        spent: Source -> what its batches took that were done in these days.
        stored: Its tables.
        aside_bytes: Size of files that are no part of the lake any more, and still there.
        drift: What was new in these days.
        drift_number: How much of it there is.
        findings: Findings of these days, counted.
        alarms: What is not as it should be.
        not_read: Objects that were not read.
        failing: Batches that fail.
        replaced: Keys of which more than one content was read.
        without_source: Tables of which nothing is known.
        listed: Source -> a URI at which it was looked for.
        events_of: Source -> event day -> events.
        holds: Legal holds in force.
        not_looked: What the page does not say, and why.
    """

    settings: Settings
    now: datetime
    days: list[date]
    heat: heat.Heat
    lags: lag.Lags
    volume: dict[tuple[date, str], int]
    spent: dict[str, Spent]
    stored: list[Stored]
    aside_bytes: int
    drift: list[New]
    drift_number: int
    not_read: list[overview.NotRead]
    failing: list[overview.Failing]
    replaced: int
    without_source: list[str]
    listed: dict[str, str]
    events_of: dict[str, dict[date, int]] = field(default_factory=dict)
    holds: int = 0
    alarms: list[health.Alarm] = field(default_factory=list)
    refused: asked.Refused = field(default_factory=asked.Refused)
    findings: list[asked.FindingCount] = field(default_factory=list)
    not_looked: list[str] = field(default_factory=list)

    @property
    def classes(self) -> list[str]:
        """Classes by the number of events, most first."""
        totals: Counter[str] = Counter()
        for (_, name), number in self.volume.items():
            totals[name] += number
        return [name for name, _ in totals.most_common()]

    @property
    def events(self) -> int:
        """Events of these days."""
        return sum(self.volume.values())

    @property
    def severities(self) -> Counter[str]:
        """Severity -> findings."""
        counts: Counter[str] = Counter()
        for item in self.findings:
            counts[item.severity] += item.number
        return counts


def gather(settings: Settings, now: datetime, first: date | None = None, last: date | None = None) -> Facts:
    """What a page says.

    Args:
        settings: The lake.
        now: The time, with its zone.
        first: First event day; None for the newest thirty.
        last: Last one; None for the newest.

    Raises:
        ConfigError: The days are none, or the lake cannot be opened.
    """
    moment = now.astimezone(UTC)
    with opened(settings, reading=True) as lake:
        days = _days(lake, moment.date(), first, last)
        facts = _of_ledger(lake, settings, moment, days)
    facts.alarms = health.check(settings, moment)
    names = {item.table for item in facts.stored}
    if layout.QUARANTINE in names:
        facts.refused = _tried(facts, "quarantine", lambda: asked.refused(settings)) or asked.Refused()
    facts.findings, failed = asked.findings(settings, names, days[0], days[-1])
    facts.not_looked += [f"table {name}: {reason}" for name, reason in failed.items()]
    facts.not_looked += [f"lag of {name}: names of its objects have no time" for name in facts.lags.untimed]
    if facts.lags.cut:
        facts.not_looked.append(f"lag of all but the latest {lag.OBJECTS:,} objects")
    if not facts.heat.judged:
        facts.not_looked.append("which hours were due")
    facts.stored = [item for item in facts.stored if item.table not in (layout.OUTCOMES, layout.DUPLICATES)]
    return facts


def _tried(facts: Facts, what: str, ask: Callable[[], T]) -> T | None:
    """One file that is gone takes one section from the page, not the page."""
    try:
        return ask()
    except (OcsfMappersError, duckdb.Error) as error:
        facts.not_looked.append(f"{what}: {str(error).splitlines()[0]}")
        return None


def _of_ledger(lake: Lake, settings: Settings, now: datetime, days: list[date]) -> Facts:
    engine = lake.ledger.engine
    first, last = f"{days[0]:%Y%m%d}", f"{days[-1]:%Y%m%d}"
    # Batches are of the days on which they were done: what a backfill brings is paid when it is brought.
    since = f"{days[0]:%Y-%m-%d}"
    drift, number = reported.drift(engine, since, DRIFT, without=DriftKind.OPEN_MEMBER)
    return Facts(
        settings, now, days,
        heat=heat.of_days(lake, settings, days, now),
        lags=lag.of_days(lake, days[0], days[-1]),
        volume=_volume(reported.volume(engine, first, last)),
        spent=reported.spent(engine, since),
        stored=reported.stored(engine),
        aside_bytes=reported.retired_bytes(engine),
        drift=drift,
        drift_number=number,
        not_read=overview.not_read(engine),
        failing=overview.failing(engine),
        replaced=overview.replaced_after_reading(engine),
        without_source=sorted(overview.without_source(engine)),
        listed=reported.listed(engine),
        holds=_holds(lake),
        events_of=_events_of(reported.places(engine, first, last)),
    )  # fmt: skip


def _holds(lake: Lake) -> int:
    """Legal holds in force, where this program knows them."""
    if find_spec(HOLDS) is None:
        return 0
    holds: Any = import_module(HOLDS)
    return sum(not getattr(hold, "released_at", None) for hold in holds.listed(lake.ledger.engine))


def _events_of(rows: Iterable[tuple[str, str, str, int]]) -> dict[str, dict[date, int]]:
    events_by_source: dict[str, dict[date, int]] = {}
    for source, _, day, number in rows:
        days = events_by_source.setdefault(source, {})
        days[_day(day)] = days.get(_day(day), 0) + number
    return events_by_source


def _volume(rows: list[tuple[str, int | None, int]]) -> dict[tuple[date, str], int]:
    schema = ocsf.load()
    volume: dict[tuple[date, str], int] = {}
    for day, uid, number in rows:
        event_class = schema.class_by_uid(uid) if uid is not None else None
        name = event_class.caption if event_class else _NO_CLASS if uid is None else str(uid)
        key = _day(day), name
        volume[key] = volume.get(key, 0) + number
    return volume


def _days(lake: Lake, today: date, first: date | None, last: date | None) -> list[date]:
    """The days that are looked at; where none are named, the newest with events."""
    bounds = reported.days(lake.ledger.engine)
    begins, ends = (_day(text) for text in bounds) if bounds else (today, today)
    chosen_last = last or max(min(today, ends), first or date.min)
    chosen_first = first or max(_before(chosen_last, DAYS - 1), min(begins, chosen_last))
    if chosen_first > chosen_last:
        raise ConfigError(f"the first day, {chosen_first}, is after the last one, {chosen_last}")
    if (chosen_last - chosen_first).days >= MOST_DAYS:
        raise ConfigError(f"{chosen_first} to {chosen_last} is more than {MOST_DAYS} days; name fewer")
    return heat.day_range(chosen_first, chosen_last)


def _before(day: date, number: int) -> date:
    """So many days before another one, and none before the first that there is."""
    return date.fromordinal(max(1, day.toordinal() - number))


def _day(text: str) -> date:
    return datetime.strptime(text, "%Y%m%d").replace(tzinfo=UTC).date()
