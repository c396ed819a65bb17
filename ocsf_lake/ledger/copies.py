"""Objects that a lake has read twice: under several names (copied, renamed), or with several contents under one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import sqlalchemy as sa

from ocsf_lake.ledger.database import READS, select_in
from ocsf_lake.ledger.results import State
from ocsf_lake.ledger.tables import BATCHES, NAMES, OBJECT_ROWS
from ocsf_lake.text import plural

ALL = (
    "SELECT etag, list(uri) AS uris FROM ledger_objects WHERE state = 'done' AND events > 0 "
    "GROUP BY etag, size HAVING count(*) > 1"
)
"""The query that lists them."""
EXAMPLES = 3
MOST_OBJECTS = 1_000_000
"""In a lake of more objects copies are not looked for: what a run costs must not grow with history."""
_BATCHES = 500
"""So many are asked for at a time."""


@dataclass
class Copies:
    """Objects with the bytes, or the name, of others that have events in the lake, too.

    Args:
        objects: How many have the ETag and the size of an object with another URI.
        examples: Some of them: two URIs each.
        replaced: How many have the URI of an object with another ETag: their content was replaced, or grew.
        replaced_examples: URIs of some of them.
        unknown: Why they were not looked for; "" where they were.
    """

    objects: int = 0
    examples: list[tuple[str, str]] = field(default_factory=list)
    replaced: int = 0
    replaced_examples: list[str] = field(default_factory=list)
    unknown: str = ""

    @property
    def text(self) -> str:
        """What they are, in one line."""
        return (
            f"{plural(self.objects, 'object')} read that the lake has under another name, too, with the same ETag and "
            "size: the events are there twice"
        )

    @property
    def replaced_text(self) -> str:
        """What was replaced, in one line."""
        return (
            f"{plural(self.replaced, 'object')} read again with another ETag under the same name, as of a file that "
            "grew: the lake has the events of both; what is in both is there twice, unless the setting duplicates "
            "says otherwise"
        )


def of(engine: sa.Engine, batch_ids: Sequence[str]) -> Copies:
    """What some batches have read that the lake has under another name, or under the same with another ETag, too.

    Of copies there is no index by ETag: all objects are looked at, which takes half a second of the processor for a
    million.

    Args:
        engine: The ledger's database.
        batch_ids: Ids of the batches.
    """
    copies = Copies()
    row, read = OBJECT_ROWS.c, OBJECT_ROWS.alias("read").c
    contents: list[tuple[bytes, int]] = []
    with engine.connect().execution_options(**{READS: True}) as connection:
        numbers = [number for (number,) in select_in(connection, sa.select(NAMES.c.id), NAMES.c.name, batch_ids)]
        for start in range(0, len(numbers), _BATCHES):
            _add_replaced(connection, numbers[start : start + _BATCHES], copies)
        if (connection.scalar(sa.select(sa.func.sum(BATCHES.c.objects))) or 0) > MOST_OBJECTS:
            return copies
        for start in range(0, len(numbers), _BATCHES):
            some = numbers[start : start + _BATCHES]
            new = sa.func.sum(sa.case((row.batch.in_(some), 1), else_=0))
            query = (
                sa.select(row.etag, row.size, sa.func.count(), new)
                .where(
                    row.etag.in_(sa.select(read.etag).where(read.batch.in_(some), read.events > 0)),
                    row.state == State.DONE,
                    row.events > 0,
                )
                .group_by(row.etag, row.size)
                .having(sa.func.count() > 1, new > 0)
            )
            for etag, size, objects, of_these in connection.execute(query):
                copies.objects += min(int(of_these), int(objects) - 1)
                contents += [(bytes(etag), size)] if len(contents) < EXAMPLES else []
        for etag, size in contents:
            uri = sa.select(NAMES.c.name + row.rest).join_from(OBJECT_ROWS, NAMES, NAMES.c.id == row.beginning)
            same = uri.where(row.etag == etag, row.size == size, row.state == State.DONE, row.events > 0)
            uris = sorted(connection.scalars(same.order_by(row.beginning, row.rest).limit(2)))
            if len(uris) > 1:  # as long as nobody took one back meanwhile
                copies.examples.append((uris[0], uris[1]))
    return copies


def _add_replaced(connection: sa.Connection, batches: Sequence[int], copies: Copies) -> None:
    """Adds what some batches have read of names that the lake has with another ETag; by indexes, in any lake."""
    read, other = OBJECT_ROWS.alias("read").c, OBJECT_ROWS.alias("other")
    is_other = (other.c.beginning == read.beginning) & (other.c.rest == read.rest) & (other.c.etag != read.etag)
    in_lake = (other.c.state == State.DONE) & (other.c.events > 0)
    uris = (
        sa.select(NAMES.c.name + read.rest)
        .join(NAMES, NAMES.c.id == read.beginning)
        .where(read.batch.in_(batches), read.state == State.DONE, read.events > 0)
        .where(sa.exists().where(is_other, in_lake))
        .order_by(read.beginning, read.rest)
    )
    for uri in connection.scalars(uris):
        copies.replaced += 1
        if len(copies.replaced_examples) < EXAMPLES:
            copies.replaced_examples.append(uri)
