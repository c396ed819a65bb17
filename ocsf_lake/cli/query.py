"""`ocsf-lake query` and `lint`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ocsf_lake.cli import answers, files, output, terminal
from ocsf_lake.cli.answers import Form
from ocsf_lake.cli.options import JsonOption, LakeOption, settings, settings_of_lake

if TYPE_CHECKING:
    import pyarrow as pa

    from ocsf_lake.config import Settings
    from ocsf_lake.query.query import Cost

EXAMPLE = 'ocsf-lake query "SELECT class_name, count(*) FROM cloud_trail_mgmt_2_0 GROUP BY ALL" --lake demo_lake'


def query(
    sql: Annotated[
        str | None, typer.Argument(metavar="[SQL]", help="One read-only statement, such as SHOW TABLES; - for stdin.")
    ] = None,
    lake: LakeOption = None,
    file: Annotated[
        Path | None, typer.Option("--file", metavar="FILE", help="Read the statement from a file.")
    ] = None,
    own: Annotated[
        list[str] | None,
        typer.Option(
            "--with", metavar="NAME=FILE", show_default=False,
            help="Add your own table to join with, from a .csv, .json, .jsonl or .parquet file; repeatable.",
        ),
    ] = None,
    form: Annotated[
        Form | None, typer.Option("--format", help="Output format.  [default: table]", show_default=False)
    ] = None,
    to: Annotated[
        Path | None,
        typer.Option("--output", metavar="FILE", help="Write all rows to a file: .parquet, .csv, .jsonl or .json."),
    ] = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Show how many files, row groups and bytes it reads, not rows.")
    ] = False,
    athena: Annotated[
        bool, typer.Option("--athena", help="Run it in Athena, in Athena SQL, on the tables in Glue.")
    ] = False,
) -> None:
    """Query the lake in DuckDB SQL.

    Tables have the names and columns of Amazon Security Lake (`cloud_trail_mgmt_2_0`, `vpc_flow_2_0`). `quarantine` and
    the ledger (`ledger_batches`, `ledger_objects`, `ledger_files`) are tables too, and so is `coverage`, which shows
    what the lake has of every hour. A query changes nothing. Without SQL, on a terminal, it opens a prompt.
    """
    with terminal.ended_quietly():
        if sql is None and file is None and sys.stdin.isatty() and not athena:
            _prompt(settings_of_lake(lake), form or Form.TABLE, tables_given(own))
            return
        text = _statement(sql, file)
        if athena:
            _in_athena(text, lake, form, to, own)
        elif explain:
            _explain(text, settings_of_lake(lake), form, to, tables_given(own))
        else:
            _run(text, settings_of_lake(lake), form, to, tables_given(own))


def _prompt(config: Settings, form: Form, own: dict[str, pa.Table]) -> None:
    from ocsf_lake.cli import find, prompt

    commands: dict[str, Callable[..., None]] = {
        ".tables": lambda: find.show_tables(config),
        ".columns": lambda table, *like: find.show_columns(config, table, " ".join(like) or None),
        ".explain": lambda sql: _explain(sql, config, form, None, own),
    }
    prompt.run(config, own, lambda sql: _run(sql, config, form, None, own), commands)


def _statement(sql: str | None, file: Path | None) -> str:
    """The query: as it was given, out of a file, or from stdin.

    Raises:
        ConfigError: There is none, or it is no text.
    """
    from ocsf_mappers.errors import ConfigError

    if sql is not None and file is not None:
        raise ConfigError("give either a query or --file")
    if sql is not None and sql != "-":
        return sql
    try:
        with files.opened(file or files.STDIN) as stream:
            text = stream.read().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError("the query is not UTF-8", file=file) from error
    if not text.strip():
        raise ConfigError('no query: give one, such as "SHOW TABLES", name a --file, or - for stdin')
    return text


def tables_given(given: list[str] | None) -> dict[str, pa.Table]:
    """The tables that `--with` names.

    Raises:
        ConfigError: One is not NAME=FILE, or has a name that there is.
        ReadError: A file cannot be read.
    """
    if not given:
        return {}
    from ocsf_lake.query import own_tables
    from ocsf_mappers.errors import ConfigError

    paths: dict[str, Path] = {}
    for pair in given:
        name, mark, file = pair.partition("=")
        if not mark or not file:
            raise ConfigError(f"--with {pair!r} is not NAME=FILE, such as iocs=iocs.csv")
        if name in paths:
            raise ConfigError(f"--with names {name!r} twice")
        paths[name] = Path(file)
    return own_tables.with_tables({}, paths)


def _run(sql: str, config: Settings, form: Form | None, to: Path | None, own: dict[str, pa.Table]) -> None:
    from ocsf_lake import meant
    from ocsf_lake.query import lint as lake_lint
    from ocsf_lake.query import query as lake_query

    to_form = None if to is None else answers.form_of(to, form)
    listing: dict[str, Any] = {}
    if lake_query.lists(sql):
        listing["threads"] = 1
    tables = _computed(config, sql, own)
    with meant.hinting(sql), lake_query.connected(config, sql, extra_tables=tables, **listing) as connection:
        answer = answers.Answer(connection, sql)
        if to is None:
            answer.show(form or Form.TABLE)
        else:
            answer.save(to, to_form)
            terminal.say(f"{terminal.plural(answer.rows, 'row')} in {to}")
    if answer.is_empty:
        _explain_emptiness(config, sql, own)
    elif lake_lint.concerns(sql):  # there are rows, maybe others than were meant
        _say_why_empty(sql, "duckdb", is_empty=False)
    terminal.say(*lake_query.lacking(config, sql, other_tables=own))


def _explain(sql: str, config: Settings, form: Form | None, to: Path | None, own: dict[str, pa.Table]) -> None:
    from ocsf_lake import meant
    from ocsf_lake.query import query as lake_query
    from ocsf_mappers.errors import ConfigError

    if to is not None:
        raise ConfigError("--explain gives no rows that --output could write")
    tables = _computed(config, sql, own)
    connected = lake_query.connected(config, sql, lake_query.COST_READS, extra_tables=tables)
    with meant.hinting(sql), connected as connection:
        waiting = terminal.Waiting(connection.query_progress)
        cost = lake_query.cost(connection, sql, waiting=waiting)
        waiting.clear()
    _show_cost(cost, form or Form.TABLE)
    if cost.rows == 0:
        _explain_emptiness(config, sql, own)


def _explain_emptiness(config: Settings, sql: str, own: dict[str, pa.Table]) -> None:
    """On stderr, why an answer is empty, where the conditions or what the lake has instead say it."""
    from ocsf_lake.query import emptiness
    from ocsf_lake.query import query as lake_query

    is_explained = _say_why_empty(sql, "duckdb")
    if partitions := lake_query.why_empty(config, sql, own):
        terminal.say(*partitions)
    elif not is_explained and not own:
        terminal.say(*emptiness.reasons(config, sql))


def _computed(config: Settings, sql: str, own: dict[str, pa.Table]) -> Mapping[str, pa.Table]:
    """Somebody's own tables, and `coverage`, which is made when it is read, where it is named."""
    if "coverage" not in sql.lower() and "show" not in sql.lower():
        return own
    from ocsf_lake.upkeep.coverage_table import with_coverage

    return with_coverage(config, own, sql)


def _say_why_empty(sql: str, dialect: str, *, is_empty: bool = True) -> bool:
    """On stderr, the conditions of a query that no row can meet: an empty answer says nothing by itself.

    Args:
        sql: The query.
        dialect: Its dialect.
        is_empty: Whether there are no rows; else only what makes rows wrong is said.
    """
    from ocsf_lake.query import lint as lake_lint

    lines = lake_lint.explanations(sql, dialect, is_empty=is_empty)
    terminal.say(*lines)
    return bool(lines)


def _show_cost(cost: Cost, form: Form) -> None:
    if form in (Form.JSON, Form.JSONL):
        output.print_json(asdict(cost))
        return
    row = [
        terminal.count(cost.rows),
        f"{cost.files:,} of {cost.of_files:,}",
        f"{cost.row_groups:,} of {cost.of_row_groups:,}",
        f"{terminal.size(cost.bytes)} of {terminal.size(cost.of_bytes)}",
    ]
    output.print_table(["rows", "files read", "row groups of those", "bytes read"], [row])


def _in_athena(sql: str, lake: str | None, form: Form | None, to: Path | None, own: list[str] | None) -> None:
    from ocsf_mappers.errors import ConfigError

    if to is not None or own:
        raise ConfigError("--athena prints rows and uses only Glue's tables: leave out --output and --with")
    config = settings(lake)
    import pyarrow as pa

    from ocsf_lake.query import athena
    from ocsf_lake.query import query as lake_query
    from ocsf_lake.storage import s3

    client = s3.aws_client("athena", config.lake_access)
    answer = athena.run(client, sql, config.glue_database, config.athena_workgroup)
    columns = [pa.array([row[number] for row in answer.rows], pa.string()) for number in range(len(answer.columns))]
    rows = pa.table(columns, names=answer.columns)
    output.print_rows(rows, form or Form.TABLE)
    terminal.say(f"Athena read {terminal.size(answer.scanned)}")
    if lake_query.is_empty(rows):
        _say_why_empty(sql, "trino")


LINT_EXAMPLE = """ocsf-lake lint "SELECT * FROM vpc_flow_2_0 WHERE action = 'REJECT' AND eventday = '2025-03-11'\""""


def lint(
    sql: Annotated[str, typer.Argument(metavar="SQL", help="One query.")],
    duckdb: Annotated[bool, typer.Option("--duckdb", help="The query is in DuckDB's dialect, not Athena's.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Check a query before running it: tables that do not exist, values that no row has, full reads.

    The corrected query goes to stdout. Exit 1 if something is wrong.
    """
    from ocsf_lake.query import lint as lake_lint

    report = lake_lint.lint(sql, "duckdb" if duckdb else "trino", every_table=True)
    if as_json:
        output.print_json(asdict(report))
    else:
        for finding in report.findings:
            terminal.say(*finding.lines())
        typer.echo(report.corrected)
    if report.findings:
        raise typer.Exit(1)
