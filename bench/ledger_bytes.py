"""Bytes of the ledger for each object, and how fast it takes them: `python -m bench.ledger_bytes --objects 1000000`.

Objects have the names that AWS gives log files of CloudTrail and of VPC flow logs, in the order of a listing, and go
through the ledger as ingest takes them: planned, begun, finished. With `--before CHECKOUT` another version's ledger is
filled in the same way. For PostgreSQL give the URL of an empty database for each: `--url URL --before-url URL`.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import sqlalchemy as sa

ROOT = Path(__file__).parents[1]
ACCOUNTS, REGIONS, A_DAY = 50, ("us-east-1", "eu-west-1"), 100
"""So many objects a day for each account and region: with two sources, 7 million in a year."""
ORGANIZATION = "o-a1b2c3d4e5"
FILES_OF_BATCH = 10
OF_OBJECTS = ("objects", "object_rows", "names", "ix_object", "sqlite_autoindex_object", "sqlite_autoindex_names")
OTHERS = ("files", "batches")
KINDS = {
    "aws_cloudtrail": (
        "CloudTrail", "{account}_CloudTrail_{region}_{day}T{time}Z_{mark}.json.gz"
    ),
    "aws_vpc_flow": (
        "vpcflowlogs", "{account}_vpcflowlogs_{region}_fl-{account}_{day}T{time}Z_{mark}.log.gz"
    ),
}  # fmt: skip


def names(objects: int) -> Iterator[tuple[str, str, str]]:
    """Source, URI and ETag of as many objects."""
    number = 0
    while True:
        day = date(2025, 1, 1) + timedelta(days=number // (A_DAY * ACCOUNTS * len(REGIONS) * len(KINDS)))
        for source, (folder, name) in KINDS.items():
            for account in range(100_000_000_000, 100_000_000_000 + ACCOUNTS):
                for region in REGIONS:
                    where = f"s3://example-logs/AWSLogs/{ORGANIZATION}/{account}/{folder}/{region}/{day:%Y/%m/%d}"
                    for of_day in range(A_DAY):
                        if number == objects:
                            return
                        number += 1
                        minutes = of_day * 24 * 60 // A_DAY
                        etag = hashlib.md5(str(number).encode(), usedforsecurity=False).hexdigest()
                        file = name.format(
                            account=account, region=region, day=f"{day:%Y%m%d}", mark=etag[:16],
                            time=f"{minutes // 60:02d}{minutes % 60:02d}",
                        )  # fmt: skip
                        yield source, f"{where}/{file}", etag


@dataclass(frozen=True)
class Filled:
    """How fast a ledger took objects, per second, and what became of its tables and indexes, in bytes.

    Args:
        sizes: Of tables and indexes of objects.
        of_files: Of files.
        of_batches: Of batches.
    """

    planned: float
    finished: float
    sizes: dict[str, int]
    of_files: int
    of_batches: int


def fill(url: str, objects: int, of_batch: int, files: int = 0) -> Filled:
    """Takes objects into a ledger, in batches that wrote so many files each."""
    try:
        from ocsf_lake.ledger.ledger import Ledger
        from ocsf_lake.ledger.results import Batch, Counts, Outcome, Result, State
        from ocsf_lake.storage.objects import ObjectRef
    except ImportError:
        sys.exit("this version has no ledger of its own room")
    ledger = Ledger(url)
    batches: list[Batch] = []
    members: dict[str, list[ObjectRef]] = {}

    def close(source: str) -> None:
        mark = hashlib.sha256(members[source][0].uri.encode()).hexdigest()[:32]
        batches.append(Batch(mark, source, "1", "1.6.0", tuple(members.pop(source))))

    for source, uri, etag in names(objects):
        members.setdefault(source, []).append(ObjectRef(uri, etag, 40_000 + len(uri)))
        if len(members[source]) == of_batch:
            close(source)
    for source in list(members):
        close(source)
    begun = time.perf_counter()
    for batch in batches:
        ledger.plan([batch])
    planned = time.perf_counter()
    for batch in batches:
        outcomes = {ref: Outcome(Counts(1200, 1200), State.DONE) for ref in batch.members}
        result = Result(outcomes, _files(batch.id, files), seconds=1.0)
        ledger.finish(ledger.begin(batch), result, lambda: None)
    done = time.perf_counter()
    object_sizes = sizes(ledger)
    others = (sum(sizes(ledger, (name, f"ix_{name}", f"sqlite_autoindex_{name}")).values()) for name in OTHERS)
    filled = Filled(objects / (planned - begun), objects / (done - planned), object_sizes, *others)
    ledger.close()
    return filled


def _files(batch: str, number: int) -> list[Any]:
    """What a batch may have written: files of as many accounts."""
    if not number:
        return []
    from ocsf_lake.storage.fileinfo import FileInfo
    from ocsf_lake.storage.layout import Partition

    written = []
    for account in range(100_000_000_000, 100_000_000_000 + number):
        values = ("us-east-1", str(account), "20250311")
        folder = f"aws/CLOUD_TRAIL_MGMT/2.0/region={values[0]}/accountId={values[1]}/eventDay={values[2]}"
        path, partition = f"{folder}/{batch}-00000-6003.parquet", Partition("cloud_trail_mgmt", values)
        written.append(FileInfo(path, partition, 6003, 1_000, 100_000, hashlib.sha256(path.encode()).hexdigest(), 0, 1))
    return written


def run(objects: int, of_batch: int = 100) -> list[dict[str, Any]]:
    """Fills a ledger of SQLite, and one of PostgreSQL where its server is installed, as for the tests."""
    from tests.servers import postgres

    def measured(database: str, url: str) -> dict[str, Any]:
        print(f"running ledger: {database}", file=sys.stderr)
        filled = fill(url, objects, of_batch, FILES_OF_BATCH)
        batches = -(-objects // of_batch)
        return {
            "database": database, "objects": objects, "bytes": sum(filled.sizes.values()),
            "files": batches * FILES_OF_BATCH, "bytes_of_files": filled.of_files, "batches": batches,
            "bytes_of_batches": filled.of_batches, "planned": filled.planned, "finished": filled.finished,
        }  # fmt: skip

    rows = []
    with tempfile.TemporaryDirectory() as folder:
        rows.append(measured("SQLite", f"sqlite:///{folder}/ledger.db"))
    if postgres.missing():
        print("no PostgreSQL here: SQLite alone", file=sys.stderr)
    else:
        with postgres.running() as server:
            rows.append(measured("PostgreSQL", server.database()))
    return rows


def sizes(ledger: object, prefixes: tuple[str, ...] = OF_OBJECTS) -> dict[str, int]:
    """Bytes of tables and indexes whose names begin so; those that grow with objects."""
    engine: sa.Engine = ledger.engine  # type: ignore[attr-defined]
    with engine.connect() as connection:
        if engine.dialect.name == "postgresql":
            rows = connection.exec_driver_sql(
                "SELECT relname, pg_relation_size(c.oid) FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace "
                "WHERE nspname = 'ocsf_ledger' AND relkind IN ('r', 'i')"
            ).all()
        else:
            rows = connection.exec_driver_sql("SELECT name, sum(pgsize) FROM dbstat GROUP BY name").all()
    return {name: int(size) for name, size in rows if name.startswith(prefixes) and size}


def main() -> None:
    """Fills a ledger, or two, and prints what they have become."""
    parser = argparse.ArgumentParser(prog="python -m bench.ledger_bytes", description="Bytes of the ledger an object.")
    parser.add_argument("--objects", type=int, default=1_000_000)
    parser.add_argument("--batch", type=int, default=100, help="objects of a batch")
    parser.add_argument("--url", help="database of this version; a file of SQLite without")
    parser.add_argument("--before", type=Path, help="checkout of another version to compare with")
    parser.add_argument("--before-url", help="database of that version")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if given.before:
            print("before:", flush=True)
            arguments = ["--objects", str(given.objects), "--batch", str(given.batch)]
            url = given.before_url or f"sqlite:///{folder}/before.db"
            paths = os.pathsep.join((str(given.before.resolve()), str(ROOT)))
            program = [sys.executable, str(Path(__file__)), *arguments, "--url", url]
            subprocess.run(program, cwd=given.before, env={**os.environ, "PYTHONPATH": paths}, check=True)
            print("this:", flush=True)
        filled = fill(given.url or f"sqlite:///{folder}/ledger.db", given.objects, given.batch)
        print(f"planned {filled.planned:,.0f} and finished {filled.finished:,.0f} objects a second")
        for name, size in {**filled.sizes, "all": sum(filled.sizes.values())}.items():
            print(f"{size / given.objects:8.1f} bytes an object in {name}")


if __name__ == "__main__":
    main()
