"""The ledger's tables. Whoever imports one of them has all of them in `METADATA`; missing ones are made on opening."""

from __future__ import annotations

import sqlalchemy as sa

from ocsf_lake.ledger.tables.alerts import ALERT_RECEIVERS, ALERTED_FINDINGS, ALERTS
from ocsf_lake.ledger.tables.base import ABOUT, METADATA
from ocsf_lake.ledger.tables.batches import BATCHES, DUPLICATES, FILES, KEYS, ORPHANS, PURGES, ROUTED, WRITTEN
from ocsf_lake.ledger.tables.compactions import COMPACTING, COMPACTIONS, GENERATIONS, RETIRED
from ocsf_lake.ledger.tables.detections import BASELINES, DETECTED_BATCHES, DETECTION_RUNS, FINDINGS, FIRST_SEEN
from ocsf_lake.ledger.tables.evidence import CHAIN, DIGEST_FAULTS, DIGEST_PROOFS
from ocsf_lake.ledger.tables.exports import EXPORTS, SHIPMENTS, SHIPPED_FILES, SHIPPED_OBJECTS
from ocsf_lake.ledger.tables.mapping_coverage import FAILED_CASTS, MAPPING_COVERAGE, MEMBERS, SCHEMA_DRIFT
from ocsf_lake.ledger.tables.objects import (
    LISTINGS,
    NAMES,
    NOT_DONE,
    OBJECT_HASHES,
    OBJECT_ROWS,
    OBJECTS,
    columns_of_objects,
)
from ocsf_lake.ledger.tables.redactions import REDACTED, REDACTION_BATCHES, REDACTION_POLICIES
from ocsf_lake.ledger.tables.retention import HOLDS, RETAINED, VERSIONS, WRITTEN_OFF
from ocsf_lake.ledger.tables.steps import STEPS, set_kinds

__all__ = [
    "ABOUT",
    "ALERTED_FINDINGS",
    "ALERTS",
    "ALERT_RECEIVERS",
    "BASELINES",
    "BATCHES",
    "CHAIN",
    "COMPACTING",
    "COMPACTIONS",
    "DETECTED_BATCHES",
    "DETECTION_RUNS",
    "DIGEST_FAULTS",
    "DIGEST_PROOFS",
    "DUPLICATES",
    "EXPORTS",
    "FAILED_CASTS",
    "FILES",
    "FINDINGS",
    "FIRST_SEEN",
    "GENERATIONS",
    "HOLDS",
    "KEYS",
    "LISTINGS",
    "MAPPING_COVERAGE",
    "MEMBERS",
    "METADATA",
    "NAMES",
    "NOT_DONE",
    "OBJECTS",
    "OBJECT_HASHES",
    "OBJECT_ROWS",
    "ORPHANS",
    "PURGES",
    "REDACTED",
    "REDACTION_BATCHES",
    "REDACTION_POLICIES",
    "RETAINED",
    "RETIRED",
    "ROUTED",
    "SCHEMA_DRIFT",
    "SHIPMENTS",
    "SHIPPED_FILES",
    "SHIPPED_OBJECTS",
    "SHOWN",
    "STEPS",
    "VERSIONS",
    "WRITTEN",
    "WRITTEN_OFF",
    "set_kinds",
]

SHOWN: dict[str, sa.Table] = {
    OBJECTS.name: sa.Table(OBJECTS.name, sa.MetaData(), *columns_of_objects()),
    **{
        name: table
        for name, table in METADATA.tables.items()
        if table not in (NAMES, OBJECT_ROWS, OBJECT_HASHES, CHAIN, WRITTEN)
    },
}
"""Tables of a ledger by the names that queries use; `objects` is a view, and the tables behind it are not here. Nor are
the records of open batches, and the chain, which reading commands have to do without in a ledger that no writer has
opened since there is one."""
