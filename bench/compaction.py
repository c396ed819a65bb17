"""What compaction does for a lake that is filled every few minutes: files, bytes, times of queries, before and after.

`python -m bench.compaction` makes a day of flow logs of twenty accounts, an object of an account each five minutes, and
ingests what is new each five minutes, as a schedule does; then it compacts, and removes what was merged. `--lines` are
those of one object.
"""

from __future__ import annotations

import argparse
import gzip
import random
import statistics
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from ocsf_lake import config
from ocsf_lake.config import Settings
from ocsf_lake.ingest import run as ingest
from ocsf_lake.query import query
from ocsf_lake.upkeep import check, compact

DAY = datetime(2025, 3, 11, tzinfo=UTC)
HEADER = (
    "version account-id interface-id srcaddr dstaddr srcport dstport protocol packets bytes start end action log-status"
)
QUERIES = {
    "all accounts, bytes by account": "SELECT accountid, sum(traffic.bytes) FROM vpc_flow GROUP BY ALL",
    "one account, one address": (
        "SELECT count(*) FROM vpc_flow WHERE accountid = '100000000007' AND eventday = '20250311' "
        "AND src_endpoint.ip = '10.0.0.7'"
    ),
    "an hour of all accounts": (
        "SELECT count(*) FROM vpc_flow WHERE eventday = '20250311' AND time_dt >= TIMESTAMPTZ '2025-03-11 07:00:00Z' "
        "AND time_dt < TIMESTAMPTZ '2025-03-11 08:00:00Z'"
    ),
}
REPEATED = 3


def _object(folder: Path, account: str, moment: datetime, lines: int, numbers: random.Random) -> None:
    start = int(moment.timestamp())
    text = [HEADER]
    for _ in range(lines):
        at = start + numbers.randrange(300)
        ends = f"10.0.{numbers.randrange(4)}.{numbers.randrange(250)} 10.1.0.{numbers.randrange(250)}"
        ports = f"{numbers.randrange(30000, 60000)} {numbers.choice((443, 53, 5432))}"
        text.append(f"2 {account} eni-{account[-4:]} {ends} {ports} 6 9 {numbers.randrange(40, 90000)} {at} {at + 60} "
                    "ACCEPT OK")  # fmt: skip
    name = f"{account}_vpcflowlogs_eu-west-1_fl-0a_{moment:%Y%m%dT%H%MZ}_x.log.gz"
    path = folder / f"AWSLogs/{account}/vpcflowlogs/eu-west-1/{moment:%Y/%m/%d}" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(("\n".join(text) + "\n").encode(), 1, mtime=0))


def _measured(settings: Settings, when: str) -> list[tuple[tuple[object, ...], ...]]:
    files = [path for path in Path(settings.lake).rglob("*.parquet") if "_quarantine" not in str(path)]
    totals = _run(settings, "SELECT count(*), sum(bytes)::BIGINT FROM ledger_files")[0]
    sys.stdout.write(
        f"| {when} | {totals[0]:,} files, {int(str(totals[1])) / 1e6:.1f} MB | on disk {len(files):,} files, "
        f"{sum(path.stat().st_size for path in files) / 1e6:.1f} MB |\n"
    )
    answers = []
    for name, sql in QUERIES.items():
        taken = []
        for _ in range(REPEATED):
            began = time.perf_counter()
            answer = _run(settings, sql)
            taken.append(time.perf_counter() - began)
        sys.stdout.write(f"| | {name} | {statistics.median(taken):.2f} s |\n")
        answers.append(tuple(sorted(answer, key=repr)))
    sys.stdout.flush()
    return answers


def _run(settings: Settings, sql: str) -> list[tuple[object, ...]]:
    with query.connected(settings, sql) as connection:
        return [tuple(row.values()) for row in query.run(connection, sql).to_pylist()]


def main() -> None:
    """Fills a lake, measures, compacts, measures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--accounts", type=int, default=20)
    parser.add_argument("--minutes", type=int, default=5)
    parser.add_argument("--hours", type=int, default=24)
    parser.add_argument("--lines", type=int, default=100)
    given = parser.parse_args()
    numbers = random.Random(7)
    with tempfile.TemporaryDirectory(prefix="ocsf-lake-bench-") as name:
        settings = config.load(lake=f"{name}/lake")
        accounts = [f"1{number:011d}" for number in range(given.accounts)]
        runs = given.hours * 60 // given.minutes
        began = time.perf_counter()
        for number in range(runs):
            # A folder for each run: what it costs to list what is old is another measurement.
            folder = Path(name) / "logs" / f"{number:04d}"
            for account in accounts:
                _object(folder, account, DAY + timedelta(minutes=number * given.minutes), given.lines, numbers)
            ingest.ingest([str(folder)], settings, source="aws_vpc_flow")
        seconds = time.perf_counter() - began
        sys.stdout.write(f"{runs} ingests of {given.accounts} objects of {given.lines} lines: {seconds:.0f} s\n")
        before = _measured(settings, "before")
        began = time.perf_counter()
        summary = compact.compact(settings)
        sys.stdout.write(f"compact: {time.perf_counter() - began:.1f} s, {summary.tables}\n")
        after = _measured(settings, "after")
        later = datetime.now(UTC) + timedelta(hours=25)
        sys.stdout.write(f"removed: {compact.compact(settings, clock=lambda: later).removed} files\n")
        assert _measured(settings, "old files removed") == after == before
        from ocsf_lake.lake import opened

        with opened(settings) as lake:
            assert check.check(lake) == []


if __name__ == "__main__":
    main()
