"""Every sample log maps to the reviewed `<case>.expected.json` beside it. `--update-golden` rewrites them."""

from __future__ import annotations

import json
from collections import Counter
from functools import cache

import pytest

from ocsf_mappers import registry
from ocsf_mappers.testing.coverage import coverage
from ocsf_mappers.testing.samples import goldens
from tests.support import SAMPLE_COUNTS, SAMPLE_LOGS, Case, Json, cases, own, pretty, read_cases
from tests.support import mapped as mapped_samples

CASES = [case for source in registry.names() for case in cases(source)]
NOTHING = {"events": [], "rejects": [], "dropped": {}}


@cache
def _all_of(source: str) -> dict[str, Json]:
    """What each case of a source maps to; all are mapped together, as ingest does with small objects."""
    return goldens(mapped_samples(source), own(source))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_sample_log_maps_to_its_golden(case: Case, update_golden: bool) -> None:
    found = _all_of(case.source).get(case.name, NOTHING)
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


def test_the_share_that_is_unmapped_is_what_the_readme_says(update_golden: bool) -> None:
    found = {source: _unmapped_percent(source) for source in registry.names()}
    counts = json.loads(SAMPLE_COUNTS.read_text(encoding="utf-8"))
    if update_golden:
        SAMPLE_COUNTS.write_text(pretty({**counts, "unmapped_percent": found}), encoding="utf-8")
    assert json.loads(SAMPLE_COUNTS.read_text(encoding="utf-8"))["unmapped_percent"] == found


def _unmapped_percent(source: str) -> int:
    """Of the values in the sample records that become events, the share that ends in `unmapped`."""
    seen = coverage(registry.load(source), own(source), mapped_samples(source))
    return round(100 * seen.unmapped.total() / seen.members.total())


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
