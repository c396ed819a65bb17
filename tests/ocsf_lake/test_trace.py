"""From a row of the lake to the bytes of its record, wherever the row and the object are by now."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ocsf_lake.config import Settings
from ocsf_lake.ingest import run as ingest
from ocsf_lake.upkeep import compact, rebuild_ledger, remap, replay, trace, trace_rows
from ocsf_lake.upkeep.trace import Asked, Traced
from ocsf_lake.upkeep.trace_record import line_of, search
from ocsf_lake.upkeep.trace_rows import Narrowed
from ocsf_mappers.errors import ConfigError
from ocsf_mappers.readers import streams
from tests.ocsf_lake.compacting import take
from tests.ocsf_lake.conftest import HEADER, ON_BOTH, Make, call, contents, flow, write
from tests.ocsf_lake.test_discovery import in_cloudwatch, in_eventbridge
from tests.ocsf_lake.test_remap import DAY, changed, log, mapper  # noqa: F401 - a fixture
from tests.ocsf_lake.test_replay import MENDED, mend, mended_cloudtrail, reject_logs  # noqa: F401 - a fixture
from tests.ocsf_lake.test_routing import archive, finding
from tests.servers.rgw import S3Server


def uid(number: int) -> str:
    """Of a call."""
    return f"{number:08d}-0000-4000-8000-000000000000"


def by_uid(settings: Settings, wanted: str, **where: Any) -> trace.TraceResult:
    return trace.trace(settings, Asked(wanted, where=Narrowed(**where)))


def by_record(settings: Settings, path: Path, number: int) -> Traced:
    (event,) = trace.trace(settings, Asked(None, str(path), number)).events
    return event


def content(path: Path) -> bytes:
    with path.open("rb") as file:
        return b"".join(streams.uncompressed(file, streams.Limits()))


def is_exact(event: Traced, path: Path) -> bool:
    """Whether the text stands in the object where it is said to."""
    text, offset = event.record.text, event.record.offset
    if not event.record.exact or text is None or offset is None:
        return False
    return content(path)[offset:].startswith(text.encode())


# -- the record, byte for byte ----------------------------------------------------------------------------------------
@pytest.mark.slow
@ON_BOTH
def test_a_call_is_followed_to_its_bytes(settings: Make, tmp_path: Path) -> None:
    calls = ",\n ".join(json.dumps(call(number, note="é  \\u00e9")) for number in range(5))
    path = write(tmp_path / "logs/calls.json.gz", f'{{"Records" : [{calls}]}}')
    ingest.ingest([str(path)], settings())
    before = contents(tmp_path / "lake")
    found = by_uid(settings(), uid(3))
    (event,) = found.events
    assert (found.total, event.row.source_record, event.object.state) == (1, 4, "unchanged")
    assert is_exact(event, path)
    assert event.record.text == json.dumps(call(3, note="é  \\u00e9"))
    assert (event.record.line, event.record.places) == (4, 1)
    assert event.batch is not None
    assert (event.batch.kind, event.batch.source) == ("ingest", "aws_cloudtrail")
    assert (event.merge, event.file_fault, event.changes, event.reason) == (None, None, [], None)
    assert event.mapper_now == event.row.mapper_version
    assert event.mapped == event.stored
    assert event.stored["metadata"]["uid"] == uid(3)
    assert contents(tmp_path / "lake") == before


@pytest.mark.slow
def test_a_line_is_its_own_among_equal_ones_and_longer_ones(settings: Make, tmp_path: Path) -> None:
    lines = [HEADER, f"{flow(1)}9", flow(1), flow(2), flow(1)]
    path = write(tmp_path / "logs/flows.log.gz", "\r\n".join(lines) + "\r\n")
    ingest.ingest([str(path)], settings(), "aws_vpc_flow")
    for number in (3, 5):
        event = by_record(settings(), path, number)
        assert is_exact(event, path)
        assert (event.record.text, event.record.line, event.record.places) == (flow(1), number, 2)
        assert (event.reason, event.changes) == (None, [])


CARRIED = {
    "escaped": (lambda: "".join(in_cloudwatch(call(number)) + "\n" for number in (1, 2)), 2, False, True),
    "archived": (
        lambda: archive(*(in_eventbridge("AWS API Call via CloudTrail", call(n)) for n in (1, 2))), 2, True, True,
    ),
    "exported": (
        lambda: "".join(f"2025-03-11T00:0{n}:00.000Z {json.dumps(call(n))}\n" for n in (1, 2)), 2, True, False,
    ),
    "half a pair": (lambda: json.dumps({"Records": [call(1), call(2)]})[:-3] + ',"x":"\\ud83d"}]}', 2, False, True),
}  # fmt: skip


@pytest.mark.parametrize("kind", CARRIED)
def test_a_record_in_a_carrier_has_its_bytes_or_those_of_the_document(
    kind: str, settings: Make, tmp_path: Path
) -> None:
    make, number, exact, documented = CARRIED[kind]
    made = make()
    path = write(tmp_path / "logs/carried.json", made if isinstance(made, str) else json.dumps(made) + "\n")
    ingest.ingest([str(path)], settings(), "aws_cloudtrail")
    (event,) = by_uid(settings(), uid(2)).events
    assert (event.row.source_record, event.record.exact, event.changes, event.reason) == (number, exact, [], None)
    assert is_exact(event, path) == exact
    assert (event.record.document is not None) == documented
    if documented:
        assert event.record.document_offset is not None
        assert path.read_bytes()[event.record.document_offset :].startswith(event.record.document or b"?")
    assert exact or event.record.reason


@pytest.mark.slow
def test_a_record_of_another_source_is_read_as_its_object_was(settings: Make, tmp_path: Path) -> None:
    path = write(
        tmp_path / "logs/mixed.json",
        archive(
            in_eventbridge("AWS API Call via CloudTrail", call(1), "aws.ec2"),
            in_eventbridge("GuardDuty Finding", finding(1)),
        ),
    )
    ingest.ingest([str(path)], settings())
    event = by_record(settings(), path, 2)
    assert event.row.partition.table == "guardduty_findings"
    assert (event.batch and event.batch.kind, event.changes, event.reason) == ("routed", [], None)
    assert json.loads(event.record.text or "") == finding(1)
    assert is_exact(event, path)


def test_a_row_of_parquet_has_values_and_no_text(settings: Make, tmp_path: Path) -> None:
    columns = HEADER.replace("-", "_").split()
    values = zip(columns, flow(1).split(), strict=True)
    (tmp_path / "logs").mkdir()
    path = tmp_path / "logs/flows.parquet"
    pq.write_table(pa.table({name: [value] for name, value in values}), path)
    ingest.ingest([str(path)], settings(), "aws_vpc_flow")
    event = by_record(settings(), path, 1)
    assert (event.record.text, event.record.exact, event.changes) == (None, False, [])
    assert "Parquet" in (event.record.reason or "")
    assert (event.record.values or {})["srcaddr"] == flow(1).split()[3]


def test_text_in_utf_16_is_not_called_exact(settings: Make, tmp_path: Path) -> None:
    path = tmp_path / "calls.json"
    path.write_text(json.dumps({"Records": [call(1)]}), encoding="utf-16")
    ingest.ingest([str(path)], settings(), "aws_cloudtrail")
    event = by_record(settings(), path, 1)
    assert (event.record.exact, event.changes) == (False, [])
    assert "UTF-16" in (event.record.reason or "")


def test_a_line_whose_values_are_spelled_otherwise_is_given_as_it_stands(settings: Make, tmp_path: Path) -> None:
    path = write(tmp_path / "logs/flows.log", f"{HEADER}\n{flow(1)}\n{flow(2)} \n")
    ingest.ingest([str(path)], settings(), "aws_vpc_flow")
    event = by_record(settings(), path, 3)
    assert event.record.text == f"{flow(2)} "
    assert is_exact(event, path)


def blocks(data: bytes, size: int) -> Iterator[bytes]:
    return (data[start : start + size] for start in range(0, len(data), size))


@pytest.mark.parametrize("size", range(1, 12))
def test_bytes_are_found_wherever_blocks_are_cut(size: int) -> None:
    data = b"ab\nabc\nab\n\nab"
    found = search(blocks(data, size), b"ab", 3)
    assert (found.offset, found.line, found.places) == (7, 3, 3)
    found = search(blocks(data, size), b"ab", 5)
    assert (found.offset, found.line, found.places) == (11, 5, 3)
    found = search(blocks(data, size), b"ab", None)
    assert (found.offset, found.line, found.places) == (0, 1, 4)
    assert search(blocks(data, size), b"abd", None).places == 0
    assert [line_of(blocks(data, size), number) for number in (2, 4, 5, 6)] == [
        (b"abc", 3), (b"", 10), (b"ab", 11), (b"", 11),
    ]  # fmt: skip


# -- where the row is by now ------------------------------------------------------------------------------------------
@pytest.mark.slow
def test_rows_in_merged_files_have_their_batch(settings: Make, tmp_path: Path) -> None:
    take(tmp_path / "logs", settings(), 0, 1)
    batches = {by_uid(settings(), uid(number)).events[0].batch for number in (0, 6)}
    compact.compact(settings())
    merged = [by_uid(settings(), uid(number)).events[0] for number in (0, 6)]
    assert {event.batch for event in merged} == batches
    assert len(batches) == 2
    assert {event.merge and event.merge.kind for event in merged} == {"merge"}
    assert {event.file for event in merged} == {merged[0].file}
    assert all("/compacted/" in event.file and event.record.exact and not event.changes for event in merged)
    path = next((tmp_path / "logs").rglob("*.json.gz"))
    assert by_record(settings(), path, 2).merge == merged[0].merge


@pytest.mark.slow
def test_what_another_mapper_makes_of_a_record_is_told_attribute_by_attribute(
    tiny: str, mapper: Any, settings: Make, tmp_path: Path  # noqa: F811
) -> None:
    path = log(tmp_path, 1)
    ingest.ingest([str(path)], settings(), tiny)
    mapper(actor__user__name="bob")
    event = by_record(settings(), path, 1)
    name, observables = event.changes
    assert (name.path, name.now, observables.path) == ("actor.user.name", "bob", "observables")
    assert '"value":"bob"' in (observables.now or "")
    assert event.mapper_now != event.row.mapper_version
    assert (event.mapped or {})["actor"]["user"]["name"] == "bob"
    remap.remap(settings(), remap.Chosen(tiny, DAY, DAY))
    event = by_record(settings(), path, 1)
    assert (event.changes, event.mapper_now) == ([], event.row.mapper_version)
    assert (event.batch and event.batch.kind, event.merge and event.merge.kind) == ("ingest", "merge")


@pytest.mark.slow
def test_a_replayed_row_has_its_replay_and_the_text_of_quarantine_when_its_object_is_gone(
    settings: Make, tmp_path: Path, mend: Callable[[], None]  # noqa: F811
) -> None:
    folder = reject_logs(tmp_path / "bad")
    ingest.ingest([str(folder)], settings(), "aws_cloudtrail")
    hints = by_uid(settings(), "late-3").hints
    assert [hint for hint in hints if "record 1 of " in hint and "two.json (open)" in hint]
    mend()
    replay.replay(settings())
    (event,) = by_uid(settings(), "late-3").events
    assert (event.batch and event.batch.kind, event.changes) == ("replay", [])
    assert is_exact(event, folder / "two.json")
    take(tmp_path / "logs", settings(), 0)
    compact.compact(settings())
    assert by_record(settings(), folder / "two.json", 1).merge is not None
    (folder / "two.json").unlink()
    (event,) = by_uid(settings(), "late-3").events
    assert (event.batch and event.batch.kind, event.object.state, event.record.exact) == ("replay", "gone", False)
    assert json.loads(event.record.text or "") == MENDED[3]


# -- what became of the object ----------------------------------------------------------------------------------------
@pytest.mark.slow
def test_an_object_that_is_not_what_was_read_is_said_to_be(settings: Make, tmp_path: Path) -> None:
    path = write(tmp_path / "logs/calls.json", json.dumps({"Records": [call(1)]}))
    ingest.ingest([str(path)], settings(), "aws_cloudtrail")
    etag = by_uid(settings(), uid(1)).events[0].object.etag
    path.write_text(json.dumps({"Records": [call(1, eventName="DeleteTrail")]}))
    (event,) = by_uid(settings(), uid(1)).events
    assert (event.object.state, event.object.etag, event.record.text, event.mapped) == ("changed", etag, None, None)
    assert event.object.etag_now not in (None, etag)
    assert event.stored["api"]["operation"] == "DescribeInstances"
    path.unlink()
    (event,) = by_uid(settings(), uid(1)).events
    assert (event.object.state, event.record.reason, event.reason) == ("gone", *["the object is gone"] * 2)
    path.mkdir()
    (event,) = by_uid(settings(), uid(1)).events
    assert event.object.state == "gone"


@pytest.mark.slow
def test_a_file_of_the_lake_that_was_changed_is_told(settings: Make, tmp_path: Path) -> None:
    path = write(tmp_path / "logs/calls.json", json.dumps({"Records": [call(1)]}))
    ingest.ingest([str(path)], settings(), "aws_cloudtrail")
    (event,) = by_uid(settings(), uid(1)).events
    file = Path(event.file.removeprefix("file://"))
    file.chmod(0o600)
    table = pq.read_table(file)
    pq.write_table(table, file)
    assert "other bytes" in (by_uid(settings(), uid(1)).events[0].file_fault or "")
    file.unlink()
    with pytest.raises(duckdb.Error, match="No files found"):
        by_uid(settings(), uid(1))


# -- what is looked for -----------------------------------------------------------------------------------------------
def test_all_events_of_a_uid_are_shown(settings: Make, tmp_path: Path) -> None:
    for name in ("a", "b"):
        write(tmp_path / f"logs/{name}.json", json.dumps({"Records": [call(1), call(2)]}))
    ingest.ingest([str(tmp_path / "logs")], settings(), "aws_cloudtrail")
    found = by_uid(settings(), uid(2))
    assert found.total == 2
    assert [event.row.source_object[-6:] for event in found.events] == ["a.json", "b.json"]


@pytest.mark.slow
def test_more_events_than_are_shown_are_counted(
    settings: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trace_rows, "MOST_ROWS", 3)
    monkeypatch.setattr(trace_rows, "FILES_AT_ONCE", 1)
    for name in ("a", "b"):
        path = write(tmp_path / f"{name}.json", json.dumps({"Records": [call(1), call(1)]}))
        ingest.ingest([str(path)], settings(), "aws_cloudtrail")
    found = by_uid(settings(), uid(1))
    assert (found.total, len(found.events)) == (4, 3)
    assert {event.record.places for event in found.events} == {2}
    assert [event.row.number for event in found.events][:2] == [0, 1]


@pytest.mark.slow
def test_a_ledger_made_anew_leads_to_the_same_records(settings: Make, tmp_path: Path) -> None:
    take(tmp_path / "logs", settings(), 0, 1)
    compact.compact(settings())
    path = sorted((tmp_path / "logs").rglob("*.json.gz"))[1]
    before = by_record(settings(), path, 2)
    rebuild_ledger.rebuild(settings(), replacing=True)
    after = by_record(settings(), path, 2)
    assert (after.row, after.record, after.object, after.changes) == (before.row, before.record, before.object, [])
    assert (after.batch and after.batch.id, after.merge and after.merge.id) == (
        before.batch and before.batch.id, before.merge and before.merge.id,
    )  # fmt: skip


@pytest.mark.slow
def test_records_that_were_left_out_as_duplicates_are_told(settings: Make, tmp_path: Path) -> None:
    found = settings(duplicates={"aws_cloudtrail": "drop"})
    for name in ("a", "b"):
        path = write(tmp_path / f"logs/{name}.json", json.dumps({"Records": [call(1)]}))
        ingest.ingest([str(path)], found, "aws_cloudtrail")
    (event,) = by_uid(found, uid(1)).events
    ((place, number, action),) = event.duplicates
    assert (place[-6:], number, action) == ("b.json", 1, "dropped")
    missing = trace.trace(found, Asked(None, str(path), 1))
    assert missing.total == 0
    assert any("left out, as it equals record 1 of" in hint for hint in missing.hints)


@pytest.mark.slow
def test_where_was_looked_is_said_and_what_else_is_known(settings: Make, tmp_path: Path) -> None:
    path = write(tmp_path / "logs/calls.json", json.dumps({"Records": [call(1), {"eventName": "no time"}]}))
    ingest.ingest([str(path)], settings(), "aws_cloudtrail")
    found = by_uid(settings(), "' OR 1 = 1 --")
    assert (found.total, found.looked, found.hints) == (0, "searched 1 file of 1 table: cloud_trail_mgmt", [])
    found = trace.trace(settings(), Asked(None, str(path), 2))
    assert [hint for hint in found.hints if hint.startswith("record 2 is in quarantine (open)")]
    found = trace.trace(settings(), Asked(None, str(tmp_path / "no'$x"), 2))
    assert found.hints == [f"the ledger does not have the object file://{tmp_path}/no'$x"]
    assert by_uid(settings(), uid(1), first=date(2025, 3, 12)).total == 0
    assert by_uid(settings(), uid(1), first=date(2025, 3, 11), last=date(2025, 3, 11)).total == 1
    assert by_uid(settings(), uid(1), accounts=("999999999999",)).total == 0
    assert by_uid(settings(), uid(1), table="cloud_trail_mgmt", regions=("eu-west-1",)).total == 1
    assert by_uid(settings(), uid(1), table="vpc_flow").total == 0


def test_what_is_asked_for(settings: Make) -> None:
    def asked(event: str | None = None, uri: str | None = None, record: int | None = None, **where: Any) -> Asked:
        return trace.asked(event, uri, record, Narrowed(**where), settings())

    assert asked("s3://b/a#b.json#12") == Asked("s3://b/a#b.json#12", "s3://b/a#b.json", 12)
    assert asked("a#0") == Asked("a#0")
    assert asked("a#x") == Asked("a#x")
    assert asked(uri="x", record=3) == Asked(None, "x", 3)
    assert asked("u", table="cloud_trail_mgmt_2_0").where.table == "cloud_trail_mgmt"
    for wrong in ({}, {"uri": "x"}, {"record": 1}, {"event": "u", "uri": "x", "record": 1}):
        with pytest.raises(ConfigError):
            asked(**wrong)
    with pytest.raises(ConfigError, match="did you mean 'vpc_flow'"):
        asked("u", table="vpc_flwo")


@pytest.mark.slow
def test_a_uid_that_looks_like_a_record_is_found_too(settings: Make, tmp_path: Path) -> None:
    path = write(tmp_path / "calls.json", json.dumps({"Records": [call(1, eventID="arn:aws:x/y#3")]}))
    ingest.ingest([str(path)], settings(), "aws_cloudtrail")
    assert trace.trace(settings(), trace.asked("arn:aws:x/y#3", None, None, Narrowed(), settings())).total == 1


# -- S3 ---------------------------------------------------------------------------------------------------------------
@pytest.mark.slow
@pytest.mark.integration
def test_a_lake_and_its_objects_on_s3(settings: Make, bucket: str, s3_owner: S3Server, tmp_path: Path) -> None:
    client = s3_owner.client()
    client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    data = gzip.compress(json.dumps({"Records": [call(1), call(2)]}).encode())
    version = client.put_object(Bucket=bucket, Key="raw/a b.json.gz", Body=data)["VersionId"]
    found = settings(lake=f"s3://{bucket}/the lake", state=tmp_path / "state")
    ingest.ingest([f"s3://{bucket}/raw"], found, "aws_cloudtrail")
    (event,) = by_uid(found, uid(2)).events
    assert (event.object.state, event.record.text, event.changes) == ("unchanged", json.dumps(call(2)), [])
    assert event.object.version == version
    assert (event.record.exact, event.file_fault) == (True, None)
    client.put_object(Bucket=bucket, Key="raw/a b.json.gz", Body=b"{}")
    (event,) = by_uid(found, uid(2)).events
    assert (event.object.state, event.object.version, event.record.exact) == ("changed", version, True), event.object
    event.raw.forget()
    with event.raw.opened() as file:
        assert file.read() == data
    client.delete_object(Bucket=bucket, Key="raw/a b.json.gz")
    (event,) = trace.trace(found, Asked(None, f"s3://{bucket}/raw/a b.json.gz", 2)).events
    assert (event.object.state, event.object.version, event.record.exact) == ("gone", version, True)
    client.delete_object(Bucket=bucket, Key="raw/a b.json.gz", VersionId=version)
    (event,) = by_uid(found, uid(2)).events
    assert (event.object.state, event.object.version, event.record.text) == ("gone", None, None)
