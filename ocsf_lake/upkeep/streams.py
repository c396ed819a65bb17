"""The log streams of a lake: what it has of each source, account and region, hour by hour, by the names of objects.

The hour is the one in an object's name, in which AWS delivered it or its time begins. Where names have the day alone,
as those of GuardDuty, no hours are known.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache

from ocsf_lake.inputs import discovery
from ocsf_lake.ledger import delivered
from ocsf_lake.ledger.database import Connection
from ocsf_lake.ledger.delivered import Hour
from ocsf_lake.ledger.results import State
from ocsf_lake.storage import layout
from ocsf_mappers import registry
from ocsf_mappers.vocabulary.source import ROOT

HISTORY_DAYS = 14
"""What is usual of a stream is judged by so many days before those that are asked for."""
STREAMS_AT_ONCE = 100
"""The hours of so many streams are in memory at once."""
DAY_HOURS = 24
YEARS = range(2000, 9000)
"""Of others there are no logs, and nobody should reckon with them, to the beginning of the calendar."""
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_HOURS = {f"{hour:02d}": hour for hour in range(DAY_HOURS)}
_NONE: Counter[str] = Counter()
_DATED = re.compile(r"_(\d{8})T\Z")
_DIGITS = re.compile(r"(?<=[/=])\d{1,4}(?=/)|(?<=_)\d{8}(?=T\Z)")
_FINDINGS = re.compile(r"/_detections/[0-9a-f]{32}\.jsonl\Z")
"""What the lake's own rules found; nobody delivers it."""
_ORGANIZATION = re.compile(rf"/{ROOT}/o-[a-z0-9]{{4,32}}/")


@dataclass(frozen=True, order=True)
class Name:
    """What a stream is called: source, account and region; `unknown` where names of objects lack it."""

    source: str
    account: str
    region: str


@dataclass
class Stream:
    """One stream.

    Args:
        name: What it is called.
        organization: Whether its objects lie in the folder of an organization.
        hours: Hour, in hours since 1970 -> objects that the lake has.
        days: The same by day, in days since 1970, of objects whose names have no hour.
        planned: Hour -> objects that are known and not read yet.
        unread: Hour -> why an object of it could not be read.
        first_day: The earliest day, in days since 1970, with an object, also before the time that was looked at.
        last_day: The latest one.
        untimed: Objects whose names have no time.
        verified: Whether digests of it were verified.
    """

    name: Name
    organization: bool = False
    hours: Counter[int] = field(default_factory=Counter)
    days: Counter[int] = field(default_factory=Counter)
    planned: Counter[int] = field(default_factory=Counter)
    unread: dict[int, str] = field(default_factory=dict)
    first_day: int | None = None
    last_day: int | None = None
    untimed: int = 0
    verified: bool = False

    def note(self, day: int) -> None:
        """Notes a day, in days since 1970, of which there are objects."""
        self.first_day = day if self.first_day is None else min(self.first_day, day)
        self.last_day = day if self.last_day is None else max(self.last_day, day)

    @property
    def is_known(self) -> bool:
        """Whether anything is known of it that has a time."""
        return self.verified or self.last_day is not None or bool(self.unread)

    @property
    def by_day(self) -> bool:
        """Whether only days are known."""
        return bool(self.days) and not self.hours

    @property
    def hours_of_days(self) -> Counter[int]:
        """Each hour of a day with the objects of the day."""
        return Counter({day * DAY_HOURS + hour: n for day, n in self.days.items() for hour in range(DAY_HOURS)})


@dataclass(frozen=True)
class _Place:
    """The stream of URIs that begin alike."""

    name: Name
    organization: bool
    counts: bool


def hour_of(time: datetime) -> int:
    """The hour that a time is in, in hours since 1970."""
    return int((time - EPOCH) // timedelta(hours=1))


def hour_from(time: datetime) -> int:
    """The first hour that begins at a time or after it."""
    hour = hour_of(time)
    return hour if time_of(hour) == time else hour + 1


def time_of(hour: int) -> datetime:
    """The beginning of an hour."""
    return EPOCH + timedelta(hours=hour)


def day_of(day: date) -> int:
    """A day in days since 1970."""
    return (day - EPOCH.date()).days


class Streams:
    """The streams of a ledger.

    Args:
        connection: The ledger, at one moment.
        today: Days after tomorrow are taken for none, whatever a name has.
        chosen: Which streams; None for all.

    Attributes:
        by_name: The streams; `loaded` takes them out one by one.
    """

    def __init__(
        self, connection: Connection, today: date, chosen: Callable[[Name], bool] | None = None
    ) -> None:  # fmt: skip
        self._latest = day_of(today) + 1
        self.by_name: dict[Name, Stream] = {}
        self._connection = connection
        self._chosen = chosen or (lambda _: True)
        self._places: dict[str, _Place | None] = {}
        self._dated: dict[Name, dict[int, list[int]]] = {}
        self._others: dict[int, str] = {}
        self._texts: dict[int, tuple[Name, int]] = {}

    def add(self, name: Name) -> None:
        """Takes in a stream of which digests were verified; there may be no object of it."""
        self.by_name.setdefault(name, Stream(name)).verified = True

    def look(self) -> None:
        """Finds the streams, and their last days."""
        for number, text in delivered.beginnings(self._connection):
            self._note(number, text)
        self._load_others()

    def edges(self, first: int) -> set[int]:
        """Days, since 1970, on which streams may have fallen silent before a day: their last ones before it."""
        newest = (max((day for day in by_day if day < first), default=None) for by_day in self._dated.values())
        return {day for day in newest if day is not None}

    def _note(self, number: int, text: str) -> None:
        match = _DATED.search(text)
        day = _day(match[1]) if match else None
        if day is None or day > self._latest:
            self._others[number] = text
            return
        place = self._place(text)
        if place is None or not place.counts or not self._chosen(place.name):
            return
        stream = self._stream(place)
        stream.note(day)
        self._dated.setdefault(place.name, {}).setdefault(day, []).append(number)
        self._texts[number] = place.name, day

    def _place(self, beginning: str) -> _Place | None:
        """Account, region and source of a beginning; the same for all its days."""
        known_as = _DIGITS.sub("0", beginning)
        if known_as not in self._places:
            self._places[known_as] = _place(f"{beginning}0000Z_0.gz")
        return self._places[known_as]

    def _stream(self, place: _Place) -> Stream:
        stream = self.by_name.setdefault(place.name, Stream(place.name))
        stream.organization |= place.organization
        return stream

    def loaded(self, first: int, last: int) -> Iterator[Stream]:
        """The streams in order, with the hours of days, and of those before them by which a stream is judged.

        Args:
            first: First day, in days since 1970.
            last: Last day.
        """
        self._load_unread()
        names = sorted(self.by_name)
        states = delivered.not_done(self._connection)
        for place in range(0, len(names), STREAMS_AT_ONCE):
            some = names[place : place + STREAMS_AT_ONCE]
            self._load(some, first, last, states)
            for name in some:
                yield self.by_name.pop(name)

    def _load(self, names: Iterable[Name], first: int, last: int, states: Mapping[Hour, Counter[str]]) -> None:
        chosen: list[int] = []
        for by_day in (self._dated.get(name, {}) for name in names):
            # A stream that fell silent long ago is judged by its own last days, also where it has begun again since.
            before = max((day for day in by_day if day < first), default=first)
            since = before - HISTORY_DAYS
            chosen += [number for day, numbers in by_day.items() if since <= day <= last for number in numbers]
        for (beginning, text), number in delivered.by_hour(self._connection, chosen).items():
            name, day = self._texts[beginning]
            stream = self.by_name[name]
            hour = _HOURS.get(text)
            by_state = states.get((beginning, text), _NONE)
            done = number - by_state.total() if by_state else number
            if hour is None:
                stream.untimed += done
                continue
            at = day * DAY_HOURS + hour
            if done > 0:
                stream.hours[at] += done
            if by_state[State.PLANNED]:
                stream.planned[at] += by_state[State.PLANNED]
            if by_state[State.FAILED]:
                stream.unread.setdefault(at, "an object of it could not be read")

    def _load_others(self) -> None:
        """Objects whose beginnings have no day at their end: each is looked at."""
        places: dict[tuple[int, str | None], _Place | None] = {}
        for number, rest, state, source in delivered.one_by_one(self._connection, list(self._others)):
            if state not in (State.DONE, State.PLANNED):
                continue
            uri = self._others[number] + rest
            if _FINDINGS.search(uri):
                continue
            if (number, source) not in places:
                places[number, source] = _place(uri, source)
            place = places[number, source]
            if place is None or not place.counts or not self._chosen(place.name):
                continue
            stream = self._stream(place)
            moment, window = _moment(uri)
            if moment is None or day_of(moment.date()) > self._latest:
                stream.untimed += 1
                continue
            day = day_of(moment.date())
            stream.note(day)
            if window == "day":
                stream.days[day] += 1
            elif state == State.PLANNED:
                stream.planned[hour_of(moment)] += 1
            else:
                stream.hours[hour_of(moment)] += 1

    def _load_unread(self) -> None:
        for uri, _, reason in delivered.unread(self._connection):
            place = _place(uri)
            if place is None or not place.counts or place.name not in self.by_name:
                continue
            moment, window = _moment(uri)
            if moment is not None and window != "day":
                why = f"{uri}: {reason or 'it could not be read'}"
                self.by_name[place.name].unread.setdefault(hour_of(moment), why)


def _place(uri: str, source: str | None = None) -> _Place | None:
    """The stream of an object, from its name; None for one of no source."""
    facts = discovery.of_key(uri)
    name = source or facts.source
    registered = registry.sources().get(name) if name else None
    if registered is None or name is None:
        return None
    counts = discovery.set_aside_reason(uri, registered.mapper) is None
    if counts and registered.digests is not None and facts.kind is not None and facts.source == name:
        counts = facts.kind == registered.digests.logs.split("/")[2]
    stream = Name(name, facts.account or layout.UNKNOWN, facts.region or layout.UNKNOWN)
    return _Place(stream, _ORGANIZATION.search(uri) is not None, counts)


def _moment(uri: str) -> tuple[datetime | None, str | None]:
    """The time in the name of an object, and how fine it is; None where there is none, or none that can be."""
    time, window = discovery.time_of(uri)
    try:
        moment = datetime.fromisoformat(time) if time else None
    except ValueError:  # of a year before 1000
        moment = None
    return (moment, window) if moment and moment.year in YEARS else (None, None)


@lru_cache(10_000)
def _day(digits: str) -> int | None:
    try:
        day = datetime.strptime(digits, "%Y%m%d").replace(tzinfo=UTC).date()
    except ValueError:
        return None
    return day_of(day) if day.year in YEARS else None

