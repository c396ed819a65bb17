"""Which requests of S3 an ingest makes, counted by a proxy in front of a RADOS gateway.

Logs and lake are both on S3. Three ingests tell the requests of an object, of a batch and of a run apart; a fourth
finds nothing new, and a fifth does so in the way of larger folders: those that take more than a few calls are not
listed whole again.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from bench import small_objects

CASES = {"one batch": (100, 1), "one batch, full": (1_000, 1), "ten batches": (1_000, 10)}
"""What is ingested: objects and batches."""
AGAIN, BY_DAY = "again, nothing new", "again, nothing new, by AWS's folders of days"
"""Then the last of them twice more; the second time listed as folders with more objects are."""


def run(records: int, cases: Mapping[str, tuple[int, int]] = CASES) -> list[dict[str, Any]]:
    """The requests of each case; none where no gateway can be started.

    Args:
        records: Of each object.
        cases: What is ingested.
    """
    from tests.servers import between

    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="ocsf-lake-bench-") as name:
        work = Path(name)
        numbers = sorted({objects for objects, _ in cases.values()})
        logs = work / "logs"
        files = [file for number in numbers for file in small_objects.write(logs / str(number), number, records)]
        with small_objects.bucket(logs, files, work) as raw:
            if raw is None:
                print("no RADOS gateway here: no requests are counted", file=sys.stderr)
                return []
            with between.running(os.environ["OCSF_LAKE_S3_ENDPOINT"]) as proxy:
                os.environ["OCSF_LAKE_S3_ENDPOINT"] = proxy.endpoint
                for case, (objects, batches) in cases.items():
                    print(f"running requests: {case}", file=sys.stderr)
                    lake = raw.removesuffix("raw") + f"lake/{len(rows)}"
                    where = (f"{raw}/{objects}", lake, str(work / str(len(rows))), objects // batches)
                    for label in (case, AGAIN, BY_DAY) if case == list(cases)[-1] else (case,):
                        proxy.asked.clear()
                        written = small_objects.in_a_process(_ingest, *where, label == BY_DAY)
                        asked = Counter(kind(one.method, one.path) for one in proxy.asked)
                        rows.append({
                            "case": label, "objects": objects, "batches": batches, "files": written,
                            "asked": dict(sorted(asked.items())),
                        })  # fmt: skip
    return rows


def _ingest(raw: str, lake: str, state: str, batch_objects: int, by_day: bool) -> int:
    from ocsf_lake import config
    from ocsf_lake.ingest import relisting
    from ocsf_lake.ingest import run as lake_ingest

    if by_day:
        relisting.FEW_CALLS = 0
    settings = config.load(lake=lake, state=Path(state), batch_objects=batch_objects)
    summary = lake_ingest.ingest([raw], settings, source=small_objects.SOURCE)
    assert not summary.not_read
    return sum(source.files for source in summary.sources.values())


def kind(method: str, path: str) -> str:
    """Which request it is, and of what: `LIST logs`, `GET logs`, `PUT lake`, `HEAD bucket`."""
    url = urlsplit(path)
    asked = parse_qs(url.query, keep_blank_values=True)
    key = url.path.strip("/").partition("/")[2] or asked.get("prefix", [""])[0]
    of = {"raw": "logs", "lake": "lake"}.get(key.partition("/")[0], "bucket")
    if method == "GET" and ("list-type" in asked or "versions" in asked):
        return f"LIST {of}"
    return f"{method} {of}"
