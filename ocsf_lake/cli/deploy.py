"""`ocsf-lake deploy`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ocsf_lake.cli import terminal
from ocsf_lake.cli.options import settings

EXAMPLE = "ocsf-lake deploy deploy/prefect.yaml --automations deploy/automations.yaml"

NO_AUTOMATIONS = (
    "no alerts for failed runs and silent sources: no automations were deployed; "
    "--automations deploy/automations.yaml --alerts TYPE/NAME"
)

FileArgument = Annotated[
    Path, typer.Argument(metavar="[FILE]", help="Deployments file. [default: deploy/prefect.yaml]", show_default=False)
]
AutomationsOption = Annotated[
    Path | None,
    typer.Option("--automations", metavar="FILE", help="File with the server's automations.", show_default=False),
]
AlertsOption = Annotated[
    str | None, typer.Option("--alerts", metavar="TYPE/NAME", help="Notification block with which automations send.")
]
PoolOption = Annotated[str, typer.Option("--pool-type", metavar="TYPE", help="Type of new work pools.")]


def deploy(
    file: FileArgument = Path("deploy/prefect.yaml"),
    automations: AutomationsOption = None,
    alerts: AlertsOption = None,
    pool_type: PoolOption = "process",
) -> None:
    """Put deployments and automations on the Prefect server at PREFECT_API_URL.

    Run it again after each change to the files; existing ones are updated. Alerts that would not reach anyone are
    reported.
    """
    from ocsf_lake.flows import deployments  # noqa: TID251 - Prefect, only when it is asked for
    from ocsf_mappers.errors import ConfigError

    if alerts is not None and automations is None:
        raise ConfigError("--alerts needs automations: name their file too, --automations deploy/automations.yaml")
    terminal.say(f"Prefect server {deployments.server()}")
    deployments.deploy(file, pool_type, terminal.say)
    if automations is not None:
        deployments.automate(automations, alerts, terminal.say)
    else:
        terminal.say(NO_AUTOMATIONS)
    if not settings().alerts.receivers:
        from ocsf_lake.alerts.run import NOBODY

        terminal.say(NOBODY)
