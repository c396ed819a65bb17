"""The local catalog: repeatable, and it says what is wrong."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from ocsf_lake.catalogs.local import SqlCatalog
from ocsf_lake.ingest.batch import definition
from ocsf_lake.storage.layout import Partition
from ocsf_lake.storage.parquet import FileInfo
from ocsf_mappers.errors import WriteError


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[SqlCatalog]:
    found = SqlCatalog(f"sqlite:///{tmp_path}/catalog.db")
    yield found
    found.close()


def info(path: str, day: str = "20250311", size: int = 3) -> FileInfo:
    return FileInfo(path, Partition("vpc_flow", ("eu-west-1", "111122223333", day)), 4001, 1, size, "0", 1, 2)


def test_registering_again_changes_nothing(catalog: SqlCatalog) -> None:
    for _ in range(2):
        catalog.create_or_evolve(definition("vpc_flow"))
        catalog.register("b1", [info("a"), info("b", "20250312")])
        catalog.register("b2", [info("c")])
    assert catalog.files("vpc_flow") == {"a": 3, "b": 3, "c": 3}
    assert [partition.values[2] for partition in catalog.partitions("vpc_flow")] == ["20250311", "20250312"]


def test_a_partition_goes_with_its_last_file(catalog: SqlCatalog) -> None:
    catalog.register("b1", [info("a"), info("b", "20250312")])
    catalog.register("b2", [info("c")])
    catalog.drop("b1")
    assert catalog.files("vpc_flow") == {"c": 3}
    assert [partition.values[2] for partition in catalog.partitions("vpc_flow")] == ["20250311"]
    catalog.drop("b1")


def test_a_table_gains_columns_and_members_but_does_not_change(catalog: SqlCatalog) -> None:
    first = definition("vpc_flow")
    catalog.create_or_evolve(first)
    wider = [
        pa.field("cloud", pa.struct([*field.type, pa.field("org", pa.string())])) if field.name == "cloud" else field
        for field in first.schema
    ]
    catalog.create_or_evolve(replace(first, schema=pa.schema([*wider, pa.field("more", pa.string())])))
    with pytest.raises(WriteError, match="column more is string"):
        catalog.create_or_evolve(replace(first, schema=pa.schema([*wider, pa.field("more", pa.int64())])))
    # An older program, which knows less, takes nothing away.
    catalog.create_or_evolve(first)
    with pytest.raises(WriteError, match="column more is string"):
        catalog.create_or_evolve(replace(first, schema=pa.schema([*wider, pa.field("more", pa.int64())])))
