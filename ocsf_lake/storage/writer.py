"""The files of a batch, which grow while it is mapped part by part: one for each table, partition and class.

Rows of a part become a row group of the file that an earlier part began; few rows wait for those of further parts. A
file is in memory until it is ended, so that it gets its name whole. Where a batch comes to more than `MOST_BYTES`, its
files are ended early and go on in others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ocsf_lake.storage import layout, parquet
from ocsf_lake.storage.fileinfo import FileInfo
from ocsf_lake.storage.layout import Partition
from ocsf_lake.storage.parquet import Encoded, Form, Slice
from ocsf_mappers import registry
from ocsf_mappers.engine.mapped import stacked

GROUP_ROWS = 4_000
"""Fewer rows than this wait for those of further parts, before they are a row group."""

WAITING_BYTES = 32 << 20
"""So many bytes of rows wait in all files together, as they are in memory. Then the largest half become row groups."""

MOST_BYTES = 96 << 20
"""From so many bytes on, of files, of rows that wait and `GROUP_BYTES` for each row group, files are ended before the
batch is. Full batches of CloudTrail come to 40 MB of files; a single object may come to any number."""

GROUP_BYTES = 96 << 10
"""What a row group takes in memory until its file is ended, beside its own bytes, about."""

FolderOf = Callable[[Partition], str]
"""Gives the folder that the files of a partition belong into."""


class Writer:
    """Encodes the rows of a batch.

    The files depend on what is added alone, so that doing it again gives the same bytes under the same names. What is
    added has its rows in the order in which they shall be; where rows of several parts become one row group, those of
    events are brought into the order of `parquet.split`.

    After an error it is of no more use: rows of a part may be in some files and not in others.

    Args:
        settings: Form of the files.
        batch_id: Batch the rows belong to.
        number: What the names of the first files have; those of files that are begun after these were ended have the
            next one.
    """

    def __init__(self, settings: Form, batch_id: str, number: int = 0) -> None:
        self.settings = settings
        self.batch_id = batch_id
        self.number = number
        self._files: dict[tuple[Partition, int | None], _File] = {}

    @property
    def bytes(self) -> int:
        """What is in memory for files and rows that wait, about."""
        return sum(file.bytes + file.waiting_bytes for file in self._files.values())

    def add(self, slices: Iterable[Slice]) -> None:
        """Adds the rows of a part."""
        for partition, class_uid, rows in slices:
            key = (partition, class_uid)
            if key not in self._files:
                self._files[key] = _File(self.settings, partition, class_uid)
            self._files[key].add(rows)
        waiting = {key: file.waiting_bytes for key, file in self._files.items()}
        if (total := sum(waiting.values())) > WAITING_BYTES:
            for key in sorted(waiting, key=lambda key: -waiting[key]):
                self._files[key].group()
                total -= waiting[key]
                if total <= WAITING_BYTES // 2:
                    break

    def settle(self) -> None:
        """Copies rows that wait, so that they keep nothing else in memory of what they were cut from."""
        for file in self._files.values():
            file.settle()

    def ended(self, folder: FolderOf) -> Iterator[Encoded]:
        """The files, complete, in the order of partitions and classes; what is added next begins others."""
        for key in sorted(self._files, key=lambda key: (key[0], key[1] or 0)):
            file = self._files.pop(key)
            data = file.ended()
            path = f"{folder(file.partition)}/{layout.file_name(self.batch_id, self.number, file.class_uid)}"
            first, last = min(file.times, default=None), max(file.times, default=None)
            checksum = parquet.checksum(data)
            yield FileInfo(path, *key, file.rows, data.size, checksum, first, last), data
        self.number += 1

    @property
    def open(self) -> Sequence[tuple[Partition, int | None]]:
        """Partition and class of each file that is not ended."""
        return list(self._files)


@dataclass
class _File:
    """One file."""

    settings: Form
    partition: Partition
    class_uid: int | None
    rows: int = 0
    times: list[int] = field(default_factory=list)
    """Of events, the first and last `time` of each part."""
    waiting_bytes: int = 0
    _waiting: list[pa.Table] = field(default_factory=list)
    _settled: int = 0
    _groups: int = 0
    _sink: pa.BufferOutputStream | None = None
    _writer: pq.ParquetWriter | None = None

    @property
    def bytes(self) -> int:
        return 0 if self._sink is None else int(self._sink.tell()) + self._groups * GROUP_BYTES

    def add(self, rows: pa.Table) -> None:
        self.rows += len(rows)
        if self.class_uid is not None:
            bounds = pc.min_max(rows["time"]).as_py()
            self.times += [bounds["min"], bounds["max"]]
        self._waiting.append(rows)
        self.waiting_bytes += int(rows.nbytes)
        if sum(map(len, self._waiting)) >= GROUP_ROWS:
            self.group()

    def settle(self) -> None:
        for number in range(self._settled, len(self._waiting)):
            rows = self._waiting[number]
            # Two pieces become one by copying, which costs less than half of what `take` does.
            self._waiting[number] = pa.concat_tables([rows.slice(0, 1), rows.slice(1)]).combine_chunks()
        self._settled = len(self._waiting)

    def group(self) -> None:
        """Makes a row group of the rows that wait."""
        if not self._waiting:
            return
        rows = self._joined()
        if self._writer is None:
            self._sink = pa.BufferOutputStream()
            arguments = parquet.form(rows.schema, self.settings)
            self._writer = pq.ParquetWriter(
                self._sink, rows.schema, write_batch_size=parquet.MOST_ROWS_PER_STEP, **arguments
            )
        # A text is a dictionary in one part and none in another; which of both is no matter to the file.
        rows = _cut(rows.cast(self._writer.schema), parquet.rows_per_step(rows, self.settings))
        self._writer.write_table(rows, row_group_size=self.settings.row_group_rows)
        self._groups += 1

    def ended(self) -> pa.Buffer:
        """Its bytes, with all rows."""
        if self._writer is None or self._sink is None:
            return parquet.encode(self._joined(), self.settings)
        self.group()
        self._writer.close()
        return self._sink.getvalue()

    def _joined(self) -> pa.Table:
        """The rows that wait, as one table; then none do."""
        waiting, self._waiting, self._settled, self.waiting_bytes = self._waiting, [], 0, 0
        rows = stacked(waiting)
        if len(waiting) > 1 and self.class_uid is not None:
            rows = parquet.in_order(rows, registry.table(self.partition.table).sorted_by)
        return rows


def _cut(rows: pa.Table, step: int) -> pa.Table:
    """Rows in chunks of so many: the size of a page is looked at where a chunk ends."""
    if step == parquet.MOST_ROWS_PER_STEP:
        return rows
    return pa.concat_tables([rows.slice(start, step) for start in range(0, len(rows), step)])
