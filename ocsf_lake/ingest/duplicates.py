"""Events that the lake has already, by the source's own key: kept (`keep`), listed (`mark`) or left out (`drop`).

CloudTrail delivers at least once, and two trails deliver everything twice. What counts as a duplicate is exact: the
same key *and* the same content in every column but those that say where a record was read. The same key with other
content is never left out; it is counted as a variant.

By default nothing is looked for and every record is kept: files then depend on their inputs alone. `mark` writes the
same files, and beside them the table `duplicates`. With `drop` it depends on what came before which of two equal
records is left out, so batches of a source are done one after the other, and a record left out is listed with the place
of the one that stays. Only batches that are done count as the lake: an interrupted one is looked through again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import duckdb
import pyarrow as pa

from ocsf_lake.catalogs.definitions import DUPLICATES, DUPLICATES_SCHEMA, key_text
from ocsf_lake.config import Settings
from ocsf_lake.lake import Lake
from ocsf_lake.ledger.duplicated import DuplicatePolicy, earlier_files, earlier_objects
from ocsf_lake.ledger.results import ID_DIGITS, Batch, Result
from ocsf_lake.storage import evolution, parquet, retry
from ocsf_lake.storage.fileinfo import FileInfo
from ocsf_lake.storage.layout import Partition
from ocsf_lake.storage.parquet import Slice
from ocsf_lake.storage.store import Store
from ocsf_mappers import Mapper, duck, registry, sqltext
from ocsf_mappers.errors import ConfigError

WAIT_SECONDS = 0.2

REASON = "duplicate of an event that the lake has"

Groups = Mapping[str, Sequence[str]]
"""Files by what their columns go by: the version of the mapper, and of OCSF, that they were written with."""

_BEFORE = "(source_object, source_etag) IN (SELECT (uri, etag) FROM earlier)"
"""Of a merged file, the rows of batches that were finished before the one that is rebuilt."""

PLACE = frozenset(["source_object", "source_etag", "source_record", "mapper_version", "region", "accountid"])
"""Columns that say where a record was read and where its event lies; the account and region of the event count."""


def policy(settings: Settings, mapper: Mapper) -> DuplicatePolicy:
    """The policy in force for a source.

    Raises:
        ConfigError: The source's records have no key.
    """
    value = DuplicatePolicy(settings.duplicates.get(mapper.name, DuplicatePolicy.KEEP))
    if value is not DuplicatePolicy.KEEP and not mapper.duplicate_key:
        raise ConfigError(
            f"setting duplicates: records of {mapper.name} have no key of their own, and two that look the same may "
            "both be true; leave it at keep"
        )
    return value


@contextmanager
def alone(lake: Lake, source: str) -> Iterator[None]:
    """Waits until no other worker looks for duplicates of this source, and keeps others waiting."""
    # Two batches that look at the lake at once would not see each other's events.
    name = hashlib.sha256(f"duplicates of {source}".encode()).hexdigest()[:ID_DIGITS]
    while True:
        with lake.leases.held(name) as lease:
            if lease is not None:
                yield
                return
        retry.sleep(WAIT_SECONDS)


@dataclass(frozen=True)
class Repeats:
    """Duplicates among some events.

    Args:
        rows: Which of the events they are, in order.
        listed: A row of the table `duplicates` for each.
        variants: Events whose key was there before, with other content.
    """

    rows: Sequence[int]
    listed: Sequence[Mapping[str, Any]]
    variants: int


class Search:
    """Finds the duplicates of a batch, part by part.

    Args:
        lake: The lake.
        mapper: The source.
        batch: The batch.
        action: What is done with them, as the table `duplicates` has it.
        store: Where the batch's files go.
        own: Where events of the batch's earlier parts are.
    """

    def __init__(self, lake: Lake, mapper: Mapper, batch: Batch, action: str, store: Store, own: Store) -> None:
        self.lake = lake
        self.store = store
        self.own = own
        self.key = tuple(mapper.duplicate_key)
        self.batch = batch
        self.action = action

    def find(self, events: pa.Table, written: Sequence[FileInfo]) -> Repeats:
        """The duplicates among some events of the batch.

        Args:
            events: As mapped by the engine.
            written: Files with events of the batch's earlier parts.
        """
        rows: list[int] = []
        listed: list[Mapping[str, Any]] = []
        variants = 0
        numbers = pa.array(range(len(events)), pa.int64())
        numbered = events.append_column("_row", numbers)
        for name in sorted(set(events[parquet.TABLE_COLUMN].unique().to_pylist())):
            mask = pa.compute.equal(numbered[parquet.TABLE_COLUMN].cast(pa.string()), name)
            more, places, other = self._of_table(name, numbered.filter(mask), written)
            rows += more
            listed += places
            variants += other
        order = sorted(range(len(rows)), key=rows.__getitem__)
        return Repeats([rows[place] for place in order], [listed[place] for place in order], variants)

    @duck.interruptible(over_logs=True)
    def _of_table(
        self, name: str, events: pa.Table, written: Sequence[FileInfo]
    ) -> tuple[list[int], list[Mapping[str, Any]], int]:
        groups, merged = self._paths(name, events, written)
        schema = registry.table(name).arrow
        columns = [field for field in schema if field.name not in PLACE]
        keys = [key_text(part) for part in self.key]
        named = ", ".join(f"{sql} AS k{number}" for number, sql in enumerate(keys))
        same = " AND ".join(f"a.k{number} = b.k{number}" for number in range(len(keys)))
        listed = ", ".join(f"k{number}" for number in range(len(keys)))
        keyed = " AND ".join(f"k{number} IS NOT NULL" for number in range(len(keys)))
        with duck.connect(threads=1) as connection:
            connection.execute("SET TimeZone = 'UTC'")
            if not self.lake.store.is_local:
                connection.register_filesystem(self.lake.store.fs)
            connection.register("part", _plain(events, [*schema, pa.field("_row", pa.int64())], self.key))
            connection.execute(f"CREATE TEMP TABLE fresh AS SELECT _row, {named} FROM part")
            inside = f"SELECT _row FROM fresh QUALIFY count(*) OVER (PARTITION BY {listed}) > 1 AND {keyed}"
            suspected = {row for (row,) in connection.execute(inside).fetchall()}
            before: set[int] = set()
            files = self._files(connection, schema, groups, merged)
            if files:
                in_files = f"SELECT DISTINCT a._row FROM fresh AS a JOIN (SELECT {named} FROM {files}) AS b ON {same}"
                before = {row for (row,) in connection.execute(in_files).fetchall()}
            suspected |= before
            if not suspected:
                return [], [], 0
            chosen = events.filter(pa.compute.is_in(events["_row"], pa.array(sorted(suspected), pa.int64())))
            connection.register("chosen", _plain(chosen, [*schema, pa.field("_row", pa.int64())], ()))
            content = ", ".join(sqltext.name(field.name) for field in columns)
            hashed = f"sha256(to_json(struct_pack({content}))::VARCHAR) AS content"
            connection.execute(
                "CREATE TEMP TABLE here AS SELECT _row, source_object, source_etag, source_record, "
                f"{named}, {hashed} FROM chosen"
            )
            stored = "SELECT NULL::VARCHAR AS content, NULL AS uri, NULL AS number WHERE false"
            if files:
                stored = (
                    f"SELECT content, min_by(source_object, (source_object, source_record)) AS uri, "
                    f"min_by(source_record, (source_object, source_record)) AS number FROM ("
                    f"SELECT source_object, source_record, {hashed} FROM {files} WHERE ({', '.join(keys)}) IN "
                    f"(SELECT ({listed}) FROM here)) GROUP BY content"
                )
            matches = connection.execute(
                f"WITH there AS ({stored}) SELECT _row, source_object, source_etag, source_record, [{listed}] AS key, "
                "coalesce(uri, first_value(source_object) OVER same) AS of_object, "
                "coalesce(number, first_value(source_record) OVER same) AS of_record, "
                "uri IS NOT NULL OR row_number() OVER same > 1 AS duplicate, "
                f"row_number() OVER (PARTITION BY {listed} ORDER BY _row) > 1 AS repeated "
                "FROM here LEFT JOIN there USING (content) WINDOW same AS (PARTITION BY content ORDER BY _row) "
                "ORDER BY _row"
            ).fetchall()
        rows: list[int] = []
        places: list[Mapping[str, Any]] = []
        variants = 0
        for row, uri, etag, number, key, of_object, of_record, duplicate, repeated in matches:
            if not duplicate:
                variants += repeated or row in before
                continue
            rows.append(row)
            places.append(
                {
                    "table_name": name, "key": json.dumps(key), "action": self.action, "source_object": uri,
                    "source_etag": etag, "source_record": number, "of_object": of_object, "of_record": of_record,
                    "batch_id": self.batch.id,
                }
            )  # fmt: skip
        return rows, places, variants

    def _files(
        self, connection: duckdb.DuckDBPyConnection, schema: pa.Schema, groups: Groups, merged: Collection[str]
    ) -> str | None:
        """The rows of files, in today's columns, and of merged ones those that earlier batches wrote; None without."""
        if not groups:
            return None
        if merged:
            every = f"read_parquet({sqltext.texts(sorted(merged))}, hive_partitioning = false)"
            origins = connection.execute(f"SELECT DISTINCT source_object, source_etag FROM {every}").fetchall()
            earlier = earlier_objects(self.lake.ledger.engine, self.batch.id, origins)
            keys = pa.table({name: [key[place] for key in earlier] for place, name in enumerate(("uri", "etag"))})
            connection.register("earlier", keys)

        def read(paths: Sequence[str]) -> str:
            selects = []
            for chosen, where in (
                ([path for path in paths if path not in merged], ""),
                ([path for path in paths if path in merged], f" WHERE {_BEFORE}"),
            ):
                if chosen:
                    selects.append(f"FROM read_parquet({sqltext.texts(chosen)}, hive_partitioning = false){where}")
            return " UNION ALL ".join(selects)

        today = pa.Table.from_batches([], schema)
        return f"({evolution.select(connection, today, list(groups.values()), read)})"

    def _paths(self, name: str, events: pa.Table, written: Sequence[FileInfo]) -> tuple[Groups, set[str]]:
        """The files that may hold the same events: equal events lie in the same partition and class.

        Returns:
            The files, by what their columns go by; those of them that have rows of later batches, too.
        """
        keys = {(partition, class_uid) for partition, class_uid in parquet.partitions(events)}
        versions: dict[str, str] = {}
        merged: dict[str, str] = {}
        missing = False
        finished = earlier_files(self.lake.ledger.engine, self.batch.id, name, {partition for partition, _ in keys})
        for item in finished:
            if (item.partition, item.class_uid) not in keys:
                continue
            if item.is_merged:
                merged[_place(self.lake.store, item.path)] = item.version
            elif not item.is_retired:
                versions[_place(self.lake.store, item.path)] = item.version
            # When a lost file is rebuilt, the files it was merged with count as they were then.
            elif self.store is not self.lake.store and self.store.size(item.path) is not None:
                versions[_place(self.store, item.path)] = item.version
            elif self.lake.store.size(item.path) is not None:
                versions[_place(self.lake.store, item.path)] = item.version
            else:
                missing = True
        own = [file for file in written if (file.partition, file.class_uid) in keys]
        versions |= {_place(self.own, file.path): "" for file in own}
        if missing:
            versions |= merged
        groups: dict[str, list[str]] = {}
        for path in sorted(versions):
            groups.setdefault(versions[path], []).append(path)
        return groups, merged.keys() & versions.keys()


def _place(store: Store, path: str) -> str:
    return store.path(path) if store.is_local else store.uri(path)


def _plain(events: pa.Table, fields: Sequence[pa.Field], key: Sequence[str]) -> pa.Table:
    """The columns in plain types; only those of the key, where one is given."""
    key_columns = {path.partition(".")[0] for path in key}
    chosen = [field for field in fields if not key or field.name in key_columns or field.name == "_row"]
    return pa.table({field.name: events[field.name].cast(field.type) for field in chosen})


def slices(listed: Sequence[Mapping[str, Any]], batch: Batch) -> list[Slice]:
    """Duplicates of a batch as the table of them lists them; none, no slice."""
    if not listed:
        return []
    rows = pa.Table.from_pylist([dict(row) for row in listed], DUPLICATES_SCHEMA)
    return [(Partition(DUPLICATES, (batch.source,)), None, rows)]


def routed(settings: Settings, result: Result) -> dict[str, tuple[str, Sequence[str]]]:
    """Policy and key of each source whose records stood among a batch's, by source."""
    mappers = [registry.load(batch.source) for batch, _ in result.routed]
    return {mapper.name: (policy(settings, mapper), mapper.duplicate_key) for mapper in mappers}
