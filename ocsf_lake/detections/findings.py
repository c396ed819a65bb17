"""Findings: what rules found, as records that the source `lake_detections` maps to OCSF."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from fnmatch import fnmatchcase
from typing import Any

from ocsf_lake.config import Suppression
from ocsf_lake.detections.asked import Asked
from ocsf_lake.detections.attack import attacks
from ocsf_lake.ledger.detections import Finding, as_json
from ocsf_lake.ledger.results import ID_DIGITS
from ocsf_lake.storage import layout

SOURCE = "lake_detections"
"""The source that maps them."""
SCHEMA = "1"
"""Version of the records."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST, _LAST = datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, tzinfo=UTC)


def of_rows(
    rows: Iterable[Mapping[str, Any]], rules: Sequence[Asked], suppressions: Sequence[Suppression], now: datetime, *,
    is_whole: bool,
) -> Iterator[Finding]:  # fmt: skip
    """Findings of rows, see `statements.groups`.

    Args:
        rows: The rows; `rule` is the number of a rule, `identity` what makes the finding's id if not the usual.
        rules: The rules.
        suppressions: Which of them are expected.
        now: When they were found.
        is_whole: Whether the lake has no other events of them.
    """
    for row in rows:
        rule = rules[row["rule"]]
        identity = row.get("identity") or [rule.key, row["accountid"], row["about"], row["width"], row["number"]]
        digest = hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:ID_DIGITS]
        record = {
            "finding_schema": SCHEMA,
            "id": digest,
            "rule": rule.key,
            "rule_title": rule.title,
            "rule_version": rule.version,
            "level": rule.level,
            "description": rule.description,
            "account": _unless_unknown(row["accountid"]),
            "region": _unless_unknown(row["region"]),
            "about": row["about"],
            "first": _text(row["first"]),
            "last": _text(row["last"]),
            "count": row["events"],
            "found": now.isoformat(timespec="milliseconds"),
            "suppressed": _suppressed(suppressions, rule, row, now.date()),
            "log": rule.log,
            "attacks": attacks(rule.tags),
            "events": [{"uid": uid} for uid in row["uids"]],
        }
        given = {name: value for name, value in record.items() if value not in (None, "", [])}
        yield Finding(digest, rule.key, row["first"], row["last"], row["events"], as_json(given), is_whole)


def of_new_values(
    values: Iterable[Mapping[str, Any]], rule: Asked, baseline: str, suppressions: Sequence[Suppression], now: datetime
) -> Iterator[Finding]:
    """Findings of values that were not seen before: one event each, the first; a value is reported once.

    Args:
        values: Rows of `new_values.NewValues`.
        rule: The rule.
        baseline: Id of its baseline.
        suppressions: Which of them are expected.
        now: When they were found.
    """
    for one in values:
        row = {
            "rule": 0, "accountid": one["account"], "region": one["region"], "about": about_of(one), "events": 1,
            "first": one["first"], "last": one["first"], "uids": [one["event"]],
            "identity": [rule.key, one["about"], one["value"]],
        }  # fmt: skip
        (finding,) = of_rows([row], [rule], suppressions, now, is_whole=True)
        yield replace(finding, new_value=(baseline, one["about"], one["value"]))


def about_of(value: Mapping[str, Any]) -> str:
    """Whom or what, and the value that is new of it."""
    return f"{value['about']} | {value['value']}"


def of_text(text: str) -> Finding:
    """The finding of a record that was written, see `of_rows`."""
    record = json.loads(text)
    first, last = (_millis(record[name]) for name in ("first", "last"))
    return Finding(record["id"], record["rule"], first, last, record["count"], text)


def _millis(moment: str) -> int:
    return (datetime.fromisoformat(moment) - _EPOCH) // timedelta(milliseconds=1)


def _unless_unknown(value: str | None) -> str | None:
    return None if value in (None, layout.UNKNOWN) else value


def _text(millis: int) -> str:
    try:
        moment = min(max(_EPOCH + timedelta(milliseconds=millis), _FIRST), _LAST)
    except OverflowError:
        moment = _LAST if millis > 0 else _FIRST
    return moment.isoformat(timespec="milliseconds")


def _suppressed(suppressions: Sequence[Suppression], rule: Asked, row: Mapping[str, Any], today: date) -> str | None:
    """Why a finding is expected; None where it is not, or no longer."""
    for one in suppressions:
        names = (rule.stem, rule.id or "", rule.title)
        if (
            today <= one.until
            and any(fnmatchcase(name, one.rule) for name in names)
            and fnmatchcase(row["about"], one.about)
            and fnmatchcase(row["accountid"] or "", one.account)
        ):
            return f"{one.reason} (until {one.until})"
    return None
