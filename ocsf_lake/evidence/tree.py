"""Where digests and log files lie: a place for each account and region, its objects day by day."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

from ocsf_lake.inputs import deliveries, listing
from ocsf_lake.inputs.listing import Calls
from ocsf_lake.storage import objects, retry, s3
from ocsf_lake.storage.objects import ObjectRef
from ocsf_mappers.errors import ConfigError
from ocsf_mappers.vocabulary.source import ROOT, Source

_BY_DAY = re.compile(r"(\d{4}/\d\d/\d\d)/([^/]+/)*")
YEARS = range(2000, 9000)
"""Of others there are no logs, and nobody should reckon with them, to the end of the calendar."""
_UNSAFE = frozenset(["", ".", ".."])
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def in_tree(key: str) -> str | None:
    """The part of a key from `AWSLogs/` on, by which it is known wherever its tree was copied to.

    The last `AWSLogs/` counts: a bucket's prefix may be called anything, by whoever owns the bucket. None for a key
    that lies in no such tree, or could lead out of it.
    """
    steps = key.split("/")
    if ROOT not in steps:
        return None
    inside = steps[len(steps) - 1 - steps[::-1].index(ROOT) :]
    return None if _UNSAFE & set(inside) or _CONTROL.search(key) else "/".join(inside)


@dataclass(frozen=True)
class Place:
    """An account's digests and log files of one region.

    Args:
        fs: The file system.
        top: Path of the folder that holds `AWSLogs/`.
        account: Twelve digits.
        region: The region.
        owner: Path of the folder of the organization or account whose trails deliver there.
        digests: Path of the folder with the digests' years; there may be none.
        logs: The same of the log files.
    """

    fs: Any
    top: str
    account: str
    region: str
    owner: str
    digests: str
    logs: str

    def key(self, ref: ObjectRef) -> str:
        """An object's key from `AWSLogs/` on."""
        return str(self.fs._strip_protocol(ref.uri)).removeprefix(f"{self.top}/")

    def path(self, key: str) -> str:
        """The path of a key that begins with `AWSLogs/`."""
        return f"{self.top}/{key}"

    def uri(self, key: str) -> str:
        """Its URI, to be shown."""
        return listing.printable_uri(self.fs, self.path(key))


def places(
    fs: Any, path: str, source: Source, accounts: tuple[str, ...], regions: tuple[str, ...], calls: Calls
) -> list[Place]:
    """The places in and below a folder, in order.

    Args:
        fs: Its file system.
        path: The folder: it holds `AWSLogs/`, lies above it, or is that of an organization or account in it.
        source: The source whose digests are looked for.
        accounts: Only these; empty for all.
        regions: Only these; empty for all.
        calls: How often the store was asked, so far.

    Raises:
        ConfigError: There is none, or none of an account or region that is asked for.
    """
    digests = source.digests
    assert digests is not None
    kinds = [pattern.split("/")[2] for pattern in (digests.pattern, digests.logs)]
    places_there: list[Place] = []
    seen: dict[str, set[str]] = {"account": set(), "region": set()}
    for root in deliveries.find(fs, path, source.name, calls).roots:
        for top, folder, account in _accounts(fs, root, calls):
            seen["account"].add(account)
            if accounts and account not in accounts:
                continue
            names = {name for kind in kinds for name in listing.folders(fs, f"{folder}/{kind}", calls)}
            above = folder.rpartition("/")[0]
            owner = above if deliveries.ORGANIZATION.fullmatch(above.rpartition("/")[2]) else folder
            for region in sorted(names):
                if not deliveries.VARIABLES["region"].fullmatch(region):
                    for kind in kinds:
                        if listing.folders(fs, f"{folder}/{kind}/{region}", calls):
                            uri = listing.printable_uri(fs, f"{folder}/{kind}/{region}")
                            calls.refused[uri] = "it is called as no region is, and lies in the place of one"
                    continue
                seen["region"].add(region)
                if not regions or region in regions:
                    leaves = (f"{folder}/{kind}/{region}" for kind in kinds)
                    places_there.append(Place(fs, top, account, region, owner, *leaves))
    for name, chosen in (("account", accounts), ("region", regions)):
        if absent := sorted(set(chosen) - {getattr(place, name) for place in places_there}):
            there = ", ".join(sorted(seen[name])[: deliveries.SHOWN]) or "none"
            raise ConfigError(f"nothing of {source.name} for {name} {', '.join(absent)} below {path!r}; there: {there}")
    if not places_there:
        raise ConfigError(
            f"no folders of {source.name} below {path!r}; name the one that holds {ROOT}/, or an account's in it"
        )
    return places_there


def _accounts(fs: Any, root: str, calls: Calls) -> Iterator[tuple[str, str, str]]:
    """The folders of accounts: that which holds `AWSLogs/`, their path, the account."""
    steps = root.split("/")
    at = len(steps) - 1 - steps[::-1].index(ROOT) if ROOT in steps else len(steps)
    top, given = "/".join(steps[:at]), steps[at + 1 :]
    yield from ((top, *account) for account in _below(fs, f"{top}/{ROOT}", given, calls))


def _below(fs: Any, folder: str, given: list[str], calls: Calls) -> Iterator[tuple[str, str]]:
    for name in given[:1] or listing.folders(fs, folder, calls):
        if deliveries.VARIABLES["account"].fullmatch(name) and not given[1:]:
            yield f"{folder}/{name}", name
        elif deliveries.ORGANIZATION.fullmatch(name):
            yield from _below(fs, f"{folder}/{name}", given[1:], calls)


@dataclass(frozen=True)
class Objects:
    """Objects of one day; of none where they lie in no folder of a day."""

    day: date | None
    refs: tuple[ObjectRef, ...]


def by_day(
    place: Place, folder: str, first: date | None, last: date | None, calls: Calls, before: timedelta = timedelta()
) -> Iterator[Objects]:
    """The objects in a folder of years, day by day in order.

    Those that lie elsewhere, or deeper, come in between, without a day: where days are chosen, those below them alone.

    Args:
        place: Whose folder it is.
        folder: Its path.
        first: Only days from this one on.
        last: Only days up to this one.
        calls: How often the store was asked, so far.
        before: Also those of so long before the first day that lie in a folder of a day.
    """
    since = first and first - before
    refs: list[ObjectRef] = []
    day = ""
    for page in listing.below(place.fs, folder, calls, after=f"{since:%Y/%m/%d}" if since else ""):
        for ref in page:
            name = str(place.fs._strip_protocol(ref.uri)).removeprefix(f"{folder}/")
            match = _BY_DAY.match(name)
            its = _day(match[1]) if match else None
            if match is None or its is None:
                if not first and not last:
                    yield Objects(None, (ref,))
                continue
            if match[1] != day and refs:
                yield Objects(_day(day), tuple(refs))
                refs = []
            if last and its > last:
                return
            day = match[1]
            if since and its < since:
                continue
            if not match[2]:
                refs.append(ref)
            elif not first or its >= first:
                yield Objects(None, (ref,))
    if refs:
        yield Objects(_day(day), tuple(refs))


def _day(text: str) -> date | None:
    try:
        day = date.fromisoformat(text.replace("/", "-"))
    except ValueError:
        return None
    return day if day.year in YEARS else None


def look(place: Place, key: str) -> ObjectRef | None:
    """An object of the place's tree that was not listed; None where there is none."""
    fs, path = place.fs, place.path(key)
    with s3.translate_errors(place.uri(key), denied=objects.ObjectError):
        try:
            info = retry.call(fs.info, path)
        except FileNotFoundError:
            return None
    return objects.unhashed(fs, info) if info["type"] == "file" else None
