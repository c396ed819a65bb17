"""What a ledger knows by name, asked before anything is read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import sqlalchemy as sa

from ocsf_lake.ledger import objects
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
            return {uri for (uri,) in objects.select(connection, sa.select(OBJECTS.c.uri), uris)}

    def folders(self, uris: Iterable[str]) -> set[str]:
        """Those of these folders, URIs that end in a slash, of which it knows an object."""
        with self._engine.connect() as connection:
            return {uri for uri in uris if objects.beginning_with(connection, uri)}
