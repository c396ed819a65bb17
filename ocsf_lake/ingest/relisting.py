"""A URI listed again, and what the ledger remembers of that: `ocsf-lake ingest`, by hand or from cron.

Keys arrive out of order and late, so neither the last key nor the time of an event shows what is new; the ledger does.
It also shows when a folder was last listed without a gap: from there each run looks some days back, so that a time in
which nothing ran is caught up with. Late objects are looked for further back once a day.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta

from ocsf_lake.inputs import deliveries, listing, probe, recent
from ocsf_lake.inputs.coverage import Coverage
from ocsf_lake.inputs.deliveries import Leaf
from ocsf_lake.inputs.listing import Calls
from ocsf_lake.lake import Lake
from ocsf_lake.ledger import listings
from ocsf_lake.ledger.seen import Seen
from ocsf_lake.storage import objects, retry, s3
from ocsf_lake.storage.objects import ObjectRef

SWEEP_EVERY = timedelta(days=1)
MOST_UNFINISHED = 50
"""Folders of older objects that are not finished are listed up to this number; with more of them all is."""
WHOLE, SWEPT, YEARS = "whole", "whole, sweep", "years"
"""What is remembered: of a URI, its listings; of a folder of years, that all of it was listed once."""

FEW_CALLS = 20
"""A folder that takes no more than this to list, some 20,000 objects, is listed whole each time: leaving days out would
take as many."""


@dataclass
class Listing:
    """A URI's listing by `ocsf-lake ingest`: whole the first time, then without older days of AWS's folders on S3.

    Args:
        uri: Folder, glob or file.
        source: Name of the source; None for any.
        mapper: Version of the source's mapper; with another one all is listed, as objects may be read again.
        lake: The lake.
        calls: How often the store was asked, so far.
        now: The time, with a zone.
        whole: Whether everything is asked for.
        first: First day that is looked at; None where all are.
        coverage: What was looked at, where older days were left out.
    """

    uri: str
    source: str | None
    mapper: str
    lake: Lake
    calls: Calls
    now: datetime
    whole: bool = False
    first: date | None = None
    coverage: Coverage | None = None
    _swept: bool = True
    _calls: int = 0
    _place: str = ""
    _remembered: list[str] = field(default_factory=list)
    _years: set[str] = field(default_factory=set)

    def pages(self) -> Iterator[list[ObjectRef]]:
        """The objects, page by page."""
        access = self.lake.settings.input_access
        with s3.translate_errors(self.uri):
            fs, path = objects.filesystem(self.uri, access)
            fs.invalidate_cache()
            self._place = listing.printable_uri(fs, f"{path}/")
            if not recent.is_possible(fs, path) or objects.kind(fs, path) != "directory":
                yield from listing.pages(self.uri, self.calls, access)
                return
            self._remembered = [WHOLE, SWEPT]
            begun = self.calls.number
            unfinished = self._decide()
            if self.first is None:
                yield from self._noting_years(path, listing.below(fs, path, self.calls))
                self._calls = self.calls.number - begun
                return
            leaves: list[Leaf] = []
            engine = self.lake.ledger.engine
            seen = Seen(engine)

            def was_listed(folder: str) -> bool:
                # Not by its objects in the ledger: a listing that was killed may have left the first of them there.
                uri = listing.printable_uri(fs, f"{folder}/")
                self._years.add(uri)
                return YEARS in retry.with_retries(listings.remembered, engine, uri, self.source, self.mapper)

            yield from recent.pages(fs, path, self.first, was_listed, self.calls, leaves, self._swept)
            for folder in unfinished:
                yield from listing.below(fs, objects.filesystem(folder, access)[1].rstrip("/"), self.calls)
            last = max(self.now.astimezone(UTC).date(), self.first)
            self.coverage = Coverage(self.source, self.uri, self.lake.settings.lake, self.first, last)
            if leaves:
                probe.other_days(fs, leaves, self.coverage, seen, self.calls)
                self.coverage.newer = None  # S3 gave all that sorts after the first day

    def done(self) -> None:
        """Notes that all of it was listed, and that what is new stands in the ledger."""
        if not self._remembered or self.calls.refused:
            return
        what = self._remembered if self._swept else [WHOLE]
        engine = self.lake.ledger.engine
        retry.with_retries(listings.remember, engine, self._years, self.source, [YEARS], self.mapper, self.now)
        retry.with_retries(
            listings.remember, engine, [self._place], self.source, what, self.mapper, self.now, self._calls
        )

    def _noting_years(self, path: str, pages: Iterator[list[ObjectRef]]) -> Iterator[list[ObjectRef]]:
        """Pages of all that is below a path, of which the folders of years are noted."""
        above = self._place[: -len(path) - 1]
        last = ""
        for page in pages:
            for ref in page:
                folder = ref.uri.rpartition("/")[0]
                if folder == last or folder.startswith(last or "/"):
                    continue
                year_folder = recent.folder_of_years(folder.removeprefix(above), path)
                last = f"{above}{year_folder}/" if year_folder else folder
                if year_folder:
                    self._years.add(last)
            yield page

    def _decide(self) -> list[str]:
        """Sets the first day, and gives the URIs of folders of older objects that are not finished."""
        if self.whole:
            return []
        engine = self.lake.ledger.engine
        last_listed = retry.with_retries(listings.remembered, engine, self._place, self.source, self.mapper)
        if WHOLE not in last_listed or SWEPT not in last_listed:
            return []
        self._calls = retry.with_retries(listings.calls, engine, self._place, self.source, WHOLE)
        if self._calls <= FEW_CALLS:
            return []
        unfinished = retry.with_retries(listings.unfinished, engine, self._place, MOST_UNFINISHED)
        if len(unfinished) > MOST_UNFINISHED:
            return []
        self._swept = not timedelta(0) <= self.now - last_listed[SWEPT] < SWEEP_EVERY
        since = last_listed[SWEPT] if self._swept else last_listed[WHOLE]
        days = deliveries.sweep_days() if self._swept else deliveries.lookback_days()
        self.first = first_day(since, self.now, days)
        return unfinished


def first_day(since: datetime, now: datetime, days: int) -> date:
    """The first day to look at, so many days before the last look without a gap."""
    return min(since, now).astimezone(UTC).date() - timedelta(days=days)
