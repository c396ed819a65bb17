"""The objects of a source that were delivered in a range of days: by prefixes where AWS's folders are, else by name."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime

from lake import discovery, listing, objects, s3, trees
from lake.listing import Calls
from lake.objects import ObjectRef
from lake.s3 import Access
from lake.trees import Wanted

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
    """

    source: str
    uri: str
    wanted: Wanted
    calls: Calls = field(default_factory=Calls)
    in_tree: bool = False
    undetermined: int = 0

    def pages(self, access: Access = objects.DEFAULT_ACCESS) -> Iterator[list[ObjectRef]]:
        """The objects, page by page, in an order that is the same every time.

        Args:
            access: How S3 is reached.

        Raises:
            ConfigError: There is nothing at the URI, or nothing of the source, account or region.
        """
        objects.check([self.uri], access)
        with s3.explained(self.uri):
            yield from self._pages(access)

    def _pages(self, access: Access) -> Iterator[list[ObjectRef]]:
        fs, path = objects.filesystem(self.uri, access)
        fs.invalidate_cache()
        self.in_tree = objects.kind(fs, path) == "directory" and trees.has_tree(fs, path, self.source, self.calls)
        if not self.in_tree:
            for page in listing.pages(self.uri, self.calls, access):
                yield [ref for ref in page if self._named(ref)]
            return
        for place in trees.places(fs, path, self.source, self.wanted, self.calls):
            yield from listing.below(fs, place, self.calls)

    def _named(self, ref: ObjectRef) -> bool:
        """Whether an object is to be taken by what its name says; what it does not say speaks for it."""
        facts = discovery.of_key(ref.uri)
        if facts.source not in (None, self.source):
            return False
        day = _day(facts.day) if facts.day else day_in(ref.uri)
        if day is not None and not self.wanted.first <= day <= self.wanted.last:
            return False
        chosen = ((facts.account, self.wanted.accounts), (facts.region, self.wanted.regions))
        if any(accepted and said is not None and said not in accepted for said, accepted in chosen):
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
