"""What was not seen before: events of a lake held against a baseline in the ledger. Nothing is written.

A baseline that lacks batches, as of a rule that is new or of a ledger that was made again, is made of all of the lake.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from ocsf_lake.config import Settings
from ocsf_lake.detections import connections, failing, findings, statements
from ocsf_lake.detections.asked import Asked, Unseen
from ocsf_lake.detections.connections import Connected
from ocsf_lake.detections.statements import Span
from ocsf_lake.lake import Lake, opened
from ocsf_lake.ledger.baselines import MOST_ROWS, SCHEMA, Baselines
from ocsf_lake.ledger.detections import Detections
from ocsf_lake.ledger.files import Chosen as FileChoice
from ocsf_lake.ledger.files import LakeFile
from ocsf_lake.query import query, shown
from ocsf_mappers import duck

_RECORDED, _HISTORY, _NEW = 0, 1, 2
"""Where rows come from: the ledger, the lake for a baseline that lacks something, what is looked at."""
_CHUNK = 2_048
MOST_VALUES = 1_000
"""Of one group so many values are known, the earliest; later ones are not reported."""


@dataclass(frozen=True)
class NewValues:
    """The values that are new for a rule.

    Args:
        baseline: Id of the rule's baseline.
        judged: A row for each value that is new, or has to be noted: columns of `ledger.baselines.SCHEMA`, and
            whether it `is_new`, `is_learnt` (the ledger has it not, or with a later time), `is_over` (its group has
            too many), `is_undone` (a finding reported it, and late events show that it was not new).
    """

    baseline: str
    judged: pa.Table

    def rows(self, which: str) -> Iterator[dict[str, Any]]:
        """The rows for which a column holds."""
        for batch in self.judged.filter(pc.field(which)).to_batches(max_chunksize=_CHUNK):
            yield from batch.to_pylist()

    def learn(self, baselines: Baselines) -> bool:
        """Notes what the ledger did not have; whether there was room for all of it."""
        learnt = baselines.learn(self.baseline, self.rows("is_learnt"))
        baselines.forget(self.baseline, [(one["about"], one["value"]) for one in self.rows("is_over")])
        return learnt

    @property
    def count(self) -> int:
        """How many values are new."""
        return int(pc.sum(self.judged["is_new"].cast(pa.int64())).as_py() or 0)


def batch_files(batches: Sequence[str]) -> shown.Chosen:
    """What a connection shows of some batches alone."""
    return lambda lake, tables: Detections(lake.ledger.engine).files_of(batches, tables)


def look(
    settings: Settings, rules: Sequence[Asked], span: Span, files: shown.Chosen | None, reasons: dict[int, str]
) -> Iterator[tuple[int, NewValues]]:
    """Looks for what was not seen before, for one rule after the other.

    Args:
        settings: The lake.
        rules: All rules; those that look for nothing unseen are passed over.
        span: Of which time new values count, by their first event; where there are `files`, not looked at.
        files: What is new; None to look at all that the lake has.
        reasons: Number of a rule -> why it cannot be asked; added to.

    Returns:
        The number of each rule, and what there is of it.

    Raises:
        ReadError: A file of the lake is gone or damaged.
    """
    asked = {n: rule.unseen for n, rule in enumerate(rules) if rule.unseen is not None and n not in reasons}
    if not asked:
        return
    with opened(settings, reading=True) as lake, ExitStack() as stack:
        new_files = files or batch_files(Detections(lake.ledger.engine).waiting(findings.SOURCE))
        baselines = Baselines(lake.ledger.engine)
        whole = {number for number, unseen in asked.items() if baselines.is_whole(unseen.baseline)}
        # Of history, and of what is new beside it; or of all at once, where there is nothing that only the new decides.
        at_once = {number for number in asked if files is None and (number not in whole or span == Span())}
        lacking = asked.keys() - at_once - whole
        of_all = _Sightings(settings, {number: rules[number] for number in at_once}, None, stack)
        of_new = _Sightings(settings, {n: rules[n] for n in asked if n not in at_once}, new_files, stack)
        of_old = _Sightings(settings, {number: rules[number] for number in lacking}, _besides(new_files), stack)
        judge = stack.enter_context(closing(duck.connect()))
        for number, unseen in asked.items():
            try:
                new = (of_all if number in at_once else of_new).of(number)
                history = of_old.of(number) if number in lacking else None
                of_some = new["about"].unique().to_pylist() if files is not None and number in whole else None
                recorded = baselines.rows(unseen.baseline, of_some)
                judged = _judged(judge, unseen, recorded, history, new, None if files else span)
                yield number, NewValues(unseen.baseline, judged)
            except failing.ERRORS as error:
                reasons[number] = failing.Failed(str(error).split("\n")[0])


def _besides(chosen: shown.Chosen) -> shown.Chosen:
    """The files of a lake that are not among some."""

    def files(lake: Lake, tables: Mapping[str, FileChoice | None]) -> dict[str, list[LakeFile]]:
        some = {table: {file.path for file in files} for table, files in chosen(lake, tables).items()}
        every = lake.files.of(tables)
        return {table: [file for file in of_table if file.path not in some[table]] for table, of_table in every.items()}

    return files


class _Sightings:
    """When values were first there in some files; of all rules in one scan, once one is asked for.

    Args:
        settings: The lake.
        rules: The rules by number.
        files: Which files; None for all.
        stack: Holds what is opened.
    """

    def __init__(
        self, settings: Settings, rules: Mapping[int, Asked], files: shown.Chosen | None, stack: ExitStack
    ) -> None:
        self._settings = settings
        self._rules = rules
        self._files = files
        self._stack = stack

    def of(self, number: int) -> pa.Table:
        """Those of one rule, see `statements.new_values`."""
        if not any(relation.needed(self._lake.filled) for relation in self._rules[number].relations):
            return SCHEMA.empty_table()
        if not self._is_together:
            self._keep([number])
        return query.run(self._lake.connection, statements.new_values(number))

    @cached_property
    def _is_together(self) -> bool:
        try:
            self._keep(self._rules)
        except failing.ERRORS:  # asked alone, each has an error of its own
            return False
        return True

    def _keep(self, numbers: Iterable[int]) -> None:
        unseen = {number: one for number in numbers if (one := self._rules[number].unseen)}
        sql = statements.collecting_new_values(unseen, MOST_VALUES, MOST_ROWS, self._lake.filled)
        query.collect(self._lake.connection, [sql])

    @cached_property
    def _lake(self) -> Connected:
        connected = connections.connected(self._settings, list(self._rules.values()), Span(), self._files)
        return self._stack.enter_context(connected)


def _judged(
    connection: duckdb.DuckDBPyConnection, unseen: Unseen, recorded: pa.Table, history: pa.Table | None, new: pa.Table,
    span: Span | None,
) -> pa.Table:  # fmt: skip
    given = {_RECORDED: recorded, _NEW: new} | ({} if history is None else {_HISTORY: history})
    names = ", ".join(SCHEMA.names)
    for number, table in given.items():
        connection.register(f"given{number}", table)
    try:
        arms = [f"SELECT {names}, {number} AS origin FROM given{number}" for number in given]
        sql = _judging(" UNION ALL ".join(arms), unseen.learning_ms, span)
        return connection.sql(sql).to_arrow_table()
    finally:
        for number in given:
            connection.unregister(f"given{number}")


def _judging(rows: str, learning_ms: int, span: Span | None) -> str:
    """SQL of `NewValues.judged`; without a span, of what became new by the rows that are looked at.

    That is a value whose first event is among them, or whose group's first event is: then it began to be long ago.
    """
    key = "struct_pack(first := first, event := event)"
    earliest = f"min({key})"
    values = (
        f"SELECT about, value, {earliest} AS key, max(finding) AS finding, "
        f"arg_min(struct_pack(account := account, region := region), {key}) AS place, "
        f"coalesce(min({key}) FILTER (origin = {_NEW}) = {earliest}, false) AS is_fresh, "
        f"coalesce(min({key}) FILTER (origin = {_RECORDED}) <> {earliest}, true) AS is_other, "
        f"bool_or(origin = {_RECORDED}) AS is_known FROM ({rows}) GROUP BY about, value"
    )
    ranked = (
        "SELECT *, key.first AS first, min(key.first) OVER (PARTITION BY about) AS start, "
        f"row_number() OVER (PARTITION BY about ORDER BY key.first, value) > {MOST_VALUES} AS is_beyond "
        f"FROM ({values})"
    )
    is_new = f"NOT is_beyond AND first - start >= {learning_ms}"
    asked = "is_fresh OR bool_or(is_fresh AND first = start) OVER (PARTITION BY about)"
    if span is not None:
        asked = span.condition.replace("time ", "first ")
    judged = (
        f"SELECT about, value, first, key.event AS event, place.account AS account, place.region AS region, finding, "
        f"({is_new}) AND ({asked}) AS is_new, is_other AND NOT is_beyond AS is_learnt, "
        "is_known AND is_beyond AND finding IS NULL AS is_over, "
        f"finding IS NOT NULL AND is_fresh AND NOT ({is_new}) AS is_undone FROM ({ranked})"
    )
    return (
        f"SELECT * FROM ({judged}) WHERE is_new OR is_learnt OR is_over OR is_undone ORDER BY first, about, value"
    )
