"""docs/mistakes.md: each mistake, made in a mapper, is answered as the page says; and what else a source may lack."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from ocsf_mappers import registry
from ocsf_mappers.testing import Report, check, conform
from ocsf_mappers.testing.conformance import changes, differences
from tests.support import PROJECT

PAGE = (PROJECT / "docs" / "mistakes.md").read_text(encoding="utf-8")
TABLE = re.findall(r"^\| ([^|]+) \| `(.+?)` \| `(.+?)` \|$", PAGE, re.MULTILINE)
ROWS = {
    "http_response.code": '"http_response.code": col.code',
    "dst_endpoint.svc_name": '"dst_endpoint.svc_name": "acme"',
    "src_endpoint.ip": '"src_endpoint.ip": col.client',
}
SOURCE = """
from ocsf_mappers import JSON, EventMap, JsonRecords, Mapper, Product, coalesce, col, sql, text_struct, when
import pyarrow as pa

MAPPER = Mapper(
    name="acme_log",
    product=Product("Log", vendor="Acme"),
    readers=[JsonRecords(lists=())],
    record=pa.struct([*text_struct("at client verb code hits"), pa.field("tags", JSON)]),
    events=[
        EventMap("http_activity", profiles=(), fields={
            "activity_id": "Get",
            "severity_id": "Informational",
            "time": col.at.iso8601(),
            "http_request.http_method": "GET",
            ROWS
        }),
    ],
)
"""
RECORD = {"at": "2026-03-16T10:00:00Z", "client": "10.0.0.7", "verb": "get", "code": 200, "tags": ["a"], "hits": 1}


def made(tmp_path: Path, row: str = "", text: str = SOURCE, record: object = RECORD) -> Report:
    """What is said of a source with one more row; it takes the place of another one of the same attribute."""
    folder = tmp_path / "acme_log"
    (folder / "samples").mkdir(parents=True)
    path = row.partition(":")[0].strip('"')
    rows = [*(given for name, given in ROWS.items() if name != path), row]
    (folder / "__init__.py").write_text(text.replace("ROWS", ",\n            ".join(filter(None, rows)) + ","))
    (folder / "samples" / "a.jsonl").write_text(f"{json.dumps(record)}\n")
    registry.use_file(folder / "__init__.py")
    check("acme_log", update_golden=True)
    return check("acme_log")


@pytest.mark.slow
def test_the_mapper_that_mistakes_are_put_into_has_none(tmp_path: Path) -> None:
    assert made(tmp_path).problems == []


def test_the_page_has_every_row() -> None:
    assert len(TABLE) == len(re.findall(r"^\| ", PAGE, re.MULTILINE)) - 1 > 10


@pytest.mark.parametrize(("row", "message"), [item[1:] for item in TABLE], ids=[item[0] for item in TABLE])
def test_a_mistake_is_answered_as_the_page_says(tmp_path: Path, row: str, message: str) -> None:
    report = made(tmp_path, row)
    said = [*report.problems, *report.quarantined]
    assert any(message in line for line in said), said
    assert report.problems


def test_mistakes_beside_rows_are_answered_too(tmp_path: Path) -> None:
    cases = {
        '            "severity_id": "Informational",\n': ("", "severity_id is not mapped"),
        'table="x"': ('table="vpc_flw"', "the lake has no table 'vpc_flw'; did you mean 'vpc_flow'?"),
        'drop="x"': ('drop={"hit": "it is always one"}', "did you mean 'hits'"),
        'observables="x"': ('observables={"src_endpoint.ip": "IP Adress"}', "did you mean 'IP Address'"),
        'duplicate_key="x"': ('duplicate_key=("metadata.uid",)', "the table has no column 'metadata.uid'"),
        "hits": ("Client", "differ by capitals alone"),
    }
    for number, (old, (new, message)) in enumerate(cases.items()):
        beside = SOURCE.replace("    events=[", f"    {new},\n    events=[")
        text = SOURCE.replace(old, new, 1) if old in SOURCE else beside
        report = made(tmp_path / str(number), text=text)
        assert any(message in line for line in report.problems), (message, report.problems)


@pytest.mark.slow
def test_a_sample_in_no_format_of_the_source_is_named(tmp_path: Path) -> None:
    made(tmp_path)
    (tmp_path / "acme_log" / "samples" / "b.log").write_text("no JSON\n")
    assert any(line.startswith("b.log: it is in none of the formats") for line in check("acme_log").problems)


@pytest.mark.slow
def test_conform_fails_with_all_that_is_wrong(tmp_path: Path) -> None:
    made(tmp_path)
    conform(tmp_path / "acme_log")
    golden = tmp_path / "acme_log" / "samples" / "a.expected.json"
    golden.write_text(golden.read_text().replace("10.0.0.7", "10.0.0.8"))
    with pytest.raises(AssertionError, match=r'acme_log: \d to fix\na.jsonl: record 1: .*"10.0.0.8" -> "10.0.0.7"'):
        conform(tmp_path / "acme_log")


def test_goldens_are_compared_attribute_by_attribute() -> None:
    def golden(event: dict[str, object] | None, reason: str = "") -> dict[str, object]:
        events = [] if event is None else [{"event": {"class_name": "A", **event}, "lake": {"source_record": 1}}]
        rejects = [{"record": 1, "reason": reason, "raw": ""}] if reason else []
        return {"events": events, "rejects": rejects, "dropped": {}}

    assert list(changes(golden({"x": {"y": 1}}), golden({"x": {"y": 2, "z": [3]}}))) == [
        ("A", "x.y", "1", "2"), ("A", "x.z[0]", "", "3"),
    ]  # fmt: skip
    assert ("quarantine", "record", "A", "quarantine") in list(changes(golden({}), golden(None, "bad")))
    assert differences(golden({}), golden({})) == []
