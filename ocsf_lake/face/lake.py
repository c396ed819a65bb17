"""A lake opened from Python."""

from __future__ import annotations

import os
import warnings
from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict
from datetime import UTC, date, datetime
from numbers import Integral
from pathlib import Path
from typing import Any, Literal, overload

import pyarrow as pa

from ocsf_lake import config, text
from ocsf_lake.catalogs.definitions import QUARANTINE
from ocsf_lake.config import Settings
from ocsf_lake.face.rows import QueryWarning, Rows, html_table
from ocsf_lake.ingest import backfill as backfills
from ocsf_lake.ingest import run as ingests
from ocsf_lake.ingest import summary as summaries
from ocsf_lake.ingest.backfill import Estimate
from ocsf_lake.ingest.run import OnProgress, Summary
from ocsf_lake.lake import exists, opened
from ocsf_lake.ledger import overview
from ocsf_lake.ledger.database import MissingError
from ocsf_lake.query import find as finding
from ocsf_lake.query import own_tables, shown
from ocsf_lake.query import query as lake_query
from ocsf_lake.upkeep import trace as traces
from ocsf_lake.upkeep.trace_rows import Narrowed
from ocsf_mappers import registry, sqltext
from ocsf_mappers.errors import ConfigError, WriteError, nearest

_STATUS = pa.schema(
    [
        pa.field("source", pa.string()),
        *(pa.field(name, pa.int64()) for name in ("objects", "records", "events", "quarantined", "dropped")),
        *(pa.field(name, pa.int64()) for name in ("bytes_in", "bytes_out")),
        pa.field("batches", pa.map_(pa.string(), pa.int64())),
    ]
)


def open(uri: str | os.PathLike[str] | None = None, *, writable: bool = False, **settings: Any) -> Lake:
    """A lake that is there.

    Args:
        uri: Its root, a folder or a URI such as `s3://bucket/lake`; without it the settings name it
            (`OCSF_LAKE_LAKE`, `ocsf-lake.toml`).
        writable: Whether `ingest` and `backfill` may be called. Otherwise nothing is ever written, and permission to
            read is enough.
        settings: Other settings by name (`state`, `ledger_url`, `s3_endpoint`, ...); they win over variables and file.

    Raises:
        ConfigError: There is no lake, it cannot be opened, or some setting is unknown. None is ever made.
    """
    loaded = _settings(uri, settings)
    try:
        with opened(loaded, reading=True):
            pass
    except MissingError as error:
        if loaded.ledger_url is None and exists(loaded):
            raise  # there is one, and its ledger is lost: the message says what to do
        raise ConfigError(
            f"there is no lake at {loaded.lake!r}; ocsf_lake.create({loaded.lake!r}) makes one"
        ) from error
    return Lake(loaded, writable=writable)


def create(uri: str | os.PathLike[str] | None = None, *, exist_ok: bool = False, **settings: Any) -> Lake:
    """A new lake, to be written.

    Args:
        uri: Its root, see `open`.
        exist_ok: Whether one that is there is opened instead.
        settings: See `open`.

    Raises:
        ConfigError: There is one already, or it has no place.
        WriteError: The place cannot be written.
    """
    loaded = _settings(uri, settings)
    if not exist_ok:
        try:
            with opened(loaded, reading=True):
                raise ConfigError(
                    f"there is a lake at {loaded.lake!r}; ocsf_lake.open({loaded.lake!r}, writable=True) opens it"
                )
        except MissingError:
            pass  # of one whose ledger is lost the next line says it
    with opened(loaded):
        return Lake(loaded, writable=True)


def _settings(uri: str | os.PathLike[str] | None, overrides: Mapping[str, Any]) -> Settings:
    """The settings in force, their local paths whole: the working folder may change afterwards."""
    loaded = config.load(lake=None if uri is None else os.fspath(uri), **overrides)
    absolute: dict[str, Any] = {}
    if "://" not in loaded.lake:
        absolute["lake"] = str(Path(loaded.lake).expanduser().absolute())
    if loaded.state is not None:
        absolute["state"] = loaded.state.expanduser().absolute()
    return loaded.model_copy(update=absolute)


class Lake:
    """A lake. Nothing stays open: each question looks at it as it is at that moment.

    Made by `open` and `create`. Tables have the names and columns of Amazon Security Lake (`vpc_flow`,
    `cloud_trail_mgmt_2_0`); `quarantine`, `duplicates` and the ledger's (`ledger_batches`) are tables too.
    """

    def __init__(
        self, settings: Settings, *, writable: bool = False, own: Mapping[str, pa.Table] = lake_query.NO_TABLES
    ) -> None:
        self._settings = settings
        self._writable = writable
        self._tables = own

    @property
    def uri(self) -> str:
        """Its root."""
        return self._settings.lake

    def __repr__(self) -> str:
        return f"<Lake {self.uri}{'' if self._writable else ', read-only'}>"

    def __enter__(self) -> Lake:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing is open; `with` is there for those who are used to it."""

    # -- reading ------------------------------------------------------------------------------------------------------
    def sql(self, query: str, /, **parameters: Any) -> Rows:
        """A query in DuckDB's SQL, not run yet.

        Args:
            query: One statement that reads; values stand in it as `$name`.
            parameters: Those values. A value never becomes part of the statement.

        Raises:
            QueryError: It is no SQL.
            ConfigError: It is more than one statement, changes something, or its parameters are other ones.
        """
        return Rows(self._settings, query, parameters, self._tables)

    def __getitem__(self, name: str) -> Rows:
        """The rows of a table, by our name or Security Lake's, or of a view such as `guardduty_latest`."""
        if shown.part_of(name) is None and name not in (*self._tables, "coverage"):
            raise KeyError(f"there is no table {name!r}{nearest(name, [*registry.tables(), *self._tables])}")
        return self.sql(f"FROM {sqltext.name(name)}")

    @property
    def tables(self) -> Tables:
        """The tables of events."""
        return Tables(self)

    @property
    def quarantine(self) -> Rows:
        """The records that became no event: reason, object, number of the record, its text, and its state."""
        return self[QUARANTINE]

    def status(self) -> Rows:
        """A row for each source, as of now: objects, records, events, quarantined, dropped, batches by state."""
        with opened(self._settings, reading=True) as lake:
            rows = [asdict(row) for row in overview.sources(lake.ledger.engine)]
        return Rows(self._settings, "FROM status", {}, {"status": pa.Table.from_pylist(rows, _STATUS)})

    def coverage(self, *, since: date | str | None = None, until: date | str | None = None) -> Rows:
        """What is there of each hour of each log, and how that is known: the table `coverage`, see docs/coverage.md.

        Args:
            since: First day, UTC; a date or `2026-03-16`. Without it, each log's first.
            until: Last day, included.

        Raises:
            ConfigError: A day is none.
        """
        days = {name: _day(name, day) for name, day in (("since", since), ("until", until)) if day is not None}
        conditions = {"since": "hour >= $since::DATE", "until": "hour < $until::DATE + 1"}
        where = " AND ".join(conditions[name] for name in days)
        return self.sql(f"FROM coverage{' WHERE ' if days else ''}{where}", **days)

    def find(self, value: str, *, since: date | str | None = None, until: date | str | None = None) -> Rows:
        """Where a value stands in the lake: table, path, the text there, the event and its time, latest first.

        Every text of every table is looked through, and the records in quarantine.

        Args:
            value: An address, a name, an ARN, a key or a hash; it is found as a whole, in any case.
            since: First day of events, UTC; a date or `2026-03-16`.
            until: Last day of events, included.

        Raises:
            ConfigError: There is no value, or a day is none.
        """
        first, last = (day if day is None else _day(name, day) for name, day in (("since", since), ("until", until)))
        tables = lake_query.searched(self._settings)
        statements = finding.queries(value, tables, first, last)
        reads = finding.reads(tables, first, last)
        with lake_query.connected(self._settings, *reads) as connection:
            lake_query.collect(connection, statements)
            hits = connection.sql(finding.FOUND).to_arrow_table()
        for one in lake_query.lacking(self._settings, *reads):
            warnings.warn(text.escaped(one), QueryWarning, stacklevel=2)
        return Rows(self._settings, "FROM found", {}, {"found": hits})

    def trace(self, event: str | Mapping[str, Any], *, table: str | None = None) -> dict[str, Any]:
        """Follows an event to its raw record, and maps that again.

        Args:
            event: A row with `source_object` and `source_record`, or both as `OBJECT#NUMBER`, or a `metadata.uid`.
            table: Look in this table only.

        Returns:
            What `ocsf-lake trace --json` prints; `events` is empty where there is no such event.

        Raises:
            ConfigError: There is no such table, or the row does not say which record it is of.
        """
        if isinstance(event, Mapping):
            uri, record = event.get("source_object"), event.get("source_record")
            if not isinstance(uri, str) or not isinstance(record, Integral):
                raise ConfigError("a row names its record in its columns source_object and source_record")
            what = traces.asked(None, uri, int(record), Narrowed(table), self._settings)
        else:
            what = traces.asked(event, None, None, Narrowed(table), self._settings)
        return traces.trace(self._settings, what).as_dict()

    def report(
        self, path: str | os.PathLike[str], *, since: date | str | None = None, until: date | str | None = None
    ) -> None:
        """Writes a page about the lake, one file of HTML: what is missing, late, refused or new, and what to do next.

        Args:
            path: A local file; one that is there is replaced when the page is whole.
            since: First event day, UTC; a date or `2026-03-16`. Without it, the newest thirty.
            until: Last event day, included.

        Raises:
            ConfigError: A day is none, or the file cannot be written.
        """
        from ocsf_lake.pages import facts, page

        first, last = (day if day is None else _day(name, day) for name, day in (("since", since), ("until", until)))
        page.write(facts.gather(self._settings, datetime.now(UTC), first, last), Path(path))

    def with_tables(self, **tables: Any) -> Lake:
        """The same lake with tables of yours beside its own, to join with.

        Args:
            tables: By name: a pandas or polars DataFrame, Arrow, rows of a lake, dictionaries, or a path. Of a CSV
                file every column is text, as account ids begin with zeros; Parquet and JSON lines keep their types.
                Each is taken into memory now.

        Raises:
            ConfigError: The lake has a table of that name, or what is given is no table.
            ReadError: The file cannot be read.
        """
        all_tables = own_tables.with_tables(self._tables, tables)
        return Lake(self._settings, writable=self._writable, own=all_tables)

    # -- writing ------------------------------------------------------------------------------------------------------
    def ingest(
        self, *uris: str | os.PathLike[str], source: str | None = None, retry: bool = False,
        progress: OnProgress | None = None,
    ) -> Result:  # fmt: skip
        """Brings what is new at the URIs into the lake, each record once, however often it is called.

        Args:
            uris: Folders, globs and files.
            source: Name of the source; without it, taken from each object's name or content.
            retry: Also try objects that were left out because they failed too often.
            progress: Called after each batch.

        Raises:
            ConfigError: The lake was opened for reading, a URI stands for nothing, or the source is unknown.
            WriteError: The lake refused a file; calling it again continues.
        """
        self._check_writable()
        if not uris:
            raise ConfigError("say what to ingest: a folder, a glob or a file")
        return Result(ingests.ingest([os.fspath(uri) for uri in uris], self._settings, source, progress, again=retry))

    @overload
    def backfill(
        self, source: str, uri: str | os.PathLike[str], *, since: date | str, until: date | str,
        accounts: Collection[str] = ..., regions: Collection[str] = ..., dry_run: Literal[False] = ...,
        progress: OnProgress | None = ...,
    ) -> Result: ...  # fmt: skip

    @overload
    def backfill(
        self, source: str, uri: str | os.PathLike[str], *, since: date | str, until: date | str,
        accounts: Collection[str] = ..., regions: Collection[str] = ..., dry_run: Literal[True],
        progress: OnProgress | None = ...,
    ) -> Estimate: ...  # fmt: skip

    def backfill(
        self, source: str, uri: str | os.PathLike[str], *, since: date | str, until: date | str,
        accounts: Collection[str] = (), regions: Collection[str] = (), dry_run: bool = False,
        progress: OnProgress | None = None,
    ) -> Result | Estimate:  # fmt: skip
        """Brings a range of days into the lake; again, it continues where it was interrupted.

        Args:
            source: Name of the source.
            uri: Bucket or folder.
            since: First day of events, UTC; a date or `2026-03-16`.
            until: Last day of events, included.
            accounts: Only these.
            regions: Only these.
            dry_run: Say what there is to do, and do none of it; this needs no lake that can be written.
            progress: Called after each batch.

        Raises:
            ConfigError: The lake was opened for reading, a day is none, or nothing is at the URI.
            WriteError: The lake refused a file; calling it again continues.
        """
        first, last = _day("since", since), _day("until", until)
        arguments = (source, os.fspath(uri), first, last, self._settings, tuple(accounts), tuple(regions))
        if dry_run:
            return backfills.estimate(*arguments)
        self._check_writable()
        return Result(backfills.backfill(*arguments, progress=progress))

    def _check_writable(self) -> None:
        if not self._writable:
            raise ConfigError(
                f"the lake is open for reading only; ocsf_lake.open({self.uri!r}, writable=True) opens it for both"
            )


class Tables(Mapping[str, Rows]):
    """The tables of a lake: name -> rows."""

    _COLUMNS = ("table", "rows", "first day", "last day", "sources")

    def __init__(self, lake: Lake) -> None:
        self._lake = lake

    def __getitem__(self, name: str) -> Rows:
        if name not in registry.tables():
            raise KeyError(f"there is no table {name!r}{nearest(name, self)}")
        return self._lake[name]

    def __iter__(self) -> Iterator[str]:
        return iter(registry.tables())

    def __len__(self) -> int:
        return len(registry.tables())

    def _rows(self) -> list[tuple[object, ...]]:
        """Of the tables that have rows; a lake has those of every source, most of which nobody sends to it."""
        with opened(self._lake._settings, reading=True) as lake:
            filled = {row.table: row for row in overview.tables(lake.ledger.engine)}
        rows = (filled[name] for name in self if name in filled)
        return [(row.table, text.count(row.rows), row.first_day, row.last_day, ", ".join(row.sources)) for row in rows]

    def __repr__(self) -> str:
        rows = [self._COLUMNS, *([text.text(value) for value in row] for row in self._rows())]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ("  ".join(f"{value:{width}}" for value, width in zip(row, widths, strict=True)) for row in rows)
        return "\n".join(line.rstrip() for line in lines)

    def _repr_html_(self) -> str:
        return html_table(self._COLUMNS, self._rows())


class Result:
    """What an ingest or a backfill did.

    A batch, object or record that fails stops no other and raises nothing: look at `failed`, or call
    `raise_for_failures`.
    """

    def __init__(self, summary: Summary) -> None:
        self._summary = summary

    @property
    def objects(self) -> int:
        """Objects that were read."""
        return sum(source.objects for source in self._summary.sources.values())

    @property
    def records(self) -> int:
        """Records that were read: `events` + `quarantined` + `dropped`."""
        return self._summary.counts.read

    @property
    def events(self) -> int:
        """Events that are in the lake now and were not before."""
        return self._summary.counts.events

    @property
    def quarantined(self) -> int:
        """Records in quarantine, see `Lake.quarantine`."""
        return self._summary.counts.quarantined

    @property
    def dropped(self) -> int:
        """Lines that are no records, such as a repeated header."""
        return self._summary.counts.dropped

    @property
    def failed(self) -> bool:
        """Whether something failed, or nothing of what was named was of any use; `to_dict` says what."""
        return summaries.failed(self._summary)

    def raise_for_failures(self) -> Result:
        """Gives itself.

        Raises:
            WriteError: Something failed.
        """
        if self.failed:
            raise WriteError(f"not all of it is in the lake: {'; '.join(self._problems())}")
        return self

    def _problems(self) -> list[str]:
        summary = self._summary
        problems = [f"batch {item.batch_id} of {item.source} failed: {item.reason}" for item in summary.failures]
        problems += [f"source {name}: {reason}" for name, reason in sorted(summary.broken.items())]
        problems += [f"record {item.record} of {item.uri}: {item.reason}" for item in summary.isolated]
        for (state, reason), items in summaries.reasons(summary):
            problems.append(f"{text.plural(len(items), 'object')} {state.replace('_', ' ')}: {reason}")
        if (refused := summaries.refused(summary)) is not None:
            problems.append(refused)
        return problems

    def to_dict(self) -> dict[str, Any]:
        """All of it, as `ocsf-lake ingest --json` prints it."""
        return summaries.as_dict(self._summary)

    def __repr__(self) -> str:
        names = ("objects", "records", "events", "quarantined", "dropped")
        counts = [f"{getattr(self, name):,} {name}" for name in names]
        return "\n".join(map(text.escaped, [f"<Result {', '.join(counts)}>", *self._problems()]))

    def _repr_html_(self) -> str:
        rows = [summaries.row(name, source) for name, source in sorted(self._summary.sources.items())]
        problems = [[problem] for problem in self._problems()]
        return html_table(summaries.COLUMNS, rows) + (html_table(["not read, or failed"], problems) if problems else "")


def _day(name: str, value: date | str) -> date:
    if isinstance(value, datetime):
        return value.date()
    try:
        return value if isinstance(value, date) else date.fromisoformat(value)
    except ValueError as error:
        raise ConfigError(f"{name} is {value!r}, and no day such as 2026-03-16") from error
