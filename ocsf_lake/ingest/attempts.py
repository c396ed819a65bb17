"""How often an object that fails is tried: by each run at first, then seldom or not at all, and always named.

After `attempts` (a setting) failures an object is left out. Where the store failed (no permission, gone, an error of a
disk) it is tried again after pauses that double up to a day, because that may be mended where we cannot see it. Where
the object itself makes reading or mapping fail, it is tried again when the mapper or this program has changed.
`ocsf-lake ingest --retry`, or naming the object itself instead of its folder, tries it at once.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from ocsf_lake.ledger.ledger import LeftOut, Tries

FIRST_PAUSE, LONGEST_PAUSE = timedelta(minutes=15), timedelta(days=1)
"""Between attempts at an object that the store has not given before."""


def is_due(tries: Tries, more: int, program: str | None, now: datetime) -> bool:
    """Whether an object that failed often enough is to be tried again now.

    Args:
        tries: How often it was tried.
        more: Failures after those that are enough.
        program: What would read it, see `ocsf_lake.ledger.ledger.program`; None where that is not known.
        now: The time, with a zone.
    """
    if tries.tried_with is not None:
        return program is not None and program != tries.tried_with
    pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** min(more, 10))
    return tries.tried_at is None or now - datetime.fromisoformat(tries.tried_at) >= pause


def message(tries: Tries | LeftOut) -> str:
    """The reason to report for an object that is left out."""
    until = "after a pause" if tries.tried_with is None else "when the mapper or ocsf-lake has changed"
    return f"{tries.reason} (tried {tries.attempts} times; tried again {until})"
