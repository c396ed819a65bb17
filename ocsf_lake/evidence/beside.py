"""What a lake has of the log files that digests name, as far as it is asked here; who knows lakes answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from ocsf_lake.storage import objects
from ocsf_lake.storage.objects import ObjectRef
from ocsf_mappers import HashedObject

PROVED, FAULT, UNCHECKED = "proved", "fault", "unchecked"
"""What became of a digest."""


@dataclass(frozen=True)
class Ingested:
    """An object as a lake has read it.

    Args:
        ref: As it was listed then.
        sha256: Of its decompressed content as it was read, hex; None where the lake keeps none.
    """

    ref: ObjectRef
    sha256: str | None = None


@dataclass(frozen=True)
class Verdict:
    """What was found of a digest.

    Args:
        trail: The trail.
        home_region: Where it was made.
        start: Beginning of its time.
        end: End of it.
        state: `proved`, `fault`, or `unchecked` where its key is not known.
        files: Log files that it names.
    """

    trail: str
    home_region: str
    start: datetime
    end: datetime
    state: str
    files: int


class Lake(Protocol):
    """A lake that is compared with what was delivered."""

    def ingested(self, uris: Sequence[str]) -> Mapping[str, Sequence[Ingested]]:
        """URI -> what the lake has read under it, where it has."""

    def place(self, account: str, region: str) -> None:
        """Called before what lies of an account and region is looked at."""

    def digest(self, verdict: Verdict) -> None:
        """Called with what was found of a digest of that account and region, but of none of backfill."""


def is_delivered(
    ingested: Ingested, named: HashedObject, now: ObjectRef | None, sha256s: Sequence[str], fits: bool
) -> bool | None:
    """Whether a lake has read the content that a digest names; None where that cannot be known.

    Args:
        ingested: What the lake has read.
        named: The log file as the digest names it.
        now: The object as it is now; None where there is none.
        sha256s: Of the object as it is now and of what each decompression gives, hex.
        fits: Whether the object now has the content that the digest names.
    """
    if ingested.sha256 is not None:
        # A file that was compressed twice has its hash at another layer.
        return ingested.sha256 == named.hash.lower() or (fits and ingested.sha256 in sha256s)
    if not fits or now is None:
        return None
    then = ingested.ref
    if now.stamp and now.stamp == then.stamp and now.size == then.size:
        return True
    # Another ETag may be that of the same content, compressed or encrypted anew.
    return objects.with_etag(now).etag == then.etag or None
