"""Structs in Thrift's compact encoding, as Parquet writes its footer and the headers of its pages.

https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md
"""

from __future__ import annotations

from typing import Any

from ocsf_mappers.errors import ReadError

DEPTH = 16
"""Structs and lists may lie in each other this deep."""


class IncompleteError(ReadError):
    """The bytes end inside a struct."""


def struct(data: bytes, at: int = 0) -> tuple[dict[int, Any], int]:
    """The fields of a struct by number, and where it ends; texts are bytes, floating point is None.

    Raises:
        ReadError: The bytes are no such struct.
    """
    try:
        return _struct(data, at, 0)
    except IndexError:
        raise IncompleteError("the Parquet file is damaged: its description is cut off") from None


def items(parent: object, field: int) -> list[Any]:
    """A struct's field that is a list."""
    value = parent.get(field) if isinstance(parent, dict) else None
    if not isinstance(value, list):
        raise ReadError("the Parquet file is damaged: its description lacks a list")
    return value


def number(parent: object, field: int) -> int:
    """A struct's field that is a whole number."""
    value = parent.get(field) if isinstance(parent, dict) else None
    if not isinstance(value, int):
        raise ReadError("the Parquet file is damaged: its description lacks a number")
    return value


def _struct(data: bytes, at: int, depth: int) -> tuple[dict[int, Any], int]:
    fields: dict[int, Any] = {}
    field = 0
    while True:
        head = data[at]
        at += 1
        if head == 0:
            return fields, at
        if head >> 4:
            field += head >> 4
        else:
            field, at = _integer(data, at)
        kind = head & 15
        if kind in (1, 2):
            fields[field] = kind == 1
        else:
            fields[field], at = _value(data, at, kind, depth)


def _value(data: bytes, at: int, kind: int, depth: int) -> tuple[Any, int]:
    match kind:
        case 1 | 2:
            return data[at] == 1, at + 1
        case 3:
            return data[at], at + 1
        case 4 | 5 | 6:
            return _integer(data, at)
        case 7:
            return None, _within(data, at + 8)
        case 8:
            length, at = _unsigned(data, at)
            return data[at : _within(data, at + length)], at + length
        case 9 | 10 if depth < DEPTH:
            return _list(data, at, depth + 1)
        case 12 if depth < DEPTH:
            return _struct(data, at, depth + 1)
    raise ReadError("the Parquet file is damaged: its description is unreadable")


def _list(data: bytes, at: int, depth: int) -> tuple[list[Any], int]:
    head = data[at]
    at += 1
    size = head >> 4
    if size == 15:
        size, at = _unsigned(data, at)
    if size > len(data) - at:
        raise IndexError
    values = []
    for _ in range(size):
        item, at = _value(data, at, head & 15, depth)
        values.append(item)
    return values, at


def _within(data: bytes, at: int) -> int:
    if at > len(data):
        raise IndexError
    return at


def _unsigned(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while shift < 70:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return value, at
    raise ReadError("the Parquet file is damaged: its description is unreadable")


def _integer(data: bytes, at: int) -> tuple[int, int]:
    unsigned, at = _unsigned(data, at)
    return (unsigned >> 1) ^ -(unsigned & 1), at
