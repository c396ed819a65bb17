"""Which objects a ledger has, by the beginnings of their URIs and the hours in their names.

The names of AWS's log files have day and time at the same place, see `ocsf_lake.ledger.objects.split`: they are counted
in the database. Objects with other names are given one by one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

import sqlalchemy as sa

from ocsf_lake.ledger.results import State
from ocsf_lake.ledger.tables import BATCHES, LISTINGS, NAMES, NOT_DONE, OBJECT_ROWS, OBJECTS

_ROWS = 10_000
_IN = 500
EXAMPLES = 1_000
"""Of objects that could not be read, so many are named."""

Hour = tuple[int, str]
"""Number of a beginning, and the first two characters of the rest: the hour, where the beginning ends in a day."""


def beginnings(connection: sa.Connection) -> Iterator[tuple[int, str]]:
    """Number and text of every beginning of a URI."""
    query = sa.select(NAMES.c.id, NAMES.c.name).where(NAMES.c.name.contains("/"))
    result = connection.execute(query, execution_options={"stream_results": True, "yield_per": _ROWS})
    for row in result:
        yield row[0], row[1]


def by_hour(connection: sa.Connection, numbers: Sequence[int]) -> Counter[Hour]:
    """How many objects with these beginnings there are of each hour, whatever became of them."""
    row = OBJECT_ROWS.c
    hour = sa.func.substr(row.rest, 1, 2)
    query = sa.select(row.beginning, hour, sa.func.count()).group_by(row.beginning, hour)
    counted: Counter[Hour] = Counter()
    for beginning, text, number in _of(connection, query, numbers):
        counted[beginning, text] += number
    return counted


def not_done(connection: sa.Connection) -> dict[Hour, Counter[str]]:
    """Of objects that are in no finished batch: how many of each hour, by state."""
    row = OBJECT_ROWS.c
    hour = sa.func.substr(row.rest, 1, 2)
    query = (
        sa.select(row.beginning, hour, row.state, sa.func.count())
        .where(row.state != sa.literal_column("'done'"))
        .group_by(row.beginning, hour, row.state)
    )
    counted: dict[Hour, Counter[str]] = {}
    for beginning, text, state, number in connection.execute(query):
        counted.setdefault((beginning, text), Counter())[state] += number
    return counted


def one_by_one(connection: sa.Connection, numbers: Sequence[int]) -> Iterator[tuple[int, str, str, str | None]]:
    """Beginning, rest, state and source of each object with one of these beginnings."""
    row = OBJECT_ROWS.c
    sources = NAMES.alias()
    query = sa.select(row.beginning, row.rest, row.state, sources.c.name).select_from(
        OBJECT_ROWS.outerjoin(sources, sources.c.id == row.source)
    )
    for item in _of(connection, query, numbers):
        yield item[0], item[1], item[2], item[3]


def unread(connection: sa.Connection) -> list[tuple[str, str, str | None]]:
    """URI, ETag and reason of objects that could not be read, some of them."""
    row = OBJECTS.c
    query = sa.select(row.uri, row.etag, row.reason).where(NOT_DONE, row.state == State.FAILED).limit(EXAMPLES)
    return [(uri, etag, reason) for uri, etag, reason in connection.execute(query)]


def looked_at(connection: sa.Connection) -> dict[str, str]:
    """Source -> when a run last looked for its objects or planned some, as far as the ledger knows; empty for any."""
    planned = sa.select(BATCHES.c.source, sa.func.max(BATCHES.c.planned_at)).group_by(BATCHES.c.source)
    listed = sa.select(LISTINGS.c.source, sa.func.max(LISTINGS.c.begun_at)).group_by(LISTINGS.c.source)
    last: dict[str, str] = {}
    for query in (planned, listed):
        for source, at in connection.execute(query):
            last[source] = max(last.get(source, ""), at)
    return last


def _of(connection: sa.Connection, query: sa.Select[tuple[object, ...]], numbers: Iterable[int]) -> Iterator[sa.Row]:  # type: ignore[type-arg]
    """The rows of a query on stored objects with some beginnings."""
    every = sorted(numbers)
    if connection.dialect.name == "postgresql":
        array = sa.literal(every, sa.ARRAY(sa.Integer))
        if every:
            yield from connection.execute(query.where(OBJECT_ROWS.c.beginning == sa.any_(array)))
        return
    for start in range(0, len(every), _IN):
        chosen = OBJECT_ROWS.c.beginning.in_(every[start : start + _IN])
        yield from connection.execute(query.where(chosen))
