"""Expressions as text, the mapping document, and the query laid out."""

from __future__ import annotations

import re

import duckdb
import pytest

from ocsf_mappers import EventMap, JsonRecords, Mapper, Product, coalesce, col, object_key, registry, sql, when
from ocsf_mappers.compiler import explain
from ocsf_mappers.compiler.compile import compile_mapper
from ocsf_mappers.vocabulary.record import text_struct

IS_A = col.a == "x"


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ("Informational", '"Informational"'),
        (True, "true"),
        (col.userIdentity.arn, "userIdentity.arn"),
        (object_key.region, "object_key.region"),
        ([col.a, "x"], '[a, "x"]'),
        (coalesce(col.pkt_srcaddr, col.srcaddr), "coalesce(pkt_srcaddr, srcaddr)"),
        (coalesce(col.a, when(IS_A).then(col.b)), 'coalesce(a, (b when a = "x"))'),
        (col.a.json("user", "name"), "a.user.name"),
        (col.a.extract("^x(.*)"), "extract(a, /^x(.*)/)"),
        (col.a.epoch_seconds(), "epoch_seconds(a)"),
        (col.a.epoch_millis(), "epoch_millis(a)"),
        (col.a.epoch_micros(), "epoch_micros(a)"),
        (col.a.iso8601(), "iso8601(a)"),
        (col.a.replace(X="One", Y="Two", Z="One"), 'replace(a; "X", "Z" -> "One"; "Y" -> "Two")'),
        (col.a.replace_prefix({"Get": "Read"}, otherwise=col.a), 'replace_prefix(a; "Get" -> "Read"; else a)'),
        (when(IS_A).then(col.b), 'b when a = "x"'),
        (
            when(col.a.is_null()).then("n").when(col.a.matches("^y")).then(col.b).otherwise("z"),
            '"n" when a is null, else b when a matches /^y/, else "z"',
        ),
        (
            when(IS_A | col.b.is_in("1", "2") & ~col.c.is_null()).then(col.d),
            'd when a = "x" or (b in ("1", "2") and c is not null)',
        ),
        (when(~(IS_A | (col.b != "y"))).then(col.d), 'd when not (a = "x" or b != "y")'),
        (when(~col.a.is_in("1")).then(col.d), 'd when a not in ("1")'),
        (
            when(col.a.starts_with("s") & col.b.ends_with("e") & col.c.contains("c")).then(col.d),
            'd when a starts with "s" and b ends with "e" and c contains "c"',
        ),
        (col.r.each({"uid": col.ARN}), "each(r, uid: ARN)"),
        (sql("upper({0})", reads=[col.x]), "sql(upper(x))"),
    ],
)
def test_an_expression_reads_as_it_was_meant(given: object, text: str) -> None:
    assert explain.text(given) == text


def test_a_long_pattern_is_written_out_once_below_the_tables() -> None:
    long = "^" + "a|b" * 20 + "$"
    found = explain.markdown(_mapper(when(col.a.matches(long)).then(col.a)))
    assert "`a when a matches pattern 1`" in found
    assert f"1. `{long}`" in found


def test_a_pipe_does_not_end_a_cell() -> None:
    found = explain.markdown(_mapper(when(col.a.matches("a|b")).then(col.a)))
    assert r"`a when a matches /a\|b/`" in found


def _mapper(message: object) -> Mapper:
    fields = {"activity_id": "Read", "severity_id": "Informational", "time": col.t.iso8601(), "api.operation": message}
    return Mapper(
        name="test",
        product=Product("Test"),
        readers=[JsonRecords()],
        record=text_struct("a t"),
        table="cloud_trail_mgmt",
        drop={"t": "says the same as a"},
        events=[EventMap("api_activity", fields=fields)],
    )


def test_the_document_names_formats_tables_and_what_is_left_out() -> None:
    found = explain.markdown(_mapper(col.a))
    assert "- Formats: JSON." in found
    assert "- Tables: `cloud_trail_mgmt`." in found
    assert "- Left out of `unmapped`: `t`, says the same as a." in found


@pytest.mark.parametrize("version", ["1.1.0", "1.5.0", "1.8.0"])
@pytest.mark.parametrize("name", registry.names())
def test_every_attribute_of_every_source_is_in_its_document(name: str, version: str) -> None:
    mapper = registry.load(name)
    found = explain.markdown(mapper, version)
    rows = [line for line in found.splitlines() if line.startswith("| `")]
    assert all(len(re.findall(r"(?<!\\)\|", row)) == 4 for row in rows)
    for event in mapper.events:
        for path in event.words:
            assert f"| `{path}` |" in found or f"| `{path}[]." in found


@pytest.mark.slow
@pytest.mark.parametrize("name", registry.names())
def test_laying_out_a_query_changes_no_word_of_it(name: str) -> None:
    mapper = registry.load(name)
    compiled = compile_mapper(mapper, "1.1.0", explain.usual_batch(mapper)).sql
    shown = explain.query(mapper)
    assert _tree(shown) == _tree(compiled)
    assert re.search(r"AS v\d+, {2}-- time_dt$", shown, re.MULTILINE)


def _tree(query: str) -> str:
    (row,) = duckdb.execute("SELECT json_serialize_sql(?)", [query]).fetchall()
    assert '"error":false' in row[0]
    return re.sub(r'"query_location(_length)?":\d+', "", row[0])
