"""Renders results into the documentation: what stands between `<!-- bench: NAME -->` and `<!-- /bench -->`."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from bench import chart, tables
from bench import scale_tables as scale
from bench.ways import OURS

RESULTS, CHART = "benchmarks.json", "benchmarks.svg"
PARTS = ("ways", "stages", "small", "cores", "start", "requests", "ledger")
"""What the pages need; `ten` is shown where it was measured."""
BLOCK = re.compile(r"(<!-- bench: (\w+) -->\n).*?(<!-- /bench -->)", re.DOTALL)
BLOCKS: dict[str, Callable[[dict[str, Any]], str]] = {
    "summary": tables.summary, "machine": tables.machine, "ways": tables.ways,
    "stages": tables.stages, "cores": tables.cores,
    "start": tables.start, "requests": tables.requests, "ledger": tables.ledger,
    "small": lambda results: tables.small(results["small"]),
    "ten": lambda results: tables.times(results) if "ten" in results else "Not measured this time (`--ten`).",
    "prices": scale.prices, "terabytes": scale.terabytes, "bill": scale.bill, "runs": scale.runs,
    "size": scale.ledger_size, "workers": scale.workers, "organisation": scale.organisation, "backfill": scale.backfill,
}  # fmt: skip


def render(docs: Path, results: dict[str, Any]) -> Iterator[tuple[Path, str]]:
    """Each file that shows results, and what it should hold.

    Args:
        docs: The folder docs/, beside README.md.
        results: The JSON of `python -m bench`.

    Raises:
        KeyError: A part that a page needs was not measured.
        ValueError: A page names a block that there is none of.
    """
    for page in (docs.parent / "README.md", docs / "benchmarks.md", docs / "scale.md"):
        yield page, filled(page.read_text(encoding="utf-8"), results)
    yield docs / CHART, drawn(results)
    yield docs / RESULTS, json.dumps(results, indent=1) + "\n"


def filled(text: str, results: dict[str, Any]) -> str:
    """A page with its blocks rendered anew."""

    def block(match: re.Match[str]) -> str:
        name = match.group(2)
        if name not in BLOCKS:
            raise ValueError(f"there is no block {name!r}; there are {', '.join(BLOCKS)}")
        return f"{match.group(1)}\n{BLOCKS[name](results)}\n\n{match.group(3)}"

    return BLOCK.sub(block, text)


def drawn(results: dict[str, Any]) -> str:
    """The chart of all ways and sources."""
    panels = []
    for source, title in tables.TITLES.items():
        bars = [
            chart.Bar(tables.CAPTIONS[row["way"]].removesuffix(", about 25 fields"),
                      row["cost"]["records"] / row["cost"]["cpu_seconds"], row["way"] == OURS)
            for row in results["ways"] if row["source"] == source and row["cost"]
        ]  # fmt: skip
        if bars:
            panels.append(chart.Panel(title, bars))
    return chart.bars("Records a CPU second, on one processor", panels)
