"""What real records show: their format, their members, and what the values of each look like."""

from __future__ import annotations

import ipaddress
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from io import BytesIO
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ocsf_mappers.errors import ConfigError, ReadError
from ocsf_mappers.readers import JsonRecords, Reader
from ocsf_mappers.readers.delimited import Delimited
from ocsf_mappers.readers.layouts import Layout, Pairs, Pattern, Values
from ocsf_mappers.readers.lines import FieldNames, Lines
from ocsf_mappers.readers.parquet import ParquetRows
from ocsf_mappers.readers.streams import Blocks

BYTES = 4 << 20
"""Of a sample, so much is looked at."""
RECORDS = 2_000
KEPT_RECORDS = 20
"""A source's own sample has so many of the records."""
DEPTH = 4
"""Members of objects are looked at so deep; what lies deeper stays JSON text."""
MEMBERS = 500
"""So many members of the records are looked at; others stay unmapped."""
KEYS = 100
"""An object whose members have more different names is a map, whose names are values: it stays JSON text."""
TEXT = 2_000
"""A longer text looks like nothing."""
EXAMPLES = 3
SEPARATORS = ("\t", ",", ";", "|", " ")
QUOTES: tuple[tuple[str, ...], ...] = ((), ('""',), ('""', "[]"))
"""What may stand around values that hold the separator, the least first."""
LEAST_VALUES, USUALLY = 3, 0.9
"""A line has so many values, and of all lines more than this share has as many."""

_NAME = re.compile(r"[A-Za-z_#][\w .()/-]*")

Path = tuple[str, ...]

_BEGUN = re.compile(r'\s*\{[^{}\[\]]*?"([^"\\]{1,100})"\s*:\s*\[\s*\{')
"""The beginning of a document with a list of records: the member that holds them."""

_METHODS = frozenset(["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "CONNECT", "TRACE"])
_ISO = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d([.,]\d+)?)?\s?(Z|[+-]\d\d:?\d\d)?")
_HOST = re.compile(r"(?=.*[a-zA-Z])([A-Za-z0-9_-]+\.)+[A-Za-z][A-Za-z0-9-]*\.?")
_LOOKS: Mapping[str, Callable[[str], object]] = {
    "address": lambda text: _is_address(text),
    "time in ISO 8601": _ISO.fullmatch,
    "time in seconds": lambda text: re.fullmatch(r"1\d{9}(\.\d+)?", text),
    "time in milliseconds": lambda text: re.fullmatch(r"1\d{12}", text),
    "time in microseconds": lambda text: re.fullmatch(r"1\d{15}", text),
    "ARN": lambda text: text.startswith("arn:"),
    "account": re.compile(r"\d{12}").fullmatch,
    "region": re.compile(r"[a-z]{2}(-[a-z]+){1,2}-\d").fullmatch,
    "UUID": re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}").fullmatch,
    "URL": re.compile(r"[a-z][a-z0-9+.-]*://\S+").fullmatch,
    "email": re.compile(r"[^@\s]+@[^@\s]+\.[^@\s]+").fullmatch,
    "host": _HOST.fullmatch,
    "path": re.compile(r"/\S*").fullmatch,
    "HTTP method": lambda text: text in _METHODS,
    "HTTP status": re.compile(r"[1-5]\d\d").fullmatch,
    "number": re.compile(r"-?\d+(\.\d+)?").fullmatch,
}
"""What all values of a member may look like -> whether one does."""


@dataclass
class Member:
    """One member of the records, a column of a text log among them.

    Args:
        path: Its name, with those of the objects around it.
        kinds: What stood there -> in how many records: `text`, `number`, `boolean`, `list`, `object`.
        examples: A few values.
        looks: What every value looked like, of `_LOOKS`.
        values: Distinct values, as long as they are few.
    """

    path: Path
    kinds: Counter[str] = field(default_factory=Counter)
    examples: list[str] = field(default_factory=list)
    looks: set[str] | None = None
    values: Counter[str] = field(default_factory=Counter)

    @property
    def name(self) -> str:
        """The path, dotted."""
        return ".".join(self.path)

    @property
    def count(self) -> int:
        """How many records have it."""
        return self.kinds.total()

    @property
    def is_json(self) -> bool:
        """Whether it stays JSON text: it holds lists, or objects among other things."""
        return bool(self.kinds["list"] or self.kinds["object"])

    def add(self, value: object) -> None:
        """One more value."""
        self.kinds[_kind(value)] += 1
        text = value if isinstance(value, str) else _dumped(value)
        if len(self.examples) < EXAMPLES and text not in self.examples:
            self.examples.append(text)
        if len(self.values) < 50:
            self.values[text] += 1
        if self.looks is None:
            self.looks = set(_LOOKS)
        self.looks = {name for name in self.looks if len(text) <= TEXT and _LOOKS[name](text)}


@dataclass
class Look:
    """What a sample shows.

    Args:
        reader: What reads it.
        code: The same in Python.
        records: How many records were looked at.
        members: What they have, in the order it was met.
        more: How many members besides were not looked at.
        header: The line of a text log that names its columns; None where there is none.
        sample: Some of the records, in the format that they came in.
        suffix: Of a file of that format.
    """

    reader: Reader
    code: str
    records: int
    members: Sequence[Member]
    sample: bytes
    suffix: str
    more: int = 0
    header: str | None = None


def look(data: bytes) -> Look:
    """Looks at a sample.

    Args:
        data: The file, compressed or not.

    Raises:
        ConfigError: It is in no known format.
        ReadError: It is damaged.
    """
    if data.startswith(b"PAR1"):
        return _parquet(data)
    text = _text(data)
    if text.lstrip()[:1] in (b"{", b"["):
        return _json(text)
    return _lines(text)


def _text(data: bytes) -> bytes:
    buffer = bytearray()
    for block in Blocks(BytesIO(data)):
        buffer += block
        if len(buffer) >= BYTES:
            break
    return bytes(buffer)


# -- formats ----------------------------------------------------------------------------------------------------------
def _json(text: bytes) -> Look:
    lists = _lists(text)
    reader = JsonRecords(lists=lists)  # CloudWatch's documents are opened all the same, a log's own `message` is not
    raws: list[str] = []
    for chunk in reader.read(Blocks(BytesIO(text))):
        raws += chunk.records["_raw"].to_pylist() if "_raw" in chunk.records.column_names else []
        if len(raws) >= RECORDS:
            break
    record_by_text = {raw: record for raw in raws[:RECORDS] if isinstance(record := _loads(raw), dict) and record}
    records = list(record_by_text.values())
    if not records:
        raise ConfigError("no record of the sample is a JSON object with members")
    texts = _by_interest(record_by_text)
    joined = ",\n".join(texts)
    sample = f'{{"{lists[0]}": [\n{joined}\n]}}\n' if lists else "\n".join(map(_one_line, texts)) + "\n"
    suffix = ".json" if lists else ".jsonl"
    members, more = _members(records)
    lists_code = f"({quoted(lists[0])},)" if lists else "()"
    return Look(reader, f"JsonRecords(lists={lists_code})", len(records), members, sample.encode(), suffix, more)


def _lists(text: bytes) -> tuple[str, ...]:
    """The member that holds the records, where one document has them all."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        # lines; or one document, of which this is the beginning
        begun = _BEGUN.match(text[:TEXT].decode("utf-8", errors="replace")) if len(text) >= BYTES else None
        return (begun[1],) if begun else ()
    if not isinstance(document, dict):
        return ()
    names = [name for name, value in document.items() if isinstance(value, list) and value and _are_objects(value)]
    return (names[0],) if len(names) == 1 and len(document) <= 3 else ()


def _are_objects(items: Sequence[object]) -> bool:
    return all(isinstance(item, dict) for item in items)


def quoted(text: str) -> str:
    """A text as Python has it, in double quotes where nothing has to be escaped."""
    return f'"{text}"' if repr(text) == f"'{text}'" and '"' not in text else repr(text)


def _loads(raw: str) -> Any:
    try:
        return json.loads(raw)
    except (ValueError, RecursionError):
        return None


def _dumped(value: object) -> str:
    try:
        return json.dumps(value)
    except RecursionError:
        return "..."


def _one_line(raw: str) -> str:
    return raw if "\n" not in raw else json.dumps(json.loads(raw), ensure_ascii=False)


def _lines(text: bytes) -> Look:
    """A text log: by `#Fields:`, its header line, as pairs of name and value, or by how many values a line has.

    Lines that have nothing of that in common are one column, for a regular expression to cut.
    """
    lines = [line for line in text.decode("utf-8", errors="replace").splitlines() if line.strip()][: RECORDS + 1]
    if directive := next((line for line in lines[:10] if line.startswith("#Fields:")), None):
        separator = "\t" if any("\t" in line for line in lines if not line.startswith("#")) else " "
        reader = Lines(fields=FieldNames(sep=separator), comment="#", label="W3C text")
        code = f'Lines(fields=FieldNames(sep={quoted(separator)}), comment="#", label="W3C text")'
        return _read(reader, code, lines, [_column(name) for name in directive.removeprefix("#Fields:").split()])
    for separator in SEPARATORS:
        if lines and _fits(Pairs(separator), lines) > USUALLY * len(lines):
            code = f'Lines((Pairs({quoted(separator)}),), label="pairs of name and value")'
            return _read(Lines((Pairs(separator),), label="pairs of name and value"), code, lines, ())
    for quotes in QUOTES:
        for separator in SEPARATORS:
            counts = [_count(line, separator, quotes) for line in lines]
            usual, often = Counter(counts).most_common(1)[0] if counts else (0, 0)
            if usual < LEAST_VALUES or often <= USUALLY * len(lines):
                continue
            header = [_column(name) for name in lines[0].split(separator)]
            if not quotes and counts[0] == usual and all(map(_NAME.fullmatch, lines[0].split(separator))):
                return _headed(lines, header, separator)
            names = " ".join(f"field_{number + 1}" for number in range(usual))
            titles = [name.strip('"') for name in lines[0].split(separator)]
            naming: str | None = None
            if counts[0] == len(set(map(_column, titles))) == usual and all(map(_NAME.fullmatch, titles)):
                names, naming = " ".join(map(_column, titles)), lines[0]
            values = Values(names, separator, quotes)
            quotes_code = f", quotes={quotes!r}" if quotes else ""
            skipped = f", comment={quoted(naming)}" if naming is not None else ""
            code = f"Lines((Values(COLUMNS, {quoted(separator)}{quotes_code}),){skipped})"
            result = _read(Lines((values,), comment=naming), code, lines, names.split())
            return replace(result, header=naming)
    if not lines or any("\0" in line for line in lines):
        raise ConfigError("the sample is neither JSON nor Parquet nor text")
    # Whatever its lines are, a regular expression reads them; its author names the groups.
    code = 'Lines((Pattern(r"(?P<line>.*)"),))'
    return _read(Lines((Pattern("(?P<line>.*)"),)), code, lines, ["line"])


def _count(line: str, separator: str, quotes: tuple[str, ...]) -> int:
    return Values("x", separator, quotes).count(line)


def _fits(layout: Layout, lines: Sequence[str]) -> int:
    """How many lines are laid out so."""
    return int(layout.read(pa.array(lines, pa.string()), "-")[0].sum())


def _read(reader: Lines, code: str, lines: Sequence[str], names: Sequence[str]) -> Look:
    """What a reader makes of the lines."""
    text = "\n".join(lines).encode()
    records: list[dict[str, Any]] = []
    column_names: dict[str, None] = dict.fromkeys(names)
    for chunk in reader.read(Blocks(BytesIO(text))):
        columns = [_column(name) for name in chunk.names]
        column_names.update(dict.fromkeys(columns))
        for row in chunk.records.select([f"c{number}" for number in range(len(columns))]).to_pylist():
            values = zip(columns, row.values(), strict=True)
            records.append({name: value for name, value in values if value is not None and value != ""})
    if not records:
        raise ConfigError("no line of the sample is a record")
    sample = "\n".join(lines[: KEPT_RECORDS + sum(line.startswith("#") for line in lines[:10])])
    members, more = _members(records, list(column_names))
    return Look(reader, code, len(records), members, f"{sample}\n".encode(), ".log", more)


def _headed(lines: Sequence[str], names: Sequence[str], separator: str) -> Look:
    rows = [line.split(separator) for line in lines[1:]]
    body = [row for row in rows if len(row) == len(names)]
    records = [{name: value for name, value in zip(names, row, strict=True) if value not in ("-", "")} for row in body]
    if not records:
        raise ConfigError("the sample has a header line and no records")
    reader = Delimited(columns=tuple(names), default=tuple(names), sep=separator)
    code = f"Delimited(columns=tuple(COLUMNS.split()), default=tuple(COLUMNS.split()), sep={quoted(separator)})"
    members, more = _members(records, names)
    sample = ("\n".join(lines[: KEPT_RECORDS + 1]) + "\n").encode()
    return Look(reader, code, len(records), members, sample, ".log", more, lines[0])


def _column(name: str) -> str:
    return re.sub(r"\W+", "_", name.strip().lower().replace("-", "_")).strip("_") or "field"


def _parquet(data: bytes) -> Look:
    try:
        with pq.ParquetFile(BytesIO(data)) as file:
            first = next(file.iter_batches(RECORDS), None)
            table = file.schema_arrow.empty_table() if first is None else pa.Table.from_batches([first])
    except (pa.ArrowException, OSError) as error:
        raise ReadError(f"the sample is not a whole Parquet file: {error}") from error
    records = [{name: value for name, value in row.items() if value is not None} for row in _plain_rows(table)]
    if not records:
        raise ConfigError("the sample has no rows")
    sink = BytesIO()
    pq.write_table(table.slice(0, KEPT_RECORDS), sink)
    members, more = _members(records, [_column(name) for name in table.column_names])
    return Look(ParquetRows(), "ParquetRows()", len(records), members, sink.getvalue(), ".parquet", more)


def _plain_rows(table: pa.Table) -> Iterator[dict[str, Any]]:
    for row in table.to_pylist():
        yield {
            _column(name): value if isinstance(value, str | int | float | bool | None) else str(value)
            for name, value in row.items()
        }


# -- members ----------------------------------------------------------------------------------------------------------
def _members(records: Sequence[Mapping[str, Any]], names: Sequence[str] = ()) -> tuple[list[Member], int]:
    """The members, and how many there are besides."""
    members: dict[Path, Member] = {(name,): Member((name,)) for name in names[:MEMBERS]}
    omitted: set[Path] = set()
    objects: Counter[Path] = Counter()
    keys: dict[Path, set[str]] = {}

    def is_map(value: Mapping[str, Any], path: Path) -> bool:
        seen = keys.setdefault(path, set())
        if len(seen) <= KEYS:
            seen.update(value)
        return len(seen) > KEYS or not any(map(_is_plain, value))

    def enter(value: Any, path: Path) -> None:
        if value is None:
            return
        if isinstance(value, dict) and value and len(path) < DEPTH and not (path and is_map(value, path)):
            if path:
                objects[path] += 1
            for name, item in value.items():
                enter(item, (*path, str(name)))
            return
        if path in members or len(members) < MEMBERS:
            members.setdefault(path, Member(path)).add(value)
        else:
            omitted.add(path)

    for record in records:
        enter(record, ())
    members = _declarable(members)
    objects = Counter({path: n for path, n in objects.items() if all(map(_is_plain, path))})
    # What is an object in one record and something else in another stays whole.
    mixed = [path for path in objects if path in members]
    for path in sorted(mixed, key=len):
        if path not in members:
            continue  # inside one that stays whole
        members[path].kinds["object"] += objects[path]
        for below in [other for other in members if len(other) > len(path) and other[: len(path)] == path]:
            del members[below]
    return list(members.values()), len(omitted)


def _declarable(members: Mapping[Path, Member]) -> dict[Path, Member]:
    """Members that a record type can declare; others, and the second of two that differ by capitals, stay unmapped."""
    declarable: dict[Path, Member] = {}
    spellings: dict[Path, Path] = {}
    for path, member in members.items():
        heads = [path[: number + 1] for number in range(len(path))]
        if all(map(_is_plain, path)) and all(spellings.setdefault(_lower(head), head) == head for head in heads):
            declarable[path] = member
    return declarable


def _lower(path: Path) -> Path:
    return tuple(name.lower() for name in path)


def _is_plain(name: str) -> bool:
    return re.fullmatch(r"[A-Za-z0-9_@:/ -]{1,100}", name, re.ASCII) is not None


def _kind(value: object) -> str:
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int | float):
        return "number"
    if isinstance(value, list):
        return "list"
    return "object" if isinstance(value, dict) else "text"


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _by_interest(record_by_text: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The texts of the records that show most: each has a member that none before it had, then the first others."""
    names: set[str] = set()
    first: list[str] = []
    others: list[str] = []
    for raw, record in record_by_text.items():
        new = set(_names(record)) - names
        names |= new
        (first if new else others).append(raw)
    return [*first, *others][:KEPT_RECORDS]


def _names(value: Any, path: str = "") -> Iterator[str]:
    if isinstance(value, dict):
        for name, item in value.items():
            yield from _names(item, f"{path}.{name}")
    else:
        yield path
