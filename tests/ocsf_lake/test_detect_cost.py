"""What makes rules cheap changes nothing of what they find: texts are kept, and only what may match is planned."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import duckdb
import pytest

from ocsf_lake import config
from ocsf_lake.config import Settings
from ocsf_lake.detections import asked, compiled, logs, rules, run, scan
from ocsf_lake.detections.statements import Span
from ocsf_lake.ingest import run as ingest
from ocsf_lake.lake import opened
from ocsf_lake.query import query
from tests.ocsf_lake.detecting import written

NAMES = ("CreateUser", "DeleteTrail", "StopLogging", "DeleteUser", "PutUserPolicy", "CreateAccessKey")


def _rules(folder: Path) -> None:
    folder.mkdir()
    files: dict[str, Any] = {
        name: {"detection": {"s": {"eventName": name}, "condition": "s"}, "name": name.lower()} for name in NAMES
    }
    files["any"] = {"detection": {"s": {"eventSource": "iam.amazonaws.com"}, "condition": "s"}, "name": "any"}
    for kind, bases in (("temporal", ["createuser", "createaccesskey"]), ("event_count", ["createuser"])):
        condition = {"condition": {"gte": 2}} if kind == "event_count" else {}
        files[kind] = {
            "correlation": {"type": kind, "rules": bases, "group-by": ["awsRegion"], "timespan": "1h"} | condition
        }
        files[kind]["correlation"]["generate"] = True
    written(folder, **files)


def _record(number: int, name: str | None) -> dict[str, Any]:
    return {
        "eventVersion": "1.08", "eventID": f"{number:08}-0000-4000-8000-000000000000",
        "eventSource": "iam.amazonaws.com", "eventTime": f"2026-05-04T09:{number:02}:00Z", "awsRegion": "eu-west-1",
        "sourceIPAddress": "192.0.2.1", "eventType": "AwsApiCall", "eventCategory": "Management",
        "recipientAccountId": "111122223333",
        "userIdentity": {"type": "IAMUser", "userName": "ada"}, "requestParameters": None, "responseElements": None,
        "eventName": name,
    }  # fmt: skip


def _bring(settings: Settings, folder: Path, *names: str) -> None:
    number = len(list(folder.glob("*.json")))
    file = folder / f"{number}.json"
    records = [_record(10 * number + place, name) for place, name in enumerate(names)]
    file.write_text(json.dumps({"Records": records}), encoding="utf-8")
    ingest.ingest([str(file)], settings, "aws_cloudtrail")


def _known(settings: Settings) -> dict[str, tuple[int, int, int]]:
    with opened(settings, reading=True) as lake:
        rows = lake.ledger.arrow("findings").to_pylist()
    return {row["id"]: (row["first"], row["last"], row["events"]) for row in rows}


@pytest.mark.slow
def test_what_is_left_out_finds_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _rules(tmp_path / "rules")
    found = compiled.load([tmp_path / "rules"], {})
    batches = [("CreateUser", "StopLogging"), ("CreateAccessKey", "createuser"), ("ListUsers",)]
    lengths: list[int] = []
    stream = query.stream

    def noted(connection: duckdb.DuckDBPyConnection, sql: str, *rest: Any, **more: Any) -> Any:
        lengths.append(sql.count("CASE WHEN"))
        return stream(connection, sql, *rest, **more)

    lakes = {}
    for name in ("pinned", "all"):
        settings = lakes[name] = config.load(lake=str(tmp_path / name), workers=1)
        folder = tmp_path / f"logs of {name}"
        folder.mkdir()
        with monkeypatch.context() as patch:
            patch.setattr(query, "stream", noted)
            if name == "all":
                patch.setattr(scan, "possible", lambda lake, relation, looks, span, least=0: dict(looks))
            for names in batches:
                _bring(settings, folder, *names)
                lengths.clear()
                run.detect(settings, found)
                if names == ("ListUsers",):
                    assert len(lengths) == 1, "no rule that counts is asked where nothing is there to count"
                    assert (lengths[0] < 8) == (name == "pinned")
    known = [{key[2:]: value for key, value in _known(lake).items()} for lake in lakes.values()]
    assert known[0] == known[1]
    # both counts, both single rules that counts name, StopLogging, and what is of any name
    assert len(known[0]) == 6


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({"s": {"eventName": ["A", "B"]}}, {"api.operation": {"a", "b", None}}),
        ({"s": {"eventName|contains": "A"}}, {}),
        ({"s": [{"eventName": "A"}, {"eventSource": "x"}]}, {}),
        ({"s": {"eventName": "A", "userIdentity.type": "B"}}, {"api.operation": {"a", None}}),
        ({"s": {"noSuchMember": "x"}}, {}),
    ],
)
def test_pins_are_what_a_condition_cannot_hold_without(
    tmp_path: Path, said: dict[str, Any], expected: dict[str, set[str | None]]
) -> None:
    (rule,) = written(tmp_path, r={"detection": said | {"condition": "s"}})
    ((_, look),) = rule.asked.looks
    assert look.pins is not None
    operations = {column: set(texts) for column, texts in look.pins.items() if column == "api.operation"}
    assert operations == expected


def test_a_not_pins_nothing(tmp_path: Path) -> None:
    said = {"s": {"eventSource|contains": "iam"}, "f": {"eventName": "A"}, "condition": "s and not f"}
    (rule,) = written(tmp_path, r={"detection": said})
    ((_, look),) = rule.asked.looks
    assert "api.operation" not in (look.pins or {})


def test_no_column_is_called_as_the_variables_of_conditions() -> None:
    for log in logs.LOGS:
        for part in log.parts:
            assert not {"item", "node", "part", "rule", "event"} & part.relation.every_name
            assert not any(name.startswith("value") and name[5:].isdigit() for name in part.relation.every_name)


# -- what is kept -----------------------------------------------------------------------------------------------------
@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setattr(compiled, "_folder", lambda: folder)
    monkeypatch.setattr(compiled, "_remembered", {})
    return folder


def _again(monkeypatch: pytest.MonkeyPatch) -> None:
    """As another process: nothing is remembered, and converting is not possible."""
    monkeypatch.setattr(compiled, "_remembered", {})

    def never(*_: object) -> None:
        raise AssertionError("converted again")

    monkeypatch.setattr(rules, "load", never)


def test_kept_rules_are_the_rules(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _rules(tmp_path / "rules")
    first = compiled.load([tmp_path / "rules"], {})
    assert first == [rule.asked for rule in rules.load([tmp_path / "rules"], {})]
    (file,) = cache.iterdir()
    assert file.stat().st_mode & 0o777 == 0o600
    _again(monkeypatch)
    kept = compiled.load([tmp_path / "rules"], {})
    assert kept == first
    assert [look.pins for rule in kept for _, look in rule.looks] == [
        look.pins for rule in first for _, look in rule.looks
    ]
    assert compiled.load([tmp_path / "rules"], {}) is kept


@pytest.mark.parametrize("what", ["rule", "added", "placeholders", "program"])
def test_another_rule_or_mapping_is_not_taken_for_the_same(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    _rules(tmp_path / "rules")
    compiled.load([tmp_path / "rules"], {})
    _again(monkeypatch)
    changed = {"p": ["x"]} if what == "placeholders" else {}
    if what == "rule":
        file = tmp_path / "rules" / "any.yml"
        file.write_text(file.read_text().replace("iam", "sts"))
    elif what == "added":
        (tmp_path / "rules" / "more.yaml").write_text("title: more")
    elif what == "program":
        monkeypatch.setattr(compiled, "_program", lambda: "another")
    with pytest.raises(AssertionError, match="converted again"):
        compiled.load([tmp_path / "rules"], changed)


@pytest.mark.parametrize("what", ["damaged", "writable", "folder"])
def test_a_file_that_others_could_have_written_is_not_read(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    _rules(tmp_path / "rules")
    compiled.load([tmp_path / "rules"], {})
    (file,) = cache.iterdir()
    if what == "damaged":
        file.write_bytes(file.read_bytes()[:-100])
    else:
        (file if what == "writable" else cache).chmod(0o777)
    _again(monkeypatch)
    with pytest.raises(AssertionError, match="converted again"):
        compiled.load([tmp_path / "rules"], {})


def test_rules_that_change_while_they_are_read_are_not_kept(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(tmp_path, rule={"title": "one", "detection": {"s": {"eventName": "a"}, "condition": "s"}})
    load = rules.load

    def changed(*given: Any) -> list[rules.Rule]:
        file = tmp_path / "rule.yml"
        file.write_text(file.read_text(encoding="utf-8").replace("one", "two"), encoding="utf-8")
        return load(*given)

    monkeypatch.setattr(rules, "load", changed)
    assert [rule.title for rule in compiled.load([tmp_path / "rule.yml"], {})] == ["two"]
    monkeypatch.setattr(rules, "load", load)
    written(tmp_path, rule={"title": "one", "detection": {"s": {"eventName": "a"}, "condition": "s"}})
    assert [rule.title for rule in compiled.load([tmp_path / "rule.yml"], {})] == ["one"]


def test_a_file_whose_name_or_values_are_no_text_stops_no_other(tmp_path: Path, cache: Path) -> None:
    said = {"detection": {"s": {"eventName": "CreateUser"}, "condition": "s"}}
    written(tmp_path, good=said, half=said | {"level": "\ud800"})
    (tmp_path / os.fsdecode(b"n\xff.yml")).write_bytes((tmp_path / "good.yml").read_bytes())
    (tmp_path / "lake").mkdir()
    settings = config.load(lake=str(tmp_path / "lake"))
    _bring(settings, tmp_path / "lake", "CreateUser")
    found = compiled.load([tmp_path], {})
    assert [rule.stem for rule in found if not rule.reason] == ["good", "n?"]
    assert run.detect(settings, found).new == 2
    assert "level" in (next(rule for rule in found if rule.stem == "half").reason or "")
    json.dumps([rule.reason for rule in found]).encode()
    assert all("\ud800" not in (rule.reason or "") for rule in found)


def test_rules_are_asked_where_nothing_can_be_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _rules(tmp_path / "rules")
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(compiled, "_remembered", {})
    for folder in (None, tmp_path / "file" / "cache", Path(os.devnull)):
        monkeypatch.setattr(compiled, "_folder", lambda folder=folder: folder)
        assert len(compiled.load([tmp_path / "rules"], {"p": [str(folder)]})) == len(NAMES) + 3


@pytest.mark.slow
def test_statements_that_cannot_be_planned_stop_no_other(tmp_path: Path) -> None:
    settings = config.load(lake=str(tmp_path / "lake"), workers=1)
    logs_folder = tmp_path / "logs"
    logs_folder.mkdir()
    _bring(settings, logs_folder, "CreateUser")
    _rules(tmp_path / "rules")
    found = [rule.asked for rule in rules.load([tmp_path / "rules"], {})]
    number = next(number for number, rule in enumerate(found) if rule.stem == "any")
    ((relation, look),) = found[number].looks
    broken = asked.Look("no_such_function(time)", look.columns, {})
    found[number] = asked.Asked(**{**vars(found[number]), "looks": ((relation, broken),)})
    counts = scan.counts(settings, found, Span())
    assert "no_such_function" in (counts[number].reason or "")
    assert {one.rule.stem for one in counts if one.events} == {"CreateUser"}
    done = run.detect(settings, found)
    assert set(done.reasons) == {number}
    assert done.new == 1
