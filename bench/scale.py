"""How long commands take on a lake of many files: `python -m bench.scale --files 100000 --objects 1000000`.

The lake is made of the sample logs; its ledger then gets as many files, batches and objects as asked for, each file a
link to one that is there. Commands run as processes of their own, each several times; the least time is shown. With
`--before CHECKOUT` the same is done by another version of this project, in turns with this one.
"""

from __future__ import annotations

import argparse
import gzip
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from datetime import date, timedelta
from pathlib import Path

ROOT = Path(__file__).parents[1]
REGIONS = ("us-east-1", "eu-west-1", "us-west-2", "ap-southeast-2")
ACCOUNTS = 1_000
FILES_OF_A_BATCH = 10
LINKS = 50_000
"""A file has as many names as file systems allow; then another copy is made."""
TABLE = "cloud_trail_mgmt"
PARTITION = "region = 'eu-west-1' AND accountid = '100000000005' AND eventday = '20200105'"
TIMES = "time_dt >= '2020-01-05' AND time_dt < '2020-01-06' AND cloud.account.uid = '100000000005'"
HEADER = (
    "version account-id interface-id srcaddr dstaddr srcport dstport protocol packets bytes start end action log-status"
)


def fill(lake: Path, files: int, objects: int) -> None:
    """Adds files with their batches, and objects, to the ledger of a lake that has some."""
    ledger = sqlite3.connect(lake / "_ledger" / "ledger.db")
    ledger.row_factory = sqlite3.Row
    file = dict(ledger.execute("SELECT * FROM files WHERE table_name = ? LIMIT 1", (TABLE,)).fetchone())
    batch = dict(ledger.execute("SELECT * FROM batches WHERE id = ?", (file["batch_id"],)).fetchone())
    read = dict(ledger.execute("SELECT * FROM objects WHERE batch_id = ? AND events > 0", (batch["id"],)).fetchone())
    copies = tempfile.mkdtemp(dir=lake.parent)
    real = lake / file["path"]
    rows, batches = [], []
    for number in range(files):
        day = f"{date(2020, 1, 1) + timedelta(days=number // (len(REGIONS) * ACCOUNTS)):%Y%m%d}"
        account = f"{100_000_000_000 + number // len(REGIONS) % ACCOUNTS}"
        values = (REGIONS[number % len(REGIONS)], account, day)
        batch_id = f"b{number // FILES_OF_A_BATCH:031d}"
        if number % FILES_OF_A_BATCH == 0:
            batches.append({**batch, "id": batch_id})
        prefix = file["path"].partition("/region=")[0]
        folder = f"{prefix}/region={values[0]}/accountId={values[1]}/eventDay={values[2]}"
        name = real.name.replace(file["batch_id"], batch_id) if number else f"{batch_id}-00000-6003.parquet"
        rows.append({**file, "path": f"{folder}/{name}", "partition": "/".join(values), "batch_id": batch_id})
        if number % LINKS == 0:
            copied = Path(copies) / str(number)
            shutil.copy(lake / file["path"], copied)
        target = lake / folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        os.link(copied, target)
    if ledger.execute("SELECT 1 FROM sqlite_schema WHERE type = 'view' AND name = 'objects'").fetchone():
        stored = f"SELECT o.* FROM object_rows o JOIN names b ON b.id = o.batch WHERE b.name = '{batch['id']}'"
        object_row = dict(ledger.execute(f"{stored} AND events > 0").fetchone())
        names = [(1_000_000 + number, row["id"]) for number, row in enumerate(batches)]
        ledger.executemany("INSERT INTO names (id, name) VALUES (?, ?)", names)
        rest = object_row["rest"]
        objects_table, added_objects = "object_rows", [
            {**object_row, "rest": f"{rest}-{number:08d}", "batch": names[number * len(names) // objects][0]}
            for number in range(objects)
        ]
    else:
        objects_table, added_objects = "objects", [
            {**read, "uri": f"{read['uri']}-{number:08d}", "batch_id": batches[number * len(batches) // objects]["id"]}
            for number in range(objects)
        ]
    for table, added in (("batches", batches), ("files", rows), (objects_table, added_objects)):
        names = ", ".join(f'"{name}"' for name in added[0])
        marks = ", ".join("?" * len(added[0]))
        ledger.executemany(f"INSERT INTO {table} ({names}) VALUES ({marks})", [tuple(row.values()) for row in added])
    ledger.commit()
    if (catalog := lake / "_catalog" / "catalog.db").exists():  # earlier versions repeat there what the ledger says
        ledger.execute("ATTACH ? AS catalog", (str(catalog),))
        columns = "path, table_name, partition, batch_id, rows, bytes"
        ledger.execute(f"INSERT OR IGNORE INTO catalog.files ({columns}) SELECT {columns} FROM main.files")
        ledger.execute("INSERT OR IGNORE INTO catalog.partitions SELECT DISTINCT table_name, partition FROM main.files")
        ledger.commit()
    ledger.close()


def commands(lake: Path, log: Path) -> dict[str, list[str]]:
    """What is measured: name -> arguments of `ocsf-lake`."""
    where = ["--lake", str(lake)]
    return {
        "query select 1": ["query", "SELECT 1", *where],
        "query of one partition": ["query", f"SELECT count(*), sum(type_uid) FROM {TABLE} WHERE {PARTITION}", *where],
        "query by time and account": ["query", f"SELECT count(*), sum(type_uid) FROM {TABLE} WHERE {TIMES}", *where],
        "status": ["status", *where],
        "catalog check": ["catalog", "check", *where],
        "ingest of one file": ["ingest", "aws_vpc_flow", str(log), *where],
    }


def seconds(checkout: Path, arguments: list[str]) -> tuple[float, int]:
    """How long one command takes, by the clock, and its exit code."""
    entry = "ocsf_lake" if (checkout / "ocsf_lake").is_dir() else "flows.cli"
    begun = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", entry, *arguments], cwd=checkout, env={**os.environ, "PYTHONPATH": str(checkout)},
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False,
    )  # fmt: skip
    return time.perf_counter() - begun, done.returncode


def main() -> None:
    """Makes the lakes and prints a table."""
    parser = argparse.ArgumentParser(prog="python -m bench.scale", description="Time commands on a lake of many files.")
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--objects", type=int, default=1_000_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--before", type=Path, help="checkout of another version to compare with")
    given = parser.parse_args()
    checkouts = {"this": ROOT} | ({"before": given.before.resolve()} if given.before else {})
    with tempfile.TemporaryDirectory() as folder:
        lakes: dict[str, Path] = {}
        for name, checkout in checkouts.items():
            lakes[name] = Path(folder) / name / "lake"
            lakes[name].parent.mkdir()
            seconds(checkout, ["ingest", str(checkout / "sample_logs"), "--lake", str(lakes[name])])
            fill(lakes[name], given.files, given.objects)
        times: dict[str, dict[str, tuple[float, int]]] = {}
        for run in range(given.runs):
            log = Path(folder) / f"{run}.log.gz"
            line = f"2 111122223333 eni-0a1b 10.0.0.1 10.0.1.9 4000{run} 443 6 9 900 1741651200 1741651259 ACCEPT OK"
            log.write_bytes(gzip.compress(f"{HEADER}\n{line}\n".encode()))
            for name, checkout in checkouts.items():
                for command, arguments in commands(lakes[name], log).items():
                    took = seconds(checkout, arguments)
                    best = times.setdefault(command, {})
                    best[name] = min(best.get(name, took), took)
        for command, best in times.items():
            print(f"{command:<28}", *(f"{name} {best[name][0]:7.2f} s (exit {best[name][1]})" for name in checkouts))


if __name__ == "__main__":
    main()
