"""Flow logs changed at random, names as well as values, in all formats: nothing is lost, nothing stops.

`python -m tests.mutations 200000` maps that many records and prints what became of them; a second number is the seed.
"""

from __future__ import annotations

import io
import json
import random
import re
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ocsf_mappers import Engine, RawObject
from ocsf_mappers.readers import Chunk
from ocsf_mappers.testing import lossless
from tests import support
from tests.support import SAMPLE_LOGS, as_events, read_bytes

NAMES = [
    *("", " ", "_", "v6", "v9", "u0", "u2", "b0", "x1", "k", "r", "c0", "c_srcaddr", "_record", "_object", "_raw"),
    *("_text", "_envelope", "_more", "_failed", "_problems", "_undeclared", "_event_map", "_table", "_key_region"),
    *("_key_account", "select", "from", '"', "'", "''", "; DROP TABLE batch --", "\\", "%s", "{x}", "$.a", "a.b", "a"),
    *("é", "😀", "\x7f"),
    *("__index_level_0__", "srcaddr_2", "column_15", "message", "logEvents", "Records", "message.x", "x" * 300),
]
VALUES = [
    *("", "-", "--", "None", "null", "NaN", "0", "-1", "65536", "007", "1e5", "8080.0", "9" * 30, "true", "é😀", '"'),
    *("\\", "a,b", "'; DROP TABLE batch --", "../../etc", "\x7f", "x" * 2_000, "unknown", "ACCEPT", "NODATA"),
    *("version", "end"),
]
NUMBERS = [0, 1, 443, -7, 8080.0, 0.5, 1e300, 2**53, 2**70, 1.77e9]
KINDS = (pa.string(), pa.large_string(), pa.binary(), pa.dictionary(pa.int32(), pa.string()))

Cells = Sequence[tuple[str, Any]]


@dataclass(frozen=True)
class Object:
    """One object of a batch.

    Args:
        data: Its bytes.
        records: What each record says, by number; of records that are not here only their number counts.
        broken: Whether bytes were changed, so that nothing is known of what it says.
    """

    data: bytes
    records: dict[int, Cells] = field(default_factory=dict)
    broken: bool = False


class Mutator:
    """Makes objects; the same seed makes the same."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.flows = [list(flow.items()) for flow in _flows()]

    def object(self) -> Object:
        """An object of some records."""
        form = self.chance.choice([self._text, self._json, self._json, self._parquet])
        columns, rows = self._columns()
        found = form(columns, rows)
        return self._damaged(found) if self.chance.random() < 0.05 else found

    def _columns(self) -> tuple[list[str], list[list[Any]]]:
        """Names of columns, and the values of some records."""
        chance = self.chance
        flows = [chance.choice(self.flows) for _ in range(chance.randrange(1, 12))]
        base = [name for name, _ in flows[0]]
        values = [[dict(flow).get(name) for name in base] for flow in flows]
        names = [self._name(name) if chance.random() < 0.05 else name for name in base]
        for _ in range(chance.choice([0, 0, 1, 1, 2, 5])):
            place = chance.randrange(len(names) + 1)
            names.insert(place, self._name(chance.choice(names)))
            for row in values:
                row.insert(place, chance.choice([chance.choice(row), self._value(), None]))
        for row in values:
            for place in range(len(row)):
                if chance.random() < 0.03:
                    row[place] = self._value()
        return names, values

    def _name(self, name: str) -> str:
        match self.chance.randrange(6):
            case 0:
                return name
            case 1:
                return name.upper() if self.chance.random() < 0.5 else name.title()
            case 2:
                return name.replace("_", "-")
            case 3:
                return "".join(chr(self.chance.choice([*range(33, 127), 233, 0x4E2D, 0x1F600])) for _ in range(4))
            case _:
                return self.chance.choice(NAMES)

    def _value(self) -> Any:
        return self.chance.choice(VALUES) if self.chance.random() < 0.7 else self.chance.choice(NUMBERS)

    def _text(self, names: list[str], rows: list[list[Any]]) -> Object:
        names = [name.replace(" ", "_").replace("_", "-") for name in names]
        names[0] = names[0].lstrip("[{") or "x"  # so begins JSON
        cells = [[None if cell is None else str(cell).replace(" ", "_") for cell in row] for row in rows]
        lines = [" ".join(names), *(" ".join("-" if cell is None else cell for cell in row) for row in cells)]
        if self.chance.random() < 0.2:
            lines.insert(self.chance.randrange(1, len(lines) + 1), self.chance.choice(["", "x y z", "é", " "]))
            return Object("\n".join(lines).encode() + b"\n")
        records = {number: list(zip(names, row, strict=True)) for number, row in enumerate(cells, start=2)}
        return Object("\n".join(lines).encode() + b"\n", records)

    def _json(self, names: list[str], rows: list[list[Any]]) -> Object:
        texts, records = [], {}
        for number, row in enumerate(rows, start=1):
            cells = [(name, cell) for name, cell in zip(names, row, strict=True) if self.chance.random() < 0.97]
            if self.chance.random() < 0.05:
                # Not `logEvents`: a document with an empty list of that name holds no records.
                name = self._name("x").replace("logEvents", "y")
                cells.append((name, self.chance.choice([{"a": [1, {"b": None}]}, [], {}, [[]], False])))
            if self.chance.random() < 0.02:
                cells = []
            pairs = (f"{json.dumps(name)}: {json.dumps(cell)}" for name, cell in cells)
            texts.append("{" + ", ".join(pairs) + "}")
            if not any(name in ("message", "messageType") for name, _ in cells):
                records[number] = cells
        if self.chance.random() < 0.1:
            texts.insert(0, self.chance.choice(["{}", "[]", "7", '{"a":', "oops", '{"a": NaN}']))
            return Object("\n".join(texts).encode() + b"\n")
        return Object("\n".join(texts).encode() + b"\n", records)

    def _parquet(self, names: list[str], rows: list[list[Any]]) -> Object:
        columns = []
        for place in range(len(names)):
            cells = [row[place] for row in rows]
            if self.chance.random() < 0.3 and all(cell is None or str(cell).isdigit() for cell in cells):
                small = [None if cell is None or int(cell) >= 2**53 else int(cell) for cell in cells]
                columns.append(pa.array(small, self.chance.choice([pa.int64(), pa.float64()])))
                for row, cell in zip(rows, small, strict=True):
                    row[place] = cell
                continue
            texts = [None if cell is None else str(cell) for cell in cells]
            kind = self.chance.choice(KINDS)
            plain = pa.array(texts, pa.string())
            columns.append(plain.dictionary_encode() if pa.types.is_dictionary(kind) else plain.cast(kind))
        buffer = io.BytesIO()
        way: dict[str, Any] = {"compression": self.chance.choice(["none", "zstd", "snappy"])}
        if self.chance.random() < 0.3:
            way["data_page_version"] = "2.0"
        pq.write_table(pa.Table.from_arrays(columns, names=names), buffer, **way)
        records = {number: list(zip(names, row, strict=True)) for number, row in enumerate(rows, start=1)}
        return Object(buffer.getvalue(), records)

    def _damaged(self, whole: Object) -> Object:
        data = bytearray(whole.data)
        for _ in range(self.chance.randrange(1, 4)):
            place = self.chance.randrange(len(data))
            match self.chance.randrange(3):
                case 0:
                    data[place] = self.chance.randrange(256)
                case 1:
                    del data[place : place + self.chance.randrange(1, 20)]
                case _:
                    data[place:place] = self.chance.randbytes(self.chance.randrange(1, 5))
            data = data or bytearray(b" ")
        return Object(bytes(data), broken=True)


def _flows() -> Iterator[dict[str, str | None]]:
    """The flows of our own samples, by field."""
    for path in sorted((SAMPLE_LOGS / "aws_vpc_flow").glob("*.log")):
        lines = [line.split(" ") for line in path.read_text().splitlines()]
        for line in lines[1:]:
            plain = lines[0][0] == "version" != line[0] and len(set(lines[0]) - {""}) == len(lines[0])
            if plain and len(line) == len(lines[0]):
                named = zip(lines[0], line, strict=True)
                yield {name.replace("-", "_"): None if cell == "-" else cell for name, cell in named}


def check(engine: Engine, objects: Sequence[Object]) -> Counter[str]:
    """Maps objects together, as one batch, and looks for each record and value; counts what became of them."""
    parts: list[tuple[RawObject, Chunk]] = []
    read: dict[str, int] = {}
    dropped: dict[str, int] = {}
    for number, given in enumerate(objects):
        if not any(reader.accepts(given.data) for reader in engine.mapper.readers):
            assert given.broken
            continue
        chunks = read_bytes(engine.mapper, given.data)
        read[str(number)] = sum(chunk.read for chunk in chunks)
        dropped[str(number)] = sum(sum(chunk.dropped.values()) for chunk in chunks)
        parts += [(RawObject(str(number)), chunk) for chunk in chunks]
    mapped = engine.map(parts)
    assert mapped.read == sum(read.values())
    events = {(lake["source_object"], lake["source_record"]): event for event, lake in as_events(mapped.events)}
    rejects = {(row["source_object"], row["source_record"]): row for row in mapped.rejects.to_pylist()}
    assert len(events) + len(rejects) == len(mapped.events) + len(mapped.rejects)
    assert not events.keys() & rejects.keys()
    ended = Counter(place[0] for place in (*events, *rejects))
    for name, count in read.items():
        assert ended[name] + dropped[name] == count, objects[int(name)].data
    for number, given in enumerate(objects):
        for record, cells in given.records.items():
            place = (str(number), record)
            assert place in events or place in rejects or dropped[str(number)], given.data
            if place in events:
                gone = _lost(cells, events[place])
                assert gone == [], f"{gone} of {cells} in {events[place]}"
    found = {"events": len(events), "quarantined": len(rejects), "dropped": sum(dropped.values())}
    return Counter(objects=len(objects), read=mapped.read, **found)


def _lost(cells: Cells, event: support.Json) -> list[tuple[str, Any]]:
    """The values that an event does not say."""
    kept, captions = lossless.found_in(event), lossless.captions("aws_vpc_flow")
    found = []
    for name, cell in cells:
        if cell is None or cell == {} or str(cell) in ("-", "None"):
            continue
        if cell == "" and not name:
            continue
        path = name.lower().replace("-", "_")
        values = [value for _, value in support.leaves(cell) if value is not None]
        for value in [str(cell)] if cell == [] else values:
            said = lossless.spellings(value, captions.get(path, {}))
            if path in ("start", "end") and re.fullmatch(r"\d+(\.\d+)?(e\d+)?", str(value)):
                said.add(f"@{float(value):.6f}")
            if not said & kept:
                found.append((name, value))
    return found


def run(records: int, seed: int, objects_a_batch: int = 200) -> Counter[str]:
    """Maps at least so many records and gives what became of them."""
    engine, mutator, total = support.engine("aws_vpc_flow"), Mutator(seed), Counter[str]()
    while total["read"] < records:
        total.update(check(engine, [mutator.object() for _ in range(objects_a_batch)]))
    return total


def peak_bytes() -> int:
    """The most memory that this process has held."""
    found = re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())
    return int(found[1]) * 1024 if found else 0


if __name__ == "__main__":
    began = time.monotonic()
    print(dict(run(int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 1)))
    print(f"{time.monotonic() - began:.0f} s, {peak_bytes() >> 20} MB")
