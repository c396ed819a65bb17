"""The days of a place, an account's logs of one region, one after the other: digests, their log files, and others.

What is held in memory are the names of two or three days of one place, whatever the time that is asked for.
"""

from __future__ import annotations

import hashlib
import io
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from functools import partial
from itertools import islice
from typing import TypeVar

from ocsf_lake.config import Settings
from ocsf_lake.evidence import tree
from ocsf_lake.evidence.beside import FAULT, PROVED, UNCHECKED, Ingested, Lake, Verdict, is_delivered
from ocsf_lake.evidence.chain import HOUR, NOT_CHECKED, SLACK, UTC_TIME, Chain, Entry, Signatures
from ocsf_lake.evidence.keys import PublicKeys
from ocsf_lake.evidence.report import Fault, Proof, Summary, Window
from ocsf_lake.evidence.tree import Objects, Place, in_tree
from ocsf_lake.inputs.listing import Calls
from ocsf_lake.storage import objects, s3
from ocsf_lake.storage.objects import ObjectError, ObjectRef
from ocsf_mappers import Digest, Digests, HashedObject
from ocsf_mappers.errors import ReadError
from ocsf_mappers.readers.streams import Limits, hashes, uncompressed

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
COMPARED = 500
"""A lake is asked for so many log files at once."""
NOT_IN_LAKE, OTHER_IN_LAKE = "log file not in the lake", "log file other in the lake"
NOT_COMPARED = "log file not compared"
"""Faults of a lake that is compared."""
_ABOUT_LAKE = {
    True: "the lake has read it as it was delivered",
    False: "the lake has read another content of it than was delivered",
    None: "whether the lake has read it as it was delivered is not known, as it has no hash of it",
}
ORIGINS = 20
"""Of buckets and prefixes that copied digests were delivered to, so many are named."""


class Run:
    """What all places of one run share.

    Args:
        digests: How the source's digests are made.
        window: The time that is asked for.
        settings: How objects are reached, and how far they may grow.
        keys: The public keys; None to check no signature.
        summary: Takes what was found.
        calls: How often the store was asked, so far.
        pool: Reads objects.
        now: The time.
        lake: A lake that is compared; None for none.

    Attributes:
        ends: Owner, trail and its home region -> what is proved of each chain that did not end too early, and its last
            digest.
    """

    def __init__(
        self, digests: Digests, window: Window, settings: Settings, keys: PublicKeys | None, summary: Summary,
        calls: Calls, pool: ThreadPoolExecutor, now: datetime, lake: Lake | None = None,
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
        self.lake = lake
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


class Days:
    """Goes through the days of a place.

    Attributes:
        chains: Trail, its home region, and whether it is that of backfill digests -> the chain.
        logs: Day -> key -> the log files that are there, until they are judged.
        named: Key of a log file -> the last day of a digest that names it, and such digests.
        unproved: Log files that follow each other and that no digest proves.
        earlier: Trail and home region -> its last digest of the day before those that are asked for.
    """

    def __init__(self, run: Run, place: Place) -> None:
        self.run = run
        self.place = place
        self.digests = run.digests
        self.chains: dict[tuple[str, str, bool], Chain] = {}
        self.logs: dict[date, dict[str, ObjectRef]] = {}
        self.named: dict[str, tuple[date, list[Entry]]] = {}
        self.unproved: _Stretch | None = None
        self.earlier: dict[tuple[str, str], Entry] = {}

    def all(self, first: date | None, last: date | None) -> Iterator[Fault | Proof]:
        """What is found in it, of the days from the first to the last one."""
        if self.run.lake is not None:
            self.run.lake.place(self.place.account, self.place.region)
        days = partial(tree.by_day, self.place, first=first, calls=self.run.calls)
        # A digest lies in the folder of the day on which its time ends. Those of the day before say which chains there
        # should be.
        after = last and last + timedelta(days=1)
        digest_days = days(self.place.digests, last=after, before=timedelta(days=1))
        for day, digests, logs in _both(digest_days, days(self.place.logs, last=last)):
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
        due = min(self.run.window.end or self.run.now, self.run.now - DUE)
        for (trail, home), entry in sorted(self.earlier.items(), key=lambda item: item[0]):
            if (trail, home, False) not in self.chains and entry.end < due:
                yield self._about(
                    entry, "chain ends", entry.uri, "its chain has digests of the day before and none of the days that"
                    " are asked for: they are missing, or none were made", entry.end, due,
                )  # fmt: skip
        for (trail, home, backfill), chain in sorted(self.chains.items(), key=lambda item: item[0]):
            proof = chain.proof
            if proof.last is None or chain.last is None:
                continue
            if not backfill:
                if self.run.window.end and chain.last.end < due:
                    yield chain.fault(
                        "chain ends", chain.last.uri, "it is the last digest of its chain: later ones are missing, or"
                        f" none were made; nothing proves the time until {due:{UTC_TIME}}", chain.last.end, due,
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
            identity = entry.name.trail, entry.name.home_region, entry.name.backfill
            chain = self.chains.get(identity)
            if chain is None:
                chain = self.chains[identity] = Chain(
                    self.place, entry.name, self.run.window, self.run.signatures, self._read_named, self._closed
                )
            yield from self._of_window(chain.add(entry))

    def _closed(self, entry: Entry) -> None:
        """Tells the lake what was found of a digest; the time of one of backfill is covered by others."""
        if self.run.lake is None or entry.name.backfill:
            return
        unchecked = entry.digest is not None and {what for what, _ in entry.faults} == {NOT_CHECKED}
        state = PROVED if entry.proved else UNCHECKED if unchecked else FAULT
        name = entry.name
        self.run.lake.digest(Verdict(name.trail, name.home_region, entry.start, entry.end, state, entry.names))

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
        items: list[tuple[Entry, str, HashedObject]] = []
        for entry in entries:
            if entry.digest:
                yield from self._note(entry, entry.digest, items)
        checked = self.run.ahead(lambda item: self._check(*item[1:]), items)
        while some := list(islice(checked, COMPARED)):
            ingested = self._ingested([(key, named) for (_, key, named), _ in some])
            for (entry, key, named), file in some:
                if file.fault is None:
                    entry.files += 1
                    entry.bytes += file.size
                of_lake = [item for uri in self._uris(key, named) for item in ingested.get(uri, ())]
                if mismatch := self._mismatch(key, named, file, of_lake):
                    what, reason, in_lake = mismatch
                    fault = self._about(entry, what, self.place.uri(key), reason)
                    yield replace(fault, sha256=named.hash.lower(), in_lake=in_lake)

    def _note(self, entry: Entry, digest: Digest, items: list[tuple[Entry, str, HashedObject]]) -> Iterator[Fault]:
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
        # What a digest names counts for nothing where its signature does not fit.
        if entry.signed is not False and self.run.window.concerns(entry.start, entry.end):
            items += [(entry, key, file) for key, file in named.items()]

    def _check(self, key: str, named: HashedObject) -> _File:
        """A log file, and what is wrong with it."""
        if named.algorithm != self.digests.hash_algorithm:
            return _File(("log file not checked", f"its digest hashes it with {named.algorithm!r}"))
        listed = next((refs[key] for refs in self.logs.values() if key in refs), None)
        try:
            ref = listed or tree.look(self.place, key)
            if ref is None:
                return _File(("log file missing", "its digest names it"))
            with objects.opened(self._steady(ref), self.run.access) as file:
                sha256s, size = hashes(file, self.run.limits)
        except (ObjectError, ReadError) as error:
            return _File(("log file unreadable", str(error)))
        if named.hash.lower() in sha256s:
            return _File(None, ref, tuple(sha256s), size)
        return _File(("log file changed", "its content does not have the hash that its digest says"), ref)

    # -- the lake -----------------------------------------------------------------------------------------------------
    def _uris(self, key: str, named: HashedObject) -> tuple[str, str]:
        """What a lake may know a log file by: where it lies, and where it was delivered."""
        return self.place.uri(key), f"s3://{named.bucket}/{named.key}"

    def _ingested(self, files: Sequence[tuple[str, HashedObject]]) -> Mapping[str, Sequence[Ingested]]:
        if self.run.lake is None:
            return {}
        return self.run.lake.ingested(list(dict.fromkeys(uri for file in files for uri in self._uris(*file))))

    def _mismatch(
        self, key: str, named: HashedObject, file: _File, of_lake: Sequence[Ingested]
    ) -> tuple[str, str, bool | None] | None:
        """What is wrong with a log file, here or in the lake, and whether the lake has it as it was delivered."""
        if self.run.lake is None or (file.fault and file.fault[0] == "log file not checked"):
            return (*file.fault, None) if file.fault else None
        fits = file.fault is None
        as_delivered = [is_delivered(item, named, file.ref, file.sha256s, fits) for item in of_lake]
        in_lake = True if True in as_delivered else None if None in as_delivered else False
        if in_lake and self.run.summary.in_lake is not None:
            self.run.summary.in_lake += 1
        if file.fault:
            what, reason = file.fault
            about = _ABOUT_LAKE[in_lake] if of_lake else "nor has the lake read it"
            return what, f"{reason}; {about}", in_lake
        if not of_lake:
            return NOT_IN_LAKE, "its digest names it, and the lake has not read it", False
        if False in as_delivered:
            return OTHER_IN_LAKE, "the lake has read under its name what its digest has not the hash of", in_lake
        return None if in_lake else (NOT_COMPARED, _ABOUT_LAKE[None], None)

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
        named_time = self.digests.delivered(key)
        # Anyone may have named a file: one of another day than its folder's is judged by its folder.
        dated = named_time is not None and named_time.date() == day
        delivered = named_time if named_time and dated else midnight(day)
        end = delivered + (timedelta(minutes=1) if dated else timedelta(days=1))
        if not self.run.window.concerns(delivered, end):
            return
        if entries := self.named.get(key, (None, []))[1]:
            # If none of its digests is proved, that is reported.
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
        fault = self._fault(what, uri, reason, start or entry.start, end or entry.end)
        return replace(fault, trail=name.trail, home_region=name.home_region)

    def _of_window(self, faults: Iterable[Fault]) -> Iterator[Fault]:
        """The faults in the time that is asked for."""
        return (fault for fault in faults if self.run.window.concerns(fault.start, fault.end))


@dataclass(frozen=True)
class _File:
    """A log file that was looked at: what is wrong with it and why, what it is now, its hashes, uncompressed size."""

    fault: tuple[str, str] | None
    ref: ObjectRef | None = None
    sha256s: tuple[str, ...] = ()
    size: int = 0


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

    def fault(self, days: Days) -> Fault:
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
            day = min(item.day for item in (one, other) if item and item.day)
            now = [item.refs if item and item.day == day else () for item in (one, other)]
            yield day, now[0], now[1]
            one = next(digests, None) if one and one.day == day else one
            other = next(logs, None) if other and other.day == day else other


def midnight(day: date) -> datetime:
    """The beginning of a day, UTC."""
    return datetime.combine(day, time(), UTC)


def _content(data: bytes, limits: Limits) -> bytes:
    return b"".join(uncompressed(io.BytesIO(data), limits))


def _moment(text: str) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
