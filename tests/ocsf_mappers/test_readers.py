"""What the readers make of bad input: the rest of the object goes on, counts add up, the reason names what is wrong."""

from __future__ import annotations

import gzip
import io
import json
import tracemalloc
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ocsf_mappers import Mapper, ParquetRows, registry
from ocsf_mappers.readers import Chunk, delimited, delimited_json, json_records, json_split, lines, streams
from ocsf_mappers.readers.streams import Blocks, Limits
from tests.ocsf_mappers.records import HEADER, LINE, call, file_of, flow, lines_of
from tests.support import is_json, named_rows, read_bytes


@pytest.fixture(scope="module")
def cloudtrail() -> Mapper:
    return registry.load("aws_cloudtrail")


@pytest.fixture(scope="module")
def vpc_flow() -> Mapper:
    return registry.load("aws_vpc_flow")


def rows(chunks: list[Chunk]) -> list[dict[str, Any]]:
    return [row for chunk in chunks for row in named_rows(chunk)]


def ids(chunks: list[Chunk]) -> list[tuple[int, str]]:
    """Number and event id of each JSON record."""
    return [(row["_record"], json.loads(row["_raw"])["eventID"]) for row in rows(chunks)]


def ports(chunks: list[Chunk]) -> list[tuple[int, str]]:
    """Line number and source port of each flow."""
    return [(row["_record"], row["srcport"]) for row in rows(chunks)]


def bad(chunks: list[Chunk]) -> list[tuple[int, str]]:
    return [(item.record, item.reason) for chunk in chunks for item in chunk.bad]


def numbers(chunks: list[Chunk]) -> list[int]:
    """Every number given, to records and bad texts, sorted."""
    return sorted([row["_record"] for row in rows(chunks)] + [number for number, _ in bad(chunks)])


def dropped(chunks: list[Chunk]) -> dict[str, int]:
    found: dict[str, int] = {}
    for chunk in chunks:
        for name, count in chunk.dropped.items():
            found[name] = found.get(name, 0) + count
    return found


# -- JSON -------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "data",
    [
        pytest.param(file_of(call(1), call(2)), id="Records"),
        pytest.param(json.dumps({"Records": [call(1), call(2)]}, indent=4).encode(), id="Records, indented"),
        pytest.param(json.dumps({"a": {"b": []}, "Records": [call(1), call(2)]}).encode(), id="another member first"),
        pytest.param(json.dumps({"Records": [call(1), call(2)], "next": "x"}).encode(), id="another member after"),
        pytest.param(json.dumps([call(1), call(2)]).encode(), id="array"),
        pytest.param(lines_of(call(1), call(2)), id="lines"),
        pytest.param(lines_of(call(1), call(2)).replace(b"\n", b"\r\n"), id="lines with carriage returns"),
        pytest.param(lines_of(call(1), call(2)).rstrip(), id="lines without a last line end"),
        pytest.param(lines_of(call(1), call(2)).replace(b"\n", b"\n\n"), id="lines with blank lines"),
        pytest.param(file_of(call(1)) + b"\n" + file_of(call(2)) + b"\n", id="lines of Records"),
        pytest.param(b"\xff\xfe" + file_of(call(1), call(2)).decode().encode("utf-16-le"), id="UTF-16"),
        pytest.param(gzip.compress(gzip.compress(file_of(call(1), call(2)))), id="gzip twice"),
    ],
)
def test_records_are_found_in_every_wrapping(cloudtrail: Mapper, data: bytes) -> None:
    chunks = read_bytes(cloudtrail, data)
    assert ids(chunks) == [(1, "e1"), (2, "e2")]
    assert bad(chunks) == []


@pytest.mark.parametrize(
    "data",
    [b"", b" \n ", b'{"Records": []}', b"[]", gzip.compress(b"")],
    ids=["no bytes", "blanks", "empty Records", "empty array", "gzip of nothing"],
)
def test_nothing_is_read_from_an_empty_object(cloudtrail: Mapper, data: bytes) -> None:
    assert sum(chunk.read for chunk in read_bytes(cloudtrail, data)) == 0


def test_a_torn_record_may_have_a_name_that_is_not_utf8(cloudtrail: Mapper) -> None:
    whole = [json.dumps(call(number)).encode() for number in (1, 2)]
    chunks = read_bytes(cloudtrail, b'{"Records": [%b, {"\xc3x": 1}, "b": 2}, %b]}' % (whole[0], whole[1]))
    assert [json.loads(row["_raw"])["eventID"] for row in rows(chunks)] == ["e1", "e2"]
    assert any("\\xc3x" in item.text for chunk in chunks for item in chunk.bad), "the broken text is kept"
    assert numbers(chunks) == list(range(1, len(rows(chunks)) + len(bad(chunks)) + 1))


@pytest.mark.parametrize("text", [b'{"Records": 5, "\xc3": 1}', b'{"\xc3": 1, "Records": 5}{"a": 1'])
def test_what_is_no_list_of_records_may_have_a_name_that_is_not_utf8(cloudtrail: Mapper, text: bytes) -> None:
    chunks = read_bytes(cloudtrail, text)
    assert any("\\xc3" in item.text for chunk in chunks for item in chunk.bad)


BROKEN = {
    "no value": '{"eventVersion": "1.11", "eventID": , "eventName": "x"}',
    "a bare word": '{"eventVersion": "1.11", "eventID": oops}',
    "a comma too many": '{"eventVersion": "1.11", "eventID": "x",}',
    "a quote that does not close": '{"eventVersion": "1.11", "eventID": "x}',
    "a bracket that does not close": '{"eventVersion": "1.11", "userIdentity": {"a": 1, "eventID": "x"',
    "a control character in a text": '{"eventVersion": "1.11", "eventID": "\x01"}',
    "a bad escape": '{"eventVersion": "1.11", "eventID": "\\q"}',
}


@pytest.mark.parametrize(
    "broken",
    [
        pytest.param(text, id=name)
        for name, text in BROKEN.items()
    ],
)
@pytest.mark.parametrize("wrapping", ["Records", "lines"])
def test_a_broken_record_costs_only_itself(cloudtrail: Mapper, broken: str, wrapping: str) -> None:
    texts = [json.dumps(call(1)), broken, json.dumps(call(2))]
    data = "\n".join(texts) if wrapping == "lines" else '{"Records": [' + ", ".join(texts) + "]}"
    chunks = read_bytes(cloudtrail, data.encode())
    good = [row["_raw"] for row in rows(chunks) if is_json(row["_raw"])]
    assert [json.loads(text)["eventID"] for text in good] == ["e1", "e2"]
    others = [row["_raw"] for row in rows(chunks) if not is_json(row["_raw"])]
    kept = others + [item.text for chunk in chunks for item in chunk.bad]
    assert any("eventVersion" in text for text in kept), "the broken text is kept"
    assert numbers(chunks) == list(range(1, len(rows(chunks)) + len(bad(chunks)) + 1))


def test_broken_json_beside_envelopes_costs_only_itself(cloudtrail: Mapper) -> None:
    envelope = {"detail-type": "AWS API Call via CloudTrail", "detail": call(1)}
    data = lines_of(envelope) + b'{"detail-type": oops}\n' + lines_of(envelope | {"detail": call(2)})
    chunks = read_bytes(cloudtrail, data)
    assert [json.loads(row["_raw"])["eventID"] for row in rows(chunks) if is_json(row["_raw"])] == ["e1", "e2"]
    assert numbers(chunks) == [1, 2, 3]


def test_a_list_of_texts_that_name_an_envelope_is_no_envelope(cloudtrail: Mapper) -> None:
    chunks = read_bytes(cloudtrail, b'{"Records": ["detail-type", 7, null, ' + json.dumps(call(4)).encode() + b"]}")
    assert numbers(chunks) == [1, 2, 3, 4]


@pytest.mark.parametrize(
    "inner",
    [
        '"not JSON"',
        "null",
        "7",
        '""',
        '"\\ud800"',
    ],
)
def test_an_envelope_around_no_record_costs_only_itself(cloudtrail: Mapper, inner: str) -> None:
    data = b'{"Events": [{"EventId": "1", "CloudTrailEvent": ' + inner.encode() + b"}, "
    data += json.dumps({"EventId": "2", "CloudTrailEvent": json.dumps(call(2))}).encode() + b"]}"
    chunks = read_bytes(cloudtrail, data)
    assert numbers(chunks) == [1, 2]
    assert json.loads(rows(chunks)[-1]["_raw"])["eventID"] == "e2"


def test_lines_of_records_beside_a_broken_line_are_all_found(cloudtrail: Mapper) -> None:
    data = file_of(call(1), call(2)) + b'\n{"Records": [oops\n' + file_of(call(3), call(4)) + b"\n"
    found = [
        json.loads(row["_raw"]).get("eventID") for row in rows(read_bytes(cloudtrail, data)) if is_json(row["_raw"])
    ]
    assert [name for name in found if name] == ["e1", "e2", "e3", "e4"]


def test_a_truncated_gzip_keeps_the_records_before_the_cut(cloudtrail: Mapper) -> None:
    packed = gzip.compress(file_of(*(call(number) for number in range(500))))
    chunks = read_bytes(cloudtrail, packed[: len(packed) // 2])
    found = ids(chunks)
    assert len(found) > 50
    assert found == [(number + 1, f"e{number}") for number in range(len(found))]
    reasons = [reason for _, reason in bad(chunks)]
    assert any("truncated" in reason for reason in reasons)
    assert numbers(chunks) == list(range(1, len(found) + len(reasons) + 1))


def test_a_record_that_is_not_utf_8_costs_only_itself(cloudtrail: Mapper) -> None:
    data = lines_of(call(1)) + b'{"eventVersion": "1.11", "eventID": "\xff"}\n' + lines_of(call(3))
    chunks = read_bytes(cloudtrail, data)
    assert ids(chunks) == [(1, "e1"), (3, "e3")]
    assert [number for number, reason in bad(chunks) if "UTF-8" in reason] == [2]
    assert "\\xff" in next(item.text for chunk in chunks for item in chunk.bad)


@pytest.mark.parametrize("levels", [1_000, 100_000])
def test_deep_nesting_costs_only_its_record(cloudtrail: Mapper, levels: int) -> None:
    deep = '{"eventVersion": "1.11", "requestParameters": ' + '{"a": ' * levels + "1" + "}" * levels + "}"
    data = json.dumps(call(1)) + "\n" + deep + "\n" + json.dumps(call(3)) + "\n"
    chunks = read_bytes(cloudtrail, data.encode())
    assert numbers(chunks) == [1, 2, 3]
    assert {number for number, _ in ids([Chunk(chunk.records.filter(_not(chunk, 2))) for chunk in chunks])} == {1, 3}


def _not(chunk: Chunk, number: int) -> pa.Array:
    return pa.array([row["_record"] != number for row in chunk.records.to_pylist()], pa.bool_())


def test_a_member_named_like_a_list_inside_a_record_is_left_alone(cloudtrail: Mapper) -> None:
    chunks = read_bytes(cloudtrail, file_of(call(1, requestParameters={"Records": [{"a": 1}, {"b": 2}]}), call(2)))
    assert ids(chunks) == [(1, "e1"), (2, "e2")]


# -- JSON that does not parse ---------------------------------------------------------------------------------------
WHOLE = json.dumps(call(1, requestParameters={"list": [{"a": 1}, {"b": [2]}]}))
OPENER = '{"eventVersion": '
MISLEADING: dict[str, Callable[[int], str]] = {
    "records without their last bracket": lambda number: '{"Records": [' + ",".join([WHOLE[:-1]] * number) + "]}",
    "records without their last two": lambda number: '{"Records": [' + ",".join([WHOLE[:-2]] * number) + "]}",
    "records with a list left open": lambda number: (OPENER + '[{"a": 1}, ') * number * 8,
    "objects in each other, never closed": lambda number: OPENER * number * 20,
    "objects in each other, closed but wrong": lambda number: OPENER * number * 20 + "oops" + "}" * number * 20,
    "brackets in texts": lambda number: '{"Records": [' + '{"a":"}' * number * 40,
    "backslashes in a text that does not end": lambda number: '{"Records": [{"a": "' + "\\\\" * number * 200,
    "white space behind the list": lambda number: '{"Records": [{"a": 1' + "]    " * number * 40 + "x",
}


@pytest.mark.parametrize("name", MISLEADING)
def test_text_made_to_mislead_is_read_a_few_times_at_most(name: str) -> None:
    for number in (20, 200):
        data = MISLEADING[name](number).encode()
        salvage = json_split.Salvage(data, ("Records",))
        piece = salvage.piece()
        assert len(piece.records) + len(piece.bad) > 0
        assert salvage.scanned <= 5 * len(data), f"{number} records"


def test_white_space_behind_a_bracket_is_read_once() -> None:
    # With a pattern that tries every division of the blanks this takes days.
    (piece,) = json_split.Windows((), 1).pieces(iter(()), b'[{"a": 1] ' + b" " * 2_000_000 + b"x")
    assert len(piece.bad) == 1


def test_a_long_text_needs_no_more_memory_than_itself() -> None:
    data = b'{"Records": [{"a": "' + b"\\n" * 8_000_000 + b'"}, {"a": oops}, {"a": 2}'
    tracemalloc.start()
    end, _ = json_split._closing(data, data.index(b'{"a"'), len(data))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert end == data.index(b", {")
    assert peak < 1 << 20


def test_records_without_their_last_bracket_cost_only_themselves(cloudtrail: Mapper) -> None:
    texts = [WHOLE, WHOLE[:-1], json.dumps(call(3)), WHOLE[:-2], json.dumps(call(5))]
    chunks = read_bytes(cloudtrail, ('{"Records": [' + ",".join(texts) + "]}").encode())
    assert ids(chunks) == [(1, "e1"), (3, "e3"), (5, "e5")]
    assert [number for number, _ in bad(chunks)] == [2, 4]


def test_a_record_that_holds_one_like_itself_is_whole_beside_a_broken_one(cloudtrail: Mapper) -> None:
    nested = json.dumps(call(2, requestParameters=call(9)))
    chunks = read_bytes(cloudtrail, ('{"Records": [' + ",".join([WHOLE[:-1], nested, WHOLE[:-1]]) + "]}").encode())
    assert ids(chunks) == [(2, "e2")]
    assert [number for number, _ in bad(chunks)] == [1, 3]


def test_values_that_are_no_records_are_counted_one_by_one_beside_a_broken_record(cloudtrail: Mapper) -> None:
    data = '{"Records": [123, "str", null, [], ' + WHOLE + ', {"eventVersion": oops}, 7, {"a": 1}, true]}'
    chunks = read_bytes(cloudtrail, data.encode())
    texts = [(item.record, item.text) for chunk in chunks for item in chunk.bad]
    assert texts == [
        (1, "123"), (2, '"str"'), (3, "null"), (4, "[]"), (6, '{"eventVersion": oops}'), (7, "7"), (9, "true")
    ]  # fmt: skip
    assert {reason for number, reason in bad(chunks) if number != 6} == {"not a JSON object"}
    assert numbers(chunks) == list(range(1, 10))


@pytest.mark.parametrize("garbage", ['ncated": "x"}', '{"ncated": ', '{"ncated": "', '{"a": {"b": 1}', "oops", "{"])
def test_a_first_line_that_is_garbage_costs_only_itself(cloudtrail: Mapper, garbage: str) -> None:
    data = garbage.encode() + b"\n" + lines_of(call(2), call(3), call(4))
    chunks = read_bytes(cloudtrail, data)
    assert [name for _, name in ids(chunks)] == ["e2", "e3", "e4"]
    assert len(bad(chunks)) == 1


def test_a_first_line_that_is_garbage_costs_only_itself_in_cloudwatch_lines(vpc_flow: Mapper) -> None:
    data = b'ssage": "2 1"}\n' + lines_of(*({"message": LINE.format(port=port)} for port in (2, 3)))
    chunks = read_bytes(vpc_flow, data)
    assert ports(chunks) == [(2, "2"), (3, "3")]
    assert [number for number, _ in bad(chunks)] == [1]


# -- JSON, larger than the window ------------------------------------------------------------------------------------
@pytest.fixture(
    params=[(600, 64), (2_000, 512), (5_000, 4_096)], ids=lambda sizes: f"window {sizes[0]}, blocks {sizes[1]}"
)
def small_window(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    window, block = request.param
    monkeypatch.setattr(json_records, "WINDOW_BYTES", window)
    monkeypatch.setattr(streams, "BLOCK_BYTES", block)
    return int(window)


TRICKY = [
    '},{"eventVersion": "1.11"',
    '"},{"eventVersion":',
    '\\"},{\\"eventVersion\\":',
    "]}",
    '"]}',
    '{"Records": [',
    "\n",
    "}\n{",
]


def tricky(number: int) -> dict[str, Any]:
    text = TRICKY[number % len(TRICKY)]
    return call(number, requestParameters={"text": text, text: [text, {text: text}]}, errorMessage=text)


@pytest.mark.parametrize("wrapping", ["Records", "array", "lines", "indented"])
def test_an_object_larger_than_the_window_has_the_same_records(
    cloudtrail: Mapper, small_window: int, wrapping: str
) -> None:
    records = [tricky(number) for number in range(60)]
    data = {
        "Records": json.dumps({"Records": records}),
        "array": json.dumps(records),
        "lines": "".join(json.dumps(record) + "\n" for record in records),
        "indented": json.dumps({"Records": records}, indent=2),
    }[wrapping]
    assert len(data) > 4 * small_window
    chunks = read_bytes(cloudtrail, data.encode())
    assert bad(chunks) == []
    assert [row["_record"] for row in rows(chunks)] == list(range(1, 61))
    assert [json.loads(row["_raw"]) for row in rows(chunks)] == records


def test_a_record_larger_than_the_window_is_read(cloudtrail: Mapper, small_window: int) -> None:
    records = [call(1), call(2, errorMessage="x" * int(2.5 * small_window)), call(3)]
    chunks = read_bytes(cloudtrail, file_of(*records))
    assert [json.loads(row["_raw"]) for row in rows(chunks)] == records
    assert bad(chunks) == []


def test_records_that_begin_with_other_members_are_read_window_by_window(cloudtrail: Mapper, small_window: int) -> None:
    records = [call(number) for number in range(60)]
    others = [dict(reversed(record.items())) for record in records[1:]]
    chunks = read_bytes(cloudtrail, file_of(records[0], *others))
    assert [json.loads(row["_raw"]) for row in rows(chunks) if is_json(row["_raw"])] == records
    assert bad(chunks) == []


@pytest.mark.parametrize("wrapping", ["Records", "lines"])
def test_a_broken_record_beyond_the_window_costs_only_itself(
    cloudtrail: Mapper, wrapping: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(json_records, "WINDOW_BYTES", 2000)
    monkeypatch.setattr(streams, "BLOCK_BYTES", 512)
    texts = [json.dumps(call(number)) for number in range(60)]
    texts[30] = '{"eventVersion": "1.11", "eventID": oops}'
    data = "\n".join(texts) if wrapping == "lines" else '{"Records": [' + ", ".join(texts) + "]}"
    chunks = read_bytes(cloudtrail, data.encode())
    found = [json.loads(row["_raw"])["eventID"] for row in rows(chunks) if is_json(row["_raw"])]
    assert found == [f"e{number}" for number in range(60) if number != 30]
    assert numbers(chunks) == list(range(1, 61))


def test_an_object_cut_off_beyond_the_window_keeps_what_is_whole(cloudtrail: Mapper, small_window: int) -> None:
    data = file_of(*(call(number) for number in range(60)))
    chunks = read_bytes(cloudtrail, data[: len(data) * 2 // 3])
    found = [json.loads(row["_raw"])["eventID"] for row in rows(chunks)]
    assert found == [f"e{number}" for number in range(len(found))]
    assert len(found) >= 38
    assert len(bad(chunks)) == 1


def test_documents_of_records_beyond_the_window_are_told_apart(cloudtrail: Mapper, small_window: int) -> None:
    number = 3 * small_window // len(WHOLE)
    documents = [file_of(*(call(n) for n in range(first, first + number))) for first in (0, number)]
    chunks = read_bytes(cloudtrail, b"\n".join(documents))
    assert [json.loads(row["_raw"])["eventID"] for row in rows(chunks)] == [f"e{n}" for n in range(2 * number)]
    assert bad(chunks) == []


@pytest.mark.parametrize("wrapping", ["Records", "lines"])
@pytest.mark.parametrize("place", [0, 30, 59])
def test_a_record_too_long_to_hold_is_one_bad_record(
    cloudtrail: Mapper, wrapping: str, place: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(json_records, "WINDOW_BYTES", 4_000)
    monkeypatch.setattr(streams, "BLOCK_BYTES", 512)
    monkeypatch.setattr(json_split, "RECORD_BYTES", 2_000)
    records = [call(number) for number in range(60)]
    records[place]["errorMessage"] = '"' + "{[" * 20_000
    data = lines_of(*records) if wrapping == "lines" else file_of(*records)
    chunks = read_bytes(cloudtrail, data)
    assert ids(chunks) == [(number + 1, f"e{number}") for number in range(60) if number != place]
    assert [number for number, _ in bad(chunks)] == [place + 1]
    assert "longer than" in bad(chunks)[0][1]


# -- text -------------------------------------------------------------------------------------------------------------
def test_a_bad_line_costs_only_itself(vpc_flow: Mapper) -> None:
    data = flow(1) + b"this is no flow\n" + flow(2, header="")[1:]
    chunks = read_bytes(vpc_flow, data)
    assert ports(chunks) == [(2, "1"), (4, "2")]
    assert bad(chunks) == [(3, "5 values where the header names 14")] or bad(chunks)[0][0] == 3


@pytest.mark.parametrize("count", [1, 13, 15, 40])
def test_a_line_of_another_length_names_both_counts(vpc_flow: Mapper, count: int) -> None:
    chunks = read_bytes(vpc_flow, flow(1) + b" ".join([b"x"] * count) + b"\n" + flow(2, header="")[1:])
    assert ports(chunks) == [(2, "1"), (4, "2")]
    assert bad(chunks) == [(3, f"{count} values where the header names 14")]


def test_blank_lines_are_counted_drops(vpc_flow: Mapper) -> None:
    chunks = read_bytes(vpc_flow, flow(1) + b"\n\n" + flow(2, header="")[1:] + b"\n")
    assert ports(chunks) == [(2, "1"), (5, "2")]
    assert dropped(chunks) == {"blank line": 3}
    assert sum(chunk.read for chunk in chunks) == 5


def test_another_header_in_the_middle_renames_the_columns(vpc_flow: Mapper) -> None:
    other = "dstport srcport srcaddr dstaddr start end action version account-id"
    data = flow(1) + other.encode() + b"\n443 2 10.0.0.1 10.0.0.2 1770106500 1770106558 REJECT 5 123456789012\n"
    chunks = read_bytes(vpc_flow, data)
    assert ports(chunks) == [(2, "1"), (4, "2")]
    assert dropped(chunks) == {"repeated header line": 1}


def test_a_header_at_the_end_is_a_counted_drop(vpc_flow: Mapper) -> None:
    chunks = read_bytes(vpc_flow, flow(1) + HEADER.encode() + b"\n")
    assert ports(chunks) == [(2, "1")]
    assert dropped(chunks) == {"repeated header line": 1}


@pytest.mark.parametrize("data", [b"", flow(), flow().rstrip()], ids=["empty", "header", "header without line end"])
def test_no_flows_are_read_from_no_lines(vpc_flow: Mapper, data: bytes) -> None:
    assert rows(read_bytes(vpc_flow, data)) == []
    assert bad(read_bytes(vpc_flow, data)) == []


def test_carriage_returns_end_lines(vpc_flow: Mapper) -> None:
    chunks = read_bytes(vpc_flow, flow(1, 2).replace(b"\n", b"\r\n"))
    assert ports(chunks) == [(2, "1"), (3, "2")]
    assert {row["log_status"] for row in rows(chunks)} == {"OK"}


@pytest.mark.parametrize("end", [b"\r", b"", b" "], ids=["carriage return", "nothing", "blank"])
@pytest.mark.parametrize("before", [b"", LINE.format(port=9).encode() + b"\n"], ids=["first", "further down"])
def test_a_line_that_stands_in_the_header_line_is_not_lost(vpc_flow: Mapper, before: bytes, end: bytes) -> None:
    data = before + flow(1).replace(b"\n", end, 1)
    chunks = read_bytes(vpc_flow, data)
    line = before.count(b"\n") + 1
    assert [(bad.record, bad.text.endswith("OK")) for chunk in chunks for bad in chunk.bad] == [(line, True)]
    assert sum(chunk.read for chunk in chunks) == line


def test_a_carriage_return_inside_a_line_does_not_move_the_line_numbers(vpc_flow: Mapper) -> None:
    odd = LINE.format(port=2).replace("eni-1", "eni\r1").encode() + b"\n"
    chunks = read_bytes(vpc_flow, flow(1) + odd + flow(3, header="")[1:])
    assert (4, "3") in ports(chunks)


@pytest.mark.parametrize(
    "odd",
    ['"eni', "'; DROP TABLE x --", "../../x", "\\", "é", "\ufeff", "x" * 1_000_000],
    ids=["quote", "SQL", "path", "backslash", "accent", "byte order mark", "a megabyte"],
)
def test_odd_text_in_a_value_stays_as_it_is(vpc_flow: Mapper, odd: str) -> None:
    odd = odd.replace(" ", "_")
    data = flow(1, 2) + LINE.format(port=3).replace("eni-1", odd).encode() + b"\n" + flow(4, header="")[1:]
    chunks = read_bytes(vpc_flow, data)
    assert ports(chunks) == [(2, "1"), (3, "2"), (4, "3"), (5, "4")]
    assert rows(chunks)[2]["interface_id"] == odd


@pytest.mark.parametrize(
    "lines_before",
    [1, 100],
)
def test_a_nul_in_a_line_costs_nothing(vpc_flow: Mapper, lines_before: int) -> None:
    odd = LINE.format(port=9).replace("eni-1", "a\x00b").encode() + b"\n"
    chunks = read_bytes(vpc_flow, flow(*range(lines_before)) + odd)
    assert len(rows(chunks)) == lines_before + 1
    assert rows(chunks)[-1]["interface_id"] == "a\x00b"


def test_a_line_that_is_not_utf_8_costs_only_itself(vpc_flow: Mapper) -> None:
    data = flow(1) + LINE.format(port=2).replace("eni-1", "\xff").encode("latin-1") + b"\n" + flow(3, header="")[1:]
    chunks = read_bytes(vpc_flow, data)
    assert ports(chunks) == [(2, "1"), (4, "3")]
    assert [number for number, reason in bad(chunks) if "UTF-8" in reason] == [3]


def test_bad_and_not_utf_8_lines_together_keep_their_numbers(vpc_flow: Mapper) -> None:
    data = flow(1) + b"\xff\n\nshort\n" + flow(5, header="")[1:] + HEADER.encode() + b"\n" + flow(7, header="")[1:]
    chunks = read_bytes(vpc_flow, data)
    assert ports(chunks) == [(2, "1"), (6, "5"), (8, "7")]
    assert [number for number, _ in sorted(bad(chunks))] == [3, 5]
    assert dropped(chunks) == {"blank line": 1, "repeated header line": 1}


def test_a_truncated_gzip_of_text_keeps_the_lines_before_the_cut(vpc_flow: Mapper) -> None:
    packed = gzip.compress(flow(*range(5000)))
    chunks = read_bytes(vpc_flow, packed[: len(packed) // 2])
    found = ports(chunks)
    assert len(found) > 1000
    assert found == [(number + 2, str(number)) for number in range(len(found))]
    assert any("truncated" in reason for _, reason in bad(chunks))


@pytest.mark.parametrize("block", [16, 100, 1000])
def test_lines_across_blocks_are_read_once(vpc_flow: Mapper, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "BLOCK_BYTES", block)
    data = flow(1, 2) + flow(3, 4) + b"\nbogus\n" + flow(5, header="")[1:].rstrip()
    chunks = read_bytes(vpc_flow, data)
    assert ports(chunks) == [(2, "1"), (3, "2"), (5, "3"), (6, "4"), (9, "5")]
    assert bad(chunks) == [(8, "1 values where the header names 14")]
    assert dropped(chunks) == {"repeated header line": 1, "blank line": 1}


@pytest.mark.parametrize("after", [b"", b"\n" + flow(3, header="")[1:]], ids=["at the end", "with a line after it"])
def test_a_line_too_long_to_hold_costs_only_itself(
    vpc_flow: Mapper, after: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lines, "RECORD_BYTES", 1000)
    monkeypatch.setattr(streams, "BLOCK_BYTES", 500)
    chunks = read_bytes(vpc_flow, flow(1, 2) + b"x" * 100_000 + after)
    assert ports(chunks) == [(2, "1"), (3, "2"), (5, "3")][: 3 if after else 2]
    ((number, reason),) = bad(chunks)
    assert (number, "longer than" in reason) == (4, True)


def test_headers_without_end_become_bad_lines(vpc_flow: Mapper, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delimited, "HEADER_SETS", 3)
    columns = HEADER.split()
    parts = [f"{' '.join(columns[:count])}\n{' '.join('7' * count)}\n" for count in range(8, 14)]
    chunks = read_bytes(vpc_flow, "".join([*parts, parts[1]]).encode())
    assert [row["_record"] for row in rows(chunks)] == [2, 4, 6, 14]
    assert [number for number, _ in bad(chunks)] == [8, 10, 12]
    assert {reason for _, reason in bad(chunks)} == {"the object has more than 3 different header lines"}


@pytest.mark.parametrize("bound", ["COLUMNS", "CELLS"])
def test_records_of_any_members_come_in_order_in_tables_of_bounded_size(
    vpc_flow: Mapper, bound: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delimited_json, bound, 12)
    chunks = read_bytes(vpc_flow, lines_of(*({"srcport": number, f"k{number}": "x"} for number in range(30))))
    assert ports(chunks) == [(number + 1, str(number)) for number in range(30)]
    assert [row[f"k{number}"] for number, row in enumerate(rows(chunks))] == ["x"] * 30
    assert bad(chunks) == []
    assert 2 < len(chunks) < 12


def test_a_record_of_members_without_end_is_bad(vpc_flow: Mapper) -> None:
    data = lines_of({"srcport": 1}, {f"k{number}": 1 for number in range(2_000)}, {"srcport": 3})
    chunks = read_bytes(vpc_flow, data)
    assert ports(chunks) == [(1, "1"), (3, "3")]
    assert bad(chunks) == [(2, "the record has 2000 members, more than the 1024 that are read")]


def test_a_line_of_another_length_without_a_header_does_not_speak_of_one(vpc_flow: Mapper) -> None:
    chunks = read_bytes(vpc_flow, LINE.format(port=1).encode() + b"\n2 1\n\xff\n")
    assert bad(chunks)[0][0] == 2
    assert bad(chunks)[0][1].startswith("2 values where the default format has 14; there is no header")


@pytest.mark.parametrize("wrapping", ["Records", "lines"])
def test_a_record_that_is_too_long_costs_only_itself(
    cloudtrail: Mapper, wrapping: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(json_records, "RECORD_BYTES", 2_000)
    records = [call(1), call(2, errorMessage="x" * 2_000), call(3)]
    chunks = read_bytes(cloudtrail, lines_of(*records) if wrapping == "lines" else file_of(*records))
    assert ids(chunks) == [(1, "e1"), (3, "e3")]
    assert [number for number, _ in bad(chunks)] == [2]
    assert json.loads(chunks[0].bad[0].text) == records[1], "it is kept whole"


def test_a_text_zip_bomb_keeps_what_came_before_the_limit(vpc_flow: Mapper, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "BLOCK_BYTES", 1000)
    packed = gzip.compress(flow(*range(1000)))
    chunks = read_bytes(vpc_flow, packed, Limits(max_bytes=20_000))
    assert len(ports(chunks)) > 100
    assert any("more than 20000 bytes" in reason for _, reason in bad(chunks))


# -- text in JSON -----------------------------------------------------------------------------------------------------
def test_a_cloudwatch_line_that_is_broken_costs_only_itself(vpc_flow: Mapper) -> None:
    good = [json.dumps({"message": LINE.format(port=port)}) for port in (1, 3)]
    chunks = read_bytes(vpc_flow, "\n".join([good[0], '{"message": oops}', good[1]]).encode())
    assert ports(chunks) == [(1, "1"), (3, "3")]
    assert numbers(chunks) == [1, 2, 3]


def test_a_cloudwatch_message_of_another_length_names_both_counts(vpc_flow: Mapper) -> None:
    chunks = read_bytes(vpc_flow, lines_of({"message": LINE.format(port=1)}, {"message": "2 1"}, 7))
    assert ports(chunks) == [(1, "1")]
    assert [(number, reason.partition(";")[0]) for number, reason in bad(chunks)] == [
        (2, "2 values where the default format has 14"),
        (3, "not a JSON object"),
    ]


def test_a_control_message_is_a_counted_drop(vpc_flow: Mapper) -> None:
    control = {"messageType": "CONTROL_MESSAGE", "logEvents": [], "owner": "CloudwatchLogs"}
    chunks = read_bytes(vpc_flow, lines_of(control | {"logEvents": None}, {"message": LINE.format(port=2)}))
    assert dropped(chunks) == {"CloudWatch Logs control message": 1}
    assert ports(chunks) == [(2, "2")]


def test_keyed_records_with_a_null_or_a_number_are_text(vpc_flow: Mapper) -> None:
    chunks = read_bytes(vpc_flow, lines_of({"srcport": 443, "dstport": None, "bytes": 1.5, "tcp-flags": "-"}))
    (row,) = rows(chunks)
    assert row == {"_record": 1, "srcport": "443", "dstport": None, "bytes": "1.5", "tcp_flags": None}


def test_keyed_names_that_only_differ_in_dashes_are_both_kept(vpc_flow: Mapper) -> None:
    (chunk,) = [chunk for chunk in read_bytes(vpc_flow, lines_of({"account-id": "1", "account_id": "2"})) if chunk.read]
    assert chunk.names == ("account-id", "account_id")
    assert chunk.records.select(["_record", "c0", "c1"]).to_pylist() == [{"_record": 1, "c0": "1", "c1": "2"}]


# -- Parquet ----------------------------------------------------------------------------------------------------------
def test_parquet_accounts_get_their_zeros_back() -> None:
    table = pa.table({"account-id": pa.array([12345678901, None]), "dstport": [443.0, 0.5], "x": ["None", "y"]})
    (chunk,) = _parquet(table)
    assert named_rows(chunk) == [
        {"_record": 1, "account_id": "012345678901", "dstport": "443", "x": None},
        {"_record": 2, "account_id": None, "dstport": "0.5", "x": "y"},
    ]


def test_a_damaged_parquet_file_says_so() -> None:
    buffer = io.BytesIO()
    pq.write_table(pa.table({"a": ["x"] * 1000}), buffer)
    chunks = list(ParquetRows().read(Blocks(io.BytesIO(buffer.getvalue()[:-20]))))
    assert [reason for _, reason in bad(chunks) if "damaged" in reason]


def test_a_parquet_file_without_rows_is_empty() -> None:
    assert rows(_parquet(pa.table({"a": pa.array([], pa.string())}))) == []


def _parquet(table: pa.Table) -> list[Chunk]:
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    return list(ParquetRows(zero_padded={"account_id": 12}).read(Blocks(io.BytesIO(buffer.getvalue()))))


def test_two_lists_in_one_document_are_both_read(cloudtrail: Mapper) -> None:
    data = json.dumps({"Records": [call(1)], "Events": [call(2)]}).encode()
    assert [json.loads(row["_raw"]) for row in rows(read_bytes(cloudtrail, data))] == [call(1), call(2)]


def test_a_list_that_stands_twice_is_read_twice(cloudtrail: Mapper) -> None:
    data = f'{{"Records": [{json.dumps(call(1))}], "Records": [{json.dumps(call(2))}]}}'.encode()
    assert [json.loads(row["_raw"]) for row in rows(read_bytes(cloudtrail, data))] == [call(1), call(2)]


def test_a_record_may_hold_members_named_like_the_lists(cloudtrail: Mapper) -> None:
    first = call(1, requestParameters={"Records": [{"Events": 1}], "Events": 2})
    data = json.dumps({"Records": [first, call(2)], "Events": [call(3)], "x": 1}).encode()
    chunks = read_bytes(cloudtrail, data)
    assert [json.loads(row["_raw"]) for row in rows(chunks)] == [first, call(2), call(3)]
    assert bad(chunks) == []


# -- JSON records inside CloudWatch log events ------------------------------------------------------------------------
CONTROL = {
    "messageType": "CONTROL_MESSAGE",
    "logEvents": [{"id": "", "message": "CWL CONTROL MESSAGE: Checking health of destination Firehose."}],
}


@pytest.fixture(scope="module")
def resolver() -> Mapper:
    return registry.load("aws_route53_resolver")


def query(number: int, text: str = "") -> dict[str, Any]:
    return {"query_name": f"n{number}.example.", "answers": [{"Rdata": text, "Type": "TXT"}]}


def document(*messages: object) -> dict[str, Any]:
    """A subscription's document; texts are messages as they are."""
    texts = [message if isinstance(message, str) else json.dumps(message) for message in messages]
    events = [{"id": str(number), "message": text} for number, text in enumerate(texts)]
    return {"messageType": "DATA_MESSAGE", "logEvents": events}


def names(chunks: list[Chunk]) -> list[str]:
    return [json.loads(row["_raw"])["query_name"] for row in rows(chunks)]


@pytest.mark.parametrize("between", ["", "\n", " ", "\r\n\r\n"])
@pytest.mark.parametrize("text", ["", "}{", '"}{"', "}\n{"])
def test_documents_are_told_apart_whatever_stands_between(resolver: Mapper, between: str, text: str) -> None:
    documents = [CONTROL, document(query(1, text), query(2)), document(query(3, text)), CONTROL]
    chunks = read_bytes(resolver, between.join(map(json.dumps, documents)).encode())
    assert names(chunks) == ["n1.example.", "n2.example.", "n3.example."]
    assert [row["_record"] for row in rows(chunks)] == [2, 3, 4]
    assert sum(chunk.dropped["CloudWatch Logs control message"] for chunk in chunks) == 2
    assert bad(chunks) == []


@pytest.mark.parametrize("text", ["", "}{"])
def test_bare_records_with_nothing_between_are_told_apart(resolver: Mapper, text: str) -> None:
    data = "".join(json.dumps(query(number, text)) for number in range(3)).encode()
    assert names(read_bytes(resolver, data)) == ["n0.example.", "n1.example.", "n2.example."]


def test_a_document_that_is_cut_off_costs_only_itself(resolver: Mapper) -> None:
    whole = [document(query(1), query(2)), document(query(3))]
    data = "".join(map(json.dumps, [*whole, document(query(4))]))[:-30].encode()
    chunks = read_bytes(resolver, data)
    assert names(chunks) == ["n1.example.", "n2.example.", "n3.example."]
    last = data[data.rindex(b'{"messageType"') :].decode()
    assert [item.text in last for chunk in chunks for item in chunk.bad] == [True]


@pytest.mark.parametrize("between", ["", "\n"])
def test_documents_beyond_the_window_are_told_apart(resolver: Mapper, small_window: int, between: str) -> None:
    number = 4 * small_window // len(json.dumps(document(query(1), query(2)))) + 2
    documents = [document(query(2 * n), query(2 * n + 1)) for n in range(number)]
    chunks = read_bytes(resolver, between.join(map(json.dumps, documents)).encode())
    assert len(chunks) > 1
    assert names(chunks) == [f"n{n}.example." for n in range(2 * number)]


def test_a_message_that_is_no_record_is_kept_with_what_stood_around_it(resolver: Mapper) -> None:
    (chunk,) = read_bytes(resolver, json.dumps(document("no record", query(1), "[]", "7")).encode())
    assert names([chunk]) == ["n1.example."]
    assert bad([chunk]) == [(number, "message holds no JSON object") for number in (1, 3, 4)]
    around = {"messageType": "DATA_MESSAGE", "logEvents": [{"id": "0", "message": "no record"}]}
    assert json.loads(chunk.bad[0].text) == around
