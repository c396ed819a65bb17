"""Settings of a flow run, which may run anywhere."""

from __future__ import annotations

from pathlib import Path

from prefect.runtime import deployment

from ocsf_lake import config
from ocsf_lake.config import Settings
from ocsf_mappers.errors import ConfigError

RUN_SECONDS, BACKFILL_SECONDS = 6 * 3_600, 24 * 3_600
"""A run that takes longer has failed; what it planned is finished by the next one."""


def settings(lake: str | None) -> Settings:
    """The settings in force where the flow runs.

    Args:
        lake: Root of the lake; None leaves it to the settings.

    Raises:
        ConfigError: Some setting has no valid value, or a worker would make a lake in its own working folder.
    """
    loaded = config.load(lake=lake)
    check("the lake", loaded.lake, "set OCSF_LAKE_LAKE for the worker")
    return loaded


def check(subject: str, uri: str, remedy: str) -> None:
    """Refuses a relative path in a run of a deployment: a worker runs it in a temporary folder.

    Raises:
        ConfigError: It is one.
    """
    if deployment.id and "://" not in uri and not Path(uri).is_absolute():
        raise ConfigError(
            f"{subject} is {uri!r}, and a worker's working folder is temporary: {remedy}, as an absolute path or URI"
        )
