"""What tests hold a catalog against: files, and a ledger that has them; and tables with more columns."""

from dataclasses import replace

import pyarrow as pa

from ocsf_lake.catalogs.base import Definition, Drift, HeldFile, Kind
from ocsf_lake.catalogs.definitions import definition
from ocsf_lake.storage.fileinfo import FileInfo
from ocsf_lake.storage.layout import Partition

DAYS = [f"2025{month:02d}{day:02d}" for month in range(1, 13) for day in range(1, 29)]
VPC = definition("vpc_flow")
BATCHES = ["a" * 32, "b" * 32, "c" * 32]


def info(batch_id: str = BATCHES[0], day: str = "20250311", account: str = "111122223333") -> FileInfo:
    partition = Partition("vpc_flow", ("eu-west-1", account, day))
    place = f"{VPC.prefix}/region=eu-west-1/accountId={account}/eventDay={day}"
    return FileInfo(f"{place}/{batch_id}-00000-4001.parquet", partition, 4001, 1, 3, "0", 1, 2)


class ExpectedState:
    """A ledger as a test wants it."""

    def __init__(self, files: dict[str, list[FileInfo]] | None = None, open_batches: tuple[str, ...] = ()) -> None:
        self.batches = files or {}
        self.open_batches = open_batches

    def files(self, table: str) -> list[HeldFile]:
        return [
            HeldFile(file.path, file.partition, batch_id, file.rows, file.bytes, file.sha256)
            for batch_id, files in self.batches.items()
            for file in files
            if file.partition.table == table
        ]

    def is_open(self, path: str) -> bool:
        return path.rpartition("/")[2].partition("-")[0] in self.open_batches

    def is_open_partition(self, partition: Partition) -> bool:
        return False


def kinds(findings: list[Drift]) -> list[tuple[Kind, str]]:
    return sorted((finding.kind, finding.item) for finding in findings)


def with_column(table: Definition, *fields: pa.Field) -> Definition:
    return replace(table, schema=pa.schema([*table.schema, *fields]))


def with_member(table: Definition, column: str, member: pa.Field) -> Definition:
    fields = [
        pa.field(field.name, pa.struct([*field.type, member])) if field.name == column else field
        for field in table.schema
    ]
    return replace(table, schema=pa.schema(fields))
