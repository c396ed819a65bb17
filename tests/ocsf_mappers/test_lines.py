"""Text logs in known layouts: every line is a record once, whatever stands in it and wherever it is cut."""

from __future__ import annotations

import gzip
import io
import json
import re
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import ocsf_mappers
from ocsf_mappers import DelimitedInJson, FieldNames, Lines, Pairs, Pattern, RawObject, Values, registry
from ocsf_mappers.readers import Chunk, json_split, lines, streams
from ocsf_mappers.readers.streams import Blocks
from ocsf_mappers.readers.tokens import tokens
from ocsf_mappers.testing import lossless
from tests.support import PROJECT, SAMPLE_LOGS, as_events, cases, engine

QUOTED = Values("a b c d", quotes=('""', "[]"), optional=1, more=True)
LAYOUTS = (
    QUOTED, Pairs(), Pattern(r"<(?P<level>\d+)>(?P<text>.*)"), Values("gone", fits={"gone": "gone"}, drop="gone away")
)  # fmt: skip
OVER_LINE_ENDS = r"\d\d (?:[^<]{0,9}<1>)?"
READERS = {
    "lines": Lines(LAYOUTS),
    "records of several lines": Lines((Pattern(r"(?P<time>\d\d) (?P<text>.*)"),), begins=r"\d\d "),
    "records that begin with several lines": Lines((Pattern(r"(?P<time>\d\d) (?P<text>.*)"),), begins=OVER_LINE_ENDS),
    "named": Lines(fields=FieldNames(), comment="#"),
}
bounded = settings(
    max_examples=60, deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow]
)


def read(reader: Lines | DelimitedInJson, data: bytes | str) -> list[Chunk]:
    return list(reader.read(Blocks(io.BytesIO(data.encode() if isinstance(data, str) else data))))


def rows(chunks: list[Chunk]) -> list[dict[str, Any]]:
    """Records by number: names and values that are not null; of a repeated name a list."""
    found = []
    for chunk in chunks:
        for row in chunk.records.to_pylist():
            record: dict[str, Any] = {"_record": row["_record"]}
            for position, name in enumerate(chunk.names):
                if (value := row[f"c{position}"]) is not None:
                    record[name] = value if name not in record else [record[name], value]
            found.append(record)
    return sorted(found, key=lambda record: record["_record"])


def bad(chunks: list[Chunk]) -> list[tuple[int, str]]:
    return sorted((item.record, item.text) for chunk in chunks for item in chunk.bad)


def texts(chunks: list[Chunk]) -> dict[int, str]:
    """What stands in the object of each record, good or bad, by number."""
    found: dict[int, str] = dict(bad(chunks))
    for chunk in chunks:
        if len(chunk.records):
            found |= zip(chunk.records["_record"].to_pylist(), chunk.records["_text"].to_pylist(), strict=True)
    return dict(sorted(found.items()))


def keeping(reader: Lines) -> Lines:
    """The reader with records where it has counted drops."""
    return replace(reader, layouts=tuple(replace(layout, drop=None) for layout in reader.layouts))  # type: ignore[type-var]


def lines_with_text(text: str) -> list[str]:
    """Lines without their ends, but for blank ones."""
    return [line.removesuffix("\r") for line in text.split("\n") if line.strip()]


def told(chunks: list[Chunk]) -> Any:
    """All that is read, in an order of its own."""
    dropped: dict[str, int] = {}
    for chunk in chunks:
        for reason, number in chunk.dropped.items():
            dropped[reason] = dropped.get(reason, 0) + number
    return rows(chunks), bad(chunks), dropped, texts(chunks)


def test_values_may_stand_in_quotes() -> None:
    chunks = read(Lines((QUOTED,)), '1 "x y" [q z] "-"\n- "a\\"b c" "" end more "and more"\n"u" v w\n')
    assert rows(chunks) == [
        {"_record": 1, "a": "1", "b": "x y", "c": "q z"},
        {"_record": 2, "b": 'a"b c', "c": "", "d": "end", "field_5": "more", "field_6": "and more"},
        {"_record": 3, "a": "u", "b": "v", "c": "w"},
    ]


def test_quotes_may_be_doubled() -> None:
    reader = Lines((Values("a b", sep=",", quotes=('""',), escape='"'),))
    assert rows(read(reader, '"x""y,z",""\n"""",b\n"a"",""b",c\n')) == [
        {"_record": 1, "a": 'x"y,z', "b": ""}, {"_record": 2, "a": '"', "b": "b"},
        {"_record": 3, "a": 'a","b', "b": "c"},
    ]  # fmt: skip


def test_a_quote_inside_a_value_is_one_unless_a_separator_follows() -> None:
    assert rows(read(Lines((Values("a b", quotes=('""',)),)), '"x "y z" 5" w\n')) == []
    assert rows(read(Lines((Values("a b", quotes=('""',)),)), '"x "y"z 5" w\n')) == [
        {"_record": 1, "a": 'x "y"z 5', "b": "w"}
    ]


def test_a_line_goes_to_the_first_layout_that_it_fits() -> None:
    layouts = (Values("time to", fits={"time": r"\d+"}), Values("from to", optional=1), Pattern("(?P<all>.*)"))
    chunks = read(Lines(layouts), "12 x\nme you\nme\na b c\n")
    assert rows(chunks) == [
        {"_record": 1, "time": "12", "to": "x"}, {"_record": 2, "from": "me", "to": "you"},
        {"_record": 3, "from": "me"}, {"_record": 4, "all": "a b c"},
    ]  # fmt: skip


def test_a_line_of_no_layout_is_bad_and_costs_only_itself() -> None:
    chunks = read(Lines((Values("a b"),)), b"1 2\n1 2 3\n\xff 2\n\n3 4")
    assert [row["_record"] for row in rows(chunks)] == [1, 5]
    assert bad(chunks) == [(2, "1 2 3"), (3, "\\xff 2")]
    reasons = {item.record: item.reason for chunk in chunks for item in chunk.bad}
    assert "3 values, expected 2" in reasons[2]
    assert "invalid UTF-8 at byte 0" in reasons[3]
    assert sum(chunk.read for chunk in chunks) == 5


def test_a_value_may_be_cut_into_parts() -> None:
    reader = Lines((Values("at b", parts={"at": r"(?P<ip>.+):(?P<port>\d+)(?P<more>x?)"}),))
    assert rows(read(reader, "::1:80 q\nnowhere q\n- q\n")) == [
        {"_record": 1, "ip": "::1", "port": "80", "b": "q"}, {"_record": 2, "at": "nowhere", "b": "q"},
        {"_record": 3, "b": "q"},
    ]  # fmt: skip


def test_pairs_may_come_in_any_order_and_twice() -> None:
    chunks = read(Lines((Pairs(),)), 'a=1 b="x y" a=2\nc="q=w" b="\\" ="\nno pair=1\na=1\n')
    assert rows(chunks) == [{"_record": 1, "a": ["1", "2"], "b": "x y"}, {"_record": 2, "c": "q=w", "b": '" ='}]
    assert bad(chunks) == [(3, "no pair=1"), (4, "a=1")]


@pytest.mark.slow
def test_names_without_end_come_in_tables_of_bounded_width() -> None:
    text = "".join(f"a={row} b{row}=x\n" for row in range(3_000))
    chunks = read(Lines((Pairs(),)), text)
    assert max(len(chunk.names) for chunk in chunks) <= 1_024
    assert [row["a"] for row in rows(chunks)] == [str(row) for row in range(3_000)]
    wide = " ".join(f"n{number}=1" for number in range(2_000))
    assert bad(read(Lines((Pairs(),)), f"{wide}\na=1 b=2\n")) == [(1, wide)]


def test_a_line_that_names_columns_counts_for_those_below_it() -> None:
    text = "1\t2\n#Version: 1.0\n#Fields: a cs(User-Agent)\n1\tx%20y\n3\t-\n#Fields: b\n4\n1\t2\n"
    chunks = read(READERS["named"], text)
    assert rows(chunks) == [
        {"_record": 4, "a": "1", "cs(User-Agent)": "x%20y"}, {"_record": 5, "a": "3"}, {"_record": 7, "b": "4"}
    ]  # fmt: skip
    assert [number for number, _ in bad(chunks)] == [1, 8]
    assert sum(chunk.dropped.get(lines.DIRECTIVE, 0) for chunk in chunks) == 3


def test_a_record_may_go_over_several_lines() -> None:
    chunks = read(READERS["records of several lines"], "stray\n10 a\n\tb\n\n11 c\n")
    assert rows(chunks) == [{"_record": 2, "time": "10", "text": "a\n\tb\n"}, {"_record": 5, "time": "11", "text": "c"}]
    assert bad(chunks) == [(1, "stray")]


@pytest.mark.parametrize("block", [1, 6, 100])
def test_no_record_begins_where_the_beginning_of_another_has_gone(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "BLOCK_BYTES", block)
    monkeypatch.setattr(lines, "LOOK_BYTES", 16)
    chunks = read(READERS["records that begin with several lines"], "10 a\n11 b\n<1>c\n12 d\n13 e\n")
    assert texts(chunks) == {1: "10 a\n11 b\n<1>c", 4: "12 d", 5: "13 e"}


def test_lines_of_an_export_task_have_their_time_beside_them() -> None:
    text = "2024-01-01T00:00:00.000Z x y\n2024-01-01T00:00:00.001Z z \n w\n2024-01-01T00:00:00.002Z !\n"
    chunks = read(Lines((Pattern(r"(?P<a>[a-z]) (?P<b>.*)"),)), text)
    assert rows(chunks) == [
        {"_record": 1, "envelope.timestamp": "2024-01-01T00:00:00.000Z", "a": "x", "b": "y"},
        {"_record": 2, "envelope.timestamp": "2024-01-01T00:00:00.001Z", "a": "z", "b": "\n w"},
    ]
    assert bad(chunks) == [(4, "2024-01-01T00:00:00.002Z !")]


def test_a_line_comes_out_of_what_cloudwatch_puts_around_it() -> None:
    reader = DelimitedInJson(Lines((Values("a b"),)))
    event = {"id": "1", "timestamp": 1_700_000_000_000, "message": "x y"}
    document = {"messageType": "DATA_MESSAGE", "owner": "123456789012", "logEvents": [event, {**event, "message": "x"}]}
    chunks = read(reader, json.dumps(document) + "\n" + json.dumps({"a": "k", "b": 2}))
    (first, second) = rows(chunks)
    assert {name: first[name] for name in ("a", "b", "envelope.owner", "envelope.timestamp")} == {
        "a": "x", "b": "y", "envelope.owner": "123456789012", "envelope.timestamp": "1700000000000"
    }  # fmt: skip
    assert second == {"_record": 3, "a": "k", "b": "2"}
    ((number, text),) = bad(chunks)
    assert (number, json.loads(text)["logEvents"][0]["message"]) == (2, "x")
    # what is kept in quarantine is read again as it was
    assert bad(read(reader, text)) == [(1, text)]
    assert reader.former_text(text) == text
    (kept,) = [row for chunk in chunks if "envelope.id" in chunk.names for row in chunk.records["_text"].to_pylist()]
    assert json.loads(kept)["logEvents"] == [event]


@pytest.mark.parametrize("reader", READERS.values(), ids=READERS)
def test_a_line_too_long_to_hold_is_one_bad_record(reader: Lines, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "RECORD_BYTES", 1_000)
    monkeypatch.setattr(streams, "BLOCK_BYTES", 64)
    text = f"#Fields: a b\n10 1\n{'x' * 5_000}\n11 2\n"
    chunks = read(reader, text)
    assert [len(text) for _, text in bad(chunks) if "xxx" in text] == [pytest.approx(1_000, abs=100)]


def test_a_truncated_gzip_keeps_the_lines_before_the_cut() -> None:
    rng = np.random.default_rng(1)
    data = "".join(f"{number} {rng.integers(1 << 60)}\n" for number in range(20_000)).encode()
    chunks = read(Lines((Values("a b"),)), gzip.compress(data)[:-50_000])
    found = rows(chunks)
    assert 5_000 < len(found) < 20_000
    assert [row["a"] for row in found[:-1]] == [str(number) for number in range(len(found) - 1)]
    assert "truncated" in chunks[-1].bad[0].reason


CELLS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\n\r"), max_size=12)


@pytest.mark.slow
@bounded
@given(st.lists(st.lists(CELLS, min_size=2, max_size=5), min_size=1, max_size=8))
def test_values_come_back_as_they_were_written(table: list[list[str]]) -> None:
    """Quoted values with the closing quote escaped; a value that ends in the escape sign cannot be spelled so."""
    written = [[cell.replace("\\", "/") for cell in row] for row in table]
    texts = [" ".join('"' + cell.replace('"', '\\"') + '"' for cell in row) for row in written]
    found = tokens(pa.array(texts, pa.string()), " ", ('""',))
    values = found.values.to_pylist()
    assert found.counts.tolist() == [len(row) for row in written]
    assert [values[start : start + count] for start, count in zip(found.first, found.counts, strict=True)] == written


PIECES = st.lists(
    st.sampled_from(
        ["a", "b=", '"', "[", "]", "\\", " ", "\t", "\n", "\r\n", "10 ", "<1>", "#Fields: a b\n", "é", "-", "=",
         "gone\n", 'x "y z" ']
    ),
    max_size=60,
)  # fmt: skip


@pytest.mark.parametrize("reader", READERS.values(), ids=READERS)
def test_chunk_boundaries_change_nothing_and_every_line_is_told_once(reader: Lines) -> None:
    @bounded
    @given(PIECES, st.integers(1, 24))
    def check(pieces: list[str], block: int) -> None:
        text = "".join(pieces)
        whole = read(reader, text)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(streams, "BLOCK_BYTES", block)
            patch.setattr(lines, "LOOK_BYTES", 16)
            parts = read(reader, text)
        assert told(parts) == told(whole)
        numbers = [row["_record"] for row in rows(whole)] + [number for number, _ in bad(whole)]
        assert len(set(numbers)) == len(numbers)
        expected = text.count("\n") + (not text.endswith("\n") and text != "")
        if reader.begins is None:
            assert sum(chunk.read for chunk in whole) == expected
        if reader.fields is None:
            kept = texts(read(keeping(reader), text))
            assert lines_with_text("\n".join(kept.values())) == lines_with_text(text)
        # a record's text, as quarantine would keep it, is what stands in the object
        for chunk in whole:
            kept = chunk.records["_text"].to_pylist() if len(chunk.records) else []
            for number, own in zip(chunk.records["_record"].to_pylist(), kept, strict=True):
                assert "\n".join(text.split("\n")[number - 1 :]).startswith(own)

    check()


def test_a_record_is_bounded() -> None:
    assert lines.RECORD_BYTES == json_split.RECORD_BYTES


def _with_lines() -> list[str]:
    return [name for name in registry.names() if any(isinstance(r, Lines) for r in registry.load(name).readers)]


@pytest.mark.slow
@pytest.mark.parametrize("source", _with_lines())
def test_a_changed_line_loses_nothing(source: str) -> None:
    mapper = registry.load(source)
    reader = next(reader for reader in mapper.readers if isinstance(reader, Lines))
    pool = [
        line
        for case in cases(source)
        if case.path.suffix == ".log"
        for line in case.path.read_text(encoding="utf-8").splitlines()
        if line.strip() and not line.startswith("#")
    ]
    signs = ['"', "\\", " ", "[", "-", ":", "é", "\t", "0", "?", "%"]

    @settings(bounded, max_examples=6)
    @given(st.data())
    def check(data: st.DataObject) -> None:
        written = []
        for line in data.draw(st.lists(st.sampled_from(pool), min_size=5, max_size=15)):
            at = data.draw(st.integers(0, len(line)))
            written.append(line[:at] + data.draw(st.sampled_from(signs)) + line[at + data.draw(st.integers(0, 2)) :])
        text = "\n".join(written) + "\n"
        chunks = read(reader, text)
        mapped = engine(source).map([(RawObject("memory://lines"), chunk) for chunk in chunks])
        # every line is one of a record's, once and in order, and every record is told or counted
        kept = texts(read(keeping(reader), text))
        assert "\n".join(kept.values()) == "\n".join(written)
        assert mapped.read == len(kept)
        events = {lake["source_record"]: event for event, lake in as_events(mapped.events)}
        for chunk in chunks:
            for number, record in lossless.records(chunk):
                assert number not in events or lossless.lost(mapper, record, events[number]) == []
        for row in mapped.rejects.to_pylist():
            assert row["raw"] == kept[row["source_record"]]

    check()


@pytest.mark.slow
@pytest.mark.parametrize("source", _with_lines())
def test_a_log_in_small_pieces_is_the_same_log(source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    reader = next(reader for reader in registry.load(source).readers if isinstance(reader, Lines))
    logs = [case.path.read_bytes() for case in cases(source) if case.path.suffix == ".log"]
    assert logs
    whole = [told(read(reader, log)) for log in logs]
    for block in (400, 1_000):
        monkeypatch.setattr(streams, "BLOCK_BYTES", block)
        assert [told(read(reader, log)) for log in logs] == whole


@pytest.mark.parametrize("value", ["nan", "inf", "1e300"])
@pytest.mark.parametrize(
    ("source", "file", "sep", "columns"),
    [
        ("aws_alb", "access.log", " ", (5, 6, 7)),
        ("aws_alb", "connection.log", " ", (6,)),
        ("aws_clb", "access.log", " ", (5, 6)),
        ("aws_cloudfront", "no_header.log", "\t", (18, 27)),
    ],
)
def test_a_number_of_seconds_that_is_none_costs_no_event(
    source: str, file: str, sep: str, columns: tuple[int, ...], value: str
) -> None:
    words = (SAMPLE_LOGS / source / file).read_text(encoding="utf-8").splitlines()[0].split(sep)
    for column in columns:
        words[column] = value
    reader = next(reader for reader in registry.load(source).readers if isinstance(reader, Lines))
    chunks = read(reader, sep.join(words) + "\n")
    mapped = engine(source).map([(RawObject("memory://lines"), chunk) for chunk in chunks])
    assert mapped.rejects.to_pylist() == []
    ((event, _),) = as_events(mapped.events)
    assert [text for text in event["unmapped"].values() if text == value] == [value] * len(columns)


@pytest.mark.parametrize(
    ("source", "forged"),
    [
        ("aws_alb", 'x" A TLSv1.3 arn "Root=1" "evil.example" "-" 0 2026-02-03T00:00:00Z "forward" "-" "-" "'),
        ("aws_clb", 'x" A TLSv1.3 "'),
        ("aws_clb", 'x" A TLSv1.3'),
        ("aws_s3_access", 'x" - host SigV4 A AuthHeader evil.example TLSv1.3 - "'),
    ],
)
def test_a_user_agent_that_looks_like_the_rest_of_a_line_is_one(source: str, forged: str) -> None:
    line = (SAMPLE_LOGS / source / "access.log").read_text(encoding="utf-8").splitlines()[0]
    (agent,) = {agent for agent in re.findall('"([^"]*)"', line) if agent.startswith(("Mozilla", "curl", "aws", "S3"))}
    reader = next(reader for reader in registry.load(source).readers if isinstance(reader, Lines))
    plain, changed = rows(read(reader, f"{line}\n{line.replace(agent, forged)}\n"))
    assert changed == {**plain, "_record": 2, "user_agent": forged}


PAGE = (PROJECT / "docs" / "readers.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("example", re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL))
def test_an_example_of_the_page_holds(example: str) -> None:
    def plain_rows(reader: Any, text: str) -> list[dict[str, Any]]:
        return [{name: value for name, value in row.items() if name != "_record"} for row in rows(read(reader, text))]

    exec(example, {**vars(ocsf_mappers), "rows": plain_rows})
