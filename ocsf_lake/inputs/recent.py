"""A folder on S3 listed again: whole, apart from older days of the folders in which AWS delivers by day.

Nothing is chosen by what it holds: folders and objects beside AWS's are listed each time. Of a folder that holds AWS's
years, S3 gives the names from a day on; those of a source whose months have no leading zeros from a year on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import date
from typing import Any

from ocsf_lake.inputs import deliveries, listing
from ocsf_lake.inputs.deliveries import Leaf
from ocsf_lake.inputs.listing import Calls
from ocsf_lake.storage import s3
from ocsf_lake.storage.objects import ObjectRef
from ocsf_mappers.vocabulary.source import ROOT

_END = deliveries.TREE_DEPTH + 1


def is_possible(fs: Any, path: str) -> bool:
    """Whether a folder can be listed from a name on: on S3, apart from directory buckets, which have no order."""
    return s3.is_s3(fs) and hasattr(fs, "call_s3") and not path.split("/")[0].endswith("--x-s3")


def pages(
    fs: Any, path: str, first: date, was_listed: Callable[[str], bool], calls: Calls, leaves: list[Leaf],
    beside_years: bool = True,
) -> Iterator[list[ObjectRef]]:  # fmt: skip
    """The objects below a folder, without older days of AWS's folders.

    Args:
        fs: The file system, one for which `is_possible` holds.
        path: The folder.
        first: First day of delivery, UTC.
        was_listed: Whether a folder of years was listed whole before; one that was not is.
        calls: How often the store was asked, so far.
        leaves: Takes the folders of which older days were left out.
        beside_years: Also the objects that somebody has put beside the years themselves, at a call a folder.
    """
    waiting = [(path, 0)]
    end = calls.number + deliveries.TREE_CALLS
    while waiting:
        folder, depth = waiting.pop()
        in_tree = ROOT in folder.split("/")
        rests = _rests(folder)
        years = _years(rests)
        if years is not None and was_listed(folder):
            leaves.append(Leaf(folder, tuple(years)))
            after = _before(years, first)
            if beside_years:
                for page in listing.level(fs, folder, calls, []):
                    if earlier := [ref for ref in page if ref.uri.rpartition("/")[2] <= after]:
                        yield earlier
            yield from listing.below(fs, folder, calls, after=after)
        elif (
            years is not None
            or (in_tree and not rests)
            or (not in_tree and (depth >= _END or calls.number >= end))
        ):
            yield from listing.below(fs, folder, calls)
        else:
            inside: list[str] = []
            yield from listing.level(fs, folder, calls, inside)
            waiting += [
                (f"{folder}/{name}", _END if _is_period(name, in_tree) else depth + 1)
                for name in sorted(inside, reverse=True)
            ]


def folder_of_years(path: str, root: str) -> str | None:
    """The folder of years that a path lies in, as `pages` finds it below a root; None where there is none."""
    steps = path.split("/")
    above = ("/".join(steps[:number]) for number in range(len(root.split("/")), len(steps) + 1))
    return next((folder for folder in above if _years(_rests(folder)) is not None), None)


def _rests(folder: str) -> list[list[str]]:
    """What may stand below a folder of a tree of AWS's."""
    return [below[0] for pattern in deliveries.all_patterns() if (below := deliveries.steps_below(folder, pattern))]


def _years(rests: Sequence[Sequence[str]]) -> Sequence[str] | None:
    return next((rest for rest in rests if rest and "{year}" in rest[0]), None)


def _is_period(name: str, in_tree: bool) -> bool:
    return not in_tree and name != ROOT and deliveries.PERIOD.fullmatch(name) is not None


def _before(steps: Sequence[str], first: date) -> str:
    """A name that stands before those of the day and after those of the days before it, below a folder of years."""
    sorted_steps = []
    for step in steps:
        if "unpadded" in step:
            break
        sorted_steps.append(deliveries.filled(step, first))
    return "/".join(sorted_steps)
