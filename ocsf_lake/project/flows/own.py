"""Flows of this lake, around those of ocsf-lake; yours to change.

The deployments in deploy/prefect.yaml run ocsf-lake's own flows. To run one of these instead, name it there, and the
folder of this project on the workers' machines:

    entrypoint: flows/own.py:ingest_and_check
    pull: [{ prefect.deployments.steps.set_working_directory: { directory: /srv/this-project } }]

Workers read settings from variables (OCSF_LAKE_LAKE and so on), and ocsf-lake.toml of that folder.
"""

from __future__ import annotations

from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Failed

from ocsf_lake.flows.ingest import ingest
from ocsf_lake.flows.sync_catalog import check_catalog


@flow(flow_run_name="ingest {source}, then check")
def ingest_and_check(source: str, uri: str, lake: str | None = None) -> State[Any]:
    """Brings what is new of a source into the lake, then compares storage, ledger and catalogs.

    Args:
        source: Name of the source.
        uri: Bucket and prefix, or folder, in which the logs lie.
        lake: Root of the lake; the settings name it when this does not.
    """
    read = ingest(source, uri, lake=lake, return_state=True)
    checked = check_catalog(lake=lake, return_state=True)
    problems = [str(state.message) for state in (read, checked) if not state.is_completed()]
    return Failed(message="; ".join(problems)) if problems else read
