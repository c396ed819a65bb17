"""`ocsf-lake query` and `lint`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ocsf_lake.cli import output, terminal
from ocsf_lake.cli.options import JsonOption, LakeOption, settings, settings_of_lake

if TYPE_CHECKING:
    from ocsf_lake.config import Settings
    from ocsf_lake.query.lint import Hint
    from ocsf_lake.query.query import Cost

EXAMPLE = 'ocsf-lake query "SELECT class_name, count(*) FROM cloud_trail_mgmt_2_0 GROUP BY ALL" --lake demo_lake'


class Form(StrEnum):
    """Forms of output."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"


def query(
    sql: Annotated[str, typer.Argument(metavar="SQL", help="One statement that reads, such as SHOW TABLES.")],
    lake: LakeOption = None,
    form: Annotated[Form, typer.Option("--format", help="Form of the rows.")] = Form.TABLE,
    explain: Annotated[
        bool, typer.Option("--explain", help="Say how many files, row groups and bytes the query reads, not its rows.")
    ] = False,
    athena: Annotated[
        bool, typer.Option("--athena", help="Run it in Athena, in Athena's SQL, over the tables in Glue.")
    ] = False,
) -> None:
    """Ask the lake in DuckDB's SQL.

    Tables have the names and columns of Amazon Security Lake (`cloud_trail_mgmt_2_0`, `vpc_flow_2_0`); `quarantine`
    and the ledger (`ledger_batches`, `ledger_objects`, `ledger_files`) are tables too, and `coverage`, which says what
    the lake has of every hour. A query changes nothing.
    """
    if athena:
        _in_athena(sql, lake, form)
        return
    config = settings_of_lake(lake)
    from ocsf_lake.query import query as lake_query

    statements = [sql, *([lake_query.COST_READS] if explain else [])]
    with lake_query.connected(config, *statements, extra_tables=_computed(config, sql)) as connection:
        if explain:
            cost = lake_query.cost(connection, sql)
            _show_cost(cost, form)
            empty = cost.rows == 0
        else:
            rows = lake_query.run(connection, sql)
            output.print_rows(rows, form)
            empty = lake_query.is_empty(rows)
    if empty:
        _say_why_empty(sql, "duckdb")
        terminal.say(*lake_query.why_empty(config, sql))


def _computed(config: Settings, sql: str) -> Mapping[str, Any]:
    """Tables that are made when they are read: `coverage`, where it is named."""
    if "coverage" not in sql.lower() and "show" not in sql.lower():
        return {}
    from ocsf_lake.upkeep.coverage_table import with_coverage

    return with_coverage(config, {}, sql)


def _say_why_empty(sql: str, dialect: str) -> None:
    """On stderr, the conditions of a query that no row can meet: an empty answer says nothing by itself."""
    from ocsf_lake.query import lint as lake_lint
    from ocsf_mappers.errors import ConfigError

    try:
        report = lake_lint.lint(sql, dialect)
    except (ConfigError, RecursionError):  # it ran, so it is a query; only lint cannot read it
        return
    for finding in report.findings:
        if finding.rule == lake_lint.NO_SUCH_VALUE:
            terminal.say(*_lines(finding))


def _lines(finding: Hint) -> list[str]:
    return [f"{finding.rule}: {finding.says}", *([f"  {finding.instead}"] if finding.instead else [])]


def _show_cost(cost: Cost, form: Form) -> None:
    if form is Form.JSON:
        output.print_json(asdict(cost))
        return
    row = [
        terminal.count(cost.rows),
        f"{cost.files:,} of {cost.of_files:,}",
        f"{cost.row_groups:,} of {cost.of_row_groups:,}",
        f"{terminal.size(cost.bytes)} of {terminal.size(cost.of_bytes)}",
    ]
    output.print_table(["rows", "files read", "row groups of those", "bytes read"], [row])


def _in_athena(sql: str, lake: str | None, form: Form) -> None:
    config = settings(lake)
    import pyarrow as pa

    from ocsf_lake.query import athena
    from ocsf_lake.query import query as lake_query
    from ocsf_lake.storage import s3

    client = s3.aws_client("athena", config.lake_access)
    answer = athena.run(client, sql, config.glue_database, config.athena_workgroup)
    columns = [pa.array([row[number] for row in answer.rows], pa.string()) for number in range(len(answer.columns))]
    rows = pa.table(columns, names=answer.columns)
    output.print_rows(rows, form)
    terminal.say(f"Athena read {terminal.size(answer.scanned)}")
    if lake_query.is_empty(rows):
        _say_why_empty(sql, "trino")


LINT_EXAMPLE = """ocsf-lake lint "SELECT * FROM vpc_flow_2_0 WHERE action = 'REJECT' AND eventday = '2025-03-11'\""""


def lint(
    sql: Annotated[str, typer.Argument(metavar="SQL", help="One query.")],
    duckdb: Annotated[bool, typer.Option("--duckdb", help="It is in DuckDB's dialect, not in Athena's.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Say what is wrong with a query before it is run: values that no row has, conditions that read every file.

    The corrected query goes to stdout. Exit 1 when something is wrong.
    """
    from ocsf_lake.query import lint as lake_lint

    report = lake_lint.lint(sql, "duckdb" if duckdb else "trino")
    if as_json:
        output.print_json(asdict(report))
    else:
        for finding in report.findings:
            terminal.say(*_lines(finding))
        typer.echo(report.corrected)
    if report.findings:
        raise typer.Exit(1)
