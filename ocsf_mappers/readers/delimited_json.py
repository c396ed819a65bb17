"""A text log that arrives as JSON."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import msgspec
import pyarrow as pa

from ocsf_mappers.json_split import KEPT_BYTES
from ocsf_mappers.members import RepeatedError, raw_members, value
from ocsf_mappers.readers.chunk import COLUMN_SETS, Bad, Chunk, as_text, no_records
from ocsf_mappers.readers.delimited import Delimited
from ocsf_mappers.readers.envelope import CONTROL_DROP, CONTROL_TEXT
from ocsf_mappers.readers.json_records import JsonRecords
from ocsf_mappers.streams import Blocks

_OBJECT_LINE = re.compile(rb'^[ \t]*+\{\s*+"', re.MULTILINE)


@dataclass(frozen=True)
class DelimitedInJson:
    """The same text log as JSON lines: whole lines inside CloudWatch Logs documents, or members named like the fields.

    Args:
        text: How the lines themselves are read.
        lists: Names of members that hold lists of CloudWatch log events.
        message: Member that holds a line.
    """

    text: Delimited
    lists: tuple[str, ...] = ("logEvents",)
    message: str = "message"
    label: str = "JSON lines (CloudWatch Logs, Firehose)"

    def accepts(self, head: bytes) -> bool:
        """JSON, perhaps with a broken line before it; a line of a text log never begins with a bracket."""
        return head.lstrip()[:1] in (b"{", b"[") or _OBJECT_LINE.search(head) is not None

    def read(self, blocks: Blocks) -> Iterator[Chunk]:
        """Chunks of text columns; records are numbered in the order they stand in the object."""
        for chunk in JsonRecords(self.lists).read(blocks):
            yield from self._columns(chunk)

    def _columns(self, chunk: Chunk) -> Iterator[Chunk]:
        # This format is rare and small, so its records are read one by one.
        groups: dict[tuple[str, ...], list[tuple[int, list[str | None]]]] = {}
        bad, dropped = list(chunk.bad), Counter(chunk.dropped)
        rows = zip(chunk.records["_record"].to_pylist(), _raws(chunk.records), strict=True)
        for number, raw in rows:
            try:
                members = {name: value(held) for name, held in raw_members(raw).items()}
            except RepeatedError as error:
                bad.append(Bad(number, str(error), raw[:KEPT_BYTES]))
                continue
            except msgspec.ValidationError:
                bad.append(Bad(number, "not a JSON object", raw[:KEPT_BYTES]))
                continue
            except (msgspec.DecodeError, RecursionError) as error:
                bad.append(Bad(number, f"the record is not valid JSON: {error}", raw[:KEPT_BYTES]))
                continue
            if _is_control(members, self.message):
                dropped[CONTROL_DROP] += 1
            else:
                names, values = self._fields(members)
                if names not in groups and len(groups) == COLUMN_SETS:
                    reason = f"more than {COLUMN_SETS} different sets of members"
                    bad.append(Bad(number, reason, raw[:KEPT_BYTES]))
                elif len(names) != len(values):
                    reason = f"{len(values)} values where the default format has {len(names)}"
                    bad.append(Bad(number, reason, raw[:KEPT_BYTES]))
                else:
                    groups.setdefault(names, []).append((number, values))
        yield Chunk(no_records(), bad, dropped)
        for names, found in groups.items():
            columns = {"_record": pa.array([number for number, _ in found], pa.int64())}
            for position, name in enumerate(names):
                columns[name] = pa.array([values[position] for _, values in found], pa.string())
            yield Chunk(pa.table(columns))

    def _fields(self, members: Mapping[str, object]) -> tuple[tuple[str, ...], list[str | None]]:
        line = members.get(self.message)
        if isinstance(line, str):
            rest = {f"cloudwatch.{name}": held for name, held in members.items() if name != self.message}
            values = [None if word == self.text.null else word for word in line.split(self.text.sep)]
            if len(values) != len(self.text.default):
                return self.text.default, values
            return (*self.text.default, *rest), [*values, *(as_text(held) for held in rest.values())]
        names = tuple(name.lower().replace("-", "_") for name in members)
        if len(set(names)) != len(names):
            names = tuple(members)
        texts = [as_text(held) for held in members.values()]
        return names, [None if text == self.text.null else text for text in texts]


def _is_control(members: Mapping[str, object], message: str) -> bool:
    """Whether CloudWatch Logs wrote this to try the way: the document itself, or the log event taken out of it."""
    line = str(members.get(message))
    return members.get("messageType") == "CONTROL_MESSAGE" or line.startswith(CONTROL_TEXT)


def _raws(records: pa.Table) -> list[str]:
    return records["_raw"].to_pylist() if "_raw" in records.column_names else []
