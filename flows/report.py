"""What a flow run did, as Prefect's artifacts: one page of Markdown, and a table of what failed.

Names and reasons come from logs. They stand in code spans, where Markdown has no meaning.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from ocsf_lake import text as texts
from ocsf_lake.ingest import summary as summaries
from ocsf_lake.ingest.plan import NotRead, Planned
from ocsf_lake.ingest.run import Summary
from ocsf_lake.inputs.coverage import Note
from ocsf_lake.ledger.results import State as Became
from ocsf_mappers.shown import redacted

SHOWN_FAILURES = 1_000
"""Rows of the table of failures; a server keeps every artifact."""
SHOWN_EXAMPLES = 3


@dataclass(frozen=True)
class Failure:
    """A task that failed.

    Args:
        task: Name of its run.
        reason: What was wrong.
        batch_ids: The batches it was to do.
    """

    task: str
    reason: str
    batch_ids: Sequence[str]


@dataclass
class Report:
    """What a flow run did.

    Args:
        name: Of the run.
        source: Name of the source; None when there were several.
        summary: What `ocsf-lake ingest` counts.
        failures: Tasks that failed.
    """

    name: str
    source: str | None
    summary: Summary = field(default_factory=Summary)
    failures: list[Failure] = field(default_factory=list)

    @classmethod
    def of(cls, name: str, source: str | None, planned: Planned) -> Report:
        """A report that begins with what planning found."""
        report = cls(name, source)
        report.summary.add_planned(planned)
        return report

    def add(self, done: Summary) -> None:
        """Counts what a task did."""
        self.summary.merge(done)

    @property
    def failed_objects(self) -> list[NotRead]:
        """Objects that could not be read."""
        return [item for item in self.summary.not_read if item.state is Became.FAILED]

    @property
    def failed_batches(self) -> list[tuple[str, str]]:
        """Batches that failed, and why: by themselves, or with the task that was to do them."""
        batches = [(failure.batch_id, failure.reason) for failure in self.summary.failures]
        return batches + [(batch, failure.reason) for failure in self.failures for batch in failure.batch_ids]

    @property
    def message(self) -> str:
        """The run in one line."""
        counts = self.summary.counts
        parts = [
            f"{self.summary.listed:,} objects found, {self.summary.known:,} known",
            f"{counts.read:,} records: {counts.events:,} events, {counts.quarantined:,} quarantined, "
            f"{counts.dropped:,} dropped",
        ]
        if batches := len(self.failed_batches):
            parts.append(f"{texts.plural(batches, 'batch', 'batches')} failed")
        if failed := self.summary.unread.numbers[Became.FAILED]:
            parts.append(f"{texts.plural(failed, 'object')} failed")
        if isolated := self.summary.isolated:
            parts.append(f"{texts.plural(len(isolated), 'record')} made the program fail")
        if broken := self.summary.broken:
            parts.append(f"{texts.plural(len(broken), 'source')} cannot be used")
        if (coverage := self.summary.coverage) and (older := coverage.older):
            parts.append(f"older deliveries of {older.first} to {older.last} lie there unread")
        if self.summary.busy:
            parts.append(f"{texts.plural(self.summary.busy, 'batch', 'batches')} left to another run")
        return "; ".join(parts)

    def markdown(self) -> str:
        """The run as a page."""
        summary = self.summary
        parts = [f"# {code(self.name)}", self.message]
        if summary.sources:
            rows = [summaries.row(name, source) for name, source in sorted(summary.sources.items())]
            parts.append(table(summaries.COLUMNS, rows))
        for (state, reason), items in summaries.reasons(summary):
            lines = [f"{texts.plural(len(items), 'object')} {state.replace('_', ' ')}: {code(reason)}"]
            if state != Became.SET_ASIDE:
                lines += [f"- {code(item.uri)}" for item in items[:SHOWN_EXAMPLES]]
            parts.append("\n".join(lines))
        if failed := self.failed_batches:
            rows = [[code(batch), code(reason)] for batch, reason in failed[:SHOWN_FAILURES]]
            parts += ["## Batches that failed", table(["batch", "reason"], rows)]
        if isolated := self.summary.isolated:
            rows = [[code(item.uri), item.record, code(item.reason)] for item in isolated]
            columns = ["object", "record", "reason"]
            parts += ["## Records that made the program fail, now in quarantine", table(columns, rows)]
        if broken := self.summary.broken:
            rows = [[code(name), code(reason)] for name, reason in sorted(broken.items())]
            parts += ["## Sources that cannot be used", table(["source", "reason"], rows)]
        if self.summary.coverage is not None:
            parts += ["## Looked at", *map(_noted, self.summary.coverage.notes())]
        return "\n\n".join(parts) + "\n"

    def failure_rows(self) -> list[dict[str, Any]]:
        """Batches, objects, records and sources that failed, one row each."""
        rows = [("batch", batch, reason) for batch, reason in self.failed_batches]
        rows += [("source", name, reason) for name, reason in self.summary.broken.items()]
        rows += [("record", f"{item.uri} {item.record}", item.reason) for item in self.summary.isolated]
        rows += [("object", item.uri, item.reason) for item in self.failed_objects]
        return [
            {"what": kind, "name": texts.escaped(name), "reason": texts.escaped(redacted(reason))}
            for kind, name, reason in rows[:SHOWN_FAILURES]
        ]

    def publish(self) -> State[Any]:
        """Leaves the artifacts with the server.

        Returns:
            The state in which the run ends: failed when a batch or an object did.
        """
        key = (self.source or "all-sources").replace("_", "-")
        create_markdown_artifact(self.markdown(), f"run-{key}", self.message)
        failed = self.failure_rows()
        if failed:
            create_table_artifact(failed, f"failures-{key}", self.message)
        return Failed(message=self.message) if failed else Completed(message=self.message, data=None)


def _noted(note: Note) -> str:
    lines = [f"- {code(name)}" for name in note.names]
    lines += [f"- and {note.hidden:,} more"] if note.hidden else []
    return "\n".join([f"{note.text}{':' if lines else ''}", *lines])


def code(text: str) -> str:
    """A code span that says exactly this text; control characters are spelled out."""
    escaped = texts.escaped(redacted(text))
    if not escaped.strip():
        return ""
    fence = "`" * (max(map(len, re.findall(r"`+", escaped)), default=0) + 1)
    space = " " if len(fence) > 1 or escaped[0] == " " else ""
    return f"{fence}{space}{escaped}{space}{fence}"


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table in Markdown; cells are Markdown already, lines of a cell stand below each other."""
    lines = [_line(columns), "|" + "|".join(" --- " for _ in columns) + "|"]
    lines += [_line([_cell(value) for value in row]) for row in rows]
    return "\n".join(lines)


def _cell(value: object) -> str:
    text = "<br>".join(value) if isinstance(value, texts.Lines) else texts.text(value)
    return text.replace("|", "\\|")  # it ends a cell even in a code span


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
