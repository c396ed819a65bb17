"""The tables that somebody means by a name that no table has: `cloudtrail`, `dns`, `flow_logs`."""

from __future__ import annotations

import re
from collections.abc import Iterable

from ocsf_mappers import registry
from ocsf_mappers.errors import nearest

_ENDING = re.compile(r"_(logs?|events?|\d+_\d+)$")
_SHORTEST = 3
_MOST_TABLES = 8
"""A name that more tables are called by, such as `aws`, says nothing."""


def no_table(name: str, names: Iterable[str]) -> str:
    """That there is no table of a name, with the tables that are meant by it or spelled nearest.

    Args:
        name: What was asked for.
        names: Those that there are.
    """
    meant = tables_meant(name)
    hint = f"; there is {', '.join(meant)}" if meant else nearest(name.lower(), names)
    return f"there is no table {name!r}{hint}"


def tables_meant(name: str) -> list[str]:
    """Tables of the sources whose name, product, classes or tables are called about so; none where none are, or many.

    Args:
        name: What was asked for.
    """
    asked = _letters(_ENDING.sub("", name.lower()))
    if len(asked) < _SHORTEST:
        return []
    tables: set[str] = set()
    for source in registry.sources().values():
        mapper = source.mapper
        called = {mapper.name, mapper.name.partition("_")[2], mapper.product.name, mapper.product.feature or ""}
        called |= {event.event_class for event in mapper.events} | set(mapper.tables)
        words = [_letters(word) for word in called]
        if any(asked in word or (len(word) > _SHORTEST and word in asked) for word in words):
            tables |= set(mapper.tables)
    return [table for table in registry.tables() if table in tables] if len(tables) <= _MOST_TABLES else []


def _letters(text: str) -> str:
    return re.sub(r"[^a-z0-9]", "", text.lower())
