"""Queries planned once give the rows of whatever batch they are given."""

import os
import signal
import threading
from typing import cast

import duckdb
import pyarrow as pa
import pytest

from ocsf_mappers import Engine, RawObject, registry
from ocsf_mappers.engine.statements import BadDataError, Statements, connection
from tests.support import flows, own

COLUMNS = pa.schema([pa.field("text", pa.string())])


def batch(*texts: str | None) -> pa.Table:
    return pa.table({"text": pa.array(texts, pa.string())})


def test_each_run_reads_its_own_batch() -> None:
    prepared = Statements(COLUMNS, connection())
    for texts in (["a", "b"], [], ["c"], ["d" * 100, None]):
        found = prepared.run("SELECT text || '!' AS said FROM batch", batch(*texts))["said"].to_pylist()
        assert found == [text and f"{text}!" for text in texts]


def test_a_query_is_planned_once() -> None:
    planned = []

    class Watched:
        real = connection()

        def execute(self, query: str) -> object:
            planned.append(query)
            return self.real.execute(query)

        def register(self, name: str, held: object) -> object:
            return self.real.register(name, held)

        def sql(self, query: str) -> duckdb.DuckDBPyRelation:
            return self.real.sql(query)

    prepared = Statements(COLUMNS, cast(duckdb.DuckDBPyConnection, Watched()))
    for _ in range(3):
        prepared.run("SELECT 1 FROM batch", batch("a"))
        prepared.run("SELECT 2 FROM batch", batch("a"))
    assert planned == ["PREPARE q0 AS SELECT 1 FROM batch", "PREPARE q1 AS SELECT 2 FROM batch"]


def test_bad_data_is_told_from_bad_queries_and_does_no_harm() -> None:
    prepared = Statements(COLUMNS, connection())
    query = "SELECT text::INTEGER AS number FROM batch"
    with pytest.raises(BadDataError, match="'x'"):
        prepared.run(query, batch("1", "x"))
    assert prepared.run(query, batch("2"))["number"].to_pylist() == [2]
    with pytest.raises(duckdb.BinderException):
        prepared.run("SELECT missing FROM batch", batch("2"))
    with pytest.raises(TypeError, match="other"):
        prepared.run(query, batch("2").rename_columns(["other"]))


def test_an_engine_opens_one_database(monkeypatch: pytest.MonkeyPatch) -> None:
    opened = []
    monkeypatch.setattr("ocsf_mappers.engine.engine.connection", lambda: opened.append(1) or connection())
    mapped = Engine(registry.load("aws_vpc_flow")).map(own("aws_vpc_flow"))  # lines of several layouts
    assert len(mapped.events) > 0
    assert opened == [1]


def by_place(rows: pa.Table) -> list[dict[str, object]]:
    found: list[dict[str, object]] = rows.to_pylist()
    return sorted(found, key=lambda row: (row["source_object"], row["source_record"]))


@pytest.mark.slow
def test_columns_beyond_the_sets_that_have_queries_of_their_own_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    given = own("aws_vpc_flow")
    expected = Engine(registry.load("aws_vpc_flow")).map(given)
    monkeypatch.setattr("ocsf_mappers.engine.engine.KEPT_COLUMN_SETS", 0)
    shared = Engine(registry.load("aws_vpc_flow"))
    found = shared.map(given)
    assert by_place(found.events) == by_place(expected.events)
    assert by_place(found.rejects) == by_place(expected.rejects)
    assert found.failed_casts == expected.failed_casts
    for name in ("mapped", "unmapped"):
        assert getattr(found.statistics, name) == getattr(expected.statistics, name)
    assert {what: seen.records for what, seen in found.statistics.drift.items()} == {
        what: seen.records for what, seen in expected.statistics.drift.items()
    }
    assert (len(shared._programs), len(shared._statements)) == (1, 1)


def test_columns_may_come_in_any_order_and_in_more_shapes_than_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ocsf_mappers.engine.engine.KEPT_SHAPES", 2)
    engine = Engine(registry.load("aws_vpc_flow"))
    values = {"srcaddr": "10.0.0.1", "dstaddr": "10.0.0.2", "srcport": "443", "start": "1700000000"}
    for names in (list(values), list(reversed(values)), ["start", "dstaddr"], ["start", "srcaddr"], list(values)):
        found = engine.map([(RawObject("s3://b/o"), flows(**{name: [values[name]] for name in names}))])
        assert found.read == 1
        for event in found.events.to_pylist():
            end = event["src_endpoint"] or {}
            assert (end.get("ip"), end.get("port")) == (
                values["srcaddr"] if "srcaddr" in names else None,
                443 if "srcport" in names else None,
            )


def test_an_interrupt_while_records_are_mapped_is_an_interrupt() -> None:
    """Else some record would be looked for that is to blame, and the run would go on."""
    prepared = Statements(COLUMNS, connection())
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    timer = threading.Timer(0.2, os.kill, [os.getpid(), signal.SIGINT])
    try:
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            prepared.run("SELECT count(*) FROM batch, range(100_000_000_000) r(i) WHERE text || i = 'b'", batch("a"))
    finally:
        timer.join()
        signal.signal(signal.SIGINT, before)


def test_an_interrupt_while_duckdb_asks_for_records_is_an_interrupt(monkeypatch: pytest.MonkeyPatch) -> None:
    prepared = Statements(COLUMNS, connection())
    prepared.run("SELECT text FROM batch", batch("a"))

    def interrupted(*_: object) -> object:
        raise KeyboardInterrupt

    monkeypatch.setattr(type(prepared._current), "__arrow_c_stream__", interrupted)
    with pytest.raises(KeyboardInterrupt):
        prepared.run("SELECT text FROM batch", batch("a"))


@pytest.mark.parametrize(
    "text",
    [
        "Query interrupted",
        "Invalid Input Error: exporting a stream from the object registered as 'batch' failed: KeyboardInterrupt: ",
    ],
)
def test_what_a_log_says_is_not_taken_for_an_interrupt(text: str) -> None:
    with pytest.raises(BadDataError):
        Statements(COLUMNS, connection()).run("SELECT text::INT FROM batch", batch(text))
