"""What an alert says: of each finding what was found, and the commands to look further.

Values come from logs, so an attacker may have chosen them. In the text they are in quotes, cut, without characters that
steer a terminal, and without what chat programs make links or mentions of. Commands hold ids alone, quoted for a shell.
The JSON form has values as they are.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ocsf_lake.receivers import SEVERITIES, Severity
from ocsf_lake.text import escaped, plural
from ocsf_mappers.shown import redacted

FORM = "1"
"""Version of the JSON form."""
SHOWN_CHARACTERS = 200
"""Of a value, so much is in the text."""
JSON_CHARACTERS = 1_000
"""Of a text of a rule, so much is in the JSON form."""
SHOWN_FINDINGS = 10
"""Of a digest, so many findings are in the text."""
TRACED_EVENTS = 3
"""Events with a command of their own."""

_HARMLESS = str.maketrans({"<": "\u2039", ">": "\u203a", "@": "@\u2060", "`": "'", "*": "\u2217"})
"""Marks that look much the same: angle quotes, an asterisk that makes nothing bold, an @ that nothing is joined to."""
_FIELDS = ("rule", "rule_title", "rule_version", "account", "region", "about", "first", "last", "count", "log")


@dataclass(frozen=True)
class Message:
    """An alert as it is sent.

    Args:
        id: What the receiver knows it by when it comes again.
        title: One line.
        text: The text, some lines.
        severity: The greatest of the findings'.
        form: The JSON form.
    """

    id: str
    title: str
    text: str
    severity: str
    form: dict[str, Any]


def message(alert_id: str, records: Sequence[Mapping[str, Any]], severities: Sequence[Severity], lake: str) -> Message:
    """The alert of some findings.

    Args:
        alert_id: The alert's id.
        records: The findings as they were written, at least one.
        severities: Of each, in the order of the records.
        lake: Root of the lake.
    """
    lake = redacted(lake)
    greatest = _greatest(severities)
    findings = [_form(record, severity, lake) for record, severity in zip(records, severities, strict=True)]
    if len(records) == 1:
        title = f"[{severities[0]}] {harmless(str(records[0]['rule_title']))}"
        lines = _lines(findings[0])
    else:
        title = f"[{greatest}] {plural(len(records), 'new finding')}"
        lines = _digest_lines(findings, lake)
    form = {"form": FORM, "id": alert_id, "lake": lake, "severity": greatest, "title": title, "findings": findings}
    text = "\n".join([*lines, f"Alert {alert_id}"])
    return Message(alert_id, title, text, greatest, form | {"text": text})


def harmless(value: str) -> str:
    """A value of a log as it may stand in a message for people."""
    shown = escaped(value if len(value) <= SHOWN_CHARACTERS else f"{value[:SHOWN_CHARACTERS]}…")
    return shown.translate(_HARMLESS).replace("://", "[:]//")


def _greatest(severities: Sequence[Severity]) -> Severity:
    return max(severities, key=SEVERITIES.index)


def _form(record: Mapping[str, Any], severity: str, lake: str) -> dict[str, Any]:
    form = {name: record[name] for name in _FIELDS if name in record}
    form = {name: _cut(value) for name, value in form.items()}
    form |= {"id": record["id"], "severity": severity, "found": record.get("found")}
    if "description" in record:
        form["description"] = _cut(record["description"])
    form["techniques"] = _techniques(record.get("attacks") or ())
    form["events"] = [_cut(event["uid"]) for event in record.get("events") or ()]
    return form | {"query": query(record["id"], lake), "trace": _traces(form["events"], lake)}


def _techniques(attacks: Sequence[Mapping[str, str]]) -> list[str]:
    """Ids of techniques, of those that have one the sub-technique's; without any, of tactics."""
    names = ("sub_technique_uid", "technique_uid")
    uids = {next((attack[name] for name in names if name in attack), None) for attack in attacks}
    tactics = {attack["tactic_uid"] for attack in attacks if "tactic_uid" in attack}
    return sorted(uid for uid in uids if uid) or sorted(tactics)


def _cut(value: Any) -> Any:
    return f"{value[:JSON_CHARACTERS]}…" if isinstance(value, str) and len(value) > JSON_CHARACTERS else value


def query(finding: str, lake: str) -> str:
    """The command that shows a finding, with the ids of its events."""
    # An id is made of hexadecimal digits; whatever else stood there would end the text of SQL.
    uid = "".join(one for one in finding if one.isalnum())
    sql = f"SELECT * FROM detections WHERE finding_info.uid = '{uid}'"
    return f'ocsf-lake query "{sql}" --format json --lake {shlex.quote(lake)}'


def _traces(uids: Sequence[str], lake: str) -> list[str]:
    """Commands that follow events to their records; an id that nobody could type has none."""
    typed = [uid for uid in uids if escaped(uid) == uid and len(uid) <= JSON_CHARACTERS]
    return [f"ocsf-lake trace --lake {shlex.quote(lake)} -- {shlex.quote(uid)}" for uid in typed[:TRACED_EVENTS]]


def _lines(finding: Mapping[str, Any]) -> list[str]:
    count = plural(int(finding.get("count") or 1), "event")
    lines = [
        f"{count} about \"{harmless(str(finding.get('about', 'unknown')))}\"",
        f"account {harmless(str(finding.get('account', 'unknown')))}, "
        f"region {harmless(str(finding.get('region', 'unknown')))}",
        f"from {harmless(str(finding['first']))} to {harmless(str(finding['last']))}",
    ]
    if finding["techniques"]:
        lines.append(f"ATT&CK {', '.join(map(harmless, finding['techniques']))}")
    if "description" in finding:
        lines.append(harmless(str(finding["description"])))
    lines += ["", "Look further:", finding["query"]]
    # A command holds an id as it is: an id of a log with what a chat program would act on is in the JSON form alone.
    return [*lines, *(trace for trace in finding["trace"] if "@" not in trace and "<" not in trace), ""]


def _digest_lines(findings: Sequence[Mapping[str, Any]], lake: str) -> list[str]:
    lines = []
    for finding in findings[:SHOWN_FINDINGS]:
        about, title = harmless(str(finding.get("about", "unknown"))), harmless(str(finding["rule_title"]))
        lines.append(f"[{finding['severity']}] {title}: \"{about}\", {harmless(str(finding['first']))}")
    if len(findings) > SHOWN_FINDINGS:
        lines.append(f"and {len(findings) - SHOWN_FINDINGS:,} more")
    ids = ", ".join(f"'{''.join(one for one in finding['id'] if one.isalnum())}'" for finding in findings)
    columns = "finding_info.uid, severity, message, unmapped['about'] AS about, count, time_dt"
    sql = f"SELECT {columns} FROM detections WHERE finding_info.uid IN ({ids})"
    return [*lines, "", "Look further:", f'ocsf-lake query "{sql}" --lake {shlex.quote(lake)}', ""]
