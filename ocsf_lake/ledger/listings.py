"""When folders were last listed without a gap, and how many calls that took."""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, datetime

import sqlalchemy as sa

from ocsf_lake.ledger.database import upsert
from ocsf_lake.ledger.results import State
from ocsf_lake.ledger.tables import LISTINGS, NOT_DONE, OBJECTS


def remembered(engine: sa.Engine, uri: str, source: str | None, mapper: str) -> dict[str, datetime]:
    """What was listed without a gap -> when the last such listing began."""
    row = LISTINGS.c
    query = sa.select(row.what, row.begun_at).where(row.uri == uri, row.source == (source or ""), row.mapper == mapper)
    with engine.connect() as connection:
        return {what: datetime.fromisoformat(at) for what, at in connection.execute(query)}


def remember(
    engine: sa.Engine, uris: Collection[str], source: str | None, what: Collection[str], mapper: str, begun: datetime,
    calls: int = 0,
) -> None:  # fmt: skip
    """Notes what was listed without a gap.

    Args:
        engine: The ledger's.
        uris: Folders.
        source: Name of the source; None for any.
        what: What was listed of each.
        mapper: Version of the source's mapper.
        begun: When that began.
        calls: How many calls the whole takes.
    """
    at = begun.astimezone(UTC).isoformat(timespec="seconds")
    row = {"source": source or "", "mapper": mapper, "begun_at": at, "calls": calls}
    if rows := [{**row, "uri": uri, "what": name} for uri in sorted(uris) for name in what]:
        with engine.begin() as connection:
            upsert(connection, LISTINGS, ("uri", "source", "what"), rows)


def calls(engine: sa.Engine, uri: str, source: str | None, what: str) -> int:
    """How many calls a listing took."""
    row = LISTINGS.c
    query = sa.select(row.calls).where(row.uri == uri, row.source == (source or ""), row.what == what)
    with engine.connect() as connection:
        return connection.scalar(query) or 0


def unfinished(engine: sa.Engine, uri: str, most: int) -> list[str]:
    """Folders below a URI that have objects which are planned and not finished; no more than `most` and one."""
    over = (State.SET_ASIDE, State.REPLACED)
    query = sa.select(OBJECTS.c.uri).where(
        NOT_DONE, OBJECTS.c.state.not_in(over), OBJECTS.c.uri.startswith(uri, autoescape=True)
    )
    folders: set[str] = set()
    with engine.connect() as connection:
        for (object_uri,) in connection.execute(query):
            folders.add(object_uri.rpartition("/")[0])
            if len(folders) > most:
                break
    return sorted(folders)
