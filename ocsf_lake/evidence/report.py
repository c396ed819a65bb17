"""What verifying finds: faults, what is proved of each chain, and all of it together."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime


@dataclass(frozen=True)
class Fault:
    """Something that is not as it was delivered, or cannot be proved to be.

    Args:
        what: Its kind, in a few words that stay the same.
        object: URI of the object.
        reason: What is wrong.
        start: Beginning of the time concerned, UTC; None where it is not known.
        end: End of it.
        account: Twelve digits, where it is about one.
        region: The region.
        trail: The trail, where it is about one.
        home_region: Where the trail was made.
        sha256: Hash of a log file in its digest, hex.
        in_lake: Whether the lake has read that content; None where it is not known, or no lake was asked.
    """

    what: str
    object: str
    reason: str
    start: datetime | None = None
    end: datetime | None = None
    account: str | None = None
    region: str | None = None
    trail: str | None = None
    home_region: str | None = None
    sha256: str | None = None
    in_lake: bool | None = None


@dataclass(frozen=True)
class Window:
    """The time that is asked for; None for no bound."""

    start: datetime | None = None
    end: datetime | None = None

    def concerns(self, start: datetime | None, end: datetime | None) -> bool:
        """Whether some time lies in it, at least in part."""
        return not (self.end and start and start >= self.end) and not (self.start and end and end <= self.start)


@dataclass
class Proof:
    """What was proved of a chain in the time that is asked for.

    Args:
        account: Twelve digits.
        region: The region.
        trail: The trail.
        home_region: Where it was made.
        backfill: Whether it is that of its backfill digests.
        first: Beginning of the first digest.
        last: End of the last one.
        begins: Whether the first is one with which a chain begins.
        digests: So many there are.
        proved: Of these, so many are proved.
        seconds: Time that these cover.
        empty: Of these, so many name no log file.
        files: Log files that match those.
        bytes: Of these, uncompressed.
    """

    account: str
    region: str
    trail: str
    home_region: str
    backfill: bool
    first: datetime | None = None
    last: datetime | None = None
    begins: bool = False
    digests: int = 0
    proved: int = 0
    seconds: float = 0
    empty: int = 0
    files: int = 0
    bytes: int = 0


@dataclass
class Summary:
    """What was found.

    Args:
        faults: How many.
        chains: Those of which there are digests in the time that is asked for.
        digests: So many there are.
        proved: Of these, so many are proved.
        seconds: Time that these cover, of all chains together.
        empty: Of these, so many name no log file.
        files: Log files that match those.
        bytes: Of these, uncompressed.
        pending: Log files that no digest names, and none had to, yet: they are from a chain's last hours, or its edges.
        copied: Where digests were delivered to that are read elsewhere -> how many.
        signatures: Whether signatures were checked.
        in_lake: Log files of which a lake has read the content that their digest names; None if none was asked.
    """

    faults: int = 0
    chains: int = 0
    digests: int = 0
    proved: int = 0
    seconds: float = 0
    empty: int = 0
    files: int = 0
    bytes: int = 0
    pending: int = 0
    copied: dict[str, int] = field(default_factory=dict)
    signatures: bool = True
    in_lake: int | None = None

    def add(self, proof: Proof) -> None:
        """Counts a chain."""
        self.chains += 1
        for name in ("digests", "proved", "seconds", "empty", "files", "bytes"):
            setattr(self, name, getattr(self, name) + getattr(proof, name))
