"""Is every value of a record in its event? By value, after the normalisations that the mapping documents."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from functools import cache
from typing import Any
from urllib.parse import unquote

import pyarrow as pa

from ocsf_mappers import PROTOCOL_NUMBERS, Mapper, registry
from ocsf_mappers.readers import Chunk
from ocsf_mappers.testing.samples import Json, leaves, named_rows
from ocsf_mappers.vocabulary.expr import as_word
from ocsf_mappers.vocabulary.predicates import Compare, IsIn, Test
from ocsf_mappers.vocabulary.texts import Epoch, Extract, Iso8601, Replace, ReplacePrefix
from ocsf_mappers.vocabulary.values import Coalesce, Column, Sql
from ocsf_mappers.vocabulary.values import Json as Member
from ocsf_mappers.vocabulary.word import Word

_ISO = re.compile(r"^\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:?\d\d)?$")
_EPOCH = re.compile(r"^(\d{1,10}|\d{13}|\d{16}|\d{10}\.\d{1,6})$")
_UNITS = {13: 1_000, 16: 1_000_000}
"""Digits of a whole number -> how many of its unit a second has; of others it is seconds."""
_DECIMAL = re.compile(r"^-?\d+(\.\d+)?([eE][-+]?\d+)?$")


def records(chunk: Chunk) -> Iterator[tuple[int, Json]]:
    """Number and content of each record; a text log's line by column, what stood around a JSON record as `envelope`."""
    for row in named_rows(chunk):
        number = row.pop("_record")
        if "_raw" not in row:
            yield number, row
            continue
        record = _whole(row["_raw"])
        if row.get("_envelope") is not None:
            record = {"envelope": _loads(row["_envelope"]), **record}
        yield number, record


def lost(mapper: Mapper, record: Json, event: Json) -> list[tuple[str, str]]:
    """Path and value of what the record says and the event does not."""
    event_values, replacements = found_in(event), captions(mapper.name)
    missing = []
    for path, value in leaves(record):
        if value is None or value == {} or _blank(mapper, path, value) or dropped(mapper, path):
            continue
        if not spellings(value, replacements.get(path, {})) & event_values:
            missing.append((path, str(value)))
    return missing


def invented(record: Json, event: Json) -> list[tuple[str, str]]:
    """What `unmapped` says and the record does not."""
    values = [_text(value) for _, value in leaves(record) if value is not None]
    recorded = {*values, *(other for text in values for other in _other_spellings(text))}
    extra = []
    for name, text in event.get("unmapped", {}).items():
        inner = _json(text) if text[:1] in ("{", "[") else None
        texts = [_text(value) for _, value in leaves(inner) if value is not None] if inner is not None else [text]
        unrecorded = [item for item in texts if item not in recorded and not _other_spellings(item) & recorded]
        if text not in recorded and unrecorded:
            extra.append((name, text))
    return extra


def _blank(mapper: Mapper, path: str, value: Any) -> bool:
    """Whether a text says nothing, at a place that the mapper declares; elsewhere every text has to be kept."""
    return value in mapper.blank and tuple(path.replace("[]", "").split(".")) in mapper.shape.leaves


def dropped(mapper: Mapper, path: str) -> bool:
    """Whether the mapper leaves a member out on purpose; it says why."""
    plain = path.replace("[]", "")
    return any(plain == name or plain.startswith(f"{name}.") for name in mapper.drop)


@cache
def captions(source: str) -> Mapping[str, Mapping[str, set[str]]]:
    """Source path -> its text -> what the mapping may say instead, as its own tables of replacements have it."""
    captions_by_path: dict[str, dict[str, set[str]]] = {}
    for event in registry.load(source).events:
        for value in event.words.values():
            for word in value.every():
                if not isinstance(word, Replace):
                    continue
                for path in _chosen_from(word.inner):
                    for old, new in word.pairs:
                        captions_by_path.setdefault(path, {}).setdefault(old, set()).add(new)
    return captions_by_path


def _chosen_from(word: Word) -> Iterator[str]:
    """The source paths that a text may come from."""
    if isinstance(word, Coalesce):
        for inner in word.items:
            yield from _chosen_from(inner)
    elif path := _path(word):
        yield path


@cache
def steering(source: str) -> frozenset[str]:
    """Source paths whose values decide how a record is mapped, or only mean something as they are, such as times."""
    predicates = (Compare, IsIn, Test, Replace, ReplacePrefix, Epoch, Iso8601, Sql, Extract)
    mapper = registry.load(source)
    values = [value for event in mapper.events for value in (*event.words.values(), event.where) if value is not None]
    paths = set()
    for word in map(as_word, (*values, mapper.table_word)):
        for claim in word.every():
            if isinstance(claim, predicates):
                paths |= {path for inner in claim.every() if (path := _path(inner))}
    return frozenset(paths)


def _path(word: Word) -> str | None:
    match word:
        case Column(path):
            return ".".join(path)
        case Member(Column(path), keys):
            return ".".join((*path, *keys))
    return None


def _whole(text: str) -> Json:
    """A record; a text that was cut off counts as one value, which no event has."""
    record = _json(text)
    return record if isinstance(record, dict) else {"": text}


def _loads(text: str) -> Any:
    return json.loads(text, parse_float=str)


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _double(text: str) -> str | None:
    """A number with a fraction or an exponent, by its value: those pass through a double."""
    if not _DECIMAL.match(text):
        return None
    if not set(text) & set(".eE"):
        return f"={int(text)}"
    value = float(text)
    return f"={int(value)}" if value.is_integer() and abs(value) < 2**53 else f"={value!r}"


_LOG_TIME = re.compile(r"^\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d [+-]\d{4}$")


def _instant(text: str) -> str | None:
    if _LOG_TIME.match(text):
        return f"@{datetime.strptime(text, '%d/%b/%Y:%H:%M:%S %z').timestamp():.6f}"
    if _ISO.match(text):
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            return None
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        return f"@{moment.timestamp():.6f}"
    if _EPOCH.match(text):
        return f"@{float(text) / (_UNITS.get(len(text), 1) if text.isdigit() else 1):.6f}"
    return None


def _other_spellings(text: str) -> set[str]:
    return {other for other in (_instant(text), _double(text)) if other}


def spellings(value: Any, replacements: Mapping[str, set[str]]) -> set[str]:
    """Every way in which an event may spell a value; `replacements` has what captions replace texts by."""
    text = _text(value)
    variants = {text, *replacements.get(text, ())}
    if text.lower() in ("true", "false", *PROTOCOL_NUMBERS):
        variants.add(text.lower())
    if "%" in text:
        variants |= {unquote(text), unquote(unquote(text))}
    return variants | _other_spellings(text)


def found_in(event: Json) -> set[str]:
    """What an event says, JSON text taken apart, in every spelling."""
    values: set[str] = set()
    for _, value in leaves(event):
        text = _text(value)
        values |= {text, *_other_spellings(text)}
        if isinstance(value, str) and value[:1] in ("{", "[", '"') and (inner := _json(value)) is not None:
            for _, item in leaves(inner):
                values |= {_text(item), *_other_spellings(_text(item))}
    return values


def _json(text: str) -> Any:
    try:
        return _loads(text)
    except ValueError:
        return None


# -- the same records with a value of its own at each place, so that none can be taken for another ---------------------
_ADDRESS = re.compile(r"[0-9a-f.:]*[.:][0-9a-f.:]+")


def with_distinct_values(mapper: Mapper, chunk: Chunk) -> Chunk:
    """The chunk with a different value in each place that does not steer the mapping."""
    table, steering_paths = chunk.records, steering(mapper.name)
    if "_raw" in table.column_names:
        texts = enumerate(table["_raw"].to_pylist())
        raw = [
            text if _json(text) is None else json.dumps(_numbered(json.loads(text), number, steering_paths))
            for number, text in texts
        ]
        return Chunk(table.set_column(table.schema.get_field_index("_raw"), "_raw", pa.array(raw, pa.string())))
    if "_text" in table.column_names:
        table = table.drop_columns(["_text"])
    for position, name in enumerate(chunk.names):
        if name.replace("-", "_") in steering_paths:
            continue
        column = table.column_names.index(f"c{position}")
        values = [None if value is None else _cell(value, position) for value in table[column].to_pylist()]
        table = table.set_column(column, f"c{position}", pa.array(values, pa.string()))
    return Chunk(table, names=chunk.names)


def _cell(value: str, position: int) -> str:
    if _ADDRESS.fullmatch(value):
        return f"2001:db8::{position + 1:x}" if ":" in value else f"10.99.0.{position + 1}"
    return str(2000 + position) if value.isdigit() else f"{value}~{position}"


def _numbered(record: Any, start: int, steering_paths: frozenset[str]) -> Any:
    counter = iter(range(start * 10_000, (start + 1) * 10_000))

    def changed(value: Any, path: str) -> Any:
        if isinstance(value, dict):
            return {key: changed(item, f"{path}.{key}" if path else key) for key, item in value.items()}
        if isinstance(value, list):
            return [changed(item, f"{path}[]") for item in value]
        if path in steering_paths or value is None or isinstance(value, bool):
            return value
        if isinstance(value, str):
            return f"{value}~{next(counter)}"
        return 7_000_000 + next(counter)

    return changed(record, "")
