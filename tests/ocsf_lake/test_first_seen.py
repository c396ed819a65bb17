"""Rules about what was not seen before: told once, whatever the order in which events come, and never for a group that
is new itself.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from itertools import permutations
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest
import sqlalchemy as sa

from ocsf_lake import config
from ocsf_lake.config import Settings
from ocsf_lake.detections import check, first_seen, new_values, rules, run, scan
from ocsf_lake.detections.rules import Rule
from ocsf_lake.detections.statements import Span
from ocsf_lake.flows import detections as flow_detections
from ocsf_lake.ingest import run as ingest
from ocsf_lake.lake import opened
from ocsf_lake.ledger import baselines
from ocsf_lake.ledger.baselines import SCHEMA, Baselines
from ocsf_lake.ledger.ledger import Ledger
from ocsf_lake.ledger.tables import BATCHES
from ocsf_lake.upkeep import rebuild_ledger
from ocsf_mappers import duck
from tests.ocsf_lake.conftest import ON_BOTH, Make
from tests.ocsf_lake.detecting import Json, written
from tests.ocsf_lake.test_detect import _findings
from tests.test_sigma import ORDINARY

NEW: dict[str, Any] = {
    "id": "0a7c4a53-3c1f-4c39-9b7c-5f2f2b1a7f01", "level": "medium",
    "detection": {"s": {"userIdentity.type": "IAMUser"}, "condition": "s"},
    "first-seen": {"field": "sourceIPAddress|network", "group-by": ["userIdentity.arn"], "learning": "14d"},
}  # fmt: skip
OTHER = {"detection": {"s": {"eventName": "CreateUser"}, "condition": "s"}}
FILES = [
    [(1, "ada", "10.0.0.1"), (2, "ada", "10.0.0.9"), (20, "ada", "10.0.0.7"), (20, "ada", "ec2.amazonaws.com")],
    [(3, "bob", "10.0.0.1"), (10, "ada", "10.0.1.1"), (21, "ada", "10.0.2.1"), (22, "ada", "10.0.2.2")],
    [(18, "bob", "10.0.3.1"), (25, "ada", "10.0.1.7"), (26, "eve", "10.0.9.9"), (27, "eve", "10.0.9.1")],
]
"""Days, users and addresses of three files. News are ada's third network and bob's second, whatever comes first."""
EXPECTED = {"ada | 10.0.2.0/24", "bob | 10.0.3.0/24"}


def _record(day: int, user: str, address: str, number: int = 0) -> Json:
    arn = f"arn:aws:iam::111122223333:user/{user}"
    identity = {"type": "IAMUser", "userName": user, "arn": arn, "accountId": "111122223333"}
    return ORDINARY["aws_cloudtrail"] | {
        "eventTime": f"2026-05-{day:02}T09:10:{number:02}Z", "eventID": f"{user}-{day}-{address}-{number}",
        "eventName": "ListUsers", "userIdentity": identity, "sourceIPAddress": address,
    }  # fmt: skip


Bring = Callable[..., None]


@pytest.fixture
def bring(tmp_path: Path) -> Bring:
    """Ingests events of a file."""
    names = iter(range(1000))

    def brought(settings: Settings, events: Sequence[tuple[int, str, str]]) -> None:
        file = tmp_path / f"events{next(names)}.jsonl"
        file.write_text("\n".join(json.dumps(_record(*event)) for event in events), encoding="utf-8")
        assert not ingest.ingest([str(file)], settings, "aws_cloudtrail").failures

    return brought


@pytest.fixture
def ours(tmp_path: Path) -> list[Rule]:
    (tmp_path / "rules").mkdir()
    return written(tmp_path / "rules", new=NEW)


def _lake(folder: Path, name: str = "lake") -> Settings:
    return config.load(lake=str(folder / name))


def _told(settings: Settings) -> list[str]:
    return [about.partition(":user/")[2] for (about,) in _findings(settings, "unmapped['about']")]


def _rows(settings: Settings) -> list[dict[str, Any]]:
    with opened(settings, reading=True) as lake:
        found: list[dict[str, Any]] = lake.ledger.arrow("first_seen").to_pylist()
    return found


@pytest.fixture
def ledger() -> Iterator[sa.Engine]:
    """The tables of a ledger, in memory."""
    with closing(Ledger(None)) as made:
        yield made.engine


# -- what is news -----------------------------------------------------------------------------------------------------
def _judged_in_parts(
    rule: Rule, events: Sequence[tuple[str, str, int]], sizes: Iterator[int]
) -> tuple[set[tuple[str, str]], set[tuple[str, str]]]:
    """What is told when events come in parts: what was found, and what of it was said to have been no news."""
    with closing(Ledger(None)) as ledger, closing(duck.connect()) as judge:
        return _judged(rule, events, sizes, ledger.engine, judge)


def _judged(
    rule: Rule, events: Sequence[tuple[str, str, int]], sizes: Iterator[int], ledger: sa.Engine,
    judge: duckdb.DuckDBPyConnection,
) -> tuple[set[tuple[str, str]], set[tuple[str, str]]]:  # fmt: skip
    kept = Baselines(ledger)
    told: set[tuple[str, str]] = set()
    undone: set[tuple[str, str]] = set()
    waiting = list(events)
    while waiting:
        size = next(sizes)
        some, waiting = waiting[:size], waiting[size:]
        firsts: dict[tuple[str, str], int] = {}
        for about, value, time in some:
            firsts[about, value] = min(time, firsts.get((about, value), time))
        rows = [
            {"about": about, "value": value, "first": first, "event": f"{about}{value}{first}", "account": "a"}
            for (about, value), first in firsts.items()
        ]
        new = pa.Table.from_pylist(rows, SCHEMA)
        known = kept.rows("b", sorted({about for about, _ in firsts}))
        found = new_values.NewValues("b", new_values._judged(judge, rule.asked.unseen, known, None, new, None))
        assert found.learn(kept)
        with ledger.begin() as connection:
            pairs = [(one["about"], one["value"]) for one in found.rows("is_new")]
            baselines.note_findings(connection, [("b", *pair, "f") for pair in pairs])
        told |= set(pairs)
        undone |= {(one["about"], one["value"]) for one in found.rows("is_undone")}
    return told, undone


def _by_hand(events: Sequence[tuple[str, str, int]], learning: int, most: int) -> set[tuple[str, str]]:
    firsts: dict[str, dict[str, int]] = {}
    for about, value, time in events:
        of = firsts.setdefault(about, {})
        of[value] = min(time, of.get(value, time))
    found = set()
    for about, of in firsts.items():
        begun = min(of.values())
        kept = sorted(of.items(), key=lambda one: (one[1], one[0]))[:most]
        found |= {(about, value) for value, time in kept if time - begun >= learning}
    return found


@pytest.mark.slow
@pytest.mark.parametrize("most", [1_000, 4])
def test_what_comes_in_any_order_is_news_as_if_it_came_at_once(
    ours: list[Rule], most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(new_values, "MOST_VALUES", most)
    (rule,) = ours
    assert rule.first_seen is not None
    learning = rule.first_seen.learning_ms
    chance = random.Random(7)
    events = [
        (chance.choice("abc"), str(chance.randrange(9)), chance.randrange(40) * learning // 3) for _ in range(90)
    ]
    expected = _by_hand(events, learning, most)
    assert len(expected) > 3
    for _ in range(3):
        chance.shuffle(events)
        told, undone = _judged_in_parts(rule, events, iter(lambda: chance.randrange(1, 40), None))
        assert expected <= told
        assert undone <= told
        if most == 1_000:
            assert told - expected <= undone, "what was told too much is said"
    in_time, undone = _judged_in_parts(rule, sorted(events, key=lambda one: one[2]), iter(lambda: 10, None))
    assert (in_time, undone) == (expected, set()), "nothing is late"


def test_networks_of_addresses_are_written_in_one_way() -> None:
    found = {
        "198.51.100.7": "198.51.100.0/24", "2001:db8::1": "2001:db8:0::/48", "2001:0DB8:0:7::1": "2001:db8:0::/48",
        "2001:db8:1:2:3:4:5:6": "2001:db8:1::/48", "::1": "0:0:0::/48", "1::2:3:4:5:6:7": "1:0:2::/48",
        "ec2.amazonaws.com": None, "AWS Internal": None, "a:b": None, "": None, "'; --": None,
    }  # fmt: skip
    sql = f"SELECT {first_seen._network('x')} FROM (SELECT ?::VARCHAR AS x)"
    with duckdb.connect() as connection:
        assert {text: connection.execute(sql, [text]).fetchall()[0][0] for text in found} == found


def test_long_and_odd_values_fit_into_an_index() -> None:
    sql = f"SELECT {first_seen._short(['x'])}, {first_seen._short(['x', 'y'])} FROM (SELECT ?::VARCHAR AS x, '|' AS y)"
    with duckdb.connect() as connection:
        for text in ("a" * 5_000, "a" * 5_001, "a\0b", "é" * 300):
            one, both = connection.execute(sql, [text]).fetchall()[0]
            assert len(one) <= 256 >= len(both)
            assert "\0" not in one
        assert connection.execute(sql, ["a" * 5_000]).fetchall() != connection.execute(sql, ["a" * 5_001]).fetchall()


def test_what_the_key_of_a_rule_cannot_say_is_a_reason(tmp_path: Path) -> None:
    said: dict[str, tuple[Any, str]] = {
        "no_map": ("14d", "has to have"),
        "no_field": ({"group-by": ["awsRegion"], "learning": "1d"}, "field has to be"),
        "other": (NEW["first-seen"] | {"lerning": 1}, "did you mean 'learning'"),
        "modifier": (NEW["first-seen"] | {"field": "userAgent|lower"}, "the only modifier"),
        "grouped": (NEW["first-seen"] | {"group-by": ["sourceIPAddress|network"]}, "takes no modifiers"),
        "no_time": (NEW["first-seen"] | {"learning": "soon"}, "learning has to be"),
        "too_long": (NEW["first-seen"] | {"learning": "99999999999999d"}, "a hundred years"),
        "a_list": (NEW["first-seen"] | {"field": "resources.ARN"}, "may be a list"),
    }  # fmt: skip
    (tmp_path / "typo").mkdir()
    base = {"name": "base", **NEW}
    counted = {"correlation": {"type": "event_count", "rules": ["base"], "timespan": "1h", "condition": {"gte": 2}}}
    wrong = {name: NEW | {"first-seen": one} for name, (one, _) in said.items()}
    spelled = {key: value for key, value in NEW.items() if key != "first-seen"} | {"first_seen": NEW["first-seen"]}
    loaded = written(tmp_path, counted=[base, counted], spelled=spelled, **wrong)
    reasons = {rule.stem: rule.reason for rule in loaded if rule.reason}
    assert "correlations of those" in (reasons["counted"] or "")
    assert "did you mean 'first-seen'" in (reasons["spelled"] or "")
    for name, (_, piece) in said.items():
        assert piece in (reasons[name] or ""), (name, reasons[name])
    (typo,) = written(tmp_path / "typo", typo=NEW | {"first-seen": NEW["first-seen"] | {"group-by": "awsRegoin"}})
    checked = check.Checked(typo)
    check._assess_first_seen(checked)
    assert checked.status == "error"
    assert "did you mean 'awsRegion'" in checked.problems[0].reason


# -- in a lake --------------------------------------------------------------------------------------------------------
@pytest.mark.slow
def test_news_are_told_once_in_any_order(tmp_path: Path, bring: Bring, ours: list[Rule]) -> None:
    settings = _lake(tmp_path)
    for events in FILES:
        bring(settings, events)
    (counted,) = scan.counts(settings, ours, Span(), new_values.batch_files(run.waiting(settings)))
    assert counted.events == 2
    assert _rows(settings) == [], "who only counts writes nothing"
    assert run.detect(settings, ours).new == 2
    assert set(_told(settings)) == EXPECTED
    at_once, rows = _findings(settings), _rows(settings)
    assert len(rows) == 6
    (count, span) = _findings(settings, "count, end_time_dt - start_time_dt")[0]
    assert (count, span.total_seconds()) == (1, 0)
    for order in [(2, 0, 1)]:
        settings = _lake(tmp_path, "".join(map(str, order)))
        late = []
        for number in order:
            bring(settings, FILES[number])
            dry = scan.counts(settings, ours, Span(), new_values.batch_files(run.waiting(settings)))
            done = run.detect(settings, ours)
            assert dry[0].events == done.events[ours[0].key]
            late += done.undone
        told = _told(settings)
        assert len(told) == len(set(told))
        assert set(told) - {about.partition(":user/")[2] for _, about in late} == EXPECTED, order
        assert set(at_once) <= set(_findings(settings))
        assert _rows(settings) == rows or late, order
        assert run.detect(settings, ours, Span()).new == 0
        days = [counted.events for counted in scan.counts(settings, ours, Span(1_779_192_000_000))]
        assert days == [1], "of a range those whose first event is in it: ada's, of the 21st"


@pytest.mark.slow
def test_late_events_take_nothing_back_and_it_is_said(tmp_path: Path, bring: Bring, ours: list[Rule]) -> None:
    settings = _lake(tmp_path)
    bring(settings, [(1, "ada", "10.0.0.1"), (20, "ada", "10.0.2.1")])
    assert run.detect(settings, ours).new == 1
    bring(settings, [(2, "ada", "10.0.2.9")])
    late = run.detect(settings, ours)
    ((finding, about),) = late.undone
    assert (finding,) in _findings(settings)
    assert about.endswith("ada | 10.0.2.0/24")
    assert late.new == 0
    assert {row["event"]: row["finding"] for row in _rows(settings)}["ada-2-10.0.2.9-0"] == finding
    bring(settings, [(23, "ada", "10.0.2.1")])
    assert run.detect(settings, ours).undone == []
    for day in (25, 24):
        bring(settings, [(day, "ada", "10.0.3.1")])
        run.detect(settings, ours)
    with opened(settings, reading=True) as lake:
        times = {(row["first"], row["last"]) for row in lake.ledger.arrow("findings").to_pylist()}
    assert len(times) == 2
    assert all(first == last for first, last in times), "one event, however late an earlier one comes"


@pytest.mark.slow
@pytest.mark.parametrize("step", ["learnt", pytest.param("noted", marks=pytest.mark.slow)])
def test_a_run_that_dies_is_ended_by_the_next(
    tmp_path: Path, bring: Bring, ours: list[Rule], step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = _lake(tmp_path)
    bring(settings, FILES[0])
    run.detect(settings, ours)
    bring(settings, [*FILES[1], *FILES[2]])

    class KilledError(BaseException):
        pass

    def die(at: str) -> None:
        if at == step:
            raise KilledError

    with monkeypatch.context() as patched:
        patched.setattr(run, "failpoint", die)
        with pytest.raises(KilledError):
            run.detect(settings, ours)
    assert run.detect(settings, ours).new == 2
    assert set(_told(settings)) == EXPECTED
    told = {row["value"] for row in _rows(settings) if row["finding"] is not None}
    assert told == {"10.0.2.0/24", "10.0.3.0/24"}


@pytest.mark.slow
def test_a_rule_that_comes_later_knows_what_was_and_tells_what_comes(
    tmp_path: Path, bring: Bring, ours: list[Rule]
) -> None:
    settings = _lake(tmp_path)
    (tmp_path / "other").mkdir()
    other = written(tmp_path / "other", other=OTHER)
    for events in FILES[:2]:
        bring(settings, events)
    assert run.detect(settings, other).batches == 2
    bring(settings, FILES[2])
    assert run.detect(settings, ours).new == 1, "bob's second network; ada's third came before the rule did"
    assert _told(settings) == ["bob | 10.0.3.0/24"]
    bring(settings, [(28, "ada", "10.0.4.1")])
    run.detect(settings, other)
    bring(settings, [(29, "ada", "10.0.4.2")])
    assert run.detect(settings, ours).new == 0, "while other rules were asked, that network was seen already"
    assert run.detect(settings, ours, Span()).new == 2
    assert set(_told(settings)) == EXPECTED | {"ada | 10.0.4.0/24"}


@pytest.mark.slow
def test_history_that_rules_are_not_asked_of_is_known_all_the_same(
    tmp_path: Path, bring: Bring, ours: list[Rule]
) -> None:
    settings = _lake(tmp_path)
    bring(settings, [(1, "ada", "10.0.0.1")])
    run.detect(settings, ours)
    bring(settings, [(2, "ada", "10.0.4.1")])
    flow_detections.leave_out(settings, run.waiting(settings))
    bring(settings, [(28, "ada", "10.0.4.2")])
    assert run.detect(settings, ours).new == 0


@pytest.mark.slow
def test_a_rule_that_says_something_else_knows_other_values(tmp_path: Path, bring: Bring, ours: list[Rule]) -> None:
    settings = _lake(tmp_path)
    for events in FILES:
        bring(settings, events)
    run.detect(settings, ours)
    changed = written(tmp_path / "rules", new=NEW | {"first-seen": NEW["first-seen"] | {"field": "sourceIPAddress"}})
    bring(settings, [(28, "ada", "10.0.2.3")])
    assert run.detect(settings, changed).new == 1
    assert {row["value"] for row in _rows(settings)} >= {"10.0.2.1", "10.0.2.3", "ec2.amazonaws.com"}
    assert not [row for row in _rows(settings) if "/" in row["value"]], "what the rule was before is forgotten"
    longer = written(tmp_path / "rules", new=NEW | {"first-seen": NEW["first-seen"] | {"learning": "20d"}})
    assert longer[0].baseline == ours[0].baseline


@pytest.mark.slow
def test_a_ledger_made_again_makes_the_baseline_again(tmp_path: Path, bring: Bring, ours: list[Rule]) -> None:
    settings = _lake(tmp_path)
    for events in FILES[:2]:
        bring(settings, events)
        run.detect(settings, ours)
    rows = [(row["about"], row["value"], row["first"]) for row in _rows(settings)]
    rebuild_ledger.rebuild(settings, replacing=True)
    assert _rows(settings) == []
    bring(settings, FILES[2])
    assert run.detect(settings, ours).new == 1
    assert set(_told(settings)) == EXPECTED
    assert set(rows) <= {(row["about"], row["value"], row["first"]) for row in _rows(settings)}


def test_a_baseline_has_an_end(ledger: sa.Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(baselines, "MOST_ROWS", 2)
    kept, row = Baselines(ledger), dict.fromkeys(SCHEMA.names, "a") | {"first": 5}
    assert kept.learn("b", [row, row | {"value": "c"}])
    assert not kept.learn("b", [row | {"value": "d"}]), "no more are kept, and it is said"
    assert kept.learn("other", [row])
    assert kept.rows("b").num_rows == 2


def test_events_that_are_mapped_once_more_are_read_again(ledger: sa.Engine) -> None:
    kept = Baselines(ledger)
    assert not kept.is_whole("b")
    with ledger.begin() as connection:
        baselines.note(connection, [baselines.Baseline("b", "rule")], 1, "2026-05-04T09:00:00+00:00")
    assert kept.is_whole("b")
    columns = [column for column in BATCHES.c if not column.nullable]
    needed = {one.name: 0 if isinstance(one.type, sa.Integer | sa.Float) else "x" for one in columns}
    for version, done, is_whole in [("1", "11", True), ("remapped 1", "08", True), ("remapped 1", "10", False)]:
        row = {"id": f"{version}{done}", "kind": "merge", "mapper_version": version}
        with ledger.begin() as connection:
            connection.execute(sa.insert(BATCHES), [needed | row | {"done_at": f"2026-05-04T{done}:00:00+00:00"}])
        assert kept.is_whole("b") == is_whole
    with ledger.begin() as connection:
        baselines.note(connection, [baselines.Baseline("other", "other")], 2, "2026-05-04T12:00:00+00:00")
    assert [kept.is_whole(one) for one in ("b", "other")] == [False, True], "it lacks two batches"


@pytest.mark.slow
@ON_BOTH
def test_either_kind_of_ledger_has_them(settings: Make, bring: Bring, ours: list[Rule]) -> None:
    lake = settings()
    bring(lake, FILES[0])
    run.detect(lake, ours)
    bring(lake, [*FILES[1], (11, "x" * 900, "10.0.0.1"), (12, "zero\0'", "10.0.0.1")])
    assert run.detect(lake, ours).new == 1
    bring(lake, [*FILES[2], (4, "ada", "10.0.2.1")])
    done = run.detect(lake, ours)
    assert (done.new, len(done.undone)) == (1, 1)
    assert set(_told(lake)) == EXPECTED
    assert run.detect(lake, ours, Span()).new == 0


@pytest.mark.slow
def test_every_order_of_files_ends_with_the_same_baseline(ours: list[Rule]) -> None:
    """The files of above, judged without a lake: what each order keeps is the same."""
    (rule,) = ours
    sizes = list(map(len, FILES))
    for order in permutations(FILES):
        events = [(user, address, day * 86_400_000) for file in order for day, user, address in file]
        told, undone = _judged_in_parts(rule, events, iter(sizes))
        assert told - undone == _by_hand(events, 14 * 86_400_000, 1_000), order


def test_rules_are_loaded_with_what_they_want_new(ours: list[Rule]) -> None:
    (rule,) = ours
    assert rule.kind == "first-seen"
    assert rule.first_seen == first_seen.FirstSeen(("sourceIPAddress|network",), ("userIdentity.arn",), 14 * 86_400_000)
    assert rules.load([rule.path], {})[0].version == rule.version
