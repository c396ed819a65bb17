r"""Halves of surrogate pairs, which JSON can spell and no text can hold.

`\ud83d` alone is allowed by JSON's grammar and is no character: parsers refuse the whole record, so that whoever may
choose a user agent could hide a call. The record is read with U+FFFD in its place, and its own text is kept beside.
https://www.rfc-editor.org/rfc/rfc8259#section-8.2
"""

from __future__ import annotations

import re

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

KEPT_AS = "raw_data"
"""Member that a record gets with its own text, unless it has one of that name: then with `_` behind it."""

_MAY_BE = r"\\u[dD][89a-fA-F]"
_ESCAPES = re.compile(r"\\u[dD][89abAB]\w\w\\u[dD][c-fC-F]\w\w|\\u[dD][89a-fA-F]\w\w|\\.", re.ASCII | re.DOTALL)
_HALF = len(r"\ud83d")
_RARE = 16
"""Backslashes are rare where at most one byte in this many is one."""


def may_be_in(text: bytes) -> bool:
    r"""Whether some JSON has `\ud` or `\uD`; where backslashes are rare, much cheaper than a search for these."""
    if b"\\" not in text:
        return False
    characters = np.frombuffer(text, np.uint8)
    escapes = characters[:-2] == ord("\\")
    if _RARE * np.count_nonzero(escapes) > len(text):
        return b"\\ud" in text or b"\\uD" in text
    places = np.flatnonzero(escapes)
    places = places[characters[places + 1] == ord("u")]
    return bool(np.isin(characters[places + 2], [ord("d"), ord("D")]).any())


def whole(texts: pa.Array) -> pa.Array:
    """JSON texts without halves of pairs; most have none and come back as they are.

    Args:
        texts: JSON, one document each.
    """
    if not pc.any(suspects := pc.match_substring_regex(texts, _MAY_BE)).as_py():
        return texts
    pairs = zip(texts.to_pylist(), suspects.to_pylist(), strict=True)
    return pa.array([_whole(text) if doubtful else text for text, doubtful in pairs], pa.string())


def without_halves(text: str) -> str:
    """JSON with U+FFFD in the place of each half of a pair, as long as before."""
    return _ESCAPES.sub(lambda match: r"\ufffd" if _is_half(match[0]) else match[0], text)


def _is_half(escape: str) -> bool:
    return len(escape) == _HALF and escape[2] in "dD"


def _whole(text: str) -> str:
    mended = without_halves(text)
    if mended == text or not mended.rstrip().endswith("}"):
        return text
    name = KEPT_AS
    while f'"{name}"' in text:
        name += "_"
    return f'{mended.rstrip()[:-1]}, "{name}": {msgspec.json.encode(text).decode()}}}'
