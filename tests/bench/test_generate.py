"""The benchmark's logs: the same each time, and of a kind that maps without a record in quarantine."""

import gzip
import json
from pathlib import Path

import pytest

from bench import guardduty, ours, route53
from bench.generate import Data, Parameters, generate
from bench.ways import SOURCES

SMALL = Parameters(300, 400, 500, 80)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Data:
    return generate(tmp_path_factory.mktemp("logs"), SMALL)


@pytest.mark.slow
def test_the_same_parameters_give_the_same_bytes(data: Data, tmp_path: Path) -> None:
    again = generate(tmp_path / "logs", SMALL)
    for source, logs in data.items():
        assert logs.files
        assert [file.name for file in logs.files] == [file.name for file in again[source].files]
        assert [file.read_bytes() for file in logs.files] == [file.read_bytes() for file in again[source].files]


def test_another_seed_gives_other_bytes() -> None:
    where = (50, "111122223333", "eu-west-1", 0)
    for lines in (route53.lines, guardduty.lines):
        assert lines("a", *where) == lines("a", *where) != lines("b", *where)


@pytest.mark.slow
@pytest.mark.parametrize("source", SOURCES)
def test_every_record_becomes_an_event(source: str, data: Data, tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    logs = data[source]
    assert ours.ingest(logs.files, tmp_path, SOURCES[source]) == logs.records
    files = [file for file in tmp_path.rglob("*.parquet") if "region=" in str(file)]
    assert sum(pq.read_metadata(file).num_rows for file in files) == logs.records


def test_a_finding_keeps_its_shape_and_changes_its_identity() -> None:
    lines = guardduty.lines("a", 80, "444455556666", "us-west-2", 0)
    findings = [json.loads(line) for line in lines]
    assert len({finding["id"] for finding in findings}) == len(findings)
    assert all(finding["arn"].endswith(finding["id"]) for finding in findings)
    assert {finding["accountId"] for finding in findings} == {"444455556666"}
    samples = [json.loads(line) for case in guardduty.CASES for line in _sample(case)]
    assert [finding["type"] for finding in findings[: len(samples)]] == [sample["type"] for sample in samples]
    assert all(finding["createdAt"] <= finding["updatedAt"] for finding in findings)


def _sample(case: str) -> list[str]:
    return (guardduty.SAMPLES / f"{case}.jsonl").read_text().splitlines()


def test_queries_are_in_the_order_of_their_times_and_of_one_vpc(data: Data) -> None:
    for file in data["route53"].files:
        queries = [json.loads(line) for line in gzip.decompress(file.read_bytes()).splitlines()]
        times = [query["query_timestamp"] for query in queries]
        assert times == sorted(times)
        assert {query["vpc_id"] for query in queries} == {file.name.partition("_")[0]}
        assert {"NOERROR", "NXDOMAIN"} <= {query["rcode"] for query in queries}
