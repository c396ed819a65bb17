"""Records as nobody should write them, made from a seed; and what two readers of members must both say of them."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from ocsf_mappers.readers.column import Column
from ocsf_mappers.readers.json_members import PureMembers

_OFTEN = {"eventName": 1.0, "b": 0.97}
NAMES = ("a", "b", "eventName", "", "ü€", "a.b", "😀", "n" * 70, "m" * 70, "ab", "requestParameters")

Read = Callable[[pa.ChunkedArray], tuple[list[Column], np.ndarray[Any, Any]] | None]

_STRINGS = (
    "", "x", "GetObject", "0123456789abcde", "0123456789abcdef", "y" * 31, "z" * 300, "ü", "\u20ac", "\U0001f600",
    "\x7f", "\u2028", "{", "'", "a,b:c]}",
)  # fmt: skip
_IN_STRINGS = (
    r"\n", r"\"", r"\\", r"\/", r"\u0041", r"\u00fc", r"\ud83d\ude00", r"\u0000", r"\uFFFF", r"\b\f\r\t",
    r"\ud800", r"\udc00", r"\udc00\udc00", r"\ud83d\ud83d", r"\ud83d\u0041", r"\x", r"\u12", r"\u12g4", "\\",
    "\0", "\x1f", "\n", "\t",
)  # fmt: skip
_NUMBERS = (
    "0", "-0", "1", "-12", "3.25", "1e5", "1E+999", "1e-999", "9" * 40, "0.1e1",
    "01", "1.", ".5", "-", "+1", "1e", "1e+", "0x1", "NaN", "Infinity", "--1",
)  # fmt: skip
_WORDS = ("true", "false", "null", "tru", "nul", "True", "nulll", "falsey")
_PIECES = ("{", "}", "[", "]", '"', ",", ":", "\\", " ", "\n", "u", "0", "e", "-", ".", "null", "\0", "\ufeff", "é")


class Texts:
    """Makes records.

    Args:
        seed: Which ones.
        broken: How often something is made no JSON, from 0 to 1, at each of the dozens of places in a record.
    """

    def __init__(self, seed: int, broken: float = 0.005) -> None:
        self._random = random.Random(seed)
        self._broken = broken

    def batches(self, size: int = 200) -> Iterator[list[str]]:
        """Batches of records, without end."""
        while True:
            pool = [self.record() for _ in range(size // 4)]
            found = [self._random.choice(pool) if self._random.random() < 0.4 else self.record() for _ in range(size)]
            if self._random.random() < 0.1:  # whole only together
                found[3:5] = ['{"a":[1', '2],"b":3}']
            if self._random.random() < 0.1:
                found[7] = '{"a":1},{"b":2}'
            if self._random.random() < 0.02:
                depth = self._random.choice((255, 256, 257, 600, 100_000))
                found[9] = '{"a":' + "[" * depth + "]" * depth + "}"
            yield found

    def record(self) -> str:
        """One record."""
        if self._is_broken():
            return self._random.choice(("", "[]", "1", '"a"', "null", "{}{}", "{} {}", "{},{}", "{", "}", "\ufeff{}"))
        text = self._object([*NAMES, "other"] if self._random.random() < 0.3 else NAMES, 2)
        return self._damaged(text) if self._is_broken() else text

    def _is_broken(self) -> bool:
        return self._random.random() < self._broken

    def _either(self, texts: Sequence[str], valid: int) -> str:
        """One of the first, which are valid, or of the others."""
        return self._random.choice(texts[valid:] if self._is_broken() else texts[:valid])

    def _blank(self) -> str:
        return self._random.choice((" ", "\n", "\t \r\n", "  ")) if self._random.random() < 0.1 else ""

    def _object(self, names: Sequence[str], depth: int) -> str:
        chosen = [name for name in names if self._random.random() < _OFTEN.get(name, 0.6)]
        if chosen and self._random.random() < 0.05:
            chosen.append(self._random.choice(chosen))
        members = [
            f"{self._blank()}{self._name(name)}{self._blank()}:{self._blank()}"
            f"{self._value(depth) if name != 'b' else self._unlike()}{self._blank()}"
            for name in chosen
        ]
        return f"{self._blank()}{{{','.join(members) or self._blank()}}}{self._blank()}"

    def _name(self, name: str) -> str:
        if self._random.random() < 0.95:
            return json.dumps(name, ensure_ascii=False)
        return '"' + "".join(self._character(one) for one in name) + '"'

    def _character(self, one: str) -> str:
        if self._random.random() < 0.3:
            return json.dumps(one, ensure_ascii=False)[1:-1]
        units = one.encode("utf-16-be").hex()
        return "".join(f"\\u{units[place : place + 4]}" for place in range(0, len(units), 4))

    def _value(self, depth: int) -> str:
        kind = self._random.random()
        if kind < 0.5:
            return self._string()
        if kind < 0.65:
            return self._either(_NUMBERS, 10)
        if kind < 0.8 or not depth:
            return self._either(_WORDS, 3)
        if kind < 0.9:
            return self._object(("x", "y", "a"), depth - 1)
        return f"[{','.join(self._value(depth - 1) for _ in range(self._random.randrange(4))) or self._blank()}]"

    def _unlike(self) -> str:
        return f'"{self._random.getrandbits(128):x}"'

    def _string(self) -> str:
        if self._random.random() < 0.2:
            return f'"{self._random.getrandbits(self._random.choice((8, 40))):x}"'
        found = self._random.choice(_STRINGS)
        if self._random.random() < 0.4:
            place = self._random.randrange(len(found) + 1)
            piece = self._either(_IN_STRINGS, 10)
            found = found[:place] + piece + found[place:]
        return f'"{found}"'

    def _damaged(self, text: str) -> str:
        for _ in range(self._random.randrange(1, 4)):
            place = self._random.randrange(len(text) + 1)
            until = min(len(text), place + self._random.choice((0, 0, 1, 1, 5, 50)))
            piece = self._random.choice((*_PIECES, "", text[place : place + 20]))
            text = text[:place] + piece + text[until:]
        return text


def chunked(records: Sequence[str]) -> pa.ChunkedArray:
    """Records in three chunks, one of which begins within its buffers."""
    first, second = len(records) // 3, len(records) // 2
    whole = pa.array(["before", *records[first:second], "after"], pa.string())
    chunks = [pa.array(records[:first], pa.string()), whole.slice(1, second - first), pa.array(records[second:])]
    return pa.chunked_array([chunk.cast(pa.string()) for chunk in chunks], pa.string())


def alone(records: Sequence[str]) -> pa.ChunkedArray:
    """Records each of which ends where its memory ends, so that a sanitizer sees whoever reads on."""
    texts = [np.frombuffer(record.encode(), np.uint8).copy() for record in records]
    ends = [pa.py_buffer(np.array([0, len(text)], np.int32)) for text in texts]
    chunks = [pa.StringArray.from_buffers(1, end, pa.py_buffer(text)) for end, text in zip(ends, texts, strict=True)]
    return pa.chunked_array(chunks, pa.string())


def cells(column: Column, rows: int) -> pa.Array:
    """A value a record."""
    codes = column.codes if column.codes is not None else np.zeros(rows, np.int32)
    return column.values.take(pa.array(codes))


def compare(read: Read, pure: PureMembers, records: pa.ChunkedArray) -> bool:
    """Whether a reader took records; it says of them what the one in Python does, or this fails."""
    found = read(records)
    expected, odd = pure.read(records)
    if found is None:
        return False
    different = np.flatnonzero(found[1] != odd)
    assert not len(different), [(records[row].as_py(), bool(odd[row])) for row in different.tolist()]
    for name, column, wanted in zip(pure.names, found[0], expected, strict=True):
        column.values.validate(full=True)
        one, other = cells(column, len(records)), cells(wanted, len(records))
        if not one.equals(other):
            rows = [row for row in range(len(records)) if one[row].as_py() != other[row].as_py()]
            raise AssertionError([(name, records[row].as_py(), one[row], other[row]) for row in rows])
    return True


def depth(text: str) -> int:
    """Not less than the objects and lists that stand in each other."""
    return text.count("[") + text.count("{")
