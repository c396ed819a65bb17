"""What is known of objects and batches: their states, their counts, and what became of them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from ocsf_lake.storage.fileinfo import FileInfo
from ocsf_lake.storage.objects import ObjectRef
from ocsf_mappers.compiler.statistics import FirstSeen, SchemaDrift, Statistics
from ocsf_mappers.errors import OcsfMappersError

ID_DIGITS = 32
"""Hexadecimal digits of the ids of batches, and of names made the same way."""


class State(StrEnum):
    """How far an object or a batch has come.

    planned: in a batch that is not done. done: its batch is. failed: could not be read (object), or raised (batch);
    tried again, see `ingest.attempts`. skipped: of no known source; looked at again. set_aside: holds no records of the
    log it lies among. replaced: was never read, or of no known source, and its key has another content now, an object
    of its own. kept: of a run, not of the ledger: it stays what it was read as, against what was asked for.
    """

    PLANNED = "planned"
    DONE = "done"
    FAILED = "failed"
    SKIPPED = "skipped"
    SET_ASIDE = "set_aside"
    REPLACED = "replaced"
    KEPT = "kept"


class Kind(StrEnum):
    """What a batch is made of; how its files become part of the lake is the same for all but merges.

    ingest: objects. replay: entries of quarantine, see `ocsf_lake.upkeep.replay`; it read nothing, and what it maps it
    takes out of quarantine, `0 = events + quarantined + dropped`, so that sums over batches and objects stay true.
    routed: records that stood among those of another source, done with the batch in whose objects they stand, see
    `ocsf_lake.ingest.routed`. merge: files of other batches, see `ocsf_lake.upkeep.compact`.
    """

    INGEST = "ingest"
    REPLAY = "replay"
    ROUTED = "routed"
    MERGE = "merge"


SETTLED = (State.PLANNED, State.DONE, State.SET_ASIDE)
"""States in which an object is not planned again."""


class CountError(OcsfMappersError):
    """Records were lost or doubled: a defect of this program. Nothing of what it concerns is visible."""


@dataclass
class Counts:
    """What became of records: `read == events + quarantined + dropped`."""

    read: int = 0
    events: int = 0
    quarantined: int = 0
    dropped: int = 0

    @property
    def balanced(self) -> bool:
        """Whether every record that was read is accounted for."""
        return self.read == self.events + self.quarantined + self.dropped

    def add(self, other: Counts) -> None:
        """Counts those of another as well."""
        self.read += other.read
        self.events += other.events
        self.quarantined += other.quarantined
        self.dropped += other.dropped


@dataclass(frozen=True)
class Batch:
    """Objects of one source that are mapped together.

    Args:
        id: Hash of what goes into it (the members' URIs and ETags), the mapper's version and the OCSF version.
        source: Name of the source.
        mapper_version: Fingerprint of the mapper.
        ocsf_version: OCSF version of the events.
        members: The objects, sorted.
        attempts: How often work on it was begun; of two workers the one with the higher number has it.
        number: Of this attempt's record, see `ocsf_lake.ledger.marker`.
        planned_at: When it was planned, as the ledger has it.
        begun_at: When this attempt was begun.
        kind: What it is made of. Of one that is not `ingest` the members are the objects whose records it has.
    """

    id: str
    source: str
    mapper_version: str
    ocsf_version: str
    members: tuple[ObjectRef, ...]
    attempts: int = 0
    number: int = 0
    planned_at: str = ""
    begun_at: str | None = None
    kind: Kind = Kind.INGEST

    @property
    def bytes_in(self) -> int:
        """Size of the objects that were not read before, as they are stored."""
        return sum(member.size for member in self.members) if self.kind is Kind.INGEST else 0


@dataclass(frozen=True)
class BatchRow:
    """A batch without its members, as the ledger has it.

    Args:
        id: See `Batch`.
        source: Name of the source.
        mapper_version: Fingerprint of the mapper.
        ocsf_version: OCSF version of the events.
        state: How far it has come.
        bytes_in: Size of the members as they are stored.
        failures: Attempts that ended neither well nor through a store or database that failed: errors, and processes
            that died. One that is under way counts until it ends.
        reason: Why the last attempt failed; None when it is not known.
    """

    id: str
    source: str
    mapper_version: str
    ocsf_version: str
    state: State
    bytes_in: int
    failures: int = 0
    reason: str | None = None


@dataclass
class Outcome:
    """What became of one object of a batch.

    Args:
        counts: What became of its records.
        state: Done, set aside or failed.
        reason: Why, where it is not done.
        lasting: Of one that failed: whether reading it again fails again, unless the mapper or this program changes.
        sha256: Of its decompressed content, hex, where the settings ask for it.
    """

    counts: Counts = field(default_factory=Counts)
    state: State = State.DONE
    reason: str | None = None
    lasting: bool = False
    sha256: str | None = None


@dataclass(frozen=True)
class Isolated:
    """A record that made the program fail. It is in quarantine, and its neighbours are in the lake.

    Args:
        uri: URI of its object.
        record: Its number in the object.
        reason: What it made fail.
    """

    uri: str
    record: int
    reason: str


@dataclass
class Result:
    """What became of a batch.

    Args:
        outcomes: Of each member.
        files: What was written, in order.
        events_by_class: Events per class name.
        dropped: Dropped lines per reason.
        failed_casts: Failed casts per OCSF path.
        unmapped_keys: Events per key in `unmapped`.
        seconds: Time it took.
        duplicates: Events that the lake had already; those that were dropped are among the dropped.
        variants: Events with a key that the lake had, and other content.
        fallbacks: Records that an error sent the slower way, per error; see `Mapped`.
        isolated: Records that made the program fail, in quarantine.
        statistics: What its records held.
        drift: What no earlier batch of the source had, and where it stands first; known once the batch is done.
        routed: What became of records of other sources, each with a batch of its own; they count there alone.
        record: Path, SHA-256 and size of the batch's record in the lake, once that is written.
        redacted: Values that were hidden, per rule.
        redaction: Id and text of the policy that hid them; None without one.
    """

    outcomes: dict[ObjectRef, Outcome]
    files: list[FileInfo] = field(default_factory=list)
    events_by_class: dict[str, int] = field(default_factory=dict)
    dropped: dict[str, int] = field(default_factory=dict)
    failed_casts: dict[str, int] = field(default_factory=dict)
    unmapped_keys: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    duplicates: int = 0
    variants: int = 0
    fallbacks: Counter[str] = field(default_factory=Counter)
    isolated: list[Isolated] = field(default_factory=list)
    statistics: Statistics = field(default_factory=Statistics)
    drift: dict[SchemaDrift, FirstSeen] = field(default_factory=dict)
    routed: list[tuple[Batch, Result]] = field(default_factory=list)
    record: tuple[str, str, int] | None = None
    redacted: Counter[str] = field(default_factory=Counter)
    redaction: tuple[str, str] | None = None

    @property
    def all_files(self) -> list[FileInfo]:
        """What was written, also of records of other sources."""
        return [*self.files, *(file for _, result in self.routed for file in result.files)]

    def counts_of(self, ref: ObjectRef) -> Counts:
        """What became of one object's records, whatever source they are of."""
        total = Counts()
        for result in (self, *(result for _, result in self.routed)):
            total.add(result.outcomes[ref].counts)
        return total

    @property
    def counts(self) -> Counts:
        """Of all members together."""
        total = Counts()
        for outcome in self.outcomes.values():
            total.add(outcome.counts)
        return total

    @property
    def bytes_out(self) -> int:
        """Size of all files."""
        return sum(file.bytes for file in self.files)

    @property
    def columns(self) -> dict[str, object]:
        """The batch's columns in the ledger."""
        return {
            **vars(self.counts), "events_by_class": _json(self.events_by_class),
            "dropped_reasons": _json(self.dropped), "failed_casts": _json(self.failed_casts),
            "unmapped_keys": _json(self.unmapped_keys), "bytes_out": self.bytes_out, "seconds": self.seconds,
        }  # fmt: skip


def _json(counts: Mapping[str, int]) -> str:
    return json.dumps(counts, sort_keys=True)
