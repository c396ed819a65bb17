"""Whether log files are those that were delivered, all of them and unaltered, as far as digests prove it.

A place, an account's logs of one region, is gone through by days: what is held in memory are the names of two or three
days of one place, whatever the time that is asked for.
"""

from __future__ import annotations

import hashlib
import io
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, time, timedelta
from functools import partial
from typing import TypeVar

from ocsf_lake.config import Settings
from ocsf_lake.evidence import tree
from ocsf_lake.evidence.chain import (
    HOUR,
    SLACK,
    UTC_TIME,
    Chain,
    Entry,
    Fault,
    Proof,
    Signatures,
    Window,
)
from ocsf_lake.evidence.keys import PublicKeys
from ocsf_lake.evidence.tree import Objects, Place, in_tree
from ocsf_lake.inputs.listing import Calls
from ocsf_lake.storage import objects, s3
from ocsf_lake.storage.objects import ObjectError, ObjectRef
from ocsf_mappers import Digest, Digests, Named
from ocsf_mappers.errors import ConfigError, ReadError
from ocsf_mappers.readers.streams import Limits, hashes, uncompressed
from ocsf_mappers.vocabulary.source import Source

T = TypeVar("T")
R = TypeVar("R")

THREADS = 16
"""So many objects are read at once: they are small, and a store takes its time to answer."""
DIGEST_BYTES = 64 << 20
"""A digest is no larger, uncompressed; one of 10,000 log files takes four megabytes."""
AFTER = 4 * HOUR
"""Digests of so long after the time that is asked for are read too: they sign and name what is in that time."""
DUE = 3 * HOUR
"""After so long, what was delivered is named by a digest that has come."""
ORIGINS = 20
"""Of buckets and prefixes that copied digests were delivered to, so many are named."""


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
        files: Log files that are as those say.
        bytes: Of these, uncompressed.
        pending: Log files that no digest names, and none had to, yet: they are from a chain's last hours, or its edges.
        copied: Where digests were delivered to that are read elsewhere -> how many.
        signatures: Whether signatures were checked.
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

    def add(self, proof: Proof) -> None:
        """Counts a chain."""
        self.chains += 1
        for name in ("digests", "proved", "seconds", "empty", "files", "bytes"):
            setattr(self, name, getattr(self, name) + getattr(proof, name))


@dataclass(frozen=True)
class Asked:
    """What is to be verified.

    Args:
        uri: A folder that holds `AWSLogs/`, lies above it, or is that of an organization or account in it.
        first: First day, UTC; None for all.
        last: Last day, included.
        accounts: Only these; empty for all.
        regions: Only these; empty for all.
    """

    uri: str
    first: date | None = None
    last: date | None = None
    accounts: tuple[str, ...] = ()
    regions: tuple[str, ...] = ()

    @property
    def window(self) -> Window:
        """The time of these days."""
        first = _midnight(self.first) if self.first else None
        return Window(first, _midnight(self.last + timedelta(days=1)) if self.last else None)


def verify(
    source: Source, asked: Asked, settings: Settings, keys: PublicKeys | None, summary: Summary,
    now: datetime | None = None,
) -> Iterator[Fault | Proof]:  # fmt: skip
    """Gives each fault as it is found, and what is proved of each chain.

    Args:
        source: The source.
        asked: What is to be verified.
        settings: How objects are reached, and how far they may grow.
        keys: The public keys; None to check no signature.
        summary: Takes what was found.
        now: The time; that of the clock if it is not given.

    Raises:
        ConfigError: There is nothing of the source, or it has no digests, or the store refuses us.
        RetriableError: The store is out of reach.
    """
    if source.digests is None:
        raise ConfigError(f"AWS delivers no digests of {source.name}: nothing proves that its log files are complete")
    for day in (asked.first, asked.last):
        if day and day.year not in tree.YEARS:
            raise ConfigError(f"there are no logs of {day}")
    if asked.first and asked.last and asked.first > asked.last:
        raise ConfigError(f"the first day, {asked.first}, is after the last one, {asked.last}")
    access = settings.input_access
    objects.check([asked.uri], access)
    fs, path = objects.filesystem(asked.uri, access)
    fs.invalidate_cache()
    calls = Calls()
    summary.signatures = keys is not None
    with s3.translate_errors(asked.uri), ThreadPoolExecutor(THREADS, thread_name_prefix="ocsf-lake-verify") as pool:
        run = _Run(source.digests, asked.window, settings, keys, summary, calls, pool, now or datetime.now(UTC))
        for found in run.all(tree.places(fs, path, source, asked.accounts, asked.regions, calls), asked):
            if isinstance(found, Proof):
                summary.add(found)
            else:
                summary.faults += 1
            yield found
        for uri, reason in calls.refused.items():
            summary.faults += 1
            yield Fault("folder not read", uri, reason)


class _Run:
    """Goes through places."""

    def __init__(
        self, digests: Digests, window: Window, settings: Settings, keys: PublicKeys | None, summary: Summary,
        calls: Calls, pool: ThreadPoolExecutor, now: datetime,
    ) -> None:  # fmt: skip
        self.digests = digests
        self.window = window
        self.access = settings.input_access
        self.limits = settings.limits
        self.signatures = Signatures(digests, keys)
        self.summary = summary
        self.calls = calls
        self.pool = pool
        self.now = now
        self.ends: dict[tuple[str, str, str], list[tuple[Proof, str]]] = {}

    def ahead(self, do: Callable[[T], R], items: Iterable[T]) -> Iterator[tuple[T, R]]:
        """Does something with each item, a few of them at once; gives the items in order, with what it gave."""
        waiting: deque[tuple[T, Future[R]]] = deque()
        for item in items:
            waiting.append((item, self.pool.submit(do, item)))
            if len(waiting) > 2 * THREADS:
                first, future = waiting.popleft()
                yield first, future.result()
        for item, future in waiting:
            yield item, future.result()

    def all(self, places: Iterable[Place], asked: Asked) -> Iterator[Fault | Proof]:
        """What is found in all of them."""
        for place in places:
            yield from _Days(self, place).all(asked)
        yield from self._behind()

    def _behind(self) -> Iterator[Fault]:
        """Chains that end while others of the same trail go on: it has a digest each hour in every region."""
        for chains in self.ends.values():
            furthest = max(proof.last for proof, _ in chains if proof.last)
            for proof, uri in chains:
                if proof.last and furthest - proof.last > HOUR / 2 and self.now - proof.last > DUE:
                    yield Fault(
                        "chain ends", uri, "it is the last digest of its chain, while the trail has others until"
                        f" {furthest:{UTC_TIME}} elsewhere: digests after it are missing, or none were made there",
                        proof.last, furthest, proof.account, proof.region, proof.trail, proof.home_region,
                    )  # fmt: skip


class _Days:
    """Goes through the days of a place."""

    def __init__(self, run: _Run, place: Place) -> None:
        self.run = run
        self.place = place
        self.digests = run.digests
        self.chains: dict[tuple[str, str, bool], Chain] = {}
        self.logs: dict[date, dict[str, ObjectRef]] = {}
        self.named: dict[str, tuple[date, list[Entry]]] = {}
        self.unproved: _Stretch | None = None
        self.earlier: dict[tuple[str, str], Entry] = {}

    def all(self, asked: Asked) -> Iterator[Fault | Proof]:
        """What is found in it."""
        first, last = asked.first, asked.last
        days = partial(tree.by_day, self.place, first=first, calls=self.run.calls)
        # A digest lies in the folder of the day on which its time ends. Those of the day before say which chains there
        # should be.
        after = last and last + timedelta(days=1)
        found = days(self.place.digests, last=after, before=timedelta(days=1))
        for day, digests, logs in _both(found, days(self.place.logs, last=last)):
            if day is None:
                for ref in digests:
                    yield self._fault("digest misplaced", ref.uri, "it lies in no folder of a day, as digests do")
                for ref in logs:
                    yield self._fault("log file not named", ref.uri, "it lies in no folder of a day, as log files do")
                continue
            yield from self._judge(before=day - timedelta(days=1))
            self.logs[day] = {self.place.key(ref): ref for ref in logs}
            yield from self._day(day, digests)
        for chain in self.chains.values():
            yield from self._of_window(chain.end())
        yield from self._judge()
        if self.unproved:
            yield self.unproved.fault(self)
        yield from self._proofs()

    def _proofs(self) -> Iterator[Fault | Proof]:
        wanted = min(self.run.window.end or self.run.now, self.run.now - DUE)
        for (trail, home), entry in sorted(self.earlier.items(), key=lambda item: item[0]):
            if (trail, home, False) not in self.chains and entry.end < wanted:
                yield self._about(
                    entry, "chain ends", entry.uri, "its chain has digests of the day before and none of the days that"
                    " are asked for: they are missing, or none were made", entry.end, wanted,
                )  # fmt: skip
        for (trail, home, backfill), chain in sorted(self.chains.items(), key=lambda item: item[0]):
            proof = chain.proof
            if proof.last is None or chain.last is None:
                continue
            if not backfill:
                if self.run.window.end and chain.last.end < wanted:
                    yield chain.fault(
                        "chain ends", chain.last.uri, "it is the last digest of its chain: later ones are missing, or"
                        f" none were made; nothing proves the time until {wanted:{UTC_TIME}}", chain.last.end, wanted,
                    )  # fmt: skip
                else:
                    self.run.ends.setdefault((self.place.owner, trail, home), []).append((proof, chain.last.uri))
            yield proof

    # -- digests ------------------------------------------------------------------------------------------------------
    def _day(self, day: date, refs: Sequence[ObjectRef]) -> Iterator[Fault]:
        start = self.run.window.start or datetime.min.replace(tzinfo=UTC)
        entries: list[tuple[ObjectRef, Entry]] = []
        for ref in refs:
            key = self.place.key(ref)
            name = self.digests.name(key)
            if day < (self.run.window.start or start).date() or (name and name.end <= start):
                if name and not name.backfill:
                    self.earlier[name.trail, name.home_region] = Entry(ref.uri, key, name)
            elif name is None:
                yield self._fault("digest misplaced", ref.uri, "its name and folder are not those of a digest")
            elif not self.run.window.end or name.end <= self.run.window.end + AFTER:
                entries.append((ref, Entry(ref.uri, key, name)))
        entries.sort(key=lambda item: (item[1].name.end, item[1].key))
        for (_, entry), _ in self.run.ahead(lambda item: self._read(*item), entries):
            self._count_copied(entry)
        yield from self._of_window(self._files([entry for _, entry in entries]))
        for _, entry in entries:
            found = entry.name.trail, entry.name.home_region, entry.name.backfill
            chain = self.chains.get(found)
            if chain is None:
                chain = self.chains[found] = Chain(
                    self.place, entry.name, self.run.window, self.run.signatures, self._read_named
                )
            yield from self._of_window(chain.add(entry))

    def _read_named(self, key: str) -> Entry | None:
        """A digest that another one names, and that was not met in its place in time."""
        name = self.digests.name(key)
        if name is None:
            return None
        try:
            ref = tree.look(self.place, key)
        except ObjectError as error:
            return Entry(self.place.uri(key), key, name, faults=[("digest unreadable", str(error))], closed=True)
        if ref is None:
            return None
        entry = Entry(ref.uri, key, name, closed=True)
        self._read(ref, entry)
        return entry

    def _read(self, ref: ObjectRef, entry: Entry) -> None:
        try:
            if ref.size > objects.WHOLE_BYTES:
                raise ReadError(f"it has {ref.size} bytes, more than a digest has")
            data, about = objects.described(self._steady(ref), self.run.access)
            limits = replace(self.run.limits, max_bytes=min(DIGEST_BYTES, self.run.limits.max_bytes))
            content = _content(data, limits)
            digest = self.digests.read(content)
        except (ObjectError, ReadError, ValueError) as error:
            entry.faults.append(("digest unreadable", str(error)))
            return
        entry.sha256 = hashlib.sha256(content).hexdigest()
        if moved := self._moved(digest, entry):
            entry.faults.append(("digest misplaced", moved))
            return
        entry.digest = digest
        entry.metadata = about.get(self.digests.signature)
        if entry.name.backfill and (made := about.get(self.digests.generated)):
            entry.made = _moment(made)
        self.run.signatures.check(entry, entry.metadata)

    def _moved(self, digest: Digest, entry: Entry) -> str | None:
        """Why a digest is not the one that belongs here; notes where it was delivered."""
        inside = in_tree(digest.key)
        if inside != entry.key:
            return f"it says that it was delivered as {digest.key}"
        if digest.account != entry.name.account or digest.end != entry.name.end:
            return f"it says that it is of account {digest.account} and ends at {digest.end:{UTC_TIME}}"
        entry.origin = f"{digest.bucket}/{digest.key[: -len(inside)]}".rstrip("/")
        return None

    def _count_copied(self, entry: Entry) -> None:
        """Counts a digest that was delivered elsewhere."""
        elsewhere = entry.origin != self.place.top or not s3.is_s3(self.place.fs)
        if entry.digest and elsewhere and self.run.window.concerns(entry.start, entry.end):
            copied = self.run.summary.copied
            if entry.origin in copied or len(copied) < ORIGINS:
                copied[entry.origin] = copied.get(entry.origin, 0) + 1

    # -- log files ----------------------------------------------------------------------------------------------------
    def _files(self, entries: Iterable[Entry]) -> Iterator[Fault]:
        """Holds the log files that digests name against them."""
        items: list[tuple[Entry, str, Named]] = []
        for entry in entries:
            if entry.digest:
                yield from self._note(entry, entry.digest, items)
        for (entry, key, _), found in self.run.ahead(lambda item: self._check(*item[1:]), items):
            if isinstance(found, int):
                entry.files += 1
                entry.bytes += found
            else:
                yield self._about(entry, found[0], self.place.uri(key), found[1])

    def _note(self, entry: Entry, digest: Digest, items: list[tuple[Entry, str, Named]]) -> Iterator[Fault]:
        """Notes what a digest names, and which of these are to be read."""
        entry.names = len(digest.files)
        entry.digest = replace(digest, files=())  # names of a busy hour take megabytes, and digests are remembered
        named = {key: file for file in digest.files if (key := in_tree(file.key))}
        for file in digest.files:
            if in_tree(file.key) is None:
                uri = f"s3://{file.bucket}/{file.key}"
                yield self._about(entry, "log file missing", uri, "its digest names it, by a key that is none of AWS's")
        for key in named:
            self.named.setdefault(key, (entry.end.date(), []))[1].append(entry)
        # What a digest names whose signature does not fit says nothing.
        if entry.signed is not False and self.run.window.concerns(entry.start, entry.end):
            items += [(entry, key, file) for key, file in named.items()]

    def _check(self, key: str, named: Named) -> tuple[str, str] | int:
        """What is wrong with a log file and why; its size, uncompressed, where nothing is."""
        if named.algorithm != self.digests.hash_algorithm:
            return "log file not checked", f"its digest hashes it with {named.algorithm!r}"
        listed = next((refs[key] for refs in self.logs.values() if key in refs), None)
        try:
            ref = listed or tree.look(self.place, key)
            if ref is None:
                return "log file missing", "its digest names it"
            with objects.opened(self._steady(ref), self.run.access) as file:
                found, size = hashes(file, self.run.limits)
        except (ObjectError, ReadError) as error:
            return "log file unreadable", str(error)
        if named.hash.lower() in found:
            return size
        return "log file changed", "its content does not have the hash that its digest says"

    def _steady(self, ref: ObjectRef) -> ObjectRef:
        """The object as it can be opened: stores that are neither S3 nor a disk give no ETags."""
        return ref if ref.etag or objects.is_local(self.place.fs) else objects.with_etag(ref)

    def _judge(self, before: date | None = None) -> Iterator[Fault]:
        """Looks for log files that no digest names; those of days before one, whose digests are all read."""
        for day in sorted(day for day in self.logs if before is None or day < before):
            for key, ref in self.logs.pop(day).items():
                yield from self._judged(key, ref, day)
        if before is not None:
            self.named = {key: item for key, item in self.named.items() if item[0] >= before - timedelta(days=1)}

    def _judged(self, key: str, ref: ObjectRef, day: date) -> Iterator[Fault]:
        said = self.digests.delivered(key)
        # Anyone may have named a file: one of another day than its folder's is judged by its folder.
        dated = said is not None and said.date() == day
        delivered = said if said and dated else _midnight(day)
        end = delivered + (timedelta(minutes=1) if dated else timedelta(days=1))
        if not self.run.window.concerns(delivered, end):
            return
        if entries := self.named.get(key, (None, []))[1]:
            # If none of its digests is proved, they are told.
            if any(entry.proved for entry in entries) and self.unproved:
                yield self.unproved.fault(self)
                self.unproved = None
            return
        chains = [chain for chain in self.chains.values() if not chain.proof.backfill]
        stretches = [stretch for chain in chains for stretch in chain.stretches]
        if any(
            start + SLACK <= delivered < until - SLACK if dated else start < end and delivered < until
            for start, until in stretches
        ):
            yield self._fault(
                "log file not named", ref.uri, "digests prove this time, and none names it: it was added, or delivered"
                " by a trail without validation", delivered, end,
            )  # fmt: skip
        elif dated and (
            any(start - SLACK <= delivered < until for start, until in stretches) or self.run.now - delivered < DUE
        ):
            self.run.summary.pending += 1
        else:
            if self.unproved is None:
                self.unproved = _Stretch(ref.uri, delivered)
            self.unproved.add(delivered)

    def _fault(
        self, what: str, uri: str, reason: str, start: datetime | None = None, end: datetime | None = None
    ) -> Fault:
        return Fault(what, uri, reason, start, end, self.place.account, self.place.region)

    def _about(
        self, entry: Entry, what: str, uri: str, reason: str, start: datetime | None = None, end: datetime | None = None
    ) -> Fault:
        name = entry.name
        found = self._fault(what, uri, reason, start or entry.start, end or entry.end)
        return replace(found, trail=name.trail, home_region=name.home_region)

    def _of_window(self, faults: Iterable[Fault]) -> Iterator[Fault]:
        """The faults in the time that is asked for."""
        return (fault for fault in faults if self.run.window.concerns(fault.start, fault.end))


@dataclass
class _Stretch:
    """Log files that follow each other and that no digest proves."""

    first: str
    start: datetime
    end: datetime | None = None
    number: int = 0

    def add(self, delivered: datetime) -> None:
        self.number += 1
        self.end = max(self.end or delivered, delivered)

    def fault(self, days: _Days) -> Fault:
        files = "1 log file, this one" if self.number == 1 else f"{self.number:,} log files, this one the first"
        reason = f"no digest covers the time of {files}"
        return days._fault("log files not proved", self.first, reason, self.start, self.end)


def _both(
    digests: Iterator[Objects], logs: Iterator[Objects]
) -> Iterator[tuple[date | None, Sequence[ObjectRef], Sequence[ObjectRef]]]:
    """Digests and log files of each day, in order; those without a day as they come."""
    one, other = next(digests, None), next(logs, None)
    while one or other:
        if one and one.day is None:
            yield None, one.refs, ()
            one = next(digests, None)
        elif other and other.day is None:
            yield None, (), other.refs
            other = next(logs, None)
        else:
            day = min(found.day for found in (one, other) if found and found.day)
            now = [found.refs if found and found.day == day else () for found in (one, other)]
            yield day, now[0], now[1]
            one = next(digests, None) if one and one.day == day else one
            other = next(logs, None) if other and other.day == day else other


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)


def _content(data: bytes, limits: Limits) -> bytes:
    return b"".join(uncompressed(io.BytesIO(data), limits))


def _moment(text: str) -> datetime | None:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)
