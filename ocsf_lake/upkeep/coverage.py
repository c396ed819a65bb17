"""What a lake has of every hour, by source, account and region, and what that is known from.

Digests that `verify` followed prove that an hour is complete, or empty. Of all other hours it is known whether the lake
has objects; where it has none, whether that is suspicious is judged by the stream's own history, and explained by calls
that switched the log off. Nothing is written.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from typing import Any

from ocsf_lake.config import Settings
from ocsf_lake.evidence.days import NOT_IN_LAKE, OTHER_IN_LAKE
from ocsf_lake.lake import Lake, opened
from ocsf_lake.ledger import delivered, objects, proofs
from ocsf_lake.ledger.database import Connection
from ocsf_lake.ledger.proofs import Fault
from ocsf_lake.storage import layout
from ocsf_lake.upkeep import switches
from ocsf_lake.upkeep.silence import CHANCE, Usual
from ocsf_lake.upkeep.streams import DAY_HOURS, YEARS, Name, Stream, Streams, day_of, hour_from, hour_of, time_of
from ocsf_lake.upkeep.switches import Change, Kind
from ocsf_mappers import registry
from ocsf_mappers.errors import ConfigError, nearest

DAYS = 7
"""So many days are looked at where none are named."""
SHOWN = 20
"""Of the accounts or regions that there are, so many are named when another one is asked for."""
NEAR = 2
"""A silence that begins so many hours before or after a call that switched the log off is explained by it."""
_ABSENT = ("log file missing", "log file changed", "log file unreadable", NOT_IN_LAKE, OTHER_IN_LAKE)
_SILENT = {
    "digest missing": "missing", "gap": "missing", "chain ends": "missing", "chain begun anew": "suspicious gap",
    "digest unreadable": "suspicious gap", "digest changed": "suspicious gap", "digest not in chain": "suspicious gap",
    "digest misplaced": "suspicious gap",
}  # fmt: skip
"""State of an hour in which the lake has nothing, by the fault that covers it."""


class Cover(StrEnum):
    """What is known of an hour.

    complete and proved: digests name its log files, and the lake has them as they were delivered. empty and proved:
    digests prove that nothing was delivered. present: the lake has objects; nothing proves that they are all. missing:
    it is known that something is not there. suspicious gap: there is nothing, and there should be by the stream's
    history. late: it may still come. not expected: a call switched the log off. unknown: there is nothing, and nobody
    knows whether there should be.
    """

    COMPLETE = "complete and proved"
    EMPTY = "empty and proved"
    PRESENT = "present"
    MISSING = "missing"
    GAP = "suspicious gap"
    LATE = "late"
    UNKNOWN = "unknown"
    NOT_EXPECTED = "not expected"


GAPS = (Cover.MISSING, Cover.GAP)
"""What a log is not complete with."""
ALL = tuple(Cover)
_CODE = {state: number for number, state in enumerate(ALL)}


@dataclass(frozen=True)
class Asked:
    """What is asked for.

    Args:
        source: Name of a source; None for all.
        first: First day, UTC; None for the newest seven of which the lake has something.
        last: Last day, included; None for the newest one.
        accounts: Only these; empty for all.
        regions: Only these; empty for all.
    """

    source: str | None = None
    first: date | None = None
    last: date | None = None
    accounts: tuple[str, ...] = ()
    regions: tuple[str, ...] = ()

    def takes(self, name: Name) -> bool:
        """Whether a stream is asked for."""
        return (
            self.source in (None, name.source)
            and (not self.accounts or name.account in self.accounts)
            and (not self.regions or name.region in self.regions)
        )


@dataclass
class Covered:
    """What is known of one stream.

    Args:
        name: The stream.
        first: Its first hour, in hours since 1970.
        codes: For each hour from there on the place of its state in `ALL`.
        objects: Hour -> objects that the lake has; where only days are known, those of the day.
        by_day: Whether names of its objects give the day alone.
        reasons: Hour -> what is to be said of it.
        changes: Calls that changed what is recorded of it.
        silent: Hours after the last one, up to now, in which there should be something and is nothing.
    """

    name: Name
    first: int
    codes: bytearray
    objects: Counter[int]
    by_day: bool = False
    reasons: dict[int, str] = field(default_factory=dict)
    changes: list[Change] = field(default_factory=list)
    silent: int = 0

    def state(self, hour: int) -> Cover:
        """What is known of an hour."""
        return ALL[self.codes[hour - self.first]]

    @property
    def counts(self) -> Counter[Cover]:
        """How many hours there are of each state."""
        return Counter({state: number for state, code in _CODE.items() if (number := self.codes.count(code))})

    def rows(self) -> Iterator[dict[str, Any]]:
        """One row for each hour, in JSON's types."""
        calls: dict[int, list[dict[str, Any]]] = {}
        for change in self.changes:
            calls.setdefault(hour_of(change.time), []).append(change.as_dict())
        about = {"source": self.name.source, "account": self.name.account, "region": self.name.region}
        precision = "day" if self.by_day else "hour"
        for hour, code in enumerate(self.codes, self.first):
            yield {
                **about, "hour": f"{time_of(hour):%Y-%m-%dT%H:%M:%SZ}", "state": str(ALL[code]),
                "objects": self.objects[hour], "precision": precision, "reason": self.reasons.get(hour),
                "changes": calls.get(hour, []),
            }  # fmt: skip

    @property
    def hours(self) -> range:
        """Its hours, since 1970."""
        return range(self.first, self.first + len(self.codes))

    @property
    def has_gaps(self) -> bool:
        """Whether something is missing, or seems to be."""
        return bool(self.silent) or any(self.codes.count(_CODE[state]) for state in GAPS)


@dataclass
class Coverage:
    """A lake's coverage; the streams are given one by one.

    Args:
        first: First day.
        last: Last day.
        streams: How many streams there are.
        changes: Calls in these days that changed what is recorded, of all streams.
        untimed: Source -> objects whose names have no time, so that they are in no hour; whole at the end.
        looked_at: Source -> when a run last looked for its objects, as the ledger has it.
    """

    first: date
    last: date
    streams: int
    changes: list[Change] = field(default_factory=list)
    untimed: Counter[str] = field(default_factory=Counter)
    looked_at: dict[str, str] = field(default_factory=dict)


def covered(
    settings: Settings, asked: Asked, now: datetime, *, every_day: bool = False
) -> tuple[Coverage, Iterator[Covered]]:
    """What is known of the streams that are asked for.

    Args:
        settings: The lake.
        asked: What is asked for.
        now: The time, with its zone.
        every_day: Whether all days are looked at where none are named; a lake without objects has none.

    Returns:
        What is known of all, and one stream after the other, by name. The lake is open until they are through.

    Raises:
        ConfigError: There is no such lake, or nothing of what is asked for in it; or the days are none.
    """
    for day in (asked.first, asked.last):
        if day and day.year not in YEARS:
            raise ConfigError(f"there are no logs of {day}")
    if asked.first and asked.last and asked.first > asked.last:
        raise ConfigError(f"the first day, {asked.first}, is after the last one, {asked.last}")
    steps = _steps(settings, asked, now.astimezone(UTC), every_day=every_day)
    whole = next(steps)
    assert isinstance(whole, Coverage)
    return whole, (step for step in steps if isinstance(step, Covered))


def _steps(settings: Settings, asked: Asked, now: datetime, *, every_day: bool) -> Iterator[Coverage | Covered]:
    """First what is known of all, then the streams."""
    with opened(settings, reading=True) as lake, lake.ledger.engine.connect() as connection:
        streams = Streams(connection, now.date(), asked.takes)
        for name in proofs.places(connection):
            if asked.takes(Name(*name)):
                streams.add(Name(*name))
        streams.look()
        if not every_day:
            _check(connection, streams, asked, now.date())
        first, last = _days(streams, asked, now.date(), every_day=every_day)
        whole = Coverage(first, last, len(streams.by_name), looked_at=delivered.looked_at(connection))
        calls = switches.calls(lake, first, last, streams.edges(day_of(first)), asked.source)
        span = time_of(day_of(first) * DAY_HOURS), time_of((day_of(last) + 1) * DAY_HOURS)
        taken = list(streams.by_name.values())
        whole.changes = [
            call for call in calls
            if span[0] <= call.time < span[1] and any(call.concerns(stream) for stream in taken)
        ]  # fmt: skip
        yield whole
        judge = _Judge(lake, connection, first, last, now, open_end=asked.last is None)
        for stream in streams.loaded(day_of(first), day_of(last) + (judge.more_days if judge.open_end else 0)):
            whole.untimed[stream.name.source] += stream.untimed
            if stream.is_known:
                yield judge.stream(stream, [call for call in calls if call.concerns(stream)])


def _check(connection: Connection, streams: Streams, asked: Asked, today: date) -> None:
    """Says what is not there at all: of a mistyped account nothing would be missing."""
    if asked.source is not None and asked.source not in registry.sources():
        raise ConfigError(f"no source {asked.source!r}{nearest(asked.source, registry.sources())}")
    for kind, chosen in (("account", asked.accounts), ("region", asked.regions)):
        names = {getattr(name, kind) for name in streams.by_name}
        if absent := sorted(set(chosen) - names):
            every = Streams(connection, today, lambda name: asked.source in (None, name.source))
            every.look()
            there = ", ".join(sorted({getattr(name, kind) for name in every.by_name})[:SHOWN]) or "none"
            raise ConfigError(f"the lake has nothing of {kind} {', '.join(absent)}; there are: {there}")
    if not streams.by_name:
        of = f" of {asked.source}" if asked.source else ""
        raise ConfigError(f"the lake has no objects{of} whose names say a day")


def _days(streams: Streams, asked: Asked, today: date, *, every_day: bool) -> tuple[date, date]:
    """The days that are looked at."""
    ends = (day for stream in streams.by_name.values() for day in (stream.first_day, stream.last_day))
    days = [day for day in ends if day is not None]
    epoch = date(1970, 1, 1)
    last = asked.last
    if every_day and days:
        return epoch + timedelta(days=min(days)), today
    if last is None:
        last = min(today, epoch + timedelta(days=max(days))) if days else today
        last = max(last, asked.first or last)
    if asked.first is not None:
        return asked.first, last
    first = last - timedelta(days=DAYS - 1)
    return (max(first, min(last, epoch + timedelta(days=min(days)))) if days else first), last


class _Judge:
    """Judges streams.

    Args:
        lake: The lake.
        connection: Its ledger, at one moment.
        first: First day.
        last: Last day.
        now: The time.
        open_end: Whether silence after the last day counts, up to now.
    """

    def __init__(
        self, lake: Lake, connection: Connection, first: date, last: date, now: datetime, *, open_end: bool
    ) -> None:
        self.lake = lake
        self.connection = connection
        self.start = day_of(first) * DAY_HOURS
        self.end = min((day_of(last) + 1) * DAY_HOURS, hour_of(now) + 1)
        self.now = hour_of(now)
        self.open_end = open_end
        self.more_days = max(0, day_of(now.date()) - day_of(last))
        self.looked_at = delivered.looked_at(connection)
        self.gone: dict[str, set[tuple[str, str, str]]] = {}

    def stream(self, stream: Stream, calls: Sequence[Change]) -> Covered:
        """What is known of one."""
        codes = bytearray([_CODE[Cover.UNKNOWN]]) * max(0, self.end - self.start)
        counts = stream.hours_of_days if stream.by_day else stream.hours
        result = Covered(stream.name, self.start, codes, counts, stream.by_day)
        result.changes = [call for call in calls if self.start <= hour_of(call.time) < self.end]
        for hour in counts:
            if self.start <= hour < self.end:
                codes[hour - self.start] = _CODE[Cover.PRESENT]
        self._silences(stream, calls, result)
        self._proofs(stream, calls, result)
        self._not_in_lake(stream, result)
        for call in calls:
            self._note(call, result)
        self._went(stream, result)
        return result

    # -- by history ---------------------------------------------------------------------------------------------------
    def _silences(self, stream: Stream, calls: Sequence[Change], result: Covered) -> None:
        size = DAY_HOURS if stream.by_day else 1
        slots = stream.days if stream.by_day else stream.hours
        usual = Usual(slots, by_day=stream.by_day)
        due = self.now - _late_hours(stream.name.source)
        end = self.now // size if self.open_end else min(self.end, self.now) // size
        for start, until in usual.silences(self.start // size - 1, end):
            self._silence(usual, start, until, size, due, calls, result)
        if usual.first is not None:
            _fill(result, self.start, usual.first * size, Cover.UNKNOWN, "the lake has nothing of it before")
        # What is not due may still come, and an hour that is not over is not judged.
        for hour in range(max(self.start, due), self.end):
            if result.codes[hour - self.start] in (_CODE[Cover.UNKNOWN], _CODE[Cover.GAP]):
                result.codes[hour - self.start] = _CODE[Cover.LATE]
                result.reasons.pop(hour, None)

    def _silence(
        self, usual: Usual, start: int, until: int, size: int, due: int, calls: Sequence[Change], result: Covered
    ) -> None:
        """Judges slots without objects that follow each other; a part of them may be explained by a call."""
        for begin, end, call in _explained(start * size, until * size, calls):
            if call is not None:
                _fill(result, begin, end, Cover.NOT_EXPECTED, f"switched off by {call}")
                continue
            judged = begin // size, min(end, due) // size
            if judged[0] >= judged[1]:
                continue
            if not usual.is_known:
                _fill(result, begin, end, Cover.UNKNOWN, "too little is known of its history")
            elif usual.chance(*judged) < CHANCE:
                last = time_of(begin - 1)
                reason = f"nothing since {last:%Y-%m-%d}" if size > 1 else f"nothing since {last:%Y-%m-%d %H}h"
                reason += self._not_looked(result.name.source, begin) + _beside(begin, calls)
                _fill(result, begin, end, Cover.GAP, reason)
                result.silent += max(0, min(end, due) - max(begin, self.end))
            else:
                _fill(result, begin, end, Cover.UNKNOWN, "such a silence is not unusual")

    def _not_looked(self, source: str, hour: int) -> str:
        looked = max(self.looked_at.get(source, ""), self.looked_at.get("", ""))
        if looked and hour_of(datetime.fromisoformat(looked)) <= hour:
            return f"; no run has looked for it since {looked[:16]}"
        return ""

    # -- by digests ---------------------------------------------------------------------------------------------------
    def _proofs(self, stream: Stream, calls: Sequence[Change], result: Covered) -> None:
        registered = registry.sources().get(stream.name.source)
        if registered is None or registered.digests is None:
            return
        name = stream.name
        span = proofs.text(time_of(self.start)), proofs.text(time_of(self.end))
        of = proofs.of(self.connection, name.source, name.account, name.region, *span)
        faults = proofs.faults_of(self.connection, name.source, name.account, name.region, *span)
        proved: set[int] = set()
        for start, end in proofs.merged(of):
            proved.update(range(max(self.start, hour_from(start)), min(self.end, hour_of(end))))
        off = _CODE[Cover.NOT_EXPECTED]
        for hour in proved:
            if result.codes[hour - self.start] != off:
                state = Cover.COMPLETE if stream.hours[hour] else Cover.EMPTY
                result.codes[hour - self.start] = _CODE[state]
                result.reasons.pop(hour, None)
        self._faults(stream, faults, result)

    def _faults(self, stream: Stream, faults: Sequence[Fault], result: Covered) -> None:
        came = self._came(faults)
        digests = registry.sources()[stream.name.source].digests
        for fault in faults:
            reason = f"{fault.what}: {fault.object}: {fault.reason}"
            hours = _hours(fault)
            if fault.what in _ABSENT:
                time = digests.delivered(fault.object) if digests else None
                hours = range(hour_of(time), hour_of(time) + 1) if time else hours
            for hour in range(max(self.start, hours.start), min(self.end, hours.stop)):
                self._fault(hour, fault, reason, came, stream, result)

    def _fault(
        self, hour: int, fault: Fault, reason: str, came: set[str], stream: Stream, result: Covered
    ) -> None:
        state = result.state(hour)
        if state is Cover.NOT_EXPECTED:
            return
        if fault.what in _ABSENT and fault.what != OTHER_IN_LAKE and fault.in_lake:
            result.reasons.setdefault(hour, reason)  # the bucket has lost it since, and the lake has not
            return
        worse: Cover = Cover.PRESENT if state in (Cover.COMPLETE, Cover.EMPTY) and stream.hours[hour] else state
        if fault.what == NOT_IN_LAKE and fault.object in came:
            reason = f"{fault.object} came into the lake after it was verified ({fault.verified_at}): verify again"
        elif fault.what in _ABSENT and not fault.in_lake:
            worse = Cover.MISSING
        elif not stream.hours[hour]:
            worse = Cover(_SILENT.get(fault.what, state))
        if state is not Cover.MISSING:
            result.codes[hour - self.start] = _CODE[worse]
            result.reasons[hour] = reason

    def _came(self, faults: Sequence[Fault]) -> set[str]:
        """Log files that were not in the lake when they were verified, and are now."""
        uris = [fault.object for fault in faults if fault.what == NOT_IN_LAKE]
        return {ref.uri for ref in objects.done(self.connection, uris)}

    # -- by the ledger ------------------------------------------------------------------------------------------------
    def _not_in_lake(self, stream: Stream, result: Covered) -> None:
        """Objects that are known and not in the lake."""
        for hour in stream.planned:
            if self.start <= hour < self.end and not stream.hours[hour]:
                result.codes[hour - self.start] = _CODE[Cover.LATE]
                result.reasons[hour] = "objects of it are known, and not read yet"
        for hour, reason in stream.unread.items():
            if self.start <= hour < self.end:
                result.codes[hour - self.start] = _CODE[Cover.MISSING]
                result.reasons[hour] = f"not read: {reason}"

    def _note(self, call: Change, result: Covered) -> None:
        """Notes a call at its hour; after one that switched the log off, the hour is not proved to be whole."""
        hour = hour_of(call.time)
        if not call.done or not self.start <= hour < self.end:
            return
        if call.kind is Kind.OFF and result.state(hour) in (Cover.COMPLETE, Cover.EMPTY):
            result.codes[hour - self.start] = _CODE[Cover.PRESENT if result.objects[hour] else Cover.NOT_EXPECTED]
        result.reasons.setdefault(hour, f"{call.effect} by {call}")

    def _went(self, stream: Stream, result: Covered) -> None:
        """Notes days whose events a retention removed; they still count as read."""
        registered = registry.sources().get(stream.name.source)
        for table in registered.mapper.tables if registered else ():
            if table not in self.gone:
                self.gone[table] = {
                    (account, name, day) for region, account, day in self.lake.files.gone(table)
                    for name in (region, layout.UNKNOWN)
                }  # fmt: skip
            for hour in result.hours if self.gone[table] else ():
                place = stream.name.account, stream.name.region, f"{time_of(hour):%Y%m%d}"
                if result.objects[hour] and place in self.gone[table]:
                    result.reasons.setdefault(hour, f"events of this day went from {table} by retention since")


def _beside(start: int, calls: Sequence[Change]) -> str:
    """Names a call that changed the log, without switching it off, as a silence began."""
    near = [call for call in calls if call.done and call.kind is Kind.CHANGED]
    return "".join(f"; changed by {call}" for call in near if abs(hour_of(call.time) - start) <= NEAR)


def _explained(start: int, until: int, calls: Sequence[Change]) -> Iterator[tuple[int, int, Change | None]]:
    """Parts of a silence, and the call that explains each; None for those that none explains."""
    begin = start
    off: Change | None = None
    for call in sorted((call for call in calls if call.done), key=lambda call: call.time):
        hour = hour_of(call.time)
        if hour >= until:
            break
        if call.kind is Kind.OFF and hour >= start - NEAR and off is None:
            # In the hours after a call there may be objects of what happened before it.
            at = start if hour <= start + NEAR else hour
            if at > begin:
                yield begin, at, None
            begin, off = max(begin, at), call
        elif call.kind is Kind.ON and off is not None:
            at = min(until, max(begin, hour + 1))
            if at > begin:
                yield begin, at, off
            begin, off = at, None
    if until > begin:
        yield begin, until, off


def _fill(result: Covered, start: int, end: int, state: Cover, reason: str) -> None:
    """Gives a state to hours that have none yet."""
    unknown = _CODE[Cover.UNKNOWN]
    for hour in range(max(start, result.first), min(end, result.first + len(result.codes))):
        if result.codes[hour - result.first] == unknown:
            result.codes[hour - result.first] = _CODE[state]
            result.reasons[hour] = reason


def _hours(fault: Fault) -> range:
    """The hours that a fault concerns."""
    start, end = proofs.moment(fault.start), proofs.moment(fault.end)
    return range(hour_of(start), hour_from(end))


def _late_hours(source: str) -> int:
    registered = registry.sources().get(source)
    return registered.delivery.late_hours if registered else DAY_HOURS

