"""Settings as the command line gives them, and the lake that a command needs to be there."""

from __future__ import annotations

import re
import sys
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from ocsf_lake.config import Settings
    from ocsf_mappers import Mapper

LakeOption = Annotated[
    str | None,
    typer.Option(
        "--lake", metavar="URI", help="Root of the lake, a folder or URI. [env: OCSF_LAKE_LAKE; default: ./ocsf_lake]"
    ),
]
VersionOption = Annotated[
    str | None,
    typer.Option(
        "--ocsf-version", metavar="VERSION", help="Version of the events. [env: OCSF_LAKE_OCSF_VERSION; default: 1.1.0]"
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="JSON instead of a table.")]
SourceArgument = Annotated[
    str, typer.Argument(metavar="SOURCE", help="A source (see `ocsf-lake sources`), or a Python file with one.")
]

_DAYS = ("%Y-%m-%d", "%Y%m%d", "%Y/%m/%d")
_DAYS_AGO = {"today": 0, "yesterday": 1}


def first_day(text: str) -> Any:
    """The option `--from`, whose value is a day.

    Args:
        text: Its help.
    """
    return typer.Option("--from", metavar="DAY", parser=day, help=f"{text} Such as 2026-03-16, yesterday or 7d.")


def last_day(text: str) -> Any:
    """The option `--to`, whose value is a day.

    Args:
        text: Its help.
    """
    return typer.Option("--to", metavar="DAY", parser=day, help=text)


def day(text: str) -> date:
    """The day that somebody gave: `2026-03-16`, `today`, `yesterday`, or `7d` for seven days ago, all in UTC.

    Raises:
        typer.BadParameter: It is none.
    """
    for form in _DAYS:
        with suppress(ValueError):
            return datetime.strptime(text, form).replace(tzinfo=UTC).date()
    ago = re.fullmatch("([0-9]{1,5})d", text)
    days = int(ago[1]) if ago else _DAYS_AGO.get(text)
    if days is None:
        raise typer.BadParameter(f"{text!r} is no day; write 2026-03-16, today, yesterday, or 7d for seven days ago")
    return datetime.now(UTC).date() - timedelta(days=days)


def settings(lake: str | None = None, ocsf_version: str | None = None, workers: int | None = None) -> Settings:
    """The settings in force: options, then `OCSF_LAKE_*`, then `ocsf-lake.toml`.

    Raises:
        ConfigError: Some setting is unknown or has no valid value.
    """
    from ocsf_lake import config

    _without_pandas()
    return config.load(lake=lake, ocsf_version=ocsf_version, workers=workers)


@cache
def _without_pandas() -> None:
    """Spares a command the loading of pandas, where it is installed.

    When pyarrow makes its first array it loads all of pandas, to know a Series. No command has one; and whoever asks
    pyarrow for a frame has pandas loaded then.
    """
    import pyarrow as pa

    if "pandas" not in sys.modules:
        sys.meta_path.insert(0, _NoPandas)
        try:
            pa.array([])
        finally:
            sys.meta_path.remove(_NoPandas)


class _NoPandas:
    """As a finder of modules: there is no pandas."""

    @staticmethod
    def find_spec(name: str, *_: object) -> None:
        if name == "pandas":
            raise ModuleNotFoundError(name, name=name)


def settings_of_lake(lake: str | None) -> Settings:
    """The settings of a lake that is there.

    Raises:
        ConfigError: There is none.
    """
    from ocsf_lake.lake import exists, no_lake

    loaded = settings(lake)
    if not exists(loaded):
        raise no_lake(loaded)
    return loaded


def source(name: str) -> Mapper:
    """The mapper of a source, or of one that is a Python file.

    Raises:
        ConfigError: There is no such source.
    """
    from ocsf_mappers import registry
    from ocsf_mappers.errors import ConfigError

    settings()  # they may name a folder of sources
    if name.endswith(".py"):
        return registry.load(registry.use_file(Path(name)))
    try:
        return registry.load(name)
    except ConfigError as error:
        text = str(error)
        raise ConfigError(f"{text}{' ' if text.endswith('?') else '; '}`ocsf-lake sources` lists them") from error
