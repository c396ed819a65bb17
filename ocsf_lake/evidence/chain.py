"""A chain of digests: each one's signature, and its link to the one before it. They come in the order of time."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from ocsf_lake.evidence import keys
from ocsf_lake.evidence.keys import PublicKeys
from ocsf_lake.evidence.report import Fault, Proof, Window
from ocsf_lake.evidence.tree import Place, in_tree
from ocsf_mappers import Digest, DigestName, Digests, HashedObject

HOUR = timedelta(hours=1)
"""What a digest covers."""
SLACK = timedelta(minutes=15)
"""The time in the name of a log file and that of its delivery are so near to each other."""
REMEMBERED = 100
"""So many digests of a chain are remembered; of what one before them was, the store is asked once more."""
NOT_CHECKED = "digest not checked"
UTC_TIME = "%Y-%m-%dT%H:%M:%SZ"
"""How times are written."""
STRETCHES = 32
"""Proved times without a gap that are remembered of a chain: log files are judged a day or two later."""


@dataclass
class Entry:
    """A digest file that was read.

    Args:
        uri: The object.
        key: Its key from `AWSLogs/` on.
        name: Its name, parsed.
        digest: What is in it; None where that is unavailable, or is not of this name.
        sha256: Of its content, hex.
        metadata: The signature that its metadata has.
        signed: Whether a signature fits; None where there was none yet to be held against it.
        origin: Bucket and prefix that it was delivered to.
        names: So many log files it names.
        made: When it was made, as far as that is known.
        faults: What is wrong with it, and why.
        files: Log files of it that match.
        bytes: Of these, uncompressed.
    """

    uri: str
    key: str
    name: DigestName
    digest: Digest | None = None
    sha256: str = ""
    metadata: str | None = None
    signed: bool | None = None
    origin: str = ""
    names: int = 0
    made: datetime | None = None
    faults: list[tuple[str, str]] = field(default_factory=list)
    files: int = 0
    bytes: int = 0
    proved: bool = False
    closed: bool = False

    @property
    def start(self) -> datetime:
        """Beginning of its time; where it cannot be read, as digests are made."""
        return self.digest.start if self.digest else self.name.end - HOUR

    @property
    def end(self) -> datetime:
        """End of its time."""
        return self.name.end


class Signatures:
    """Checks signatures of digests.

    Args:
        digests: How they are made.
        public_keys: The keys; None to check none.
    """

    def __init__(self, digests: Digests, public_keys: PublicKeys | None) -> None:
        self.digests = digests
        self.keys = public_keys

    def check(self, entry: Entry, signature: str | None) -> None:
        """Holds a signature against a digest, and notes whether it fits, unless another one fits already."""
        if self.keys is None or signature is None or entry.signed or not (digest := entry.digest):
            return
        if digest.algorithm == self.digests.algorithm and (key := self._key(entry, digest)):
            entry.signed = keys.signed(key, signature, digest.signed)

    def missing(self, entry: Entry) -> tuple[str, str] | None:
        """What is wrong with a digest whose signature does not fit, or was not checked; None where nothing is."""
        if self.keys is None or entry.signed or not (digest := entry.digest):
            return None
        if entry.signed is False:
            return "digest changed", "its signature does not fit its content"
        if digest.algorithm != self.digests.algorithm:
            return NOT_CHECKED, f"it was signed with {digest.algorithm!r}, not {self.digests.algorithm}"
        if self._key(entry, digest) is None:
            why = self.keys.refused.get(entry.name.region)
            asked = f"; AWS was asked for it: {why}" if why else ""
            return NOT_CHECKED, f"the public key {digest.fingerprint!r} is not known{asked}"
        return "digest not signed", "its metadata has no signature, and no later digest says which it has"

    def _key(self, entry: Entry, digest: Digest) -> RSAPublicKey | None:
        time = entry.made or digest.end
        return self.keys.of(digest.fingerprint, entry.name.region, time) if self.keys else None


class Chain:
    """One chain.

    Args:
        place: Where it lies.
        name: The name of one of its digests, parsed.
        window: The time that is asked for.
        signatures: Checks them.
        read: Key -> the digest file there, read; None where there is none.
        closed: Called with each digest of the time that is asked for, when all is known of it.

    Attributes:
        proof: What is proved so far.
        stretches: Times that are proved without a gap.
        last: The last digest.
    """

    def __init__(
        self, place: Place, name: DigestName, window: Window, signatures: Signatures,
        read: Callable[[str], Entry | None], closed: Callable[[Entry], None] = lambda _: None,
    ) -> None:  # fmt: skip
        self.place = place
        self.window = window
        self.proof = Proof(name.account, name.region, name.trail, name.home_region, name.backfill)
        self.stretches: list[tuple[datetime, datetime]] = []
        self.last: Entry | None = None
        self._signatures = signatures
        self._read = read
        self._closed = closed
        self._unchecked: _Unchecked | None = None
        self._named_signatures: dict[str, str] = {}
        self._recent: OrderedDict[str, Entry] = OrderedDict()

    def add(self, entry: Entry) -> Iterator[Fault]:
        """Takes the next digest; gives what is wrong with those that are through."""
        before, earlier = self.last, None
        self._signatures.check(entry, self._named_signatures.pop(entry.key, None))
        if entry.digest and entry.digest.previous:
            earlier = yield from self._link(entry, entry.digest)
        elif entry.digest and before and not self.proof.backfill:
            yield self.fault(
                "chain begun anew", entry.uri, "this digest names none before it: logging or validation was stopped, or"
                f" a trail of this name was made again; nothing proves the time from {before.end:{UTC_TIME}}",
                before.end, max(before.end, entry.start),
            )  # fmt: skip
        if before and not self.proof.backfill:
            if earlier and earlier is not before and earlier.key != entry.key:
                before.faults.append(("digest not in chain", f"the next digest, {_file(entry)}, names another one"))
            # A digest that cannot be read hides what it names: it counts as one of an hour.
            gap = entry.start - before.end
            if gap > (SLACK if entry.digest is None else timedelta()) and (entry.digest is None or earlier is before):
                yield self.fault(
                    "gap", entry.uri, f"nothing proves the {_hours(gap)} before this digest", before.end, entry.start
                )
        if before and not self.proof.backfill:
            yield from self._close(before)
        self.last = entry
        self._recent[entry.key] = entry
        if len(self._recent) > REMEMBERED:
            yield from self._close(self._recent.popitem(last=False)[1])

    def end(self) -> Iterator[Fault]:
        """Ends the chain."""
        for entry in self._recent.values():
            yield from self._close(entry)
        yield from self._report_unchecked()

    def _report_unchecked(self) -> Iterator[Fault]:
        """The digests that follow each other and whose signature was not checked for one reason: a key, say."""
        if run := self._unchecked:
            self._unchecked = None
            many = f" ({run.number:,} digests, this one the first)" if run.number > 1 else ""
            yield self.fault(NOT_CHECKED, run.entry.uri, f"{run.reason}{many}", run.entry.start, run.end)

    def _link(self, entry: Entry, digest: Digest) -> Generator[Fault, None, Entry | None]:
        """Holds a digest against the one that it names, and returns that one."""
        named = digest.previous
        assert named is not None
        key = in_tree(named.key)
        earlier = self._recent.get(key) if key else None
        if earlier is None and key and (self.last or not self.window.start or digest.start > self.window.start):
            earlier = self._read(key)
            # Backfill digests name each other in the order in which they were made, not in that of their hours.
            if earlier and digest.previous_signature and len(self._named_signatures) < REMEMBERED:
                self._named_signatures[key] = digest.previous_signature
        if earlier is None:
            if self.window.start and digest.start <= self.window.start:
                return None  # what was before is not asked for
            since = self.last.end if self.last else digest.start - HOUR
            uri = self.place.uri(key) if key else f"s3://{named.bucket}/{named.key}"
            span = digest.start - since
            effect = f"; nothing proves the {_hours(span)} from {since:{UTC_TIME}}" if span > timedelta() else ""
            effect = effect if self.last else "; no earlier digest of the chain is here"
            if named.bucket != digest.bucket:
                effect = f"; it was delivered to another bucket, {named.bucket}{effect}"
            yield self.fault("digest missing", uri, f"{_file(entry)} names it{effect}", since, digest.start)
            return None
        signature = (digest.previous_signature or "").lower()
        if earlier.digest is None:
            return earlier
        so_far = len(earlier.faults)
        self._compare(entry, earlier, named, signature)
        if earlier.closed:
            for what, reason in earlier.faults[so_far:]:
                yield self.fault(what, earlier.uri, reason, earlier.start, earlier.end)
        return earlier

    def _compare(self, entry: Entry, earlier: Entry, named: HashedObject, signature: str) -> None:
        """Compares what a digest has about another one with that, and notes which of them is wrong."""
        tampered = earlier.signed is False
        self._signatures.check(earlier, signature)
        if tampered and earlier.signed:
            earlier.faults.append(("metadata changed", "its signature is not the one that the next digest says it has"))
        elif earlier.metadata is not None and earlier.metadata.lower() != signature and earlier.signed is not False:
            who = entry if earlier.signed else earlier
            who.faults.append(("digest changed", "it and the next digest say different signatures of the earlier one"))
        if named.algorithm != self._signatures.digests.hash_algorithm:
            entry.faults.append((NOT_CHECKED, f"it hashes the one before it with {named.algorithm!r}"))
        elif named.hash.lower() != earlier.sha256:
            if earlier.signed:
                entry.faults.append(("digest changed", "the hash that it has of the digest before it does not fit"))
            else:
                earlier.faults.append(("digest changed", "its content is not what the next digest has the hash of"))

    def _close(self, entry: Entry) -> Iterator[Fault]:
        if entry.closed:
            return
        entry.closed = True
        if missing := self._signatures.missing(entry):
            entry.faults.insert(0, missing)
        entry.proved = entry.digest is not None and not entry.faults
        if entry.digest and [what for what, _ in entry.faults] == [NOT_CHECKED]:
            reason = entry.faults[0][1]
            if self._unchecked and self._unchecked.reason != reason:
                yield from self._report_unchecked()
            if self.window.concerns(entry.start, entry.end):
                self._unchecked = self._unchecked or _Unchecked(reason, entry)
                self._unchecked.end = entry.end
                self._unchecked.number += 1
        else:
            yield from self._report_unchecked()
            if entry.faults:
                reasons = "; ".join(dict.fromkeys(reason for _, reason in entry.faults))
                yield self.fault(entry.faults[0][0], entry.uri, reasons, entry.start, entry.end)
        if self.window.concerns(entry.start, entry.end):
            self._count(entry)
            self._closed(entry)
        if entry.proved and not self.proof.backfill:
            if self.stretches and self.stretches[-1][1] >= entry.start:
                self.stretches[-1] = self.stretches[-1][0], max(self.stretches[-1][1], entry.end)
            else:
                self.stretches = [*self.stretches[-STRETCHES:], (entry.start, entry.end)]

    def _count(self, entry: Entry) -> None:
        proof = self.proof
        if proof.first is None:
            proof.first = entry.start
            proof.begins = entry.digest is not None and entry.digest.previous is None
        proof.last = entry.end
        proof.digests += 1
        if entry.proved and entry.digest:
            proof.proved += 1
            proof.seconds += (entry.end - entry.start).total_seconds()
            proof.empty += not entry.names
            proof.files += entry.files
            proof.bytes += entry.bytes

    def fault(self, what: str, uri: str, reason: str, start: datetime | None, end: datetime | None) -> Fault:
        """A fault of this chain."""
        proof = self.proof
        return Fault(what, uri, reason, start, end, proof.account, proof.region, proof.trail, proof.home_region)


@dataclass
class _Unchecked:
    """Digests that follow each other: why they were not checked, the first of them, the end of the last, how many."""

    reason: str
    entry: Entry
    end: datetime | None = None
    number: int = 0


def _file(entry: Entry) -> str:
    return entry.key.rpartition("/")[2]


def _hours(span: timedelta) -> str:
    hours, minutes = divmod(round(span.total_seconds() / 60), 60)
    if not hours:
        return f"{minutes} min"
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"
