"""Amounts, values and rows as text that people read; nothing in it steers a terminal.

Imports nothing heavy: help and `import ocsf_lake` are answered at once.
"""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, time
from decimal import Decimal
from itertools import chain
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa


def escaped(text: str, kept: str = "") -> str:
    """The text with control characters spelled out, see `ocsf_mappers.shown`, which help does without."""
    from ocsf_mappers import shown

    return shown.escaped(text, kept)


# -- amounts ----------------------------------------------------------------------------------------------------------
_UNITS = ("kB", "MB", "GB", "TB", "PB")


class Amount(str):
    """A number made readable, such as `1,049` or `2.4 MB`; tables put it to the right."""

    __slots__ = ()


def count(number: int) -> Amount:
    """`1,049`."""
    return Amount(f"{number:,}")


def size(number: int) -> Amount:
    """`2.4 MB`."""
    if number < 1_000:
        return Amount(f"{number} B")
    step = min((len(str(number)) - 1) // 3, len(_UNITS))
    value = number / 1_000**step
    return Amount(f"{value:.1f} {_UNITS[step - 1]}" if value < 9.95 else f"{value:.0f} {_UNITS[step - 1]}")


def duration(seconds: float) -> Amount:
    """Seconds with one decimal."""
    return Amount(f"{seconds:,.1f}")


def plural(number: int, word: str, words: str | None = None) -> str:
    """`1 object`, `2 objects`."""
    return f"{number:,} {word if number == 1 else words or word + 's'}"


# -- values -----------------------------------------------------------------------------------------------------------
def plain(value: object) -> object:
    """A value in JSON's types: times as ISO 8601, numbers that JSON does not have as null."""
    match value:
        case None | str() | bool() | int():
            return value
        case float():
            return value if math.isfinite(value) else None
        case Decimal():
            return int(value) if value == value.to_integral_value() else float(value)
        case datetime():
            return iso8601(value)
        case date() | time():
            return value.isoformat()
        case bytes():
            return value.hex()
        case Mapping():
            return {str(key): plain(item) for key, item in value.items()}
        case list() | tuple() if not hasattr(value, "_fields"):
            return [plain(item) for item in value]
        case _:
            return str(value)


def text(value: object) -> str:
    """A value as text: null is empty, lists and structs are JSON."""
    match value:
        case None:
            return ""
        case bool():
            return str(value).lower()
        case str() | int() | float() | Decimal():
            return str(value)
        case _:
            plain_value = plain(value)
            return plain_value if isinstance(plain_value, str) else json.dumps(plain_value, ensure_ascii=False)


def iso8601(moment: datetime) -> str:
    """A time as ISO 8601, UTC as `Z`; without a zone it stays without."""
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z") if moment.tzinfo else moment.isoformat()


def json_text(value: object, indent: int | None = None) -> str:
    """A value as JSON; see `plain`."""
    return json.dumps(plain(value), ensure_ascii=False, allow_nan=False, indent=indent)


def unique(names: Sequence[str]) -> list[str]:
    """Names with a number behind them from their second time on, because JSON keeps one value of a name."""
    counts: dict[str, int] = {}
    unique = []
    for name in names:
        counts[name] = counts.get(name, 0) + 1
        unique.append(name if counts[name] == 1 else f"{name}_{counts[name]}")
    return unique


class Lines(tuple[str, ...]):
    """Lines of one cell."""

    __slots__ = ()


def rows(table: pa.Table | pa.RecordBatch) -> Iterator[tuple[Any, ...]]:
    """The rows of an Arrow table or batch as Python values, maps as dictionaries."""
    for batch in table.to_batches(max_chunksize=1_000) if hasattr(table, "to_batches") else [table]:
        yield from zip(*(_values(column) for column in batch.columns), strict=True)


def _values(column: pa.Array) -> list[Any]:
    try:
        return list(column.to_pylist(maps_as_pydicts="strict"))
    except KeyError:  # a map that has a key twice
        return list(column.to_pylist())


# -- CSV --------------------------------------------------------------------------------------------------------------
FORMULAS = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""Beginnings of formulas, https://owasp.org/www-community/attacks/CSV_Injection; the last four are their wide forms."""
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?", re.ASCII)


def csv_lines(columns: Sequence[str], rows: Iterable[Sequence[object]], kept: str = "\t\n") -> Iterator[str]:
    """Rows as lines of CSV, a header first; null is empty.

    Args:
        columns: Names of the columns.
        rows: Values.
        kept: Control characters that are not spelled out.
    """
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    for row in chain([columns], rows):
        writer.writerow(escaped(_no_formula(value), kept) for value in row)
        yield buffer.getvalue()
        buffer.seek(0)
        buffer.truncate()


def _no_formula(value: object) -> str:
    """A value as text that a spreadsheet shows as it is: an apostrophe before what it would take for a formula."""
    as_text = text(value)
    if isinstance(value, str) and as_text.startswith(FORMULAS) and as_text != "-" and not _NUMBER.fullmatch(as_text):
        return f"'{as_text}"
    return as_text
