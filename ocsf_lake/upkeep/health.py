"""Whether a lake is as it should be, judged by its ledger: sources that fell silent, records refused, work undone.

A check finds nothing on a lake that is new: it needs some days of runs to know what is usual.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise

from ocsf_lake.config import Settings
from ocsf_lake.lake import opened
from ocsf_lake.ledger import recent
from ocsf_lake.ledger.database import MissingError
from ocsf_lake.ledger.ledger import Ledger
from ocsf_lake.ledger.results import State
from ocsf_lake.storage import layout
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
    engine = ledger.engine
    for source, state, number, reason in recent.open_batches(engine, _text(now - OPEN_TOO_LONG)):
        if state == State.FAILED:
            yield Alarm("failed", source, f"{_plural(number, 'batch', 'batches')} failed, such as: {reason}")
        else:
            hours = int(OPEN_TOO_LONG.total_seconds() // 3600)
            message = f"{_plural(number, 'batch', 'batches')} planned more than {hours} hours ago and not done"
            yield Alarm("failed", source, message)
    for source, number, reason in recent.failed_objects(engine):
        yield Alarm("failed", source, f"{_plural(number, 'object', 'objects')} could not be read, such as: {reason}")


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
    by_source: dict[str, set[datetime]] = {}
    for source, planned_at, partition in recent.partitions_filled(ledger.engine, _text(now - LOOK_BACK)):
        moment = datetime.fromisoformat(planned_at)
        day = partition.rpartition("/")[2]
        if day != layout.UNKNOWN and day >= f"{moment - timedelta(days=1):%Y%m%d}":
            by_source.setdefault(source, set()).add(moment.replace(second=0, microsecond=0))
    return {source: sorted(moments) for source, moments in by_source.items()}


def quarantine(ledger: Ledger, settings: Settings, now: datetime) -> Iterator[Alarm]:
    """Sources of whose records too many went to quarantine in the last day."""
    for source, read, refused in recent.counts_read(ledger.engine, _text(now - RECENT)):
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
    for source, number, name in recent.drift_counts(ledger.engine, _text(now - RECENT)):
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
