"""The batches of a flow run, side by side on the task runner that the settings name.

A task is a batch, or a few of them: so that what Prefect does for a task (milliseconds on threads, a tenth of a second
on processes and Dask) stays small beside it, and a run has at most a hundred. Whether a batch is counted once is the
ledger's affair alone; a task that runs twice does no harm.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import BrokenExecutor
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, cast

import httpx
from prefect import task
from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State, TaskRun
from prefect.futures import PrefectFuture, as_completed
from prefect.logging import get_run_logger
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.task_runners import ProcessPoolTaskRunner, TaskRunner, ThreadPoolTaskRunner
from prefect.tasks import Task, exponential_backoff
from prefect.utilities.annotations import quote

from ocsf_lake.config import Settings
from ocsf_lake.flows import parent
from ocsf_lake.flows.report import Failure, Report
from ocsf_lake.ingest.run import Summary
from ocsf_mappers.errors import ConfigError, RetriableError

if TYPE_CHECKING:
    from uuid import UUID

MOST_TASKS = 100
"""Of one flow run."""
LOST_WORKERS = frozenset(["KilledWorker", "TaskRunCrashed", "CrashedRun"])
"""What else than a broken pool says that the process of a task ended, which another task of it may have done."""
SHOWN_SECONDS = 2.0
"""How often progress is reported, at most."""


def retriable(_: Task[..., Any], __: TaskRun, state: State[Any]) -> bool:
    """Whether trying again may help: errors that say so, and no others."""
    return isinstance(state.result(raise_on_failure=False), RetriableError)


@task(
    task_run_name="{name}",
    retry_condition_fn=retriable,
    retry_jitter_factor=0.5,
    cache_policy=NO_CACHE,
    persist_result=False,
)
def work_batches(name: str, batch_ids: list[str], settings: Settings) -> Summary:
    """Does batches that are planned, one after the other; those that another worker holds are left to it.

    A batch that fails is in what this returns, and stops no other.

    Args:
        name: What the run of this task is called.
        batch_ids: Ids of the batches.
        settings: The lake.

    Raises:
        RetriableError: The only batch was throttled or timed out; Prefect tries again.
        WriteError: The lake refused a file.
    """
    from ocsf_lake.ingest import run as ingest

    done = ingest.work(batch_ids, settings.model_copy(update={"workers": 1}))
    if len(batch_ids) == 1 and done.failures and done.failures[0].may_pass:
        raise RetriableError(done.failures[0].reason)
    counts = done.counts
    get_run_logger().info(
        "batches=%d busy=%d read=%d events=%d quarantined=%d dropped=%d",
        sum(source.batches for source in done.sources.values()), done.busy,
        counts.read, counts.events, counts.quarantined, counts.dropped,
    )  # fmt: skip
    return done


def task_runner(settings: Settings) -> TaskRunner[Any]:
    """What runs the tasks of a flow run, as the settings say.

    Raises:
        ConfigError: Dask is asked for and not installed.
    """
    if settings.task_runner == "threads":
        return ThreadPoolTaskRunner(max_workers=settings.workers)
    if settings.task_runner == "processes":
        return ProcessPoolTaskRunner(max_workers=settings.workers, initializer=parent.end_with_it)
    try:
        from prefect_dask.task_runners import DaskTaskRunner
    except ImportError as error:
        raise ConfigError("setting task_runner: dask needs more packages: pip install 'ocsf-lake[dask]'") from error
    if settings.dask_scheduler:
        return DaskTaskRunner(address=settings.dask_scheduler)
    return DaskTaskRunner(
        cluster_kwargs={"n_workers": settings.workers, "threads_per_worker": 1, "dashboard_address": None}
    )


def grouped(batch_ids: Sequence[str], most: int = MOST_TASKS) -> list[list[str]]:
    """Batches in the order given, in at most so many groups, all of nearly the same length."""
    groups = min(most, len(batch_ids))
    return [list(batch_ids[len(batch_ids) * n // groups : len(batch_ids) * (n + 1) // groups]) for n in range(groups)]


def work(
    source: str, batch_ids: Sequence[str], settings: Settings, report: Report, suspects: Sequence[str] = ()
) -> None:
    """Does batches side by side and counts them in the report. A batch that fails does not stop the others.

    What could not be done side by side is done again afterwards, each batch alone: those whose store was busy, those
    that failed in earlier runs, and those whose process ended, which may have been another one's doing.

    Args:
        source: Name of the source. Runs of its tasks have it as a tag, which a limit of concurrency may name.
        batch_ids: Ids of planned batches.
        settings: The lake, the task runner, retries and timeouts.
        report: What the run did.
        suspects: Those of them that failed before; the later, the oftener.
    """
    if not batch_ids:
        return
    from ocsf_lake.ingest import run as ingest
    from ocsf_lake.lake import opened

    runs = _Runs(source, settings, report, len(batch_ids))
    doubtful = list(suspects)
    with _same_server():
        remaining = [item for item in batch_ids if item not in doubtful]
        while remaining:
            lost = runs.side_by_side(remaining)
            # Begun when their process ended, or when another one's did: one of them may be why.
            doubtful[:0] = begun = ingest.suspects(lost, settings)
            remaining = [item for item in lost if item not in begun]
            if remaining and not begun:
                doubtful[:0], remaining = remaining, []
        for batch_id in [*runs.passing, *doubtful]:
            runs.alone(batch_id)
    ingest.look_for_copies(opened(settings, with_retries=True, reading=True), report.summary)


class _Runs:
    """Runs of the task `work_batches`."""

    def __init__(self, source: str, settings: Settings, report: Report, batches: int) -> None:
        self.settings = settings
        self.source = source
        self.report = report
        self.passing: list[str] = []
        self.progress = _Progress(source, batches)
        self.task = work_batches.with_options(
            retries=settings.retries,
            retry_delay_seconds=exponential_backoff(settings.retry_seconds),
            timeout_seconds=settings.task_seconds if settings.task_runner == "processes" else None,
            tags=[source],
        )

    def side_by_side(self, batch_ids: Sequence[str]) -> list[str]:
        """Does groups of batches; gives those whose process ended. Failures that may pass are put into `passing`."""
        lost: list[str] = []
        for name, group, result in self._ended(grouped(batch_ids)):
            undone: list[str] = []
            if isinstance(result, Summary):
                passing = {failure.batch_id for failure in result.failures if failure.may_pass}
                result.failures = [failure for failure in result.failures if failure.batch_id not in passing]
                self.report.add(result)
                undone = [item for item in group if item in passing]
                self.passing += undone
            elif isinstance(result, BrokenExecutor) or type(result).__name__ in LOST_WORKERS:
                undone = group
                lost += group
            else:
                self.report.failures.append(Failure(name, str(result), group))
            self.progress.add(len(group) - len(undone))
        return lost

    def alone(self, batch_id: str) -> None:
        """Does one batch. On processes it has one of its own, which may end with it."""
        for name, group, result in self._ended([[batch_id]]):
            if isinstance(result, Summary):
                self.report.add(result)
            else:
                self.report.failures.append(Failure(name, str(result), group))
        self.progress.add(1)

    def _ended(self, groups: Sequence[list[str]]) -> Iterator[tuple[str, list[str], Any]]:
        """Name, batches and result of each run of the task, as they end; an error is a result too."""
        if not groups:
            return
        # Prefect would look for futures inside the settings; Dask takes a quoted value for a tuple of its own.
        shared = self.settings if self.settings.task_runner == "dask" else quote(self.settings)
        with task_runner(self.settings).duplicate() as runner:
            futures = {}
            for group in groups:
                name = f"{self.source} {group[0][:8]}" + (f" and {len(group) - 1} more" if len(group) > 1 else "")
                parameters = {"name": name, "batch_ids": group, "settings": shared}
                futures[runner.submit(self.task, parameters)] = (name, group)
            for future in as_completed(list(futures)):
                yield *futures[future], _result(future)


def _result(future: PrefectFuture[Any]) -> Any:
    """What a task gave or raised; also what the end of its process raises here."""
    try:
        return future.result(raise_on_failure=False)
    except Exception as error:
        return error


@contextmanager
def _same_server() -> Iterator[None]:
    """Other processes talk to the embedded server of this one; without its address each would start its own."""
    if PREFECT_API_URL.value():
        yield
        return
    with get_client(sync_client=True) as client, temporary_settings({PREFECT_API_URL: str(client.api_url)}):
        yield


class _Progress:
    """The progress artifact of a run: per cent of its batches."""

    def __init__(self, source: str, batches: int) -> None:
        self.source = source
        self.batches = batches
        self.done = 0
        self.shown_at = time.monotonic()
        # Called from a flow that is no coroutine, it gives no coroutine either.
        self.artifact = cast("UUID", create_progress_artifact(0.0, self._key, self._progress))

    @property
    def _key(self) -> str:
        return f"progress-{self.source.replace('_', '-')}"

    @property
    def _progress(self) -> str:
        return f"{self.source}: {self.done:,} of {self.batches:,} batches"

    def add(self, batches: int) -> None:
        self.done += batches
        now = time.monotonic()
        if self.done < self.batches and now - self.shown_at < SHOWN_SECONDS:
            return
        self.shown_at = now
        with suppress(httpx.HTTPError):  # the batches go on when the server is away
            update_progress_artifact(self.artifact, 100.0 * self.done / self.batches, self._progress)
