"""A lake held against its chain: records, files and ledger. Nothing is written, unless older files are to be adopted.

From the lake's files alone; where its ledger is at hand, that is compared too, and shows whether somebody is at
work on what no record has.
"""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import chain as chained
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from ocsf_lake.config import Settings
from ocsf_lake.lake import Lake, no_lake, opened
from ocsf_lake.ledger import chain, compactions, containers, marker, orphans, signing
from ocsf_lake.ledger.database import Connection, MissingError, snapshot
from ocsf_lake.storage import layout, retry
from ocsf_lake.storage.store import Store
from ocsf_lake.text import plural
from ocsf_lake.upkeep.verify_records import Fault, Followed, Follower
from ocsf_lake.upkeep.verify_state import GONE, LIVE, Expected, LedgerRecord, State
from ocsf_mappers import temporary
from ocsf_mappers.errors import ConfigError

PLACES = (
    "aws", "ext", layout.COMPACTED, layout.QUARANTINE_PREFIX, layout.OUTCOMES_PREFIX, layout.DUPLICATES_PREFIX,
)  # fmt: skip
"""Folders in which only files of batches and compactions lie."""
AT_ONCE = 4
"""Files that are hashed at once."""
_AHEAD = 16
_BLOCK_BYTES = 1 << 20
_AT_A_TIME = 500
_VERSION_BYTES = 1 << 30
"""A version is read whole; larger ones are not looked at."""
_END = "~"
"""Comes after every time."""


@dataclass(frozen=True)
class Asked:
    """What is to be verified.

    Args:
        first: Files of records written from this day on, UTC, are hashed; None from the beginning.
        last: And up to this one, included.
        public_keys: Files with the keys that records have to be signed with; none leaves signatures alone.
        head: Hash of a record that was noted elsewhere.
    """

    first: date | None = None
    last: date | None = None
    public_keys: tuple[Path, ...] = ()
    head: str | None = None


@dataclass
class Summary:
    """What was verified.

    Args:
        records: Records of the chain.
        number: Of the last one.
        head: Its hash.
        first: When the first one was written.
        last: When the last one was.
        signed: Records whose signature is right.
        files: Files that were hashed.
        bytes: Their bytes.
        live: Files that the lake has, by the chain.
        retired: Files whose rows are in others, that lie there still.
        unfinished: Files of batches and compactions that are under way.
        waiting: Records that the next writer puts into the lake.
        older: Files that are older than the chain and that no record lists.
        ledger: `compared`, or why it was not.
        faults: Faults that were found.
    """

    records: int = 0
    number: int = 0
    head: str = ""
    first: str = ""
    last: str = ""
    signed: int = 0
    files: int = 0
    bytes: int = 0
    live: int = 0
    retired: int = 0
    unfinished: int = 0
    waiting: int = 0
    older: int = 0
    ledger: str = "compared"
    faults: int = 0


def verify(settings: Settings, asked: Asked, summary: Summary) -> Iterator[Fault]:
    """Faults of a lake, as they are found.

    Args:
        settings: The lake.
        asked: What is to be verified.
        summary: Is filled meanwhile.

    Raises:
        ConfigError: There is no such lake, a key cannot be read, or the lake may not be read.
        RetriableError: The store or the database does not answer.
    """
    keys = signing.public_keys(list(asked.public_keys)) if asked.public_keys else None
    store = Store(settings.lake, settings.lake_access, settings.mask)
    if not store.names_after(chain.FOLDER, "") and marker.read(store) is None and not marker.holds_files(store):
        raise no_lake(settings)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(temporary.directory("verify")))
        state = stack.enter_context(closing(State(folder)))
        for fault in _Verifying(settings, asked, summary, store, state, keys).faults():
            summary.faults += 1
            yield fault


class _Verifying:
    def __init__(
        self, settings: Settings, asked: Asked, summary: Summary, store: Store, state: State,
        keys: dict[str, bytes] | None,
    ) -> None:  # fmt: skip
        self.settings, self.asked, self.summary, self.store, self.state = settings, asked, summary, store, state
        self.keys = keys
        self.has_ledger = False
        self._open_ids: set[str] = set()
        self._open_folders: set[str] = set()
        self._retired_in: set[str] = set()
        """Folders of partitions, without their generations, that have retired files."""
        self._left: set[tuple[str, str]] = set()
        """Batch and folder, of files that somebody who takes objects out of a batch has left, or is about to remove."""

    def faults(self) -> Iterator[Fault]:
        # What lies there first, then the records, then the ledger: what is written meanwhile is no fault.
        unnamed: list[str] = []
        for place in PLACES:
            self.state.take_listing(_named(self.store.walk(place), unnamed))
        yield from (Fault("file added", path, "its name is no text, as no name of a lake's is") for path in unnamed)
        yield from self._take_ledger()
        follower = Follower(self.store, self.state, self.keys, self.has_ledger, self.asked.head)
        yield from follower.follow()
        yield from self._ends(follower)
        done = follower.done
        self._count(done)
        if not done.records:
            return  # nothing says what the files have to be
        yield from self._settled(chained(self._hashed(self._expected()), self._strangers(done), self._back()), follower)
        if self.has_ledger:
            yield from self._ledger_files()

    def _settled(self, faults: Iterator[Fault], follower: Follower) -> Iterator[Fault]:
        """Leaves out what is none any more, by records that were written while the lake was looked at."""
        while some := list(islice(faults, _AT_A_TIME)):
            last = self._last_record() if self.has_ledger else None
            for record in follower.later(last):
                with suppress(TypeError, ValueError, OverflowError):  # the next run that follows it reports that
                    self.state.apply(record)
            yield from (fault for fault in some if not self._is_over(fault))

    # -- the ledger ---------------------------------------------------------------------------------------------------
    def _take_ledger(self) -> Iterator[Fault]:
        nowhere = self.settings.ledger_url is None and self.settings.state is None and not self.store.is_local
        try:
            if nowhere:
                raise MissingError("the settings name none")
            with opened(self.settings, reading=True) as lake, snapshot(lake.ledger.engine) as connection:
                if not chain.is_there(connection):
                    self.summary.ledger = "it has no chain yet"
                    return
                self._take(connection)
        except MissingError:
            self.summary.ledger = "there is none here"
        except ConfigError as error:
            self.summary.ledger = str(error)
            yield Fault("ledger not compared", self.settings.lake, str(error))
        else:
            self.has_ledger = True

    def _take(self, connection: Connection) -> None:
        retired = [path for paths in compactions.retired(connection).values() for path in paths]
        self.state.take_ledger(chain.all_files(connection), retired)
        self._retired_in = {_without_generation(layout.folder_of(path)) for path in retired}
        self.state.take_records(LedgerRecord(*item) for item in chain.rows(connection))
        self._open_ids = containers.open_ids(connection)
        self._open_folders = set(compactions.open_folders(connection))
        self._left = orphans.all_folders(connection)

    def _ledger_files(self) -> Iterator[Fault]:
        for path, ours, theirs in self.state.otherwise():
            if ours.rows != theirs.rows:
                why = f"{theirs.rows:,} rows in the ledger, and {ours.rows:,} in the chain"
            else:
                ledger = f"{theirs.bytes:,} bytes with SHA-256 {theirs.sha256} in the ledger"
                why = f"{ledger}, and {ours.bytes:,} with {ours.sha256} in the chain"
            yield Fault("file and ledger differ", path, why)
        for path in self.state.not_in_ledger():
            yield Fault("file not in ledger", path, "queries do not read it; a record lists it")
        for path in self.state.still_in_ledger():
            yield Fault("file not in chain", path, "the ledger has it, and a record removed it")
        if self.summary.older == 0:
            for item in self.state.unlisted():
                yield Fault("file not in chain", item.file.path, "the ledger has it, and no record lists it")

    def _last_record(self) -> int:
        """Number of the ledger's last record, as it is by now."""
        if not self.has_ledger:
            return 0
        with opened(self.settings, reading=True) as lake, lake.ledger.engine.connect() as connection:
            return chain.last_number(connection)

    # -- records ------------------------------------------------------------------------------------------------------
    def _ends(self, follower: Follower) -> Iterator[Fault]:
        done = follower.done
        if follower.beyond > (last := self._last_record()) > 0:
            what = f"{chain.name(last + 1)} and on" if follower.beyond > last + 1 else chain.name(last + 1)
            yield Fault("record added", what, f"record {last} is the last one of the ledger", last + 1)
        if not done.records:
            yield Fault("no chain", chain.FOLDER, "no record can be read; the next command that writes begins one")
        if self.asked.head and not done.has_head:
            why = "no record has this hash: the chain was cut off before it, or is another one"
            yield Fault("head not in chain", self.asked.head, why)
        if self.keys is not None and done.records and done.unsigned:
            records = plural(done.unsigned, "record")
            what = chain.name(done.number)
            yield Fault("record not signed", what, f"{records} at the end of the chain without a right signature")
        files = done.beginning.get("files") if not done.beginning.get("listed", True) else 0
        older = files if isinstance(files, int) else 0
        self.summary.older = max(0, older - self.state.counts()["earlier"])

    # -- files --------------------------------------------------------------------------------------------------------
    def _expected(self) -> Iterator[Expected]:
        first = self.asked.first.isoformat() if self.asked.first else ""
        last = (self.asked.last + timedelta(days=1)).isoformat() if self.asked.last else _END
        yield from self.state.expected(first, last)
        if self.has_ledger and self.asked.first is None:
            yield from self.state.unlisted()

    def _hashed(self, expected: Iterator[Expected]) -> Iterator[Fault]:
        waiting: deque[tuple[Expected, Future[tuple[int, str] | str | None]]] = deque()
        with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="ocsf-lake") as pool:
            for item in expected:
                waiting.append((item, pool.submit(retry.call, self._hash, item.file.path)))
                if len(waiting) >= _AHEAD:
                    yield from self._judged(*waiting.popleft())
            while waiting:
                yield from self._judged(*waiting.popleft())

    def _hash(self, path: str) -> tuple[int, str] | str | None:
        """Size and SHA-256 of a file; None where there is none, and a reason where it cannot be read."""
        if ".." in path.split("/") or path.startswith("/") or "\0" in path:
            return "no path of a file in a lake"
        if self.store.is_local and (place := Path(self.store.path(path))).exists() and not place.is_file():
            return "no file"
        digest, size = hashlib.sha256(), 0
        try:
            with self.store.opened(path) as file:
                while block := file.read(_BLOCK_BYTES):
                    digest.update(block)
                    size += len(block)
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
            return None
        except OSError as error:
            if retry.may_pass(error):
                raise
            return f"it cannot be read: {error.strerror or error}"
        return size, digest.hexdigest()

    def _judged(self, item: Expected, future: Future[tuple[int, str] | str | None]) -> Iterator[Fault]:
        about = item.number or None, item.at or None
        made = future.result()
        if made is None:
            if self._is_emptying(item.file.path):
                self.summary.unfinished += 1
            elif item.state == LIVE and (version := self._behind(item)):
                why = f"a marker says that it was deleted; version {version} has the bytes that were written"
                yield Fault("file hidden", item.file.path, why, *about)
            elif item.state == LIVE:
                rows = f"{plural(item.file.rows, 'row')}, {item.file.bytes:,} bytes" if item.file.rows else "a file"
                yield Fault("file missing", item.file.path, f"{rows}: gone", *about)
            return
        if isinstance(made, str):
            yield Fault("file changed", item.file.path, made, *about)
            return
        size, sha256 = made
        self.summary.files += 1
        self.summary.bytes += size
        if sha256 != item.file.sha256:
            written = f"{item.file.bytes:,} with {item.file.sha256} were written"
            kept = f"; version {version} still has them" if (version := self._behind(item)) else ""
            why = f"{size:,} bytes with SHA-256 {sha256}, and {written}{kept}{self._rows(item)}"
            yield Fault("file changed", item.file.path, why, *about)
        elif size != item.file.bytes:
            why = f"{size:,} bytes, and {item.file.bytes:,} were recorded"
            yield Fault("file changed", item.file.path, why, *about)

    def _behind(self, item: Expected) -> str:
        """Id of the version of a file that has the bytes it should have, where the bucket keeps versions; "" else."""
        for version in self.store.versions(item.file.path):
            if version.is_marker or version.size != item.file.bytes or version.size > _VERSION_BYTES:
                continue
            data = self.store.read_version(item.file.path, version.id)
            if hashlib.sha256(data).hexdigest() == item.file.sha256:
                return version.id
        return ""

    def _rows(self, item: Expected) -> str:
        """How many rows a file has that was changed, where it can still be read."""
        if not item.file.rows:
            return ""
        try:
            with self.store.opened(item.file.path) as file:
                rows = pq.read_metadata(file).num_rows
        except (OSError, pa.ArrowException, ValueError):
            return "; it is not Parquet any more"
        return f"; {rows:,} rows now, and {item.file.rows:,} then" if rows != item.file.rows else ""

    def _strangers(self, done: Followed) -> Iterator[Fault]:
        unread = f"; {plural(done.unread, 'record')} cannot be read, which may list it" if done.unread else ""
        is_old = bool(done.beginning.get("files"))
        for path in self.state.strangers():
            name = path.rpartition("/")[2]
            if self._is_unfinished(path):
                self.summary.unfinished += 1
            elif (name == layout.PLAN and is_old) or (self.summary.older and not self.has_ledger):
                continue
            else:
                yield Fault("file added", path, f"no record lists it{unread}")

    def _back(self) -> Iterator[Fault]:
        for path in self.state.back():
            if self._is_unfinished(path):
                self.summary.unfinished += 1
                continue
            yield Fault("file added", path, "it was removed from the lake, and lies there again or still")

    def _is_unfinished(self, path: str) -> bool:
        """Whether somebody is at work on a file, or died over it, by the ledger."""
        folder, batch = layout.folder_of(path), layout.batch_of(path)
        is_left = not self._left.isdisjoint([(batch, folder), (batch, "")])  # "" is the whole lake
        return batch in self._open_ids or folder in self._open_folders or is_left

    def _is_emptying(self, path: str) -> bool:
        """Whether a plan is one of those that go with the last files of a partition, before a record says so."""
        folder, _, name = path.rpartition("/")
        if name != layout.PLAN or _without_generation(folder) not in self._retired_in:
            return False
        return not self.state.has_live(folder)

    def _is_over(self, fault: Fault) -> bool:
        """Whether something is no fault any more, by what was written while the lake was looked at."""
        state = self.state.state(fault.object)
        if fault.what in ("file missing", "file hidden") and fault.number:
            return state not in (LIVE, None) or (state is None and not self.state.has_beside(fault.object))
        if fault.what == "file added":
            return state not in (GONE, None) or self.state.has_beside(fault.object) or not self._lies(fault.object)
        return False

    def _lies(self, path: str) -> bool:
        return self.store.size(path) is not None

    def _count(self, done: Followed) -> None:
        summary, counts = self.summary, self.state.counts()
        summary.records, summary.number, summary.head = done.records, done.number, done.hash
        summary.first, summary.last, summary.signed = done.first_at, done.last_at, done.signed
        summary.live, summary.retired, summary.waiting = counts["live"], counts["retired"], done.waiting


def _named(files: Iterator[tuple[str, int]], unnamed: list[str]) -> Iterator[tuple[str, int]]:
    """The files whose names are text; those of the others are put into a list, as they can be shown."""
    for path, size in files:
        shown = os.fsencode(path).decode("utf-8", "backslashreplace")
        if shown == path:
            yield path, size
        else:
            unnamed.append(shown)


def _without_generation(folder: str) -> str:
    return layout.folder_of(folder).removeprefix(f"{layout.COMPACTED}/") if layout.is_compacted(folder) else folder


# -- older files ------------------------------------------------------------------------------------------------------
def adopt(settings: Settings) -> int:
    """Lists files in the chain that the ledger has and no record: from before the chain, or of an older program.

    They get the hashes that the ledger has of them, from when they were written; what was changed since is found.

    Returns:
        How many.

    Raises:
        ConfigError: There is no such lake.
        WriteError: The lake refused.
        RetriableError: The store or the database does not answer.
    """
    number = 0
    with opened(settings) as lake, temporary.directory("verify") as folder:
        with closing(State(Path(folder))) as state:
            with snapshot(lake.ledger.engine) as connection:
                state.take_ledger(chain.all_files(connection), ())
                for item in chain.rows(connection):
                    state.apply(chain.parsed(chain.content(item.body, item.hash, item.signature)))
            portion: list[str] = []
            for expected in state.unlisted():
                portion.append(expected.file.path)
                if len(portion) == chain.LISTED_FILES:
                    number += _adopt(lake, portion)
                    portion = []
            number += _adopt(lake, portion)
        lake.publish_chain()
    return number


def _adopt(lake: Lake, paths: Sequence[str]) -> int:
    if not paths:
        return 0
    with lake.ledger.engine.begin() as connection:
        # A compaction may have taken some since; what is there now is taken, and nobody changes it meanwhile.
        files = chain.listed(connection, paths)
        chain.append(connection, kind=chain.ADOPTED, added=files)
        return len(files)
