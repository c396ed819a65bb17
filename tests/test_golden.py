"""Every sample log maps to the reviewed `<case>.expected.json` beside it. `--update-golden` rewrites them."""

from __future__ import annotations

import json
from collections import Counter
from functools import cache

import pytest

from ocsf_mappers import registry
from tests.support import SAMPLE_COUNTS, SAMPLE_LOGS, Case, Json, as_events, cases, own, pretty, read_cases, rejects
from tests.support import mapped as mapped_samples

CASES = [case for source in registry.names() for case in cases(source)]
VOLATILE = frozenset({"source_object", "source_etag", "mapper_version"})


@cache
def _all_of(source: str) -> dict[str, Json]:
    """What each case of a source maps to; all are mapped together, as ingest does with small objects."""
    mapped = mapped_samples(source)
    found: dict[str, Json] = {case.name: {"events": [], "rejects": [], "dropped": Counter()} for case in cases(source)}
    for event, lake in as_events(mapped.events):
        shown = {name: value for name, value in lake.items() if name not in VOLATILE}
        found[lake["source_object"]]["events"].append({"event": event, "lake": shown})
    for row, shown in zip(mapped.rejects.to_pylist(), rejects(mapped), strict=True):
        found[row["source_object"]]["rejects"].append(shown)
    for raw_object, chunk in own(source):
        found[raw_object.uri]["dropped"].update(chunk.dropped)
    return found


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_sample_log_maps_to_its_golden(case: Case, update_golden: bool) -> None:
    found = json.loads(pretty(_all_of(case.source)[case.name]))
    if update_golden:
        case.expected.write_text(pretty(found), encoding="utf-8")
    assert case.expected.exists(), f"no golden: write it with `pytest {__name__} --update-golden`, then review it"
    assert found == json.loads(case.expected.read_text(encoding="utf-8"))


def test_the_records_that_the_readme_counts_are_there(update_golden: bool) -> None:
    found = {source: _records(source) for source in registry.names()}
    counts = json.loads(SAMPLE_COUNTS.read_text(encoding="utf-8"))
    if update_golden:
        SAMPLE_COUNTS.write_text(pretty({**counts, "own": found}), encoding="utf-8")
    assert json.loads(SAMPLE_COUNTS.read_text(encoding="utf-8"))["own"] == found


def _records(source: str) -> int:
    return sum(chunk.read for _, chunk in read_cases(registry.load(source), cases(source)))


@pytest.mark.parametrize("source", registry.names())
def test_every_golden_belongs_to_a_case(source: str) -> None:
    expected = {case.expected for case in cases(source)}
    assert expected == set((SAMPLE_LOGS / source).glob("*.expected.json")), "a golden without a case, or none of a case"


@pytest.mark.parametrize("source", registry.names())
def test_no_two_cases_share_a_golden(source: str) -> None:
    owners = Counter(case.expected.name for case in cases(source))
    assert [name for name, count in owners.items() if count > 1] == []


@pytest.mark.parametrize("source", registry.names())
def test_the_page_of_a_source_lists_every_case(source: str) -> None:
    page = (SAMPLE_LOGS / source / "SOURCE.md").read_text(encoding="utf-8")
    assert [case.path.name for case in cases(source) if f"`{case.path.name}`" not in page] == []
