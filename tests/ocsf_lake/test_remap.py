"""`backfill --remap`: events that are in the lake, made anew by today's mapper, in place of those before."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from ocsf_lake import config
from ocsf_lake.config import Settings
from ocsf_lake.ingest import moving
from ocsf_lake.ingest import run as ingest
from ocsf_lake.lake import opened
from ocsf_lake.ledger.compactions import Compactions
from ocsf_lake.upkeep import check, compact, rebuild_ledger, remap, verify
from ocsf_mappers import Mapper, coalesce, col, registry, when
from ocsf_mappers.errors import OcsfMappersError
from tests.flows.conftest import RunCommand, ocsf_lake  # noqa: F401 - a fixture
from tests.ocsf_lake.compacting import Make, files
from tests.ocsf_lake.conftest import ON_BOTH, write
from tests.ocsf_lake.test_ingest import rows
from tests.servers.rgw import S3Server

DAY = date(2025, 3, 11)
NAMES = "SELECT eventday, actor.user.name, count(*) FROM cloud_trail_mgmt GROUP BY ALL ORDER BY ALL"
PLACES = "SELECT source_object, source_record FROM cloud_trail_mgmt ORDER BY ALL"


def log(folder: Path, number: int, day: int = 11, account: str = "111122223333") -> Path:
    times = [f"2025-03-{day:02}T09:{minute:02}:00Z" for minute in range(4)]
    records = [{"id": f"{number}-{place}", "at": time, "account": account} for place, time in enumerate(times)]
    return write(folder / "logs" / f"{number}.json", json.dumps({"Tiny": records}))


def changed(**fields: Any) -> Mapper:
    """The mapper of `tiny` with other rows."""
    from tiny_source import MAPPER  # type: ignore[import-not-found]

    (event,) = MAPPER.events
    return replace(MAPPER, events=[replace(event, fields={**event.fields, **fields})])


@pytest.fixture
def mapper(tiny: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Puts another mapper in the place of `tiny`'s."""
    load = registry.load

    def put(**fields: Any) -> None:
        made = changed(**{name.replace("__", "."): value for name, value in fields.items()})
        monkeypatch.setattr(registry, "load", lambda name: made if name == tiny else load(name))

    return iter([put]).__next__()


@pytest.fixture
def lake(tiny: str, settings: Make, tmp_path: Path) -> Settings:
    """Three objects of two days, each a batch of its own."""
    found = settings()
    for number, day in enumerate([11, 11, 12]):
        log(tmp_path, number, day)
        ingest.ingest([str(tmp_path / "logs")], found, tiny)
    return found


def once_more(settings: Settings, day: date = DAY, **more: Any) -> remap.Summary:
    return remap.remap(settings, remap.Chosen("tiny", day, day), **more)


def is_sound(settings: Settings) -> None:
    with opened(settings) as found:
        assert check.check(found, deep=True) == []
    assert list(verify.verify(settings, verify.Asked(), verify.Summary())) == []


@pytest.mark.slow
def test_events_of_the_chosen_days_are_made_anew_and_no_others(lake: Settings, mapper: Any) -> None:
    before = rows(lake, PLACES)
    mapper(actor__user__name="bob")
    summary = once_more(lake)
    assert (summary.partitions, summary.rows, summary.refused) == (1, 8, {})
    assert rows(lake, NAMES) == [("20250311", "bob", 8), ("20250312", "ann", 4)]
    assert rows(lake, PLACES) == before
    assert rows(lake, "SELECT count(DISTINCT mapper_version) FROM cloud_trail_mgmt") == [(2,)]
    assert rows(lake, "SELECT sum(read), sum(events) FROM ledger_batches") == [(12, 12)]
    is_sound(lake)
    again = once_more(lake)
    assert (again.partitions, again.current) == (0, 1)


@pytest.mark.slow
def test_a_dry_run_says_what_would_be_done_and_does_nothing(lake: Settings, mapper: Any) -> None:
    before = files(lake)
    mapper(actor__user__name="bob")
    summary = once_more(lake, dry_run=True)
    assert (summary.partitions, summary.rows) == (1, 8)
    assert "8 events of 1 partition would be mapped again" in summary.message
    assert files(lake) == before


@pytest.mark.slow
def test_a_dry_run_leaves_what_an_interrupted_run_left(
    lake: Settings, mapper: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(step: str, of: str) -> None:
        if step == "merged":
            raise KeyboardInterrupt

    mapper(actor__user__name="bob")
    with monkeypatch.context() as patched:
        patched.setattr(moving, "failpoint", stop)
        with pytest.raises(KeyboardInterrupt):
            once_more(lake)
    before = files(lake)
    assert once_more(lake, dry_run=True).rows == 8
    assert files(lake) == before
    with opened(lake) as found:
        assert Compactions(found.ledger.engine).open("cloud_trail_mgmt") is not None
    assert once_more(lake).rows == 8
    assert rows(lake, NAMES) == [("20250311", "bob", 8), ("20250312", "ann", 4)]
    is_sound(lake)


@pytest.mark.slow
@ON_BOTH
def test_a_dry_run_does_not_wait_for_who_holds_the_table(lake: Settings, mapper: Any) -> None:
    mapper(actor__user__name="bob")
    with opened(lake) as other, other.leases.held(moving.lease("cloud_trail_mgmt")) as lease:
        assert lease is not None
        assert once_more(lake, dry_run=True).rows == 8


@pytest.mark.slow
def test_a_dry_run_takes_no_half_moved_table_for_a_broken_one(
    tiny: str, settings: Make, tmp_path: Path, mapper: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A catalog has the new files, and the ledger not yet."""
    found = settings(catalogs=["iceberg"])
    log(tmp_path, 0)
    ingest.ingest([str(tmp_path / "logs")], found, tiny)
    mapper(actor__user__name="bob")
    meanwhile: list[remap.Summary] = []

    def look(step: str, of: str) -> None:
        if step == "replaced":
            meanwhile.append(once_more(found, dry_run=True))

    monkeypatch.setattr(moving, "failpoint", look)
    assert once_more(found).rows == 4
    assert [(summary.busy, summary.refused) for summary in meanwhile] == [(["cloud_trail_mgmt"], {})]


@pytest.mark.slow
def test_a_class_may_change(lake: Settings, mapper: Any) -> None:
    from tiny_source import MAPPER  # type: ignore[import-not-found]

    (event,) = MAPPER.events
    entered = {name: value for name, value in event.fields.items() if not name.startswith("api.")}
    login = replace(
        event, event_class="authentication", where=col.id.matches("-0$"),
        fields={**entered, "activity_id": "Logon", "user.name": "ann", "service.name": "tiny"},
    )  # fmt: skip
    made = replace(MAPPER, events=[login, event])
    load = registry.load
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(registry, "load", lambda name: made if name == "tiny" else load(name))
        assert once_more(lake).rows == 8
        found = rows(lake, "SELECT class_uid, count(*) FROM cloud_trail_mgmt WHERE eventday = '20250311' GROUP BY ALL")
        assert sorted(found) == [(3002, 2), (6003, 6)]
        is_sound(lake)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"cloud__account__uid": "210987654321"}, "would be in cloud_trail_mgmt/eu-west-1/210987654321/20250311"),
        ({"time": when(col.id.matches("-1$")).then(col.late.iso8601()).otherwise(col.at.iso8601())}, "become no event"),
    ],
    ids=["another partition", "no event"],
)
def test_a_partition_whose_events_do_not_come_out_in_it_stays_as_it_was(
    lake: Settings, mapper: Any, fields: dict[str, Any], reason: str
) -> None:
    before, known = rows(lake, "FROM cloud_trail_mgmt ORDER BY ALL"), files(lake)
    mapper(**fields)
    summary = once_more(lake)
    assert summary.partitions == 0
    (said,) = summary.refused.values()
    assert reason in said
    assert said.startswith("record ")
    assert (rows(lake, "FROM cloud_trail_mgmt ORDER BY ALL"), files(lake)) == (before, known)
    is_sound(lake)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda path: path.unlink(), "is unavailable"),
        (lambda path: path.write_text(path.read_text().replace("0-1", "0-9")), "another content"),
    ],
    ids=["gone", "changed"],
)
def test_an_object_that_is_not_as_it_was_keeps_its_partition_as_it_was(
    lake: Settings, mapper: Any, tmp_path: Path, change: Any, reason: str
) -> None:
    change(tmp_path / "logs" / "0.json")
    mapper(actor__user__name="bob")
    (said,) = once_more(lake).refused.values()
    assert reason in said
    assert rows(lake, NAMES) == [("20250311", "ann", 8), ("20250312", "ann", 4)]


@pytest.mark.slow
def test_events_of_objects_elsewhere_are_left_alone(lake: Settings, mapper: Any, tmp_path: Path) -> None:
    mapper(actor__user__name="bob")
    chosen = remap.Chosen("tiny", DAY, DAY, below=(tmp_path / "other").as_uri())
    (said,) = remap.remap(lake, chosen).refused.values()
    assert "is not below" in said
    chosen = replace(chosen, below=(tmp_path / "logs").as_uri())
    assert remap.remap(lake, chosen).partitions == 1


def test_records_in_quarantine_stay_there(tiny: str, settings: Make, tmp_path: Path, mapper: Any) -> None:
    found = settings()
    records = [{"id": "1", "at": "2025-03-11T09:00:00Z"}, {"id": "2", "late": "2025-03-11T09:00:00Z"}]
    write(tmp_path / "logs" / "a.json", json.dumps({"Tiny": records}))
    ingest.ingest([str(tmp_path / "logs")], found, tiny)
    mapper(time=coalesce(col.at.iso8601(), col.late.iso8601()))
    assert once_more(found).rows == 1
    assert rows(found, "SELECT source_record FROM quarantine") == [(2,)]
    is_sound(found)


@pytest.mark.slow
def test_what_was_made_anew_is_compacted_and_what_was_compacted_is_made_anew(lake: Settings, mapper: Any) -> None:
    compact.compact(lake)
    mapper(actor__user__name="bob")
    assert once_more(lake).rows == 8
    mapper(actor__user__name="eve")
    assert once_more(lake).rows == 8
    assert rows(lake, NAMES) == [("20250311", "eve", 8), ("20250312", "ann", 4)]
    compact.compact(lake)
    is_sound(lake)


@pytest.mark.slow
def test_late_objects_come_beside_events_that_were_made_anew(
    lake: Settings, mapper: Any, tmp_path: Path, tiny: str
) -> None:
    mapper(actor__user__name="bob")
    once_more(lake)
    log(tmp_path, 9)
    ingest.ingest([str(tmp_path / "logs")], lake, tiny)
    assert rows(lake, NAMES) == [("20250311", "bob", 12), ("20250312", "ann", 4)]
    compact.compact(lake)
    assert rows(lake, NAMES) == [("20250311", "bob", 12), ("20250312", "ann", 4)]
    is_sound(lake)


@pytest.mark.slow
def test_a_lost_file_of_events_that_were_made_anew_is_made_again(lake: Settings, mapper: Any) -> None:
    mapper(actor__user__name="bob")
    once_more(lake)
    (lost,) = [path for path in files(lake) if "g0001" in str(path)]
    data = lost.read_bytes()
    lost.unlink()
    with opened(lake) as found:
        assert [item.kind for item in check.check(found)] != []
        check.sync(found)
    assert lost.read_bytes() == data
    is_sound(lake)


@pytest.mark.slow
def test_a_lost_ledger_is_made_from_a_lake_with_events_that_were_made_anew(
    lake: Settings, mapper: Any, tmp_path: Path
) -> None:
    mapper(actor__user__name="bob")
    once_more(lake)
    before = rows(lake, "FROM cloud_trail_mgmt ORDER BY ALL")
    for path in (Path(lake.lake) / "_ledger").glob("ledger.db*"):
        path.unlink()
    rebuild_ledger.rebuild(lake)
    assert rows(lake, "FROM cloud_trail_mgmt ORDER BY ALL") == before
    is_sound(lake)


@pytest.mark.slow
@ON_BOTH
def test_iceberg_has_the_new_events_in_one_step(tiny: str, settings: Make, tmp_path: Path, mapper: Any) -> None:
    found = settings(catalogs=["iceberg"])
    log(tmp_path, 0)
    ingest.ingest([str(tmp_path / "logs")], found, tiny)
    mapper(actor__user__name="bob")
    assert once_more(found).partitions == 1
    with opened(found) as lake:
        catalog = next(item for item in lake.catalog.all if item.name == "iceberg")
        table = catalog._loaded("cloud_trail_mgmt")  # type: ignore[attr-defined]
        assert {row["actor"]["user"]["name"] for row in table.scan().to_arrow().to_pylist()} == {"bob"}
        assert table.scan().to_arrow().num_rows == 4
    is_sound(found)


@pytest.mark.slow
def test_the_command_says_what_was_done_and_what_was_not(
    lake: Settings, mapper: Any, ocsf_lake: RunCommand, tmp_path: Path  # noqa: F811 - the fixture
) -> None:
    command = ("backfill", "tiny", str(tmp_path / "logs"), "--from", "2025-03-11", "--to", "2025-03-12", "--remap")
    mapper(actor__user__name="bob")
    (tmp_path / "logs" / "2.json").unlink()
    run = ocsf_lake(*command, "--lake", lake.lake)
    assert run.code == 1
    assert "cloud_trail_mgmt/eu-west-1/111122223333/20250312 was left unchanged: " in run.err
    assert "8 events of 1 partition were mapped again; 1 partition left as they were" in run.err
    assert ocsf_lake(*command, "--lake", str(tmp_path / "nowhere")).code == 2


@pytest.mark.slow
@pytest.mark.integration
def test_a_lake_on_s3_is_looked_at_with_a_role_that_may_only_read(
    tiny: str, bucket: str, s3_owner: S3Server, tmp_path: Path, mapper: Any
) -> None:
    """Its catalog too; a lake without one is looked at in the same way otherwise."""
    given: dict[str, Any] = {"lake": f"s3://{bucket}/lake", "state": tmp_path / "state", "catalogs": ["iceberg"]}
    log(tmp_path, 0)
    ingest.ingest([str(tmp_path / "logs")], config.load(**given), tiny)
    reader = config.load(**given, lake_role=s3_owner.role)
    log(tmp_path, 1)
    with pytest.raises(OcsfMappersError, match="denied"):
        ingest.ingest([str(tmp_path / "logs")], reader, tiny)
    mapper(actor__user__name="bob")
    assert once_more(reader, dry_run=True).rows == 4
