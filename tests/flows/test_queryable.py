"""A lake as in production stays queryable: S3, Glue, Iceberg and PostgreSQL at once, two writers, all kinds of damage.

What the lake has to hold is counted from the reviewed goldens; what it does hold is asked of each server by its own
client, past this project's code: boto3 for S3 and Glue, pyiceberg, SQL for the ledger's database, pyarrow for files.
"""

from __future__ import annotations

import io
import json
import subprocess
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Set
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import psycopg
import pyarrow.parquet as pq
import pytest

from tests.flows.conftest import RunCommand
from tests.flows.support import Run, environment
from tests.real_logs import FOLDERS
from tests.servers.postgres import Postgres
from tests.servers.rgw import S3Server
from tests.support import SAMPLE_COUNTS, Case, cases
from tests.test_samples import ALLOWED_REJECTS

pytestmark = [pytest.mark.integration, pytest.mark.slow]

Place = tuple[str, str, str, str]
"""Table, region, account and event day."""
Damaged = set[tuple[str, ...]]
"""Where, table, kind and item of what a check has to find."""

NOT_IN_ICEBERG = "quarantine"
THREE = ("aws_cloudtrail", "aws_guardduty", "aws_vpc_flow")
"""Three formats, two kinds of tables, records of each fate. That each source comes into a lake is in test_more_sources,
that each table can be registered in test_glue."""
STEP = 4
"""Without real logs one sample in so many is read, of each source: more of them are more requests of the same kinds."""
UNRECOGNIZED = {
    "aws_alb/real/panther-oss_alb_docs.log": ("aws_alb", 3),
    "aws_s3_access/real/panther_s3access_parsed.jsonl": ("aws_s3_access", 16),
}
"""Real logs of broken records alone, with their source and records: only who names the source can have them read."""


# -- what the lake has to hold ----------------------------------------------------------------------------------------
@dataclass
class ExpectedState:
    """What becomes of the sample logs, from their goldens; of real logs only the sums are known.

    Args:
        events: Events of our own samples by table and partition.
        records: Records by source, of real logs too.
        rejects: Of those, in quarantine.
        dropped: Of our own samples, lines that are no records.
    """

    events: Counter[Place] = field(default_factory=Counter)
    records: dict[str, int] = field(default_factory=dict)
    rejects: Counter[str] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)


@pytest.fixture(
    scope="module",
    params=[pytest.param(False, id="own"), pytest.param(True, id="own-and-real", marks=pytest.mark.acceptance)],
)
def real(request: pytest.FixtureRequest) -> Path | None:
    """The folder of real logs, to be read along; they are of hundreds of partitions, and take minutes."""
    return Path(request.getfixturevalue("samples")) if request.param else None


@pytest.fixture(scope="module")
def sources(real: Path | None) -> dict[str, str]:
    """The sources to be read, with the folders of their real logs."""
    return FOLDERS if real else {source: FOLDERS[source] for source in THREE}


@pytest.fixture(scope="module")
def truth(real: Path | None, sources: dict[str, str]) -> ExpectedState:
    found, counts = ExpectedState(), json.loads(SAMPLE_COUNTS.read_text(encoding="utf-8"))
    for source in sources:
        found.records[source] = counts["real"][source] if real else 0
        found.rejects[source] = ALLOWED_REJECTS[source].total() if real else 0
        for case in samples_of(source, real):
            golden = json.loads(case.expected.read_text(encoding="utf-8"))
            dropped = sum(golden["dropped"].values())
            found.records[source] += len(golden["events"]) + len(golden["rejects"]) + dropped
            found.rejects[source] += len(golden["rejects"])
            found.dropped[source] += dropped
            for item in golden["events"]:
                lake, time = item["lake"], item["event"]["time"]
                found.events[lake["table"], lake["region"], lake["accountid"], day_of(time)] += 1
    for source, number in UNRECOGNIZED.values() if real else ():
        found.records[source] -= number
        found.rejects[source] -= number
    assert found.rejects.total()
    assert found.dropped.total()
    return found


def samples_of(source: str, real: Path | None) -> list[Case]:
    """Our own samples that are read."""
    return cases(source)[:: 1 if real else STEP]


def day_of(milliseconds: int) -> str:
    return datetime.fromtimestamp(milliseconds / 1000, UTC).strftime("%Y%m%d") if milliseconds >= 0 else "unknown"


# -- the servers, past our own code -----------------------------------------------------------------------------------
@dataclass
class Production:
    """A lake on S3 with its ledger in PostgreSQL, registered in Glue and Iceberg.

    Args:
        bucket: Its bucket, which holds the raw logs too.
        database: URL of its ledger.
        glue_database: Name of its tables' database in Glue.
        s3: A client of S3.
        glue: A client of Glue.
        server: The S3 server.
    """

    bucket: str
    database: str
    glue_database: str
    s3: Any
    glue: Any
    server: S3Server
    endpoint: str

    @property
    def variables(self) -> dict[str, str]:
        """The settings of every command."""
        return {
            "OCSF_LAKE_LAKE": f"s3://{self.bucket}/lake",
            "OCSF_LAKE_LEDGER_URL": self.database,
            "OCSF_LAKE_CATALOGS": '["glue", "iceberg"]',
            "OCSF_LAKE_GLUE_ENDPOINT": self.endpoint,
            "OCSF_LAKE_GLUE_DATABASE": self.glue_database,
            "OCSF_LAKE_S3_ENDPOINT": self.server.endpoint,
            "OCSF_LAKE_BATCH_OBJECTS": "5",
        }

    def keys(self, prefix: str) -> list[str]:
        pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=prefix)
        return sorted(item["Key"] for page in pages for item in page.get("Contents", []))

    def sql(self, statement: str) -> list[tuple[Any, ...]]:
        """Rows of a statement in the ledger's database; none of one that changes something."""
        with psycopg.connect(self.database) as connection:
            cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else []

    def table(self, name: str) -> dict[str, Any]:
        return dict(self.glue.get_table(DatabaseName=self.glue_database, Name=name)["Table"])

    @cached_property
    def iceberg(self) -> Any:
        """The Iceberg catalog as any pyiceberg reaches it."""
        from pyiceberg.catalog import load_catalog

        return load_catalog(
            "ocsf_lake", type="sql", uri=self.database.replace("postgresql:", "postgresql+psycopg:"),
            **{
                "s3.endpoint": self.server.endpoint, "s3.access-key-id": self.server.access_key,
                "s3.secret-access-key": self.server.secret_key, "s3.region": "us-east-1",
            },
        )  # fmt: skip

    # -- what each of them holds --------------------------------------------------------------------------------------
    def prefixes(self) -> dict[str, str]:
        """Folder of a table -> its name, by Glue."""
        tables = self.glue.get_tables(DatabaseName=self.glue_database)["TableList"]
        root = f"s3://{self.bucket}/"
        return {table["StorageDescriptor"]["Location"].removeprefix(root): table["Name"] for table in tables}

    def in_storage(self) -> dict[str, set[str]]:
        """Table -> keys of its files, by S3."""
        found: dict[str, set[str]] = {}
        for prefix, name in self.prefixes().items():
            if files := {key for key in self.keys(prefix) if key.endswith(".parquet")}:
                found[name] = files
        return found

    def in_ledger(self) -> dict[str, set[str]]:
        found: dict[str, set[str]] = {}
        for name, path in self.sql("SELECT table_name, path FROM ocsf_ledger.files"):
            found.setdefault(name, set()).add(f"lake/{path}")
        return found

    def in_iceberg(self) -> dict[str, set[str]]:
        found = {}
        for identifier in self.iceberg.list_tables("ocsf_lake_iceberg"):
            tasks = self.iceberg.load_table(identifier).scan().plan_files()
            found[identifier[-1]] = {task.file.file_path.removeprefix(f"s3://{self.bucket}/") for task in tasks}
        return found

    def partitions_in_glue(self) -> dict[str, dict[tuple[str, ...], str]]:
        """Table -> values of each partition -> its place."""
        found: dict[str, dict[tuple[str, ...], str]] = {}
        for name in self.prefixes().values():
            pages = self.glue.get_paginator("get_partitions").paginate(DatabaseName=self.glue_database, TableName=name)
            partitions = [item for page in pages for item in page["Partitions"]]
            found[name] = {tuple(item["Values"]): item["StorageDescriptor"]["Location"] for item in partitions}
        return found

    def partitions_in_ledger(self) -> dict[str, set[tuple[str, ...]]]:
        found: dict[str, set[tuple[str, ...]]] = {}
        for name, values in self.sql("SELECT table_name, partition FROM ocsf_ledger.files"):
            found.setdefault(name, set()).add(tuple(values.split("/")))
        return found

    def rows(self, files: dict[str, set[str]]) -> dict[str, int]:
        """Table -> rows, by the files themselves."""
        found: Counter[str] = Counter()
        for name, keys in files.items():
            for key in keys:
                body = self.s3.get_object(Bucket=self.bucket, Key=key)["Body"].read()
                found[name] += pq.read_metadata(io.BytesIO(body)).num_rows
        return dict(found)

    def rows_in_iceberg(self) -> dict[str, int]:
        names = [identifier[-1] for identifier in self.iceberg.list_tables("ocsf_lake_iceberg")]
        return {name: self.iceberg.load_table(("ocsf_lake_iceberg", name)).scan().count() for name in names}


@pytest.fixture
def production(
    real: Path | None,
    sources: dict[str, str],
    s3_owner: S3Server,
    bucket: str,
    moto_server: str,
    postgres_server: Postgres,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Production]:
    """The servers, with the raw logs in the bucket and the settings in this process's variables."""
    import boto3

    glue = boto3.client("glue", endpoint_url=moto_server, region_name="us-east-1")
    name = f"db_{uuid.uuid4().hex}"
    found = Production(bucket, postgres_server.database(), name, s3_owner.client(), glue, s3_owner, moto_server)
    for source, folder in sources.items():
        for case in samples_of(source, real):
            found.s3.put_object(Bucket=bucket, Key=f"raw/{source}/own/{case.path.name}", Body=case.path.read_bytes())
        for path in sorted((real / folder).rglob("*")) if real else ():
            if path.is_file():
                key = f"raw/{source}/real/{path.relative_to(real / folder).as_posix()}"
                found.s3.put_object(Bucket=bucket, Key=key, Body=path.read_bytes())
    for variable, value in found.variables.items():
        monkeypatch.setenv(variable, value)
    yield found
    if "iceberg" in found.__dict__:
        found.iceberg.close()


# -- two writers ------------------------------------------------------------------------------------------------------
def command(production: Production, *arguments: str) -> subprocess.Popen[str]:
    """A command of the installed program, as a process of its own."""
    return subprocess.Popen(
        ["ocsf-lake", *arguments], env=environment(**production.variables), stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def finished(process: subprocess.Popen[str]) -> Run:
    out, err = process.communicate(timeout=300)
    return Run(process.returncode, out, err)


def ingested_by_two(
    production: Production, sources: Iterable[str], skipped: Set[str]
) -> dict[str, Counter[str]]:
    """What becomes of each source's records when two processes read overlapping inputs at the same time."""
    raw = f"s3://{production.bucket}/raw"
    some = [f"{raw}/{source}" for source in ("aws_guardduty", "aws_vpc_flow", "aws_cloudtrail")]
    writers = [command(production, "ingest", *uris, "--json") for uris in ([raw], some)]
    runs = [finished(writer) for writer in writers]
    counts: dict[str, Counter[str]] = {source: Counter() for source in sources}
    for run in runs:
        assert run.code == 0, run.err
        assert "Traceback" not in run.err
        assert "statistics" not in run.err  # pyiceberg's word on every column of every file
        found = json.loads(run.out)
        assert {item["state"] for item in found["not_read"]} <= {"skipped"}
        not_read = {item["object"].removeprefix(f"{raw}/") for item in found["not_read"]}
        assert {name for name in not_read if "/own/empty_file." not in name} == (skipped if run is runs[0] else set())
        for source, said in found["sources"].items():
            counts[source].update({name: said[name] for name in ("records", "events", "quarantined")})
            counts[source]["dropped"] += sum(said["dropped"].values())
    return counts


# -- damages ----------------------------------------------------------------------------------------------------------
def a_key(lake: Production, name: str) -> str:
    return min(lake.in_storage()[name])


def delete_a_partition_in_glue(lake: Production) -> Damaged:
    values = min(lake.partitions_in_glue()["vpc_flow"])
    lake.glue.delete_partition(DatabaseName=lake.glue_database, TableName="vpc_flow", PartitionValues=list(values))
    return {("glue", "vpc_flow", "partition missing", "/".join(values))}


def delete_a_file(lake: Production) -> Damaged:
    key = a_key(lake, "guardduty_findings")
    lake.s3.delete_object(Bucket=lake.bucket, Key=key)
    return {("storage", "guardduty_findings", "file missing", key.removeprefix("lake/"))}


def add_a_foreign_file(lake: Production) -> Damaged:
    key = a_key(lake, "cloud_trail_mgmt")
    stranger = f"{key.rpartition('/')[0]}/stranger.parquet"
    lake.s3.copy_object(Bucket=lake.bucket, Key=stranger, CopySource={"Bucket": lake.bucket, "Key": key})
    return {("storage", "cloud_trail_mgmt", "file nobody wrote", stranger.removeprefix("lake/"))}


def change_a_column_in_glue(lake: Production) -> Damaged:
    table = lake.table("vpc_flow")
    for column in table["StorageDescriptor"]["Columns"]:
        column["Type"] = "string" if column["Name"] == "activity_id" else column["Type"]
    given = {name: table[name] for name in ("Name", "StorageDescriptor", "PartitionKeys", "Parameters", "TableType")}
    lake.glue.update_table(DatabaseName=lake.glue_database, TableInput=given)
    # Athena refuses a partition whose columns are not the table's.
    values = lake.partitions_in_glue()["vpc_flow"]
    partitions = {("glue", "vpc_flow", "schema of the partition", "/".join(value)) for value in values}
    return {("glue", "vpc_flow", "schema of the table", "activity_id"), *partitions}


def drop_a_table_in_iceberg(lake: Production) -> Damaged:
    lake.iceberg.drop_table(("ocsf_lake_iceberg", "vpc_flow"))
    return {("iceberg", "vpc_flow", "table missing", "vpc_flow")}


DAMAGES: tuple[Callable[[Production], Damaged], ...] = (
    delete_a_partition_in_glue, delete_a_file, add_a_foreign_file, change_a_column_in_glue, drop_a_table_in_iceberg,
)  # fmt: skip


# -- the test ---------------------------------------------------------------------------------------------------------
def test_three_sources_by_two_writers_are_queryable_and_again_after_all_damage(
    production: Production, truth: ExpectedState, real: Path | None, ocsf_lake: RunCommand
) -> None:
    told = ingested_by_two(production, truth.records, UNRECOGNIZED.keys() if real else set())
    # Each batch was one writer's, so what the two have counted is what there is.
    assert {source: counts["records"] for source, counts in told.items()} == truth.records
    assert {source: counts["quarantined"] for source, counts in told.items()} == truth.rejects
    for counts in told.values():
        assert counts["records"] == counts["events"] + counts["quarantined"] + counts["dropped"]
    rows = rows_in_every_catalog(production)
    assert_counts(production, truth, rows, ocsf_lake)
    again = json.loads(ocsf_lake("ingest", f"s3://{production.bucket}/raw", "--json").out)
    assert (again["sources"], again["busy_batches"]) == ({}, 0)

    checked = ocsf_lake("catalog", "check", "--deep")
    assert (checked.code, checked.out) == (0, ""), checked.out
    assert checked.err == "storage, ledger and glue, iceberg agree\n"
    wanted: Damaged = set()
    for damage in DAMAGES:
        wanted |= damage(production)
    run = ocsf_lake("catalog", "check", "--json")
    assert run.code == 1
    found = json.loads(run.out)
    assert {tuple(item[name] for name in ("where", "table", "kind", "item")) for item in found} == wanted
    assert "`ocsf-lake catalog sync` repairs" in run.err
    refused = ocsf_lake("query", "SELECT count(*) FROM guardduty_findings")
    assert (refused.code, refused.out) == (1, "")
    assert "error: a file of the lake is gone" in refused.err
    # All of them at once.
    mended = ocsf_lake("catalog", "sync")
    assert (mended.code, mended.out) == (0, ""), mended.out + mended.err
    assert f"{len(wanted)} findings before, 0 left" in mended.err
    checked = ocsf_lake("catalog", "check")
    assert (checked.code, checked.out) == (0, "")
    assert rows_in_every_catalog(production) == rows
    assert_counts(production, truth, rows, ocsf_lake)


def assert_counts(production: Production, truth: ExpectedState, rows: dict[str, int], ocsf_lake: RunCommand) -> None:
    """What queries count by table and partition is what the goldens say, and the sums are those of the samples."""
    tables = sorted(rows.keys() - {NOT_IN_ICEBERG})
    keys = "region, accountid, eventday"
    counted = " UNION ALL ".join(
        f"SELECT '{name}' AS name, source_object LIKE '%/own/%' AS own, {keys}, count(*) AS n FROM {name} GROUP BY ALL"
        for name in tables
    )
    run = ocsf_lake("query", counted, "--format", "json")
    assert (run.code, run.err) == (0, "")
    found = json.loads(run.out)
    places = {(row["name"], row["region"], row["accountid"], row["eventday"]): row["n"] for row in found if row["own"]}
    assert places == truth.events
    totals: Counter[str] = Counter()
    for row in found:
        totals[row["name"]] += row["n"]
    assert {**totals, NOT_IN_ICEBERG: truth.rejects.total()} == rows
    read, events, quarantined = ("read", "sum(read)"), ("events", "sum(events)"), ("quarantined", "sum(quarantined)")
    sums = ", ".join(f"{what} AS {name}" for name, what in (read, events, quarantined))
    run = ocsf_lake("query", f"SELECT source, {sums} FROM ledger_batches GROUP BY source", "--format", "json")
    ledger = {row["source"]: row for row in json.loads(run.out)}
    assert {source: row["read"] for source, row in ledger.items()} == truth.records
    assert {source: row["quarantined"] for source, row in ledger.items()} == truth.rejects
    assert sum(row["events"] for row in ledger.values()) == totals.total()
    if all(row["own"] for row in found):
        assert totals.total() == truth.events.total()
        assert truth.records == {
            source: row["events"] + row["quarantined"] + truth.dropped[source] for source, row in ledger.items()
        }


def rows_in_every_catalog(production: Production) -> dict[str, int]:
    """Rows of each table, after files, partitions and rows were found the same by all who know them."""
    files = production.in_storage()
    assert production.in_ledger() == files
    in_iceberg = production.in_iceberg()
    assert in_iceberg == {name: keys for name, keys in files.items() if name != NOT_IN_ICEBERG}
    rows = production.rows(files)
    assert production.rows_in_iceberg() == {name: rows[name] for name in in_iceberg}
    by_path = production.sql("SELECT table_name, sum(rows)::int FROM ocsf_ledger.files GROUP BY table_name")
    assert dict(by_path) == rows
    folders = {name: {key.rpartition("/")[0] for key in keys} for name, keys in files.items()}
    in_glue = production.partitions_in_glue()
    root = f"s3://{production.bucket}/"
    assert {name: {root + folder for folder in found} for name, found in folders.items()} == {
        name: set(places.values()) for name, places in in_glue.items()
    }
    values = {
        name: {tuple(step.partition("=")[2] for step in folder.split("/") if "=" in step) for folder in found}
        for name, found in folders.items()
    }
    assert values == production.partitions_in_ledger() == {name: set(places) for name, places in in_glue.items()}
    return rows
