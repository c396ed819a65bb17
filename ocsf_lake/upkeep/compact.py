"""Small files of partitions into large ones, while others read and write the lake.

A partition's files go into its next generation, a folder of its own outside the table's:

    <lake>/compacted/aws/VPC_FLOW/2.0/region=R/accountId=A/eventDay=D/g0001/

1. The plan is noted in the ledger: which files are merged, which come along as they are, what is written.
2. The files are written. Nobody sees them: no catalog and no folder of a table names them.
3. The partitions get a fence: no batch is done in them until 6. What was done since 1 is taken up. From here on a
   compaction can only go on; a batch that finds the fence of one that died finishes it.
4. What comes along is copied, and `_plan.json` lists what the folder was made of.
5. Catalogs are updated, each in one step a table or partition. The record is written.
6. The ledger has the new files instead of the old ones, in one transaction, and the fence is gone.
7. After a time of grace for queries that are under way the old files are removed.

So a reader of any catalog, and a query of this lake, sees each row once at every moment.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from ocsf_lake.catalogs.base import Kind
from ocsf_lake.catalogs.definitions import definition
from ocsf_lake.config import Settings
from ocsf_lake.ingest import moving
from ocsf_lake.lake import Lake, opened
from ocsf_lake.ledger import generations
from ocsf_lake.ledger.compactions import FENCED, Compactions, StaleError
from ocsf_lake.ledger.leases import Lease
from ocsf_lake.ledger.moves import Merge, Move, Output, PartitionFile, Plan
from ocsf_lake.ledger.results import ID_DIGITS
from ocsf_lake.storage import fetched, layout
from ocsf_lake.storage.fileinfo import FileInfo
from ocsf_lake.text import plural, size
from ocsf_lake.upkeep import merge, retired
from ocsf_mappers import registry, temporary
from ocsf_mappers.errors import ConfigError, nearest

OLDER_THAN = timedelta(days=2)
"""Days that ended so long ago are compacted: by then nearly all of their logs have come."""

MOST_PARTITIONS = 100
"""Partitions of one compaction, as many as Glue changes by one request."""
MOST_BYTES = 1 << 30
"""Files that one compaction merges, about; a partition with more has one of its own."""
MERGED_FILES = 2
"""Large files that one merge makes at most; its work grows faster than its files."""
COPIED_PER_FILE = 64 << 20
"""Bytes that may have to be copied along for each file that there is less."""

Clock = Callable[[], datetime]
_AGE = re.compile(r"(\d{1,5})([dh])")


@dataclass
class Done:
    """What became, or would become, of a table.

    Args:
        table: Its name.
        partitions: Partitions that were compacted.
        files_before: Their files before.
        files_after: And after.
        bytes_before: Size of the files before.
        bytes_after: And after; None where nothing was done yet.
        rows: Rows in files that were merged.
    """

    table: str
    partitions: int = 0
    files_before: int = 0
    files_after: int = 0
    bytes_before: int = 0
    bytes_after: int | None = 0
    rows: int = 0


@dataclass
class Summary:
    """What a compaction did, or would do.

    Args:
        tables: What became of each table that had something to merge.
        removed: Files of earlier compactions that were removed, as their time of grace was over.
        removed_bytes: Their size.
        held: Files whose time of grace is over and that a legal hold keeps.
        of_versions: What became of versions of files that were removed before under Object Lock.
        refused: Table -> why it cannot be compacted, or only in part.
        busy: Tables that another worker compacts.
        waiting: Partitions left to the next run, as an export takes files of them.
        is_dry: Whether nothing was done, only reported what would be.
    """

    tables: list[Done] = field(default_factory=list)
    removed: int = 0
    removed_bytes: int = 0
    held: int = 0
    of_versions: list[str] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)
    busy: list[str] = field(default_factory=list)
    waiting: int = 0
    is_dry: bool = False

    @property
    def message(self) -> str:
        """The run in one line."""
        before, after = (sum(getattr(item, name) for item in self.tables) for name in ("files_before", "files_after"))
        partitions = plural(sum(item.partitions for item in self.tables), "partition")
        became = f"{plural(before, 'file')} of {partitions} {'would become' if self.is_dry else 'became'} {after:,}"
        parts = [became if before else "nothing to merge"]
        if self.removed:
            parts.append(f"{plural(self.removed, 'merged file')} removed ({size(self.removed_bytes)})")
        if self.held:
            parts.append(f"{plural(self.held, 'merged file')} kept by a legal hold")
        parts += self.of_versions
        if self.waiting:
            waiting = plural(self.waiting, "partition")
            parts.append(f"{waiting} left to the next run, as an export is using their files")
        if self.busy:
            parts.append(f"another run is compacting {', '.join(self.busy)}")
        return "; ".join(parts)


def parsed(age: str) -> timedelta:
    """An age such as `2d` or `12h`.

    Raises:
        ConfigError: It is none.
    """
    match = _AGE.fullmatch(age)
    if match is None:
        raise ConfigError(f"{age!r} is not an age; write 2d for two days, 12h for twelve hours")
    return timedelta(**{"days" if match[2] == "d" else "hours": int(match[1])})


def _today() -> datetime:
    return datetime.now(UTC)


def compact(
    settings: Settings, table: str | None = None, older_than: timedelta = OLDER_THAN, *, dry_run: bool = False,
    clock: Clock = _today,
) -> Summary:  # fmt: skip
    """Merges small files of partitions, and removes files that were merged long enough ago.

    Args:
        settings: The lake; sizes and the time of grace.
        table: Only this one.
        older_than: Only event days that ended so long ago.
        dry_run: Only report what would be done; permission to read is enough.
        clock: Gives the time, with a zone.

    Raises:
        ConfigError: There is no such table, or the lake's files are locked for good.
        LostError: Another worker may have taken over; running again continues.
        WriteError: The lake or a catalog refused; running again continues.
        RetriableError: A store, catalog or database does not answer.
    """
    check_lock(settings)
    names = sorted(registry.tables())
    if table is not None and table not in names:
        raise ConfigError(f"no table {table!r}{nearest(table, names)}")
    summary = Summary(is_dry=dry_run)
    with opened(settings, with_retries=not dry_run, reading=dry_run, catalogs=True) as lake:
        for name in names if table is None else [table]:
            _table(lake, name, clock() - older_than, summary, dry_run)
        if not dry_run:
            removed = retired.remove(lake, clock())
            summary.removed, summary.removed_bytes, summary.held = removed.files, removed.bytes, removed.held
            summary.of_versions = removed.of_versions
    return summary


def check_lock(settings: Settings) -> None:
    """Whether files may be written anew.

    Raises:
        ConfigError: They are locked for good, and nobody has said that both may be kept.
    """
    lock = settings.object_lock
    if lock is not None and lock.mode == "COMPLIANCE" and not settings.object_lock_compact:
        raise ConfigError(
            f"under object_lock COMPLIANCE nothing can be removed for {plural(lock.days, 'day')}: what is merged or "
            "mapped anew would stay, and be paid, beside the new files, up to double the storage; "
            "object_lock_compact = true does it all the same"
        )


def _table(lake: Lake, table: str, before: datetime, summary: Summary, dry_run: bool) -> None:
    compactions = Compactions(lake.ledger.engine)
    if dry_run:
        _dry(lake, compactions, table, before, summary)
        return
    with lake.leases.held(moving.lease(table)) as lease:
        if lease is None:
            summary.busy.append(table)
            return
        done = Done(table)
        try:
            if (plan := compactions.open(table)) is not None:
                if plan.is_retention or (plan.is_remap and plan.state != FENCED):
                    settle_open(lake, table, lease)  # who maps its rows once more, or removes them, begins anew
                else:
                    _one(lake, plan, lease, done)
            for plan in _allowed(lake, compactions, table, before, summary):
                lease.check()
                try:
                    compactions.plan(plan)
                except StaleError:
                    summary.waiting += len(plan.moves)
                    continue
                moving.failpoint("planned", plan.id)
                _one(lake, plan, lease, done)
        except (fetched.LakeFileError, ConfigError) as error:
            # Of this table; what is wrong with it does not keep back the others.
            if (plan := compactions.open(table)) is not None and plan.state != FENCED:
                abandon(lake, plan)
            summary.refused[table] = str(error)
        finally:
            if done.partitions:
                summary.tables.append(done)


def settle_open(lake: Lake, table: str, lease: Lease) -> None:
    """Finishes what an interrupted compaction of a table left, or forgets it where nobody has seen anything of it."""
    if (plan := Compactions(lake.ledger.engine).open(table)) is not None:
        if plan.state == FENCED:
            moving.forward(lake, plan, lease)
        else:
            abandon(lake, plan)


def _dry(lake: Lake, compactions: Compactions, table: str, before: datetime, summary: Summary) -> None:
    done = Done(table, bytes_after=None)
    for plan in _allowed(lake, compactions, table, before, summary):
        _count(done, plan, compactions.files(plan.old))
    if done.partitions:
        summary.tables.append(done)


def refusal(lake: Lake, table: str) -> str | None:
    """Why a table cannot be compacted."""
    from ocsf_lake.upkeep import check

    table_definition = definition(table)
    for catalog in lake.catalog.all:
        if (reason := catalog.irreplaceable(table_definition)) is not None:
            return f"{catalog.name}: {reason}"
        if not check.consistent(drifts := catalog.check(table_definition, check.expected_state(lake))):
            return (
                f"{catalog.name} and the ledger do not agree ({drifts[0].kind}: {drifts[0].item}); "
                "`ocsf-lake catalog sync` first"
            )
    return None


def unregistered(lake: Lake, table: str) -> list[str]:
    """The files of a table that some catalog lacks."""
    from ocsf_lake.upkeep import check

    expected = check.expected_state(lake)
    drifts = (drift for catalog in lake.catalog.all for drift in catalog.check(definition(table), expected))
    return [drift.item for drift in drifts if drift.kind is Kind.FILE_UNREGISTERED]


# -- plans ------------------------------------------------------------------------------------------------------------
def _allowed(
    lake: Lake, compactions: Compactions, table: str, before: datetime, summary: Summary
) -> Iterator[Plan]:
    """What is to be done; nothing where the table is refused, which its catalogs are asked once there is something."""
    plans = _plans(lake, compactions, table, before, summary)
    if (first := next(plans, None)) is None:
        return
    if (reason := refusal(lake, table)) is not None:
        summary.refused[table] = reason
        return
    yield first
    yield from plans


def _plans(lake: Lake, compactions: Compactions, table: str, before: datetime, summary: Summary) -> Iterator[Plan]:
    """What is to be done, in portions of bounded size."""
    due = [
        values for values, _, _, last in compactions.partitions(table)
        if _is_over(values.rpartition("/")[2], before) or _is_unknown(values, last, before)
    ]  # fmt: skip
    moves: list[Move] = []
    total = 0
    for start in range(0, len(due), MOST_PARTITIONS):
        some = due[start : start + MOST_PARTITIONS]
        for values, (generation, files) in sorted(compactions.partition_files(table, some).items()):
            if any(item.is_shipping for item in files):
                summary.waiting += 1
                continue
            if (move := planned(table, values, generation + 1, files, lake.settings)) is None:
                continue
            own = sum(item.file.bytes for item in files)
            if moves and (len(moves) >= MOST_PARTITIONS or total + own > MOST_BYTES):
                yield _plan(table, moves)
                moves, total = [], 0
            moves.append(move)
            total += own
    if moves:
        yield _plan(table, moves)


def _is_over(day: str, before: datetime) -> bool:
    """Whether an event day ended before a moment."""
    return day != layout.UNKNOWN and datetime.strptime(day, "%Y%m%d").replace(tzinfo=UTC) + timedelta(days=1) <= before


def _is_unknown(values: str, last: str, before: datetime) -> bool:
    """Whether a partition has no day, and got its last files before a moment."""
    return values.endswith(f"/{layout.UNKNOWN}") and datetime.fromisoformat(last) <= before


def _plan(table: str, moves: Sequence[Move]) -> Plan:
    text = json.dumps([table, [[move.values, move.generation, [one.id for one in move.merges]] for move in moves]])
    return Plan(hashlib.sha256(text.encode()).hexdigest()[:ID_DIGITS], table, tuple(moves))


def planned(
    table: str, values: str, generation: int, files: Sequence[PartitionFile], settings: Settings
) -> Move | None:
    """What to do with one partition; None where it is not worth it.

    Files of one source, class and OCSF version are merged; those that an export has sent are not merged with others,
    so that each file is sent or is not. Files that are large enough come along as they are.
    """
    groups: dict[tuple[object, ...], list[PartitionFile]] = {}
    for item in files:
        if item.file.bytes < settings.compact_file_bytes // 2:
            key = (item.source, item.ocsf_version, item.file.class_uid, item.targets)
            groups.setdefault(key, []).append(item)
    to = generations.folder(layout.Partition(table, tuple(values.split("/"))), generation)
    most = MERGED_FILES * settings.compact_file_bytes
    merges = [
        new for key in sorted(groups, key=str) for some in _bounded(groups[key], most)
        if (new := _merge(table, values, to, some, settings)) is not None
    ]  # fmt: skip
    merged = {path for one in merges for path in one.inputs}
    copied = {
        item.file.path: f"{to}/{item.file.path.rpartition('/')[2]}" for item in files if item.file.path not in merged
    }
    saved = len(merged) - sum(len(one.outputs) for one in merges)
    along = sum(item.file.bytes for item in files if item.file.path in copied)
    if saved < 1 + along // COPIED_PER_FILE:
        return None
    return Move(values, generation, tuple(merges), copied)


def _bounded(files: Sequence[PartitionFile], most: int) -> Iterator[list[PartitionFile]]:
    """Files in groups of bounded size."""
    group: list[PartitionFile] = []
    size = 0
    for item in files:
        if group and size + item.file.bytes > most:
            yield group
            group, size = [], 0
        group.append(item)
        size += item.file.bytes
    if group:
        yield group


def _merge(table: str, values: str, to: str, files: Sequence[PartitionFile], settings: Settings) -> Merge | None:
    number = -(-sum(item.file.bytes for item in files) // settings.compact_file_bytes)
    if number >= len(files):
        return None
    first = files[0]
    class_uid = first.file.class_uid
    assert class_uid is not None  # events have one
    inputs = {item.file.path: item.file.sha256 for item in sorted(files, key=lambda item: item.file.path)}
    text = json.dumps([table, values, number, sorted(inputs.items())])
    merge_id = hashlib.sha256(text.encode()).hexdigest()[:ID_DIGITS]
    rows = merge.shares(sum(item.file.rows for item in files), number)
    outputs = tuple(
        Output(f"{to}/{layout.file_name(merge_id, part, class_uid)}", share) for part, share in enumerate(rows)
    )
    return Merge(merge_id, first.source, first.ocsf_version, class_uid, first.targets, inputs, outputs)


# -- one compaction ---------------------------------------------------------------------------------------------------
def _one(lake: Lake, plan: Plan, lease: Lease, done: Done) -> None:
    """Does a compaction to its end, from where an interrupted one left it."""
    compactions = Compactions(lake.ledger.engine)
    before = compactions.files(plan.old)
    if plan.state != FENCED:
        try:
            plan = _write(lake, plan, lease)
            plan = compactions.fence(plan)
        except StaleError:
            abandon(lake, plan)
            return
        moving.failpoint("fenced", plan.id)
    before |= compactions.files(plan.old)
    moving.forward(lake, plan, lease)
    _count(done, plan, before)


def _count(done: Done, plan: Plan, before: dict[str, tuple[str, FileInfo]]) -> None:
    copied = sum(before[path][1].bytes for path in plan.copied)
    done.partitions += len(plan.moves)
    done.files_before += len(plan.old)
    done.files_after += len(plan.copied) + sum(1 for _ in plan.new())
    done.bytes_before += sum(file.bytes for _, file in before.values())
    if done.bytes_after is not None:
        done.bytes_after += copied + sum(file.bytes for _, file in plan.new())
    done.rows += sum(file.rows for _, file in plan.new())


def _write(lake: Lake, plan: Plan, lease: Lease) -> Plan:
    """Writes the files of a compaction; nobody sees them. Gives the plan with their sizes and checksums."""
    check_copied(lake, plan.copied)
    moves = []
    for move in plan.moves:
        merges = []
        for one in move.merges:
            lease.check()
            with temporary.directory("compact") as name:
                folder = Path(name)
                paths = fetched.fetch(lake.store, list(one.inputs.items()), folder)
                rows = [output.rows for output in one.outputs]
                files = merge.written(paths, plan.table, rows, lake.settings, folder)
                outputs = []
                for output, file in zip(one.outputs, files, strict=True):
                    lease.check()
                    outputs.append(put(lake, output, file))
                    moving.failpoint("merged", plan.id)
            merges.append(replace(one, outputs=tuple(outputs)))
        moves.append(replace(move, merges=tuple(merges)))
    return replace(plan, moves=tuple(moves))


def check_copied(lake: Lake, paths: Iterable[str]) -> None:
    """Whether the files are there that are to come along as they are: behind the fence that would be found too late.

    Raises:
        LakeFileError: One is gone.
        RetriableError: The store does not answer.
    """
    for path in paths:
        if lake.store.size(path) is None:
            raise fetched.LakeFileError(fetched.GONE, file=path)


def put(lake: Lake, output: Output, file: Path) -> Output:
    """Puts a file that nobody sees yet; gives what is written, with its size and checksum."""
    made = replace(output, bytes=file.stat().st_size, sha256=fetched.sha256(file))
    if not lake.store.put_new(made.path, file):
        with temporary.directory("compact") as name:
            try:
                fetched.fetch(lake.store, [(made.path, made.sha256)], Path(name))
            except fetched.LakeFileError:
                # Of an attempt with another release of Parquet's library, perhaps; nobody has seen it.
                lake.store.remove([made.path])
                lake.store.put_new(made.path, file)
    return made


def abandon(lake: Lake, plan: Plan) -> None:
    """Forgets a compaction that nobody has seen anything of, and removes what it wrote."""
    lake.store.remove(name for move in plan.moves for name in lake.store.sizes(plan.folder(move)))
    Compactions(lake.ledger.engine).abandon(plan)
