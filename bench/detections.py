"""What rules cost beside ingest: `python -m bench.detections`.

Ordinary CloudTrail traffic is ingested by one worker, and the rules that come along are asked of what it brought: by
the commands, which begin anew each time; in one process, of small batches one after the other; and of all records of a
large batch. CPU seconds of all threads, each as its share of the ingest beside it.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Any

from bench import generate
from ocsf_lake import config
from ocsf_lake.config import Settings
from ocsf_lake.detections import asked, compiled, grouped, rules, run, scan
from ocsf_lake.ingest import run as ingest
from ocsf_lake.query import query

PHASES: Mapping[str, tuple[Any, str]] = {
    "read and convert": (rules, "load"), "as SQL": (asked, "look"), "which may hold": (scan, "possible"),
    "connect": (query, "connect"), "plan and begin": (query, "stream"), "write findings": (run, "_write"),
    "rules that count": (grouped, "of_correlations"),
}  # fmt: skip
"""Steps of a run, and the function whose CPU seconds they are; rules that count have connections and plans too."""


@contextmanager
def phases() -> Iterator[dict[str, float]]:
    """Adds up what the steps of a run take."""
    spent = dict.fromkeys(PHASES, 0.0)
    kept = [(module, name, getattr(module, name)) for module, name in PHASES.values()]
    for phase, (module, name) in PHASES.items():
        setattr(module, name, _timed(getattr(module, name), phase, spent))
    try:
        yield spent
    finally:
        for module, name, function in kept:
            setattr(module, name, function)


def _timed(function: Callable[..., Any], phase: str, spent: dict[str, float]) -> Callable[..., Any]:
    @wraps(function)
    def timed(*args: Any, **kwargs: Any) -> Any:
        began = time.process_time()
        try:
            result = function(*args, **kwargs)
            return list(result) if phase == "rules that count" else result
        finally:
            spent[phase] += time.process_time() - began

    return timed


def cpu(function: Callable[..., Any], *given: Any) -> tuple[float, Any]:
    """CPU seconds of this process that a call took, and what it gave."""
    began = time.process_time()
    result = function(*given)
    return time.process_time() - began, result


def say(what: str, seconds: float, beside: float | None = None, spent: Mapping[str, float] | None = None) -> None:
    """Prints a line, and one for each step."""
    share = f" {seconds / beside:8.1%} of ingest" if beside else ""
    sys.stdout.write(f"{what:<46}{seconds:8.3f} s{share}\n")
    for phase, part in (spent or {}).items():
        if part >= 0.0005:
            sys.stdout.write(f"    {phase:<42}{part:8.3f} s\n")
    sys.stdout.flush()


def large(folder: Path, records: int) -> None:
    """Many records at once."""
    generate.generate(folder / "logs", generate.Parameters(records, 0, 0, 0))
    settings = _settings(folder / "lake")
    ingested, _ = cpu(ingest.ingest, [str(folder / "logs")], settings)
    say(f"ingest of {records:,} records", ingested)
    chosen = compiled.load(settings.rules, {})
    with phases() as spent:
        seconds, done = cpu(run.detect, settings, chosen)
    say(f"detect, {len(chosen)} rules, {done.new:,} findings", seconds, ingested, spent)


def small(folder: Path, batches: int, size: int) -> None:
    """Small batches, one after the other in one process."""
    settings = _settings(folder / "lake of small ones")
    later: list[tuple[float, float]] = []
    for number, file in enumerate(batch_files(folder, batches, size), 1):
        ingested, _ = cpu(ingest.ingest, [str(file)], settings, "aws_cloudtrail")
        with phases() as spent:
            loaded, chosen = cpu(compiled.load, settings.rules, {})
            seconds, _ = cpu(run.detect, settings, chosen)
        if number <= 2:
            say(f"batch {number}: ingest of {size} records", ingested)
            say(f"batch {number}: rules", loaded, ingested)
            say(f"batch {number}: detect", seconds, ingested, spent)
        else:
            later.append((ingested, loaded + seconds))
    if later:
        mean_ingest, mean = (sum(column) / len(later) for column in zip(*later, strict=True))
        say(f"batches 3 to {batches}, each: ingest", mean_ingest)
        say(f"batches 3 to {batches}, each: rules and detect", mean, mean_ingest)


def commands(folder: Path, size: int) -> None:
    """The commands, each a process of its own: rules are converted by the first and kept for the others."""
    lake = str(folder / "lake of commands")
    for number, file in enumerate(batch_files(folder, 3, size), 1):
        ingested = process("ingest", "aws_cloudtrail", str(file), "--lake", lake, cache=folder / "cache")
        detected = process("detect", "--rules", "pack", "--lake", lake, cache=folder / "cache")
        say(f"command {number}: ocsf-lake ingest, {size} records", ingested)
        say(f"command {number}: ocsf-lake detect", detected, ingested)


def process(*arguments: str, cache: Path) -> float:
    """CPU seconds of a command."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = {**os.environ, compiled.VARIABLE: str(cache)}
    program = [sys.executable, "-m", "ocsf_lake", *arguments]
    done = subprocess.run(program, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def batch_files(folder: Path, batches: int, size: int) -> list[Path]:
    """Small objects of ordinary traffic."""
    logs = generate.generate(folder / f"logs of {batches}", generate.Parameters(batches * size, 0, 0, 0))
    texts = (gzip.decompress(path.read_bytes()) for path in logs["cloudtrail"].files)
    records = [record for text in texts for record in json.loads(text)["Records"]]
    files = [folder / f"{number} of {batches}.json.gz" for number in range(batches)]
    for number, file in enumerate(files):
        some = {"Records": records[number * size : (number + 1) * size]}
        file.write_bytes(gzip.compress(json.dumps(some).encode()))
    return files


def _settings(lake: Path) -> Settings:
    return config.load(lake=str(lake), workers=1, rules=("pack",))


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=240_000, help="of the large batch; 0 leaves it out")
    parser.add_argument("--batches", type=int, default=6, help="small ones; 0 leaves them out")
    parser.add_argument("--size", type=int, default=40, help="records of a small batch")
    given = parser.parse_args()
    sys.stdout.write(f"load average before all {os.getloadavg()[0]:.2f}, {os.cpu_count()} processors\n")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ[compiled.VARIABLE] = str(folder / "cache of this process")
        if given.batches:
            commands(folder, given.size)
            small(folder, given.batches, given.size)
        if given.records:
            large(folder, given.records)


if __name__ == "__main__":
    main()
