"""Each record once: twice, interrupted, in parallel, and among broken neighbours."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from ocsf_lake import config
from ocsf_lake.config import Settings
from ocsf_lake.ingest import batch
from ocsf_lake.ingest import run as ingest
from ocsf_lake.lake import opened
from ocsf_lake.ledger import copies, database
from ocsf_lake.ledger.results import State
from ocsf_lake.query import query
from ocsf_lake.storage import store
from ocsf_mappers.errors import ConfigError, WriteError
from tests.ocsf_lake.conftest import CLOUDTRAIL_KEY, ON_BOTH, call, contents, write

Make = Callable[..., Settings]


def rows(settings: Settings, sql: str) -> list[tuple[object, ...]]:
    with query.connected(settings, sql) as connection:
        return [tuple(row.values()) for row in query.run(connection, sql).to_pylist()]


def answers(settings: Settings, *statements: str) -> list[list[tuple[object, ...]]]:
    """The rows of several statements, of the lake at one moment."""
    with query.connected(settings, *statements) as connection:
        return [[tuple(row.values()) for row in query.run(connection, sql).to_pylist()] for sql in statements]


def test_every_record_ends_in_exactly_one_place(logs: Path, settings: Make) -> None:
    summary = ingest.ingest([str(logs)], settings())
    cloudtrail, vpc = summary.sources["aws_cloudtrail"], summary.sources["aws_vpc_flow"]
    assert (cloudtrail.counts.read, cloudtrail.counts.events, cloudtrail.counts.quarantined) == (82, 80, 2)
    assert (vpc.counts.read, vpc.counts.events) == (64, 60)
    assert vpc.dropped == {"blank line": 4}
    assert summary.counts.balanced
    assert (summary.listed, summary.known) == (10, 0)
    assert {(Path(item.uri).name, item.state) for item in summary.not_read} == {
        ("d.json.gz", State.SET_ASIDE),
        ("stranger.json", State.SKIPPED),
    }
    assert rows(settings(), "SELECT count(*) FROM cloud_trail_mgmt") == [(80,)]
    assert rows(settings(), "SELECT count(*), count(DISTINCT source_object) FROM quarantine") == [(2, 2)]
    ledger = "SELECT sum(read), sum(events), sum(quarantined), sum(dropped) FROM ledger_batches"
    assert rows(settings(), ledger) == [(146, 140, 2, 4)]
    assert rows(settings(), ledger.replace("batches", "objects")) == [(146, 140, 2, 4)]


def test_the_summary_tells_what_was_not_mapped(settings: Make, tmp_path: Path) -> None:
    record = call(3, customMember={"deep": "x"})
    write(tmp_path / "own.json", json.dumps({"Records": [record, record]}))
    summary = ingest.ingest([str(tmp_path / "own.json")], settings())
    assert summary.sources["aws_cloudtrail"].unmapped_keys["customMember.deep"] == 2
    assert summary.sources["aws_cloudtrail"].events_by_class == {"API Activity": 2}


@pytest.mark.slow
def test_ingesting_again_adds_nothing(logs: Path, settings: Make, tmp_path: Path) -> None:
    ingest.ingest([str(logs)], settings())
    before = contents(tmp_path / "lake")
    again = ingest.ingest([str(logs)], settings())
    assert again.counts.read == 0
    assert again.known == 9
    assert contents(tmp_path / "lake") == before


def test_an_object_without_a_byte_is_told_once(settings: Make, tmp_path: Path) -> None:
    name = "111122223333_CloudTrail_us-east-1_20250310T0000Z_abcdefghijklmnop.json.gz"
    write(tmp_path / "AWSLogs" / "own.json", json.dumps(call(3)))
    (empty := tmp_path / "AWSLogs" / name).touch()
    summary = ingest.ingest([str(tmp_path / "AWSLogs")], settings(), source="aws_cloudtrail")
    assert (summary.counts.events, summary.empty, summary.empty_examples) == (1, 1, [empty.as_uri()])
    assert ingest.ingest([str(tmp_path / "AWSLogs")], settings(), source="aws_cloudtrail").empty == 0


def test_a_database_that_is_away_when_copies_are_looked_for_fails_no_run(
    settings: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object) -> None:
        raise ConfigError("the database does not answer")

    monkeypatch.setattr(copies, "of", away)
    summary = ingest.ingest([str(write(tmp_path / "own.json", json.dumps(call(3))))], settings())
    assert (summary.counts.events, summary.copies.unknown) == (1, "the database does not answer")


def test_of_objects_without_a_byte_few_are_named(settings: Make, tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    for number in range(5):
        (tmp_path / "logs" / f"{number}.json.gz").touch()
    summary = ingest.ingest([str(tmp_path / "logs")], settings(batch_objects=2), source="aws_cloudtrail")
    assert (summary.empty, len(summary.empty_examples)) == (5, 3)


@ON_BOTH
def test_an_object_written_anew_is_another_object_and_is_told(settings: Make, tmp_path: Path) -> None:
    path = write(tmp_path / "own.json", json.dumps(call(3)))
    assert ingest.ingest([str(path)], settings()).copies.replaced == 0
    write(path, json.dumps(call(4)))
    write(tmp_path / "other.json", json.dumps(call(5)))
    summary = ingest.ingest([str(tmp_path)], settings())
    assert summary.counts.events == 2
    assert (summary.copies.replaced, summary.copies.replaced_examples) == (1, [path.as_uri()])
    assert ingest.ingest([str(tmp_path)], settings()).copies.replaced == 0
    assert rows(settings(), "SELECT count(*), count(DISTINCT source_etag) FROM cloud_trail_mgmt") == [(3, 3)]


@ON_BOTH
def test_an_object_that_was_read_under_another_name_is_told(settings: Make, tmp_path: Path) -> None:
    text = json.dumps({"Records": [call(1)]})
    first, second = write(tmp_path / "logs" / "first.json", text), write(tmp_path / "copy" / "renamed.json", text)
    write(tmp_path / "copy" / "other.json", json.dumps({"Records": [call(2)]}))
    assert ingest.ingest([str(tmp_path / "logs")], settings()).copies.objects == 0
    told = ingest.ingest([str(tmp_path / "copy")], settings()).copies
    assert (told.objects, told.examples) == (1, [(second.as_uri(), first.as_uri())])
    assert ingest.ingest([str(tmp_path)], settings()).copies.objects == 0
    both = ingest.ingest([str(tmp_path)], settings("both")).copies
    assert (both.objects, len(both.examples)) == (1, 1)


def test_looking_for_copies_neither_keeps_a_writer_back_nor_waits_for_one(
    logs: Path, settings: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch_ids = ingest.ingest([str(logs)], settings()).batch_ids
    monkeypatch.setattr(database, "BUSY_SECONDS", 0)
    with opened(settings()) as lake, opened(settings()) as other, other.ledger.engine.begin():
        assert copies.of(lake.ledger.engine, batch_ids).objects == 0


@pytest.mark.slow
def test_only_what_is_new_is_read(logs: Path, settings: Make, tmp_path: Path) -> None:
    ingest.ingest([str(logs)], settings())
    own = write(tmp_path / "own.json", json.dumps(call(3)))
    assert ingest.ingest([str(logs), str(own)], settings()).counts.read == 1


@pytest.mark.slow
def test_the_number_of_workers_does_not_show(logs: Path, whole: Path, settings: Make, tmp_path: Path) -> None:
    ingest.ingest([str(logs)], settings(workers=3))
    assert contents(tmp_path / "lake") == contents(whole)


@pytest.mark.slow
def test_a_run_that_died_after_planning_is_finished_by_the_next_one(
    logs: Path, whole: Path, settings: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(batch, "run", die)
        with pytest.raises(KeyboardInterrupt):
            ingest.ingest([str(logs)], settings())
    assert rows(settings(), "SELECT DISTINCT state FROM ledger_batches") == [("planned",)]
    # A new object beside the old ones changes nothing about the batches that were planned.
    own = write(tmp_path / "own.json", json.dumps(call(3)))
    ingest.ingest([str(logs), str(own)], settings())
    expected = contents(whole)
    assert {name: data for name, data in contents(tmp_path / "lake").items() if name in expected} == expected


@pytest.mark.slow
def test_resume_needs_no_uris(
    logs: Path, whole: Path, settings: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(batch, "failpoint", lambda step, _: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            ingest.ingest([str(logs)], settings())
    assert ingest.resume(settings()).counts.events == 140
    assert contents(tmp_path / "lake") == contents(whole)


@pytest.mark.slow
def test_batches_planned_for_another_mapper_are_planned_anew(
    logs: Path, whole: Path, settings: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(step: str, _: str) -> None:
        if step == "registered":
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(batch, "failpoint", die)
        with pytest.raises(KeyboardInterrupt):
            ingest.ingest([str(logs)], settings(ocsf_version="1.5.0"))
    ingest.ingest([str(logs)], settings())
    assert contents(tmp_path / "lake") == contents(whole)
    assert rows(settings(), "SELECT count(*) FROM cloud_trail_mgmt") == [(80,)]


@pytest.mark.slow
def test_one_bad_object_does_not_stop_the_others(logs: Path, settings: Make, tmp_path: Path) -> None:
    key = CLOUDTRAIL_KEY.format(account="111122223333", region="eu-west-1", hhmm="0000", tag="bad")
    whole = gzip.compress(json.dumps({"Records": [call(step) for step in range(50)]}).encode(), mtime=0)
    path = tmp_path / Path(key).name
    path.write_bytes(whole[:-40])
    counts = ingest.ingest([str(logs), str(path)], settings()).counts
    assert counts.balanced
    assert counts.quarantined == 2 + 2  # the record that was cut, and the object's missing end
    assert counts.events > 140


@pytest.mark.slow
def test_an_object_that_vanished_is_a_failed_object_and_comes_in_later(
    logs: Path, settings: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "own.json", json.dumps(call(3)))
    done = batch.run

    def vanish(*given: object) -> object:
        path.unlink(missing_ok=True)
        return done(*given)  # type: ignore[arg-type]

    with monkeypatch.context() as patched:
        patched.setattr(batch, "run", vanish)
        summary = ingest.ingest([str(logs), str(path)], settings())
    failed = [item for item in summary.not_read if item.state is State.FAILED]
    assert [Path(item.uri).name for item in failed] == ["own.json"]
    assert "gone" in failed[0].reason
    assert summary.counts.events == 140
    write(path, json.dumps(call(3)))
    assert ingest.ingest([str(path)], settings()).counts.events == 1


@pytest.mark.slow
def test_an_object_that_fails_while_it_is_read_leaves_no_records(
    logs: Path, settings: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ocsf_lake.ingest import parts

    pieces = parts.Source.pieces

    def broken(self: parts.Source, ref: object) -> object:
        for number, piece in enumerate(pieces(self, ref)):  # type: ignore[arg-type]
            yield piece
            if number == 0 and "us-east-1" in piece.ref.uri:
                raise parts.ObjectError("reading the object failed: connection reset")

    with monkeypatch.context() as patched:
        patched.setattr(parts.Source, "pieces", broken)
        summary = ingest.ingest([str(logs)], settings())
    assert sum(item.state is State.FAILED for item in summary.not_read) == 2
    assert (summary.counts.events, summary.counts.quarantined) == (100, 0)
    assert ingest.ingest([str(logs)], settings()).counts.events == 40
    assert rows(settings(), "SELECT count(*), count(DISTINCT metadata.uid) FROM cloud_trail_mgmt") == [(80, 80)]


@pytest.mark.slow
def test_records_that_go_missing_are_noticed(logs: Path, settings: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    from ocsf_lake.storage import parquet

    split = parquet.split
    with monkeypatch.context() as patched:
        patched.setattr(parquet, "split", lambda events: [(a, b, rows.slice(1)) for a, b, rows in split(events)])
        failures = ingest.ingest([str(logs)], settings()).failures
    assert [failure.kind for failure in failures] == ["CountError"] * 4
    assert all("do not agree" in failure.reason for failure in failures)
    assert rows(settings(), "SELECT count(*) FROM vpc_flow") == [(0,)]
    assert ingest.ingest([str(logs)], settings()).counts.events == 140


@pytest.mark.slow
def test_a_lake_that_refuses_a_file_stops_the_run(
    logs: Path, settings: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(store, "_put_local", full)
        with pytest.raises(WriteError, match="No space left"):
            ingest.ingest([str(logs)], settings())
    assert ingest.ingest([str(logs)], settings()).counts.events == 140


@pytest.mark.parametrize("value", ["../../etc", "eu-west-1/x", "a" * 33, "EU", "eu\nwest", "", "eu-west-1'; DROP"])
def test_hostile_values_never_reach_a_path(value: str, tmp_path: Path, settings: Make) -> None:
    log = write(tmp_path / "own.json", json.dumps(call(3, region=value, recipientAccountId=value)))
    ingest.ingest([str(log)], settings())
    names = [name for name in contents(tmp_path / "lake") if name.startswith("aws")]
    assert len(names) == 1
    assert "/region=unknown/accountId=unknown/eventDay=20250311/" in names[0]
    assert rows(settings(), "SELECT region, accountid, cloud.region AS said FROM cloud_trail_mgmt") == [
        ("unknown", "unknown", value)
    ]


def test_the_source_can_be_given(tmp_path: Path, settings: Make) -> None:
    log = write(tmp_path / "lines.txt", "not json at all\n")
    assert ingest.ingest([str(log)], settings()).not_read[0].state is State.SKIPPED
    assert ingest.ingest([str(log)], settings(), source="aws_cloudtrail").not_read != []
    with pytest.raises(ConfigError, match="no source"):
        ingest.ingest([str(log)], settings(), source="aws_cloudtrial")


@pytest.mark.slow
def test_an_object_planned_as_another_source_becomes_what_it_is_said_to_be(
    tmp_path: Path, settings: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    logs = [write(tmp_path / "in" / name, json.dumps(call(n))) for n, name in enumerate(("a.json", "b.json"))]

    def interrupted(step: str, batch_id: str) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(batch, "failpoint", interrupted)
        with pytest.raises(KeyboardInterrupt):
            ingest.ingest([str(tmp_path / "in")], settings(), source="aws_vpc_flow")
    found = ingest.ingest([str(logs[0])], settings(), source="aws_cloudtrail")
    assert (found.counts.events, found.not_read) == (1, [])
    assert rows(settings(), "SELECT source, objects FROM ledger_batches WHERE state <> 'done'") == [("aws_vpc_flow", 1)]


@pytest.mark.parametrize("name", ["lines.json", "AWSLogs/111122223333/CloudTrail/eu-west-1/2025/03/11/x.json.gz"])
@pytest.mark.parametrize("given", [None, "aws_cloudtrail"])
def test_a_first_line_that_is_garbage_costs_only_itself(
    name: str, given: str | None, tmp_path: Path, settings: Make
) -> None:
    lines = ['ncated":"x"}', *(json.dumps(call(number)) for number in range(3))]
    log = write(tmp_path / name, "\n".join(lines) + "\n")
    summary = ingest.ingest([str(log)], settings(), source=given)
    assert (summary.counts.events, summary.counts.quarantined, summary.not_read) == (3, 1, [])
    assert rows(settings(), "SELECT source_record, raw FROM quarantine") == [(1, 'ncated":"x"}')]


def test_nothing_at_a_uri_is_a_mistake(tmp_path: Path, settings: Make) -> None:
    found = settings()
    with pytest.raises(ConfigError, match="nothing at"):
        ingest.ingest([str(tmp_path / "none")], found)
    assert not Path(found.lake).exists()


@pytest.mark.slow
def test_a_batch_that_another_run_works_on_is_left_to_it(logs: Path, settings: Make) -> None:
    from ocsf_lake.lake import opened

    with opened(settings()) as lake:
        planned = ingest.plan([str(logs)], settings())
        with lake.leases.held(planned.batch_ids[0]) as lease:
            assert lease
            summary = ingest.ingest([str(logs)], settings())
    assert summary.busy == 1
    assert 0 < summary.counts.events < 140
    assert ingest.ingest([str(logs)], settings()).busy == 0


@pytest.mark.slow
def test_a_lake_in_memory(logs: Path, whole: Path, settings: Make, tmp_path: Path) -> None:
    there = config.load(lake="memory://lake-in-memory", state=tmp_path / "state", batch_objects=2, part_rows=25)
    assert ingest.ingest([str(logs)], there).counts.events == 140
    assert ingest.ingest([str(logs)], there).counts.events == 0
    files = "SELECT path, sha256 FROM ledger_files ORDER BY path"
    assert rows(there, files) == rows(config.load(lake=str(whole)), files)
    assert rows(there, "SELECT count(*) FROM cloud_trail_mgmt WHERE accountid = '012345678901'") == [(40,)]


def test_a_lake_without_a_place_for_its_ledger_is_a_mistake() -> None:
    with pytest.raises(ConfigError, match="OCSF_LAKE_STATE"):
        ingest.ingest([], config.load(lake="memory://nowhere"))


@pytest.mark.slow
def test_progress_is_told_after_each_batch(logs: Path, settings: Make) -> None:
    told: list[ingest.Progress] = []
    ingest.ingest([str(logs)], settings(workers=2), progress=told.append)
    assert [item.batches for item in told] == [1, 2, 3, 4]
    assert told[-1].bytes_in == told[-1].of_bytes_in > 0
