"""Names in the data are keys of `unmapped` and nothing else, whatever they are."""

from __future__ import annotations

import io
import json
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ocsf_mappers import Engine, Mapped, RawObject, registry
from ocsf_mappers.compiler import compile
from ocsf_mappers.compiler.compile import BatchShape
from ocsf_mappers.engine import assemble
from ocsf_mappers.readers import Chunk
from ocsf_mappers.readers.tabular import layout
from tests import support
from tests.ocsf_mappers.records import HEADER, LINE, call, lines_of
from tests.support import Json, as_events, map_bytes, read_bytes, reasons

OURS = [
    *("v0", "v6", "v9", "u0", "u2", "b0", "x1", "o1", "j0", "k0", "m0", "n0", "q0", "k", "r", "c0", "c1", "i", "p6"),
    *("_record", "_object", "_raw", "_envelope", "_table", "_failed", "_problems", "_more", "_event_map", "_repeated"),
    *("_key_region", "_key_account", "_undeclared", "_text", "c_srcaddr", "c_account_id", "failing", "batch"),
]
"""Names that mean something in a query, or did."""

ODD = ["select", '"', "'", "''", '""', ";", "--", "/*", "\\", "$1", "?", "{x}", "%s", "é", "😀", "a.b", "x" * 99]

FORMATS = ("text", "json", "parquet")


def written(form: str, names: list[str], rows: list[list[str | None]]) -> bytes:
    """Flows with these columns."""
    if form == "text":
        lines = [" ".join(names), *(" ".join("-" if value is None else value for value in row) for row in rows)]
        return "\n".join(lines).encode() + b"\n"
    if form == "json":
        texts = []
        for row in rows:
            pairs = zip(names, row, strict=True)
            texts.append("{" + ", ".join(f"{json.dumps(name)}: {json.dumps(value)}" for name, value in pairs) + "}")
        return "\n".join(texts).encode() + b"\n"
    columns = [pa.array([row[place] for row in rows], pa.string()) for place in range(len(names))]
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_arrays(columns, names=names), buffer)
    return buffer.getvalue()


def flows(form: str, **more: str | None) -> Mapped:
    return many(form, list(more), list(more.values()))


def many(form: str, names: list[str], values: list[str | None]) -> Mapped:
    """One flow with further columns."""
    own = [None if value == "-" else value for value in LINE.format(port=443).split()]
    return map_bytes(support.engine("aws_vpc_flow"), written(form, [*HEADER.split(), *names], [[*own, *values]]))


def only(mapped: Mapped) -> tuple[Json, Json]:
    assert reasons(mapped) == []
    (found,) = as_events(mapped.events)
    return found


def unmapped(mapped: Mapped) -> Json:
    found: Json = dict(only(mapped)[0].get("unmapped", {}))
    assert found.pop("interface_id") == "eni-1"
    return found


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMATS)
def test_no_name_changes_the_event_it_stands_in(form: str) -> None:
    plain_event, plain_lake = only(many(form, [], []))
    for name in (*OURS, *ODD):
        event, lake = only(many(form, [name], ["999999999999"]))
        assert event["unmapped"].pop(name) == "999999999999", name
        assert (event, lake) == (plain_event, plain_lake), name


@pytest.mark.parametrize("form", FORMATS)
def test_all_such_names_together_do_no_harm(form: str) -> None:
    names = [*OURS, *ODD]
    assert unmapped(many(form, names, [f"value-{n}" for n in range(len(names))])) == {
        name: f"value-{n}" for n, name in enumerate(names)
    }


@pytest.mark.parametrize("form", FORMATS)
def test_an_empty_name_gets_a_number(form: str) -> None:
    assert unmapped(many(form, ["", "b"], ["x", "y"])) == {"column_15": "x", "b": "y"}


@pytest.mark.parametrize("form", FORMATS)
def test_two_empty_names_get_two(form: str) -> None:
    assert unmapped(many(form, ["", ""], ["x", "y"])) == {"column_15": "x", "column_16": "y"}


@pytest.mark.parametrize("form", FORMATS)
def test_equal_names_with_equal_values_count_once(form: str) -> None:
    names = ["srcaddr", "account-id", "own", "own"]
    assert unmapped(many(form, names, ["198.51.100.23", "123456789012", "x", "x"])) == {"own": "x"}


@pytest.mark.parametrize("form", FORMATS)
def test_equal_names_with_different_values_are_all_kept(form: str) -> None:
    found = many(form, ["srcaddr", "srcaddr", "own", "own", "own"], ["192.0.2.1", "192.0.2.2", "x", "y", "x"])
    assert only(found)[0]["src_endpoint"]["ip"] == "198.51.100.23"
    assert unmapped(found) == {"srcaddr_2": "192.0.2.1", "srcaddr_3": "192.0.2.2", "own": "x", "own_2": "y"}


@pytest.mark.parametrize("form", FORMATS)
def test_a_numbered_key_takes_no_other_s_place(form: str) -> None:
    found = many(form, ["own", "own_2", "own", "dstaddr_2", "dstaddr"], ["a", "b", "c", "d", "192.0.2.9"])
    assert unmapped(found) == {"own": "a", "own_2": "b", "own_3": "c", "dstaddr_2": "d", "dstaddr_3": "192.0.2.9"}


@pytest.mark.parametrize("form", FORMATS)
def test_of_equal_names_the_first_that_holds_something_counts(form: str) -> None:
    names, own = HEADER.split(), LINE.format(port=443).split()
    values: list[str | None] = [None if name == "srcaddr" else value for name, value in zip(names, own, strict=True)]
    data = written(form, [*names, "srcaddr"], [[*values, "192.0.2.1"]])
    event, _ = only(map_bytes(support.engine("aws_vpc_flow"), data))
    assert event["src_endpoint"]["ip"] == "192.0.2.1"
    assert event["unmapped"] == {"interface_id": "eni-1"}


@pytest.mark.parametrize("form", FORMATS)
def test_of_names_that_differ_by_case_the_one_spelled_as_documented_counts(form: str) -> None:
    found = many(form, ["SrcAddr", "SRCADDR", "Own", "OWN"], ["192.0.2.1", "192.0.2.2", "x", "y"])
    assert only(found)[0]["src_endpoint"]["ip"] == "198.51.100.23"
    assert unmapped(found) == {"SrcAddr": "192.0.2.1", "SRCADDR": "192.0.2.2", "Own": "x", "OWN": "y"}


@pytest.mark.parametrize("form", FORMATS)
def test_a_name_in_capitals_counts_where_there_is_no_other(form: str) -> None:
    data = written(form, HEADER.upper().split(), [list(LINE.format(port=443).split())])
    event, _ = only(map_bytes(support.engine("aws_vpc_flow"), data))
    assert event["src_endpoint"] == {"ip": "198.51.100.23", "port": 443}


def test_dashes_and_underscores_are_one_name() -> None:
    found = layout(("account-id", "account_id", "own-name", "own_name"), frozenset({"account_id"}))
    assert found.declared == {"account_id": (0, 1)}
    assert [(entry.key, entry.at) for entry in found.others] == [
        ("own_name", (2, 3)), ("account_id_2", (1,)), ("own_name_2", (3,)),
    ]  # fmt: skip


def test_a_chunk_names_its_columns() -> None:
    with pytest.raises(ValueError, match="1 names for the columns"):
        Chunk(pa.table({"_record": pa.array([1], pa.int64()), "srcaddr": ["x"]}), names=("srcaddr",))


@pytest.mark.parametrize("form", FORMATS)
def test_no_name_of_an_object_is_in_a_table_or_query(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine(registry.load("aws_vpc_flow"))
    queries: list[str] = []
    asked = engine._query

    def watched(query: str, batch: Any) -> pa.Table:
        queries.append(query)
        assert not {name for name in batch.records.column_names if "strange" in name}
        return asked(query, batch)

    monkeypatch.setattr(engine, "_query", watched)
    data = written(form, [*HEADER.split(), "strange"], [[*LINE.format(port=443).split(), "x"]])
    chunks = read_bytes(engine.mapper, data)
    assert not {name for chunk in chunks for name in chunk.records.column_names if "strange" in name}
    assert unmapped(engine.map([(RawObject("memory://x"), chunk) for chunk in chunks])) == {"strange": "x"}
    assert queries
    assert not [query for query in queries if "strange" in query]


def test_columns_of_a_query_have_names_that_it_does_not_make_itself() -> None:
    sql = compile.compile_mapper(registry.load("aws_vpc_flow"), "1.1.0", BatchShape(frozenset({"srcaddr", "end"}))).sql
    assert '"c_srcaddr"' in sql
    assert " AS c_" not in sql


def test_objects_with_any_names_share_one_query() -> None:
    engine = Engine(registry.load("aws_vpc_flow"))
    parts = []
    for number, name in enumerate([*OURS, *ODD]):
        data = written("text", [*HEADER.split(), name], [[*LINE.format(port=443).split(), str(number)]])
        parts += [(RawObject(f"memory://{number}"), chunk) for chunk in read_bytes(engine.mapper, data)]
    mapped = engine.map(parts)
    assert len(mapped.events) == len(parts)
    assert (len(engine._programs), len(engine._statements)) == (1, 1)


@pytest.mark.parametrize("kind", [pa.string(), pa.int32(), pa.dictionary(pa.int32(), pa.string())])
def test_a_column_of_another_type_never_stands_in_the_way_of_later_ones(kind: pa.DataType) -> None:
    # Whatever a reader gives as a record's number or value is brought to the one type that queries are planned for.
    engine = Engine(registry.load("aws_vpc_flow"))
    chunk = read_bytes(engine.mapper, written("text", HEADER.split(), [list(LINE.format(port=443).split())]))[0]
    place = chunk.names.index("srcport")
    odd = chunk.records.set_column(0, "c0", chunk.records["c0"].cast(kind))
    odd = odd.set_column(place, f"c{place}", odd[f"c{place}"].cast(kind))
    for records in (odd, chunk.records, odd):
        mapped = engine.map([(RawObject("memory://x"), Chunk(records, names=chunk.names))])
        assert only(mapped)[0]["src_endpoint"]["port"] == 443


def test_rejects_keep_the_line_whatever_the_columns_are_called() -> None:
    names, own = HEADER.split(), LINE.format(port=443).split()
    own[names.index("start")] = own[names.index("end")] = "-"
    data = written("text", [*names, "_record", "SrcAddr", ""], [[*own, "a", "-", "b"], [*own, "c", "d", "e"]])
    mapped = map_bytes(support.engine("aws_vpc_flow"), data)
    assert mapped.rejects["raw"].to_pylist() == [" ".join([*own, "a - b"]), " ".join([*own, "c d e"])]
    assert mapped.rejects["source_record"].to_pylist() == [2, 3]


# -- JSON -------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("at", ["top", "nested", "open"])
def test_members_of_any_name_are_in_unmapped_under_it(at: str) -> None:
    odd = {name: f"value-{number}" for number, name in enumerate([*OURS, *ODD, ""])}
    prefix = {"top": "", "nested": "userIdentity.", "open": "additionalEventData."}[at]
    record = call(1)
    inside = record if at == "top" else record.setdefault(prefix[:-1], {})
    inside.update(odd)
    plain_event, plain_lake = only(map_bytes(support.engine("aws_cloudtrail"), lines_of(call(1))))
    event, lake = only(map_bytes(support.engine("aws_cloudtrail"), lines_of(record)))
    found = event.pop("unmapped")
    assert found == plain_event.pop("unmapped", {}) | {f"{prefix}{name}": value for name, value in odd.items()}
    assert (event, lake) == (plain_event, plain_lake)


def test_paths_that_are_spelled_alike_are_all_kept() -> None:
    record = call(1, **{"a.b": "1", "a": {"b": "2", "b_2": "3"}, "a.b_3": "4"})
    event, _ = only(map_bytes(support.engine("aws_cloudtrail"), lines_of(record)))
    assert sorted(event["unmapped"].values()) == ["1", "2", "3", "4"]
    assert len(event["unmapped"]) == 4


# -- headers ----------------------------------------------------------------------------------------------------------
def test_a_header_of_columns_without_end_says_why() -> None:
    names = HEADER.split() + [f"n{number}" for number in range(65_000)]
    mapped = map_bytes(support.engine("aws_vpc_flow"), f"{' '.join(names)}\n{' '.join('1' * len(names))}\n".encode())
    assert len(mapped.events) == 0
    assert all(found.startswith("the first line names 65014 columns with ") for found in reasons(mapped))
    assert mapped.rejects["source_record"].to_pylist() == [1, 2]


def test_a_header_of_names_without_end_says_why() -> None:
    header = f"{HEADER} {'n' * 1_000_000}"
    mapped = map_bytes(support.engine("aws_vpc_flow"), f"{header}\n{LINE.format(port=1)} x\n".encode())
    assert mapped.rejects["source_record"].to_pylist() == [1, 2]
    assert "15 columns with 1000" in reasons(mapped)[0]


@pytest.mark.parametrize("blanks", [("", " "), (" ", ""), (" ", " "), ("  ", " "), (" ", "   ")])
def test_blanks_at_the_end_of_header_or_lines_are_no_columns(blanks: tuple[str, str]) -> None:
    header, line = blanks
    data = "\n".join([HEADER + header, *(LINE.format(port=port) + line for port in (1, 2)), LINE.format(port=3), "x"])
    mapped = map_bytes(support.engine("aws_vpc_flow"), data.encode())
    assert [lake["source_record"] for _, lake in as_events(mapped.events)] == [2, 3, 4]
    assert [event["src_endpoint"]["port"] for event, _ in as_events(mapped.events)] == [1, 2, 3]
    assert mapped.rejects["source_record"].to_pylist() == [5]


def test_words_further_down_do_not_rename_the_columns() -> None:
    # Some values are the choice of whoever is logged, such as the name of a cluster.
    names = [*HEADER.split(), "ecs-cluster-name", "ecs-service-name", "ecs-task-id"]
    lines = [LINE.format(port=port) + " end start srcaddr" for port in (1, 2)]
    mapped = map_bytes(support.engine("aws_vpc_flow"), "\n".join([" ".join(names), *lines]).encode())
    assert [event["src_endpoint"]["port"] for event, _ in as_events(mapped.events)] == [1, 2]
    assert mapped.dropped == {}


# -- JSON flow logs ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("given", "text"), [
    ("8080.0", "8080"), ("8.08e3", "8080"), ("0.5", "0.5"), ("-1.0", "-1"), ("1e400", "1e400"),
    ("9007199254740993.0", "9007199254740993.0"), ("12345678901234567890", "12345678901234567890"), ("true", "true"),
    ("{\"a\": [1, 2.0, \"x\", null]}", '{"a":[1,2,"x",null]}'), ('"8080.0"', "8080.0"),
    ('"half \\ud83d"', "half \ufffd"), ('"whole \\ud83d\\ude00"', "whole 😀"),
])  # fmt: skip
def test_a_member_is_the_text_of_a_column(given: str, text: str) -> None:
    chunks = read_bytes(registry.load("aws_vpc_flow"), f'{{"own": {given}}}\n'.encode())
    assert [row["c0"] for chunk in chunks for row in chunk.records.to_pylist()] == [text]


@pytest.mark.parametrize(("line", "reason"), [
    ("{}", "the record has no members"), ("{ }", "the record has no members"), ("[]", None),
    ('{"a": NaN}', "not valid JSON"), ('{"a": 1,}', "not valid JSON"), ("7", "not a JSON object"),
])  # fmt: skip
def test_a_record_that_has_no_fields_costs_only_itself(line: str, reason: str | None) -> None:
    good = json.dumps(dict(zip(HEADER.split(), LINE.format(port=443).split(), strict=True)))
    mapped = map_bytes(support.engine("aws_vpc_flow"), f"{good}\n{line}\n{good}\n".encode())
    assert len(mapped.events) == 2
    assert [reason in found for found in reasons(mapped)] == ([True] if reason else []) if reason else True


def test_a_rejected_record_keeps_its_json() -> None:
    text = '{"srcaddr": "192.0.2.1", "_record": 5.0, "x": {"y": null}}'
    good = json.dumps(dict(zip(HEADER.split(), LINE.format(port=443).split(), strict=True)))
    mapped = map_bytes(support.engine("aws_vpc_flow"), f"{good}\n{text}\n".encode())
    assert mapped.rejects["raw"].to_pylist() == [text]


@pytest.mark.parametrize("marked", [0, 10**6])
def test_a_name_that_stands_in_its_row_twice_gets_a_number_however_that_is_found(
    monkeypatch: pytest.MonkeyPatch, marked: int
) -> None:
    monkeypatch.setattr(assemble, "MARKED", marked)
    rows, names = np.array([0, 0, 1, 1, 1, 7]), pa.array(["a", "b", "a", "b", "a", "a"]).dictionary_encode()
    assert assemble.numbered_names(rows, names).to_pylist() == ["a", "b", "a", "b", "a_2", "a"]
    alone = rows[:4], names.slice(0, 4)
    assert assemble.numbered_names(*alone) is alone[1]
    assert assemble.numbered_names(rows[:0], names.slice(0, 0)).to_pylist() == []
