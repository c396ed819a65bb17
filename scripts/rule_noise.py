"""Counts what the rules that come along find, and writes the table of docs/detections.md.

python scripts/rule_noise.py LAKE_OF_SAMPLES LAKE_OF_ORGANIZATION, lakes into which the published samples and
sample_logs/organization were ingested.
"""

from __future__ import annotations

import re
import sys
from datetime import UTC, datetime
from pathlib import Path

from ocsf_lake import config
from ocsf_lake.detections import pack, rules, scan
from ocsf_lake.detections.rules import Rule
from ocsf_lake.detections.statements import Span

PAGE = Path(__file__).resolve().parents[1] / "docs" / "detections.md"
BEGIN, END = "<!-- rules: begin -->\n", "<!-- rules: end -->\n"
INTRUSION = Span(*(int(datetime(2026, 3, 18, hour, tzinfo=UTC).timestamp() * 1000) for hour in (2, 4)))
"""When the invented organisation's intruder is at work."""


def main(samples: str, organization: str) -> None:
    """Counts, and writes the table."""
    loaded = rules.load([Path(pack.NAME)], {})
    of_samples = _counts(samples, loaded)
    within, all_of_it = _counts(organization, loaded, INTRUSION), _counts(organization, loaded)
    rows = [
        f"| `{rule.stem}` | {rule.level} | {_log(rule)} | {of_samples[rule.stem]} | {within[rule.stem]} | "
        f"{all_of_it[rule.stem] - within[rule.stem]} |"
        for rule in loaded
        if not rule.is_silent
    ]
    heads = ("rule", "level", "log", "samples", "organisation: intrusion", "organisation: else")
    table = [f"| {' | '.join(heads)} |", "|---|---|---|---|---|---|", *rows]
    text = "".join(f"{line}\n" for line in table)
    page = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(re.sub(f"{BEGIN}.*{END}", f"{BEGIN}{text}{END}", page, flags=re.DOTALL), encoding="utf-8")


def _counts(lake: str, loaded: list[Rule], span: Span | None = None) -> dict[str, int]:
    counts = scan.counts(config.load(lake=lake), loaded, span or Span())
    assert not [one.reason for one in counts if one.reason]
    return {one.rule.stem: one.events for one in counts if not one.rule.is_silent}


def _log(rule: Rule) -> str:
    logs = [one.log.name for one in (rule.correlation.bases if rule.correlation else [rule]) if one.log]
    return ", ".join(dict.fromkeys(logs))


if __name__ == "__main__":
    main(*sys.argv[1:])
