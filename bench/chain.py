"""What the chain and redaction cost beside ingest, and how fast a lake is verified: `python -m bench.chain`.

Invented logs are ingested by one worker. The time spent on hiding by the default policy, hashing files, records in
the ledger, and putting them into the lake is printed beside that of the whole. Then the lake is held against its
chain, with all its files.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

from bench import generate
from ocsf_lake import config
from ocsf_lake.ingest import attempt
from ocsf_lake.ingest import run as ingest
from ocsf_lake.ledger import chain
from ocsf_lake.storage import parquet
from ocsf_lake.upkeep import verify


def _timed(module: Any, name: str, spent: dict[str, float]) -> None:
    """Adds up the time of all calls of a function."""
    function: Callable[..., Any] = getattr(module, name)

    @wraps(function)
    def timed(*args: Any, **kwargs: Any) -> Any:
        began = time.perf_counter()
        try:
            return function(*args, **kwargs)
        finally:
            spent[name] = spent.get(name, 0.0) + time.perf_counter() - began

    setattr(module, name, timed)


def main() -> None:
    """Ingests, prints what the chain took, verifies."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=60_000, help="of CloudTrail; flow logs have eight times as many")
    given = parser.parse_args()
    spent: dict[str, float] = {}
    _timed(attempt.Attempt, "_redacted", spent)
    _timed(parquet, "checksum", spent)
    _timed(chain, "record_batch", spent)
    _timed(chain, "publish", spent)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        logs = generate.Parameters(given.records, given.records * 8, route53_queries=0, guardduty_findings=0)
        generate.generate(folder / "logs", logs)
        settings = config.load(lake=str(folder / "lake"), workers=1, batch_bytes=2 << 20)
        began, cpu = time.perf_counter(), time.process_time()
        done = ingest.ingest([str(folder / "logs")], settings)
        whole, whole_cpu = time.perf_counter() - began, time.process_time() - cpu
        records = [path.stat().st_size for path in (folder / "lake" / chain.FOLDER).iterdir()]
        lake = [path.stat().st_size for path in (folder / "lake").rglob("*.parquet")]
        sys.stdout.write(
            f"{done.counts.read:,} records, {len(lake):,} files of {sum(lake) / 1e6:.1f} MB, {len(records)} records of "
            f"the chain of {sum(records) / 1e3:.1f} kB; {whole:.1f} s, {whole_cpu:.1f} s CPU\n"
        )
        for part, seconds in spent.items():
            sys.stdout.write(f"  {part}: {seconds:.3f} s, {seconds / whole:.2%} of the whole\n")
        summary = verify.Summary()
        began = time.perf_counter()
        faults = list(verify.verify(settings, verify.Asked(), summary))
        taken = time.perf_counter() - began
        sys.stdout.write(
            f"verified: {summary.files:,} files, {summary.bytes / 1e6:.1f} MB in {taken:.2f} s, {len(faults)} faults\n"
        )


if __name__ == "__main__":
    main()
