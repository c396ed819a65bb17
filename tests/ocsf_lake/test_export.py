"""Events of the lake in a custom source of Amazon Security Lake: each once, in the form it asks for."""

from __future__ import annotations

import json
import re
import secrets
import shutil
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ocsf_lake import config
from ocsf_lake.config import Settings
from ocsf_lake.export import custom_source, shipment
from ocsf_lake.export import run as export
from ocsf_lake.export.run import Summary
from ocsf_lake.ingest import batch
from ocsf_lake.ingest import run as ingest
from ocsf_lake.lake import opened
from ocsf_lake.ledger.exports import ShippedObject, WaitingFile
from ocsf_lake.ledger.results import CountError
from ocsf_lake.query import query
from ocsf_lake.storage import fetched, ordered, s3, transfer
from ocsf_lake.storage.fetched import LakeFileError
from ocsf_lake.storage.s3 import Access
from ocsf_lake.storage.store import Store
from ocsf_lake.upkeep import check, replay
from ocsf_mappers.errors import ConfigError, WriteError
from ocsf_mappers.ocsf import events
from tests.ocsf_lake.conftest import BOUNDS, call, write
from tests.ocsf_lake.killed import KilledError
from tests.ocsf_lake.test_ingest import rows
from tests.ocsf_lake.test_replay import MENDED, mend  # noqa: F401 - a fixture
from tests.servers.postgres import Postgres
from tests.servers.rgw import S3Server
from tests.support import SAMPLE_LOGS, often

Make = Callable[..., Settings]
REGION = "eu-central-1"
NOON = datetime(2025, 3, 12, 12, tzinfo=UTC)
PLACE = "region={region}/accountId={account}/eventDay={day}/"
API, SIGN_IN, ACCOUNT_CHANGE = 6003, 3002, 3001


class Clock:
    """A clock that stands still until it is told to go."""

    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> datetime:
        return self.now

    def go(self, minutes: float) -> None:
        self.now += timedelta(minutes=minutes)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def filled(whole: Path, settings: Make) -> Make:
    """Settings of a lake of its own with 80 calls and 60 flows of two accounts."""

    def make(**more: object) -> Settings:
        found = settings(**{"export_region": REGION, **more})
        if not Path(found.lake).exists():
            shutil.copytree(whole, found.lake)
        return found

    return make


@pytest.fixture
def send(tmp_path: Path, clock: Clock) -> Callable[..., Summary]:
    """Sends API calls to the custom source `calls` in a folder, or something else somewhere else."""

    def run(
        settings: Settings, bucket: str | None = None, name: str = "calls", event_class: str | None = str(API),
        source: str = "aws_cloudtrail",
    ) -> Summary:  # fmt: skip
        return export.export(settings, source, bucket or str(tmp_path / "bucket"), name, event_class, clock=clock)

    return run


Send = Callable[..., Summary]


def objects(bucket: Path, name: str = "calls") -> dict[str, Path]:
    """The objects of a custom source, by name below it."""
    root = bucket / "ext" / name
    return {path.relative_to(root).as_posix(): path for path in sorted(root.rglob("*")) if path.is_file()}


def places(found: pa.Table) -> list[tuple[str, int]]:
    """Object and number of the record of each event, as its `unmapped` says."""
    said = [dict(pairs) for pairs in found["unmapped"].to_pylist()]
    return [(item["ocsf_lake.source_object"], int(item["ocsf_lake.source_record"])) for item in said]


def read(path: Path) -> pa.Table:
    return pq.read_table(path, partitioning=None)


def sent_places(bucket: Path, name: str = "calls") -> list[tuple[str, int]]:
    return sorted(place for path in objects(bucket, name).values() for place in places(read(path)))


def held_places(settings: Settings, class_uid: int = API) -> list[tuple[object, ...]]:
    """Object and number of the record of each event of a class in the lake's tables of CloudTrail."""
    names = ("cloud_trail_mgmt", "s3_data", "lambda_execution", "cloud_trail_data", "cloud_trail_insight",
             "cloud_trail_network")  # fmt: skip
    said = [f"SELECT source_object, source_record FROM {name} WHERE class_uid = {class_uid}" for name in names]
    return sorted(rows(settings, " UNION ALL ".join(said)))


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


def downloaded(server: S3Server, bucket: str, to: Path, **who: str) -> dict[str, dict[str, Any]]:
    """Every object of a bucket below a folder; gives what the server says of each."""
    client = server.client(**who)
    found = {}
    for item in server.client().list_objects_v2(Bucket=bucket).get("Contents", []):
        answer = client.get_object(Bucket=bucket, Key=item["Key"])
        path = to / item["Key"]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(answer["Body"].read())
        found[item["Key"]] = answer
    return found


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


# -- interrupted ------------------------------------------------------------------------------------------------------
def die_at(step: str, nth: int = 1) -> Callable[[str, str], None]:
    left = [nth]

    def failpoint(found: str, _: str) -> None:
        if found == step:
            left[0] -= 1
            if left[0] == 0:
                raise KilledError

    return failpoint


BOOKS = (
    "SELECT id, account, day, state, rows FROM ledger_export_shipments",
    "SELECT path, shipment_id, rows FROM ledger_export_files",
    "SELECT shipment_id, first_row, rows, bytes, sha256, written_at IS NULL FROM ledger_export_objects",
)


def books(settings: Settings) -> list[list[tuple[object, ...]]]:
    with query.connected(settings, *BOOKS) as connection:
        return [connection.sql(f"{sql} ORDER BY ALL").fetchall() for sql in BOOKS]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("step", "nth"),
    often([("planned", 1), ("noted", 3), ("put", 1), ("shipped", 1)], [("noted", 3)]),
)
def test_an_interrupted_export_goes_on_with_the_same_objects(
    step: str, nth: int, filled: Make, tmp_path: Path, clock: Clock, send: Send, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = filled(export_object_bytes=1, row_group_rows=15)
    with monkeypatch.context() as patched:
        patched.setattr(shipment, "failpoint", die_at(step, nth))
        patched.setattr(export, "failpoint", die_at(step, nth))
        with pytest.raises(KilledError):
            send(found)
    before = {name: (path.stat().st_ino, path.stat().st_mtime_ns) for name, path in
              objects(tmp_path / "bucket").items()}  # fmt: skip
    # More arrives in the meantime: it does not get into what was planned.
    late = write(tmp_path / "late.json", json.dumps({"Records": [call(600), call(601, "012345678901")]}))
    ingest.ingest([str(late)], found, "aws_cloudtrail")
    send(found)
    clock.go(5)
    send(found)
    after = objects(tmp_path / "bucket")
    assert {name: (after[name].stat().st_ino, after[name].stat().st_mtime_ns) for name in before} == before
    assert sent_places(tmp_path / "bucket") == held_places(found)
    assert not list((tmp_path / "bucket").rglob(".*"))
    assert rows(found, "SELECT count(*) FROM ledger_export_objects WHERE written_at IS NULL") == [(0,)]
    assert send(found).objects == []


@pytest.mark.slow
def test_an_object_that_may_be_there_keeps_its_rows_whatever_a_size_comes_to_mean(
    filled: Make, tmp_path: Path, send: Send, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after an upgrade that compresses better: the object that was put ends where it ended."""
    with monkeypatch.context() as patched:
        patched.setattr(shipment, "failpoint", die_at("put"))
        with pytest.raises(KilledError):
            send(filled(export_object_bytes=1, row_group_rows=15))
    send(filled(compression_level=9))
    assert [path.name.split("-", 1)[1] for path in objects(tmp_path / "bucket").values()] == [
        "000000000000-000000015.parquet", "000000000015-000000025.parquet", "000000000000-000000040.parquet"
    ]  # fmt: skip
    assert sent_places(tmp_path / "bucket") == held_places(filled())
    sums = {path.name: fetched.sha256(path) for path in objects(tmp_path / "bucket").values()}
    assert {str(uri).rpartition("/")[2]: said for uri, said in rows(
        filled(), "SELECT uri, sha256 FROM ledger_export_objects")} == sums  # fmt: skip


@pytest.mark.slow
@pytest.mark.integration
@pytest.mark.parametrize("step", ["noted", "put"])
def test_objects_on_s3_are_put_once(
    step: str, filled: Make, tmp_path: Path, s3_owner: S3Server, bucket: str, send: Send,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    puts: list[str] = []
    really = transfer._put

    def put(fs: Any, path: str, *given: Any, **condition: str) -> None:
        really(fs, path, *given, **condition)
        puts.append(path)

    monkeypatch.setattr(transfer, "_put", put)
    with monkeypatch.context() as patched:
        patched.setattr(shipment, "failpoint", die_at(step))
        with pytest.raises(KilledError):
            send(filled(), f"s3://{bucket}")
    send(filled(), f"s3://{bucket}")
    assert len(puts) == len(set(puts)) == 2
    downloaded(s3_owner, bucket, tmp_path / "bucket")
    assert sent_places(tmp_path / "bucket") == held_places(filled())


@pytest.mark.slow
def test_objects_that_do_not_have_all_rows_are_not_sent(
    filled: Make, tmp_path: Path, send: Send, monkeypatch: pytest.MonkeyPatch
) -> None:
    group = ordered.Rows.group
    lossy = [True]

    def lose(self: Any, most: int | None) -> pa.Table:
        found = group(self, most)
        return found.slice(1) if lossy[0] and len(found) else found

    monkeypatch.setattr(ordered.Rows, "group", lose)
    with pytest.raises(CountError, match="have 40 rows and its objects 39"):
        send(filled())
    assert objects(tmp_path / "bucket") == {}
    lossy[0] = False
    send(filled())
    assert sent_places(tmp_path / "bucket") == held_places(filled())


# -- at once ----------------------------------------------------------------------------------------------------------
def test_of_two_exports_at_once_one_does_nothing(
    filled: Make, tmp_path: Path, send: Send, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = filled()
    inside, go_on = threading.Event(), threading.Event()

    def wait(step: str, _: str) -> None:
        if step == "noted":
            inside.set()
            assert go_on.wait(60)

    monkeypatch.setattr(shipment, "failpoint", wait)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(send, found)
        assert inside.wait(60)
        second = send(found)
        go_on.set()
        assert (second.busy, second.objects) == (True, [])
        assert first.result().events == 80
    assert sent_places(tmp_path / "bucket") == held_places(found)


@pytest.mark.slow
@pytest.mark.integration
def test_two_hosts_that_export_at_once_send_each_event_once(
    logs: Path, postgres_server: Postgres, tmp_path: Path, send: Send
) -> None:
    found = config.load(
        lake=str(tmp_path / "lake"), ledger_url=postgres_server.database(), export_region=REGION, **BOUNDS
    )
    ingest.ingest([str(logs)], found)
    start = threading.Barrier(2)

    def host(_: int) -> int:
        start.wait()
        return send(found).events

    with ThreadPoolExecutor(2) as hosts:
        assert sum(hosts.map(host, range(2))) == 80
    assert sent_places(tmp_path / "bucket") == held_places(found)
    assert rows(found, "SELECT count(*) FROM ledger_export_shipments") == [(2,)]


def test_files_and_rows_are_planned_once_even_by_one_who_lost_the_lease(filled: Make) -> None:
    """What the lease is for is also held by the database."""
    with opened(filled()) as lake:
        found = lake.exports("file:///elsewhere/ext/calls")
        waiting = found.waiting("aws_cloudtrail", API)
        planned = found.plan("111122223333", "20250311", waiting[:2], NOON)
        with pytest.raises(batch.LostError, match="another export has planned"):
            found.plan("111122223333", "20250311", waiting[1:], NOON)
        assert len(found.open()) == 1
        assert found.waiting("aws_cloudtrail", API) == waiting[2:]
        for _ in range(2):
            found.begin(planned, ShippedObject("a", 0, 15, 100, "sum"))
        with pytest.raises(batch.LostError, match="another export is sending these rows"):
            found.begin(planned, ShippedObject("b", 0, 20, 100, "sum"))
        assert [item.uri for item in found.objects(planned)] == ["a"]


# -- what the lake does meanwhile -------------------------------------------------------------------------------------
@pytest.mark.slow
def test_a_lost_file_keeps_back_its_partition_alone_until_it_is_made_again(
    filled: Make, send: Send, tmp_path: Path
) -> None:
    found = filled()
    (lost, *_) = sorted(Path(found.lake).glob("aws/CLOUD_TRAIL_MGMT/**/accountId=012345678901/**/*.parquet"))
    kept = lost.read_bytes()
    lost.unlink()
    for _ in range(2):
        with pytest.raises(LakeFileError, match="is gone; `ocsf-lake catalog sync`"):
            send(found)
        assert len(objects(tmp_path / "bucket")) == 1
    lost.write_bytes(kept[:-1] + b"x")
    with pytest.raises(LakeFileError, match="other bytes than were written"):
        send(found)
    with opened(found) as lake:
        check.sync(lake, deep=True)
    assert send(found).events == 40
    assert sent_places(tmp_path / "bucket") == held_places(found)


@pytest.mark.slow
def test_a_file_made_again_after_it_was_sent_is_not_sent_again(
    filled: Make, send: Send, tmp_path: Path, clock: Clock
) -> None:
    found = filled()
    send(found)
    for path in sorted(Path(found.lake).glob("aws/CLOUD_TRAIL_MGMT/**/*.parquet")):
        path.unlink()
    with opened(found) as lake:
        assert check.sync(lake).rebuilt
    clock.go(10)
    assert send(found).objects == []
    assert sent_places(tmp_path / "bucket") == held_places(found)


@pytest.mark.slow
def test_replayed_events_are_sent_and_what_is_in_quarantine_or_a_duplicate_is_not(
    settings: Make, send: Send, tmp_path: Path, clock: Clock, mend: Callable[[], None]  # noqa: F811 - a fixture
) -> None:
    found = settings(export_region=REGION, duplicates={"aws_cloudtrail": "mark"})
    records = [call(1), call(1), *MENDED[:2], {"eventName": "no time"}]
    write(tmp_path / "in" / "a.json", json.dumps({"Records": records}))
    ingest.ingest([str(tmp_path / "in")], found, "aws_cloudtrail")
    assert rows(found, "SELECT (SELECT count(*) FROM quarantine), (SELECT count(*) FROM duplicates)") == [(3, 1)]
    assert send(found).events == 2
    mend()
    assert replay.replay(found).closed == 2
    clock.go(10)
    assert send(found).events == 2
    assert sent_places(tmp_path / "bucket") == held_places(found)
    assert [number for _, number in sent_places(tmp_path / "bucket")] == [1, 2, 3, 4]


@pytest.mark.slow
def test_batches_that_are_not_finished_are_not_sent(
    logs: Path, settings: Make, send: Send, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = settings(export_region=REGION)
    with monkeypatch.context() as patched:
        patched.setattr(batch, "failpoint", die_at("registered", nth=2))
        with pytest.raises(KilledError):
            ingest.ingest([str(logs)], found)
    partly = send(found).events
    done = rows(found, "SELECT coalesce(sum(events), 0) FROM ledger_batches WHERE state = 'done' "
                "AND source = 'aws_cloudtrail'")  # fmt: skip
    assert [(partly,)] == done
    assert 0 < partly < 80


# -- what Security Lake would not take --------------------------------------------------------------------------------
@pytest.mark.slow
@pytest.mark.parametrize("version", ["1.5.0", "1.8.0"])
def test_newer_versions_of_ocsf_are_refused(
    version: str, settings: Make, send: Send, tmp_path: Path
) -> None:
    found = settings(ocsf_version=version, export_region=REGION)
    write(tmp_path / "in" / "a.json", json.dumps({"Records": [call(1)]}))
    ingest.ingest([str(tmp_path / "in")], found, "aws_cloudtrail")
    with pytest.raises(ConfigError, match=rf"in OCSF {version}, and Security Lake takes OCSF 1.3 or older"):
        send(found)
    assert not (tmp_path / "bucket").exists()
    assert [custom_source.is_accepted(name) for name in ("1.0.0", "1.1.0", "1.3.0", "1.4.0", "1.10.0", "2.0.0")] == [
        True, True, True, False, False, False
    ]  # fmt: skip


def test_a_source_of_several_classes_needs_one_named(filled: Make, send: Send) -> None:
    with pytest.raises(ConfigError, match=r"API Activity \[6003\].* as in --name calls-6003 --class 6003"):
        send(filled(), event_class=None)
    with pytest.raises(ConfigError, match=r"no events of a class 'autentication'.*did you mean 'authentication'"):
        send(filled(), event_class="autentication")
    for said in ("6003", "api_activity", "API Activity"):
        found = custom_source.custom_source("aws_cloudtrail", "s3://a", "x", said, filled())
        assert found.event_class.uid == API
    assert custom_source.custom_source("aws_vpc_flow", "s3://a", "x", None, filled()).event_class.uid == 4001


@pytest.mark.slow
def test_a_custom_source_takes_one_class_of_one_source(filled: Make, send: Send, tmp_path: Path) -> None:
    send(filled())
    before = objects(tmp_path / "bucket")
    with pytest.raises(ConfigError, match=r"takes events of aws_cloudtrail, class 6003; .* name for class 3002"):
        send(filled(), event_class="3002")
    with pytest.raises(ConfigError, match=r"takes events of aws_cloudtrail, class 6003; .* class 4001 of aws_vpc"):
        send(filled(), source="aws_vpc_flow", event_class=None)
    assert objects(tmp_path / "bucket") == before
    assert send(filled(), name="flows", source="aws_vpc_flow", event_class=None).events == 60


@pytest.mark.parametrize("name", ["", "x" * 21, "a/b", "a b", "..", "a:b", "naïve"])
def test_a_name_that_no_custom_source_can_have_is_refused(name: str, filled: Make, send: Send) -> None:
    with pytest.raises(ConfigError, match="no name of a custom source"):
        send(filled(), name=name)


def test_the_region_is_that_of_the_bucket(filled: Make) -> None:
    def region(bucket: str, said: str | None = None) -> str:
        return custom_source.custom_source("aws_vpc_flow", bucket, "x", None, filled(export_region=said)).region

    lake = "s3://aws-security-data-lake-us-gov-west-1-0abc1def"
    assert region(lake) == region(f"{lake}/") == region(lake, "us-gov-west-1") == "us-gov-west-1"
    assert region("s3://other", "eu-west-3") == "eu-west-3"
    with pytest.raises(ConfigError, match="set OCSF_LAKE_EXPORT_REGION"):
        region("s3://other")
    with pytest.raises(ConfigError, match="is one of us-gov-west-1"):
        region(lake, "eu-west-1")
    with pytest.raises(ConfigError, match="no region"):
        region("s3://other", "../x")


def test_a_place_is_named_one_way(filled: Make, send: Send, tmp_path: Path) -> None:
    send(filled())
    assert send(filled(), f"file://{tmp_path}/bucket/").objects == []
    with pytest.raises(ConfigError, match=r"name the bucket alone: events go to .*/bucket/ext/calls/"):
        send(filled(), f"{tmp_path}/bucket/ext/calls")
    with pytest.raises(ConfigError, match="is the lake itself"):
        send(filled(), filled().lake)


# -- who we are there -------------------------------------------------------------------------------------------------
def test_the_role_is_that_of_the_custom_source(filled: Make) -> None:
    found = filled(
        export_role="arn:aws:iam::111122223333:role/AmazonSecurityLake-Provider-{name}-{region}",
        export_external_id="shared", export_kms_key="arn:aws:kms:key", lake_role="arn:aws:iam::1:role/lake",
    )  # fmt: skip
    access = custom_source.custom_source("aws_vpc_flow", "s3://a", "flows", None, found).access(found)
    assert s3.role_request(access) == {
        "RoleArn": f"arn:aws:iam::111122223333:role/AmazonSecurityLake-Provider-flows-{REGION}",
        "RoleSessionName": s3.SESSION_NAME, "ExternalId": "shared",
    }  # fmt: skip
    assert (access.kms_key, access.region) == ("arn:aws:kms:key", REGION)
    none = custom_source.custom_source("aws_vpc_flow", "s3://a", "flows", None, filled(lake_role="x")).access(filled())
    assert none.role is None


@pytest.fixture
def as_stranger(s3_owner: S3Server, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", s3_owner.other_access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", s3_owner.other_secret_key)
    s3.forget()
    return s3_owner


def may_put(server: S3Server, bucket: str, name: str) -> None:
    """Lets everybody put objects of a custom source, and nothing else: as the role that Security Lake makes may."""
    resource = [f"arn:aws:s3:::{bucket}/ext/{name}/*"]
    allowed = {"Effect": "Allow", "Principal": "*", "Action": ["s3:PutObject"], "Resource": resource}
    text = json.dumps({"Version": "2012-10-17", "Statement": [allowed]})
    server.client().put_bucket_policy(Bucket=bucket, Policy=text)


@pytest.mark.slow
@pytest.mark.integration
def test_a_permission_to_put_objects_is_enough(
    filled: Make, send: Send, bucket: str, as_stranger: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(WriteError, match="access denied"):
        send(filled(), f"s3://{bucket}")
    may_put(as_stranger, bucket, "calls")
    with monkeypatch.context() as patched:
        patched.setattr(shipment, "failpoint", die_at("put"))
        with pytest.raises(KilledError):
            send(filled(), f"s3://{bucket}")
    send(filled(), f"s3://{bucket}")
    # What a stranger puts is the stranger's, here.
    who = {"aws_access_key_id": as_stranger.other_access_key, "aws_secret_access_key": as_stranger.other_secret_key}
    downloaded(as_stranger, bucket, tmp_path / "bucket", **who)
    assert sent_places(tmp_path / "bucket") == held_places(filled())
    with pytest.raises(WriteError, match="access denied"):
        send(filled(), f"s3://{bucket}", "other")


@pytest.mark.slow
@pytest.mark.integration
def test_the_role_of_the_custom_source_is_taken_on(
    filled: Make, send: Send, bucket: str, as_stranger: S3Server
) -> None:
    name = as_stranger.role.rpartition("/")[2]
    may_put(as_stranger, bucket, name)
    found = filled(export_role=as_stranger.role.replace(name, "{name}"), export_external_id="shared")
    with pytest.raises(ConfigError, match="the role cannot be taken on"):
        send(found, f"s3://{bucket}", "nobody")
    assert send(found, f"s3://{bucket}", name).events == 80


@pytest.mark.integration
def test_objects_are_encrypted_with_the_key_of_the_settings(
    filled: Make, send: Send, bucket: str, s3_owner: S3Server, tmp_path: Path
) -> None:
    send(filled(export_kms_key=s3_owner.kms_key), f"s3://{bucket}")
    found = downloaded(s3_owner, bucket, tmp_path / "bucket")
    assert {item["SSEKMSKeyId"] for item in found.values()} == {s3_owner.kms_key}


@pytest.mark.slow
@pytest.mark.integration
def test_large_objects_are_put_in_parts_and_once(
    bucket: str, s3_owner: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "MULTIPART_BYTES", 12 << 20)
    monkeypatch.setattr(transfer, "PART_BYTES", 5 << 20)
    data = secrets.token_bytes(13 << 20)
    (tmp_path / "large").write_bytes(data)
    store = Store(f"s3://{bucket}", Access(s3_owner.endpoint))
    assert [store.put_new("large", tmp_path / "large") for _ in range(2)] == [True, False]
    found = s3_owner.client().get_object(Bucket=bucket, Key="large")
    assert found["ETag"].strip('"').endswith("-3")
    assert found["Body"].read() == data
    assert s3_owner.client().list_multipart_uploads(Bucket=bucket).get("Uploads", []) == []
