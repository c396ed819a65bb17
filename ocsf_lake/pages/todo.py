"""What somebody has to do about a lake, the worst first, each with the command that shows more or mends it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from ocsf_lake.pages import heat
from ocsf_lake.pages.asked import SEVERITIES
from ocsf_lake.pages.commands import offered
from ocsf_lake.pages.facts import Facts
from ocsf_lake.text import plural, size

BAD, WARN, PLAIN = "bad", "warn", "plain"
_ORDER = (BAD, WARN, PLAIN)
SHOWN = 5
"""Of gaps, and of findings, so many are named."""
_GRAVE = ("Fatal", "Critical", "High")
_SMALL_BYTES, _MANY_FILES = 8 << 20, 200
_DAY_MINUTES, _LONG_MINUTES = 1_440, 180


@dataclass(frozen=True)
class Step:
    """One thing to do.

    Args:
        tone: `bad`, `warn` or `plain`.
        kind: A word for it.
        what: What was found.
        why: What that means.
        command: What to run; None where none can be offered.
    """

    tone: str
    kind: str
    what: str
    why: str
    command: str | None = None


def steps(facts: Facts) -> list[Step]:
    """What to do next."""
    finders = (_empty, _failed, _gaps, _findings, _silent, _slow, _refused, _new, _small)
    every = [step for find in finders for step in find(facts)]
    kinds: dict[tuple[str, str], list[Step]] = {}
    for step in every:
        kinds.setdefault((step.tone, step.kind), []).append(step)
    shown = [step for of_kind in kinds.values() for step in _few(of_kind)]
    return sorted(shown, key=lambda step: _ORDER.index(step.tone))


def _few(steps: list[Step]) -> list[Step]:
    """The first of a kind, and how many more there are."""
    if len(steps) <= SHOWN + 1:
        return steps
    last = steps[SHOWN]
    return [*steps[:SHOWN], replace(last, what=f"And {len(steps) - SHOWN:,} more.", why="", command=steps[0].command)]


def verdict(all_steps: list[Step]) -> str:
    """It in one sentence."""
    urgent = [step for step in all_steps if step.tone != PLAIN]
    if not urgent:
        return "Nothing needs you."
    kinds = list(dict.fromkeys(step.kind.lower() for step in urgent))
    needs = "things need" if len(urgent) > 1 else "thing needs"
    return f"{len(urgent)} {needs} you: {', '.join(kinds)}."


def minutes(number: float) -> str:
    """A time as people say it: `12 min`, `5 h`, `3 days`."""
    if abs(number) < _LONG_MINUTES:
        return f"{number:,.0f} min"
    return f"{number / 60:,.0f} h" if abs(number) < 2 * _DAY_MINUTES else f"{number / _DAY_MINUTES:,.0f} days"


def ask(facts: Facts, *words: str) -> str | None:
    """A command about this lake."""
    return offered(*words, "--lake", facts.settings.lake)


def query(facts: Facts, table: str, where: str) -> str | None:
    """The command that shows findings."""
    shown = "time_dt, severity, accountid, finding_info.title AS title"
    return ask(
        facts, "query", f"SELECT {shown} FROM {table} WHERE {where} ORDER BY severity_id DESC, time_dt DESC LIMIT 20"
    )


def _empty(facts: Facts) -> Iterator[Step]:
    if not facts.events:
        days = f"on {facts.days[0]}" if len(facts.days) == 1 else f"from {facts.days[0]} to {facts.days[-1]}"
        why = "What is missing here may still be in the logs: they are not in the lake."
        yield Step(WARN, "No events", f"The lake has no events {days}.", why, ask(facts, "tables"))


def _failed(facts: Facts) -> Iterator[Step]:
    for alarm in facts.alarms:
        if alarm.check == "failed":
            why = "What it holds is not in the lake. The next run tries again; a record that fails goes to quarantine."
            yield Step(BAD, "Failed", f"{alarm.source}: {alarm.message}.", why, ask(facts, "status"))
    if facts.without_source:
        yield Step(
            BAD, "No source", f"Nothing is known of {', '.join(facts.without_source)}.",
            "Its files exist, but their source is not installed: queries leave them out.", ask(facts, "status"),
        )  # fmt: skip
    if facts.replaced:
        yield Step(
            WARN, "Replaced", f"{plural(facts.replaced, 'key')} had different content later.",
            "The lake has the events of both.", ask(facts, "status"),
        )  # fmt: skip
    for note in facts.not_looked:
        if note.startswith(("quarantine:", "table ")):
            yield Step(
                BAD, "Not read", f"{note}.", "Files of the lake are damaged or gone, or cannot be reached.",
                ask(facts, "catalog", "check"),
            )  # fmt: skip


def _gaps(facts: Facts) -> Iterator[Step]:
    gaps = sorted(facts.heat.gaps(), key=lambda gap: (-(gap[4] - gap[3]).days, gap[0].name, gap[1].account))
    for source, row, state, first, last in gaps[:SHOWN]:
        span = f"on {first}" if first == last else f"from {first} to {last}"
        what = f"{source.name} of {row.account}: {state} {span}."
        command = _gap(facts, source.name, row.account, str(first), str(last))
        yield Step(BAD, "Gap", what, f"{heat.TEXTS[state].capitalize()}.", command)
    if len(gaps) > SHOWN:
        command = ask(facts, "coverage", "--from", str(facts.days[0]), "--to", str(facts.days[-1]))
        yield Step(BAD, "Gap", f"And {len(gaps) - SHOWN:,} more gaps.", "The table of coverage has them.", command)


def _gap(facts: Facts, source: str, account: str, first: str, last: str) -> str | None:
    """How to read what may lie there, where it is known where that would be; else how to look at the hours."""
    uri = facts.listed.get(source)
    span = ("--from", first, "--to", last)
    if uri is not None:
        return ask(facts, "backfill", source, uri, *span, "--account", account, "--dry-run")
    return ask(facts, "coverage", source, "--account", account, *span)


def _findings(facts: Facts) -> Iterator[Step]:
    grave = [item for item in facts.findings if item.severity in _GRAVE]
    number = sum(item.number for item in grave)
    if not grave:
        return
    counts = ", ".join(
        f"{facts.severities[name]:,} {name.lower()}" for name in SEVERITIES.values()
        if name in _GRAVE and facts.severities[name]
    )  # fmt: skip
    worst = max(grave, key=lambda item: -_GRAVE.index(item.severity))
    needs = "finding waits" if number == 1 else "findings wait"
    where = f"{worst.where.partition(' AND coalesce')[0]} AND severity_id >= 4"
    tactics = ", ".join(list(dict.fromkeys(item.tactic for item in grave))[:SHOWN])
    yield Step(
        BAD, "Detections", f"{number:,} {needs} for somebody: {counts}.", f"{tactics}.",
        query(facts, worst.table, where),
    )  # fmt: skip


def _silent(facts: Facts) -> Iterator[Step]:
    for alarm in facts.alarms:
        if alarm.check == "freshness":
            why = "Unusual for the last two weeks. Is it still delivered? Does the schedule run?"
            yield Step(BAD, "Silent", f"{alarm.source}: {alarm.message}.", why, ask(facts, "status", alarm.source))


def _slow(facts: Facts) -> Iterator[Step]:
    allowed = facts.settings.alert_lag_minutes
    for row in facts.lags.newest():
        # What a backfill brought of days long over says nothing of how fast the log is now.
        is_recent = (facts.now.date() - row.day).days <= 1
        if is_recent and row.p95 > allowed:
            what = f"{row.source} took {minutes(row.p95)} into the lake on {row.day} (95 of 100 objects)."
            why = f"The limit is {minutes(allowed)}, the setting alert_lag_minutes."
            yield Step(WARN, "Lag", what, why, ask(facts, "status"))


def _refused(facts: Facts) -> Iterator[Step]:
    sources: dict[str, int] = {}
    for reason in facts.refused.reasons:
        sources[reason.source] = sources.get(reason.source, 0) + reason.records
    for source, number in sources.items():
        first = next(reason for reason in facts.refused.reasons if reason.source == source)
        yield Step(
            WARN, "Quarantine", f"{source}: {plural(number, 'record')} in quarantine.",
            f"Most often: {first.reason}. Once the mapper is fixed, `quarantine replay` maps them again, once each.",
            ask(facts, "quarantine", "show", "--source", source, "--limit", "3"),
        )  # fmt: skip


def _new(facts: Facts) -> Iterator[Step]:
    sources: dict[str, int] = {}
    for item in facts.drift:
        sources[item.source] = sources.get(item.source, 0) + 1
    for source, number in sources.items():
        examples = [item for item in facts.drift if item.source == source][:3]
        names = ", ".join(f"{item.name} {item.text[:40]}" if item.text else item.name for item in examples)
        yield Step(
            PLAIN, "Drift", f"{source}: {plural(number, 'name or value', 'names and values')} seen for the first time.",
            f"As {names}. Their values are kept; nothing is lost.", ask(facts, "status", source),
        )  # fmt: skip


def _small(facts: Facts) -> Iterator[Step]:
    for table in facts.stored:
        if table.files >= _MANY_FILES and table.bytes / table.files < _SMALL_BYTES:
            what = f"{table.table} has {table.files:,} files of {size(table.bytes // table.files)} each."
            why = "Fewer, larger files are faster to query and cheaper."
            yield Step(PLAIN, "Small files", what, why, ask(facts, "compact", table.table, "--dry-run"))
