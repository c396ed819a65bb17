"""A source: one kind of log, with everything that the lake needs to know of it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from ocsf_mappers.errors import MappingError
from ocsf_mappers.readers import JsonRecords
from ocsf_mappers.vocabulary.digests import Digests
from ocsf_mappers.vocabulary.mapper import Mapper

ROOT = "AWSLogs"
"""The folder in a bucket below which AWS's services deliver logs."""

_VARIABLE = re.compile(r"\{(\w+)\}")
_IN_KEYS = {
    "account": r"(?P<account>[^/]+)",
    "region": r"(?P<region>[^/]+)",
    "year": r"(?P<year>\d{4})",
    "month": r"(?P<month>\d\d)",
    "day": r"(?P<day>\d\d)",
    "month_unpadded": r"(?P<month>\d{1,2})",
    "day_unpadded": r"(?P<day>\d{1,2})",
}

_DAY_STEPS = tuple(
    re.compile(rf"[^{{}}]*\{{{name}\}}[^{{}}]*") for name in ("year", "month(?:_unpadded)?", "day(?:_unpadded)?")
)
"""The last folders of a pattern, which dates are filled into."""


def _texts(name: str, given: object) -> tuple[str, ...]:
    """Refuses one text for several: its letters would be taken for them, as of `("text")` without its comma."""
    if isinstance(given, str) or not isinstance(given, Iterable) or not all(isinstance(item, str) for item in given):
        raise MappingError(f"{name}: give a tuple of texts, not {given!r}")
    return tuple(given)


def _patterns(name: str, given: object) -> None:
    """Refuses what is no regular expression: it would be met with the first object, whosever that is."""
    for text in _texts(name, given):
        try:
            re.compile(text)
        except re.error as error:
            raise MappingError(f"{name}: {text!r} is no regular expression: {error}") from error


@dataclass(frozen=True)
class Delivery:
    """How a service delivers the log to S3: under which prefixes, and how late.

    Args:
        patterns: Folders of objects of one day, below a bucket's own prefix: `AWSLogs/`, where an organisation's id may
            follow, then folders in which `{account}`, `{region}`, `{year}`, `{month}`, `{day}` (`{month_unpadded}`,
            `{day_unpadded}`) and names for anything else stand for what differs. Days are those of delivery, in UTC.
        lookback_days: A regular run looks at the deliveries of so many days back.
        sweep_days: A sweep, now and then, looks so many days back.
        late_days: Events of a day are delivered up to so many days after it, apart from the rare ones that sweeps find.
        late_hours: Objects of an hour are usually there so many hours after it.
        record_bytes: Size of a record in an object as it is stored, gzipped; bounds the records of a batch.
    """

    patterns: tuple[str, ...] = ()
    lookback_days: int = 2
    sweep_days: int = 7
    late_days: int = 1
    late_hours: int = 24
    record_bytes: int = 100

    def __post_init__(self) -> None:
        """Refuses patterns that no folder of a day can be built from.

        Raises:
            MappingError: Names the pattern.
        """
        for pattern in _texts("patterns", self.patterns):
            root, *steps = pattern.split("/")
            days = zip(steps[-len(_DAY_STEPS) :], _DAY_STEPS, strict=False)
            if root != ROOT or len(steps) <= len(_DAY_STEPS) or not all(kind.fullmatch(step) for step, kind in days):
                raise MappingError(
                    f"patterns: {pattern!r} is not {ROOT}/, folders, and then one folder each for"
                    " {year}, {month} and {day}"
                )


@dataclass(frozen=True)
class Having:
    """Records in JSON that have certain members.

    Args:
        all_of: Members that such a record has.
        any_of: Of these it has at least one.
        like: Member -> regular expression that its value begins with, a string without its quote.
        unlike: Member -> regular expression that its value, where it is there, does not begin with.
        any_case: Whether the names of members may be spelled in upper case and with hyphens for underscores.
    """

    all_of: tuple[str, ...] = ()
    any_of: tuple[str, ...] = ()
    like: Mapping[str, str] = field(default_factory=dict)
    unlike: Mapping[str, str] = field(default_factory=dict)
    any_case: bool = False

    def __post_init__(self) -> None:
        """Refuses members that are no names, and values that are no regular expressions.

        Raises:
            MappingError: Names them.
        """
        _texts("all_of", self.all_of)
        _texts("any_of", self.any_of)
        _patterns("like", self.like.values())
        _patterns("unlike", self.unlike.values())

    @cached_property
    def weight(self) -> int:
        """How much a record that fits has been asked for: of several sources, the one that asks most has it."""
        return len(self._needed) + bool(self.any_of)

    @cached_property
    def _needed(self) -> frozenset[str]:
        return frozenset((*self.all_of, *self.like))

    def fits(self, members: Mapping[str, object]) -> bool:
        """Whether a record's members, name -> raw JSON text as bytes, are of this kind."""
        if self.any_case:
            members = {name.lower().replace("-", "_"): value for name, value in members.items()}
        return (
            self._needed <= members.keys()
            and (not self.any_of or any(name in members for name in self.any_of))
            and all(_begins(pattern, members[name]) for name, pattern in self.like.items())
            and not any(name in members and _begins(pattern, members[name]) for name, pattern in self.unlike.items())
        )


def _begins(pattern: str, value: object) -> bool:
    return re.match(pattern.encode(), bytes(value).removeprefix(b'"')) is not None  # type: ignore[call-overload]


@dataclass(frozen=True)
class Marks:
    """By what a log is recognized where the names of its objects do not say it.

    A record is looked at by itself; text inside a value says nothing, as a call to an API may quote another log.

    Args:
        members: Records in JSON.
        lines: Regular expressions that a line of a text log fits as a whole.
        heads: Regular expressions that the text of an object begins with, such as a header line's.
        columns: Columns that a header line with blanks between its names, or a Parquet file, of this log has. Two or
            three of them are enough, so names that other logs have, such as `time`, say nothing.
        detail_types: Regular expressions for the `detail-type` of its events in EventBridge.
        service: The `source` of events in EventBridge that stand nearest to it, such as `aws.guardduty`.
        set_aside: Regular expression that the text of an object begins with -> reason, for objects that the service
            writes beside the log and that hold no records.
    """

    members: tuple[Having, ...] = ()
    lines: tuple[str, ...] = ()
    heads: tuple[str, ...] = ()
    columns: frozenset[str] = frozenset()
    detail_types: tuple[str, ...] = ()
    service: str | None = None
    set_aside: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuses what could not be looked for.

        Raises:
            MappingError: Names it.
        """
        if not isinstance(self.members, tuple) or not all(isinstance(item, Having) for item in self.members):
            raise MappingError(f"members: give a tuple of Having(...), not {self.members!r}")
        _texts("columns", self.columns)
        for name in ("lines", "heads", "detail_types"):
            _patterns(name, getattr(self, name))
        _patterns("set_aside", self.set_aside)

    @cached_property
    def line_patterns(self) -> tuple[re.Pattern[bytes], ...]:
        """`lines`, for bytes."""
        return tuple(re.compile(pattern.encode()) for pattern in self.lines)

    @cached_property
    def head_patterns(self) -> tuple[re.Pattern[bytes], ...]:
        """`heads`, for bytes."""
        return tuple(re.compile(pattern.encode()) for pattern in self.heads)

    @cached_property
    def set_aside_patterns(self) -> tuple[tuple[re.Pattern[bytes], str], ...]:
        """`set_aside`, for bytes."""
        return tuple((re.compile(pattern.encode()), reason) for pattern, reason in self.set_aside.items())

    def __bool__(self) -> bool:
        """Whether there is anything to recognize it by."""
        return bool(self.members or self.lines or self.heads or self.columns or self.detail_types)


@dataclass(frozen=True)
class Switches:
    """Calls of AWS's API that change what is recorded of a log.

    Args:
        service: The service as CloudTrail names it, such as `ec2.amazonaws.com`.
        off: Calls after which nothing more may come.
        on: Calls after which it comes again.
        changed: Calls after which more or less of it may come.
        wide: Whether a call counts in all regions of its account, and in all accounts of an organization whose logs
            lie in one folder; else in its own account and region.
    """

    service: str
    off: tuple[str, ...] = ()
    on: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    wide: bool = False

    def __post_init__(self) -> None:
        """Refuses names that are none.

        Raises:
            MappingError: Names them.
        """
        for name in ("off", "on", "changed"):
            _texts(name, getattr(self, name))
        if not self.off and not self.on and not self.changed:
            raise MappingError(f"switches: no calls of {self.service!r} are given")


@dataclass(frozen=True, eq=False)
class Source:
    """One kind of log.

    Args:
        mapper: How its records are read and what they become.
        delivery: How it comes to S3.
        keys: Regular expressions for keys of its objects, with the groups `account`, `kind` (what AWS calls the log),
            `region` where the key says one, and `year`, `month`, `day` or `date`. Without any, those of `delivery`.
        marks: By what it is recognized otherwise.
        digests: How the service proves what it delivered; None where it does not.
        switches: Calls that change what is recorded of it.
        calls: Its table of calls of AWS's API, OCSF's API Activity, among which those are; None where it has none.
    """

    mapper: Mapper
    delivery: Delivery = Delivery()
    keys: tuple[str, ...] = ()
    marks: Marks = Marks()
    digests: Digests | None = None
    switches: tuple[Switches, ...] = ()
    calls: str | None = None

    def __post_init__(self) -> None:
        """Refuses parts that are of another kind.

        Raises:
            MappingError: Names the part.
        """
        for name, kind in (("mapper", Mapper), ("delivery", Delivery), ("marks", Marks)):
            if not isinstance(part := getattr(self, name), kind):
                raise MappingError(f"{name}: give a {kind.__name__}, not a {type(part).__name__}")
        if not isinstance(self.digests, Digests | None):
            raise MappingError(f"digests: give Digests(...), not a {type(self.digests).__name__}")
        if not isinstance(self.switches, tuple) or not all(isinstance(item, Switches) for item in self.switches):
            raise MappingError(f"switches: give a tuple of Switches(...), not {self.switches!r}")
        _patterns("keys", self.keys)

    @property
    def name(self) -> str:
        """`vendor_product`."""
        return self.mapper.name

    @cached_property
    def key_patterns(self) -> tuple[re.Pattern[str], ...]:
        """What the keys of its objects look like, the path beginning with `/`."""
        return tuple(re.compile(pattern) for pattern in self.keys or map(_key_pattern, self.delivery.patterns))

    @property
    def lists(self) -> tuple[str, ...]:
        """Members of a JSON document that hold a list of its records."""
        return tuple(
            dict.fromkeys(
                name for reader in self.mapper.readers if isinstance(reader, JsonRecords) for name in reader.lists
            )
        )


def _key_pattern(folder: str) -> str:
    """The keys of objects below a folder of one day.

    The log's kind is the first folder that is called alike everywhere.
    """
    steps = []
    has_kind = False
    seen: set[str] = set()
    for step in folder.removeprefix(f"{ROOT}/").split("/"):
        if not has_kind and not _VARIABLE.search(step):
            steps.append(f"(?P<kind>{re.escape(step)})")
            has_kind = True
            continue
        parts = _VARIABLE.split(step)
        texts, names = map(re.escape, parts[::2]), parts[1::2]
        groups = [_IN_KEYS.get(name, "[^/]+") if name not in seen else "[^/]+" for name in names]
        seen.update(names)
        steps.append("".join(part for pair in zip(texts, [*groups, ""], strict=True) for part in pair))
    return rf"/{ROOT}/(?:[^/]+/)?{'/'.join(steps)}/"
