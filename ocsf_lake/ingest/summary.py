"""What an ingest did, as tables and JSON show it."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from ocsf_lake.text import Lines, count, duration, size

if TYPE_CHECKING:
    from ocsf_lake.ingest.run import NotRead, SourceSummary, Summary

COLUMNS = ["source", "objects", "records", "events", "quarantined", "dropped", "unmapped keys", "in", "out", "seconds"]
"""Of the table with a row for each source, see `row`."""


def failed(summary: Summary) -> bool:
    """Whether something failed or is kept as another source, or objects were named and none was of any use."""
    from ocsf_lake.ledger.results import State

    states = summary.unread.numbers
    useless = bool(states[State.SKIPPED]) and states.total() == summary.listed
    wrong = states[State.FAILED] or states[State.KEPT] or summary.failures or summary.isolated or summary.broken
    return bool(wrong) or useless


def as_dict(summary: Summary) -> dict[str, Any]:
    """The run in JSON's types."""
    return {
        "listed": summary.listed,
        "known": summary.known,
        "of_others": summary.of_others,
        "sources": {name: _source_dict(found) for name, found in sorted(summary.sources.items())},
        "not_read_by_state": dict(summary.unread.numbers),
        "not_read": [{"object": item.uri, "state": item.state, "reason": item.reason} for item in summary.not_read],
        "busy_batches": summary.busy,
        "failed_batches": [
            {"batch": item.batch_id, "source": item.source, "reason": item.reason} for item in summary.failures
        ],
        "isolated_records": [asdict(item) for item in summary.isolated],
        "broken_sources": summary.broken,
        "coverage": summary.coverage and summary.coverage.as_dict(),
    }


def _source_dict(found: SourceSummary) -> dict[str, Any]:
    return {
        "objects": found.objects,
        "records": found.counts.read,
        "events": found.counts.events,
        "events_by_class": dict(found.events_by_class.most_common()),
        "quarantined": found.counts.quarantined,
        "dropped": dict(found.dropped.most_common()),
        "failed_casts": dict(found.failed_casts.most_common()),
        "unmapped_keys": dict(found.unmapped_keys.most_common()),
        "duplicates": found.duplicates,
        "variants": found.variants,
        "mapped_row_by_row": dict(found.fallbacks.most_common()),
        "news": [{**asdict(news), **asdict(sighting)} for news, sighting in found.news.items()],
        "bytes_in": found.bytes_in,
        "bytes_out": found.bytes_out,
        "files": found.files,
        "seconds": round(found.seconds, 3),
    }


def reasons(summary: Summary) -> list[tuple[tuple[str, str], list[NotRead]]]:
    """State and reason -> the objects that were not read for it."""
    groups: dict[tuple[str, str], list[NotRead]] = {}
    for item in summary.not_read:
        groups.setdefault((item.state, item.reason), []).append(item)
    return sorted(groups.items(), key=lambda group: group[0])


def row(name: str, found: SourceSummary) -> list[object]:
    """A source's line of the closing table, see `COLUMNS`."""
    classes = Lines(f"{number:,} {caption}" for caption, number in found.events_by_class.most_common())
    counts = found.counts
    return [
        name,
        count(found.objects),
        count(counts.read),
        classes,
        count(counts.quarantined),
        count(counts.dropped),
        count(len(found.unmapped_keys)),
        size(found.bytes_in),
        size(found.bytes_out),
        duration(found.seconds),
    ]
