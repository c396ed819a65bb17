"""What the ledger has of rules about what was not seen before: each value, of whom, and when it was there first.

One run at a time writes here (see `ocsf_lake.detections.run`). Writing the same once more changes nothing, and the
order in which events come changes nothing either: the earliest time stays.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import pyarrow as pa
import sqlalchemy as sa

from ocsf_lake.ledger.compactions import REMAPPED
from ocsf_lake.ledger.database import insert, select_in
from ocsf_lake.ledger.results import Kind
from ocsf_lake.ledger.rows import arrow_type
from ocsf_lake.ledger.tables import BASELINES, BATCHES, FIRST_SEEN

MOST_ROWS = 500_000
"""Values of all groups that are kept for one rule."""
_MANY = 5_000
"""Rows of one transaction, so that others can write to the ledger between them."""
_MOVED = ("first", "event", "account", "region")
_NAMES = ("about", "value", *_MOVED, "finding")
SCHEMA = pa.schema([pa.field(name, arrow_type(FIRST_SEEN.c[name].type)) for name in _NAMES])
"""Columns of `Baselines.rows`."""


@dataclass(frozen=True)
class Baseline:
    """A rule that a run asked.

    Args:
        baseline: Id of its baseline.
        rule: What the rule's findings are known by.
    """

    baseline: str
    rule: str


class Baselines:
    """The baselines of one lake.

    Args:
        engine: The ledger's database.
    """

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine

    def is_whole(self, baseline: str) -> bool:
        """Whether a baseline covers all batches that were looked at; one that is not there does not.

        Nor does one since whose last run events were mapped once more: their values may be spelled in another way.
        """
        query = sa.select(BASELINES.c.missed, BASELINES.c.asked_at).where(BASELINES.c.id == baseline)
        with self._engine.connect() as connection:
            row = connection.execute(query).first()
            if row is None or row.missed:
                return False
            remapped = sa.and_(BATCHES.c.kind == Kind.MERGE, BATCHES.c.mapper_version.startswith(f"{REMAPPED} "))
            since = sa.select(BATCHES.c.id).where(remapped, BATCHES.c.done_at >= row.asked_at).limit(1)
            return connection.execute(since).first() is None

    def rows(self, baseline: str, about: Sequence[str] | None = None) -> pa.Table:
        """What is known, see `SCHEMA`.

        Args:
            baseline: Its id.
            about: Of which groups; None for all.
        """
        query = sa.select(*(FIRST_SEEN.c[name] for name in _NAMES)).where(FIRST_SEEN.c.baseline == baseline)
        with self._engine.connect() as connection:
            if about is None:
                rows = iter(connection.execution_options(yield_per=_MANY).execute(query))
            else:
                rows = select_in(connection, query, FIRST_SEEN.c.about, about)
            return pa.Table.from_batches(_as_arrow(rows), SCHEMA)

    def learn(self, baseline: str, rows: Iterable[Mapping[str, Any]]) -> bool:
        """Adds values, and moves the first times of known ones to the past; whether there was room for all of them.

        Args:
            baseline: Its id.
            rows: As in `SCHEMA`; what they have besides is left out.
        """
        query = sa.select(sa.func.count()).select_from(FIRST_SEEN).where(FIRST_SEEN.c.baseline == baseline)
        waiting = iter(rows)
        while some := list(islice(waiting, _MANY)):
            with self._engine.begin() as connection:
                if (connection.scalar(query) or 0) >= MOST_ROWS:
                    return False
                statement = insert(connection, FIRST_SEEN)
                new, old = statement.excluded, FIRST_SEEN.c
                statement = statement.on_conflict_do_update(
                    index_elements=[old.baseline, old.about, old.value],
                    set_={name: new[name] for name in _MOVED},
                    where=sa.tuple_(new.first, new.event) < sa.tuple_(old.first, old.event),
                )
                named = [{name: row[name] for name in ("about", "value", *_MOVED)} for row in some]
                connection.execute(statement, [{"baseline": baseline} | row for row in named])
        return True

    def forget(self, baseline: str, pairs: Sequence[tuple[str, str]]) -> None:
        """Takes values out again: a group has had more, and earlier, ones than are kept of one."""
        if pairs:
            with self._engine.begin() as connection:
                statement = sa.delete(FIRST_SEEN).where(
                    FIRST_SEEN.c.baseline == baseline,
                    FIRST_SEEN.c.about == sa.bindparam("of"),
                    FIRST_SEEN.c.value == sa.bindparam("what"),
                )
                connection.execute(statement, [{"of": about, "what": value} for about, value in pairs])


def note(connection: sa.Connection, asked: Sequence[Baseline], batches: int, at: str) -> None:
    """Notes which rules a run asked: their baselines are whole, and those of others lack the batches of this run.

    What an earlier form of a rule had known is forgotten.
    """
    ids = [one.baseline for one in asked]
    if batches:
        missing = sa.update(BASELINES).where(BASELINES.c.id.not_in(ids))
        connection.execute(missing.values(missed=BASELINES.c.missed + batches))
    for one in asked:
        former = sa.select(BASELINES.c.id).where(BASELINES.c.rule == one.rule, BASELINES.c.id != one.baseline)
        connection.execute(sa.delete(FIRST_SEEN).where(FIRST_SEEN.c.baseline.in_(former)))
        connection.execute(
            sa.delete(BASELINES).where(BASELINES.c.rule == one.rule, BASELINES.c.id != one.baseline)
        )
        statement = insert(connection, BASELINES).on_conflict_do_update(
            index_elements=[BASELINES.c.id], set_={"missed": 0, "asked_at": at}
        )
        connection.execute(statement, [{"id": one.baseline, "rule": one.rule, "missed": 0, "asked_at": at}])


def note_findings(connection: sa.Connection, findings: Sequence[tuple[str, str, str, str]]) -> None:
    """Notes which finding reported a value: baseline, about, value and finding of each."""
    if findings:
        statement = sa.update(FIRST_SEEN).where(
            FIRST_SEEN.c.baseline == sa.bindparam("in_baseline"),
            FIRST_SEEN.c.about == sa.bindparam("of"),
            FIRST_SEEN.c.value == sa.bindparam("what"),
        )
        names = ("in_baseline", "of", "what", "by")
        connection.execute(
            statement.values(finding=sa.bindparam("by")), [dict(zip(names, one, strict=True)) for one in findings]
        )


def _as_arrow(rows: Iterator[sa.Row[Any]]) -> Iterator[pa.RecordBatch]:
    many: list[sa.Row[Any]] = []
    for row in rows:
        many.append(row)
        if len(many) >= _MANY:
            yield _batch(many)
            many = []
    if many:
        yield _batch(many)


def _batch(rows: Sequence[sa.Row[Any]]) -> pa.RecordBatch:
    columns = zip(*rows, strict=True)
    arrays = [pa.array(values, field.type) for values, field in zip(columns, SCHEMA, strict=True)]
    return pa.record_batch(arrays, schema=SCHEMA)
