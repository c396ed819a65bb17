"""Writes a folder of invented logs, gzipped and named as AWS delivers them; the same parameters give the same bytes."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import zlib
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from datetime import timedelta
from multiprocessing import get_context
from pathlib import Path

from bench import cloudtrail, vpcflow

GENERATOR_VERSION = 1  # raise it when the text changes, so that kept folders are made anew
CLOUDTRAIL_RECORDS_PER_FILE = 4_000
VPC_LINES_PER_FILE = 50_000


@dataclass(frozen=True)
class Parameters:
    """What decides every byte of the folder."""

    cloudtrail_records: int = 240_000
    vpc_lines: int = 2_000_000
    seed: int = 1
    version: int = GENERATOR_VERSION


@dataclass(frozen=True)
class Source:
    """The files of one source, and how realistic they are."""

    files: tuple[Path, ...]
    records: int
    raw_bytes: int
    gzip_bytes: int

    def describe(self, unit: str) -> str:
        """One line: files, records, bytes per record, gzip ratio."""
        if not self.records:
            return f"no {unit}s"
        return (
            f"{self.records:,} {unit}s in {len(self.files)} files, {self.raw_bytes / self.records:,.0f} bytes a {unit}"
            f", {self.gzip_bytes / 1e6:,.1f} MB gzipped, ratio {self.raw_bytes / self.gzip_bytes:.1f}"
        )


@dataclass(frozen=True)
class Data:
    """A generated folder."""

    cloudtrail: Source
    vpc_flow: Source


@dataclass(frozen=True)
class _Job:
    kind: str
    path: str
    seed: str
    count: int
    account: str
    region: str
    start_second: int
    custom: bool = False


def _gzip(text: str) -> bytes:
    """Gzip without a time or a name in its header, at the usual level."""
    packer = zlib.compressobj(6, zlib.DEFLATED, 31)
    return packer.compress(text.encode()) + packer.flush()


def _write(root: Path, job: _Job) -> tuple[str, int, int, int]:
    if job.kind == "cloudtrail":
        records = cloudtrail.records(job.seed, job.count, job.account, job.region, job.start_second)
        text = '{"Records":[' + ",".join(records) + "]}"
    else:
        lines = vpcflow.lines(job.seed, job.count, job.account, job.region, job.start_second, custom=job.custom)
        text = "\n".join([*lines, ""])
    packed = _gzip(text)
    path = root / job.path
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(packed)
    return job.kind, job.count, len(text), len(packed)


def _sizes(total: int, per_file: int) -> Iterable[int]:
    for start in range(0, total, per_file):
        yield min(per_file, total - start)


def _jobs(parameters: Parameters) -> list[_Job]:
    rng = random.Random(f"files/{parameters.seed}")
    jobs = []
    for kind, total, per_file, span, window in (
        ("cloudtrail", parameters.cloudtrail_records, CLOUDTRAIL_RECORDS_PER_FILE, cloudtrail.SPAN_SECONDS, 900),
        ("vpc_flow", parameters.vpc_lines, VPC_LINES_PER_FILE, vpcflow.SPAN_SECONDS, 600),
    ):
        for number, count in enumerate(_sizes(total, per_file)):
            account, region = rng.choice(cloudtrail.ACCOUNTS), rng.choice(cloudtrail.REGIONS)
            start = rng.randrange((span - window) // 300) * 300
            when = cloudtrail.FIRST_DAY + timedelta(seconds=start)
            seed = f"{parameters.seed}/{kind}/{number}"
            name = hashlib.sha256(seed.encode()).hexdigest()
            custom = number % 2 == 1
            if kind == "cloudtrail":
                stem = f"{account}_CloudTrail_{region}_{when:%Y%m%dT%H%MZ}_{name[:16]}.json.gz"
                path = f"AWSLogs/{account}/CloudTrail/{region}/{when:%Y/%m/%d}/{stem}"
            else:
                log = f"fl-0{'c' if custom else 'd'}{account}{'abc'}"
                stem = f"{account}_vpcflowlogs_{region}_{log}_{when:%Y%m%dT%H%MZ}_{name[:8]}.log.gz"
                path = f"AWSLogs/{account}/vpcflowlogs/{region}/{when:%Y/%m/%d}/{stem}"
            jobs.append(_Job(kind, path, seed, count, account, region, start, custom))
    return jobs


def generate(root: Path, parameters: Parameters) -> Data:
    """Makes the folder, or takes the one that is there when it was made with the same parameters.

    Raises:
        FileExistsError: The folder holds something this generator did not write.
    """
    manifest = root / "manifest.json"
    if manifest.exists():
        known = json.loads(manifest.read_text())
        if known["parameters"] == asdict(parameters):
            return _data(root, known)
        manifest.unlink()  # first, so that an interrupted run is not taken for a whole one
        shutil.rmtree(root / "AWSLogs")
    elif root.exists() and any(root.iterdir()):
        raise FileExistsError(f"{root} is not empty and has no manifest.json: choose another folder")
    root.mkdir(parents=True, exist_ok=True)
    jobs = _jobs(parameters)
    with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn")) as pool:
        written = list(pool.map(_write, [root] * len(jobs), jobs))
    sources: dict[str, dict[str, object]] = {}
    for kind in ("cloudtrail", "vpc_flow"):
        mine = [w for w in written if w[0] == kind]
        sources[kind] = {
            "files": [job.path for job in jobs if job.kind == kind],
            "records": sum(w[1] for w in mine),
            "raw_bytes": sum(w[2] for w in mine),
            "gzip_bytes": sum(w[3] for w in mine),
        }
    known = {"parameters": asdict(parameters), "sources": sources}
    manifest.write_text(json.dumps(known, indent=1))
    return _data(root, known)


def _data(root: Path, manifest: dict[str, dict[str, dict[str, object]]]) -> Data:
    def source(kind: str) -> Source:
        known = manifest["sources"][kind]
        files, numbers = known["files"], [known[key] for key in ("records", "raw_bytes", "gzip_bytes")]
        assert isinstance(files, list)
        records, raw_bytes, gzip_bytes = (n for n in numbers if isinstance(n, int))
        return Source(tuple(root / f for f in files), records, raw_bytes, gzip_bytes)

    return Data(source("cloudtrail"), source("vpc_flow"))
