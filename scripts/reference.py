"""Reference pages made of the code: commands, settings, tables, mappings, errors; `scripts/site` shows them."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import typer
from pydantic import BaseModel

from ocsf_lake import config
from ocsf_lake.cli.main import app
from ocsf_lake.cli.sources import described
from ocsf_mappers import errors, registry
from ocsf_mappers.compiler import explain
from ocsf_mappers.ocsf.tables import Table, hive_type


def pages() -> Iterator[tuple[str, str]]:
    """Each page: its name below reference/, and its Markdown."""
    yield "commands.md", commands()
    yield "settings.md", settings()
    yield "tables.md", tables()
    for name, table in _written().items():
        yield f"tables/{name}.md", columns(name, table)
    for item in described():
        yield f"mappings/{item['source']}.md", explain.markdown(registry.load(item["source"]), config.DEFAULT_VERSION)
    yield "errors.md", error_tree()


def _cell(text: object) -> str:
    """Text or code within a cell of a table."""
    return " ".join(str(text).split()).replace("|", "\\|")


def _text(text: object) -> str:
    """Text that is no code within a cell of a table."""
    return _cell(text).replace("<", "&lt;")


def commands() -> str:
    """Every command with its help, options and example."""
    parts = ["# Commands", "Every command with its options, as `--help` prints them.", _COMMON]
    for name, command in sorted(_commands(typer.main.get_command(app))):
        parts += [f"## ocsf-lake {name}", inspect.cleandoc(command.help or "")]
        rows = ["| option | what it is |", "|---|---|"]
        context = command.context_class(command, info_name=f"ocsf-lake {name}")
        for parameter in command.params:
            record = parameter.get_help_record(context)
            if record and parameter.name != "help":
                rows.append(f"| `{_cell(record[0])}` | {_text(record[1])} |")
        parts.append("\n".join(rows) if len(rows) > 2 else "It has no options.")
        example = inspect.cleandoc((command.epilog or "").replace("\b\n", "").removeprefix("Example:"))
        parts.append(f"```sh\n{example}\n```")
    return "\n\n".join(parts) + "\n"


_COMMON = (
    "Data goes to stdout, messages to stderr. The exit code is 0 when all was done, 1 when something failed, 2 when "
    "the command was misused, 130 when it was interrupted."
)


def _commands(group: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Commands of a group and of the groups in it; typer has click's classes under names of its own."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from _commands(command, f"{prefix}{name} ")
        else:
            yield f"{prefix}{name}", command


def _alternatives(shown: str) -> str:
    """`str | None` as `str`: a setting without a default has none; others with a word that a table's cell can hold."""
    return shown.removesuffix(" | None").replace(" | ", " or ")


def settings() -> str:
    """Every setting with its variable, type and default."""
    rows = ["| setting | type | default | what it is |", "|---|---|---|---|"]
    for name, field in config.Settings.model_fields.items():
        kind = field.annotation if isinstance(field.annotation, type) else str(field.annotation)
        shown = kind.__name__ if isinstance(kind, type) else re.sub(r"\b(?:[a-z_]+\.)+", "", kind)
        is_plain = not field.default_factory and field.default is not None and not isinstance(field.default, BaseModel)
        default = f"`{_cell(field.default)}`" if is_plain else ""
        rows.append(f"| `{name}` | `{_cell(_alternatives(shown))}` | {default} | {_text(field.description or '')} |")
    return f"""# Settings

Options of a command come first, then variables (`{config.PREFIX}` and the name in capitals), then `{config.FILE}` in
the working folder, then the default. A name that is no setting is an error.

{chr(10).join(rows)}
"""


def _written() -> dict[str, Table]:
    """The tables that sources write."""
    names = {name for item in described() for name in item["tables"]}
    return {name: table for name, table in registry.tables().items() if name in names}


def tables() -> str:
    """One line a table, with a link to its columns."""
    rows = ["| table | as in Security Lake | folder | columns |", "|---|---|---|---:|"]
    for name, table in _written().items():
        published = f"`{table.security_lake}`" if table.security_lake else ""
        leaves = sum(1 for _ in _leaves(table.arrow))
        rows.append(f"| [`{name}`](tables/{name}.md) | {published} | `{table.prefix}` | {leaves} |")
    return "# Tables\n\nColumns are counted with the members of structs.\n\n" + "\n".join(rows) + "\n"


def columns(name: str, table: Table) -> str:
    """Every column of a table, members of structs one a line."""
    rows = ["| column | type |", "|---|---|", *(f"| `{path}` | `{kind}` |" for path, kind in _leaves(table.arrow))]
    sources = ", ".join(f"`{item['source']}`" for item in described() if name in item["tables"])
    return f"# {name}\n\nWritten by {sources}, in `{table.prefix}`.\n\n" + "\n".join(rows) + "\n"


def _leaves(fields: pa.Schema | pa.DataType, before: str = "") -> Iterator[tuple[str, str]]:
    for field in fields:
        kind, path = field.type, f"{before}{field.name}"
        while pa.types.is_list(kind):
            kind, path = kind.value_type, f"{path}[]"
        if pa.types.is_struct(kind):
            yield from _leaves(kind, f"{path}.")
        else:
            yield path, hive_type(kind)


def error_tree() -> str:
    """The exceptions of the Python face."""
    parts = ["# Errors", inspect.cleandoc(errors.__doc__ or "")]
    for kind in vars(errors).values():
        if isinstance(kind, type) and issubclass(kind, errors.OcsfMappersError):
            parts += [f"## {kind.__name__}", inspect.cleandoc(kind.__doc__ or "").partition("\n\nArgs:")[0]]
    return "\n\n".join(parts) + "\n"
