"""`ocsf-lake settings`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ocsf_lake.cli import options, output
from ocsf_lake.cli.options import JsonOption
from ocsf_lake.cli.terminal import say

if TYPE_CHECKING:
    from pydantic import BaseModel

EXAMPLE = "ocsf-lake settings --given"
HIDDEN = "hidden"
"""Stands for a value that may be secret, or have a secret in it."""


def settings(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[SETTING]...", help="Only these, each with its description.")
    ] = None,
    given: Annotated[
        bool, typer.Option("--given", help="Only those set by a variable or ocsf-lake.toml.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Show the settings in force in this folder, and where each comes from.

    Values that may be secret are not shown. Options of other commands override these settings.
    """
    from ocsf_lake import config
    from ocsf_mappers.errors import ConfigError, nearest

    fields = config.Settings.model_fields
    for name in names or []:
        if name not in fields:
            raise ConfigError(f"there is no setting {name!r}{nearest(name, fields)}")
    values, origins = _values(options.settings()), config.origins()
    items = [
        {"setting": name, "value": values[name], "from": origins[name] or ["default"], "description": field.description}
        for name, field in fields.items()
        if name in (names or fields) and (origins[name] or not given)
    ]
    file = Path(config.FILE)
    say(f"{file.absolute()} is read" if file.exists() else f"there is no {config.FILE} in {Path.cwd()}")
    if as_json:
        output.print_json(items)
        return
    columns = ["setting", "value", "from", *(["description"] if names else [])]
    rows = [item | {"value": _cell(item["value"]), "from": ", ".join(item["from"])} for item in items]
    output.print_table(columns, [[row[column] for column in columns] for row in rows])


def _values(model: BaseModel) -> dict[str, Any]:
    """The values of a model by name, in JSON's types; not those that it does not show itself."""
    values = {name: (field, getattr(model, name)) for name, field in type(model).model_fields.items()}
    return {name: _plain(value) if field.repr or not value else HIDDEN for name, (field, value) in values.items()}


def _plain(value: Any) -> Any:
    """A value in JSON's types; of tables what is in them, of URLs and the like all but their passwords."""
    from pydantic import BaseModel

    from ocsf_mappers.shown import redacted

    if isinstance(value, BaseModel):
        value = _values(value)
        return {name: member for name, member in value.items() if member not in (None, [], {})}
    if isinstance(value, dict):
        return {str(name): _plain(member) for name, member in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return value if value is None or isinstance(value, bool | int | float) else redacted(str(value))


def _cell(value: object) -> object:
    """A value as a table has it: texts as they are, lists and tables as JSON, nothing where there is none."""
    from ocsf_lake.text import json_text

    if value is None or value in ([], {}):
        return ""
    return json_text(value) if isinstance(value, list | dict | bool) else str(value)
