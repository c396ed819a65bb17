"""What a ledger knows by name, asked before anything is read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import sqlalchemy as sa

from ocsf_lake.ledger import database
from ocsf_lake.ledger.tables import OBJECTS


class Seen:
    """Which objects and folders a ledger knows, by their names.

    Args:
        engine: The ledger's database.
    """

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine

    def objects(self, uris: Sequence[str]) -> set[str]:
        """Those of these objects that it knows in any version."""
        with self._engine.connect() as connection:
            rows = database.select_in(connection, sa.select(OBJECTS.c.uri), OBJECTS.c.uri, uris)
            return {uri for (uri,) in rows}

    def folders(self, uris: Iterable[str]) -> set[str]:
        """Those of these folders, URIs that end in a slash, of which it knows an object."""
        with self._engine.connect() as connection:
            if connection.dialect.name == "postgresql":
                return self._folders_of_postgres(connection, uris)
            # The index on names is in the order of bytes, in which a zero comes after a slash.
            query = sa.text("SELECT 1 FROM objects WHERE uri > :first AND uri < :end LIMIT 1")
            return {uri for uri in uris if connection.execute(query, {"first": uri, "end": f"{uri[:-1]}0"}).first()}

    @staticmethod
    def _folders_of_postgres(connection: sa.Connection, uris: Iterable[str]) -> set[str]:
        """One pass for all folders of the same length: the order of its index depends on the database's locale."""
        lengths: dict[int, list[str]] = {}
        for uri in uris:
            lengths.setdefault(len(uri), []).append(uri)
        found: set[str] = set()
        for length, folders in lengths.items():
            begin = sa.func.left(OBJECTS.c.uri, length)
            found |= {uri for (uri,) in database.select_in(connection, sa.select(begin).distinct(), begin, folders)}
        return found
