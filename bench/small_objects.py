"""What small objects cost: `python -m bench.small_objects`, 2,000 objects of 40 CloudTrail records by default.

They are read from this machine's disk and from a RADOS gateway that is started for it (where it is installed, as for
the tests). Of S3 there are two ways: `s3`, as users have it, and `s3fs`, with nothing but s3fs. Each figure is of a
process of its own, with one processor. `list` and `get` begin when everything is imported and connected; `ingest` is
all that the process does, with imports and the compilation of the mapper.
"""

from __future__ import annotations

import argparse
import os
import resource
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar

from bench import cloudtrail, ours
from bench.measure import peak_rss_bytes

SOURCE = "aws_cloudtrail"
WAYS = ("local", "s3", "s3fs")
STEPS = ("list", "get", "ingest")

T = TypeVar("T")


def write(folder: Path, objects: int, records: int) -> list[Path]:
    """Writes the objects, gzipped and named as AWS delivers them."""
    from bench.generate import _gzip

    paths = []
    for number in range(objects):
        account = cloudtrail.ACCOUNTS[number % len(cloudtrail.ACCOUNTS)]
        region = cloudtrail.REGIONS[number % len(cloudtrail.REGIONS)]
        start = number * 300 % cloudtrail.SPAN_SECONDS
        lines = cloudtrail.records(f"small/{number}", records, account, region, start)
        name = f"{account}_CloudTrail_{region}_20250311T{number // 60 % 24:02d}{number % 60:02d}Z_{number:016d}.json.gz"
        path = folder / "AWSLogs" / account / "CloudTrail" / region / "2025" / "03" / "11" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(_gzip('{"Records":[' + ",".join(lines) + "]}"))
        paths.append(path)
    return paths


@contextmanager
def bucket(folder: Path, files: list[Path], work: Path) -> Iterator[str | None]:
    """URI of the objects on a gateway that is started for it; None where there is none."""
    import shutil

    from tests.servers import rgw

    if any(shutil.which(program) is None for program in rgw.PROGRAMS):
        yield None
        return
    serving = rgw.shared(work / "rgw")
    server = next(serving)
    try:
        keys = {"AWS_ACCESS_KEY_ID": server.access_key, "AWS_SECRET_ACCESS_KEY": server.secret_key}
        os.environ |= {**keys, "AWS_DEFAULT_REGION": "us-east-1", "OCSF_LAKE_S3_ENDPOINT": server.endpoint}
        client, name = server.client(), f"bench-{uuid.uuid4().hex}"
        client.create_bucket(Bucket=name)
        with ThreadPoolExecutor(8) as pool:
            put = [
                pool.submit(
                    client.put_object, Bucket=name, Key=f"raw/{file.relative_to(folder)}", Body=file.read_bytes()
                )
                for file in files
            ]
            for one in put:
                one.result()
        yield f"s3://{name}/raw"
    finally:
        next(serving, None)


def cost(way: str, step: str, uri: str, work: Path) -> tuple[float, float, int]:
    """CPU and wall seconds of a step, and the process's peak memory; runs in a process of its own."""
    if way == "s3fs":
        from ocsf_lake.storage import direct

        direct.spells = lambda _: False
    if step == "ingest":
        begun = _now(whole=True)
        settings = ours.as_the_command(work / f"lake-{uuid.uuid4().hex}")
        from ocsf_lake.ingest import run

        summary = run.ingest([uri], settings, source=SOURCE)
        assert not summary.not_read
    else:
        from ocsf_lake import config
        from ocsf_lake.inputs import listing
        from ocsf_lake.storage.objects import Prefetcher

        access = config.load(lake=str(work / "none")).input_access

        def listed() -> list[list[object]]:
            return [list(page) for page in listing.pages(uri, listing.Calls(), access)]

        refs = [ref for page in listed() for ref in page]
        for ref in refs[:1] if step == "get" else ():
            _read(Prefetcher((), access), ref)
        begun = _now()
        if step == "list":
            listed()
        else:
            opener = Prefetcher(refs, access)
            for ref in refs:
                _read(opener, ref)
    cpu, wall = (end - start for start, end in zip(begun, _now(), strict=True))
    return cpu, wall, peak_rss_bytes()


def _read(opener: object, ref: object) -> None:
    with opener.opened(ref) as file:
        file.read()


def _now(whole: bool = False) -> tuple[float, float]:
    """CPU seconds of this process, none at its begin for the whole of it, and the clock's."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return 0.0 if whole else usage.ru_utime + usage.ru_stime, time.perf_counter()


def run(objects: int, records: int, repeat: int) -> dict[str, Any]:
    """The cheapest of some runs of each way and step.

    Args:
        objects: How many.
        records: Of each object.
        repeat: Runs.
    """
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="ocsf-lake-bench-") as name:
        work = Path(name)
        files = write(work / "logs", objects, records)
        size = sum(file.stat().st_size for file in files)
        with bucket(work / "logs", files, work) as remote:
            if remote is None:
                print("no RADOS gateway here: from the disk alone", file=sys.stderr)
            for step in STEPS:
                for way in WAYS if remote else WAYS[:1]:
                    print(f"running small objects: {way}, {step}", file=sys.stderr)
                    uri = str(work / "logs") if way == "local" else str(remote)
                    cpu, wall, peak = min(in_a_process(cost, way, step, uri, work) for _ in range(repeat))
                    rows.append({"way": way, "step": step, "cpu_seconds": cpu, "wall_seconds": wall, "peak": peak})
    return {"objects": objects, "records_each": records, "gzip_bytes": size, "rows": rows}


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.small_objects", description=__doc__)
    parser.add_argument("--objects", type=int, default=2_000)
    parser.add_argument("--records", type=int, default=40, help="of each object")
    parser.add_argument("--repeat", type=int, default=3, help="the cheapest run counts")
    given = parser.parse_args()
    from bench import tables

    print(tables.small(run(given.objects, given.records, given.repeat)))


def in_a_process(call: Callable[..., T], *given: object) -> T:
    """What a function gives in a process of its own, which has one processor."""
    with get_context("spawn").Pool(1, _bound) as pool:
        return pool.apply(call, given)


def _bound() -> None:
    os.dup2(2, 1)  # libraries may print; standard output belongs to the results
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-1:])


if __name__ == "__main__":
    main()
