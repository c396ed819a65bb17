"""What an ingest did, as tables and JSON show it."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from ocsf_lake.text import Lines, count, duration, plural, size

if TYPE_CHECKING:
    from ocsf_lake.ingest.run import NotRead, SourceSummary, Summary

COLUMNS = ["source", "objects", "records", "events", "quarantined", "dropped", "unmapped keys", "in", "out", "seconds"]
"""Of the table with a row for each source, see `row`."""


def failed(summary: Summary) -> bool:
    """Whether something failed or is kept as another source, or nothing of what was named or read was of any use."""
    from ocsf_lake.ledger.results import State

    states = summary.unread.numbers
    useless = bool(states[State.SKIPPED]) and states.total() == summary.listed
    wrong = states[State.FAILED] or states[State.KEPT] or summary.failures or summary.isolated or summary.broken
    return bool(wrong) or useless or refused(summary) is not None


def refused(summary: Summary) -> str | None:
    """That what was read is in quarantine and nothing of it an event, as where it is of another source; else None."""
    counts = summary.counts
    if counts.events or not counts.quarantined or any(source.duplicates for source in summary.sources.values()):
        return None
    return f"{plural(counts.quarantined, 'record')} in quarantine, and none became an event"


def as_dict(summary: Summary) -> dict[str, Any]:
    """The run in JSON's types."""
    return {
        "listed": summary.listed,
        "known": summary.known,
        "of_others": summary.of_others,
        "sources": {name: _source_dict(source) for name, source in sorted(summary.sources.items())},
        "not_read_by_state": dict(summary.unread.numbers),
        "not_read": [{"object": item.uri, "state": item.state, "reason": item.reason} for item in summary.not_read],
        "busy_batches": summary.busy,
        "failed_batches": [
            {"batch": item.batch_id, "source": item.source, "reason": item.reason} for item in summary.failures
        ],
        "isolated_records": [asdict(item) for item in summary.isolated],
        "broken_sources": summary.broken,
        "copies": asdict(summary.copies),
        "empty": {"objects": summary.empty, "examples": summary.empty_examples},
        "coverage": summary.coverage and summary.coverage.as_dict(),
    }


def _source_dict(source: SourceSummary) -> dict[str, Any]:
    return {
        "objects": source.objects,
        "records": source.counts.read,
        "events": source.counts.events,
        "events_by_class": dict(source.events_by_class.most_common()),
        "quarantined": source.counts.quarantined,
        "dropped": dict(source.dropped.most_common()),
        "failed_casts": dict(source.failed_casts.most_common()),
        "unmapped_keys": dict(source.unmapped_keys.most_common()),
        "duplicates": source.duplicates,
        "variants": source.variants,
        "redacted": dict(source.redacted.most_common()),
        "mapped_row_by_row": dict(source.fallbacks.most_common()),
        "news": [{**asdict(drift), **asdict(seen)} for drift, seen in source.drift.items()],
        "bytes_in": source.bytes_in,
        "bytes_out": source.bytes_out,
        "files": source.files,
        "seconds": round(source.seconds, 3),
    }


def reasons(summary: Summary) -> list[tuple[tuple[str, str], list[NotRead]]]:
    """State and reason -> the objects that were not read for it."""
    groups: dict[tuple[str, str], list[NotRead]] = {}
    for item in summary.not_read:
        groups.setdefault((item.state, item.reason), []).append(item)
    return sorted(groups.items(), key=lambda group: group[0])


def row(name: str, source: SourceSummary) -> list[object]:
    """A source's line of the closing table, see `COLUMNS`."""
    classes = Lines(f"{number:,} {caption}" for caption, number in source.events_by_class.most_common())
    counts = source.counts
    return [
        name,
        count(source.objects),
        count(counts.read),
        classes,
        count(counts.quarantined),
        count(counts.dropped),
        count(len(source.unmapped_keys)),
        size(source.bytes_in),
        size(source.bytes_out),
        duration(source.seconds),
    ]
