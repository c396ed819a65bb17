"""Whether storage, ledger and catalogs agree, and how to make them.

The ledger is the truth: it holds the files of every finished batch with size and checksum. What lies in the lake and
was written by no batch is moved aside, never deleted; a file that is gone is rebuilt from its raw objects, see
`ocsf_lake.upkeep.rebuild`. Files of batches that are under way are left alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ocsf_lake.catalogs import definitions
from ocsf_lake.catalogs.base import Catalog, Definition, Drift, ExpectedState, HeldFile, Kind
from ocsf_lake.catalogs.definitions import definition
from ocsf_lake.ingest import batch as batches
from ocsf_lake.ingest import moving, unfinished
from ocsf_lake.lake import Lake
from ocsf_lake.ledger import compactions, containers, files, overview, retained, written_off
from ocsf_lake.ledger.leases import LostError
from ocsf_lake.ledger.ledger import Ledger
from ocsf_lake.ledger.results import Result, State
from ocsf_lake.storage import layout, permissions
from ocsf_lake.storage.fileinfo import FileInfo
from ocsf_lake.storage.layout import Partition, batch_of
from ocsf_lake.storage.store import Store
from ocsf_lake.text import plural
from ocsf_lake.upkeep import lost as lost_files
from ocsf_lake.upkeep import rebuild, returned
from ocsf_mappers import registry
from ocsf_mappers.errors import OcsfMappersError

STORAGE = "storage"

_LOST = "its rows are unavailable; sync rebuilds the file from the raw objects, or says what else can be done"
_ABANDONED = (
    "its batch died and its raw objects are gone: no run does it again, and Athena and other readers of the folder "
    f"count its rows; sync finishes the batch if all its files were written, else moves them to {layout.FOREIGN}/"
)


@dataclass
class Repair:
    """What a repair did.

    Args:
        found: The drift before.
        left: The drift that is left.
        rebuilt: Batches whose files were rebuilt.
        moved: Files nobody wrote, by their names before.
        taken_back: Files that were written off as lost and are there again.
        ended: Batches that died and whose raw objects are gone, and what became of each.
        refused: What could not be mended, and why.
    """

    found: list[Drift]
    left: list[Drift] = field(default_factory=list)
    rebuilt: list[str] = field(default_factory=list)
    moved: list[str] = field(default_factory=list)
    taken_back: list[str] = field(default_factory=list)
    ended: dict[str, str] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)


def check(lake: Lake, deep: bool = False) -> list[Drift]:
    """Where storage, ledger and each catalog disagree, sorted.

    Args:
        lake: The lake.
        deep: Also read every file and compare its checksum.
    """
    expected = _LedgerState(lake.ledger, lake.store)
    drifts: list[Drift] = []
    asked = _Asked(lake, expected)
    for table in _definitions():
        drifts += _stored(lake, table, expected, deep)
        for catalog in asked.about(table):
            drifts += catalog.check(table, expected)
    unknown = overview.without_source(lake.ledger.engine)
    drifts += [Drift(STORAGE, name, Kind.TABLE_UNKNOWN, name, definitions.NO_SOURCE) for name in sorted(unknown)]
    return sorted(drifts)


def missing(lake: Lake, tables: Sequence[Definition] | None = None) -> list[Drift]:
    """Files that the ledger has and the store has not, of some tables or of all."""
    expected = _LedgerState(lake.ledger, lake.store)
    by_table = (_stored(lake, table, expected, False) for table in tables or _definitions())
    return sorted(item for drifts in by_table for item in drifts if item.kind is Kind.FILE_MISSING)


def expected_state(lake: Lake) -> ExpectedState:
    """What storage and catalogs should hold, by the ledger."""
    return _LedgerState(lake.ledger, lake.store)


def exposed(lake: Lake) -> list[Path]:
    """Local folders of the lake that all users of the machine can read although the setting `umask` says otherwise."""
    if not lake.settings.mask & 0o007:
        return []
    root = Path(lake.store.root) if lake.store.is_local else None
    state = lake.settings.state or root
    folders = [state / Path(layout.LEDGER_PATH).parent, state / layout.CATALOGS] if state else []
    if root is not None:
        prefixes = {layout.COMPACTED, *(table.prefix.partition("/")[0] for table in _definitions())}
        folders += [root / prefix for prefix in sorted(prefixes)]
    return permissions.open_to_others(root or Path("/"), folders)


def consistent(findings: list[Drift]) -> bool:
    """Whether every query returns what it should, in spite of these findings."""
    return all(finding.harmless for finding in findings)


def sync(lake: Lake, deep: bool = False) -> Repair:
    """Makes storage and catalogs agree with the ledger, as far as that can be done.

    Args:
        lake: The lake.
        deep: Also read every file and compare its checksum.
    """
    repair = Repair(check(lake, deep))
    _end_abandoned(lake, repair)
    drifts = check(lake, deep) if repair.ended else repair.found
    if consistent(drifts):
        repair.left = drifts
        return repair
    # First of all: a file that is taken back may have a new name, under which a run that died has put it.
    foreign = [drift for drift in drifts if drift.kind is Kind.FILE_FOREIGN and drift.where == STORAGE]
    for table in sorted({drift.table for drift in foreign}):
        _move_foreign(lake, table, [drift.item for drift in foreign if drift.table == table], repair)
    for drift in drifts:
        if drift.kind is Kind.FILE_RETURNED:
            if (reason := returned.take_back(lake, drift.table, drift.item)) is None:
                repair.taken_back.append(drift.item)
            else:
                repair.refused.append(f"{drift.item}: {reason}")
    lost = lost_files.by_batch(drifts)
    waiting = lake.ledger.in_order(lost.keys())
    while waiting:
        reasons = {one: rebuild.rebuild_batch(lake, one, lost[one]) for one in waiting}
        refused = [one for one in waiting if reasons[one]]
        repair.rebuilt += [one for one in waiting if not reasons[one]]
        if len(refused) == len(waiting):
            judge = lost_files.Judge(lake)
            judged = [item for one in refused for item in judge.judged(one, lost[one], reasons[one])]
            others = sorted(set(refused) - {item.batch_id for item in judged})
            repair.refused += [*lost_files.ways(judged), *(f"batch {one}: {reasons[one]}" for one in others)]
            break
        waiting = refused  # what they are made of may be there now
    repair.refused += repair_catalogs(lake)
    repair.left = check(lake, deep)
    return repair


def _move_foreign(lake: Lake, table: str, paths: Sequence[str], repair: Repair) -> None:
    """Moves files of a table aside that nobody wrote, but for those that a batch has written since they were found.

    A batch gives its files the same names when it is done again, as after `rebuild-ledger`.
    """
    expected = _LedgerState(lake.ledger)
    files = {file.path for file in expected.files(table)}
    for path in paths:
        is_ours = path in files or expected.is_open(path) or layout.folder_of(path) in expected.open_folders
        if not is_ours:
            lake.store.move_aside(path)
            repair.moved.append(path)


def _end_abandoned(lake: Lake, repair: Repair) -> None:
    """Ends batches that died and that no run does again, as all of their raw objects are gone."""
    for batch_id in lake.ledger.begun():
        with lake.leases.held(batch_id) as lease:
            batch = lake.ledger.batch(batch_id) if lease is not None else None
            if batch is None or lease is None:
                continue  # who holds it ends it
            try:
                result = batches.end_abandoned(batch, lake, lease)
            except LostError as error:  # it may be another one's by now, or be ended
                if lake.ledger.batch(batch_id) is not None:
                    repair.refused.append(f"batch {batch_id}: {str(error).splitlines()[0]}")
                continue
            except OcsfMappersError as error:
                # Whatever is wrong with this batch, others can be ended.
                lake.ledger.fail(batch_id, str(error), excused=True)
                repair.refused.append(f"batch {batch_id}: {str(error).splitlines()[0]}")
                continue
        if result is not None:
            repair.ended[batch_id] = _ending(result)


def _ending(result: Result) -> str:
    reasons = [outcome.reason or "" for outcome in result.outcomes.values() if outcome.state is State.FAILED]
    if len(reasons) == len(result.outcomes):
        return f"{plural(len(reasons), 'object')} without records in the lake: {reasons[0]}"
    counts = result.counts
    return f"it was written whole, {plural(counts.events, 'event')} and {counts.quarantined:,} in quarantine"


def repair_catalogs(lake: Lake) -> list[str]:
    """Makes catalogs agree with the ledger, but of tables whose partitions somebody moves; gives those.

    Catalogs get to know of that before the ledger does, and would be given back what is to be removed.
    """
    busy = []
    expected = _LedgerState(lake.ledger, lake.store)
    asked = _Asked(lake, expected)
    for table in _definitions():
        drifting = [catalog for catalog in asked.about(table) if catalog.check(table, expected)]
        if not drifting:
            continue
        with lake.leases.held(moving.lease(table.name)) as lease:
            if lease is None:
                busy.append(f"table {table.name}: {moving.BUSY}")
                continue
            for catalog in drifting:
                catalog.repair(table, expected)
    return busy


def _definitions() -> list[Definition]:
    return [definition(name) for name in definitions.names()]


class _LedgerState:
    """See `ocsf_lake.catalogs.base.ExpectedState`."""

    def __init__(self, ledger: Ledger, store: Store | None = None) -> None:
        self._engine = ledger.engine
        self._store = store
        self._open: set[str] = set()
        self.open_folders: set[str] = set()
        """Folders that a compaction is writing into, as of the last time that `files` was asked."""
        self.emptied: set[str] = set()
        """Folders of the table's partitions that a retention emptied, as of then."""
        self._abandoned: dict[str, bool] = {}

    def has_files(self, table: str) -> bool:
        """Whether there is any of `files`; of most tables a lake has none."""
        return files.has_any(self._engine, table)

    def files(self, table: str) -> list[HeldFile]:
        """The files of a table that finished batches wrote, read anew; also learns which batches are open."""
        with self._engine.connect() as connection:
            self._open = containers.open_ids(connection)
            self.open_folders = set(compactions.open_folders(connection))
            self.emptied = retained.folders(connection, table) if table in registry.tables() else set()
            rows = files.rows_of_table(connection, table)
        return [HeldFile(path, Partition(table, tuple(values.split("/"))), *more) for path, values, *more in rows]

    def retired(self, table: str) -> set[str]:
        """Files whose rows are in others since a compaction, and that are still there for their readers."""
        with self._engine.connect() as connection:
            return set(compactions.retired(connection).get(table, ()))

    def written_off(self, table: str) -> dict[str, FileInfo]:
        """Files that were lost and that the lake does without, by path."""
        return written_off.standing(self._engine, table)

    def is_open(self, path: str) -> bool:
        """Whether a file belongs to a batch that is not finished."""
        return batch_of(path) in self._open

    def is_abandoned(self, lake: Lake, path: str) -> bool:
        """Whether a file belongs to a batch that died and that no run does again, as its raw objects are gone."""
        batch_id = batch_of(path)
        if batch_id not in self._abandoned:
            batch = lake.ledger.batch(containers.of(lake.ledger.engine, batch_id) or batch_id)
            self._abandoned[batch_id] = batch is not None and unfinished.is_abandoned(lake, batch)
        return self._abandoned[batch_id]

    def is_open_partition(self, partition: Partition) -> bool:
        """Whether a file of an unfinished batch lies in a partition."""
        table = definition(partition.table)
        folder = layout.folder(table.prefix, table.keys, partition.values)
        assert self._store is not None
        return any(self.is_open(path) for path in self._store.sizes(folder))


class _Asked:
    """Which catalogs are asked about a table: most tables are in none, and each question is a request."""

    def __init__(self, lake: Lake, expected: _LedgerState) -> None:
        self._expected = expected
        self._names = {catalog: catalog.names() for catalog in lake.catalog.all}

    def about(self, table: Definition) -> list[Catalog]:
        """The catalogs that have a table, and those that should have it, by the ledger as it is now."""
        there = [item for item, names in self._names.items() if names is None or table.name in names]
        return list(self._names) if len(there) < len(self._names) and self._expected.has_files(table.name) else there


def _stored(lake: Lake, table: Definition, expected: _LedgerState, deep: bool) -> Iterator[Drift]:
    """Where storage and ledger disagree: files that are gone or other than they were, and files too many."""
    place = (STORAGE, table.name)
    # Storage first, the ledger after it: a batch that is finished in between is no finding.
    sizes = lake.store.sizes(table.prefix)
    if table.name not in definitions.BESIDE:
        sizes |= lake.store.sizes(f"{layout.COMPACTED}/{table.prefix}")
    if not sizes and not expected.has_files(table.name):
        return
    file_by_path = {file.path: file for file in expected.files(table.name)}
    lost = expected.written_off(table.name)
    retired = expected.retired(table.name)
    for path, file in file_by_path.items():
        size = sizes.get(path)
        if size is None:
            size = lake.store.size(path)
        if size is None:
            yield Drift(*place, Kind.FILE_MISSING, path, f"{file.rows:,} rows: {_LOST}")
        elif size != file.bytes:
            yield Drift(*place, Kind.FILE_CHANGED, path, f"{size:,} bytes, {file.bytes:,} were written; {_LOST}")
        elif deep and lake.store.sha256(path) != file.sha256:
            yield Drift(*place, Kind.FILE_CHANGED, path, f"other bytes than were written; {_LOST}")
    folders = {layout.folder_of(path) for path in (*file_by_path, *retired)}
    for path in sorted(sizes.keys() - file_by_path.keys() - retired):
        folder, _, name = path.rpartition("/")
        if name == layout.PLAN and folder in folders | expected.open_folders | expected.emptied:
            continue
        if expected.is_open(path) and expected.is_abandoned(lake, path):
            yield Drift(*place, Kind.FILE_UNFINISHED, path, _ABANDONED)
        elif expected.is_open(path) or folder in expected.open_folders:
            message = "a run is writing it, or died over it; the next run of the same command finishes the batch"
            yield Drift(*place, Kind.FILE_UNFINISHED, path, message, harmless=True)
        elif path in lost and _is_same(lake, lost[path], sizes[path]):
            message = "its rows are missing as it was written off as lost; it is there again, and sync takes it back"
            yield Drift(*place, Kind.FILE_RETURNED, path, message)
        elif lake.store.size(path) is not None:  # a compaction's files of before may have been removed just now
            message = f"Athena and other readers of the folder count its rows; sync moves it to {layout.FOREIGN}/"
            yield Drift(*place, Kind.FILE_FOREIGN, path, message)


def _is_same(lake: Lake, file: FileInfo, size: int) -> bool:
    return size == file.bytes and lake.store.sha256(file.path) == file.sha256
