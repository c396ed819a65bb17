"""The records of a lake's chain, from the first to the last one: each judged by itself, and by its neighbours."""

from __future__ import annotations

import hashlib
import re
from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ocsf_lake.ledger import chain, signing
from ocsf_lake.ledger.chain import GENESIS, Record
from ocsf_lake.storage.store import Store
from ocsf_lake.upkeep.verify_state import LedgerRecord, State
from ocsf_mappers.errors import ReadError

_NAME = re.compile(r"(\d{12,18})\.json", re.ASCII)
_AT_ONCE = 8
_AHEAD = 32
_MOST = 10**18


@dataclass(frozen=True)
class Fault:
    """Something that does not match the chain.

    Args:
        what: What is wrong, in some words that are always the same.
        object: File or record, below the lake's root.
        reason: What was found.
        number: Of the record that lists it.
        at: When that was written, UTC.
    """

    what: str
    object: str
    reason: str
    number: int | None = None
    at: str | None = None


@dataclass
class Followed:
    """What following has come to.

    Args:
        records: Records that were read.
        number: Of the last one.
        hash: Its hash, over the bytes that are there.
        signature: Its signature.
        first_at: When the first one was written.
        last_at: And the last one.
        signed: Records with a signature that is right.
        unsigned: Records after the last one of those.
        waiting: Records that the ledger has and the lake not yet.
        beginning: What the first record has about files before it.
        has_head: Whether the hash that was noted elsewhere was met.
        unread: Records that cannot be read, or are gone: what they listed is not known.
    """

    records: int = 0
    number: int = 0
    hash: str = ""
    signature: str = ""
    first_at: str = ""
    last_at: str = ""
    signed: int = 0
    unsigned: int = 0
    waiting: int = 0
    beginning: Mapping[str, Any] = field(default_factory=dict)
    has_head: bool = False
    unread: int = 0


class Follower:
    """Follows one chain.

    Args:
        store: The lake's files.
        state: Takes what the records list; the ledger's own records are there already.
        keys: Id -> public key of those who may have signed; None to leave signatures alone.
        has_ledger: Whether the ledger is compared.
        head: A hash that was noted elsewhere.
    """

    def __init__(
        self, store: Store, state: State, keys: Mapping[str, bytes] | None, has_ledger: bool, head: str | None
    ) -> None:
        self.done = Followed()
        self._store, self._state, self._keys, self._head = store, state, keys, head
        self._has_ledger = has_ledger
        self.beyond = 0
        """Number of the last record in the lake that the ledger had not when it was asked."""
        self._is_exact = True
        """Whether the record before is what the next one has to name."""

    def follow(self) -> Iterator[Fault]:
        """Follows all records of the lake, then those that the ledger has beyond."""
        end = self._state.last_record() if self._has_ledger else _MOST
        for name, data in _read(self._store, ""):
            match = _NAME.fullmatch(name)
            number = int(match[1]) if match else 0
            if number <= self.done.number or chain.name(number) != f"{chain.FOLDER}/{name}":
                yield Fault("file added", f"{chain.FOLDER}/{name}", "it is no record of the chain")
            elif number > end:
                self.beyond = number  # written while we look, or by a stranger: the ledger is asked again
            else:
                yield from self._missing(self.done.number + 1, number)
                yield from self._one(number, data)
        if self._has_ledger:
            yield from self._missing(self.done.number + 1, end + 1, at_end=True)

    def later(self, last: int | None) -> Iterator[Record]:
        """Records that were written while the lake was looked at, not judged; up to the last one of the ledger."""
        number = self.done.number
        while last is None or number < last:
            number += 1
            if (data := self._store.get(chain.name(number))) is None:
                return
            try:
                yield chain.parsed(data)
            except ReadError:
                return

    # -- one record ---------------------------------------------------------------------------------------------------
    def _one(self, number: int, data: bytes) -> Iterator[Fault]:
        name = chain.name(number)
        ours = self._state.record(number) if self._has_ledger else None
        body = data.partition(b"\n")[0]
        own_hash = hashlib.sha256(body).hexdigest()
        try:
            record = chain.parsed(data)
        except ReadError as error:
            yield Fault("record changed", name, f"{error}; {_hashes(own_hash, ours)}", number)
            yield from self._instead(number, ours)
            return
        about = number, record.at
        is_whole = True
        if own_hash != record.hash:
            is_whole = False
            yield Fault("record changed", name, f"its SHA-256 is {own_hash}, and it says {record.hash}", *about)
        if record.number != number:
            is_whole = False
            yield Fault("record misplaced", name, f"it is record {record.number}", *about)
        if ours is not None and (why := _differs(record, ours, own_hash)):
            is_whole = own_hash == ours.hash
            yield Fault("record and ledger differ", name, why, *about)
        yield from self._link(record, number)
        if not is_whole and ours is not None and not _damage(ours):
            yield from self._instead(number, ours)
            return
        yield from self._signature(record, number)
        self._take(record, number, own_hash)
        yield from self._apply(record)

    def _link(self, record: Record, number: int) -> Iterator[Fault]:
        about = number, record.at
        before = chain.name(number - 1)
        if number == 1:
            if record.kind != GENESIS or record.previous or record.previous_signature:
                yield Fault("chain broken", chain.name(1), "it is not how a chain begins", *about)
        elif not self._is_exact:
            return
        elif record.previous != self.done.hash:
            why = f"record {number} has another hash of it, {record.previous}, and it is {self.done.hash}"
            yield Fault("chain broken", before, f"it was changed, or record {number} was: {why}", *about)
        elif record.previous_signature != self.done.signature:
            why = f"its signature is not the one that record {number} has of it"
            yield Fault("record changed", before, why, number - 1, None)

    def _signature(self, record: Record, number: int) -> Iterator[Fault]:
        if self._keys is None:
            return
        if not record.signature:
            self.done.unsigned += 1
            return
        about = number, record.at
        key = self._keys.get(record.key)
        if key is None:
            self.done.unsigned += 1
            why = f"its key {record.key or '-'} is not among those given"
            yield Fault("signature not checked", chain.name(number), why, *about)
        elif not signing.is_signed(key, hashlib.sha256(record.body).hexdigest(), record.signature):
            self.done.unsigned += 1
            why = f"it is none of key {record.key} for this record"
            yield Fault("signature wrong", chain.name(number), why, *about)
        else:
            self.done.signed += 1
            self.done.unsigned = 0

    def _take(self, record: Record, number: int, own_hash: str) -> None:
        done = self.done
        done.records += 1
        done.number, done.hash, done.signature = number, own_hash, record.signature
        done.first_at, done.last_at = done.first_at or record.at, record.at
        done.has_head = done.has_head or own_hash == self._head
        self._is_exact = True
        if record.kind == GENESIS:
            done.beginning = record.detail

    def _apply(self, record: Record) -> Iterator[Fault]:
        about = record.number, record.at
        try:
            twice = self._state.apply(record)
        except (TypeError, ValueError, OverflowError) as error:
            self.done.unread += 1
            why = f"it lists no files as records do: {error}"
            yield Fault("record changed", chain.name(record.number), why, *about)
            return
        for path in twice:
            yield Fault("file listed twice", path, "a record adds it with other bytes while it is there", *about)

    # -- what is not there --------------------------------------------------------------------------------------------
    def _missing(self, first: int, end: int, *, at_end: bool = False) -> Iterator[Fault]:
        """Records that the lake has not, as far as the ledger has them."""
        gone: list[int] = []
        for number in range(first, end) if self._has_ledger else ():
            ours = self._state.record(number)
            if at_end and ours is not None and (data := self._store.get(chain.name(number))) is not None:
                yield from self._one(number, data)  # put while we looked
            elif ours is not None and not ours.in_lake:
                self.done.waiting += 1
                yield from self._instead(number, ours)
            else:
                gone.append(number)
                yield from self._instead(number, ours)
        if not self._has_ledger and end > first:
            gone = [first, end - 1]
            self.done.unread += end - first
            self._is_exact = False
        if gone and any(version for version in self._store.versions(chain.name(gone[0])) if not version.is_marker):
            yield Fault("record hidden", chain.name(gone[0]), "a marker says that it was deleted; a version is there",
                        gone[0])  # fmt: skip
        if gone:
            first, last = gone[0], gone[-1]
            what = chain.name(first) if first == last else f"{chain.name(first)} to {last}"
            why = "the chain goes on after it" if not at_end else "the ledger has it, and says that the lake had it"
            yield Fault("record missing", what, why, first)

    def _instead(self, number: int, ours: LedgerRecord | None) -> Iterator[Fault]:
        """Goes on with the ledger's record, where that is whole."""
        why = "the ledger has none" if ours is None else _damage(ours)
        if ours is None or why:
            if ours is not None:
                yield Fault("ledger changed", f"record {number}", why, number, ours.at)
            self.done.unread += 1
            self.done.number = number
            self._is_exact = False
            return
        record = chain.parsed(chain.content(ours.body, ours.hash, ours.signature))
        yield from self._link(record, number)
        yield from self._signature(record, number)
        self._take(record, number, ours.hash)
        yield from self._apply(record)


def _hashes(own_hash: str, ours: LedgerRecord | None) -> str:
    return f"its SHA-256 is {own_hash}" + (f", in the ledger {ours.hash}" if ours is not None else "")


def _damage(ours: LedgerRecord) -> str:
    """What is wrong with a record of the ledger by itself; "" where nothing is."""
    own_hash = hashlib.sha256(ours.body.encode("utf-8", "surrogatepass")).hexdigest()
    if own_hash != ours.hash:
        return f"the SHA-256 of its body is {own_hash}, and it says {ours.hash}"
    try:
        record = chain.parsed(chain.content(ours.body, ours.hash, ours.signature))
    except ReadError as error:
        return str(error)
    for column in ("number", "kind", "subject", "at"):
        if getattr(record, column) != getattr(ours, column):
            return f"its column {column} is {getattr(ours, column)!r}, and its body says {getattr(record, column)!r}"
    return ""


def _differs(record: Record, ours: LedgerRecord, own_hash: str) -> str:
    if damage := _damage(ours):
        return f"the ledger's was changed: {damage}"
    if own_hash != ours.hash:
        return f"its SHA-256 is {own_hash}, in the ledger {ours.hash}"
    return "" if record.signature == ours.signature else "its signature is not that of the ledger"


def _read(store: Store, last: str) -> Iterator[tuple[str, bytes]]:
    """Names and bytes of all files among the records after a name, in order; a few are fetched ahead."""
    waiting: deque[tuple[str, Future[bytes | None]]] = deque()
    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="ocsf-lake") as pool:
        while names := store.names_after(chain.FOLDER, last):
            last = names[-1]
            for name in names:
                waiting.append((name, pool.submit(_content, store, f"{chain.FOLDER}/{name}")))
                if len(waiting) >= _AHEAD:
                    ready, future = waiting.popleft()
                    yield ready, future.result() or b""
        for name, future in waiting:
            yield name, future.result() or b""


def _content(store: Store, path: str) -> bytes | None:
    """A file's bytes; None also where a folder has its name, or a pipe, which would never end."""
    if store.is_local and not Path(store.path(path)).is_file():
        return None
    return store.get(path)
