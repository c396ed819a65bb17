"""`ocsf-lake init`."""

from __future__ import annotations

import json
import os
import shlex
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ocsf_lake.cli import terminal

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

EXAMPLE = "ocsf-lake init my-lake"
OWN = {"lake": "./lake", "mappers": "./mappers"}
"""What a project sets itself."""
WIDTH = 118

FolderArgument = Annotated[Path, typer.Argument(metavar="DIR", help="Folder of the project; created if needed.")]


def init(folder: FolderArgument) -> None:
    """Create a project: settings, deployments and alerts for Prefect, flows and mappers to change.

    Nothing is overwritten: if any of the files exists, none is written.
    """
    from ocsf_mappers.errors import ConfigError, WriteError

    files = dict(project())
    existing = [name for name in files if os.path.lexists(folder / name)]
    if existing:
        raise ConfigError(f"{str(folder)!r} has {', '.join(existing)} already; nothing was written")
    try:
        for name, content in files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("x", encoding="utf-8", newline="\n") as file:
                file.write(content)
            typer.echo(terminal.escaped(str(path)))
    except OSError as error:
        raise WriteError(f"the project cannot be written: {error}") from error
    terminal.say(
        "next:",
        f"  cd {shlex.quote(str(folder))}",
        "  $EDITOR ocsf-lake.toml                           # where the lake is",
        "  ocsf-lake ingest URI                             # ingest what is new",
        '  ocsf-lake query "SHOW TABLES"',
        "  $EDITOR deploy/prefect.yaml && ocsf-lake deploy  # schedules, on the server at PREFECT_API_URL",
    )


def project() -> Iterator[tuple[str, str]]:
    """Name and content of each file of a project."""
    yield "ocsf-lake.toml", settings_file()
    template, deploy = _folders()
    for name in ("README.md", "flows/own.py", "mappers/README.md", "mappers/example_dns.py", "mappers/pyproject.toml"):
        yield name, template.joinpath(name).read_text(encoding="utf-8")
    for name in ("prefect.yaml", "automations.yaml", "prefect.env"):
        yield f"deploy/{name}", deploy.joinpath(name).read_text(encoding="utf-8")


def _folders() -> tuple[Traversable, Traversable]:
    """Of the template, and of deploy/: an installed package has it in the template, a checkout at its root."""
    from importlib import resources

    package = resources.files("ocsf_lake")
    template = package.joinpath("project")
    packaged = template.joinpath("deploy")
    return template, packaged if packaged.is_dir() else package.joinpath("..", "deploy")


def settings_file() -> str:
    """Every setting as a comment, with what it does and its default; what lies in the project is set."""
    from ocsf_lake.config import Settings

    parts = [
        "# Settings of ocsf-lake, for commands that run in this folder. Variables (OCSF_LAKE_LAKE) override them.",
        "# Lines without # are in force; the others show the defaults.",
    ]
    for name, field in Settings.model_fields.items():
        about = textwrap.wrap(field.description or "", WIDTH, initial_indent="# ", subsequent_indent="# ")
        default = _toml(field.get_default(call_default_factory=True))
        line = f"{name} = {_toml(OWN[name])}" if name in OWN else f"# {name} = {default}"
        parts.append("\n".join([*about, line.rstrip()]))
    return "\n\n".join(parts) + "\n"


def _toml(value: object) -> str:
    """A default as TOML writes it; nothing for a setting that is not set."""
    from pydantic import BaseModel

    match value:
        case None:
            return ""
        case BaseModel():
            return _toml(value.model_dump(exclude_defaults=True))
        case dict():
            return "{ " + ", ".join(f"{key} = {_toml(item)}" for key, item in value.items()) + " }" if value else "{}"
        case tuple() | list():
            return "[" + ", ".join(map(_toml, value)) + "]"
        case _:
            return json.dumps(value, ensure_ascii=False)
