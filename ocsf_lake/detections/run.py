"""Rules asked of what is new in a lake, and what they find added to it, each finding once.

1. What was found is noted in the ledger, in the transaction that says which batches were looked at. 2. It is written as
an object of the lake, under the name of the run and from what the ledger noted: doing it again writes the same bytes.
3. The object is ingested as any other, once. Whoever dies in between is followed by one that begins at 2.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import astuple, dataclass, field
from datetime import UTC, datetime
from tempfile import SpooledTemporaryFile

import duckdb

from ocsf_lake.config import Settings
from ocsf_lake.detections import findings, news, scan, statements
from ocsf_lake.detections.findings import SOURCE
from ocsf_lake.detections.rules import Rule
from ocsf_lake.detections.statements import Span
from ocsf_lake.ingest import run as ingest
from ocsf_lake.lake import Lake, opened
from ocsf_lake.ledger import chain
from ocsf_lake.ledger.baselines import Asked, Baselines
from ocsf_lake.ledger.detections import Detections, Finding
from ocsf_lake.ledger.results import ID_DIGITS
from ocsf_lake.query import query
from ocsf_lake.storage.store import Store
from ocsf_mappers.errors import RetriableError, WriteError

FOLDER = "_detections"
"""Below the lake's root, where findings lie as records."""
_SUFFIX = ".jsonl"
LEASE = hashlib.sha256(b"detections").hexdigest()[:ID_DIGITS]
"""One run at a time: what a lease is called is made like a batch's id."""
_IN_MEMORY = 16 << 20
"""Characters of findings."""


@dataclass
class Summary:
    """What a run did.

    Args:
        batches: Batches it looked at, where no range was named.
        found: Rule's key -> findings it made, known ones too.
        new: How many of all findings are new, those too that an earlier run had found and not written.
        reasons: Number of a rule -> why it could not be asked.
        asked: Rules about what was not seen before that were asked.
        full: Numbers of those for which the ledger keeps no more values.
        undone: What an earlier run told of as new, and late events show to have been there before: the finding, and
            whom and what it is about.
    """

    batches: int = 0
    found: Counter[str] = field(default_factory=Counter)
    events: Counter[str] = field(default_factory=Counter)
    new: int = 0
    reasons: dict[int, str] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)
    full: list[int] = field(default_factory=list)
    undone: list[tuple[str, str]] = field(default_factory=list)


def failpoint(step: str) -> None:
    """Called between the steps of a run; does nothing. Tests interrupt a run here."""


def detect(settings: Settings, rules: Sequence[Rule], span: Span | None = None) -> Summary:
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
    summary = Summary(reasons={number: rule.reason for number, rule in enumerate(rules) if rule.reason})
    with opened(settings) as lake, lake.leases.held(LEASE) as lease:
        if lease is None:
            raise RetriableError("another `ocsf-lake detect` is at work on this lake")
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
        run = _name(rules, span, batches, now)
        found = [
            _found(settings, rules, span, batches, now, summary),
            _news(settings, rules, span, batches, now, summary, Baselines(lake.ledger.engine)),
        ]
        with _kept(_counted(itertools.chain(*found), summary)) as every:
            detections.note(run, batches, every, now.isoformat(), summary.asked)
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


def _name(rules: Sequence[Rule], span: Span | None, batches: Sequence[str], now: datetime) -> str:
    bounds = None if span is None else [span.first, span.end]
    text = json.dumps([sorted(rule.version for rule in rules), bounds, sorted(batches), now.isoformat()])
    return hashlib.sha256(text.encode()).hexdigest()[:ID_DIGITS]


def _found(
    settings: Settings, rules: Sequence[Rule], span: Span | None, batches: Sequence[str], now: datetime,
    summary: Summary,
) -> Iterator[Finding]:  # fmt: skip
    files = None if span is not None else news.batch_files(batches)
    asked = span or Span()
    with scan.connected(settings, rules, asked, files) as connection:
        for part, numbers in scan.by_part(rules):
            numbers = [
                number for number in numbers if rules[number].looks_at_each and not rules[number].is_silent
            ]
            grouped = scan.divided(connection, part, rules, numbers, asked, summary.reasons, statements.groups)
            for chosen, sql in grouped:
                of = [rules[number] for number in chosen]
                yield from _of(connection, sql, of, settings, now, is_whole=span is not None)
        spans = _spans(connection, rules, asked, summary.reasons, is_new=span is None)
    for number, around in spans.items():
        rule = rules[number]
        assert rule.correlation is not None
        with scan.connected(settings, [rule], around) as connection:
            sql = statements.correlated_groups(rule.correlation, 0, around)
            yield from _of(connection, sql, [rule], settings, now, is_whole=True)


def _news(
    settings: Settings, rules: Sequence[Rule], span: Span | None, batches: Sequence[str], now: datetime,
    summary: Summary, baselines: Baselines,
) -> Iterator[Finding]:  # fmt: skip
    """Findings of what was not seen before; what there is from now on is noted, which may be done again."""
    files = None if span is not None else news.batch_files(batches)
    for number, found in news.look(settings, rules, span or Span(), files, summary.reasons):
        rule = rules[number]
        if not found.learn(baselines):
            summary.full.append(number)
        failpoint("learnt")
        summary.asked.append(Asked(found.baseline, rule.key))
        summary.undone += [(one["finding"], findings.about_of(one)) for one in found.rows("is_undone")]
        yield from findings.of_news(found.rows("is_news"), rule, found.baseline, settings.rule_suppressions, now)


def _of(
    connection: duckdb.DuckDBPyConnection, sql: str, rules: Sequence[Rule], settings: Settings, now: datetime, *,
    is_whole: bool,
) -> Iterator[Finding]:  # fmt: skip
    _, batches = query.stream(connection, sql)
    for rows in batches:
        yield from findings.of_rows(rows.to_pylist(), rules, settings.rule_suppressions, now, is_whole=is_whole)


def _spans(
    connection: duckdb.DuckDBPyConnection, rules: Sequence[Rule], asked: Span, reasons: dict[int, str], *, is_new: bool
) -> dict[int, Span]:
    """Of each correlation rule, when what is new may make it hold: at its events, and in the window after them."""
    found = {}
    for number, rule in enumerate(rules):
        if rule.correlation is None or rule.is_silent or number in reasons:
            continue
        if not is_new:
            found[number] = asked
            continue
        try:
            (row,) = query.run(connection, statements.extent(rule.correlation, asked)).to_pylist()
        except duckdb.Error as error:
            reasons[number] = str(error).split("\n")[0]
            continue
        if row["first"] is not None:
            found[number] = Span(row["first"], row["last"] + rule.correlation.window_ms + 1)
    return found


def _counted(found: Iterator[Finding], summary: Summary) -> Iterator[Finding]:
    for finding in found:
        summary.found[finding.rule] += 1
        summary.events[finding.rule] += finding.events
        yield finding


@contextmanager
def _kept(found: Iterator[Finding]) -> Iterator[Iterator[Finding]]:
    """Findings once all are found, many in a file: while the ledger notes them, nobody else can write to it."""
    with SpooledTemporaryFile(_IN_MEMORY, "w+", encoding="utf-8") as file:
        for finding in found:
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
