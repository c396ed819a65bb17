"""`ocsf-lake detect`: findings are in the lake once, in whatever order events come, and whoever dies on the way."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from itertools import permutations
from pathlib import Path
from typing import Any

import duckdb
import pytest
import sqlalchemy as sa

from ocsf_lake import config
from ocsf_lake.cli import detect as cli_detect
from ocsf_lake.config import Settings
from ocsf_lake.detections import findings, grouped, new_values, rules, run, scan, statements
from ocsf_lake.detections.asked import Arm, Asked, Look
from ocsf_lake.detections.rules import Rule
from ocsf_lake.detections.statements import Span
from ocsf_lake.ingest import moving
from ocsf_lake.ingest import run as ingest
from ocsf_lake.lake import Lake, opened
from ocsf_lake.ledger import database
from ocsf_lake.ledger.detections import Detections, Finding
from ocsf_lake.ledger.leases import LostError
from ocsf_lake.ledger.tables import DETECTED_BATCHES
from ocsf_lake.query import query
from ocsf_lake.upkeep import compact, rebuild_ledger
from ocsf_mappers.errors import ConfigError
from tests.ocsf_lake.conftest import ON_BOTH, Make
from tests.ocsf_lake.detecting import Json, written
from tests.ocsf_lake.test_chain import faults
from tests.test_sigma import ORDINARY

RULES: dict[str, Any] = {
    "keys": {
        "id": "3c3d9a3e-7d5b-4b0e-8a4c-0b1f7a525c8e", "level": "high",
        "tags": ["attack.persistence", "attack.t1098.001"],
        "detection": {"s": {"eventName": "CreateAccessKey"}, "condition": "s"},
    },
    "burst": [
        {"name": "listed", "detection": {"s": {"eventName|startswith": "List"}, "condition": "s"}},
        {"title": "burst", "correlation": {
            "type": "event_count", "rules": ["listed"], "group-by": ["userIdentity.userName"], "timespan": "10m",
            "condition": {"gte": 3},
        }},
    ],
}  # fmt: skip
CALLS = [
    [(0, "ada", "CreateAccessKey"), (1, "ada", "ListUsers"), (8, "ada", "ListRoles")],
    [(4, "ada", "ListUsers"), (30, "ada", "CreateAccessKey"), (31, "bob", "ListUsers")],
    [(90, "bob", "CreateAccessKey"), (33, "bob", "ListUsers"), (35, "bob", "ListUsers"), (36, "eve", "ListUsers")],
]
"""Minutes, users and calls of three files: those of one alone make no burst of ada's."""


def _record(minute: int, user: str, name: str) -> Json:
    arn = f"arn:aws:iam::111122223333:user/{user}"
    identity = {"type": "IAMUser", "userName": user, "arn": arn, "accountId": "111122223333"}
    return ORDINARY["aws_cloudtrail"] | {
        "eventTime": f"2026-05-04T{minute // 60:02}:{minute % 60:02}:00Z", "eventID": f"{user}-{minute}",
        "eventName": name, "userIdentity": identity,
    }  # fmt: skip


Bring = Callable[[Settings, int], None]


@pytest.fixture
def bring(tmp_path: Path) -> Bring:
    """Ingests one of the files."""

    def brought(settings: Settings, number: int) -> None:
        file = tmp_path / f"calls{number}.jsonl"
        file.write_text("\n".join(json.dumps(_record(*call)) for call in CALLS[number]), encoding="utf-8")
        summary = ingest.ingest([str(file)], settings, "aws_cloudtrail")
        assert not summary.failures

    return brought


@pytest.fixture
def ours(tmp_path: Path) -> list[Rule]:
    (tmp_path / "rules").mkdir()
    return written(tmp_path / "rules", **RULES)


def _lake(folder: Path, name: str = "lake", **more: object) -> Settings:
    return config.load(lake=str(folder / name), **more)


def _findings(settings: Settings, columns: str = "finding_info.uid") -> list[tuple[Any, ...]]:
    with query.connected(settings, f"SELECT {columns} FROM detections ORDER BY ALL") as connection:
        return connection.execute(f"SELECT {columns} FROM detections ORDER BY ALL").fetchall()


@pytest.mark.slow
def test_findings_are_events_of_the_lake(tmp_path: Path, bring: Bring, ours: list[Rule]) -> None:
    settings = _lake(tmp_path)
    for number in range(len(CALLS)):
        bring(settings, number)
    summary = run.detect(settings, ours)
    assert (summary.new, summary.batches) == (4, 3)
    attack = "finding_info.attacks[2].sub_technique.uid"
    found = _findings(settings, f"message, severity, count, {attack}, cloud.account.uid, eventday")
    assert found == [
        ("burst", "Unknown", 1, None, "111122223333", "20260504"),
        ("burst", "Unknown", 1, None, "111122223333", "20260504"),
        ("keys", "High", 1, "T1098.001", "111122223333", "20260504"),
        ("keys", "High", 2, "T1098.001", "111122223333", "20260504"),
    ]
    evidence = _findings(settings, "list_transform(finding_info.related_events, LAMBDA item : item.uid)")
    assert (["ada-0", "ada-30"],) in evidence
    assert run.detect(settings, ours).new == 0
    assert run.detect(settings, ours, Span()).new == 0
    assert len(_findings(settings)) == 4


@pytest.mark.slow
def test_the_file_of_findings_is_in_the_chain(tmp_path: Path, bring: Bring, ours: list[Rule]) -> None:
    settings = _lake(tmp_path)
    bring(settings, 0)
    run.detect(settings, ours)
    assert faults(settings) == []
    (file,) = (Path(settings.lake) / run.FOLDER).iterdir()
    file.write_bytes(file.read_bytes().replace(b"keys", b"kezs"))
    assert faults(settings) == [f"file changed: {run.FOLDER}/{file.name}"]


@pytest.mark.slow
def test_what_comes_bit_by_bit_is_found_as_what_comes_at_once(tmp_path: Path, bring: Bring, ours: list[Rule]) -> None:
    settings = _lake(tmp_path)
    for number in range(len(CALLS)):
        bring(settings, number)
    run.detect(settings, ours)
    at_once = _findings(settings)
    for order in list(permutations(range(len(CALLS))))[1:6:4]:
        settings = _lake(tmp_path, "".join(map(str, order)))
        for number in order:
            bring(settings, number)
            run.detect(settings, ours)
        assert _findings(settings) == at_once, order
        with opened(settings, reading=True) as lake:
            rows = lake.ledger.arrow("findings").to_pylist()
        counted = {row["rule"]: row["events"] for row in rows if row["events"] > 1}
        assert counted == {RULES["keys"]["id"]: 2}, "late events count on"


def _looked_at(lake: Lake) -> list[str]:
    with lake.ledger.engine.connect() as connection:
        return list(connection.scalars(sa.select(DETECTED_BATCHES.c.batch_id)))


@pytest.mark.slow
@pytest.mark.parametrize("step", ["noted", "put", "ingested"])
def test_a_run_that_dies_is_ended_by_the_next(
    tmp_path: Path, bring: Bring, ours: list[Rule], step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = _lake(tmp_path)
    for number in range(len(CALLS)):
        bring(settings, number)

    class KilledError(BaseException):
        pass

    def die(at: str) -> None:
        if at == step:
            raise KilledError

    with monkeypatch.context() as patched:
        patched.setattr(run, "failpoint", die)
        with pytest.raises(KilledError):
            run.detect(settings, ours)
    assert run.detect(settings, ours).new == 4
    assert run.detect(settings, ours).new == 0
    found = _findings(settings)
    assert len(found) == len(set(found)) == 4


@pytest.mark.slow
def test_rules_look_at_a_time_and_write_nothing_when_they_only_count(
    tmp_path: Path, bring: Bring, ours: list[Rule]
) -> None:
    settings = _lake(tmp_path)
    for number in range(len(CALLS)):
        bring(settings, number)
    before = sorted(path.as_posix() for path in (tmp_path / "lake").rglob("*.parquet"))
    counts = {one.rule.name or one.rule.title: one.events for one in scan.counts(settings, ours)}
    assert counts == {"keys": 3, "burst": 2, "listed": 7}
    hour = int(datetime(2026, 5, 4, 1, tzinfo=UTC).timestamp() * 1000)
    counts = {one.rule.title: one.events for one in scan.counts(settings, ours, Span(hour))}
    assert counts["keys"] == 1
    new = scan.counts(settings, ours, Span(), new_values.batch_files(run.waiting(settings)))
    assert {one.rule.title: one.events for one in new}["keys"] == 3
    assert sorted(path.as_posix() for path in (tmp_path / "lake").rglob("*.parquet")) == before
    run.detect(settings, ours)
    new = scan.counts(settings, ours, Span(), new_values.batch_files(run.waiting(settings)))
    assert {one.events for one in new} == {0}


@pytest.mark.slow
def test_what_is_expected_is_marked_until_its_last_day(tmp_path: Path, bring: Bring, ours: list[Rule]) -> None:
    today = datetime.now(UTC).date()
    expected = [
        {"rule": "keys", "about": "*user/ada", "reason": "ada rotates keys", "until": today.isoformat()},
        {"rule": "keys", "about": "*user/bob", "reason": "no longer", "until": (today - timedelta(days=1)).isoformat()},
    ]
    settings = _lake(tmp_path, rule_suppressions=expected)
    for number in (0, 2):
        bring(settings, number)
    run.detect(settings, [rule for rule in ours if rule.title == "keys"])
    reason = f"ada rotates keys (until {today})"
    assert _findings(settings, "status, comment") == [("New", None), ("Suppressed", reason)]
    with pytest.raises(ConfigError, match="rule_suppressions"):
        _lake(tmp_path, rule_suppressions=[{"rule": "keys", "until": "2026-01-01"}])


@pytest.mark.slow
def test_others_write_to_the_ledger_while_rules_are_asked(
    tmp_path: Path, bring: Bring, ours: list[Rule], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "BUSY_SECONDS", 0)
    settings = _lake(tmp_path)
    bring(settings, 0)
    asked = findings.of_rows

    def while_asked(*given: Any, **more: Any) -> Iterator[Finding]:
        if not run.waiting(settings)[1:]:
            bring(settings, 1)
        return asked(*given, **more)

    monkeypatch.setattr(findings, "of_rows", while_asked)
    run.detect(settings, ours)
    assert len(run.waiting(settings)) == 1, "what came meanwhile is looked at by the next run"


def test_of_a_correlation_whole_windows_are_counted_again(ours: list[Rule]) -> None:
    width = 600_000
    (burst,) = [rule.asked for rule in ours if rule.correlation]
    for first, last in (7 * width, 7 * width), (7 * width + 1, 9 * width - 1):
        spans: dict[int, Span] = {}
        assert not list(grouped._sorted([{"rule": 0, "first": first, "last": last}], [(0,)], [burst], spans))
        assert spans == {0: Span(7 * width, (last + width) // width * width + width)}


def test_a_rule_that_fails_at_an_event_stops_no_other(tmp_path: Path, bring: Bring, ours: list[Rule]) -> None:
    settings = _lake(tmp_path)
    bring(settings, 0)
    more = written(
        tmp_path / "rules", **RULES,
        new={"detection": {"s": {"eventName": "ListUsers"}, "condition": "s"},
             "first-seen": {"field": "awsRegion", "group-by": "eventName", "learning": "1s"}},
        other={"detection": {"s": {"eventName": "ListUsers"}, "condition": "s"},
               "first-seen": {"field": "eventName", "group-by": "awsRegion", "learning": "9d"}},
    )  # fmt: skip
    failing = [_failing(rule.asked) if rule.stem in ("burst", "new") else rule.asked for rule in more]
    failing.append(_failing(ours[-1].asked))
    for span in (None, Span()):
        done = run.detect(settings, failing, span)
        assert {failing[number].stem for number in done.failed} == {"burst", "new", "keys"}
        assert all("Conversion Error" in reason for reason in done.failed.values())
        assert [one.rule for one in done.asked] == [rule.asked.key for rule in more if rule.stem == "other"]
        counts = {one.rule.path.stem: one.events for one in scan.counts(settings, failing) if not one.reason}
        assert counts["keys"] == 1
    assert {message for (message,) in _findings(settings, "message")} == {"keys"}


def _failing(rule: Asked) -> Asked:
    """A rule that fails at a value: no name of an operation is a number."""

    def look(one: Look) -> Look:
        return replace(one, condition='CAST("api.operation" AS INTEGER) = 1', pins={})

    def arms(some: Iterable[Arm]) -> tuple[Arm, ...]:
        return tuple(replace(arm, look=look(arm.look)) for arm in some)

    return replace(
        rule, key=f"{rule.key}, failing", looks=tuple((relation, look(one)) for relation, one in rule.looks),
        counted=rule.counted and replace(rule.counted, arms=arms(rule.counted.arms)),
        unseen=rule.unseen and replace(rule.unseen, arms=arms(rule.unseen.arms)),
    )  # fmt: skip


@pytest.mark.slow
def test_findings_of_rules_that_look_alike_are_not_each_others(tmp_path: Path, bring: Bring) -> None:
    settings = _lake(tmp_path)
    bring(settings, 0)
    for folder, call in ("a", "CreateAccessKey"), ("b", "ListUsers"):
        (tmp_path / "alike" / folder).mkdir(parents=True)
        written(tmp_path / "alike" / folder, same={"detection": {"s": {"eventName": call}, "condition": "s"}})
    assert run.detect(settings, rules.load([tmp_path / "alike"], {})).new == 2


@pytest.mark.slow
def test_a_ledger_made_again_finds_nothing_twice(tmp_path: Path, bring: Bring, ours: list[Rule]) -> None:
    settings = _lake(tmp_path)
    for number in (0, 1):
        bring(settings, number)
        run.detect(settings, ours)
    before = _findings(settings)
    (tmp_path / "lake").rename(tmp_path / "moved")
    settings = _lake(tmp_path, "moved")
    rebuild_ledger.rebuild(settings, replacing=True)
    bring(settings, 2)
    new = run.detect(settings, ours)
    after = _findings(settings)
    assert len(after) == len(set(after)) == len(before) + new.new == 4
    assert run.detect(settings, ours).batches == 0
    with opened(settings, reading=True) as lake:
        assert sum(row["events"] for row in lake.ledger.arrow("findings").to_pylist()) == 5


def test_an_event_whose_file_comes_along_counts_once(
    tmp_path: Path, bring: Bring, ours: list[Rule], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = _lake(tmp_path)
    bring(settings, 0)
    bring(settings, 1)
    with monkeypatch.context() as patch:
        # of a batch that is done while others are merged; the file of before stays for its time of grace
        patch.setattr(moving, "failpoint", lambda step, _: bring(settings, 2) if step == "merged" else None)
        (table,) = compact.compact(settings, "cloud_trail_mgmt").tables
    assert (table.files_before, table.files_after) == (3, 2)
    summary = run.detect(settings, ours)
    assert sum(summary.events.values()) == sum(call[2] == "CreateAccessKey" for calls in CALLS for call in calls) + 2
    with opened(settings, reading=True) as lake:
        assert sum(row["events"] for row in lake.ledger.arrow("findings").to_pylist()) == 5


def test_a_noisy_rule_takes_no_memory_by_event() -> None:
    hits = (
        "SELECT 0 AS rule, 3600000 AS width, range AS ms, 'an object that has a long name#' || range AS place, "
        "range::VARCHAR AS uid, 'a' AS accountid, 'r' AS region, NULL AS about FROM range(1000000)"
    )
    with duckdb.connect(config={"memory_limit": "20MB", "temp_directory": "", "threads": 1}) as connection:
        rows = connection.execute(f"SELECT events FROM ({statements._grouped(hits)})").fetchall()
    assert rows == [(1_000_000,)]


@pytest.mark.slow
def test_names_of_a_log_are_no_sql(tmp_path: Path, ours: list[Rule]) -> None:
    evil = "x'); DROP TABLE \"a\" -- | \x1b[2J<script>"
    file = tmp_path / "evil.jsonl"
    file.write_text(json.dumps(_record(1, evil, "CreateAccessKey") | {"awsRegion": "../../etc"}), encoding="utf-8")
    settings = _lake(tmp_path)
    ingest.ingest([str(file)], settings, "aws_cloudtrail")
    detection = {"s": {"userIdentity.userName": evil, f"requestParameters.{evil.replace('|', '')}": None}}
    found = written(tmp_path / "rules", evil={"title": evil, "detection": detection | {"condition": "s"}})
    assert run.detect(settings, found).new == 2
    assert {title for (title,) in _findings(settings, "finding_info.title")} == {"keys", evil}
    assert not (tmp_path / "etc").exists()


def test_a_folder_of_rules_has_to_be_there(tmp_path: Path) -> None:
    for folder in (tmp_path / "none", tmp_path):
        with pytest.raises(ConfigError, match="rules: "):
            rules.load([folder], {})


@pytest.mark.slow
@ON_BOTH
def test_either_kind_of_ledger_has_them(settings: Make, bring: Bring, ours: list[Rule]) -> None:
    lake = settings()
    bring(lake, 0)
    assert run.detect(lake, ours).new == 1
    bring(lake, 1)
    with opened(lake, with_retries=True) as other:  # as if this one's lease were lost
        detections = Detections(other.ledger.engine)
        waiting = detections.waiting(findings.SOURCE)
        finding = Finding("f", "rule", 0, 0, 1, "{}")
        with pytest.raises(LostError, match="meanwhile"):
            detections.note("late", [*waiting, *_looked_at(other)], [finding], "2026-01-01", is_once=True)
        assert detections.waiting(findings.SOURCE) == waiting, "nothing of it is noted"
    bring(lake, 2)
    assert run.detect(lake, ours).new == 3
    assert run.detect(lake, ours, Span()).new == 0
    assert len(_findings(lake)) == 4
    assert run.waiting(lake) == []


def test_the_last_day_there_is_bounds_nothing() -> None:
    assert cli_detect._span(None, date.max).end is None
