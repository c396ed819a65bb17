"""What a page asks of the lake's files in SQL: why records are in quarantine, and what was detected."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date

import duckdb
import pyarrow as pa

from ocsf_lake.catalogs.definitions import definition
from ocsf_lake.config import Settings
from ocsf_lake.query import query
from ocsf_mappers import registry, sqltext
from ocsf_mappers.errors import OcsfMappersError

REASONS, FINDINGS = 30, 40
"""So many rows of each are shown."""
EXAMPLE_CHARACTERS = 200
DETECTION = 2004
"""Detection Finding."""
SEVERITIES = {6: "Fatal", 5: "Critical", 4: "High", 3: "Medium", 2: "Low", 1: "Informational"}
"""OCSF's, the worst first; all others are `Unknown`."""
NO_TACTIC = "none named"

_QUARANTINE = f"""
    SELECT source, reason, count(*)::BIGINT AS records, count(DISTINCT source_object)::BIGINT AS objects,
           first(raw[:{EXAMPLE_CHARACTERS}] ORDER BY source_object, source_record) AS example,
           count(*) OVER ()::BIGINT AS groups, (sum(count(*)) OVER ())::BIGINT AS total
    FROM quarantine WHERE state = 'open' GROUP BY source, reason ORDER BY records DESC, source, reason LIMIT {REASONS}
"""


@dataclass(frozen=True)
class Reason:
    """Why records of a source are in quarantine.

    Args:
        source: Its name.
        reason: Why.
        records: How many.
        objects: In so many objects.
        example: The beginning of one of them.
    """

    source: str
    reason: str
    records: int
    objects: int
    example: str


@dataclass(frozen=True)
class Refused:
    """What is in quarantine: the most frequent reasons, the number of reasons, and of records."""

    reasons: tuple[Reason, ...] = ()
    number: int = 0
    records: int = 0


@dataclass(frozen=True)
class FindingCount:
    """Findings of one table and tactic.

    Args:
        table: The table, or the view of its newest rows.
        tactic: ATT&CK's tactic, or what the finding's type begins with.
        severity: OCSF's caption.
        number: How many.
        where: The condition that selects them, whatever their severity.
    """

    table: str
    tactic: str
    severity: str
    number: int
    where: str


def refused(settings: Settings) -> Refused:
    """What is in quarantine, whatever its day.

    Raises:
        ReadError: A file of quarantine is gone or damaged.
    """
    with query.connected(settings, _QUARANTINE) as connection:
        rows = query.fetched(connection, _QUARANTINE)
    if not rows:
        return Refused()
    return Refused(tuple(Reason(*row[:5]) for row in rows), rows[0][5], rows[0][6])


def findings(
    settings: Settings, tables: set[str], first: date, last: date
) -> tuple[list[FindingCount], dict[str, str]]:
    """Findings of these days, and the tables that could not be asked, each with the reason.

    An updated finding counts once, where the table has a view of the newest.

    Args:
        settings: The lake.
        tables: Tables that have files.
        first: First event day.
        last: Last one.
    """
    rows: list[FindingCount] = []
    failed: dict[str, str] = {}
    for name in sorted(tables & registry.tables().keys()):
        try:
            rows += _of_table(settings, name, first, last)
        except (OcsfMappersError, duckdb.Error) as error:
            failed[name] = str(error).splitlines()[0]
    return rows, failed


def _of_table(settings: Settings, name: str, first: date, last: date) -> Iterator[FindingCount]:
    schema = definition(name).schema
    if not {"class_uid", "severity_id", "finding_info"} <= set(schema.names):
        return
    latest = registry.table(name).latest
    shown = latest.view if latest else name
    tactic = _tactic(schema)
    where = f"class_uid = {DETECTION} AND eventday BETWEEN '{first:%Y%m%d}' AND '{last:%Y%m%d}'"
    sql = (
        f"SELECT {tactic} AS tactic, coalesce(severity_id, 0) AS severity, count(*) AS number "
        f"FROM {sqltext.name(shown)} WHERE {where} GROUP BY ALL ORDER BY number DESC, tactic LIMIT 1000"
    )
    with query.connected(settings, sql) as connection:
        rows = query.fetched(connection, sql)
    for text, severity, number in rows:
        condition = f"{where} AND {tactic} = {sqltext.text(text)}"
        yield FindingCount(shown, text, SEVERITIES.get(severity, "Unknown"), number, condition)


def _tactic(schema: pa.Schema) -> str:
    """The first tactic of a finding, else what its first type begins with (`Recon` of `Recon:EC2/Portscan`)."""
    ways: list[str] = []
    info = schema.field("finding_info").type
    if info.get_field_index("attacks") >= 0:
        ways += _of_attacks("finding_info.attacks", info.field("attacks").type.value_type)
    if "attacks" in schema.names:
        ways += _of_attacks("attacks", schema.field("attacks").type.value_type)
    if info.get_field_index("types") >= 0:
        ways.append("nullif(split_part(finding_info.types[1], ':', 1), '')")
    return f"coalesce({', '.join([*ways, sqltext.text(NO_TACTIC)])})"


def _of_attacks(path: str, attack: pa.StructType) -> Iterator[str]:
    for member, steps in (("tactic", "tactic.name"), ("tactics", "tactics[1].name")):
        if attack.get_field_index(member) >= 0:
            yield f"{path}[1].{steps}"
