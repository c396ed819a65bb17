"""One lake, read by every engine: the same counts, nested values, times, and account ids with their zeros.

Spark runs with its own Hive metastore, so that the DDL we give to Athena and Glue is executed by Hive's real code.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from ocsf_lake import config
from ocsf_lake.catalogs import iceberg_connection as iceberg_module
from ocsf_lake.catalogs import security_lake
from ocsf_lake.catalogs.definitions import definition
from ocsf_lake.ingest import run as ingest
from ocsf_lake.lake import opened
from ocsf_lake.query import query
from ocsf_lake.storage.layout import folder
from ocsf_lake.storage.store import Store
from ocsf_mappers import registry
from ocsf_mappers.ocsf import tables

# One lake and one Spark for all of them.

Row = tuple[Any, ...]
DATABASE = "ocsf_lake"
COUNT = "SELECT count(*), count(DISTINCT accountid), sum(traffic.bytes) FROM {}"
FIRST = (
    "SELECT accountid, region, src_endpoint.ip, src_endpoint.port, time, time_dt FROM {} "
    "ORDER BY time, accountid LIMIT 3"
)


@pytest.fixture(scope="module")
def lake(logs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The logs' flows, registered in Iceberg too."""
    found = tmp_path_factory.mktemp("engines") / "lake"
    for account in ("111122223333", "012345678901"):
        raw = str(logs / "AWSLogs" / account / "vpcflowlogs")
        ingest.ingest([raw], config.load(lake=str(found), catalogs=["iceberg"]), "aws_vpc_flow")
    return found


def utc(moment: datetime) -> datetime:
    """The same in UTC; Spark gives a time without a zone, the machine's."""
    return moment.astimezone(UTC)


@pytest.fixture(scope="module")
def expected(lake: Path) -> dict[str, list[Row]]:
    """What DuckDB reads through the lake's own views."""
    with query.connected(config.load(lake=str(lake))) as connection:
        first = [(*row[:-1], utc(row[-1])) for row in connection.execute(FIRST.format("vpc_flow")).fetchall()]
        count = connection.execute(COUNT.format("vpc_flow")).fetchall()
    assert count == [(60, 2, 54_000)]
    assert [row[0] for row in first].count("012345678901") + [row[0] for row in first].count("111122223333") == 3
    return {"first": first, "count": count}


@pytest.mark.slow
def test_pyiceberg(lake: Path, expected: dict[str, list[Row]]) -> None:
    catalog = iceberg_module.connect({}, Store(str(lake)), lake)
    rows = catalog.load_table(("ocsf_lake_iceberg", "vpc_flow")).scan().to_arrow().to_pylist()
    catalog.close()
    assert summed(rows) == expected


def test_polars(lake: Path, expected: dict[str, list[Row]]) -> None:
    polars = pytest.importorskip("polars", reason="needs `make engines`")
    files = sorted(map(str, (lake / "aws" / "VPC_FLOW").rglob("*.parquet")))
    # The files' own columns are read, not the words in their paths, which polars would take for numbers.
    assert summed(polars.read_parquet(files, hive_partitioning=False).to_dicts()) == expected


def test_pandas(lake: Path, expected: dict[str, list[Row]]) -> None:
    pandas = pytest.importorskip("pandas", reason="needs `make engines`")
    files = sorted(map(str, (lake / "aws" / "VPC_FLOW").rglob("*.parquet")))
    frame = pandas.concat([pandas.read_parquet(path, partitioning=None) for path in files])
    assert summed(frame.to_dict("records")) == expected


def summed(rows: list[dict[str, Any]]) -> dict[str, list[Row]]:
    sources = [row["src_endpoint"] for row in rows]
    first = sorted(
        (row["time"], row["accountid"], row["region"], source["ip"], source["port"], row["time_dt"])
        for row, source in zip(rows, sources, strict=True)
    )[:3]
    return {
        "count": [
            (len(rows), len({row["accountid"] for row in rows}), sum(row["traffic"]["bytes"] for row in rows))
        ],
        "first": [
            (account, region, ip, port, time, utc(getattr(time_dt, "to_pydatetime", lambda t=time_dt: t)()))
            for time, account, region, ip, port, time_dt in first
        ],
    }


# -- Spark and Hive ---------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], list[Row]]]:
    """SQL in Spark with its own Hive metastore."""
    sql = pytest.importorskip("pyspark.sql", reason="needs `make engines`")
    if shutil.which("java") is None:
        pytest.skip("needs Java 17 or newer: Debian's package openjdk-17-jre-headless, see .ci/debian-packages")
    home = tmp_path_factory.mktemp("spark")
    # The quick compiler and collector: what runs here is over before the thorough ones pay. Derby waits for no disk.
    options = f"-Dderby.system.home={home} -Djava.io.tmpdir={home} -Duser.timezone=UTC"
    options += " -XX:TieredStopAtLevel=1 -XX:+UseSerialGC"
    metastore = "jdbc:derby:memory:metastore;create=true"
    session = (
        sql.SparkSession.builder.master("local[1]")
        .config("spark.ui.enabled", "false")
        .config("spark.driver.memory", "1g")
        .config("spark.driver.bindAddress", "127.0.0.1")
        .config("spark.driver.host", "127.0.0.1")
        .config("spark.sql.session.timeZone", "UTC")
        .config("spark.sql.shuffle.partitions", "1")
        .config("spark.sql.warehouse.dir", str(home / "warehouse"))
        .config("spark.driver.extraJavaOptions", options)
        .config("spark.hadoop.javax.jdo.option.ConnectionURL", metastore)
        .enableHiveSupport()
        .getOrCreate()
    )
    session.sparkContext.setLogLevel("ERROR")
    yield lambda text: [tuple(row) for row in session.sql(text).collect()]
    session.stop()


@pytest.mark.slow
def test_spark_reads_what_our_ddl_declares(
    lake: Path, spark: Callable[[str], list[Row]], expected: dict[str, list[Row]]
) -> None:
    spark(f"CREATE DATABASE IF NOT EXISTS {DATABASE}")
    for table in registry.tables().values():
        spark(tables.athena_ddl(table, DATABASE, f"file://{lake}/{table.prefix}"))
    assert {row[1] for row in spark(f"SHOW TABLES IN {DATABASE}")} == set(registry.tables())
    table = f"{DATABASE}.vpc_flow"
    vpc = definition("vpc_flow")
    with opened(config.load(lake=str(lake))) as found:
        partitions = found.files.partitions("vpc_flow")
    # Registered one by one, again without effect, as the files' folders say.
    for partition in [*partitions, *partitions]:
        keys = ", ".join(f"{key} = '{value}'" for key, value in zip(vpc.keys, partition.values, strict=True))
        place = f"file://{lake}/{folder(vpc.prefix, vpc.keys, partition.values)}"
        spark(f"ALTER TABLE {table} ADD IF NOT EXISTS PARTITION ({keys}) LOCATION '{place}'")
    assert len(spark(f"SHOW PARTITIONS {table}")) == len(partitions)
    assert spark(COUNT.format(table)) == expected["count"]
    assert [(*row[:-1], utc(row[-1])) for row in spark(FIRST.format(table))] == expected["first"]
    # Found by Hive itself from the names of folders.
    spark(f"ALTER TABLE {table} DROP PARTITION (region = 'eu-west-1', accountid = '012345678901')")
    assert spark(f"SELECT count(*) FROM {table}") == [(30,)]
    spark(f"MSCK REPAIR TABLE {table}")
    assert spark(COUNT.format(table)) == expected["count"]
    assert spark(f"SELECT count(*) FROM {table} WHERE accountid = '012345678901' AND eventday >= '20250101'") == [(30,)]
    exploded = f"{table} LATERAL VIEW explode(observables) o AS item"
    assert spark(f"SELECT count(*) FROM {exploded} WHERE item.name = 'src_endpoint.ip'") == [(60,)]
    for statement in security_lake.views(DATABASE, ["eu-west-1"]):
        spark(statement)
    view = "amazon_security_lake_glue_db_eu_west_1.amazon_security_lake_table_eu_west_1_vpc_flow_2_0"
    assert spark(COUNT.format(view)) == expected["count"]
