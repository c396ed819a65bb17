"""The command line: `ocsf-lake`.

Everything heavy is imported inside the commands, so that help and mistakes are answered at once.
"""

from __future__ import annotations

import atexit
import copy
import gc
import io
import os
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from ocsf_lake.cli import (
    alerts,
    backfill,
    catalog,
    check,
    compact,
    coverage,
    deploy,
    detect,
    diff,
    export,
    find,
    forward,
    hold,
    ingest,
    init,
    map,
    new,
    quarantine,
    query,
    rebuild_ledger,
    retain,
    rules,
    schema,
    settings,
    sources,
    status,
    trace,
    validate,
    verify,
)
from ocsf_lake.cli import (
    report as reports,
)
from ocsf_lake.cli.terminal import say

HINTS = {
    "WriteError": "fix that and run the same command again: it continues where this one stopped",
    "RetriableError": "run the same command again: it continues where this one stopped",
    "CountError": "please report this; nothing of that batch is visible, and no object is marked as read",
    "PermissionError": "let this user read and write it, and enter the folders above it; then run the command again",
    "MappingError": "the mapper must be corrected; CONTRIBUTING.md explains how to write one",
}
"""Error -> the next step, where the message does not name it."""
TABLES_HINT = 'tables: `ocsf-lake query "SHOW TABLES"`; columns of one: `ocsf-lake query "DESCRIBE vpc_flow_2_0"`'
FILES_HINT = "`ocsf-lake catalog check --deep` says whether a file of the lake is damaged"

GARBAGE = 200_000, 10, 10
"""Objects made before Python looks for unreachable ones, as `gc` takes it, which looks after 700 by itself. Loading
modules makes hundreds of thousands that all stay, and looking at them again and again was an eighth of the time of a
short command. Logs are in few large objects, so that the peak of an ingest is the same."""

app = typer.Typer(
    name="ocsf-lake",
    help="Raw AWS security logs in, a queryable lake of OCSF events in partitioned Parquet out.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


class _Command(TyperCommand):
    """A command whose usage line shows arguments as their metavars say: what may be left out is in brackets there."""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        arguments = [str(param.metavar) for param in self.params if param.param_type_name == "argument"]
        return ["[OPTIONS]", *arguments]


def _add(to: typer.Typer, name: str, run: Callable[..., None], example: str) -> None:
    """Adds a command; the example at the end of its help is a line to copy, kept as it is."""
    lines = "\n  ".join(example.splitlines())
    to.command(name, cls=_Command, epilog=f"\b\nExample:\n  {lines}")(run)


_add(app, "ingest", ingest.ingest, ingest.EXAMPLE)
_add(app, "backfill", backfill.backfill, backfill.EXAMPLE)
_add(app, "export", export.export, export.EXAMPLE)
_add(app, "forward", forward.forward, forward.EXAMPLE)
_add(app, "query", query.query, query.EXAMPLE)
_add(app, "find", find.find, find.FIND_EXAMPLE)
_add(app, "tables", find.tables, find.TABLES_EXAMPLE)
_add(app, "columns", find.columns, find.COLUMNS_EXAMPLE)
_add(app, "lint", query.lint, query.LINT_EXAMPLE)
_add(app, "map", map.map_file, map.EXAMPLE)
_add(app, "validate", validate.validate, validate.EXAMPLE)
_add(app, "sources", sources.sources, sources.SOURCES_EXAMPLE)
_add(app, "explain", sources.explain, sources.EXPLAIN_EXAMPLE)
_add(app, "new", new.new, new.EXAMPLE)
_add(app, "check", check.check, check.EXAMPLE)
_add(app, "diff", diff.diff, diff.EXAMPLE)
_add(app, "schema", schema.schema, schema.EXAMPLE)
_add(app, "settings", settings.settings, settings.EXAMPLE)
_add(app, "status", status.status, status.EXAMPLE)
_add(app, "coverage", coverage.coverage, coverage.EXAMPLE)
_add(app, "report", reports.report, reports.EXAMPLE)
_add(app, "trace", trace.trace, trace.EXAMPLE)
_add(app, "detect", detect.detect, detect.EXAMPLE)
_add(app, "verify", verify.verify, verify.EXAMPLE)
_add(app, "compact", compact.compact, compact.EXAMPLE)
_add(app, "retain", retain.retain, retain.EXAMPLE)
_add(app, "rebuild-ledger", rebuild_ledger.rebuild_ledger, rebuild_ledger.EXAMPLE)
_add(app, "init", init.init, init.EXAMPLE)
_add(app, "deploy", deploy.deploy, deploy.EXAMPLE)
_add(quarantine.app, "list", quarantine.list_reasons, quarantine.LIST_EXAMPLE)
_add(quarantine.app, "show", quarantine.show, quarantine.SHOW_EXAMPLE)
_add(quarantine.app, "replay", quarantine.replay, quarantine.REPLAY_EXAMPLE)
_add(quarantine.app, "purge", quarantine.purge, quarantine.PURGE_EXAMPLE)
app.add_typer(quarantine.app, name="quarantine")
_add(hold.app, "add", hold.add, hold.ADD_EXAMPLE)
_add(hold.app, "list", hold.list_holds, hold.LIST_EXAMPLE)
_add(hold.app, "release", hold.release, hold.RELEASE_EXAMPLE)
app.add_typer(hold.app, name="hold")
_add(rules.app, "list", rules.list_rules, rules.LIST_EXAMPLE)
_add(rules.app, "check", rules.check, rules.CHECK_EXAMPLE)
_add(rules.app, "explain", rules.explain, rules.EXPLAIN_EXAMPLE)
app.add_typer(rules.app, name="rules")
_add(catalog.app, "check", catalog.check, catalog.CHECK_EXAMPLE)
_add(catalog.app, "sync", catalog.sync, catalog.SYNC_EXAMPLE)
_add(catalog.app, "write-off", catalog.write_off, catalog.WRITE_OFF_EXAMPLE)
_add(catalog.app, "expire", catalog.expire, catalog.EXPIRE_EXAMPLE)
_add(catalog.app, "views", catalog.views, catalog.VIEWS_EXAMPLE)
app.add_typer(catalog.app, name="catalog")
_add(alerts.app, "list", alerts.list_alerts, alerts.LIST_EXAMPLE)
_add(alerts.app, "send", alerts.send, alerts.SEND_EXAMPLE)
_add(alerts.app, "retry", alerts.retry, alerts.RETRY_EXAMPLE)
_add(alerts.app, "test", alerts.send_test, alerts.TEST_EXAMPLE)
app.add_typer(alerts.app, name="alerts")


def _version(requested: bool) -> None:
    if requested:
        from importlib.metadata import version

        typer.echo(version("ocsf-lake"))
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Raw AWS security logs in, a queryable lake of OCSF events in partitioned Parquet out."""


@cache
def _command(name: str) -> Any:
    """The program with the one command of that name, with all of them where there is none such.

    To make them all of what they take takes longer than a quarter of the time of `ocsf-lake --help`.
    """
    program = copy.copy(app)
    program.registered_commands = [command for command in app.registered_commands if command.name == name]
    program.registered_groups = [group for group in app.registered_groups if group.name == name]
    named = program.registered_commands or program.registered_groups
    return typer.main.get_command(program if named else app)


class _Leave:
    """Ends the process as the last of what `atexit` does, when threads are done and everything is closed.

    Python would go on and take apart all that was ever loaded, which took a quarter of the time of a short command.
    """

    code: object = None
    """What the command ends with; where that is no number, Python ends in its own way."""

    def __call__(self) -> None:
        if isinstance(self.code, int):
            with suppress(OSError, ValueError):  # then Python says that not all was written
                for stream in filter(None, (sys.stdout, sys.stderr)):
                    stream.flush()
                os._exit(self.code)


def entry_point() -> None:
    """`main`, with nothing to do in this process after it; what was registered with `atexit` before is left out."""
    atexit.register(leave := _Leave())
    try:
        main()
    except SystemExit as end:
        leave.code = end.code
        raise


def main() -> None:
    """Runs a command; ends with 0 when it is done, 1 when it failed, 2 when it was misused."""
    gc.set_threshold(*GARBAGE)
    _open_streams()
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")  # it would look for some in every installed package
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        _command(next(iter(sys.argv[1:]), ""))()
    except Exception as error:
        code = report(error)
        if code is None:
            say(*"".join(traceback.format_exception(error)).rstrip("\n").split("\n"))
            code = 1
        sys.exit(code)


def _open_streams() -> None:
    """Opens what who started the program has closed (`>&-`): there is nothing to read, and writing is no error."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_RDWR), mode, encoding="utf-8"))


def report(error: Exception) -> int | None:
    """Says on stderr what went wrong and what to do; gives the exit code, None for a defect of this program."""
    import duckdb

    from ocsf_lake import meant
    from ocsf_mappers.errors import ConfigError, OcsfMappersError

    if isinstance(error, duckdb.Error):
        unknown = isinstance(error, duckdb.CatalogException | duckdb.BinderException)
        # What a reader of Parquet stumbles over has no class of its own.
        unread = isinstance(error, duckdb.IOException) or type(error) is duckdb.Error
        first, *more = meant.lines(error)
        say(f"error: {first}", *more, *([TABLES_HINT] if unknown else [FILES_HINT] if unread else []))
        return 1
    if not isinstance(error, OcsfMappersError | OSError):
        return None
    hint = next((HINTS[kind.__name__] for kind in type(error).__mro__ if kind.__name__ in HINTS), None)
    say(f"error: {error}", *getattr(error, "__notes__", ()), *([hint] if hint else []))
    return 2 if isinstance(error, ConfigError) else 1


if __name__ == "__main__":
    main()
