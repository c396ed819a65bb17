"""History into the lake: what was delivered in a range of days, planned as a whole and worked on in any order.

Days are those of the events. An event is delivered on its day or later, so deliveries of some more days are listed: as
many as the source's `late_days`. Objects are read whole, so events of neighbouring days come with them; they count
once, whoever brings them first.
"""

from __future__ import annotations

from collections.abc import MutableMapping
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import date, timedelta

from ocsf_lake.config import Settings
from ocsf_lake.ingest import run as ingest
from ocsf_lake.ingest.plan import Planned, Planner, mappers
from ocsf_lake.ingest.run import OnProgress, Summary
from ocsf_lake.inputs import deliveries
from ocsf_lake.inputs.coverage import Coverage
from ocsf_lake.inputs.deliveries import Scope
from ocsf_lake.inputs.window import Window
from ocsf_lake.lake import Lake, opened
from ocsf_lake.ledger.seen import Seen
from ocsf_mappers import Mapper
from ocsf_mappers.errors import ConfigError


@dataclass(frozen=True)
class Estimate:
    """What a backfill would do.

    Args:
        objects: Objects that were listed.
        known: Those of them that the lake has, or that are planned already.
        bytes: Size of the others, as they are stored.
        batches: Batches to do, those already planned included.
        list_calls: How often the store was asked for names, to plan once.
        list_usd: What so many calls cost on S3.
        seconds: Time of the work, from how fast this lake has been with this source; None without a batch done.
        undetermined: Objects whose names do not say the day, account or region; they would be read.
        archived: Objects that have to be restored before they can be read; they are not counted as work.
        coverage: What was looked at, and what was not.
    """

    objects: int
    known: int
    bytes: int
    batches: int
    list_calls: int
    list_usd: float
    seconds: float | None
    undetermined: int
    archived: int
    coverage: Coverage


def estimate(
    source: str, uri: str, first: date, last: date, settings: Settings,
    accounts: tuple[str, ...] = (), regions: tuple[str, ...] = (),
) -> Estimate:  # fmt: skip
    """What `backfill` would do; everything is listed, nothing is written.

    Args:
        source: Name of the source.
        uri: Bucket or folder.
        first: First day of events, UTC.
        last: Last day of events, included.
        settings: The lake and the bounds of batches.
        accounts: Only these; empty for all.
        regions: Only these; empty for all.

    Raises:
        ConfigError: There is no such source, nothing at the URI, or nothing of an account or region.
    """
    window = _window(source, uri, first, last, settings, accounts, regions)
    usable, _ = mappers(source, settings)
    with ExitStack() as stack:
        # Of a lake that is not there nothing is known, and an estimate does not make one.
        lake = stack.enter_context(opened(settings, absent=True))
        window.seen = Seen(lake.ledger.engine)
        planner = Planner(lake, usable, passed=window.calls.passed)
        counted = planner.counted(window.pages(settings.input_access), source)
        rate = lake.ledger.rate(source)
    return Estimate(
        objects=counted.objects,
        known=counted.known,
        bytes=counted.bytes,
        batches=counted.batches,
        list_calls=window.calls.number,
        list_usd=window.calls.usd,
        seconds=counted.bytes / rate / settings.workers if rate else None,
        undetermined=window.undetermined,
        archived=counted.archived,
        coverage=window.coverage,
    )


def backfill(
    source: str, uri: str, first: date, last: date, settings: Settings,
    accounts: tuple[str, ...] = (), regions: tuple[str, ...] = (), progress: OnProgress | None = None,
) -> Summary:  # fmt: skip
    """Plans a range of days and does it, in this process. See `estimate`.

    Raises:
        WriteError: The lake refused a file; running again continues.
    """
    window = _window(source, uri, first, last, settings, accounts, regions)
    usable, _ = mappers(source, settings)
    with opened(settings, with_retries=True) as lake:
        return ingest.done(lake, plan_window(window, lake, usable), progress)


def planned(
    source: str, uri: str, first: date, last: date, settings: Settings,
    accounts: tuple[str, ...] = (), regions: tuple[str, ...] = (),
) -> Planned:  # fmt: skip
    """Plans a range of days and does none of it. See `estimate`."""
    window = _window(source, uri, first, last, settings, accounts, regions)
    usable, _ = mappers(source, settings)
    with opened(settings, with_retries=True) as lake:
        return plan_window(window, lake, usable)


def plan_window(window: Window, lake: Lake, usable: MutableMapping[str, Mapper]) -> Planned:
    """Plans what is new of a listing; `usable` as `plan.mappers` gives it."""
    window.seen = Seen(lake.ledger.engine)
    planner = Planner(lake, usable, passed=window.calls.passed)
    planned = planner.plan(window.pages(lake.settings.input_access), window.source)
    planned.add_calls(window.calls)
    planned.undetermined = window.undetermined
    planned.coverage = window.coverage
    return planned


def check_days(first: date, last: date) -> None:
    """Refuses a range of days that has none.

    Raises:
        ConfigError: It ends before it begins.
    """
    if last < first:
        raise ConfigError(f"the range ends on {last}, before it begins on {first}")


def _window(
    source: str, uri: str, first: date, last: date, settings: Settings, accounts: tuple[str, ...],
    regions: tuple[str, ...],
) -> Window:  # fmt: skip
    check_days(first, last)
    late = timedelta(days=deliveries.delivery(source).late_days)
    scope = Scope(first, min(last, date.max - late) + late, tuple(accounts), tuple(regions))
    return Window(source, uri, scope, lake=settings.lake)
