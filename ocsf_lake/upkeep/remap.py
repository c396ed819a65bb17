"""Events of days that are in the lake, mapped once more by today's mapper, a partition at a time.

What a compaction does for the same rows in fewer files, this does for new rows in place of the old ones: the files of a
partition are written into its next generation, and every catalog gets them instead of those before in one step (see
`ocsf_lake.upkeep.compact`, whose fence, steps and time of grace they share). So a reader sees each record once, under
the old mapper or the new one.

A partition is rewritten whole or not at all. Each of its rows must come out in the same partition again, from the
object that it names, with the content that it was read with; where one does not, the partition stays as it is, and the
reason names the record. Records in quarantine are none of it: `ocsf-lake quarantine replay` maps those.
"""

from __future__ import annotations

import hashlib
import json
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ocsf_lake.config import Settings
from ocsf_lake.ingest import engines, moving
from ocsf_lake.ingest.parts import Source
from ocsf_lake.ingest.routing import Router
from ocsf_lake.inputs import fields
from ocsf_lake.lake import Lake, opened
from ocsf_lake.ledger import generations, redactions
from ocsf_lake.ledger.compactions import Compactions, StaleError
from ocsf_lake.ledger.leases import Lease
from ocsf_lake.ledger.moves import Merge, Move, Output, PartitionFile, Plan
from ocsf_lake.ledger.results import ID_DIGITS
from ocsf_lake.redaction import policy as redaction
from ocsf_lake.redaction.policy import Policy
from ocsf_lake.storage import fetched, layout, objects, parquet, retry
from ocsf_lake.storage.fileinfo import FileInfo
from ocsf_lake.storage.layout import Partition
from ocsf_lake.storage.objects import ObjectRef
from ocsf_lake.storage.store import Store
from ocsf_lake.storage.writer import MOST_BYTES, Writer
from ocsf_lake.text import plural
from ocsf_lake.upkeep import compact, merge, origins, quarantine
from ocsf_lake.upkeep.origins import NotThereError, PassingError, RefusedError
from ocsf_lake.upkeep.selection import Numbers, Selection, by_object, only_selected, parts_of
from ocsf_mappers import Engine, Mapped, temporary

SHIPPING = "an export takes files of it; try again when that is done"
ROWS_OF = ("source_object", "source_etag", "source_record", "mapper_version")

NumbersByObject = Mapping[tuple[str, str], Numbers | None]
"""URI and ETag of an object -> numbers of its records, sorted; None for all that come out in the partition."""
Records = Mapping[tuple[str, str], set[int]]
"""URI and ETag of an object -> numbers of records."""
MOST_ROWS = 5_000_000
"""Rows of other files whose places are remembered."""


@dataclass
class Summary:
    """What was mapped once more.

    Args:
        partitions: Partitions that were rewritten, or would be.
        rows: Their rows that were mapped once more.
        current: Partitions whose rows are today's mapper's already.
        refused: Partition, as table and values -> why it stays as it was.
        busy: Tables that another worker compacts or rewrites.
        is_dry: Whether nothing was done, only reported what would be.
    """

    partitions: int = 0
    rows: int = 0
    current: int = 0
    refused: dict[str, str] = field(default_factory=dict)
    busy: list[str] = field(default_factory=list)
    is_dry: bool = False

    @property
    def message(self) -> str:
        """The run in one line."""
        verb = "would be mapped" if self.is_dry else "were mapped"
        parts = [f"{plural(self.rows, 'event')} of {plural(self.partitions, 'partition')} {verb} again"]
        if self.current:
            parts.append(f"{plural(self.current, 'partition')} already mapped by today's mapper")
        if self.refused:
            parts.append(f"{plural(len(self.refused), 'partition')} left as they were")
        return "; ".join(parts)


@dataclass(frozen=True)
class Chosen:
    """What is to be mapped once more.

    Args:
        source: Name of the source.
        first: First day of events, UTC.
        last: Last day of events, included.
        accounts: Only these; empty for all.
        regions: Only these; empty for all.
        below: Only rows whose objects lie below this URI may be rewritten; "" for any.
    """

    source: str
    first: date
    last: date
    accounts: tuple[str, ...] = ()
    regions: tuple[str, ...] = ()
    below: str = ""

    def has(self, values: str) -> bool:
        """Whether a partition, its values with `/` between, is among it."""
        region, account, day = values.split("/")
        return (
            day != layout.UNKNOWN
            and f"{self.first:%Y%m%d}" <= day <= f"{self.last:%Y%m%d}"
            and (not self.accounts or account in self.accounts)
            and (not self.regions or region in self.regions)
        )


def remap(
    settings: Settings, chosen: Chosen, *, dry_run: bool = False, progress: Callable[[Summary], None] | None = None
) -> Summary:
    """Maps the events of some days once more.

    Args:
        settings: The lake; the OCSF version that events get.
        chosen: The source and the days.
        dry_run: Only report what would be done: raw objects are read all the same, and permission to read is enough.
        progress: Called after each partition.

    Raises:
        ConfigError: There is no such source, or the lake's files are locked for good.
        LostError: Another worker may have taken over; running again continues.
        WriteError: The lake or a catalog refused; running again continues.
        RetriableError: A store, catalog or database does not answer.
    """
    compact.check_lock(settings)
    mapper = fields.mapper(chosen.source, settings)
    summary = Summary(is_dry=dry_run)
    with opened(settings, with_retries=not dry_run, reading=dry_run, catalogs=True) as lake:
        engine = engines.engine(mapper, settings.ocsf_version)
        hides = redaction.of(settings)
        for table in mapper.tables:
            with nullcontext() if dry_run else lake.leases.held(moving.lease(table)) as lease:
                if lease is None and not dry_run:
                    summary.busy.append(table)
                    continue
                if lease is not None:
                    compact.settle_open(lake, table, lease)
                compactions = Compactions(lake.ledger.engine)
                if (reason := compact.refusal(lake, table)) is not None:
                    if lease is None and compactions.open(table) is not None:
                        summary.busy.append(table)  # catalogs get its files from another run, one after the other
                    else:
                        summary.refused[table] = reason
                    continue
                work = _Work(lake, engine, chosen, lease, hides)
                for values in compactions.values(table):
                    if chosen.has(values):
                        work.partition(table, values, summary)
                        if progress is not None:
                            progress(summary)
    return summary


class Trials:
    """Whether partitions can be made anew, with what was lost of them; each object is mapped a few times at most.

    Args:
        lake: The lake, in which nothing may change meanwhile.
        source: Whose events are mapped.

    Raises:
        ConfigError: There is no such source.
    """

    def __init__(self, lake: Lake, source: str) -> None:
        engine = engines.engine(fields.mapper(source, lake.settings), lake.settings.ocsf_version)
        self._work = _Work(lake, engine, Chosen(source, date.min, date.max), None, redaction.of(lake.settings))
        self._refusals: dict[str, RefusedError | None] = {}

    def objects_read(self, partition: Partition) -> set[str]:
        """URIs of the objects that a partition would be made from.

        Raises:
            RefusedError: It cannot be made; a `PassingError` where it may be possible later.
            LakeFileError: Another file of the lake is gone that says what was in it.
            ConfigError: The lake's files are locked for good.
        """
        if partition.values[-1] == layout.UNKNOWN:
            raise RefusedError("the day of its events is not known, and --remap works by day")
        # Whether it comes out first: what stands in the way of that passes, and nothing else does.
        read = self._work.objects_read(partition)
        lake, table = self._work.lake, partition.table
        compact.check_lock(lake.settings)
        if table not in self._refusals:
            self._refusals[table] = _refusal(lake, table)
        if (error := self._refusals[table]) is not None:
            raise error
        return read


def _refusal(lake: Lake, table: str) -> RefusedError | None:
    if (reason := compact.refusal(lake, table)) is None:
        return None
    lacking = [path for path in compact.unregistered(lake, table) if lake.store.size(path) is None]
    # What was lost before a catalog had it, no sync can add.
    return (RefusedError if lacking else PassingError)(reason)


@dataclass
class _Work:
    lake: Lake
    engine: Engine
    chosen: Chosen
    lease: Lease | None
    """Without one, nothing is written into the lake."""
    hides: Policy | None
    read: set[str] = field(default_factory=set)
    """URIs of the objects that a partition was made from."""
    places: dict[tuple[str, str], frozenset[Partition]] = field(default_factory=dict)
    """URI and ETag of an object that was mapped whole -> where its events came out: a batch has objects of many
    partitions, each of which would have all of them mapped otherwise."""
    there: dict[tuple[str, str], bool] = field(default_factory=dict)
    """URI and ETag of an object -> whether it is there as it was."""
    rows: dict[str, NumbersByObject] = field(default_factory=dict)
    """Path of a file -> its rows, of some that were looked at."""
    looked_at: int = 0
    """How many rows those are."""

    def partition(self, table: str, values: str, summary: Summary) -> None:
        """Rewrites one partition, where it has rows of another version of the mapper."""
        if self.lease is not None:
            self.lease.check()
        compactions = Compactions(self.lake.ledger.engine)
        generation, files = compactions.partition_files(table, [values])[values]
        partition = Partition(table, tuple(values.split("/")))
        with temporary.directory("remap") as name:
            folder = Path(name)
            try:
                merges, made = self._merges(partition, generation + 1, files, folder)
                if not merges:
                    summary.current += any(item.source == self.chosen.source for item in files)
                    return
                if self.lease is not None:
                    self._write(compactions, self.lease, partition, generation + 1, files, merges, made)
            except (RefusedError, StaleError, fetched.LakeFileError) as error:
                summary.refused[f"{table}/{values}"] = str(error)
                return
        summary.partitions += 1
        summary.rows += sum(output.rows for one in merges for output in one.outputs)

    def objects_read(self, partition: Partition) -> set[str]:
        """URIs of what a partition would be made from; nothing is written.

        Raises:
            RefusedError: It cannot be made.
            LakeFileError: Another file of the lake is gone that says what was in it.
        """
        values = "/".join(partition.values)
        self.read = set()
        generation, files = Compactions(self.lake.ledger.engine).partition_files(partition.table, [values])[values]
        with temporary.directory("remap") as name:
            free = [replace(item, is_shipping=False) for item in files]
            self._merges(partition, generation + 1, free, Path(name))
        if any(item.is_shipping for item in files):
            raise PassingError(SHIPPING)
        return self.read

    def _write(
        self, compactions: Compactions, lease: Lease, partition: Partition, generation: int,
        files: Sequence[PartitionFile], merges: Sequence[Merge], made: Mapping[str, Path],
    ) -> None:  # fmt: skip
        to = generations.folder(partition, generation)
        inputs = {path for one in merges for path in one.inputs}
        paths = [item.file.path for item in files if item.file.path not in inputs]
        compact.check_copied(self.lake, paths)
        copied = {path: f"{to}/{path.rpartition('/')[2]}" for path in paths}
        move = Move("/".join(partition.values), generation, tuple(merges), copied)
        text = json.dumps([partition.table, move.values, generation, [one.id for one in merges]])
        plan = Plan(hashlib.sha256(text.encode()).hexdigest()[:ID_DIGITS], partition.table, (move,))
        if self.hides is not None:
            redactions.note_remap(self.lake.ledger, [one.id for one in merges], self.hides.id, self.hides.text)
        compactions.plan(plan)
        moving.failpoint("planned", plan.id)
        try:
            for output in (output for one in merges for output in one.outputs):
                lease.check()
                compact.put(self.lake, output, made[output.path])
                moving.failpoint("merged", plan.id)
            plan = compactions.fence(plan)
        except StaleError:
            compact.abandon(self.lake, plan)
            raise
        moving.failpoint("fenced", plan.id)
        moving.forward(self.lake, plan, lease)

    # -- new files ----------------------------------------------------------------------------------------------------
    def _merges(
        self, partition: Partition, generation: int, files: Sequence[PartitionFile], folder: Path
    ) -> tuple[list[Merge], dict[str, Path]]:
        """The files that take the place of the partition's, on this machine's disk; none where all rows are current."""
        merges: list[Merge] = []
        made: dict[str, Path] = {}
        groups: dict[tuple[str, ...], list[PartitionFile]] = {}
        for item in files:
            if item.source == self.chosen.source:
                if item.is_shipping:
                    raise PassingError(SHIPPING)
                groups.setdefault(item.targets, []).append(item)
        for number, (targets, some) in enumerate(sorted(groups.items())):
            own = folder / str(number)
            own.mkdir()
            new_merges = self._group(partition, generation, targets, some, own)
            for one, paths in new_merges:
                merges.append(one)
                made |= {output.path: path for output, path in zip(one.outputs, paths, strict=True)}
        return merges, made

    def _group(
        self, partition: Partition, generation: int, targets: tuple[str, ...], files: Sequence[PartitionFile],
        folder: Path,
    ) -> Iterator[tuple[Merge, list[Path]]]:  # fmt: skip
        inputs = {item.file.path: item.file.sha256 for item in sorted(files, key=lambda item: item.file.path)}
        lost = [item for item in files if self.lake.store.size(item.file.path) != item.file.bytes]
        (folder / "old").mkdir()
        there = sorted(inputs.items() - {(item.file.path, item.file.sha256) for item in lost})
        paths = fetched.fetch(self.lake.store, there, folder / "old")
        numbers_by_object, is_current = _rows_of(paths, self.engine.fingerprint)
        policy = self.hides and self.hides.id
        if is_current and not lost and redactions.policies_of_files(self.lake.ledger, list(inputs)) <= {policy}:
            return
        but: Records = {}
        surviving: NumbersByObject = {}
        gone: list[str] = []
        if lost:
            surviving = numbers_by_object
            (folder / "others").mkdir()
            numbers_by_object, but, gone = self._with_lost(
                partition, surviving, lost, inputs.keys(), folder / "others"
            )
        mapped = self.mapped(partition, numbers_by_object, folder / "new", but, surviving)
        if lost:
            _check_rows(sum(item.file.rows for item in files), sum(rows for rows, _ in mapped.values()), gone)
        to = generations.folder(partition, generation)
        all_inputs = sorted(inputs.items())
        for class_uid, (rows, own) in sorted(mapped.items()):
            identity = ["remap", partition.table, partition.values, self.engine.fingerprint, class_uid, all_inputs]
            identity += [policy] if policy else []
            merge_id = hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:ID_DIGITS]
            size = sum(path.stat().st_size for path in own)
            shares = merge.shares(rows, -(-size // self.lake.settings.compact_file_bytes))
            outputs, renamed = [], []
            (sorting := folder / f"class-{class_uid}").mkdir()
            written = merge.written(own, partition.table, shares, self.lake.settings, sorting)
            for part, (share, file) in enumerate(zip(shares, written, strict=True)):
                path = f"{to}/{layout.file_name(merge_id, part, class_uid)}"
                renamed.append(file.rename(folder / f"{class_uid}-{part}.parquet"))
                outputs.append(Output(path, share, renamed[-1].stat().st_size, fetched.sha256(renamed[-1])))
                file.touch()  # who wrote it removes it
            one = Merge(
                merge_id, self.chosen.source, self.engine.version, class_uid, targets, inputs, tuple(outputs),
                self.engine.fingerprint,
            )  # fmt: skip
            inputs = {}  # of several classes, the first one has what all were made of
            yield one, renamed

    def _with_lost(
        self, partition: Partition, surviving: NumbersByObject, lost: Sequence[PartitionFile], own: Set[str],
        folder: Path,
    ) -> tuple[NumbersByObject, Records, list[str]]:  # fmt: skip
        """The objects of lost files too, all of whose records may have been in them.

        Those that are gone may have had none there: whether they had is seen by the number of events that come out.

        Returns:
            The records of all objects, those of them that were no events or are events in other files of the lake, and
            URIs of objects that are gone.

        Raises:
            RefusedError: Of some of them it is not known which records they had, or whether they are there.
        """
        batch_ids = [item.batch_id for item in lost]
        every = {ref.key for ref in origins.objects_of(self.lake, batch_ids)}
        keys = {key for key in every if key in surviving or partition in self.places.get(key, (partition,))}
        self.read |= {uri for uri, _ in every - keys}
        gone = sorted(key for key in keys if key not in surviving and not self._is_there(*key))
        if len(gone) == len(every):
            raise RefusedError(f"all of its raw objects are gone{f', as {gone[0][0]}' if gone else ''}")
        keys -= set(gone)
        but = {key: records - _set_of(surviving.get(key)) for key, records in self._no_events(batch_ids, keys).items()}
        for key, numbers in self._elsewhere(batch_ids, own, keys, folder):
            but.setdefault(key, set()).update(_set_of(numbers))
        return {**surviving, **dict.fromkeys(keys)}, but, [uri for uri, _ in gone]

    def _elsewhere(
        self, batch_ids: Sequence[str], own: Set[str], keys: Set[tuple[str, str]], folder: Path
    ) -> Iterator[tuple[tuple[str, str], Numbers | None]]:
        """The records of which other files have events: by today's mapper some may come out in this partition."""
        if self.looked_at > MOST_ROWS:
            self.rows.clear()
            self.looked_at = 0
        others = origins.other_files(self.lake, batch_ids, self.chosen.source, own)
        new = []
        for path, size, digest in others:
            if path not in self.rows and self.lake.store.size(path) == size:
                new.append((path, digest))
            else:
                self.rows.setdefault(path, {})  # it is lost too
        for (path, _), local in zip(new, fetched.fetch(self.lake.store, new, folder), strict=True):
            self.rows[path] = _rows_of([local], self.engine.fingerprint)[0]
            self.looked_at += pq.read_metadata(local).num_rows
        for path, _, _ in others:
            yield from ((key, numbers) for key, numbers in self.rows[path].items() if key in keys)

    def _is_there(self, uri: str, etag: str) -> bool:
        if (uri, etag) not in self.there:
            try:
                self._ref(uri, etag)
            except NotThereError:
                self.there[uri, etag] = False
            else:
                self.there[uri, etag] = True
        return self.there[uri, etag]

    def _no_events(self, batch_ids: Sequence[str], keys: Set[tuple[str, str]]) -> dict[tuple[str, str], set[int]]:
        records: dict[tuple[str, str], set[int]] = {}
        batches = origins.before_merges(self.lake, batch_ids)
        for uri, etag, number in quarantine.not_events(self.lake, batches):
            if (uri, etag) in keys:
                records.setdefault((uri, etag), set()).add(number)
        return records

    def mapped(
        self, partition: Partition, numbers_by_object: NumbersByObject, folder: Path, but: Records | None = None,
        required: NumbersByObject | None = None,
    ) -> dict[int, tuple[int, list[Path]]]:  # fmt: skip
        """Maps records once more into files, by class: their rows and paths.

        Args:
            partition: Where they come out.
            numbers_by_object: The records.
            folder: Where the files are put.
            but: Of objects whose records are taken all, those that are not.
            required: Of these, those that have to be among them.

        Raises:
            RefusedError: An object is unavailable as it was, or a record does not come out where it was.
        """
        settings = self.lake.settings
        refs = [self._ref(uri, etag) for uri, etag in sorted(numbers_by_object)]
        reading = Source(self.engine.mapper, settings, refs)
        router = Router(self.engine, engines.of_settings(self.engine.version, settings))
        writer = Writer(settings, "remapped")
        folder.mkdir()
        by_class: dict[int, tuple[int, list[Path]]] = {}

        def end_files() -> None:
            for file, data in writer.ended(lambda _: "."):
                assert file.class_uid is not None
                path = folder / file.path.rpartition("/")[2]
                path.write_bytes(data)
                rows, paths = by_class.get(file.class_uid, (0, []))
                by_class[file.class_uid] = (rows + file.rows, [*paths, path])

        selection_by_uri = {
            ref.uri: Selection(
                numbers_by_object[ref.key], (but or {}).get(ref.key, set()), (required or {}).get(ref.key)
            )
            for ref in refs
        }
        waiting = deque(refs)
        for part in parts_of(reading, refs):
            for routed in router.map([(piece.raw_object, piece.chunk) for piece in part.pieces]):
                if routed.engine.mapper.name == self.chosen.source:
                    mapped = self._redacted(routed.mapped)
                    self._add(writer, only_selected(mapped.events, selection_by_uri), partition, selection_by_uri)
                    if writer.bytes > MOST_BYTES:
                        end_files()
                    for row in only_selected(mapped.rejects, selection_by_uri).slice(0, 100).to_pylist():
                        selection_by_uri[row["source_object"]].reasons[row["source_record"]] = row["reason"]
            while waiting[0] != part.pieces[-1].ref:
                self._end(waiting.popleft(), selection_by_uri)
        for ref in waiting:
            self._end(ref, selection_by_uri)
        end_files()
        exact = [numbers for numbers in numbers_by_object.values() if numbers is not None]
        before, after = sum(map(len, exact)), sum(rows for rows, _ in by_class.values())
        if before != after and len(exact) == len(numbers_by_object):
            raise RefusedError(f"{before:,} records would become {after:,} events")
        return by_class

    def _redacted(self, mapped: Mapped) -> Mapped:
        if self.hides is None:
            return mapped
        return self.hides.of_source(self.engine.mapper).mapped(mapped)[0]

    def _add(
        self, writer: Writer, events: pa.Table, partition: Partition, selection_by_uri: Mapping[str, Selection]
    ) -> None:
        """Adds the events that are of a partition, as all have to be whose records are known."""
        for place, class_uid, rows in parquet.split(events):
            numbers = rows["source_record"].to_numpy()
            for uri, own in by_object(rows):
                selection = selection_by_uri[uri]
                if place != partition and selection.numbers is not None:
                    where = f"{place.table}/{'/'.join(place.values)}"
                    raise RefusedError(f"record {numbers[own[0]]} of {uri} would be in {where} instead")
                selection.places.add(place)
                if place == partition:
                    selection.seen.append(numbers[own])
            if place == partition:
                writer.add([(place, class_uid, rows)])
        writer.settle()

    def _end(self, ref: ObjectRef, selection_by_uri: Mapping[str, Selection]) -> None:
        """Whether all records of an object are there that have to be."""
        selection = selection_by_uri[ref.uri]
        if selection.numbers is None:
            self.places[ref.key] = frozenset(selection.places)
        needed = selection.numbers if selection.numbers is not None else selection.required
        lost = needed if needed is None or not selection.seen else np.setdiff1d(needed, np.concatenate(selection.seen))
        if lost is not None and len(lost):
            why = selection.reasons.get(int(lost[0]), "the mapper makes no event of it")
            why = why if selection.numbers is not None else "none that is where it was"
            raise RefusedError(f"record {lost[0]} of {ref.uri} would become no event: {why}")

    def _ref(self, uri: str, etag: str) -> ObjectRef:
        """An object as it is now, which has to be as it was."""
        if self.chosen.below and not uri.startswith(f"{self.chosen.below.rstrip('/')}/") and uri != self.chosen.below:
            raise RefusedError(f"it has events of {uri}, which is not below {self.chosen.below}")
        try:
            fs, path = objects.filesystem(uri, self.lake.settings.input_access)
            ref = objects.unhashed(fs, retry.call(fs.info, path))
            ref = ref if ref.etag else objects.with_etag(ref)
        except FileNotFoundError as error:
            raise NotThereError(f"{uri} is unavailable: {error}") from error
        except (OSError, objects.ObjectError) as error:
            raise PassingError(f"{uri} is unavailable: {error}") from error
        if ref.etag != etag:
            raise NotThereError(f"{uri} has another content than the one that was read")
        self.read.add(uri)
        return replace(ref, uri=uri)


def _rows_of(paths: Sequence[Path], version: str) -> tuple[NumbersByObject, bool]:
    """Where the rows of files come from, and whether all are of this version of the mapper."""
    parts_by_object: dict[tuple[str, str], list[Numbers]] = {}
    is_current = True
    for path in paths:
        for batch in pq.ParquetFile(path).iter_batches(columns=list(ROWS_OF)):
            is_current = is_current and set(pc.unique(batch["mapper_version"]).to_pylist()) <= {version}
            keys = pa.table({name: batch[name] for name in ROWS_OF[:3]}).group_by(list(ROWS_OF[:2]))
            grouped = keys.aggregate([("source_record", "list")])
            lists = grouped["source_record_list"].combine_chunks()
            for number, row in enumerate(grouped.select(list(ROWS_OF[:2])).to_pylist()):
                key = (row["source_object"], row["source_etag"])
                parts_by_object.setdefault(key, []).append(lists[number].values.to_numpy())
    return {key: np.unique(np.concatenate(parts)) for key, parts in parts_by_object.items()}, is_current


def _set_of(numbers: Numbers | None) -> set[int]:
    return set() if numbers is None else set(numbers.tolist())


def _check_rows(before: int, after: int, gone: Sequence[str] = ()) -> None:
    if before != after:
        why = f"; {plural(len(gone), 'raw object')} gone, as {gone[0]}" if gone else ""
        raise RefusedError(f"{after:,} events come out, and there were {before:,}{why}")


def rebuild_files(
    lake: Lake, engine: Engine, outputs: Sequence[FileInfo], refs: Sequence[ObjectRef], aside: Store,
    hides: Policy | None = None,
) -> list[FileInfo]:  # fmt: skip
    """Lost files of partitions that were mapped once more, rebuilt from all raw objects whose records they may have.

    Args:
        lake: The lake.
        engine: Of the mapper by which they were made.
        outputs: The files of one partition and class.
        refs: The objects.
        aside: Where the files are put.
        hides: The policy that was in force then.

    Raises:
        RefusedError: Other rows come out than were there.
    """
    partition, class_uid = outputs[0].partition, outputs[0].class_uid
    assert class_uid is not None
    work = _Work(lake, engine, Chosen(engine.mapper.name, date.min, date.max), None, hides)
    with temporary.directory("remap") as name:
        folder = Path(name)
        made = work.mapped(partition, {(ref.uri, ref.etag): None for ref in refs}, folder / "new")
        rows, paths = made.get(class_uid, (0, []))
        _check_rows(sum(file.rows for file in outputs), rows)
        (folder / "sorted").mkdir()
        shares = [file.rows for file in outputs]
        rebuilt = []
        written = merge.written(paths, partition.table, shares, lake.settings, folder / "sorted")
        for output, file in zip(outputs, written, strict=True):
            rebuilt.append(replace(output, bytes=file.stat().st_size, sha256=fetched.sha256(file)))
            aside.put_new(output.path, file)
        return rebuilt
