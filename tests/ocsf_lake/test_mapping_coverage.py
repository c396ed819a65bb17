"""Mapping coverage: it adds up, it counts once, and it notices what is new."""

import json
from pathlib import Path

import pytest

from ocsf_lake import config
from ocsf_lake.config import Settings
from ocsf_lake.ingest import run as ingest
from ocsf_lake.lake import opened
from ocsf_lake.ledger import mapping_coverage
from ocsf_lake.ledger.leases import LostError
from ocsf_mappers.compiler.statistics import OTHER, DriftKind, SchemaDrift
from tests.ocsf_lake.conftest import OFTEN_SQLITE, ON_BOTH, Make, call, on_either, write
from tests.ocsf_lake.killed import killed_at
from tests.ocsf_lake.test_ingest import rows

COUNTED = "events, quarantined, dropped, members_mapped, members_unmapped, failed_casts, news"


def read(settings: Settings, path: Path, *records: object) -> dict[SchemaDrift, tuple[str, int, int]]:
    """Ingests a file of CloudTrail records; gives the drift of it, as file name, record and number of records."""
    write(path, json.dumps({"Records": records}))
    summary = ingest.ingest([str(path)], settings, source="aws_cloudtrail")
    found = summary.sources["aws_cloudtrail"].drift.items()
    return {drift: (Path(item.object).name, item.record, item.records) for drift, item in found}


@pytest.mark.slow
def test_the_meter_adds_up_to_the_batches(whole: Path) -> None:
    settings = config.load(lake=str(whole))
    counts = "batch_id, sum(events), sum(quarantined), sum(dropped)"
    found = rows(settings, f"SELECT {counts} FROM ledger_meter GROUP BY batch_id ORDER BY batch_id")
    assert found == rows(settings, "SELECT id, events, quarantined, dropped FROM ledger_batches ORDER BY id")
    days = "SELECT eventday, count(*) FROM cloud_trail_mgmt GROUP BY ALL ORDER BY ALL"
    metered = "SELECT day, sum(events) FROM ledger_meter WHERE source = 'aws_cloudtrail' AND events > 0 GROUP BY ALL"
    assert rows(settings, f"{metered} ORDER BY ALL") == rows(settings, days)
    unmapped = "SELECT sum(cardinality(unmapped)) FROM cloud_trail_mgmt"
    members = "SELECT sum({}) FROM ledger_{} WHERE source = 'aws_cloudtrail'"
    assert rows(settings, members.format("unmapped", "members")) == rows(settings, unmapped)
    assert rows(settings, members.format("members_unmapped", "meter")) == rows(settings, unmapped)


@pytest.mark.slow
def test_each_value_is_either_carried_or_left_over(settings: Make, tmp_path: Path) -> None:
    records = [call(number, readOnly="true", tlsDetails={"tlsVersion": "1.3"}) for number in (1, 2, 800)]
    records[0]["userIdentity"] = {"type": "IAMUser", "arn": "arn:user", "accountId": "1", "inScopeOf": {"a": 1, "b": 2}}
    read(settings(), tmp_path / "own.json", *records)
    first_day = "SELECT name, mapped, unmapped FROM ledger_members WHERE day = '20250311'"
    found = {name: (mapped, left) for name, mapped, left in rows(settings(), first_day)}
    assert found["eventName"] == found["userIdentity.arn"] == (2, 0)
    assert found["readOnly"] == found["tlsDetails.tlsVersion"] == (0, 2)
    assert found["userIdentity.inScopeOf.a"] == found["userIdentity.inScopeOf.b"] == (0, 1)
    assert "userIdentity.inScopeOf" not in found
    assert rows(settings(), "SELECT mapped FROM ledger_members WHERE day = '20250312' AND name = 'eventName'") == [(1,)]
    # 10 members of `call` beside the identity's three; of them 13 are carried each time
    (total,) = rows(settings(), "SELECT sum(members_mapped), sum(members_unmapped) FROM ledger_meter")
    assert total == (sum(mapped for mapped, _ in found.values()) + 12, 2 + 2 + 2 + 2)


@pytest.mark.slow
def test_a_cast_that_fails_is_counted_and_its_text_is_left_over(settings: Make, tmp_path: Path) -> None:
    session = {"attributes": {"creationDate": "yesterday"}}
    read(settings(), tmp_path / "own.json", call(1, userIdentity={"type": "Root", "sessionContext": session}))
    assert rows(settings(), "SELECT attribute, day, events FROM ledger_failed_casts") == [
        ("actor.session.created_time", "20250311", 1)
    ]
    name = "userIdentity.sessionContext.attributes.creationDate"
    assert rows(settings(), f"SELECT mapped, unmapped FROM ledger_members WHERE name = '{name}'") == [(0, 1)]


def test_what_the_mapper_declares_is_no_news(whole: Path) -> None:
    assert rows(config.load(lake=str(whole)), "FROM ledger_news") == []


@pytest.mark.slow
@ON_BOTH
def test_a_new_member_version_or_text_is_noticed_once(settings: Make, tmp_path: Path) -> None:
    login = {"eventName": "ConsoleLogin", "eventSource": "signin.amazonaws.com"}
    assert read(settings(), tmp_path / "first.json", call(1), call(2)) == {}
    second = [
        call(3),
        call(4, eventVersion="1.99", newMember={"deep": 1}),
        call(5, newMember={"deep": 2}, additionalEventData={"Unheard": "of"}),
        call(6, **login, responseElements={"ConsoleLogin": "Perhaps"}),
    ]
    assert read(settings(), tmp_path / "second.json", *second) == {
        SchemaDrift(DriftKind.MEMBER, "newMember.deep"): ("second.json", 2, 2),
        SchemaDrift(DriftKind.VALUE, "eventVersion", "1.99"): ("second.json", 2, 1),
        SchemaDrift(DriftKind.ENUM_TEXT, "status_id", "Perhaps"): ("second.json", 4, 1),
    }
    assert read(settings(), tmp_path / "third.json", call(7, eventVersion="1.99")) == {}
    assert rows(settings(), "SELECT kind, name, text, records, first_record FROM ledger_news ORDER BY ALL") == [
        ("enum_text", "status_id", "Perhaps", 1, 4),
        ("member", "newMember.deep", "", 2, 2),
        ("open_member", "additionalEventData.Unheard", "", 1, 3),
        ("value", "eventVersion", "1.99", 2, 2),
    ]
    assert rows(settings(), "SELECT sum(news) FROM ledger_meter") == [(3,)]


@pytest.mark.slow
@on_either("part", "registered", "written", "done", often=("written",))
def test_an_interrupted_batch_counts_once(
    step: str, settings: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "own.json", json.dumps({"Records": [call(1, newMember=1), {"eventName": "no time"}]}))
    with killed_at(step, monkeypatch):
        ingest.ingest([str(path)], settings())
    ingest.ingest([str(path)], settings())
    assert rows(settings(), f"SELECT {COUNTED} FROM ledger_meter ORDER BY day") == [
        (1, 0, 0, 12, 1, 0, 1), (0, 1, 0, 0, 0, 0, 0)
    ]  # fmt: skip
    assert rows(settings(), "SELECT name, records FROM ledger_news") == [("newMember", 1)]
    assert rows(settings(), "SELECT mapped FROM ledger_members WHERE name = 'eventName'") == [(1,)]


@pytest.mark.slow
def test_finishing_a_batch_again_counts_nothing(
    settings: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    finished = []

    def twice(self: object, *given: object) -> None:
        finished.append(given)
        finish(self, *given)  # type: ignore[arg-type]
        with pytest.raises(LostError):
            finish(self, *given)  # type: ignore[arg-type]

    with opened(settings()) as lake:
        kind = type(lake.ledger)
    finish = kind.finish
    monkeypatch.setattr(kind, "finish", twice)
    read(settings(), tmp_path / "own.json", call(1))
    assert len(finished) == 1
    assert rows(settings(), "SELECT mapped FROM ledger_members WHERE name = 'eventName'") == [(1,)]


@pytest.mark.slow
@OFTEN_SQLITE
def test_names_and_days_without_end_stay_bounded(
    settings: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mapping_coverage, "NAMES_A_DAY", 50)
    monkeypatch.setattr(mapping_coverage, "DRIFT_OF_SOURCE", 40)
    monkeypatch.setattr("ocsf_mappers.compiler.statistics.KEPT_DAYS", 3)
    long = "x" * 5_000
    invented = call(1, **{f"k{number}": 1 for number in range(300)}, **{"nul\0": "\0"})
    records = [invented, call(720, **{long: 1}), call(721), *(call(720 * day) for day in range(2, 9)), call(2)]
    read(settings(part_rows=1_000), tmp_path / "own.json", *records)
    counts = f"count(*), (sum(unmapped) FILTER (name = '{OTHER}'))::INT"
    ((names, other),) = rows(settings(), f"SELECT {counts} FROM ledger_members WHERE day = '20250311'")
    assert names == 51
    assert isinstance(other, int)
    assert other > 200
    assert rows(settings(), "SELECT max(length(name)) FROM ledger_members WHERE day = '20250312'") == [(200,)]
    assert rows(settings(), "SELECT count(*), sum(records) FROM ledger_news") == [(41, 302)]
    days = rows(settings(), "SELECT day, events FROM ledger_meter WHERE events > 0 ORDER BY day")
    assert days == [(OTHER, 7), ("20250311", 2), ("20250312", 2)]
