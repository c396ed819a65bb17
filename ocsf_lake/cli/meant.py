"""What somebody means by a table or column that there is not: the tables of that log, where OCSF has that member."""

from __future__ import annotations

import re

_NO_TABLE = re.compile(r"Table with name (\S+) does not exist")
_NO_COLUMN = re.compile(r'Referenced (?:column|table) "([^"]+)" not found')
_MOST = 3
"""A name that more sources have, such as `time`, says nothing of which is meant."""
_SHORTEST = 2
"""No longer names, such as `id`, are members of anything."""


def with_hints(lines: list[str]) -> list[str]:
    """DuckDB's message, with what is meant before the names that are spelled nearest.

    Args:
        lines: The message.
    """
    if missing := _NO_TABLE.search(lines[0]):
        from ocsf_lake.query import guesses

        tables = guesses.tables_meant(missing[1])
        return [lines[0], f"there is {', '.join(tables)}"] if tables else lines
    if missing := _NO_COLUMN.search(lines[0]):
        return [lines[0], *_members(missing[1]), *lines[1:]]
    return lines


def _members(name: str) -> list[str]:
    """Of a member of logs, where the events of each source have it."""
    from ocsf_lake.detections import inverse
    from ocsf_mappers import registry

    hints = []
    for source, item in registry.sources().items():
        if (paths := inverse.paths_of(item.mapper, name)) is not None:
            at = f" is in {' or '.join(paths)};" if paths else ":"
            hints.append(f"{name} of {source}{at} `ocsf-lake explain {source}` says where each member goes")
    return hints if len(hints) <= _MOST and len(name) > _SHORTEST else []
