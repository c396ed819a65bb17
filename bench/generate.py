"""Writes a folder of invented logs, gzipped and named as AWS delivers them; the same parameters give the same bytes."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import uuid
import zlib
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from multiprocessing import get_context
from pathlib import Path

from bench import cloudtrail, guardduty, route53, vpcflow

GENERATOR_VERSION = 2  # raise it when the text changes, so that kept folders are made anew
CLOUDTRAIL_RECORDS_PER_FILE = 4_000
VPC_LINES_PER_FILE = 50_000
ROUTE53_QUERIES_PER_FILE = 20_000
GUARDDUTY_FINDINGS_PER_FILE = 500
UNITS = {"cloudtrail": "record", "vpc_flow": "line", "route53": "query", "guardduty": "finding"}
"""Each source, and what one of its records is called."""


@dataclass(frozen=True)
class Parameters:
    """What decides every byte of the folder."""

    cloudtrail_records: int = 240_000
    vpc_lines: int = 2_000_000
    route53_queries: int = 1_000_000
    guardduty_findings: int = 5_000
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
            return f"no {unit}"
        return (
            f"{self.records:,} in {len(self.files)} files, {self.raw_bytes / self.records:,.0f} bytes a {unit}"
            f", {self.gzip_bytes / 1e6:,.1f} MB gzipped, ratio {self.raw_bytes / self.gzip_bytes:.1f}"
        )


Data = dict[str, Source]
"""A generated folder: source -> its files."""


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
    what = (job.seed, job.count, job.account, job.region, job.start_second)
    if job.kind == "cloudtrail":
        text = '{"Records":[' + ",".join(cloudtrail.records(*what)) + "]}"
    elif job.kind == "vpc_flow":
        text = "\n".join([*vpcflow.lines(*what, custom=job.custom), ""])
    else:
        lines = (route53 if job.kind == "route53" else guardduty).lines(*what)
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
        ("route53", parameters.route53_queries, ROUTE53_QUERIES_PER_FILE, cloudtrail.SPAN_SECONDS, 300),
        ("guardduty", parameters.guardduty_findings, GUARDDUTY_FINDINGS_PER_FILE, cloudtrail.SPAN_SECONDS, 900),
    ):
        for number, count in enumerate(_sizes(total, per_file)):
            account, region = rng.choice(cloudtrail.ACCOUNTS), rng.choice(cloudtrail.REGIONS)
            start = rng.randrange((span - window) // 300) * 300
            when = cloudtrail.FIRST_DAY + timedelta(seconds=start)
            seed = f"{parameters.seed}/{kind}/{number}"
            name = hashlib.sha256(seed.encode()).hexdigest()
            custom = number % 2 == 1
            path = _path(kind, account, region, when, name, custom)
            jobs.append(_Job(kind, path, seed, count, account, region, start, custom))
    return jobs


def _path(kind: str, account: str, region: str, when: datetime, mark: str, custom: bool) -> str:
    """Below the bucket, as AWS names it."""
    day = f"{when:%Y/%m/%d}"
    if kind == "cloudtrail":
        stem = f"{account}_CloudTrail_{region}_{when:%Y%m%dT%H%MZ}_{mark[:16]}.json.gz"
        return f"AWSLogs/{account}/CloudTrail/{region}/{day}/{stem}"
    if kind == "vpc_flow":
        log = f"fl-0{'c' if custom else 'd'}{account}{'abc'}"
        stem = f"{account}_vpcflowlogs_{region}_{log}_{when:%Y%m%dT%H%MZ}_{mark[:8]}.log.gz"
        return f"AWSLogs/{account}/vpcflowlogs/{region}/{day}/{stem}"
    if kind == "route53":
        vpc = route53.vpc_of(account, region)
        stem = f"{vpc}_vpcdnsquerylogs_{account}_{when:%Y%m%dT%H%MZ}_{mark[:8]}.log.gz"
        return f"AWSLogs/{account}/vpcdnsquerylogs/{vpc}/{day}/{stem}"
    return f"AWSLogs/{account}/GuardDuty/{region}/{day}/{uuid.UUID(mark[:32])}.jsonl.gz"


def generate(root: Path, parameters: Parameters) -> Data:
    """Makes the folder, or takes the one that is there when it was made with the same parameters.

    Raises:
        FileExistsError: The folder holds something this generator did not write.
    """
    manifest = root / "manifest.json"
    if manifest.exists():
        content = json.loads(manifest.read_text())
        if content["parameters"] == asdict(parameters):
            return _data(root, content)
        manifest.unlink()  # first, so that an interrupted run is not taken for a whole one
        shutil.rmtree(root / "AWSLogs", ignore_errors=True)
    elif root.exists() and any(root.iterdir()):
        raise FileExistsError(f"{root} is not empty and has no manifest.json: choose another folder")
    root.mkdir(parents=True, exist_ok=True)
    jobs = _jobs(parameters)
    with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn")) as pool:
        written = list(pool.map(_write, [root] * len(jobs), jobs))
    sources: dict[str, dict[str, object]] = {}
    for kind in UNITS:
        mine = [w for w in written if w[0] == kind]
        sources[kind] = {
            "files": [job.path for job in jobs if job.kind == kind],
            "records": sum(w[1] for w in mine),
            "raw_bytes": sum(w[2] for w in mine),
            "gzip_bytes": sum(w[3] for w in mine),
        }
    content = {"parameters": asdict(parameters), "sources": sources}
    manifest.write_text(json.dumps(content, indent=1))
    return _data(root, content)


def _data(root: Path, manifest: dict[str, dict[str, dict[str, object]]]) -> Data:
    def source(kind: str) -> Source:
        entry = manifest["sources"][kind]
        files, numbers = entry["files"], [entry[key] for key in ("records", "raw_bytes", "gzip_bytes")]
        assert isinstance(files, list)
        records, raw_bytes, gzip_bytes = (n for n in numbers if isinstance(n, int))
        return Source(tuple(root / f for f in files), records, raw_bytes, gzip_bytes)

    return {kind: source(kind) for kind in UNITS}
