"""The members of a JSON object, without losing one of two that have the same name."""

from __future__ import annotations

import re

import msgspec
import pyarrow as pa

_RAW_MEMBERS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_NAMES = re.compile(rb'\s*+\{(?:\s*+("[^"\\]*+(?:\\.[^"\\]*+)*+")\s*+:\s*+,?+)*+\s*+', re.DOTALL)


class RepeatedError(Exception):
    """An object has two members of the same name."""


def raw_members(text: str | bytes) -> dict[str, msgspec.Raw]:
    """The members of an object, each value as the text it has there.

    Raises:
        RepeatedError: Two members have the same name; it says which.
        msgspec.DecodeError: The text is not valid JSON, or no object.
    """
    body = text.encode() if isinstance(text, str) else text
    members = _RAW_MEMBERS.decode(body)
    # A parser keeps the last of two values. The text without the values it kept then still has the other one in it.
    start, position, parts = pa.py_buffer(body).address, 0, []
    for begin, length in sorted((raw.address - start, raw.size) for raw in map(pa.py_buffer, members.values())):
        parts.append(body[position:begin])
        position = begin + length
    names = b"".join([*parts, body[position:]])
    read = _NAMES.match(names)
    if read is not None and read[1] is not None and names[read.end() : read.end() + 1] != b"}":
        raise RepeatedError(f"repeated JSON key {read[1].decode()}")
    return members


def value(raw: msgspec.Raw) -> object:
    """A string as it is meant and null as None; every other value as its own text, which keeps all digits and names."""
    first = bytes(memoryview(raw)[:1])
    return msgspec.json.decode(raw) if first in (b'"', b"n") else raw
