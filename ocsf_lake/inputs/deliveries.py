"""Under which prefixes AWS delivers each log, and how late: prefixes are built from this, buckets are not crawled.

A pattern is what stands below a bucket's own prefix. `{account}`, `{region}` and the like are found by listing the
folders there; year, month and day are built from the range that is asked for. Days are those of delivery, in UTC.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Any

from ocsf_lake.inputs import listing
from ocsf_lake.inputs.listing import Calls, Names
from ocsf_lake.storage import objects
from ocsf_mappers import registry
from ocsf_mappers.errors import ConfigError
from ocsf_mappers.vocabulary.source import ROOT, Delivery

ORGANIZATION = re.compile(r"o-[a-z0-9]{4,32}")
VARIABLES = {
    "account": re.compile(r"\d{12}"),
    "region": re.compile(r"[a-z0-9-]{1,32}"),
    "vpc": re.compile(r"vpc-[0-9a-f]+"),
}
"""What folders in the place of a variable are called, of others any name; others there belong to something else."""
_ANY = re.compile(r".+")
_DATES = {"year": "{:04d}", "month": "{:02d}", "day": "{:02d}", "month_unpadded": "{:d}", "day_unpadded": "{:d}"}
_VARIABLE = re.compile(r"\{(\w+)\}")
SHOWN = 20
"""Of the accounts or regions that are there, so many are named when another one is asked for."""
FEW_DAYS = 2
"""Of a month, so many days are asked for one by one; for more of them the month's folder is listed once before."""
FEW_YEARS = 2
"""Months of so many years are asked for, whether the years are there or not; for more the folder of years is listed."""
TREE_DEPTH = 4
"""`AWSLogs/` is looked for in so many folders below each other."""
TREE_CALLS = 100
"""At most so many LIST calls are made for it, each time: at S3's price half a thousandth of a dollar."""
TREE_PAGES = 4
"""Of a folder below the one that is named, so many pages are looked at: what holds more objects is no tree's parent."""
PERIOD = re.compile(r"\d{1,10}|[^=]+=.*")
"""Folders of a year, month, day or partition; they are many, and deliveries are not configured to begin in one."""


@dataclass(frozen=True)
class Scope:
    """What is asked for.

    Args:
        first: First day of delivery.
        last: Last day of delivery.
        accounts: Only these; empty for all.
        regions: Only these; empty for all.
    """

    first: date
    last: date
    accounts: tuple[str, ...] = ()
    regions: tuple[str, ...] = ()

    def days(self, year: int) -> Iterator[date]:
        """The days of a year, in order."""
        first, last = max(self.first, date(year, 1, 1)), min(self.last, date(year, 12, 31))
        for number in range((last - first).days + 1):
            yield first + timedelta(days=number)


def delivery(name: str) -> Delivery:
    """How a source is delivered; without patterns where no service delivers it in such a tree, or it is not known."""
    source = registry.sources().get(name)
    return source.delivery if source else Delivery()


def all_patterns() -> list[str]:
    """The folders of every source."""
    return [pattern for source in registry.sources().values() for pattern in source.delivery.patterns]


def lookback_days() -> int:
    """A regular run looks so many days back, whatever the source that is delivered by days."""
    return max((source_delivery.lookback_days for source_delivery in _by_days()), default=Delivery().lookback_days)


def sweep_days() -> int:
    """A sweep looks so many days back, whatever the source that is delivered by days."""
    return max((source_delivery.sweep_days for source_delivery in _by_days()), default=Delivery().sweep_days)


def _by_days() -> Iterator[Delivery]:
    return (source.delivery for source in registry.sources().values() if source.delivery.patterns)


@dataclass(frozen=True)
class DeliveryRoots:
    """Where AWS delivers logs, in and below a folder.

    Args:
        roots: Paths that hold `AWSLogs/` or lie in one, so that prefixes can be built below them.
        beside: Paths of folders and objects in none of them.
    """

    roots: tuple[str, ...] = ()
    beside: Names = field(default_factory=Names)


def find(fs: Any, path: str, source: str, calls: Calls, lake: str = "") -> DeliveryRoots:
    """Looks for AWS's folders in and below a folder; one that lies in them, above their days, is a root itself.

    Args:
        fs: The file system.
        path: The folder.
        source: Name of the source; of one that no service delivers so there are none.
        calls: How often the store was asked, so far.
        lake: Path of the lake that is made of the objects, which is none of them.
    """
    patterns = delivery(source).patterns
    if ROOT in path.split("/"):
        return DeliveryRoots((path,) if any(steps_below(path, pattern) is not None for pattern in patterns) else ())
    if not patterns:
        return DeliveryRoots()
    roots: list[str] = []
    loose: dict[str, Names] = {}
    closed: list[str] = []
    waiting = [path]
    end = calls.number + TREE_CALLS
    for depth in range(TREE_DEPTH + 1):
        following: list[str] = []
        for folder in waiting:
            if depth and calls.number >= end:
                closed.append(folder)
                continue
            entries = listing.entries(fs, folder, calls, TREE_PAGES if depth else None)
            loose[folder] = entries.files
            for name in entries.folders:
                if name == ROOT:
                    roots.append(folder)
                elif f"{folder}/{name}" == lake:
                    continue
                elif reason := objects.skipped(name):
                    calls.pass_over(fs, f"{folder}/{name}/", reason)
                elif depth == TREE_DEPTH or PERIOD.fullmatch(name):
                    closed.append(f"{folder}/{name}")
                else:
                    following.append(f"{folder}/{name}")
        waiting = following
    return DeliveryRoots(tuple(sorted(roots)), _beside(fs, path, roots, loose, closed)) if roots else DeliveryRoots()


def _beside(
    fs: Any, path: str, roots: Sequence[str], loose: Mapping[str, Names], closed: Sequence[str]
) -> Names:
    """What is in no tree: the uppermost folders that hold none, and objects beside folders that do."""
    above = {path}
    for root in roots:
        while root not in above:
            above.add(root)
            root = root.rpartition("/")[0]
    beside = Names()
    for folder in sorted({*loose, *closed} - above):
        if folder.rpartition("/")[0] in above:
            beside.add(listing.printable_uri(fs, f"{folder}/"))
    for folder in sorted(above & loose.keys()):
        beside.extend(Names(loose[folder].number, [listing.printable_uri(fs, name) for name in loose[folder].some]))
    return beside


@dataclass(frozen=True)
class Leaf:
    """A folder that holds folders of years.

    Args:
        path: Its path.
        steps: What the folders of years, months and days below it are called.
    """

    path: str
    steps: tuple[str, ...]


class Walk:
    """Goes through the folders of one source.

    Args:
        fs: The file system.
        scope: Days, accounts and regions.
        calls: How often the store was asked, so far.
    """

    def __init__(self, fs: Any, scope: Scope, calls: Calls) -> None:
        self.leaves: list[Leaf] = []
        self.fs = fs
        self.scope = scope
        self.calls = calls
        self.seen: dict[str, set[str]] = {"account": set(), "region": set()}
        self.reached: dict[str, set[str]] = {"account": set(), "region": set()}
        self._folders: dict[str, list[str]] = {}
        self._strangers: set[str] = set()
        self._followed: set[str] = set()
        self._account_steps = {pattern.split("/")[1] for pattern in all_patterns()}

    def places(self, roots: Sequence[str], path: str, source: str) -> Iterator[str]:
        """Folders of one day each.

        Args:
            roots: See `DeliveryRoots`.
            path: Where they were looked for.
            source: Name of the source.

        Raises:
            ConfigError: No tree has a folder of this source, or one of an account or region that is asked for.
        """
        patterns = delivery(source).patterns
        if self.scope.regions and not any("{region}" in pattern for pattern in patterns):
            raise ConfigError(f"the prefixes of {source} name no region, so none can be chosen; leave --region out")
        for root in roots:
            for pattern in patterns:
                yield from self._below(root, pattern)
        self._check(path, source)

    def strangers(self) -> Names:
        """URIs of folders in the place of an account, a region and the like that are called otherwise."""
        names = Names()
        for folder in sorted(self._strangers - self._followed):
            names.add(listing.printable_uri(self.fs, f"{folder}/"))
        return names

    def _below(self, path: str, pattern: str) -> Iterator[str]:
        """Folders of a day, for one pattern; nothing when the path lies beside it."""
        if ROOT not in path.split("/"):
            yield from self._from(f"{path}/{ROOT}", pattern.split("/")[1:], {})
        elif below := steps_below(path, pattern):
            rest, bound = below
            if self._take(bound):
                yield from self._from(path, rest, bound)

    def _from(self, path: str, steps: Sequence[str], bound: dict[str, str]) -> Iterator[str]:
        if "{year}" in steps[0]:
            for name, value in bound.items():
                self.reached.setdefault(name, set()).add(value)
            self.leaves.append(Leaf(path, tuple(steps)))
            yield from self._days(path, steps)
            return
        for name in self._names(path):
            below = f"{path}/{name}"
            if (values := matched(steps[0], name)) is not None:
                self._followed.add(below)
                if self._take(values):
                    yield from self._from(below, steps[1:], bound | values)
            elif path.endswith(f"/{ROOT}") and ORGANIZATION.fullmatch(name):
                self._followed.add(below)
                yield from self._from(below, steps, bound)
            elif "{" in steps[0] and not any(matched(step, name) is not None for step in self._account_steps):
                self._strangers.add(below)

    def _names(self, path: str) -> list[str]:
        if path not in self._folders:
            self._folders[path] = listing.folders(self.fs, path, self.calls)
        return self._folders[path]

    def _take(self, values: dict[str, str]) -> bool:
        for name, chosen in (("account", self.scope.accounts), ("region", self.scope.regions)):
            if name in values:
                self.seen[name].add(values[name])
                if chosen and values[name] not in chosen:
                    return False
        return True

    def _days(self, path: str, steps: Sequence[str]) -> Iterator[str]:
        year_step, month_step, day_step = steps
        months: dict[tuple[int, int], list[date]] = {}
        for year in self._years(path, year_step):
            for day in self.scope.days(year):
                months.setdefault((day.year, day.month), []).append(day)
        for days in months.values():
            month = f"{path}/{filled(year_step, days[0])}/{filled(month_step, days[0])}"
            names = [filled(day_step, day) for day in days]
            if len(names) > FEW_DAYS:
                existing = set(listing.folders(self.fs, month, self.calls))
                names = [name for name in names if name in existing]
            yield from (f"{month}/{name}" for name in names)

    def _years(self, path: str, step: str) -> list[int]:
        """The years that are asked for; of many, those that are there: else a range without an end asks without one."""
        years = list(range(self.scope.first.year, self.scope.last.year + 1))
        if len(years) > FEW_YEARS:
            existing = set(listing.folders(self.fs, path, self.calls))
            years = [year for year in years if filled(step, date(year, 1, 1)) in existing]
        return years

    def _check(self, path: str, source: str) -> None:
        """Says what is not there at all: of a mistyped account there would be no records, and no word about it."""
        if self.calls.refused:
            return  # what is absent may be in there, and the run names it
        for name, chosen in (("account", self.scope.accounts), ("region", self.scope.regions)):
            if absent := sorted(set(chosen) - self.reached[name]):
                existing = ", ".join(sorted(self.seen[name])[:SHOWN]) or "none"
                asked = ", ".join(absent)
                raise ConfigError(f"nothing of {source} for {name} {asked} below {path!r}; there are: {existing}")
        if not self.leaves:
            raise ConfigError(f"there are no folders of {source} below {path!r}")


def steps_below(path: str, pattern: str) -> tuple[list[str], dict[str, str]] | None:
    """What of a pattern lies below a path in its tree, and the values above; None when the path is beside it."""
    names, rest = path.split("/"), pattern.split("/")[1:]
    if ROOT not in names:
        return None
    inside = names[len(names) - names[::-1].index(ROOT) :]
    if inside and ORGANIZATION.fullmatch(inside[0]):
        inside = inside[1:]
    bound: dict[str, str] = {}
    for name in inside:
        values = matched(rest[0], name)
        if values is None or set(values) & set(_DATES):
            return None
        bound |= values
        rest = rest[1:]
    return rest, bound


def matched(step: str, name: str) -> dict[str, str] | None:
    """The values of the step's variables if a folder of this name can stand there."""
    if not (variable := _VARIABLE.search(step)):
        return {} if step == name else None
    kind = variable[1]
    before, after = step[: variable.start()], step[variable.end() :]
    if not (name.startswith(before) and name.endswith(after)):
        return None
    value = name[len(before) : len(name) - len(after)]
    if kind in _DATES:
        return {kind: value}
    return {kind: value} if VARIABLES.get(kind, _ANY).fullmatch(value) else None


def filled(step: str, day: date) -> str:
    """What the folder of a year, month or day is called."""
    def value(variable: re.Match[str]) -> str:
        name = variable[1]
        return _DATES[name].format(getattr(day, name.removesuffix("_unpadded")))

    return _VARIABLE.sub(value, step)
