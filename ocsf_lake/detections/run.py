"""Rules asked of what is new in a lake, and what they find added to it, each finding once.

1. What was found is noted in the ledger, in the transaction that marks the batches as looked at. 2. It is written as an
object of the lake, under the name of the run and from what the ledger noted: doing it again writes the same bytes.
3. The object is ingested as any other, once. Whoever dies in between is followed by one that begins at 2.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import astuple, dataclass, field
from datetime import UTC, datetime
from functools import partial
from tempfile import SpooledTemporaryFile

from ocsf_lake.config import Settings
from ocsf_lake.detections import connections, findings, grouped, new_values
from ocsf_lake.detections.asked import Asked
from ocsf_lake.detections.failing import Failed
from ocsf_lake.detections.findings import SOURCE
from ocsf_lake.detections.scan import Askable
from ocsf_lake.detections.statements import Span
from ocsf_lake.ingest import run as ingest
from ocsf_lake.lake import Lake, opened
from ocsf_lake.ledger import chain
from ocsf_lake.ledger.baselines import Baseline, Baselines
from ocsf_lake.ledger.detections import Detections, Finding
from ocsf_lake.ledger.files import LakeFile
from ocsf_lake.ledger.results import ID_DIGITS
from ocsf_lake.query import shown
from ocsf_lake.storage.store import Store
from ocsf_mappers.errors import RetriableError, WriteError

FOLDER = "_detections"
"""Below the lake's root, where findings lie as records."""
_SUFFIX = ".jsonl"
LEASE = hashlib.sha256(b"detections").hexdigest()[:ID_DIGITS]
"""One run at a time: what a lease is called is made like a batch's id."""
_IN_MEMORY = 16 << 20
"""Characters of findings."""
BatchFiles = Mapping[str, list[LakeFile]]
"""Table -> files of batches."""


@dataclass
class Summary:
    """What a run did.

    Args:
        batches: Batches it looked at, where no range was named.
        findings: Rule's key -> findings it made, those too that the lake has already.
        new: How many of all findings are new, those too that an earlier run had found and not written.
        reasons: Number of a rule -> why it could not be asked.
        asked: Rules about what was not seen before that were asked.
        full: Numbers of those for which the ledger keeps no more values.
        undone: What an earlier run reported as new, and late events show to have been there before: the finding, and
            whom and what it is about.
    """

    batches: int = 0
    findings: Counter[str] = field(default_factory=Counter)
    events: Counter[str] = field(default_factory=Counter)
    new: int = 0
    reasons: dict[int, str] = field(default_factory=dict)
    asked: list[Baseline] = field(default_factory=list)
    full: list[int] = field(default_factory=list)
    undone: list[tuple[str, str]] = field(default_factory=list)

    @property
    def failed(self) -> dict[int, str]:
        """Those of the reasons that are of the events: rules were not asked of them, and may be asked of others."""
        return {number: reason for number, reason in self.reasons.items() if isinstance(reason, Failed)}


def failpoint(step: str) -> None:
    """Called between the steps of a run; does nothing. Tests interrupt a run here."""


def detect(settings: Settings, rules: Sequence[Askable], span: Span | None = None) -> Summary:
    """Asks rules of a lake, and adds what they find.

    Args:
        settings: The lake.
        rules: The rules; those that cannot be used are left out.
        span: Events of which time; None for those of batches that were never looked at.

    Raises:
        ReadError: A file of the lake is gone or damaged.
        RetriableError: Another run is at work, or the store or database does not answer.
        WriteError: The lake refused what was found; it is noted, and the next run writes it.
    """
    asked = [rule.asked for rule in rules]
    summary = Summary(reasons={number: rule.reason for number, rule in enumerate(asked) if rule.reason})
    with opened(settings) as lake, lake.leases.held(LEASE) as lease:
        if lease is None:
            raise RetriableError("another `ocsf-lake detect` is running on this lake")
        detections = Detections(lake.ledger.engine)
        if detections.is_new() and detections.restore(SOURCE, _written(lake.store), datetime.now(UTC).isoformat()):
            # None of its batches was looked at, as far as such a ledger knows: then of all, or events count twice.
            span = span or Span()
        summary.new += _write(lake, detections)
        batches = detections.waiting(SOURCE) if span is None or span == Span() else []
        summary.batches = len(batches)
        if span is None and not batches:
            return summary
        now = datetime.now(UTC)
        run = _name(asked, span, batches, now)
        tables = dict.fromkeys(table for rule in asked for one in rule.relations for table in one.tables)
        files = detections.files_of(batches, tables) if span is None else None
        results = [
            _findings(settings, asked, span, files, now, summary),
            _new_values(settings, asked, span, files, now, summary, Baselines(lake.ledger.engine)),
        ]
        with _kept(_counted(itertools.chain(*results), summary)) as every:
            lease.check()
            detections.note(run, batches, every, now.isoformat(), summary.asked, is_once=span is None)
        failpoint("noted")
        summary.new += _write(lake, detections)
    return summary


def waiting(settings: Settings) -> list[str]:
    """The batches that rules were never asked of.

    Raises:
        MissingError: There is no lake.
    """
    with opened(settings, reading=True) as lake:
        return Detections(lake.ledger.engine).waiting(SOURCE)


def _name(rules: Sequence[Asked], span: Span | None, batches: Sequence[str], now: datetime) -> str:
    bounds = None if span is None else [span.first, span.end]
    text = json.dumps([sorted(rule.version for rule in rules), bounds, sorted(batches), now.isoformat()])
    return hashlib.sha256(text.encode()).hexdigest()[:ID_DIGITS]


def _findings(
    settings: Settings, rules: Sequence[Asked], span: Span | None, files: BatchFiles | None, now: datetime,
    summary: Summary,
) -> Iterator[Finding]:  # fmt: skip
    of_rows = partial(findings.of_rows, rules=rules, suppressions=settings.rule_suppressions, now=now)
    tables = None if files is None else [table for table, some in files.items() if some]
    new = None if files is None else _chosen(files)
    spans: dict[int, Span] = {}
    with connections.connected(settings, rules, span or Span(), new, tables) as lake:
        for rows in grouped.of_events(lake, rules, span, summary.reasons, spans):
            yield from of_rows(rows, is_whole=span is not None)
    for rows in grouped.of_correlations(settings, rules, spans, summary.reasons):
        yield from of_rows(rows, is_whole=True)


def _new_values(
    settings: Settings, rules: Sequence[Asked], span: Span | None, files: BatchFiles | None, now: datetime,
    summary: Summary, baselines: Baselines,
) -> Iterator[Finding]:  # fmt: skip
    """Findings of what was not seen before; what there is from now on is noted, which may be done again."""
    new = None if files is None else _chosen(files)
    for number, values in new_values.look(settings, rules, span or Span(), new, summary.reasons):
        rule = rules[number]
        if not values.learn(baselines):
            summary.full.append(number)
        failpoint("learnt")
        summary.asked.append(Baseline(values.baseline, rule.key))
        summary.undone += [(one["finding"], findings.about_of(one)) for one in values.rows("is_undone")]
        yield from findings.of_new_values(values.rows("is_new"), rule, values.baseline, settings.rule_suppressions, now)


def _chosen(files: BatchFiles) -> shown.Chosen:
    return lambda _, tables: {table: files.get(table, []) for table in tables}


def _counted(results: Iterator[Finding], summary: Summary) -> Iterator[Finding]:
    for finding in results:
        summary.findings[finding.rule] += 1
        summary.events[finding.rule] += finding.events
        yield finding


@contextmanager
def _kept(results: Iterator[Finding]) -> Iterator[Iterator[Finding]]:
    """Findings once all are found, many in a file: while the ledger notes them, nobody else can write to it."""
    with SpooledTemporaryFile(_IN_MEMORY, "w+", encoding="utf-8") as file:
        for finding in results:
            file.write(json.dumps(astuple(finding)) + "\n")
        file.seek(0)
        yield (Finding(*json.loads(line)) for line in file)


def _written(store: Store) -> Iterator[tuple[str, str, list[Finding]]]:
    """The runs whose findings lie in the lake."""
    last = ""
    while names := store.names_after(FOLDER, last):
        last = names[-1]
        for name in names:
            if name.endswith(_SUFFIX) and (data := store.get(f"{FOLDER}/{name}")) is not None:
                lines = data.decode().rstrip("\n").split("\n")
                yield name.removesuffix(_SUFFIX), name, [findings.of_text(line) for line in lines]


def _write(lake: Lake, detections: Detections) -> int:
    """Brings what runs noted, and nobody wrote, into the lake."""
    written = 0
    for run in detections.open_runs():
        records = detections.records(run)
        name = f"{FOLDER}/{run}{_SUFFIX}"
        data = "".join(f"{record}\n" for record in records).encode()
        lake.store.put_once(name, data)
        failpoint("put")
        summary = ingest.ingest([lake.store.uri(name)], _reading_lake(lake.settings), SOURCE)
        failpoint("ingested")
        if summary.failures or summary.not_read or summary.busy:
            file = lake.store.uri(name)
            raise WriteError("what was found could not be added to the lake; running again does it", file=file)
        detections.written(run, chain.beside(name, data))
        lake.publish_chain()
        written += len(records)
    return written


def _reading_lake(settings: Settings) -> Settings:
    """Settings with which objects are read as the lake is: the findings lie in it."""
    return settings.model_copy(
        update={"input_role": settings.lake_role, "input_external_id": settings.lake_external_id}
    )
