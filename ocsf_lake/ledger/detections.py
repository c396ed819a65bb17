"""What the ledger has of detections: which batches were looked at, what was found, and what is still to be written.

A finding is noted with the run that found it, in the transaction that notes which batches that run looked at. From then
on it is written by whoever comes next, as an object of that run's name and of the same bytes, however often it is
tried.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import sqlalchemy as sa

from ocsf_lake.ledger import baselines, chain
from ocsf_lake.ledger.database import insert_new, select_in
from ocsf_lake.ledger.files import Chosen, LakeFile
from ocsf_lake.ledger.leases import LostError
from ocsf_lake.ledger.results import Kind, State
from ocsf_lake.ledger.tables import BATCHES, DETECTED_BATCHES, DETECTION_RUNS, FILES, FINDINGS, OBJECTS, RETIRED

LEFT_OUT = "none"
"""Run of batches that no rule was asked of on purpose."""
_MANY = 500
"""Rows of one statement."""


@dataclass(frozen=True)
class Finding:
    """What was found of one rule, about one thing, within one time.

    Args:
        id: Hash of those three.
        rule: What the rule's findings are known by.
        first: Time of its first event, in milliseconds since 1970.
        last: Time of its last event.
        events: How many events.
        record: The finding as JSON, as it is written.
        is_whole: Whether these are all of its events that the lake has; else those of some batches.
        new_value: Of a value that was not seen before: baseline, whom it is about, and the value.
    """

    id: str
    rule: str
    first: int
    last: int
    events: int
    record: str
    is_whole: bool = False
    new_value: Sequence[str] | None = None


class Detections:
    """What one lake's ledger has of detections.

    Args:
        engine: The ledger's database.
    """

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine

    def waiting(self, besides: str) -> list[str]:
        """Batches that are done and were never looked at, the oldest first; merges bring no events.

        Args:
            besides: The source of findings themselves, which no rule looks at.
        """
        done = sa.and_(BATCHES.c.state == State.DONE, BATCHES.c.kind != Kind.MERGE, BATCHES.c.source != besides)
        query = sa.select(BATCHES.c.id).where(done)
        with self._engine.connect() as connection:
            # A ledger that is only read may be older than the table.
            if sa.inspect(connection).has_table(DETECTED_BATCHES.name):
                query = query.where(BATCHES.c.id.not_in(sa.select(DETECTED_BATCHES.c.batch_id)))
            return list(connection.scalars(query.order_by(BATCHES.c.done_at, BATCHES.c.id)))

    def files_of(self, batches: Sequence[str], tables: Mapping[str, Chosen | None]) -> dict[str, list[LakeFile]]:
        """The files with the rows of batches, by table; where those were merged and removed, the merged ones.

        A file that came along as it is counts as its copy alone, though it lies there for a time.

        Args:
            batches: Ids of batches.
            tables: Name of each table -> which of its partitions; None for all.
        """
        by_table: dict[str, dict[str, LakeFile]] = {table: {} for table in tables}
        merged: set[str] = set()
        version = BATCHES.c.mapper_version + sa.literal(" ") + BATCHES.c.ocsf_version
        with self._engine.connect() as connection:
            for one in (FILES, RETIRED):
                columns = [one.c.table_name, one.c.partition, one.c.path, one.c.bytes, one.c.sha256, version]
                columns += [one.c.removed_at, one.c.merge_id] if one is RETIRED else [sa.null(), sa.null()]
                query = sa.select(*columns).join(BATCHES, BATCHES.c.id == one.c.batch_id, isouter=True)
                if one is RETIRED:
                    query = query.where(RETIRED.c.merge_id.is_not(None))
                for table, partition, path, size, digest, written_for, removed_at, merge in select_in(
                    connection, query, one.c.batch_id, batches
                ):
                    if table not in by_table:
                        continue
                    chosen = tables[table]
                    if removed_at is not None:
                        merged |= {merge} if merge else set()
                    elif chosen is None or chosen(tuple(partition.split("/"))):
                        by_table[table][path] = LakeFile(path, size, digest, written_for)
        if merged:
            for table, files in self.files_of(sorted(merged), tables).items():
                by_table[table] |= {file.path: file for file in files}
        return {table: [files[path] for path in sorted(files)] for table, files in by_table.items()}

    def is_new(self) -> bool:
        """Whether the ledger knows of no run: it is a new one, or was made again from the lake's files."""
        with self._engine.connect() as connection:
            return connection.execute(sa.select(DETECTION_RUNS.c.id).limit(1)).first() is None

    def restore(self, source: str, runs: Iterable[tuple[str, str, Sequence[Finding]]], at: str) -> int:
        """Notes runs whose objects lie in the lake, and their findings; those that were not ingested as still open.

        Args:
            source: The source of findings.
            runs: Name of each, name of its object without folders, and what it found.
            at: Now.

        Returns:
            How many findings there are.
        """
        number = 0
        with self._engine.begin() as connection:
            done = sa.select(OBJECTS.c.uri).where(OBJECTS.c.source == source, OBJECTS.c.state == State.DONE)
            # by name: the lake may have been elsewhere then
            ingested = {uri.rsplit("/", 1)[-1] for uri in connection.scalars(done)}
            for run, name, findings in runs:
                rows = [_row(finding, run) for finding in findings]
                for start in range(0, len(rows), _MANY):
                    insert_new(connection, FINDINGS, rows[start : start + _MANY])
                state = State.DONE if name in ingested else State.PLANNED
                values = {"id": run, "state": state, "findings": len(rows), "begun_at": at}
                insert_new(connection, DETECTION_RUNS, [values])
                number += len(rows)
        return number

    def note(
        self, run: str, batches: Sequence[str], findings: Iterable[Finding], at: str,
        asked: Sequence[baselines.Baseline] = (), *, is_once: bool = False,
    ) -> int:  # fmt: skip
        """Notes at one moment what a run found, and what it looked at.

        Args:
            run: Name of the run.
            batches: The batches it looked at; none where it looked at a range.
            findings: What it found; those that are known already only count on.
            at: Now.
            asked: Rules with a baseline that it asked.
            is_once: Whether findings that are known count on, so that no other run may have looked at the batches.

        Returns:
            How many are new.

        Raises:
            LostError: Another run looked at one of the batches; nothing is noted.
        """
        with self._engine.begin() as connection:
            rows = [{"batch_id": batch, "run": run} for batch in batches]
            for start in range(0, len(rows), _MANY):
                insert_new(connection, DETECTED_BATCHES, rows[start : start + _MANY])
            ours = sa.select(sa.func.count()).where(DETECTED_BATCHES.c.run == run)
            if is_once and connection.scalar(ours) != len(rows):
                raise LostError("these batches were looked at meanwhile; running again looks at what is left")
            new = 0
            for many in _chunks(findings):
                new += self._put(connection, run, many)
            baselines.note(connection, asked, len(batches), at)
            state = State.PLANNED if new else State.DONE
            values = {"id": run, "state": state, "findings": new, "begun_at": at}
            insert_new(connection, DETECTION_RUNS, [values])
        return new

    def leave_out(self, batches: Sequence[str], at: str) -> None:
        """Notes batches as looked at, though no rule was asked of them; those that were stay so.

        Rules about what was not seen before lack them, and read the lake again when they are asked the next time.

        Args:
            batches: The batches.
            at: Now.
        """
        rows = [{"batch_id": batch, "run": LEFT_OUT} for batch in batches]
        with self._engine.begin() as connection:
            baselines.note(connection, (), len(batches), at)
            for start in range(0, len(rows), _MANY):
                insert_new(connection, DETECTED_BATCHES, rows[start : start + _MANY])

    def _put(self, connection: sa.Connection, run: str, findings: Sequence[Finding]) -> int:
        ids = [finding.id for finding in findings]
        query = sa.select(FINDINGS.c.id, FINDINGS.c.first, FINDINGS.c.last, FINDINGS.c.events)
        recorded = {row[0]: row[1:] for row in select_in(connection, query, FINDINGS.c.id, ids)}
        new = {finding.id: finding for finding in findings if finding.id not in recorded}
        if new:
            connection.execute(sa.insert(FINDINGS), [_row(finding, run) for finding in new.values()])
        for finding in findings:
            if finding.id in recorded:
                first, last, events = recorded[finding.id]
                total = max(events, finding.events) if finding.is_whole else events + finding.events
                # A value was first there once: an earlier time takes the place of the later one.
                latest = min if finding.new_value else max
                values = {"first": min(first, finding.first), "last": latest(last, finding.last), "events": total}
                connection.execute(sa.update(FINDINGS).where(FINDINGS.c.id == finding.id).values(values))
        new_values = [(finding.new_value, finding.id) for finding in findings if finding.new_value]
        rows = [(baseline, about, value, id_) for (baseline, about, value), id_ in new_values]
        baselines.note_findings(connection, rows)
        return len(new)

    def open_runs(self) -> list[str]:
        """Runs whose findings are not in the lake yet."""
        query = sa.select(DETECTION_RUNS.c.id).where(DETECTION_RUNS.c.state != State.DONE)
        with self._engine.connect() as connection:
            return list(connection.scalars(query.order_by(DETECTION_RUNS.c.begun_at, DETECTION_RUNS.c.id)))

    def records(self, run: str) -> list[str]:
        """The findings of a run as JSON, always in the same order."""
        query = sa.select(FINDINGS.c.record).where(FINDINGS.c.run == run).order_by(FINDINGS.c.id)
        with self._engine.connect() as connection:
            return list(connection.scalars(query))

    def written(self, run: str, file: chain.Beside) -> None:
        """Notes that the findings of a run are in the lake, and in the chain the file that they were read from."""
        with self._engine.begin() as connection:
            connection.execute(
                sa.update(DETECTION_RUNS).where(DETECTION_RUNS.c.id == run).values(state=State.DONE)
            )
            chain.append(connection, kind="detections", subject=run, detail={"beside": [file]})


def _row(finding: Finding, run: str) -> dict[str, Any]:
    row = asdict(finding) | {"run": run}
    del row["is_whole"], row["new_value"]
    return row


def _chunks(findings: Iterable[Finding]) -> Iterable[list[Finding]]:
    many: list[Finding] = []
    for finding in findings:
        many.append(finding)
        if len(many) >= _MANY:
            yield many
            many = []
    if many:
        yield many


def as_json(record: Mapping[str, Any]) -> str:
    """A record as JSON, the same text for the same record."""
    return json.dumps(record, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
