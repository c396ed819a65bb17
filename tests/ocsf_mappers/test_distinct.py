"""What is computed once for equal values is what the row by row query gives, record by record and count by count."""

from __future__ import annotations

import json
import random
import tracemalloc
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pytest

from ocsf_mappers import DEFAULT_VERSION, Engine, Mapped, RawObject, col, registry, when
from ocsf_mappers.compiler.distinct import Step
from ocsf_mappers.compiler.statistics import OTHER
from ocsf_mappers.engine import counting
from ocsf_mappers.engine import distinct as evaluation
from ocsf_mappers.engine import engine as engines
from ocsf_mappers.engine.distinct import Evaluator, _Cached
from ocsf_mappers.engine.statements import connection
from ocsf_mappers.readers import Chunk
from ocsf_mappers.readers.column import Column, combined, encoded, without_dictionaries
from ocsf_mappers.readers.json_members import Members
from tests import mutations, support
from tests.ocsf_mappers.records import call, lines_of
from tests.support import VERSIONS, flows, own, read_bytes

FOLDERS = {
    "aws_cloudtrail": "cloudtrail",
    "aws_guardduty": "guardduty",
    "aws_route53_resolver": "route53",
    "aws_vpc_flow": "vpcflow",
}
WITH_FEW_LISTS = [source for source in FOLDERS if source != "aws_guardduty"]
"""Lakes map these by distinct values; GuardDuty's lists make more steps than that pays for (`engine.MOST_SQL`)."""

SEEDS = [0, *(pytest.param(seed, marks=pytest.mark.acceptance) for seed in range(1, 5))]

Parts = list[tuple[RawObject, Chunk]]


@pytest.fixture
def both(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A function: engine and parts -> what either way makes of them, and how many records the first did not pass on."""

    def run(engine: Engine, parts: Parts) -> tuple[Mapped, Mapped, int]:
        evaluated: list[int] = []
        real = Evaluator.results

        def watched(self: Evaluator, *given: Any) -> Any:
            found = real(self, *given)
            evaluated.append(found[0].length)
            return found

        with monkeypatch.context() as patch:
            patch.setattr(engines, "FEW_ROWS", 1)
            patch.setattr(engines, "MOST_SQL", 10**9)
            patch.setattr(Evaluator, "results", watched)
            patch.setattr(engines._log, "debug", _given_up)
            distinct = engine.map(parts)
            patch.setattr(engines, "FEW_ROWS", 10**9)
            return distinct, engine.map(parts), sum(evaluated)

    return run


def _given_up(*_: object, **__: object) -> None:
    """What the first way gives up is done the other way, which would hide what is wrong with it."""
    raise AssertionError("mapped row by row")


def same(found: Mapped, expected: Mapped) -> None:
    """Fails where two ways differ: in an event, a reject, a count."""
    names = expected.events.column_names
    assert found.events.column_names == names
    for name in names:
        kind = without_dictionaries(expected.events[name].type)
        given, wanted = (events[name].cast(kind).to_pylist() for events in (found.events, expected.events))
        assert given == wanted, name
    assert _rows(found.rejects) == _rows(expected.rejects)
    assert found.dropped == expected.dropped
    assert found.failed_casts == expected.failed_casts
    for name in ("events", "mapped", "unmapped", "failed"):
        assert +getattr(found.statistics, name) == +getattr(expected.statistics, name), name
    assert {drift: seen.records for drift, seen in found.statistics.drift.items()} == {
        drift: seen.records for drift, seen in expected.statistics.drift.items()
    }


def parts_of(engine: Engine, *records: Any) -> Parts:
    return [(RawObject("memory://object"), chunk) for chunk in read_bytes(engine.mapper, lines_of(*records))]


def _rows(rejects: pa.Table) -> list[str]:
    return sorted(map(str, rejects.to_pylist()))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("source", "version"),
    [
        *((source, DEFAULT_VERSION) for source in WITH_FEW_LISTS),
        *(
            pytest.param(source, version, marks=pytest.mark.acceptance)
            for source in WITH_FEW_LISTS
            for version in VERSIONS
            if version != DEFAULT_VERSION
        ),
        pytest.param("aws_guardduty", DEFAULT_VERSION, marks=pytest.mark.acceptance),
    ],
)
def test_both_ways_map_the_sample_logs_alike(source: str, version: str, both: Any) -> None:
    """In the version that lakes have; those with other attributes, and GuardDuty, which no lake maps so, on demand."""
    found, expected, evaluated = both(support.engine(source, version), own(source))
    same(found, expected)
    assert evaluated > len(expected.events) / 2


@pytest.mark.slow  # samples and changed records go both ways in the two tests beside it
@pytest.mark.parametrize("source", WITH_FEW_LISTS)
def test_both_ways_map_real_logs_alike(source: str, samples: Path, both: Any) -> None:
    mapper = registry.load(source)
    parts: Parts = []
    for path in sorted((samples / FOLDERS[source]).rglob("*")):
        if path.is_file():
            where = RawObject(str(path), region="eu-west-1", account="111122223333")
            parts += [(where, chunk) for chunk in read_bytes(mapper, path.read_bytes())]
    found, expected, evaluated = both(support.engine(source), parts)
    same(found, expected)
    assert evaluated > len(expected.events) / 2


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("source", ["aws_cloudtrail", "aws_route53_resolver"])
def test_both_ways_map_changed_json_alike(source: str, seed: int, both: Any) -> None:
    mapper = registry.load(source)
    records = [_decoded(text) for _, chunk in own(source) for text in chunk.records["_raw"].to_pylist()]
    texts = list(_changed([found for found in records if isinstance(found, dict)], random.Random(seed)))
    parts = [(RawObject("memory://changed"), chunk) for chunk in read_bytes(mapper, "\n".join(texts).encode())]
    found, expected, _ = both(support.engine(source), parts)
    same(found, expected)
    assert len(expected.rejects)


ODD: Sequence[Any] = (
    *(None, "", "null", "{}", {}, [], [[]], 0, -1, 1.5, True, "true"),
    *({"x": {"y": None}}, "a\\u0000b", "é", "x" * 3_000),
)


def _changed(records: Sequence[dict[str, Any]], chance: random.Random) -> Iterator[str]:
    """Records with a few members left out, exchanged, added, repeated, or spelled otherwise."""
    for _ in range(600):
        record = dict(chance.choice(records))
        for name in chance.sample(sorted(record), min(3, len(record))):
            match chance.randrange(4):
                case 0:
                    del record[name]
                case 1:
                    record[name] = chance.choice(ODD)
                case 2:
                    record[name] = chance.choice(records).get(name)
                case 3 if isinstance(record[name], dict):
                    record[name] = {**record[name], chance.choice(("new", *record[name])): chance.choice(ODD)}
        if chance.random() < 0.1:
            record[chance.choice(("vendor", "a.b", "leaf0", "_raw"))] = chance.choice(ODD)
        text = json.dumps(record, ensure_ascii=chance.random() < 0.5)
        if chance.random() < 0.05:
            text = text.replace("{", '{"eventVersion": "1.0", ', 1)
        if chance.random() < 0.3:
            text = json.dumps(record, separators=(",", ":"))
        yield text


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
def test_both_ways_map_changed_flow_logs_alike(seed: int, both: Any) -> None:
    mapper = registry.load("aws_vpc_flow")
    mutator = mutations.Mutator(seed)
    parts: Parts = []
    for number in range(60):
        where = RawObject(f"memory://{number}")
        parts += [(where, chunk) for chunk in read_bytes(mapper, mutator.object().data)]
    found, expected, evaluated = both(support.engine("aws_vpc_flow"), parts)
    same(found, expected)
    assert evaluated


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 3])
def test_what_is_left_over_may_be_the_same_in_every_record(count: int, both: Any) -> None:
    engine = support.engine("aws_cloudtrail")
    records = [call(number, additionalEventData={"x": {"y": 1}}) for number in range(count)]
    found, expected, evaluated = both(engine, parts_of(engine, *records))
    same(found, expected)
    assert evaluated == count


@pytest.mark.slow
def test_the_table_may_depend_on_one_member(both: Any) -> None:
    table = when(col.eventType == "AwsServiceEvent").then("cloud_trail_data").otherwise("cloud_trail_mgmt")
    engine = Engine(replace(registry.load("aws_cloudtrail"), table=table))
    parts = parts_of(engine, call(1), call(2, eventType="AwsServiceEvent"))
    found, expected, _ = both(engine, parts)
    same(found, expected)
    assert found.events["_table"].to_pylist() == ["cloud_trail_mgmt", "cloud_trail_data"]


@pytest.mark.slow
def test_a_text_may_be_what_a_query_calls_its_columns(both: Any) -> None:
    """Such as a mapper that replaces a code by `v8`, where the attribute is the eighth of the query."""
    mapper = registry.load("aws_cloudtrail")
    words = {f"{letter}{number}": f"{letter}{number}" for letter in "bxvk" for number in range(90)}
    events = [
        replace(event, fields=event.fields | {"actor.user.name": col.eventName.replace(words)})
        for event in mapper.events
    ]
    engine = Engine(replace(mapper, events=events))
    found, expected, evaluated = both(engine, parts_of(engine, call(1, eventName="v8"), call(2, eventName="x1")))
    same(found, expected)
    assert evaluated == 2


@pytest.mark.slow
def test_what_the_fast_way_cannot_do_is_done_row_by_row(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise KeyError("a mistake of ours")

    expected = support.mapped("aws_vpc_flow")
    monkeypatch.setattr(engines, "FEW_ROWS", 1)
    monkeypatch.setattr(Evaluator, "results", fails)
    found = Engine(registry.load("aws_vpc_flow")).map(own("aws_vpc_flow"))
    same(found, expected)
    assert not expected.fallbacks
    records = sum(len(chunk.records) for _, chunk in own("aws_vpc_flow"))
    assert found.fallbacks == {"KeyError": records}, "nobody would know why it is slow"


@pytest.mark.slow
@pytest.mark.parametrize("few_rows", [1, 10**9], ids=["distinct values", "row by row"])
def test_what_an_engine_has_mapped_before_changes_nothing(few_rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The events of a batch, their order and encoding too: done again by a fresh process it has to give the same files.

    Columns beyond those that have a query of their own are mapped together with others.
    """
    monkeypatch.setattr(engines, "FEW_ROWS", few_rows)
    mapper = registry.load("aws_vpc_flow")
    names = ["srcaddr", "dstaddr", "start", "action", "protocol", "bytes", "packets", "srcport"]

    def parts(*sets: Sequence[str]) -> Parts:
        columns: list[dict[str, list[str | None]]] = [{name: ["1770106500"] * 3 for name in chosen} for chosen in sets]
        return [(RawObject(f"memory://{number}"), flows(**given)) for number, given in enumerate(columns)]

    given = parts(["start", "srcaddr"], ["start", "dstaddr"], ["start", "srcaddr"])
    used = Engine(mapper)
    used.map(parts(*([*names[:number], "end"] for number in range(len(names) + 1))))
    for ordered in (True, False):
        assert used.map(given, ordered=ordered).events.equals(Engine(mapper).map(given, ordered=ordered).events)


@pytest.mark.slow
def test_events_in_the_order_of_files_are_the_same_events(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "FEW_ROWS", 1)
    engine = support.engine("aws_cloudtrail")
    given = own("aws_cloudtrail")
    found = []
    for flag in (True, False):
        events = engine.map(given, ordered=flag).events
        kinds = pa.schema([pa.field(field.name, without_dictionaries(field.type)) for field in events.schema])
        found.append(events.cast(kinds))
    places = list(zip(found[0]["source_object"].to_pylist(), found[0]["source_record"].to_pylist(), strict=True))
    by_place = [
        sorted(events.to_pylist(), key=lambda row: (row["source_object"], row["source_record"])) for events in found
    ]
    assert by_place[0] == by_place[1]
    assert len(set(places)) == len(places)


@pytest.mark.slow
def test_records_of_many_days_that_have_nothing_in_common_take_no_more_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counts are by day and class; a table of them by each distinct value of each member would have 100 million."""
    monkeypatch.setattr(engines, "FEW_ROWS", 1)
    names = ("userAgent", "requestID", "eventID", "errorCode", "errorMessage", "sharedEventID", "vpcEndpointId")
    first = date(2026, 1, 1)
    records = [
        call(number, eventTime=f"{first + timedelta(number % 99)}T00:00:00Z", **dict.fromkeys(names, f"{number}"))
        for number in range(2_500)
    ]
    records[7]["new"] = 1  # one goes the other way, and leaves the codes of the others
    engine = Engine(registry.load("aws_cloudtrail"))
    parts = parts_of(engine, *records)
    engine.map(parts)
    tracemalloc.start()
    try:
        mapped = engine.map(parts)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(mapped.events) == len(records)
    assert len({day for day, _ in mapped.statistics.mapped}) == 99
    assert peak < 20_000_000, peak


@pytest.mark.slow
def test_of_names_without_end_only_so_many_become_objects(monkeypatch: pytest.MonkeyPatch, both: Any) -> None:
    """Before the rest is counted together: a text for each of millions takes more memory than all the records."""
    given = [{"often": 1, f"once{number}": 1, "b": 1, **({"a": 1} if number else {})} for number in range(9)]
    records = [call(number, additionalEventData=data, sharedEventID=[1]) for number, data in enumerate(given)]
    engine = Engine(registry.load("aws_cloudtrail"))
    parts = parts_of(engine, *records)
    everything = engine.map(parts).statistics.unmapped
    monkeypatch.setattr(counting, "MOST_NAMES", 4)
    made: list[str] = []
    monkeypatch.setattr(counting, "shortened", lambda name: made.append(name) or name)
    found, expected, _ = both(engine, parts)
    same(found, expected)
    inside = "additionalEventData."
    assert found.statistics.unmapped == {
        ("20260203", inside + "often"): 9, ("20260203", inside + "b"): 9, ("20260203", inside + "a"): 8,
        ("20260203", OTHER): everything.total() - 26,
    }  # fmt: skip
    assert inside + "once0" in made
    assert inside + "once1" not in made


@pytest.mark.slow
def test_what_is_remembered_has_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = support.mapped("aws_cloudtrail")
    monkeypatch.setattr(engines, "FEW_ROWS", 1)
    monkeypatch.setattr(evaluation, "KEPT_STATEMENTS", 5)
    monkeypatch.setattr(evaluation, "KEPT_IN_ALL", 10_000)
    monkeypatch.setattr(evaluation, "KEPT_BYTES", 10_000)
    engine = Engine(registry.load("aws_cloudtrail"))
    for _ in range(2):
        same(engine.map(own("aws_cloudtrail")), expected)
    assert engine._evaluator is not None
    assert len(engine._evaluator._prepared) == 5
    cached = engine._evaluator._cache.values()
    assert cached
    assert sum(item.size for item in cached) == engine._evaluator._cache_bytes <= 10_000


# -- columns ----------------------------------------------------------------------------------------------------------
def test_what_is_remembered_of_combinations_is_counted_as_it_is_in_memory() -> None:
    evaluator = Evaluator(registry.load("aws_vpc_flow"), DEFAULT_VERSION, connection(), validated=True)
    inputs = tuple("abcd")
    step = Step(inputs, "SELECT a IS NULL AS x FROM batch", ("x",))
    values = [pa.array([f"{name}{number}" for number in range(1_000)]) for name in inputs]
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    evaluator._remember(step, _Cached(values, evaluator._computed(step, values), {}), 0)
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(evaluator._cache[step.sql].numbers) == 1_000
    arrays = sum(column.nbytes for column in values)
    assert (after - before) + arrays < evaluator._cache_bytes < 2 * (after - before + arrays)


def test_no_more_steps_than_are_planned_remember_something(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluation, "KEPT_STATEMENTS", 5)
    evaluator = Evaluator(registry.load("aws_vpc_flow"), DEFAULT_VERSION, connection(), validated=True)
    for number in range(20):
        step = Step((), f"SELECT {number} AS x FROM batch", ("x",))
        assert evaluator._run(step, [])["x"].to_pylist() == [number]
    assert len(evaluator._cache) == 5
    assert evaluator._cache_bytes == sum(cached.size for cached in evaluator._cache.values())


def test_what_is_remembered_of_combinations_is_what_would_be_computed() -> None:
    evaluator = Evaluator(registry.load("aws_vpc_flow"), DEFAULT_VERSION, connection(), validated=True)
    step = Step(("a", "b"), "SELECT b::VARCHAR || coalesce(a, '-') AS x, a IS NULL AND b AS y FROM batch", ("x", "y"))
    choice = random.Random(1)
    texts = [None, "", "0", "1", "true", "a", "a\0", "\0", *map(str, range(2_000))]
    for _ in range(60):
        rows = choice.choice([0, 1, 2, 9, 900])
        values = [
            pa.array(choice.choices(texts, k=rows), pa.string()),
            pa.array(choice.choices([None, False, True], k=rows), pa.bool_()),
        ]
        remembered, computed = evaluator._run(step, values), evaluator._computed(step, values)
        assert all(remembered[name].equals(computed[name]) for name in step.outputs)


def test_combinations_stand_for_the_rows_they_were_made_of() -> None:
    chance = random.Random(7)
    for sizes in ((3, 4), (1, 5, 2), (50, 60, 70, 80, 90, 95, 99, 98, 97, 96, 94)):
        rows = [[chance.choice([None, *map(str, range(size))]) for size in sizes] for _ in range(400)]
        columns = [encoded(pa.chunked_array([pa.array(values, pa.string())])) for values in zip(*rows, strict=True)]
        codes, values = combined(columns, len(rows))
        assert codes is not None
        lists = [column.to_pylist() for column in values]
        assert [[column[code] for column in lists] for code in codes.tolist()] == rows


def test_a_column_of_many_values_is_left_as_it_is() -> None:
    texts = pa.chunked_array([pa.array([f"{number}" for number in range(5_000)])])
    assert encoded(texts).array(5_000).equals(texts.chunk(0))
    assert Column(pa.array(["a"]), None).array(3).to_pylist() == ["a", "a", "a"]


# -- members of JSON --------------------------------------------------------------------------------------------------
def members(*texts: str) -> tuple[list[list[str | None]], list[bool]]:
    columns, odd = Members(("a", "b.c", "é")).read(pa.chunked_array([pa.array(texts, pa.string())]))
    return [column.array(len(texts)).to_pylist() for column in columns], odd.tolist()


def test_members_are_their_own_text() -> None:
    texts = ('{"a":1.50,"b.c":[ 1 , {} ]}', ' { "a" : "x\\u0041" , "é":null } ', "{}", '{"\\u0061":true}')
    assert members(*texts) == (
        [["1.50", '"x\\u0041"', None, "true"], ["[ 1 , {} ]", None, None, None], [None, "null", None, None]],
        [False, False, False, False],
    )


@pytest.mark.parametrize("text", ['{"a":1,"a":1}', '{"a":1,"x":2}', '{"x":1}', '{"a":1,"\\u0061":2}'])
def test_undeclared_and_repeated_members_are_told(text: str) -> None:
    assert members('{"a":1}', text)[1] == [False, True]


@pytest.mark.parametrize(
    "text", ["", "1", "[]", "{", '{"a":1},{"a":2}', '{"a":1} x', "null", '{"a":01}', '{"a":1}\n{}']
)
def test_what_is_no_object_costs_nothing_but_itself(text: str) -> None:
    assert members('{"a":1}', text, '{"a":2}') == (
        [["1", None, "2"], [None] * 3, [None] * 3],
        [False, True, False],
    )


def test_halves_that_are_whole_together_are_not_read_as_one() -> None:
    columns, odd = members('{"a":[{"x":1}', '{"y":2}]}', '{"a":3},{"a":4}', '{"a":5}')
    assert columns[0] == [None, None, None, "5"]
    assert odd == [True, True, True, False]


def test_members_of_real_records_are_those_of_a_parser() -> None:
    mapper = registry.load("aws_cloudtrail")
    texts = [text for _, chunk in own("aws_cloudtrail") for text in chunk.records["_raw"].to_pylist()]
    reader = Members([found.name for found in mapper.record])
    columns, _ = reader.read(pa.chunked_array([pa.array(texts, pa.string())]))
    for name, column in zip(reader.names, columns, strict=True):
        for text, raw in zip(texts, column.array(len(texts)).to_pylist(), strict=True):
            whole = _decoded(text)
            assert whole is None or (None if raw is None else msgspec.json.decode(raw)) == whole.get(name)


def _decoded(text: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        return None


def test_events_stand_together_as_files_have_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files are cut out of them; where they do not stand so, all of them are taken apart and put together again."""
    monkeypatch.setattr(engines, "FEW_ROWS", 1)
    names = ("DescribeInstances", "RunInstances", "StopInstances", "ConsoleLogin", "GetObject", "PutObject", "Invoke")
    services = {"GetObject": "s3", "PutObject": "s3", "Invoke": "lambda", "ConsoleLogin": "signin"}
    calls = [
        call(
            number, eventName=name, eventSource=f"{services.get(name, 'ec2')}.amazonaws.com",
            eventTime=f"2026-02-0{3 + number % 2}T08:15:30Z",
            eventCategory="Data" if "Object" in name else "Management",
        )
        for number, name in enumerate(names * 6)
    ]  # fmt: skip
    engine = support.engine("aws_cloudtrail")
    events = engine.map(parts_of(engine, *calls), ordered=False).events
    assert len(events) == len(calls)
    days = [time // (24 * 3600 * 1000) for time in events["time"].to_pylist()]
    files = list(zip(events["_table"].to_pylist(), events["class_uid"].to_pylist(), days, strict=True))
    runs = [file for before, file in zip([None, *files], files, strict=False) if file != before]
    assert len(runs) == len(set(runs)) > 4
