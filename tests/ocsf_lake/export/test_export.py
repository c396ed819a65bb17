"""Events of the lake in a custom source of Amazon Security Lake: each once, in the form it asks for."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ocsf_lake import config
from ocsf_lake.export import run as export
from ocsf_lake.ingest import run as ingest
from ocsf_lake.lake import opened
from ocsf_lake.ledger.exports import WaitingFile
from ocsf_lake.storage import ordered
from ocsf_mappers.ocsf import events
from tests.ocsf_lake.conftest import call, write
from tests.ocsf_lake.export.conftest import (
    ACCOUNT_CHANGE,
    API,
    PLACE,
    REGION,
    SIGN_IN,
    Clock,
    Make,
    Send,
    downloaded,
    held_places,
    objects,
    places,
    read,
    sent_places,
)
from tests.ocsf_lake.test_ingest import rows
from tests.servers.rgw import S3Server
from tests.support import SAMPLE_LOGS


# -- what arrives -----------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def sampled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake of the project's samples of CloudTrail, three classes in several tables, and of some findings."""
    lake = tmp_path_factory.mktemp("sampled")
    found = config.load(lake=str(lake), workers=1)
    ingest.ingest([str(SAMPLE_LOGS / "aws_cloudtrail")], found, source="aws_cloudtrail")
    findings = [str(SAMPLE_LOGS / "aws_guardduty" / name) for name in ("ec2_port_probe.jsonl", "iam_api_call.jsonl")]
    ingest.ingest(findings, found, source="aws_guardduty")
    return lake


@pytest.mark.slow
@pytest.mark.integration
def test_every_class_of_a_source_arrives_whole_and_valid(
    sampled: Path, tmp_path: Path, s3_owner: S3Server, bucket: str, send: Send
) -> None:
    shutil.copytree(sampled, tmp_path / "lake")
    found = config.load(lake=str(tmp_path / "lake"), export_region=REGION)
    wanted = [("aws_cloudtrail", f"trail-{uid}", uid) for uid in (API, SIGN_IN, ACCOUNT_CHANGE)]
    for source, name, uid in [*wanted, ("aws_guardduty", "guardduty", 2004)]:
        summary = send(found, f"s3://{bucket}", name, str(uid), source)
        downloaded(s3_owner, bucket, tmp_path / "bucket")
        arrived = objects(tmp_path / "bucket", name)
        assert len(arrived) == len(summary.objects) > 0
        folder = rf"region={REGION}/accountId=(\d{{12}}|external)/eventDay=\d{{8}}"
        assert all(re.fullmatch(rf"{folder}/[0-9a-f]{{32}}-\d{{12}}-\d{{9}}\.parquet", path) for path in arrived)
        tables = [read(path) for path in arrived.values()]
        assert {value for table in tables for value in table["class_uid"].to_pylist()} == {uid}
        if source == "aws_cloudtrail":
            assert sorted(place for table in tables for place in places(table)) == held_places(found, uid)
        else:
            assert summary.events == rows(found, "SELECT count(*) FROM guardduty_findings")[0][0] > 0
        for table in tables:
            assert not [finding for finding in events.check_table(table) if not finding.warning]
        # Once more, and in six minutes: nothing is new, so nothing is written.
        assert send(found, f"s3://{bucket}", name, str(uid), source).objects == []
    assert rows(found, "SELECT DISTINCT state FROM ledger_export_shipments") == [("done",)]
    sums = "SELECT (SELECT sum(rows) FROM ledger_export_files), (SELECT sum(rows) FROM ledger_export_objects)"
    assert len(set(*rows(found, sums))) == 1


@pytest.mark.slow
def test_an_event_is_the_lakes_event(filled: Make, send: Send, tmp_path: Path) -> None:
    send(filled())
    arrived = pa.concat_tables(read(path) for path in objects(tmp_path / "bucket").values())
    held = pa.concat_tables(
        pq.read_table(path, partitioning=None) for path in Path(filled().lake).glob("aws/CLOUD_TRAIL_MGMT/**/*.parquet")
    )
    same = [name for name in arrived.column_names if name != "unmapped"]
    assert set(held.column_names) - set(same) == {
        "unmapped", "region", "accountid", "asl_version", "source_object", "source_etag", "source_record",
        "mapper_version",
    }  # fmt: skip
    by_uid = {row["metadata"]["uid"]: row for row in held.to_pylist(maps_as_pydicts="strict")}
    assert len(arrived) == len(by_uid) == 80
    for row in arrived.to_pylist(maps_as_pydicts="strict"):
        other = by_uid[row["metadata"]["uid"]]
        assert {name: row[name] for name in same} == {name: other[name] for name in same}
        kept = {f"ocsf_lake.{name}": str(other[name]) for name in ("source_object", "source_etag", "source_record")}
        assert row["unmapped"] == other["unmapped"] | kept | {"ocsf_lake.mapper_version": other["mapper_version"]}
        assert row["cloud"]["region"] == other["region"]


def test_a_region_that_the_event_does_not_say_is_kept(
    settings: Make, send: Send, tmp_path: Path
) -> None:
    records = [call(1), call(2, region="NOWHERE?")]
    write(tmp_path / "in" / "a.json", json.dumps({"Records": records}))
    found = settings(export_region=REGION)
    ingest.ingest([str(tmp_path / "in")], found, "aws_cloudtrail")
    send(found)
    (path,) = objects(tmp_path / "bucket").values()
    said = [dict(pairs).get("ocsf_lake.region") for pairs in read(path)["unmapped"].to_pylist()]
    assert said == [None, "unknown"]
    assert read(path)["cloud"].combine_chunks().field("region").to_pylist() == ["eu-west-1", "NOWHERE?"]


@pytest.mark.parametrize(("source", "regions"), [("aws_s3_access", {None, "unknown"}), ("aws_cloudfront", {"unknown"})])
def test_tables_that_are_not_security_lakes_are_sent_too(
    source: str, regions: set[str | None], settings: Make, send: Send, tmp_path: Path
) -> None:
    """They have no version of its columns, and that of CloudFront no region."""
    found = settings(export_region=REGION)
    ingest.ingest([str(SAMPLE_LOGS / source)], found, source)
    events_of_a_day = f"SELECT count(*) FROM {source.removeprefix('aws_')} WHERE eventday <> 'unknown'"
    summary = send(found, name="own", event_class=None, source=source)
    assert summary.events == rows(found, events_of_a_day)[0][0] > 0
    arrived = pa.concat_tables(read(path) for path in objects(tmp_path / "bucket", "own").values())
    said = [dict(pairs) for pairs in arrived["unmapped"].to_pylist()]
    assert {item.get("ocsf_lake.region") for item in said} == regions
    assert not any("ocsf_lake.asl_version" in item for item in said)


def test_regions_of_an_account_go_into_one_object_in_the_order_of_time(
    filled: Make, send: Send, tmp_path: Path
) -> None:
    summary = send(filled())
    assert (summary.events, len(summary.objects)) == (80, 2)
    for account, path in zip(("012345678901", "111122223333"), objects(tmp_path / "bucket").items(), strict=True):
        assert path[0].startswith(PLACE.format(region=REGION, account=account, day="20250311"))
        table = read(path[1])
        assert set(table["cloud"].combine_chunks().field("region").to_pylist()) == {"eu-west-1", "us-east-1"}
        times = table["time"].to_pylist()
        assert times == sorted(times)
        assert len(times) == 40


def test_objects_have_the_form_that_security_lake_asks_for(filled: Make, send: Send, tmp_path: Path) -> None:
    send(filled(row_group_rows=30))
    for path in objects(tmp_path / "bucket").values():
        facts = pq.read_metadata(path)
        names = [facts.schema.column(number).path for number in range(facts.num_columns)]
        assert facts.format_version.startswith("2")
        assert [facts.row_group(number).num_rows for number in range(facts.num_row_groups)] == [30, 10]
        for number in range(facts.num_row_groups):
            group = facts.row_group(number)
            assert {group.column(column).compression for column in range(group.num_columns)} == {"ZSTD"}
            assert [names[column.column_index] for column in group.sorting_columns] == ["time"]


@pytest.mark.slow
def test_pages_stay_below_a_megabyte_where_values_are_long(settings: Make, send: Send, tmp_path: Path) -> None:
    # Texts that compress to nothing in the lake and have to fill pages here: 400 of 30 kB each.
    records = [call(number, requestParameters={"text": f"{number:05d}" * 6_000}) for number in range(400)]
    write(tmp_path / "in" / "a.json", json.dumps({"Records": records}))
    found = settings(export_region=REGION)
    ingest.ingest([str(tmp_path / "in")], found, "aws_cloudtrail")
    send(found)
    (path,) = objects(tmp_path / "bucket").values()
    facts = pq.read_metadata(path)
    sizes = {}
    for number in range(facts.num_columns):
        column = facts.row_group(0).column(number)
        sizes[column.path_in_schema] = pages(path, column)
    assert len(sizes["api.request.data"]) > 12
    assert max(size for found in sizes.values() for size in found) <= 1 << 20


def pages(path: Path, column: Any) -> list[int]:
    """Uncompressed sizes of a column chunk's pages, read from their headers: Thrift's compact form."""
    start = column.dictionary_page_offset or column.data_page_offset
    data = path.read_bytes()[start : start + column.total_compressed_size]
    found, at = [], 0
    while at < len(data):
        fields, at = thrift(data, at)
        found.append(fields[2])
        at += fields[3]
    return found


def thrift(data: bytes, at: int) -> tuple[dict[int, Any], int]:
    """The fields of a struct in Thrift's compact form, and where it ends."""

    def number(at: int) -> tuple[int, int]:
        value = shift = 0
        while True:
            byte = data[at]
            value |= (byte & 0x7F) << shift
            at, shift = at + 1, shift + 7
            if byte < 0x80:
                return value, at

    fields: dict[int, Any] = {}
    field = 0
    while data[at]:
        kind, delta = data[at] & 0x0F, data[at] >> 4
        at += 1
        if delta:
            field += delta
        else:
            value, at = number(at)
            field = (value >> 1) ^ -(value & 1)
        if kind in (1, 2):
            fields[field] = kind == 1
        elif kind in (4, 5, 6):
            value, at = number(at)
            fields[field] = (value >> 1) ^ -(value & 1)
        elif kind == 8:
            size, at = number(at)
            at += size
        elif kind == 12:
            fields[field], at = thrift(data, at)
        else:
            raise AssertionError(f"kind {kind} is not expected in a page's header")
    return fields, at + 1


@pytest.mark.slow
def test_what_has_no_account_of_aws_is_external_and_what_has_no_day_stays(
    settings: Make, send: Send, tmp_path: Path
) -> None:
    records = [call(1), call(2, account="our-own"), call(3, account="012345678901")]
    write(tmp_path / "in" / "a.json", json.dumps({"Records": records}))
    found = settings(export_region=REGION)
    assert ingest.ingest([str(tmp_path / "in")], found, "aws_cloudtrail").counts.events == 3
    with opened(found) as lake, lake.ledger.engine.begin() as connection:
        # Validation lets no such time pass today; the lake's layout has a place for it.
        connection.exec_driver_sql(
            "UPDATE files SET partition = replace(partition, '20250311', 'unknown') "
            "WHERE partition LIKE '%012345678901%'"
        )
    for _ in range(2):
        summary = send(found)
        assert summary.left_out == 1
    accounts = [path.split("/")[1] for path in objects(tmp_path / "bucket")]
    assert accounts == ["accountId=111122223333", "accountId=external"]


# -- when -------------------------------------------------------------------------------------------------------------
@pytest.mark.slow
def test_a_partition_gets_an_object_every_five_minutes_at_most(
    settings: Make, send: Send, tmp_path: Path, clock: Clock
) -> None:
    found = settings(export_region=REGION)

    def deliver(number: int, account: str = "111122223333") -> None:
        path = write(tmp_path / "in" / f"{number}.json", json.dumps({"Records": [call(number, account)]}))
        ingest.ingest([str(path)], found, "aws_cloudtrail")

    deliver(1)
    assert send(found).events == 1
    deliver(2)
    deliver(3, "012345678901")
    clock.go(4.9)
    summary = send(found)
    assert (summary.events, summary.waiting) == (1, 1)
    clock.go(0.1)
    deliver(4)
    summary = send(found)
    assert (summary.events, summary.waiting, len(summary.objects)) == (2, 0, 1)
    assert sorted(place[1] for place in sent_places(tmp_path / "bucket")) == [1, 1, 1, 1]
    assert len(objects(tmp_path / "bucket")) == 3


@pytest.mark.slow
def test_many_events_go_on_in_another_object(filled: Make, send: Send, tmp_path: Path) -> None:
    found = filled(export_object_bytes=1, row_group_rows=15)
    summary = send(found)
    assert [(item.first_row, item.rows) for item in summary.objects] == [(0, 15), (15, 15), (30, 10)] * 2
    assert sent_places(tmp_path / "bucket") == held_places(found)
    for account in ("012345678901", "111122223333"):
        written = [read(path) for name, path in objects(tmp_path / "bucket").items() if account in name]
        times = [time for table in written for time in table["time"].to_pylist()]
        assert times == sorted(times)
        assert [len(table) for table in written] == [15, 15, 10]


@pytest.mark.slow
def test_spans_of_time_change_nothing(
    filled: Make, send: Send, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    send(filled(), str(tmp_path / "whole"))
    spans: list[int] = []
    really = ordered.bounds

    def bounds(*given: Any) -> list[int]:
        found = really(*given)
        spans.append(len(found))
        return found

    monkeypatch.setattr(ordered, "bounds", bounds)
    monkeypatch.setattr(ordered, "SPAN_BYTES", 2_000)
    send(filled(), str(tmp_path / "spans"))
    assert min(spans) > 1
    # Names differ, as shipments are named after their place, too.
    by_account = [
        {path.parent.parent.name: path.read_bytes() for path in objects(tmp_path / folder).values()}
        for folder in ("whole", "spans")
    ]
    assert by_account[0] == by_account[1]


def test_a_backlog_is_sorted_in_portions_and_none_of_them_is_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "SHIPMENT_BYTES", 100)
    for sizes in ([30] * 10, [250, 1, 1], [1], [100, 100], [99, 1, 99], []):
        files = [WaitingFile(f"{number}", (), 1, size, "1.1.0") for number, size in enumerate(sizes)]
        groups = list(export._bounded(files))
        assert [file for group in groups for file in group] == files
        assert len(groups) <= 1 or min(sum(file.bytes for file in group) for group in groups) >= 100
    assert [len(group) for group in export._bounded(files)] == []


@pytest.mark.slow
def test_a_backlog_is_sent_whole(
    filled: Make, send: Send, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "SHIPMENT_BYTES", 1)
    files = rows(filled(), "SELECT path FROM ledger_files WHERE class_uid = 6003")
    assert len(send(filled()).objects) == len(files) > 2
    assert sent_places(tmp_path / "bucket") == held_places(filled())
