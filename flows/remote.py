"""A backfill by the workers of a Prefect server: one run of the deployment `backfill` for some days each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterDeploymentId,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import StateType
from prefect.exceptions import ObjectNotFound
from prefect.states import Scheduled

from ocsf_lake.flows import deployments
from ocsf_mappers.errors import ConfigError

DEPLOYMENT = "backfill/backfill"
PAGE = 200


@dataclass(frozen=True)
class Submitted:
    """Days of a backfill, and the run that does them.

    Args:
        first: First day.
        last: Last day.
        name: Of the run.
        new: Whether it was made now; False when one for the same days was waiting already.
    """

    first: date
    last: date
    name: str
    new: bool


def windows(first: date, last: date, days: int) -> Iterator[tuple[date, date]]:
    """A range of days in pieces of so many days, the last piece perhaps shorter."""
    while first <= last:
        end = min(first + timedelta(days=days - 1), last)
        yield first, end
        first = end + timedelta(days=1)


def submit(
    source: str,
    uri: str,
    first: date,
    last: date,
    days: int = 1,
    accounts: Sequence[str] = (),
    regions: Sequence[str] = (),
    lake: str | None = None,
) -> Iterator[Submitted]:
    """Makes the runs of a backfill; those that wait already are not made again.

    Runs that have ended, or that seem to run, are: what they did stands in the ledger, and takes a second to see.

    Args:
        source: Name of the source.
        uri: Bucket and prefix, or folder as the workers see it, in which `AWSLogs` lies.
        first: First day of events, UTC.
        last: Last day of events, included.
        days: Days of one run.
        accounts: Only these accounts.
        regions: Only these regions.
        lake: Root of the lake; None leaves it to the workers' settings.

    Raises:
        ConfigError: No server is configured, or it has no deployment of that name.
    """
    deployments.server()
    with get_client(sync_client=True) as client:
        try:
            deployment = client.read_deployment_by_name(DEPLOYMENT)
        except ObjectNotFound as error:
            raise ConfigError(
                f"the server has no deployment {DEPLOYMENT!r}; make it with `ocsf-lake deploy`"
            ) from error
        waiting = {_key(run.parameters): run.name for run in _waiting(client, deployment.id)}
        for begin, end in windows(first, last, days):
            parameters = {
                "source": source, "uri": uri, "first": begin.isoformat(), "last": end.isoformat(),
                "accounts": list(accounts), "regions": list(regions), "lake": lake,
            }  # fmt: skip
            if waiting_name := waiting.get(_key(parameters)):
                yield Submitted(begin, end, waiting_name, new=False)
                continue
            name = f"backfill {source} {begin} to {end}"
            client.create_flow_run_from_deployment(
                deployment.id, parameters=parameters, state=Scheduled(), name=name, tags=[*deployment.tags, source]
            )
            yield Submitted(begin, end, name, new=True)


def _waiting(client: SyncPrefectClient, deployment: Any) -> Iterator[Any]:
    run_filter = FlowRunFilter(
        deployment_id=FlowRunFilterDeploymentId(any_=[deployment]),
        state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.SCHEDULED])),
    )
    offset = 0
    while runs := client.read_flow_runs(flow_run_filter=run_filter, limit=PAGE, offset=offset):
        yield from runs
        offset += len(runs)


def _key(parameters: dict[str, Any]) -> tuple[object, ...]:
    values = (parameters.get(name) or None for name in ("source", "uri", "first", "last", "lake"))
    lists = (tuple(parameters.get(name) or ()) for name in ("accounts", "regions"))
    return (*values, *lists)
