"""What a lake costs at scale, reckoned from measurements: time and money of a terabyte, requests, ledger, workers.

Nothing here measures. What goes in is the JSON of `python -m bench`, prices, and the assumptions below; each function
is one line of arithmetic that docs/scale.md shows in a table.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import Any

from bench import s3_requests
from bench.ways import OURS

TERABYTE = 10**12
GB_MONTH_BYTES = 2**30
"""What AWS bills storage by."""
HOUR, DAY, YEAR_DAYS = 3_600, 86_400, 365


@dataclass(frozen=True)
class Price:
    """A list price in US dollars, and where it stands."""

    usd: float
    of: str
    page: str


S3_PAGE, EC2_PAGE = "https://aws.amazon.com/s3/pricing/", "https://aws.amazon.com/ec2/pricing/on-demand/"
PUT = Price(0.005 / 1_000, "a PUT, POST or LIST request of S3 Standard", S3_PAGE)
GET = Price(0.0004 / 1_000, "a GET or HEAD request of S3 Standard", S3_PAGE)
STORED = Price(0.023, "a GB-month in S3 Standard, first 50 TB", S3_PAGE)
CPU_HOUR = Price(0.0725 / 2, "an hour of one vCPU: half a c7g.large, on demand, Linux", EC2_PAGE)
PRICES = (PUT, GET, STORED, CPU_HOUR)
"""Of 2026-11, as docs/scale.md says."""

BUSY = 0.7
"""Share of the time that workers are meant to be busy in: logs come in waves."""
TERABYTES_A_DAY = (1, 10, 100)
NAMES_A_LIST = 1_000


@dataclass(frozen=True)
class Organisation:
    """An organisation, for the reckoning of a backfill.

    Args:
        accounts: Each delivers an object every `minutes` minutes, in each region, of each source but GuardDuty.
        records: Records of a day, by source.
    """

    accounts: int = 100
    regions: int = 4
    minutes: int = 5
    records: tuple[tuple[str, int], ...] = (
        ("cloudtrail", 50_000_000), ("vpc_flow", 500_000_000), ("route53", 100_000_000), ("guardduty", 5_000),
    )  # fmt: skip
    findings_an_object: int = 5
    workers: int = 16

    def objects(self, source: str) -> int:
        """Objects of a day."""
        if source == "guardduty":
            return ceil(dict(self.records)[source] / self.findings_an_object)
        return self.accounts * self.regions * 24 * 60 // self.minutes


ORGANISATION = Organisation()


@dataclass(frozen=True)
class Measured:
    """What was measured of a source: bytes of a record, and records a CPU second with everything on.

    Args:
        files: Parquet files of a batch.
        batch_records: Records of a batch.
    """

    source: str
    raw: float
    gzipped: float
    stored: float
    rate: float
    object_records: float
    files: float
    batch_records: float

    def cpu_hours(self, terabytes: float, *, gzipped: bool) -> float:
        """CPU hours of so many terabytes."""
        return self.records(terabytes, gzipped=gzipped) / self.rate / HOUR

    def records(self, terabytes: float, *, gzipped: bool) -> float:
        """Records in so many terabytes."""
        return terabytes * TERABYTE / (self.gzipped if gzipped else self.raw)

    def workers(self, terabytes_a_day: float, *, gzipped: bool) -> int:
        """Workers of one processor each that keep up with so much a day."""
        return ceil(self.cpu_hours(terabytes_a_day, gzipped=gzipped) / 24 / BUSY)


def sources(results: dict[str, Any]) -> dict[str, Measured]:
    """What was measured of each source, from the results."""
    measured = {}
    for row in results["ways"]:
        if row["way"] != OURS or not row["cost"]:
            continue
        logs, cost, lake = results["logs"][row["source"]], row["cost"], row["lake"]
        measured[row["source"]] = Measured(
            row["source"], logs["raw_bytes"] / logs["records"], logs["gzip_bytes"] / logs["records"],
            lake["bytes"] / cost["rows_out"], cost["records"] / cost["cpu_seconds"], logs["records"] / logs["files"],
            lake["files"] / lake["batches"], logs["records"] / lake["batches"],
        )  # fmt: skip
    return measured


def small(results: dict[str, Any], step: str = "ingest") -> dict[str, Any]:
    """The row of small objects from S3, or from the disk where there is no S3."""
    rows = [row for row in results["small"]["rows"] if row["step"] == step]
    chosen: dict[str, Any] = next((row for row in rows if row["way"] == "s3"), rows[0])
    return chosen


def seconds_an_object(results: dict[str, Any]) -> float:
    """CPU seconds that an object of S3 takes beside its records."""
    part = results["small"]
    whole = small(results)["cpu_seconds"] / part["objects"]
    return max(0.0, float(whole) - part["records_each"] / sources(results)["cloudtrail"].rate)


@dataclass(frozen=True)
class Requests:
    """Requests of S3, and what they cost."""

    gets: float
    lists: float
    puts: float

    @property
    def usd(self) -> float:
        """In US dollars."""
        return self.gets * GET.usd + (self.lists + self.puts) * PUT.usd


def requests(objects: float, batches: float, files_a_batch: float) -> Requests:
    """Requests of reading objects and writing batches: a GET an object, a LIST a thousand names, a PUT a file.

    A batch puts two objects more: what it was, and its record in the chain.
    """
    return Requests(objects, objects / NAMES_A_LIST, batches * (files_a_batch + 2))


def small_batch(results: dict[str, Any]) -> tuple[float, float]:
    """Objects of a batch of small objects, and files that it writes, as counted on S3."""
    row = next(row for row in results["requests"] if row["case"] == list(s3_requests.CASES)[1])
    return row["objects"] / row["batches"], row["files"] / row["batches"]


KIND_LISTS, ROOT_LISTS, PROBE_LISTS, MOST_PROBES = 4, 2, 3, 60
"""LIST requests that tell what a URI is, of the folder and of `AWSLogs/`, and to look for days that the lake has not:
so many a folder of years, and at most."""


def lists_a_run(accounts: int, sources_each: int, folders_of_years: int) -> int:
    """LIST requests of a run over a folder that is not listed whole, when nothing is new.

    Beside those of the run, one for each folder of an account and of a source in it, and one for each folder that holds
    years (a region or a VPC), from the first day on that is looked at; more where these days have over 1,000 objects.
    """
    probes = min(MOST_PROBES, PROBE_LISTS * folders_of_years)
    return KIND_LISTS + ROOT_LISTS + accounts * (1 + sources_each) + folders_of_years + probes


@dataclass(frozen=True)
class Ledger:
    """What a ledger takes, in bytes, and how many objects one process plans and finishes in a second."""

    database: str
    object: float
    file: float
    batch: float
    rate: float

    def bytes(self, objects: float, files: float, batches: float) -> float:
        """Its size with so many."""
        return objects * self.object + files * self.file + batches * self.batch


def ledgers(results: dict[str, Any]) -> list[Ledger]:
    """The ledger in each database."""
    return [
        Ledger(
            row["database"], row["bytes"] / row["objects"], row["bytes_of_files"] / row["files"],
            row["bytes_of_batches"] / row["batches"], 1 / (1 / row["planned"] + 1 / row["finished"]),
        )
        for row in results["ledger"]
    ]  # fmt: skip


def efficiency(results: dict[str, Any], source: str) -> float:
    """Share of twice the speed that two workers on two processors reach."""
    wall = {row["workers"]: row["cost"]["wall_seconds"] for row in results["cores"] if row["source"] == source}
    return float(wall[1] / (2 * wall[2]))


@dataclass(frozen=True)
class Backfill:
    """A source's share of a backfill of a year."""

    source: str
    records: int
    objects: int
    batches: float
    files: float
    cpu_hours: float
    requests: Requests
    stored: float


def backfill(results: dict[str, Any], of: Organisation = ORGANISATION) -> list[Backfill]:
    """A year of an organisation, source by source."""
    measured, each = sources(results), seconds_an_object(results)
    shares = []
    for source, records in of.records:
        one = measured[source]
        year, objects = records * YEAR_DAYS, of.objects(source) * YEAR_DAYS
        hours = (year / one.rate + objects * each) / HOUR
        batches = max(year / one.batch_records, objects / small_batch(results)[0])
        asked = requests(objects, batches, one.files)
        shares.append(Backfill(source, year, objects, batches, batches * one.files, hours, asked, year * one.stored))
    return shares
