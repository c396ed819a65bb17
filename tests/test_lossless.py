"""No value of a record is lost: it is in its event, in `unmapped`, or in what the mapper drops and says why.

Every registered source gets these tests with its samples. What cannot become an event is in quarantine whole.
"""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from ocsf_mappers import DEFAULT_VERSION, Delimited, Engine, JsonRecords, Mapped, Mapper, RawObject, registry
from ocsf_mappers.readers import Chunk
from ocsf_mappers.testing import lossless
from tests import real_logs, support
from tests.support import VERSIONS, Json, as_events, map_bytes, own, read_bytes

OURS = "lake_detections"
"""Records that the lake writes itself, in one form."""
SOURCES = registry.names()
Parts = list[tuple[RawObject, Chunk]]
Place = tuple[str, int]


def _events(mapped: Mapped) -> dict[Place, Json]:
    return {(lake["source_object"], lake["source_record"]): event for event, lake in as_events(mapped.events)}


def _wrong(engine: Engine, parts: Parts, mapped: Mapped) -> dict[Place, Any]:
    """What is missing or too much, by record. A record must be an event or a reject, once."""
    events, mapper = _events(mapped), engine.mapper
    rejects = {(row["source_object"], row["source_record"]): row for row in mapped.rejects.to_pylist()}
    assert len(events) == len(mapped.events)
    assert len(rejects) == len(mapped.rejects)
    assert not events.keys() & rejects.keys()
    found: dict[Place, Any] = {}
    for where, chunk in parts:
        raws = chunk.records["_raw"].to_pylist() if "_raw" in chunk.records.column_names else None
        for position, (number, record) in enumerate(lossless.records(chunk)):
            place = (where.uri, number)
            if place in events:
                wrong = [*lossless.lost(mapper, record, events[place]), *lossless.invented(record, events[place])]
            else:
                wrong = _cut_short(record, None if raws is None else raws[position], rejects[place]["raw"])
            if wrong:
                found[place] = wrong
    return found


def _cut_short(record: Json, raw: str | None, kept: str) -> list[str]:
    """What of a record in quarantine is not in its text."""
    if raw is None:
        return [value for value in record.values() if value is not None and value not in kept]
    if "envelope" in record:
        said = {str(value) for value in record["envelope"].values() if isinstance(value, str)}
        return [value for value in said if json.dumps(value) not in kept]
    return [] if raw == kept else [raw]


def _apart(source: str, parts: Parts) -> Parts:
    return [(where, lossless.with_distinct_values(registry.load(source), chunk)) for where, chunk in parts]


# -- samples ----------------------------------------------------------------------------------------------------------
@pytest.mark.slow
@pytest.mark.parametrize(
    ("apart", "version"),
    [
        pytest.param(apart, version, marks=[pytest.mark.acceptance] * (version not in versions), id=f"{name}-{version}")
        for apart, name, versions in (
            (False, "as they are", [DEFAULT_VERSION]),
            (True, "told apart", [VERSIONS[0], VERSIONS[-1]]),
        )
        for version in VERSIONS
    ],
)
@pytest.mark.parametrize("source", SOURCES)
def test_no_value_of_a_sample_log_is_lost(source: str, version: str, apart: bool) -> None:
    """In the versions that lack most and least; values that differ are told apart, so that none stands for another."""
    parts = _apart(source, own(source)) if apart else own(source)
    mapped = support.engine(source, version).map(parts) if apart else support.mapped(source, version)
    assert len(mapped.events) > (3 if source == OURS else 20)
    assert _wrong(support.engine(source, version), parts, mapped) == {}


@pytest.mark.slow  # shown of the sample logs, which each source has
@pytest.mark.parametrize("apart", [False, True], ids=["as they are", "told apart"])
@pytest.mark.parametrize("source", real_logs.FOLDERS)
def test_no_value_of_a_real_log_is_lost(source: str, apart: bool, samples: Path) -> None:
    parts, mapped = real_logs.parts(samples, source), real_logs.mapped(samples, source)
    if apart:
        parts = _apart(source, [(where, chunk) for where, chunk in parts if _is_json(chunk)])
        mapped = support.engine(source).map(parts)
    assert len(mapped.events) > 5
    assert _wrong(support.engine(source), parts, mapped) == {}


def _is_json(chunk: Chunk) -> bool:
    """Whether every record is JSON that can be written anew."""
    for raw in chunk.records["_raw"].to_pylist() if "_raw" in chunk.records.column_names else ():
        try:
            json.loads(raw)
        except ValueError:
            return False
    return True


def test_a_text_that_says_nothing_may_go_only_where_the_mapper_reads_it() -> None:
    mapper = registry.load("aws_waf")
    assert "-" in mapper.blank
    record = {"webaclId": "-", "action": "BLOCK", "newMember": "-", "httpRequest": {"newMember": "-", "country": "-"}}
    assert lossless.lost(mapper, record, {"unmapped": {"httpRequest.country": "NL"}}) == [
        ("action", "BLOCK"), ("newMember", "-"), ("httpRequest.newMember", "-"),
    ]  # fmt: skip
    assert lossless.lost(mapper, record, {"unmapped": {"action": "BLOCK", "newMember": "-"}}) == []


@pytest.mark.parametrize("source", SOURCES)
def test_every_drop_has_a_reason(source: str) -> None:
    assert [name for name, reason in registry.load(source).drop.items() if len(reason.split()) < 3] == []


def test_what_stood_around_a_record_is_in_quarantine_with_it() -> None:
    document = {"version": "0", "id": "e1", "detail-type": "AWS API Call via CloudTrail", "detail": {"eventName": "x"}}
    mapped = map_bytes(support.engine("aws_cloudtrail"), json.dumps(document).encode())
    (reject,) = mapped.rejects.to_pylist()
    assert json.loads(reject["raw"]) == document
    again = map_bytes(support.engine("aws_cloudtrail"), reject["raw"].encode())
    assert again.rejects["raw"].to_pylist() == [reject["raw"]]


# -- mutations of real records ----------------------------------------------------------------------------------------
ODD_TEXTS = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
    st.sampled_from(
        ["", " ", "null", "-", "true", "\0", "\u202eabc", "é\u0301😀", "a.b", "{}", "[]", '{"a":1}', "[1", '"', "'",
         "2026-02-31T25:00:00Z", "99999-01-01T00:00:00Z", "0001-01-01T00:00:00.0000001Z", "1e5", "0x10", "+1", "007",
         "x" * 70_000]
    ),
)  # fmt: skip
ODD_NUMBERS = st.one_of(
    st.integers(-(2**63), 2**64 - 1),
    st.sampled_from([0, -1, 2**31, 2**53 + 1, 2**64, -(2**63) - 1, 10**40, 123456789012345678901234567890]),
    st.sampled_from([0.5, -1e300, 1e-7, 5e-324]),
)
ODD_SCALARS = st.one_of(st.none(), st.booleans(), ODD_NUMBERS, ODD_TEXTS)
ODD_NAMES = st.one_of(
    st.sampled_from(["new", "NEW", "a.b", "~1", "/", "$", "*", "é", "😀", " ", "\0", '"', "_raw", "envelope", "@key"]),
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8),
)  # fmt: skip
ODD_VALUES = st.recursive(
    ODD_SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(ODD_NAMES, inner, max_size=3)),
    max_leaves=6,
)
CHANGES = ["replace", "replace", "replace", "add", "add", "remove", "nest", "list", "null", "deep", "rename"]
bounded = settings(
    phases=[Phase.generate],  # what fails is shown as it is: a smaller one would cost minutes
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example],
)


def _reader(mapper: Mapper, kind: type[JsonRecords] | type[Delimited]) -> Any:
    return next((reader for reader in mapper.readers if isinstance(reader, kind)), None)


JSON_SOURCES = [source for source in SOURCES if _reader(registry.load(source), JsonRecords)]
TEXT_SOURCES = [
    source for source in SOURCES if (found := _reader(registry.load(source), Delimited)) and found.has_header
]


@cache
def _records(source: str) -> list[Json]:
    """Sample records that become events, from different cases; lists of records are taken for what they hold."""
    events, found = _events(support.mapped(source)), []
    for where, chunk in own(source):
        if "_raw" in chunk.records.column_names and "_envelope" not in chunk.records.column_names:
            numbers = zip(chunk.records["_record"].to_pylist(), chunk.records["_raw"].to_pylist(), strict=True)
            found += [json.loads(raw) for number, raw in numbers if (where.uri, number) in events][:3]
    return found


def _places(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    members = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in members:
        yield (*place, key)
        yield from _places(item, (*place, key))


def _changed(record: Json, draw: Callable[..., Any]) -> Json:
    copy: Json = json.loads(json.dumps(record))
    for _ in range(draw(st.integers(1, 4))):
        places = list(_places(copy))
        if not places:
            return copy
        *above, key = draw(st.sampled_from(places))
        holder: Any = copy
        for step in above:
            holder = holder[step]
        match draw(st.sampled_from(CHANGES)):
            case "replace":
                holder[key] = draw(ODD_VALUES)
            case "add":
                target = holder[key] if isinstance(holder[key], dict) else copy
                target.setdefault(draw(ODD_NAMES), draw(ODD_VALUES))
            case "remove":
                del holder[key]
            case "nest":
                holder[key] = {draw(ODD_NAMES): holder[key]}
            case "list":
                holder[key] = [holder[key], draw(ODD_SCALARS)]
            case "null":
                holder[key] = None
            case "deep":
                for level in range(draw(st.integers(1, 40))):
                    holder[key] = {f"d{level}": holder[key]}
            case "rename" if isinstance(holder, dict) and isinstance(key, str):
                holder.setdefault(key.swapcase(), holder.pop(key))
    return copy


def _written(record: Json, *, twice: bool, ascii_only: bool) -> str:
    """The record as JSON text, with its first member standing there twice if that is asked for."""
    text = json.dumps(record, ensure_ascii=ascii_only)
    if twice and record:
        name = json.dumps(next(iter(record)), ensure_ascii=ascii_only)
        return f'{{{name}: "again", {text[1:]}'
    return text


EXAMPLES = pytest.mark.parametrize("examples", [5, pytest.param(50, marks=pytest.mark.acceptance)])


@pytest.mark.slow
@EXAMPLES
@pytest.mark.parametrize("source", JSON_SOURCES)
def test_a_changed_json_record_loses_nothing(source: str, examples: int) -> None:
    engine, pool = support.engine(source), _records(source)
    reader = _reader(engine.mapper, JsonRecords)
    ends: Counter[str] = Counter()

    @settings(bounded, max_examples=examples)
    @given(st.data())
    def check(data: st.DataObject) -> None:
        texts: list[str] = []
        for _ in range(data.draw(st.integers(8, 16))):
            record = _changed(data.draw(st.sampled_from(pool)), data.draw)
            if any(name in record for name in reader.lists):
                continue  # a document with a list of this name is a file of records itself
            if any(envelope.marker in record or envelope.member in record for envelope in reader.envelopes):
                continue
            twice = data.draw(st.integers(0, 9)) == 0
            texts.append(_written(record, twice=twice, ascii_only=data.draw(st.booleans())))
        chunks = read_bytes(engine.mapper, "".join(f"{text}\n" for text in texts).encode())
        parts = [(RawObject("memory://changed"), chunk) for chunk in chunks]
        mapped = engine.map(parts)
        assert mapped.read == sum(chunk.read for chunk in chunks) == len(texts)
        assert _wrong_texts(engine, texts, mapped) == {}
        ends.update(events=len(mapped.events), rejects=len(mapped.rejects))

    check()
    assert ends["events"] > ends["rejects"] > 0, "too few of the changed records become events, or none is rejected"


def _wrong_texts(engine: Engine, texts: list[str], mapped: Mapped) -> dict[int, Any]:
    """As `_wrong`, from the text that was written: line by line."""
    events = {number: event for (_, number), event in _events(mapped).items()}
    rejects = {row["source_record"]: row["raw"] for row in mapped.rejects.to_pylist()}
    assert events.keys() | rejects.keys() == set(range(1, len(texts) + 1))
    assert not events.keys() & rejects.keys()
    found: dict[int, Any] = {}
    for number, text in enumerate(texts, start=1):
        if number in rejects:
            wrong: Any = [] if rejects[number] == text else [rejects[number], text]
        else:
            repeated = len(json.loads(text, object_pairs_hook=lambda pairs: pairs)) != len(json.loads(text))
            record = lossless._loads(text)
            wrong = [*lossless.lost(engine.mapper, record, events[number]), *["repeated"] * repeated]
            wrong += lossless.invented(record, events[number])
        if wrong:
            found[number] = wrong
    return found


CELLS = st.one_of(
    st.none(),
    st.sampled_from(["x", "0", "-1", "65536", "007", "1e5", "9" * 30, "é😀", "--", "a,b", '"', "\\", "x" * 5_000]),
    st.text(st.characters(exclude_categories=["C", "Z"], exclude_characters="\ufeff"), min_size=1, max_size=8),
)


@EXAMPLES
@pytest.mark.parametrize("source", TEXT_SOURCES)
def test_a_changed_line_of_text_loses_nothing(source: str, examples: int) -> None:
    engine = support.engine(source)
    reader: Delimited = _reader(engine.mapper, Delimited)
    events = _events(support.mapped(source))
    pool = [
        record
        for where, chunk in own(source)
        if "_raw" not in chunk.records.column_names
        for number, record in lossless.records(chunk)
        if (where.uri, number) in events
    ]
    ends: Counter[str] = Counter()

    @settings(bounded, max_examples=examples)
    @given(st.data())
    def check(data: st.DataObject) -> None:
        names = list(data.draw(st.permutations(list(data.draw(st.sampled_from(pool))))))
        names = [name for name in names if name in reader.columns][: data.draw(st.integers(4, 40))]
        own = data.draw(st.lists(st.sampled_from(["own_1", "own_2", "own_3"]), unique=True, max_size=2))
        if len(own) >= len(names):
            return
        header, lines = [*names, *own], []
        for _ in range(data.draw(st.integers(3, 10))):
            record = {**dict.fromkeys(header), **data.draw(st.sampled_from(pool))}
            for name in data.draw(st.lists(st.sampled_from(header), max_size=4)):
                record[name] = data.draw(CELLS)
            cells = [record[name] if record[name] != reader.null else None for name in header]
            lines.append(cells[: data.draw(st.integers(1, len(cells)))] if data.draw(st.integers(0, 9)) == 0 else cells)
        text = "\n".join(
            [reader.sep.join(name.replace("_", "-") for name in header)]
            + [reader.sep.join(reader.null if cell is None else cell for cell in line) for line in lines]
        )
        parts = [(RawObject("memory://lines"), chunk) for chunk in reader.read(_blocks(text))]
        mapped = engine.map(parts)
        assert _wrong(engine, parts, mapped) == {}
        numbers = [number for _, number in _events(mapped)] + mapped.rejects["source_record"].to_pylist()
        assert sorted(numbers) == list(range(2, len(lines) + 2))
        rejected = {row["source_record"]: row["raw"] for row in mapped.rejects.to_pylist()}
        for number, line in enumerate(lines, start=2):
            assert number not in rejected or all(cell in rejected[number] for cell in line if cell)
        ends.update(events=len(mapped.events), rejects=len(mapped.rejects))

    check()
    assert ends["events"]
    assert ends["rejects"]


def _blocks(text: str) -> Any:
    from ocsf_mappers.readers.streams import Blocks

    return Blocks(io.BytesIO(text.encode()))
