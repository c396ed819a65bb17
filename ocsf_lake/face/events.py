"""Events without a lake: a log file mapped, and anybody's events validated against OCSF."""

from __future__ import annotations

import os
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa

from ocsf_lake import config, text
from ocsf_lake import events as lake_events
from ocsf_lake.inputs import fields
from ocsf_mappers.errors import ConfigError
from ocsf_mappers.ocsf import events as checks
from ocsf_mappers.ocsf.events import Violation
from ocsf_mappers.ocsf.tables import PARTITION_KEYS


@dataclass(frozen=True)
class Reject:
    """A record that did not become an event.

    Args:
        record: Its number in the file, from 1.
        reason: Why.
    """

    record: int
    reason: str


class Events(Iterable[dict[str, Any]]):
    """The events of a file, as OCSF has them: each a dictionary, attributes without a value left out.

    Mapped while they are asked for, and anew each time. Records that become no event are in `rejects` afterwards, and
    a warning says how many. Made by `map`.

    Args:
        file: The file.
        source: Name of its source.
        settings: The settings in force.
    """

    def __init__(self, file: Path, source: str, settings: config.Settings) -> None:
        self.file = file
        self.source = source
        self.rejects: list[Reject] = []
        self.dropped: Counter[str] = Counter()
        self._settings = settings
        self._mapper = fields.mapper(source, settings)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        self.rejects.clear()
        self.dropped.clear()
        with self.file.open("rb") as stream:
            for part in lake_events.mapped(self._mapper, self._settings, self.file, stream):
                for row in part.rejects.select(["source_record", "reason"]).to_pylist():
                    self.rejects.append(Reject(row["source_record"], row["reason"]))
                self.dropped.update(part.dropped)
                yield from lake_events.plain_events(part.events)
        if self.rejects:
            records = text.plural(len(self.rejects), "record")
            first = self.rejects[0]
            warnings.warn(
                text.escaped(
                    f"{records} of {self.file} became no events; `rejects` has them; the first: record {first.record}, "
                    f"{first.reason}"
                ),
                stacklevel=2,
            )

    def __repr__(self) -> str:
        return f"<Events of {self.file}, {self.source}>"


def map(file: str | os.PathLike[str], source: str | None = None, **settings: Any) -> Events:
    """The records of a log file as OCSF events; no lake is needed.

    Args:
        file: A local file, plain, gzip or zstd.
        source: Name of the source; without it, taken from the file's name or content.
        settings: Settings by name, such as `ocsf_version`.

    Raises:
        ConfigError: There is no such file or source, or it is not clear what log it is.
        ReadError: While events are read: it is in none of the formats of the source, or damaged.
    """
    loaded = config.load(**settings)
    path = Path(file)
    try:
        with path.open("rb") as stream:
            name = source or lake_events.source_of(path, stream, loaded)
    except OSError as error:
        raise ConfigError(f"cannot read {str(path)!r}: {error.strerror}") from error
    return Events(path, name, loaded)


@dataclass(frozen=True)
class Problem:
    """What is wrong with an event.

    Args:
        event: Its number, from 1.
        path: The attribute; None where it is the event as a whole.
        message: What is wrong.
        warning: Whether the event is only doubtful, and not invalid.
    """

    event: int
    path: str | None
    message: str
    warning: bool


def validate(events: Any) -> list[Problem]:
    """What is wrong with events, each checked against the OCSF version, class and profiles that it names.

    Args:
        events: Dictionaries or JSON texts; Arrow or what gives it (`Rows`, DataFrames); or the path of a file of JSON
            lines, a JSON array or Parquet.

    Raises:
        ConfigError: There is no such file.
        ReadError: A file is neither JSON nor Parquet, or damaged.
    """
    return [_problem(violation) for violation in _findings(events)]


def _findings(events: Any) -> Iterator[Violation]:
    if isinstance(events, str | os.PathLike):
        path = Path(events)
        try:
            stream = path.open("rb")
        except OSError as error:
            raise ConfigError(f"cannot read {str(path)!r}: {error.strerror}") from error
        with stream:
            yield from lake_events.findings(path, stream, config.load(), Counter())
    elif hasattr(events, "__arrow_c_stream__"):
        table = pa.table(events)
        keys = [name for name in PARTITION_KEYS if name in table.column_names]  # of a lake's rows, and none of OCSF's
        yield from checks.check_table(table.drop_columns(keys))
    else:
        yield from checks.check_json([_json(event) for event in ([events] if isinstance(events, Mapping) else events)])


def _json(event: Any) -> str:
    if isinstance(event, str | bytes):
        return event if isinstance(event, str) else event.decode()
    return orjson.dumps(event, default=float, option=orjson.OPT_UTC_Z).decode()


def _problem(violation: Violation) -> Problem:
    path, mark, message = violation.message.partition(": ")
    return Problem(violation.event, path if mark else None, message if mark else violation.message, violation.warning)
