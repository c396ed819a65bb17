"""What small objects cost: `python -m bench.small_objects`, 2,000 objects of 40 CloudTrail records by default.

They are read from this machine's disk and from a RADOS gateway that is started for it (where it is installed, as for
the tests). Of S3 there are two ways: `s3`, as users have it, and `s3fs`, with nothing but s3fs. Each figure is of a
process of its own. `list` and `get` begin when everything is imported and connected; `ingest` is all that the process
does, with imports and the compilation of the mapper.
"""

from __future__ import annotations

import argparse
import os
import resource
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path

from bench import cloudtrail

SOURCE = "aws_cloudtrail"
WAYS = ("local", "s3", "s3fs")
STEPS = ("list", "get", "ingest")


def write(folder: Path, objects: int, records: int) -> list[Path]:
    """Writes the objects, gzipped and named as AWS delivers them."""
    from bench.generate import _gzip

    found = []
    for number in range(objects):
        account = cloudtrail.ACCOUNTS[number % len(cloudtrail.ACCOUNTS)]
        region = cloudtrail.REGIONS[number % len(cloudtrail.REGIONS)]
        start = number * 300 % cloudtrail.SPAN_SECONDS
        lines = cloudtrail.records(f"small/{number}", records, account, region, start)
        name = f"{account}_CloudTrail_{region}_20250311T{number // 60 % 24:02d}{number % 60:02d}Z_{number:016d}.json.gz"
        path = folder / "AWSLogs" / account / "CloudTrail" / region / "2025" / "03" / "11" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(_gzip('{"Records":[' + ",".join(lines) + "]}"))
        found.append(path)
    return found


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


def cost(way: str, step: str, uri: str, work: Path) -> tuple[float, float]:
    """CPU and wall seconds of a step; runs in a process of its own."""
    os.dup2(2, 1)  # libraries may print; standard output belongs to the results
    if way == "s3fs":
        from ocsf_lake.storage import direct

        direct.spells = lambda _: False
    if step == "ingest":
        lake = str(work / f"lake-{uuid.uuid4().hex}")
        begun = _now(whole=True)
        from ocsf_lake import config
        from ocsf_lake.ingest import run

        summary = run.ingest([uri], config.load(lake=lake), source=SOURCE)
        assert not summary.not_read
    else:
        from ocsf_lake import config
        from ocsf_lake.inputs import listing
        from ocsf_lake.storage.objects import Opener

        access = config.load(lake=str(work / "none")).input_access

        def listed() -> list[list[object]]:
            return [list(page) for page in listing.pages(uri, listing.Calls(), access)]

        refs = [ref for page in listed() for ref in page]
        for ref in refs[:1] if step == "get" else ():
            _read(Opener((), access), ref)
        begun = _now()
        if step == "list":
            listed()
        else:
            opener = Opener(refs, access)
            for ref in refs:
                _read(opener, ref)
    cpu, wall = (end - start for start, end in zip(begun, _now(), strict=True))
    return cpu, wall


def _read(opener: object, ref: object) -> None:
    with opener.opened(ref) as file:
        file.read()


def _now(whole: bool = False) -> tuple[float, float]:
    """CPU seconds of this process, none at its begin for the whole of it, and the clock's."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return 0.0 if whole else usage.ru_utime + usage.ru_stime, time.perf_counter()


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.small_objects", description=__doc__)
    parser.add_argument("--objects", type=int, default=2_000)
    parser.add_argument("--records", type=int, default=40, help="of each object")
    parser.add_argument("--repeat", type=int, default=3, help="the cheapest run counts")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ocsf-lake-bench-") as name:
        work = Path(name)
        files = write(work / "logs", given.objects, given.records)
        mean = sum(file.stat().st_size for file in files) / len(files)
        print(f"{len(files):,} objects of {given.records} records and {mean:,.0f} bytes\n")
        with bucket(work / "logs", files, work) as remote:
            if remote is None:
                print("no RADOS gateway here: from the disk alone", file=sys.stderr)
            print("| way | step | CPU ms an object | records per CPU second | wall seconds |")
            print("|---|---|---:|---:|---:|")
            for step in STEPS:
                for way in WAYS if remote else WAYS[:1]:
                    uri = str(work / "logs") if way == "local" else str(remote)
                    cpu, wall = min(_in_a_process(way, step, uri, work) for _ in range(given.repeat))
                    rate = given.objects * given.records / cpu
                    each = cpu / given.objects * 1000
                    print(f"| {way} | {step} | {each:.3f} | {rate:,.0f} | {wall:.2f} |", flush=True)


def _in_a_process(*given: object) -> tuple[float, float]:
    with get_context("spawn").Pool(1) as pool:
        found: tuple[float, float] = pool.apply(cost, given)
        return found


if __name__ == "__main__":
    main()
