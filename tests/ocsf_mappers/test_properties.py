"""Properties of any input: no leaf is lost, windows change nothing, text comes back as it was written."""

from __future__ import annotations

import io
import json
from functools import cache
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ocsf_mappers import Delimited, Engine
from ocsf_mappers.readers import streams
from ocsf_mappers.readers.json_split import Windows, split
from ocsf_mappers.readers.streams import Blocks
from tests.ocsf_mappers.test_semantics import json_engine, map_json
from tests.support import leaves, named_rows, ocsf

bounded = settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])

TRICKY = st.sampled_from(
    ['},{"k": ', '"},{"k":', "]}", "[{", '\\"', "\\", "\n", '{"Records": [', "é", "😀", "/", "~1", "a.b"]
)
TEXTS = st.one_of(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12), TRICKY)
NAMES = st.one_of(st.sampled_from(["k", "a", "b", "x.y", "A"]), TEXTS.filter(bool))
SCALARS = st.one_of(st.none(), st.booleans(), st.integers(-(2**63), 2**64), TEXTS)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(NAMES, inner, max_size=3)),
    max_leaves=10,
)
RECORDS = st.lists(st.dictionaries(NAMES, VALUES, min_size=1, max_size=4), min_size=1, max_size=12)
WRAPPINGS = st.sampled_from(["Records", "array", "lines", "indented"])


def written(records: list[dict[str, Any]], wrapping: str, *, ascii_only: bool) -> bytes:
    def dumps(value: Any, **more: Any) -> str:
        return json.dumps(value, ensure_ascii=ascii_only, **more)

    if wrapping == "lines":
        return "".join(dumps(item) + "\n" for item in records).encode()
    if wrapping == "array":
        return dumps(records, separators=(",", ":")).encode()
    return dumps({"Records": records}, indent=1 if wrapping == "indented" else None).encode()


def has_list(records: list[dict[str, Any]]) -> bool:
    """A line with a list of this name is a file of its own."""
    return any(isinstance(item.get("Records"), list) for item in records)


@pytest.mark.slow
@bounded
@given(RECORDS, WRAPPINGS, st.booleans())
def test_splitting_gives_what_json_gives(records: list[dict[str, Any]], wrapping: str, ascii_only: bool) -> None:
    if has_list(records):
        return
    piece = split(written(records, wrapping, ascii_only=ascii_only), ("Records",))
    assert piece.bad == []
    assert [json.loads(bytes(item)) for item in piece.records] == records


@pytest.mark.slow
@bounded
@given(RECORDS, WRAPPINGS, st.booleans(), st.integers(64, 600), st.integers(1, 200))
def test_windows_give_what_json_gives(
    records: list[dict[str, Any]], wrapping: str, ascii_only: bool, window: int, block: int
) -> None:
    # members of one log come in one order, and a record is no larger than the window
    records = [{"k": number, **item} for number, item in enumerate(records)]
    data = written(records, wrapping, ascii_only=ascii_only)
    if has_list(records) or max(len(json.dumps(item, indent=1)) for item in records) > window:
        return
    blocks = iter([data[start : start + block] for start in range(0, len(data), block)])
    found, head = [], b""
    while len(head) < min(window, len(data)):
        head += next(blocks)
    for piece in Windows(("Records",), window).pieces(blocks, head):
        assert piece.bad == []
        found += [json.loads(bytes(item)) for item in piece.records]
    assert found == records


@cache
def _engine() -> Engine:
    return json_engine({})


@pytest.mark.slow
@settings(bounded, max_examples=25)
@given(st.lists(st.dictionaries(NAMES, VALUES, max_size=4), min_size=1, max_size=6))
def test_unmapped_loses_no_leaf(members: list[dict[str, Any]]) -> None:
    mapped = map_json(_engine(), *(f'"new": {json.dumps(item)}' for item in members))
    assert mapped.read == len(members) == len(mapped.events)
    for item, event in zip(members, ocsf(mapped.events), strict=True):
        unmapped = event.get("unmapped", {})
        assert sorted(_said(item)) == sorted(leaf for text in unmapped.items() for leaf in _read_back(*text))


def _said(item: dict[str, Any]) -> list[str]:
    """Each leaf as the text that stands for it; what is nothing says nothing."""
    return [_text(value) for _, value in leaves(item) if value is not None]


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _read_back(name: str, text: str) -> list[str]:
    """The leaves of a list kept as JSON text; any other text is a leaf itself."""
    if text.startswith("["):
        try:
            return [_text(value) for _, value in leaves(json.loads(text)) if value is not None]
        except ValueError:
            pass
    return [text]


WORDS = st.text(
    st.characters(exclude_categories=["Cs", "Cc", "Zs", "Zl", "Zp"], exclude_characters="\ufeff"),
    min_size=1,
    max_size=8,
)
CELLS = st.lists(st.one_of(st.none(), WORDS.filter(lambda word: word != "-")), min_size=3, max_size=3)


@pytest.mark.slow
@bounded
@given(st.lists(CELLS, min_size=1, max_size=20), st.permutations(["start", "srcaddr", "dstaddr"]), st.integers(1, 64))
def test_delimited_text_comes_back_as_it_was_written(
    lines: list[list[str | None]], names: list[str], block: int
) -> None:
    reader = Delimited(("start", "srcaddr", "dstaddr"), ("start", "srcaddr", "dstaddr"))
    text = "\n".join(" ".join("-" if cell is None else cell for cell in line) for line in [names, *lines])
    expected = [
        {"_record": number, **dict(zip(names, line, strict=True))} for number, line in enumerate(lines, start=2)
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(streams, "BLOCK_BYTES", block)
        chunks = list(reader.read(Blocks(io.BytesIO(text.encode()))))
    assert [row for chunk in chunks for row in named_rows(chunk)] == expected
    assert [item for chunk in chunks for item in chunk.bad] == []
