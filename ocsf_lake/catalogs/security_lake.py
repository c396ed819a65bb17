"""Amazon Security Lake's names for our tables, for any region.

Names: https://docs.aws.amazon.com/security-lake/latest/userguide/security-lake-query-examples.html
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator

from ocsf_lake.storage import layout
from ocsf_lake.storage.layout import Partition
from ocsf_mappers import registry, sqltext
from ocsf_mappers.errors import ConfigError
from ocsf_mappers.ocsf import tables

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")

PREFIX = "amazon_security_lake"
GLUE_DATABASE, GLUE_TABLE = f"{PREFIX}_glue_db", f"{PREFIX}_table"
"""Names in the queries that AWS publishes for Security Lake; the region follows, and the table's suffix."""


def names(region: str, suffix: str) -> tuple[str, str]:
    """Database and table of a region, such as `..._db_eu_west_1` and `..._table_eu_west_1_vpc_flow_2_0`."""
    words = region.replace("-", "_")
    return f"{GLUE_DATABASE}_{words}", f"{GLUE_TABLE}_{words}_{suffix}"


def regions(partitions: Callable[[str], Iterable[Partition]]) -> list[str]:
    """The regions that have events in tables of Security Lake, sorted.

    Args:
        partitions: Gives the partitions of a table.
    """
    region_names = {
        partition.values[0]
        for name, table in registry.tables().items()
        if table.security_lake
        for partition in partitions(name)
    }
    return sorted(region_names - {layout.UNKNOWN})


def views(database: str, region_names: Iterable[str]) -> Iterator[str]:
    """Statements for Athena and Hive: a view under Security Lake's name for each table and region.

    A view passes conditions on partitions and times on to the table, so queries read no more than they would there.

    Args:
        database: Database of our tables in Glue.
        region_names: Names of regions.

    Raises:
        ConfigError: A name cannot stand in a statement.
    """
    region_names = list(region_names)
    if wrong := [word for word in (database, *region_names) if not _NAME.fullmatch(word)]:
        raise ConfigError(f"{wrong[0]!r} is not the name of a database or region")
    for region in region_names:
        yield f"CREATE DATABASE IF NOT EXISTS {names(region, '')[0]}"
        for name, table in registry.tables().items():
            if table.security_lake:
                schema, view = names(region, table.security_lake)
                # Names are written bare: Athena wants other quotes in a CREATE than in a SELECT.
                yield (
                    f"CREATE OR REPLACE VIEW {schema}.{view} AS SELECT * FROM {database}.{name} "
                    f"WHERE region = {sqltext.text(region)}"
                )


def table_of(name: str) -> str | None:
    """Our table behind a name in a query, ours or Security Lake's; None where there is none."""
    word = name.lower()
    # Security Lake's names first: looking for others loads every source.
    return shared_table_of(word) or (word if word in registry.tables() else None)


def shared_table_of(word: str) -> str | None:
    """Our table behind one of Security Lake's names, which are those of tables that no single source owns."""
    suffixes = {table.security_lake: ours for ours, table in tables.shared().items() if table.security_lake}
    if word in suffixes:
        return suffixes[word]
    if word.startswith(f"{GLUE_TABLE}_"):
        # The longest suffix: `..._s3_data_2_0` also ends with the shorter names of others.
        matches = [suffix for suffix in suffixes if word.endswith(f"_{suffix}")]
        return suffixes[max(matches, key=len)] if matches else None
    return None


def region_words(name: str, suffix: str) -> str | None:
    """The region in a table's name, `eu_west_1`; None where there is none, as in `vpc_flow_2_0`."""
    words = name.removesuffix(f"_{suffix}")
    return words.removeprefix(f"{GLUE_TABLE}_") if words.startswith(f"{GLUE_TABLE}_") else None
