"""Which other days were delivered into folders of AWS's that a listing looked at, and are not in the lake.

Folders of years and months are listed, and those of days where something begins or ends, so that a run pays for a few
calls. A month of which the lake has anything counts as read, apart from the oldest and the latest such month, whose
days are held against the ledger one by one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from ocsf_lake.inputs import deliveries, listing
from ocsf_lake.inputs.coverage import Coverage
from ocsf_lake.inputs.deliveries import Leaf
from ocsf_lake.inputs.listing import Calls
from ocsf_lake.ledger.seen import Seen

MOST_CALLS = 60
"""One run asks so often, at most: at S3's price a run every five minutes pays less than 3 dollars a month for it."""


@dataclass(frozen=True, order=True)
class _Month:
    first: date
    path: str
    day_step: str


def other_days(fs: Any, leaves: Sequence[Leaf], coverage: Coverage, seen: Seen, calls: Calls) -> None:
    """Notes in the coverage what lies before and after its days and is not in the lake.

    Args:
        fs: The file system.
        leaves: Folders that hold a year's folder each.
        coverage: What was looked at.
        seen: What the lake has.
        calls: How often the store was asked, so far.
    """
    if coverage.first is None or coverage.last is None:
        return
    end = calls.number + MOST_CALLS
    # Other folders first on each day, so that all have their turn where there are very many.
    turn = coverage.last.isoformat()
    coverage.folders = len(leaves)
    for leaf in sorted(leaves, key=lambda leaf: hashlib.sha256(f"{turn} {leaf.path}".encode()).digest()):
        if calls.number >= end:
            break
        _of_leaf(fs, leaf, coverage, seen, calls)
        coverage.probed += 1


def _of_leaf(fs: Any, leaf: Leaf, coverage: Coverage, seen: Seen, calls: Calls) -> None:
    assert coverage.first is not None
    assert coverage.last is not None
    months = _months(fs, leaf, calls)
    read_folders = seen.folders(_uri(fs, month.path) for month in months)
    inside = (coverage.first.replace(day=1), coverage.last.replace(day=1))
    for beyond in (
        [month for month in months if month.first <= inside[0]],
        [month for month in months if month.first >= inside[1]],
    ):
        asked = [month for month in beyond if month.first in inside]
        others = [month for month in beyond if month.first not in inside]
        unread = [month for month in others if _uri(fs, month.path) not in read_folders]
        read = [month for month in others if month not in unread]
        for month in {*asked, *unread[:1], *unread[-1:], *read[:1], *read[-1:]}:
            for day in _days(fs, month, seen, calls):
                if not coverage.first <= day <= coverage.last:
                    coverage.unread(day)


def _months(fs: Any, leaf: Leaf, calls: Calls) -> list[_Month]:
    year_step, month_step, day_step = leaf.steps
    months = []
    for year, year_name in _numbers(fs, leaf.path, year_step, calls):
        for month, name in _numbers(fs, f"{leaf.path}/{year_name}", month_step, calls):
            if 1 <= year <= 9999 and 1 <= month <= 12:
                months.append(_Month(date(year, month, 1), f"{leaf.path}/{year_name}/{name}", day_step))
    return sorted(months)


def _days(fs: Any, month: _Month, seen: Seen, calls: Calls) -> list[date]:
    """The days of a month that are there, and of which the lake has nothing."""
    day_by_uri: dict[str, date] = {}
    for day, name in _numbers(fs, month.path, month.day_step, calls):
        try:
            day_by_uri[_uri(fs, f"{month.path}/{name}")] = month.first.replace(day=day)
        except ValueError:
            continue
    read_folders = seen.folders(day_by_uri)
    return sorted(day for uri, day in day_by_uri.items() if uri not in read_folders)


def _numbers(fs: Any, path: str, step: str, calls: Calls) -> list[tuple[int, str]]:
    """Numbers that folders are named by, and the whole names."""
    return [
        (int(value), name)
        for name in listing.folders(fs, path, calls)
        for value in (deliveries.matched(step, name) or {}).values()
        if value.isascii() and value.isdecimal() and len(value) <= 4
    ]


def _uri(fs: Any, path: str) -> str:
    return listing.printable_uri(fs, f"{path}/")
