"""The flow that sends new events to a custom source of Amazon Security Lake."""

from __future__ import annotations

from typing import Any

from prefect import flow
from prefect.artifacts import create_markdown_artifact
from prefect.client.schemas.objects import State
from prefect.states import Completed

from ocsf_lake import text
from ocsf_lake.export import run as exports
from ocsf_lake.export.run import Summary
from ocsf_lake.flows import report, worker

SHOWN_OBJECTS = 1_000


@flow(flow_run_name="export {name}", timeout_seconds=worker.RUN_SECONDS)
def export(source: str, bucket: str, name: str, event_class: str | None = None, lake: str | None = None) -> State[Any]:
    """Sends new events of one class of a source, beginning with what an interrupted run left open.

    Args:
        source: Name of the source.
        bucket: URI of the Security Lake bucket.
        name: Name under which the custom source is registered.
        event_class: The class, by name or uid; needed when the source has several.
        lake: Root of the lake. Default: the one in the worker's settings.
    """
    worker.check("the bucket", bucket, "name it")
    done = exports.export(worker.settings(lake), source, bucket, name, event_class)
    create_markdown_artifact(page(done), "export", done.message)
    return Completed(message=done.message, data=None)


def page(done: Summary) -> str:
    """The run in Markdown."""
    rows = [
        [text.count(item.rows), text.size(item.bytes), report.code(item.uri)]
        for item in done.objects[:SHOWN_OBJECTS]
    ]
    parts = [f"{done.message}.", *([report.table(["events", "bytes", "object"], rows)] if rows else [])]
    return "\n\n".join(parts) + "\n"
