"""The objects of a source that were delivered in a range of days: by prefixes where AWS's folders are, else by name."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime

from ocsf_lake.inputs import deliveries, discovery, listing, probe
from ocsf_lake.inputs.coverage import Coverage
from ocsf_lake.inputs.deliveries import Wanted
from ocsf_lake.inputs.listing import Calls
from ocsf_lake.ledger.seen import Seen
from ocsf_lake.storage import objects, s3
from ocsf_lake.storage.objects import ObjectRef
from ocsf_lake.storage.s3 import Access

_DATE = re.compile(r"(?<!\d)(20\d\d)([-/_]?)(\d\d)\2(\d\d)(?=\D|$)")


@dataclass
class Window:
    """A listing of one source below one URI.

    Args:
        source: Name of the source.
        uri: A folder: a bucket, `AWSLogs/` or something in it, or any other.
        wanted: Days of delivery, accounts, regions.
        calls: How often the store was asked, so far.
        in_tree: Whether prefixes could be built; known once listing has begun.
        undetermined: Objects given although their names do not say the day, account or region that is asked for.
        lake: Root of the lake that they are for, as the settings name it.
        seen: What that lake has, to tell what else it has not; None where nobody wants to know.
        coverage: What was looked at and what was not; whole once listing has ended.
    """

    source: str
    uri: str
    wanted: Wanted
    calls: Calls = field(default_factory=Calls)
    in_tree: bool = False
    undetermined: int = 0
    lake: str = ""
    seen: Seen | None = None
    coverage: Coverage = field(init=False)

    def __post_init__(self) -> None:
        """The coverage begins with what is asked for."""
        asked = (self.wanted.first, self.wanted.last)
        self.coverage = Coverage(self.source, self.uri, self.lake, *asked, passed=self.calls.passed)

    def pages(self, access: Access = objects.DEFAULT_ACCESS) -> Iterator[list[ObjectRef]]:
        """The objects, page by page, in an order that is the same every time.

        Args:
            access: How S3 is reached.

        Raises:
            ConfigError: There is nothing at the URI, or nothing of the source, account or region.
        """
        objects.check([self.uri], access)
        with s3.translate_errors(self.uri):
            yield from self._pages(access)

    def _pages(self, access: Access) -> Iterator[list[ObjectRef]]:
        fs, path = objects.filesystem(self.uri, access)
        fs.invalidate_cache()
        self.coverage.given[listing.shown(fs, path)] = self.uri
        found = deliveries.Found()
        if objects.kind(fs, path) == "directory":
            lake = objects.filesystem(self.lake)[1] if self.lake else ""
            found = deliveries.find(fs, path, self.source, self.calls, lake)
        self.in_tree = bool(found.roots)
        if not self.in_tree:
            for page in listing.pages(self.uri, self.calls, access):
                outside: dict[str, date] = {}
                yield [ref for ref in page if self._named(ref, outside)]
                self._note_unread(outside)
            return
        for root in found.roots:
            self.coverage.trees.add(listing.shown(fs, root))
        self.coverage.beside = found.beside
        walk = deliveries.Walk(fs, self.wanted, self.calls)
        for place in walk.places(found.roots, path, self.source):
            yield from listing.below(fs, place, self.calls)
        self.coverage.accounts, self.coverage.regions = walk.reached["account"], walk.reached["region"]
        self.coverage.beside.extend(walk.strangers())
        if self.seen is not None:
            probe.other_days(fs, walk.leaves, self.coverage, self.seen, self.calls)

    def _note_unread(self, outside: dict[str, date]) -> None:
        if self.seen is not None and outside:
            known = self.seen.objects(list(outside))
            for uri, day in outside.items():
                if uri not in known:
                    self.coverage.unread(day, 1)

    def _named(self, ref: ObjectRef, outside: dict[str, date]) -> bool:
        """Whether an object is to be taken by what its name says; what it does not say speaks for it.

        Args:
            ref: The object.
            outside: Takes the day of an object that would be taken, were other days asked for.
        """
        facts = discovery.of_key(ref.uri)
        if facts.source not in (None, self.source):
            return False
        day = _day(facts.day) if facts.day else day_in(ref.uri)
        chosen = ((facts.account, self.wanted.accounts), (facts.region, self.wanted.regions))
        if any(accepted and said is not None and said not in accepted for said, accepted in chosen):
            return False
        if day is not None and not self.wanted.first <= day <= self.wanted.last:
            outside[ref.uri] = day
            return False
        self.undetermined += day is None or any(accepted and said is None for said, accepted in chosen)
        return True


def day_in(uri: str) -> date | None:
    """The one day that the names of file and folders say; None when they say none, or several."""
    said = {found for match in _DATE.finditer(uri) if (found := _day(match[1] + match[3] + match[4]))}
    return said.pop() if len(said) == 1 else None


def _day(digits: str) -> date | None:
    try:
        return datetime.strptime(digits, "%Y%m%d").replace(tzinfo=UTC).date()
    except ValueError:
        return None
