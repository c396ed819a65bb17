"""The numbers of a page's sections, in words and rows."""

from __future__ import annotations

from importlib.util import find_spec
from statistics import median
from typing import Any

from ocsf_lake.config import Prices
from ocsf_lake.ledger.reported import Stored
from ocsf_lake.pages import todo
from ocsf_lake.pages.asked import SEVERITIES
from ocsf_lake.pages.facts import Facts
from ocsf_lake.storage import layout
from ocsf_lake.text import plural, size

KINDS = {
    "member": "undeclared member", "value": "value not listed by the mapper",
    "enum_text": "text unknown to OCSF, now Other",
}  # fmt: skip
"""Kind of drift -> what it is."""
_HOUR, _MONTH_DAYS, _GB = 3_600, 30, 1 << 30
_SHOWN_FINDINGS = 40


def dollars(amount: float) -> str:
    """`1.20`, `< 0.01`."""
    return f"{amount:,.2f}" if amount >= 0.005 or amount == 0 else "< 0.01"


def headline(facts: Facts) -> list[dict[str, str]]:
    """Six facts, each a link to its section."""
    share, missing, unknown = facts.heat.share, facts.heat.missing, facts.heat.unknown
    newest = [row for row in facts.lags.newest() if (facts.now.date() - row.day).days <= 1]
    slowest = max(newest, key=lambda row: row.p95, default=None)
    slow = slowest is not None and slowest.p95 > facts.settings.alert_lag_minutes
    grave = sum(facts.severities[name] for name in ("Fatal", "Critical", "High"))
    total = sum(row["usd"] for row in cost(facts))
    covered = "not judged" if share is None else f"{100 * share:.1f} %"
    return [
        _fact("coverage", covered, "of known days without gaps" if unknown else "of days without gaps",
              plural(missing, "day missing", "days missing") + (f", {unknown:,} unknown" if unknown else ""),
              "bad" if missing else "plain" if share is None or unknown else "good"),
        _fact("lag", todo.minutes(slowest.p95) if slowest else "no new logs", "lag now, 95 of 100",
              slowest.source if slowest else "none since yesterday",
              "warn" if slow else "good" if slowest else "plain"),
        _fact("volume", _short(facts.events), "events", f"in {plural(len(facts.days), 'day')}", "plain"),
        _fact("quarantine", f"{facts.refused.records:,}", "in quarantine", plural(facts.refused.number, "reason"),
              "warn" if facts.refused.records else "good"),
        _fact("detections", f"{grave:,}", "critical or high", f"of {plural(facts.severities.total(), 'finding')}",
              "bad" if grave else "good"),
        _fact("cost", f"$ {dollars(total)}", "by list prices", f"in {plural(len(facts.days), 'day')}", "plain"),
    ]  # fmt: skip


def _short(number: int) -> str:
    """`220.6 M`: a number that fits its box."""
    return f"{number / 1e6:,.1f} M" if number >= 10**7 else f"{number:,}"


def _fact(to: str, value: str, name: str, note: str, tone: str) -> dict[str, str]:
    return {"to": to, "value": value, "name": name, "note": note, "tone": tone}


def context(facts: Facts) -> dict[str, Any]:
    """What the template is given beside that."""
    lag_sources = sorted({row.source for row in facts.lags.rows})
    lags = {(row.day, row.source): todo.minutes(row.p95) for row in facts.lags.rows}
    lag_days = sorted({row.day for row in facts.lags.rows}, reverse=True)
    days = [day for day in reversed(facts.days) if any((day, name) in facts.volume for name in facts.classes)]
    return {
        "allowed": todo.minutes(facts.settings.alert_lag_minutes),
        "lag_sources": lag_sources,
        "lags": [(day, [lags.get((day, name), "") for name in lag_sources]) for day in lag_days],
        "classes": facts.classes,
        "volumes": [(day, [facts.volume.get((day, name), 0) for name in facts.classes]) for day in days],
        "volume_text": _volume_text(facts),
        "severities": [name for name in (*SEVERITIES.values(), "Unknown") if facts.severities[name]],
        "findings": _findings(facts),
        "findings_text": _findings_text(facts),
        "rules": _rules(facts),
        "cost": cost(facts),
        "on_s3": facts.settings.lake.startswith("s3://"),
        "price_names": ", ".join(Prices.model_fields),
        "stored": [_stored(facts, item) for item in facts.stored],
        "kept_text": _kept_text(facts),
        "commands": _commands(facts),
    }


def _volume_text(facts: Facts) -> str:
    if not facts.volume:
        return "No events on these days."
    totals = {day: sum(facts.volume.get((day, name), 0) for name in facts.classes) for day in facts.days}
    usual = median(totals.values())
    top = max(totals, key=lambda day: totals[day])
    text = f"{facts.events:,} events of {plural(len(facts.classes), 'class', 'classes')}."
    return f"{text} Most on {top}: {totals[top]:,}, {totals[top] / usual:.1f} times the median day." if usual else text


def _findings_text(facts: Facts) -> str:
    number = facts.severities.total()
    if not number:
        return "The tables of findings have none on these days."
    return (
        f"{plural(number, 'finding')} in the tables of findings, by the first ATT&CK tactic, or by the first part of "
        "the finding's type. An updated finding counts once."
    )


def _findings(facts: Facts) -> list[dict[str, Any]]:
    names = [name for name in (*SEVERITIES.values(), "Unknown") if facts.severities[name]]
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for item in facts.findings:
        row = rows.setdefault(
            (item.table, item.tactic),
            {"table": item.table, "tactic": item.tactic, "numbers": [0] * len(names),
             "command": todo.query(facts, item.table, item.where)},
        )  # fmt: skip
        row["numbers"][names.index(item.severity)] += item.number
    return sorted(rows.values(), key=lambda row: row["numbers"], reverse=True)[:_SHOWN_FINDINGS]


def _rules(facts: Facts) -> list[str]:
    """Whether rules of one's own are asked of the lake."""
    if find_spec("ocsf_lake.detections") is None:
        return []
    if not getattr(facts.settings, "rules", ()):
        return ["Rules of your own are not used: the setting rules names no folder."]
    return ["Findings of your own rules are in the table detections."]


# -- cost -------------------------------------------------------------------------------------------------------------
def cost(facts: Facts) -> list[dict[str, Any]]:
    """What was spent in these days, by the prices in the settings."""
    prices = facts.settings.prices
    spent = facts.spent.values()
    objects, files = sum(item.objects for item in spent), sum(item.files + item.batches for item in spent)
    seconds = sum(item.seconds for item in spent)
    read, written = sum(item.bytes_in for item in spent), sum(item.bytes_out for item in spent)
    stored = sum(item.bytes for item in facts.stored) + facts.aside_bytes
    days = len(facts.days)
    return [
        {"what": "Objects read", "amount": f"{objects:,} GET, {size(read)}",
         "price": f"${prices.get_per_1000:g} a thousand GET", "usd": objects / 1000 * prices.get_per_1000},
        {"what": "Files written", "amount": f"{files:,} PUT, {size(written)}",
         "price": f"${prices.put_per_1000:g} a thousand PUT", "usd": files / 1000 * prices.put_per_1000},
        {"what": "Work", "amount": f"{seconds / _HOUR:,.2f} hours",
         "price": f"${prices.vcpu_hour:g} a vCPU hour", "usd": seconds / _HOUR * prices.vcpu_hour},
        {"what": "Stored", "amount": f"{size(stored)}, {plural(days, 'day')}",
         "price": f"${prices.gb_month:g} a GB month", "usd": stored / _GB * prices.gb_month * days / _MONTH_DAYS},
    ]  # fmt: skip


# -- storage ----------------------------------------------------------------------------------------------------------
def _stored(facts: Facts, item: Stored) -> dict[str, Any]:
    days = ""
    if item.first_day and item.last_day:
        first, last = (f"{day[:4]}-{day[4:6]}-{day[6:]}" for day in (item.first_day, item.last_day))
        days = first if first == last else f"{first} to {last}"
    return {**vars(item), "days": days, "kept": _kept(facts, item.table)}


def _kept(facts: Facts, table: str) -> str:
    """How long a table is kept, by the settings; without rules, for ever."""
    rules: Any = getattr(facts.settings, "retention", None)
    if rules is None:
        return "for ever"
    of = getattr(rules, "quarantine", None) if table == layout.QUARANTINE else rules
    keep = getattr(of, "tables", {}).get(table) or getattr(of, "default", None)
    more = " (sources or accounts differ)" if getattr(of, "sources", None) or getattr(of, "accounts", None) else ""
    return f"{keep or 'for ever'}{more}"


def _kept_text(facts: Facts) -> str:
    if find_spec("ocsf_lake.upkeep.retain") is None:
        return "Retention is not used: nothing is removed by age."
    rules: Any = getattr(facts.settings, "retention", None)
    is_set = bool(rules is not None and rules.is_set)
    text = "Rules of retention are in the settings." if is_set else "Retention is not used: no rule is in the settings."
    return f"{text} {plural(facts.holds, 'legal hold')} in force." if facts.holds else text


# -- commands ---------------------------------------------------------------------------------------------------------
def _commands(facts: Facts) -> dict[str, Any]:
    """What each section offers."""
    first, last = f"{facts.days[0]}", f"{facts.days[-1]}"
    sources = list(dict.fromkeys(item.source for item in facts.drift))
    volume = "SELECT source, day, sum(events)::BIGINT AS events FROM ledger_meter GROUP BY ALL ORDER BY day DESC"
    retain = find_spec("ocsf_lake.cli.retain") is not None
    return {
        "coverage": todo.ask(facts, "coverage", "--from", first, "--to", last) if facts.heat.judged
        else todo.ask(facts, "status"),
        "lag": todo.ask(facts, "status", "--fail-on", "freshness"),
        "volume": todo.ask(facts, "query", volume),
        "quarantine": todo.ask(facts, "quarantine", "list"),
        "replay": todo.ask(facts, "quarantine", "replay"),
        "drift": [todo.ask(facts, "status", name) for name in sources[:3]],
        "storage": [
            todo.ask(facts, "compact", "--dry-run"), *([todo.ask(facts, "retain", "--dry-run")] if retain else []),
        ],
    }  # fmt: skip
