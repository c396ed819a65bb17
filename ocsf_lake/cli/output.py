"""Data on stdout: tables, JSON, CSV. No text of a log reaches a terminal in a form that could steer it."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Sequence
from decimal import Decimal
from functools import cache
from itertools import islice
from typing import TYPE_CHECKING

from ocsf_lake.cli.terminal import say
from ocsf_lake.text import Amount, Lines, csv_lines, escaped, json_text, rows, text, unique

if TYPE_CHECKING:
    import pyarrow as pa

TABLE_ROWS = 1_000
"""A table shows so many rows; CSV and JSON have all of them."""

_PIPE_WIDTH = 100_000
_GAP = 3
_FOLDED = 24
"""A column as wide as this may be folded to fit the terminal; narrower ones would become unreadable."""


@cache
def _json_steering() -> tuple[re.Pattern[bytes], dict[int, str]]:
    """What finds characters that steer a terminal in JSON, which escapes those of ASCII itself, and their escapes."""
    from ocsf_mappers.shown import STEERING

    escapes = {code: f"\\u{code:04x}" for code in STEERING if code >= 0x7F}
    return re.compile(b"|".join(re.escape(chr(code).encode()) for code in escapes)), escapes


# -- JSON and CSV -----------------------------------------------------------------------------------------------------
def print_json(value: object) -> None:
    """A value as JSON; a list has one item a line."""
    if isinstance(value, list):
        items = ",\n ".join(map(_json, value))
        sys.stdout.write(f"[{items}]\n")
    else:
        sys.stdout.write(f"{_json(value, indent=2)}\n")


def print_json_array(items: Iterable[object]) -> None:
    """Items as a JSON array, one a line, as they come."""
    separator = "["
    for item in items:
        sys.stdout.write(f"{separator}{_json(item)}")
        separator = ",\n "
    sys.stdout.write("]\n" if separator != "[" else "[]\n")


def _json(value: object, indent: int | None = None) -> str:
    _, escapes = _json_steering()
    return json_text(value, indent).translate(escapes)


def print_json_lines(lines: Iterable[bytes]) -> None:
    """JSON texts, one a line; what could steer a terminal is escaped, which means the same in JSON."""
    sys.stdout.flush()
    for line in lines:
        sys.stdout.buffer.write(escaped_json(line))
        sys.stdout.buffer.write(b"\n")
    sys.stdout.buffer.flush()


def escaped_json(text: bytes) -> bytes:
    """JSON with escapes for what could steer a terminal, which means the same."""
    if text.isascii() and b"\x7f" not in text:  # JSON has escaped the others itself
        return text
    steering, escapes = _json_steering()
    return text.decode().translate(escapes).encode() if steering.search(text) else text


def print_csv(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Rows as CSV, a header first; null is empty.

    CSV is for people: a spreadsheet takes no cell for a formula, and what could steer a terminal is spelled out
    wherever it goes, as the next program may print it. JSON has every character as it is.
    """
    kept = "" if sys.stdout.isatty() else "\t\n"
    for piece in csv_lines(columns, rows, kept):
        sys.stdout.write(piece)


# -- tables -----------------------------------------------------------------------------------------------------------
def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Rows as a table: as wide as the terminal, or as wide as the rows where there is none. Numbers stand right."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    head = list(islice(rows, TABLE_ROWS))
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for number, name in enumerate(columns):
        right = any(_is_number(row[number]) for row in head)
        table.add_column(Text(escaped(name)), justify="right" if right else "left", overflow="fold")
    for row in head:
        table.add_row(*(Text(_cell(value)) for value in row))
    console = Console(file=sys.stdout, width=None if sys.stdout.isatty() else _PIPE_WIDTH, highlight=False)
    if not _fits(columns, head, console.width):
        _print_upright(columns, head)
        return
    with console.capture() as capture:
        console.print(table)
    sys.stdout.write("".join(f"{line.rstrip()}\n" for line in capture.get().splitlines()))


def _fits(columns: Sequence[str], rows: Sequence[Sequence[object]], width: int) -> bool:
    """Whether no column but long ones has to be folded."""
    needed = 0
    for number, name in enumerate(columns):
        longest = max((len(line) for row in rows for line in _cell(row[number]).split("\n")), default=0)
        needed += max(len(name), min(longest, _FOLDED)) + _GAP
    return needed - _GAP <= width


def _print_upright(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Rows below each other, a line for each column, for terminals that are too narrow for the table."""
    width = max(map(len, columns))
    indent = "\n" + " " * (width + 2)
    for row in rows:
        pairs = zip(columns, row, strict=True)
        lines = [f"{escaped(name):{width}}  {_cell(value).replace(chr(10), indent)}".rstrip() for name, value in pairs]
        sys.stdout.write("\n".join([*lines, "", ""]))


def _is_number(value: object) -> bool:
    return isinstance(value, Amount | int | float | Decimal) and not isinstance(value, bool)


def _cell(value: object) -> str:
    return "\n".join(map(escaped, value)) if isinstance(value, Lines) else escaped(text(value))


# -- rows of a query --------------------------------------------------------------------------------------------------
def print_rows(table: pa.Table, form: str) -> None:
    """The rows of an Arrow table as `table`, `json`, `jsonl` or `csv`."""
    names = list(table.column_names)
    if form == "csv":
        print_csv(names, rows(table))
    elif form == "table":
        print_head(names, rows(table))
        if table.num_rows > TABLE_ROWS:
            say(f"{TABLE_ROWS:,} of {table.num_rows:,} rows shown; --format csv or --format json gives all of them")
    else:
        values = [dict(zip(unique(names), row, strict=True)) for row in rows(table)]
        if form == "json":
            print_json(values)
        else:
            print_json_lines(_json(value).encode() for value in values)


def print_head(names: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """The first rows of an answer as a table; a plan as DuckDB draws it."""
    if list(names) == ["explain_key", "explain_value"]:
        for _, plan in rows:
            sys.stdout.write("".join(f"{escaped(line)}\n" for line in str(plan).split("\n")))
    else:
        print_table(names, rows)
