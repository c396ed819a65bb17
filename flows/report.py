"""What a flow run did, as Prefect's artifacts: one page of Markdown, and a table of what failed.

Names and reasons come from logs. They stand in code spans, where Markdown has no meaning.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import duckdb
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.client.schemas.objects import State, StateType
from prefect.states import Completed, Failed

from ocsf_lake import text as texts
from ocsf_lake.config import Settings
from ocsf_lake.ingest import summary as summaries
from ocsf_lake.ingest.plan import NotRead, Planned
from ocsf_lake.ingest.run import Summary
from ocsf_lake.inputs.coverage import Note
from ocsf_lake.ledger import copies
from ocsf_lake.ledger.results import State as Became
from ocsf_lake.pages import commands
from ocsf_mappers.compiler.statistics import DriftKind
from ocsf_mappers.errors import OcsfMappersError
from ocsf_mappers.shown import redacted

if TYPE_CHECKING:
    from ocsf_lake.pages import asked

SHOWN_FAILURES = 1_000
"""Rows of the table of failures; a server keeps every artifact."""
SHOWN_EXAMPLES = 3
SHOWN_DRIFT = 10
"""Of what is new in a source, so much is listed."""


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
            parts.append(f"older deliveries of {older.first} to {older.last} have not been read")
        if objects := self.summary.empty:
            parts.append(f"{texts.plural(objects, 'empty object')}")
        if objects := self.summary.copies.objects:
            parts.append(f"{texts.plural(objects, 'object')} read a second time under another name")
        if objects := self.summary.copies.replaced:
            parts.append(f"{texts.plural(objects, 'object')} read again with another ETag")
        if self.summary.busy:
            parts.append(f"{texts.plural(self.summary.busy, 'batch', 'batches')} left to another run")
        return "; ".join(parts)

    @property
    def found_nothing(self) -> bool:
        """Whether there was nothing to do, and nothing is to be said."""
        summary = self.summary
        older = summary.coverage is not None and (summary.coverage.older or summary.coverage.newer)
        return not (summary.sources or summary.unread.numbers.total() or self.failure_rows() or summary.busy or older)

    @property
    def refused(self) -> dict[str, float]:
        """Source -> share of its records that went to quarantine, of those with any, the largest first."""
        shares = {
            name: source.counts.quarantined / source.counts.read
            for name, source in self.summary.sources.items() if source.counts.quarantined and source.counts.read
        }  # fmt: skip
        return dict(sorted(shares.items(), key=lambda item: -item[1]))

    def to_do(self, settings: Settings) -> list[str]:
        """What somebody has to do about it, in Markdown, with the commands."""
        lines = []
        if self.failed_batches or self.failed_objects or self.summary.isolated:
            lines.append(_step("What failed is tried again by the next run; the tables below have the reasons.",
                               "status", "--lake", settings.lake))  # fmt: skip
        if self.refused:
            reasons = _reasons(settings, set(self.refused))
            for name, share in self.refused.items():
                number = self.summary.sources[name].counts.quarantined
                text = f"{code(name)}: {texts.plural(number, 'record')} ({share:.1%}) did not become events."
                words = ("quarantine", "show", "--source", name, "--limit", "3", "--lake", settings.lake)
                lines.append(_step(text, *words))
                lines += [f"  - {item.records:,}: {code(item.reason)}" for item in reasons if item.source == name]
        for name, source in sorted(self.summary.sources.items()):
            drift = [item for item in source.drift if item.kind is not DriftKind.OPEN_MEMBER]
            if drift:
                number_new = texts.plural(len(drift), "name or value", "names and values")
                text = f"{code(name)}: {number_new} never seen before."
                lines.append(_step(text, "status", name, "--lake", settings.lake))
                lines += [f"  - {code(f'{item.name} {item.text}'.strip())}" for item in drift[:SHOWN_DRIFT]]
        if (copied := self.summary.copies).objects:
            lines.append(_step(f"{copied.text}.", "query", copies.ALL, "--lake", settings.lake))
            lines += [f"  - {code(first)} and {code(second)}" for first, second in copied.examples]
        if copied.replaced:
            lines.append(f"- {copied.replaced_text}.")
            lines += [f"  - {code(uri)}" for uri in copied.replaced_examples]
        if copied.unknown:
            lines.append(f"- Objects that the lake also has under other names: not checked, {code(copied.unknown)}")
        coverage = self.summary.coverage
        for unread in (coverage.older, coverage.newer) if coverage is not None else ():
            if unread is not None and coverage is not None:
                lines.append(f"- Deliveries of {unread.first} to {unread.last} have not been read: "
                             f"{code(coverage.command(unread))}")  # fmt: skip
        return lines

    def markdown(self, settings: Settings | None = None) -> str:
        """The run as a page; with the settings it says what to do."""
        summary = self.summary
        parts = [f"# {code(self.name)}", self.message]
        if settings is not None and (steps := self.to_do(settings)):
            parts += ["## What to do", "\n".join(steps)]
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
            cells({"what": kind, "name": name, "reason": reason}) for kind, name, reason in rows[:SHOWN_FAILURES]
        ]

    def publish(self, settings: Settings) -> State[Any]:
        """Leaves the artifacts with the server; a run that found nothing leaves none.

        Returns:
            The state in which the run ends, see `ended`.
        """
        key = (self.source or "all-sources").replace("_", "-")
        failed = self.failure_rows()
        if not self.found_nothing:
            create_markdown_artifact(self.markdown(settings), f"run-{key}", self.message)
        if failed:
            create_table_artifact(failed, f"failures-{key}", self.message)
        return self.ended(settings)

    def ended(self, settings: Settings) -> State[Any]:
        """The state in which the run ends, by whose type the server's pages have their colours.

        Red when a batch or an object failed, or more of a source's records than `fail_quarantined` are in quarantine;
        orange, the colour of what crashed, when more than `alert_quarantined` are. Either raises the alert that a run
        failed. All else is done, and green.
        """
        if self.failure_rows():
            return Failed(message=self.message)
        share = max(self.refused.values(), default=0.0)
        if share > settings.fail_quarantined:
            return Failed(name="Quarantined", message=self.message)
        if share > settings.alert_quarantined:
            return State(type=StateType.CRASHED, name="Quarantined", message=self.message)
        return Completed(message=self.message, data=None)


def _step(text: str, *words: str) -> str:
    """A thing to do, with its command where one can be offered."""
    command = commands.offered(*words)
    return f"- {text} {code(command)}" if command else f"- {text}"


def _reasons(settings: Settings, sources: set[str]) -> list[asked.Reason]:
    """Why records of these sources are in quarantine, of earlier runs too; none where its files cannot be read."""
    from ocsf_lake.pages import asked

    try:
        return [reason for reason in asked.refused(settings).reasons if reason.source in sources]
    except (OcsfMappersError, duckdb.Error):
        return []


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


def cells(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of a table artifact; the server's pages take its text for Markdown too."""
    return {name: code(value) if isinstance(value, str) else value for name, value in row.items()}


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
