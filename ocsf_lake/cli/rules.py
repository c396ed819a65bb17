"""`ocsf-lake rules`: the Sigma rules that there are, whether they can match, and what they look at."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ocsf_lake.cli import output, query, terminal
from ocsf_lake.cli.options import JsonOption, LakeOption, settings

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ocsf_lake.config import Settings
    from ocsf_lake.detections.check import Checked, Names, Problem
    from ocsf_lake.detections.rules import Rule

LIST_EXAMPLE = "ocsf-lake rules list --rules pack"
CHECK_EXAMPLE = "ocsf-lake rules check sample_logs/rules --lake demo_lake"
EXPLAIN_EXAMPLE = "ocsf-lake rules explain root_used --rules pack"

MOST_ROWS = 3
"""A warning that more rules have is shown once, with so many of them."""

app = typer.Typer(
    help="Inspect Sigma rules: what they read, and whether they can match.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Rules = Annotated[
    list[Path] | None,
    typer.Option(
        "--rules", metavar="DIR",
        help="Folder with Sigma rules, or pack for the built-in ones; repeatable. Default: the setting rules, else "
        "pack.",
    ),
]  # fmt: skip
Paths = Annotated[
    list[Path] | None,
    typer.Argument(
        metavar="[PATH]...", help="Files and folders with rules (.yml) and saved queries (.sql); if given, only these.",
    ),
]  # fmt: skip
Own = Annotated[
    list[str] | None,
    typer.Option(
        "--with", metavar="NAME=FILE", show_default=False,
        help="Your own table that queries join, as in `ocsf-lake query`; repeatable.",
    ),
]  # fmt: skip
Name = Annotated[
    str, typer.Argument(metavar="RULE", help="A rule's file name without extension, its id, or its title.")
]


def list_rules(rules: Rules = None, as_json: JsonOption = False) -> None:
    """List rules: level, log, what they report of events, and title.

    Exits with 1 if one of them cannot be used.
    """
    loaded = _loaded(settings(), rules)
    rows = [
        {
            "rule": rule.stem, "id": rule.id, "level": rule.level, "log": _log(rule), "kind": rule.kind,
            "title": rule.title,
            "tags": list(rule.tags), "reason": rule.reason,
        }
        for rule in loaded if not rule.is_silent
    ]  # fmt: skip
    if as_json:
        output.print_json(rows)
    else:
        shown = ("rule", "level", "log", "kind", "title")
        output.print_table(shown, [tuple(row[name] for name in shown) for row in rows])
    for rule in loaded:
        if rule.reason:
            terminal.say(f"{rule.path}: cannot be used: {rule.reason}")
    if any(rule.reason for rule in loaded):
        raise typer.Exit(1)


def check(
    paths: Paths = None, rules: Rules = None, own: Own = None, as_json: JsonOption = False, lake: LakeOption = None
) -> None:
    """Find rules and saved queries that can never match, entirely or in part.

    Checked are event sources, operations and their parameters, members of the record and values. Then each way in which
    a rule can match is tried: a record made for it goes through the real mapper into a temporary lake, and the rule
    must find it. If there is a lake, rules whose tables it does not have, or that had no event for a week, are reported
    as blind. In saved queries (.sql, in DuckDB's or Athena's dialect), tables and columns, values of OCSF and AWS,
    units of time, and contradictory conditions are checked. Exits with 1 if a rule or query can never match; if part of
    one cannot, there is a warning.
    """
    from ocsf_lake.detections import check as checking
    from ocsf_lake.detections import saved_queries

    config = settings(lake)
    queries, below = saved_queries.of_paths(paths or [])
    loaded = [] if paths and not below and not rules else _loaded(config, [*below, *(rules or [])])
    own_tables = query.tables_given(own)
    unknown = checking.unknown_names(loaded) | saved_queries.unknown_names(queries)
    last_days, seen = _of_lake(config, unknown)
    checked = checking.check(config, loaded, last_days, seen)
    checked += saved_queries.check_files(config, queries, last_days, seen, own_tables)
    _print(checked, as_json=as_json)
    if any(one.status == checking.ERROR for one in checked):
        raise typer.Exit(1)


def explain(name: Name, rules: Rules = None, as_json: JsonOption = False) -> None:
    """Explain a rule: what it is about, which tables and columns it reads, and its condition as SQL."""
    from ocsf_mappers.errors import ConfigError, nearest

    loaded = _loaded(settings(), rules)
    chosen = [rule for rule in loaded if name in (rule.stem, rule.id, rule.title)]
    if not chosen:
        raise ConfigError(f"there is no rule {name!r}{nearest(name, [rule.stem for rule in loaded])}")
    explained = [_explained(rule) for rule in chosen]
    if as_json:
        output.print_json(explained)
        return
    for one in explained:
        rows = [(key, _flat(value)) for key, value in one.items() if value not in (None, "", [], {})]
        output.print_table(("what", "of this rule"), rows)


def _loaded(config: Settings, folders: Sequence[Path] | None) -> list[Rule]:
    from ocsf_lake.detections import pack, rules

    return rules.load(folders or config.rules or [Path(pack.NAME)], config.rule_placeholders)


def _log(rule: Rule) -> str | None:
    if rule.correlation is not None:
        return ", ".join(dict.fromkeys(base.log.name for base in rule.correlation.bases if base.log))
    return rule.log.name if rule.log else None


def _of_lake(config: Settings, unknown: Names) -> tuple[Mapping[str, str] | None, Names]:
    """Table -> the latest day of its events; and those of some calls that nobody knows, and the lake has."""
    from ocsf_lake.detections import history
    from ocsf_lake.lake import exists

    if not exists(config):
        terminal.say(f"there is no lake at {config.lake}: whether there are events for the rules was not checked")
        return None, frozenset()
    return history.last_days(config), history.seen(config, unknown)


def _print(checked: Sequence[Checked], *, as_json: bool) -> None:
    if as_json:
        output.print_json([
            {
                "rule": one.name, "id": one.rule.id, "title": one.rule.title, "status": one.status,
                "tried": one.tried, "found": one.found,
                "problems": [{"severity": problem.severity, "reason": problem.reason} for problem in one.problems],
            }
            for one in checked
        ])  # fmt: skip
    else:
        output.print_table(("rule", "severity", "problem"), _rows(checked))
    count = {status: sum(one.status == status for one in checked) for status in ("error", "warning", "ok")}
    queries = sum(one.rule.path.suffix.lower() == ".sql" for one in checked)
    looked_at = [terminal.plural(queries, "query", "queries")] if queries else []
    if len(checked) > queries or not queries:
        tried = terminal.plural(sum(one.tried for one in checked), "way to match", "ways to match")
        looked_at.insert(0, f"{terminal.plural(len(checked) - queries, 'rule', 'rules')}, {tried} tried")
    terminal.say(
        f"{', '.join(looked_at)}: "
        f"{count['error']} can never match, {count['warning']} with warnings, {count['ok']} without"
    )


def _rows(checked: Sequence[Checked]) -> list[tuple[str, str, str]]:
    """What is wrong with each; a warning that many have, as in a lake without events of late, once for all of them."""
    names: dict[Problem, list[str]] = {}
    for one in checked:
        for problem in one.problems:
            names.setdefault(problem, []).append(one.name)
    shared = {problem: of for problem, of in names.items() if len(of) > MOST_ROWS and problem.severity == "warning"}
    rows = [(one.name, p.severity, p.reason) for one in checked for p in one.problems if p not in shared]
    for problem, of in shared.items():
        examples = ", ".join(list(dict.fromkeys(of))[:MOST_ROWS])
        rows.append((f"{len(of)} of them", problem.severity, f"{problem.reason}; such as {examples}"))
    return rows


def _explained(rule: Rule) -> dict[str, Any]:
    from ocsf_lake.detections.dialects import DUCKDB

    correlation = rule.correlation
    return {
        "rule": rule.stem,
        "id": rule.id,
        "title": rule.title,
        "level": rule.level,
        "description": rule.description,
        "tags": list(rule.tags),
        "log": _log(rule),
        "tables": sorted({table for part in (rule.log.parts if rule.log else ()) for table in part.tables}),
        "counts": {
            "type": correlation.kind, "rules": [base.title for base in correlation.bases],
            "within_ms": correlation.window_ms, "at_least": correlation.least,
            "by": [list(group) for group in correlation.groups], "of": list(correlation.value),
        } if correlation else None,
        "new": {
            "of": list(rule.first_seen.fields), "by": list(rule.first_seen.groups),
            "learning_ms": rule.first_seen.learning_ms,
        } if rule.first_seen else None,
        "conditions": {source: DUCKDB.sql(tree) for source, tree in rule.conditions.items()},
        "notes": [str(note) for note in rule.notes],
        "reason": rule.reason,
    }  # fmt: skip


def _flat(value: Any) -> str:
    if isinstance(value, dict):
        return "; ".join(f"{key}: {_flat(inner)}" for key, inner in value.items())
    return ", ".join(map(_flat, value)) if isinstance(value, list) else str(value)
