"""The objects of a source that were delivered in a range of days: by prefixes where AWS's folders are, else by name."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime

from ocsf_lake.inputs import deliveries, discovery, listing, probe
from ocsf_lake.inputs.coverage import Coverage
from ocsf_lake.inputs.deliveries import Scope
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
        scope: Days of delivery, accounts, regions.
        calls: How often the store was asked, so far.
        in_tree: Whether prefixes could be built; known once listing has begun.
        undetermined: Objects taken although their names lack the day, account or region that is asked for.
        lake: Root of the lake that they are for, as the settings name it.
        seen: What that lake has, to find what else it has not; None where that is not asked for.
        coverage: What was looked at and what was not; whole once listing has ended.
    """

    source: str
    uri: str
    scope: Scope
    calls: Calls = field(default_factory=Calls)
    in_tree: bool = False
    undetermined: int = 0
    lake: str = ""
    seen: Seen | None = None
    coverage: Coverage = field(init=False)

    def __post_init__(self) -> None:
        """The coverage begins with what is asked for."""
        asked = (self.scope.first, self.scope.last)
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
        self.coverage.given[listing.printable_uri(fs, path)] = self.uri
        delivered = deliveries.DeliveryRoots()
        if objects.kind(fs, path) == "directory":
            lake = objects.filesystem(self.lake)[1] if self.lake else ""
            delivered = deliveries.find(fs, path, self.source, self.calls, lake)
        self.in_tree = bool(delivered.roots)
        if not self.in_tree:
            for page in listing.pages(self.uri, self.calls, access):
                outside: dict[str, date] = {}
                yield [ref for ref in page if self._named(ref, outside)]
                self._note_unread(outside)
            return
        for root in delivered.roots:
            self.coverage.roots.add(listing.printable_uri(fs, root))
        self.coverage.beside = delivered.beside
        walk = deliveries.Walk(fs, self.scope, self.calls)
        for place in walk.places(delivered.roots, path, self.source):
            yield from listing.below(fs, place, self.calls)
        self.coverage.accounts, self.coverage.regions = walk.reached["account"], walk.reached["region"]
        self.coverage.beside.extend(walk.strangers())
        if self.seen is not None:
            probe.other_days(fs, walk.leaves, self.coverage, self.seen, self.calls)

    def _note_unread(self, outside: dict[str, date]) -> None:
        if self.seen is not None and outside:
            read_uris = self.seen.objects(list(outside))
            for uri, day in outside.items():
                if uri not in read_uris:
                    self.coverage.unread(day, 1)

    def _named(self, ref: ObjectRef, outside: dict[str, date]) -> bool:
        """Whether an object is to be taken by its name; a fact that the name lacks does not exclude it.

        Args:
            ref: The object.
            outside: Takes the day of an object that would be taken, were other days asked for.
        """
        facts = discovery.of_key(ref.uri)
        if facts.source not in (None, self.source):
            return False
        day = _day(facts.day) if facts.day else day_in(ref.uri)
        chosen = ((facts.account, self.scope.accounts), (facts.region, self.scope.regions))
        if any(accepted and value is not None and value not in accepted for value, accepted in chosen):
            return False
        if day is not None and not self.scope.first <= day <= self.scope.last:
            outside[ref.uri] = day
            return False
        self.undetermined += day is None or any(accepted and value is None for value, accepted in chosen)
        return True


def day_in(uri: str) -> date | None:
    """The one day in the names of file and folders; None when they have none, or several."""
    days = {day for match in _DATE.finditer(uri) if (day := _day(match[1] + match[3] + match[4]))}
    return days.pop() if len(days) == 1 else None


def _day(digits: str) -> date | None:
    try:
        return datetime.strptime(digits, "%Y%m%d").replace(tzinfo=UTC).date()
    except ValueError:
        return None
