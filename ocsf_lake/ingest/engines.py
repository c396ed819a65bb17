"""Engines, kept: one costs from a third of a second to two seconds of CPU until it has mapped once.

An engine is for one thread, and what it has mapped before changes nothing of what it maps; so each thread keeps its own
for whatever it does next, be it a batch, a replay or a lost file.
"""

from __future__ import annotations

import threading
from functools import cache

from ocsf_lake.config import Settings
from ocsf_lake.ingest.routing import Engines
from ocsf_lake.inputs import fields
from ocsf_mappers import Engine, Mapper

_THREADS = threading.local()


def engine(mapper: Mapper, version: str) -> Engine:
    """The calling thread's engine of a mapper for an OCSF version."""
    kept: dict[tuple[Mapper, str], Engine] = _THREADS.__dict__.setdefault("engines", {})
    if (found := kept.get((mapper, version))) is None:
        # Of the same source, as settings make mappers anew, one other stays.
        for key in [key for key in kept if (key[0].name, key[1]) == (mapper.name, version)][:-1]:
            del kept[key]
        found = kept[mapper, version] = Engine(mapper, version)
    return found


def of_settings(version: str, settings: Settings) -> Engines:
    """Gives the engines of sources for an OCSF version, their mappers as the settings make them."""
    mapper = cache(lambda name: fields.mapper(name, settings))
    return lambda name: engine(mapper(name), version)
