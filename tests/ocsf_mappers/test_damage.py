"""Damage inside a document costs the record that it is in, wherever it is and however the records are wrapped."""

from __future__ import annotations

import json
import random
import tracemalloc
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ocsf_mappers.readers import json_split

NUMBER = 6


def record(number: int) -> dict[str, object]:
    return {
        "eventVersion": "1.11",
        "userIdentity": {"type": "AssumedRole", "sessionContext": {"sessionIssuer": {"type": "Role"}}, "n": number},
        "requestParameters": {"items": [{"a": number, "b": [1, {"c": "x,y{}"}]}, {"b": []}], "t": 'said "x" [{'},
        "resources": [{"ARN": "arn:1", "type": "T"}, {"ARN": "arn:2"}],
        "eventID": f"e{number}",
        "managementEvent": True,
    }


TEXTS = [json.dumps(record(number)) for number in range(NUMBER)]
WRAPPINGS: dict[str, Callable[[list[str]], str]] = {
    "Records": lambda texts: '{"Records":[' + ",".join(texts) + "]}",
    "Records, another member after": lambda texts: '{"Records": [' + ", ".join(texts) + '], "next": {"a": [1]}}',
    "array": lambda texts: "[" + ",".join(texts) + "]",
    "lines": lambda texts: "\n".join(texts) + "\n",
    "nothing between": "".join,
}
SIGNS = '{}[]",:\\ax1 '
DAMAGES: dict[str, Callable[[str, random.Random], str]] = {
    "cut": lambda text, chance: "",
    "zeros": lambda text, chance: "\0" * len(text),
    "overwritten": lambda text, chance: "".join(chance.choice(SIGNS) for _ in text),
    "inserted": lambda text, chance: "".join(chance.choice(SIGNS) for _ in range(1 + len(text) % 5)) + text,
}


def damaged(wrapping: str, victim: int, start: int, length: int, damage: str, seed: int) -> str:
    text = TEXTS[victim]
    torn = text[:start] + DAMAGES[damage](text[start : start + length], random.Random(seed)) + text[start + length :]
    return WRAPPINGS[wrapping]([*TEXTS[:victim], torn, *TEXTS[victim + 1 :]])


def found(document: str) -> tuple[list[str], int]:
    """The records that are found, and how many entries all that is broken makes."""
    piece = json_split.split(document.encode(), ("Records",))
    return [bytes(item).decode() for item in piece.records], len(piece.bad)


def every_place(step: int) -> Iterator[tuple[int, int, int]]:
    """Victim, where the damage begins and how long it is."""
    chance = random.Random(7)
    for victim in (0, 2, NUMBER - 1):
        for start in range(0, len(TEXTS[victim]), step):
            yield victim, start, chance.choice([1, 2, 3, 5, 9, 17, 60, 200])


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("wrapping", WRAPPINGS)
def test_damage_anywhere_in_a_record_costs_no_other(wrapping: str, damage: str) -> None:
    alone = total = 0
    for victim, start, length in every_place(3):
        records, broken = found(damaged(wrapping, victim, start, length, damage, seed=start))
        others = [text for number, text in enumerate(TEXTS) if number != victim]
        assert [text for text in records if text in others] == others, (victim, start, length)
        rest = len(records) - len(others)
        assert rest + broken <= 8, "fragments of one record"
        alone += rest + broken <= 1
        total += 1
    # Now and then a part of a torn record is an object by itself, and looks like one more record.
    assert alone >= 0.94 * total


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from([*WRAPPINGS]), st.sampled_from([*DAMAGES]), st.integers(0, NUMBER - 1), st.integers(0, 400),
    st.integers(1, 400), st.integers(0, 1000),
)  # fmt: skip
def test_damage_of_any_length_costs_no_other(
    wrapping: str, damage: str, victim: int, start: int, length: int, seed: int
) -> None:
    records, _ = found(damaged(wrapping, victim, start, length, damage, seed))
    assert {*TEXTS[:victim], *TEXTS[victim + 1 :]} <= {*records}


def test_a_list_that_lost_its_end_takes_no_other_record() -> None:
    torn = TEXTS[2].replace('"arn:2"}], "eventID"', '"arn:2", "eventID"')
    assert torn != TEXTS[2]
    records, broken = found(WRAPPINGS["Records"]([*TEXTS[:2], torn, *TEXTS[3:]]))
    assert (records, broken) == ([*TEXTS[:2], *TEXTS[3:]], 1)


SIZE = 1 << 16
ENDLESS = {
    "objects in each other": b'{"a":',
    "objects beside each other": b'{"a":1,',
    "lists in each other": b"[",
    "documents in each other": b'{"Records":[',
    "closing brackets": b'{"a":1}' + b"}" * SIZE,
    "a text without end": b'{"a":"' + b"x" * SIZE,
    "zeros": b'{"a":1' + b"\0" * SIZE,
    "noise": b'{"a":' + random.Random(3).randbytes(SIZE),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", ENDLESS)
def test_damage_without_end_is_a_few_entries(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_split, "KEPT_BYTES", SIZE)  # of a megabyte the test takes half a minute
    data = ENDLESS[name] * (SIZE // len(ENDLESS[name]) or 1)
    tracemalloc.start()
    piece = json_split.split(data, ("Records",))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(piece.bad) <= 3 * json_split.SEPARATE_REGIONS
    assert piece.records or piece.bad, "something is said of it"
    assert sum(len(text) for _, _, text in piece.bad) <= 2 * json_split.KEPT_BYTES
    assert peak < 8 * len(data)
