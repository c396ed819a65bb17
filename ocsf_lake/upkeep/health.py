"""Whether a lake is as it should be, judged by its ledger: sources that fell silent, records refused, work undone.

A check finds nothing on a lake that is new: it needs some days of runs to know what is usual.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import sqlalchemy as sa  # noqa: TID251 - statements of its own over the ledger's tables

from ocsf_lake.config import Settings
from ocsf_lake.lake import opened
from ocsf_lake.ledger.database import MissingError
from ocsf_lake.ledger.ledger import Ledger
from ocsf_lake.ledger.results import Kind, State
from ocsf_lake.ledger.tables import BATCHES, FILES, NEWS, OBJECTS, RETIRED
from ocsf_lake.storage import layout
from ocsf_mappers.compiler.statistics import DriftKind
from ocsf_mappers.errors import ConfigError, nearest

LOOK_BACK = timedelta(days=14)
"""What is usual is judged by so many days."""
RECENT = timedelta(hours=24)
"""Rates are those of batches that were done since."""
LEAST_GAP = timedelta(minutes=30)
"""A source is never called silent for less."""
GAP_FACTOR = 1.5
FEWEST_ARRIVALS = 10
"""With fewer of them it is not known what is usual."""
OPEN_TOO_LONG = timedelta(hours=6)


@dataclass(frozen=True)
class Alarm:
    """Something that is not as it should be.

    Args:
        check: Name of the check, see `CHECKS`.
        source: Name of the source.
        message: What was found, and what to do.
    """

    check: str
    source: str
    message: str


def check(settings: Settings, now: datetime, names: Iterable[str] | None = None) -> list[Alarm]:
    """What is not as it should be, by check and source.

    Args:
        settings: The lake, and the limits.
        now: A time with its zone.
        names: Checks to make; None for all.

    Raises:
        ConfigError: There is no check of some name, or the lake cannot be opened.
    """
    selected = list(CHECKS) if names is None else list(names)
    for name in selected:
        if name not in CHECKS:
            raise ConfigError(f"no check {name!r}; there are {', '.join(CHECKS)}{nearest(name, CHECKS)}")
    try:
        with opened(settings, reading=True) as lake:
            moment = now.astimezone(UTC)
            alarms = [alarm for name in selected for alarm in CHECKS[name](lake.ledger, settings, moment)]
    except MissingError:
        return []  # nothing was ingested so far
    return sorted(alarms, key=lambda alarm: (alarm.check, alarm.source))


def failed(ledger: Ledger, _: Settings, now: datetime) -> Iterator[Alarm]:
    """Batches that raised, or that nobody has finished for hours; objects that could not be opened."""
    late = _text(now - OPEN_TOO_LONG)
    batches = sa.select(BATCHES.c.source, BATCHES.c.state, sa.func.count(), sa.func.max(BATCHES.c.reason)).where(
        BATCHES.c.kind == Kind.INGEST,
        (BATCHES.c.state == State.FAILED) | ((BATCHES.c.state == State.PLANNED) & (BATCHES.c.planned_at < late)),
    )
    objects = sa.select(
        sa.func.coalesce(OBJECTS.c.source, layout.UNKNOWN), sa.func.count(), sa.func.max(OBJECTS.c.reason)
    )
    with ledger.engine.connect() as connection:
        for source, state, number, reason in connection.execute(batches.group_by(BATCHES.c.source, BATCHES.c.state)):
            if state == State.FAILED:
                yield Alarm("failed", source, f"{_plural(number, 'batch', 'batches')} failed, as: {reason}")
            else:
                hours = int(OPEN_TOO_LONG.total_seconds() // 3600)
                message = f"{_plural(number, 'batch', 'batches')} planned more than {hours} hours ago and not done"
                yield Alarm("failed", source, message)
        grouped = objects.where(OBJECTS.c.state == State.FAILED).group_by(OBJECTS.c.source)
        for source, number, reason in connection.execute(grouped):
            yield Alarm("failed", source, f"{_plural(number, 'object', 'objects')} could not be read, as: {reason}")


def freshness(ledger: Ledger, _: Settings, now: datetime) -> Iterator[Alarm]:
    """Sources of which nothing new has come for longer than is usual.

    Usual is the second longest gap of the last two weeks (the longest may have been an outage), and half of it more.
    """
    for source, arrivals in sorted(_arrivals(ledger, now).items()):
        if len(arrivals) < FEWEST_ARRIVALS:
            continue
        gaps = sorted(later - earlier for earlier, later in pairwise(arrivals))
        usual = max(gaps[-2], LEAST_GAP / GAP_FACTOR)
        silent = now - arrivals[-1]
        if silent > usual * GAP_FACTOR:
            yield Alarm(
                "freshness", source, f"nothing new for {_duration(silent)}; usually it takes {_duration(usual)} at most"
            )


def _arrivals(ledger: Ledger, now: datetime) -> dict[str, list[datetime]]:
    """Source -> when objects were first seen in the last two weeks, sorted, a minute once.

    Batches of days that were over when they were planned do not count: a backfill says nothing about the live log.
    """
    # Of files that were merged since, too.
    parts = (sa.select(table.c.batch_id, table.c.partition) for table in (FILES, RETIRED))
    files = sa.union_all(*parts).subquery()
    query = (
        sa.select(BATCHES.c.source, BATCHES.c.planned_at, files.c.partition)
        .join_from(BATCHES, files, files.c.batch_id == BATCHES.c.id)
        .where(BATCHES.c.planned_at >= _text(now - LOOK_BACK))
        .distinct()
    )
    by_source: dict[str, set[datetime]] = {}
    with ledger.engine.connect() as connection:
        for source, planned_at, partition in connection.execute(query):
            moment = datetime.fromisoformat(planned_at)
            day = partition.rpartition("/")[2]
            if day != layout.UNKNOWN and day >= f"{moment - timedelta(days=1):%Y%m%d}":
                by_source.setdefault(source, set()).add(moment.replace(second=0, microsecond=0))
    return {source: sorted(moments) for source, moments in by_source.items()}


def quarantine(ledger: Ledger, settings: Settings, now: datetime) -> Iterator[Alarm]:
    """Sources of whose records too many went to quarantine in the last day."""
    query = (
        sa.select(BATCHES.c.source, sa.func.sum(BATCHES.c.read), sa.func.sum(BATCHES.c.quarantined))
        .where(BATCHES.c.state == State.DONE, BATCHES.c.done_at >= _text(now - RECENT))
        .group_by(BATCHES.c.source)
    )
    with ledger.engine.connect() as connection:
        for source, read, refused in connection.execute(query):
            if refused and refused / read > settings.alert_quarantined:
                yield Alarm(
                    "quarantine",
                    source,
                    f"{refused:,} of {read:,} records of the last 24 hours are in quarantine, more than "
                    f"{settings.alert_quarantined:.1%}; `ocsf-lake quarantine list` says why",
                )


def members(ledger: Ledger, _: Settings, now: datetime) -> Iterator[Alarm]:
    """Sources in which something was noticed in the last day that neither the mapper nor earlier records had.

    Names inside open-ended members are not counted, nor is anything while the source is new to the lake.
    """
    since = _text(now - RECENT)
    old = sa.select(BATCHES.c.source).where(BATCHES.c.state == State.DONE, BATCHES.c.done_at < since)
    query = (
        sa.select(NEWS.c.source, sa.func.count(), sa.func.min(NEWS.c.name))
        .where(NEWS.c.noticed_at >= since, NEWS.c.kind != DriftKind.OPEN_MEMBER, NEWS.c.source.in_(old))
        .group_by(NEWS.c.source)
    )
    with ledger.engine.connect() as connection:
        for source, number, name in connection.execute(query):
            what = _plural(number, "novelty", "novelties")
            yield Alarm("members", source, f"{what} in 24 hours, as {name}; `ocsf-lake status {source}` lists them")


CHECKS = {"failed": failed, "freshness": freshness, "members": members, "quarantine": quarantine}
"""Name of a check -> what makes it."""


def _text(moment: datetime) -> str:
    """A time as the ledger writes it, which sorts as times do."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds")


def _duration(span: timedelta) -> str:
    minutes = round(span.total_seconds() / 60)
    return f"{minutes} minutes" if minutes < 120 else f"{minutes / 60:.1f} hours"


def _plural(number: int, one: str, many: str) -> str:
    return f"{number:,} {one if number == 1 else many}"
