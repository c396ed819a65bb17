"""What every mapper promises, checked with its samples; each violation is one sentence."""

from __future__ import annotations

import json
import traceback
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pyarrow as pa

from ocsf_mappers import registry
from ocsf_mappers.engine.batch import RawObject
from ocsf_mappers.engine.engine import Engine
from ocsf_mappers.engine.mapped import Mapped
from ocsf_mappers.errors import MappingError, OcsfMappersError
from ocsf_mappers.ocsf import shipped
from ocsf_mappers.ocsf.schema import DEFAULT_VERSION
from ocsf_mappers.readers import Chunk
from ocsf_mappers.testing import lossless
from ocsf_mappers.testing.coverage import Coverage, coverage
from ocsf_mappers.testing.samples import Case, Json, as_events, cases_in, goldens, plain, pretty, read_cases
from ocsf_mappers.vocabulary.mapper import Mapper

Parts = Sequence[tuple[RawObject, Chunk]]

SHOWN = 10
"""Of one kind of problem, so many are listed one by one."""
NO_EVENTS: Json = {"events": [], "rejects": [], "dropped": {}}


@dataclass
class Report:
    """What a source's samples show.

    Args:
        source: Its name.
        file: Where it is written.
        problems: What does not hold, in words; where a line of the file is the cause, it is named before.
        cases: The samples.
        versions: OCSF versions that were tried.
        counts: Of the default version: records `read`, and what they ended as: `events`, `quarantined`, `dropped`.
        quarantined: Reason -> how many records.
        coverage: What of the records is mapped, and what OCSF asks for besides.
    """

    source: str
    file: Path | None = None
    problems: list[str] = field(default_factory=list)
    cases: Sequence[Case] = ()
    versions: tuple[str, ...] = ()
    counts: Counter[str] = field(default_factory=Counter)
    quarantined: Counter[str] = field(default_factory=Counter)
    coverage: Coverage | None = None


def conform(where: str | Path, samples: str | Path | None = None, *, update_golden: bool = False) -> None:
    """Hold a source against its samples in every OCSF version, and its events against their goldens.

    Args:
        where: A Python file with a source, or the folder of one; or the name of a source that is known.
        samples: Folder of its sample logs; `samples` beside the source when left out (see `samples_of`).
        update_golden: Write the goldens instead.

    Raises:
        AssertionError: Something does not hold; the message names all of it.
        ConfigError: There is no such source.
    """
    path = Path(where)
    path = path / "__init__.py" if path.is_dir() else path
    name = registry.use_file(path) if path.suffix == ".py" else str(where)
    report = check(name, None if samples is None else Path(samples), update_golden=update_golden)
    assert not report.problems, "\n".join([f"{name}: {len(report.problems)} to fix", *report.problems])


def samples_of(name: str) -> Path | None:
    """The folder with the samples of a source; None where there is none.

    A package has them in its folder `samples`, a file in `samples/<name>` beside it, a source of this project in
    `sample_logs/<name>`.

    Raises:
        ConfigError: There is no such source.
    """
    if (file := registry.file_of(name)) is None:
        return None
    is_package = file.name == "__init__.py"
    folder = file.parent if is_package else file.parent / "samples"
    places = [folder / "samples" if is_package else folder / name]
    above = 3 if is_package else 2
    places += [parent / "sample_logs" / name for parent in file.parents[above : above + 1]]
    return next((place for place in places if place.is_dir()), None)


def check(
    name: str, folder: Path | None = None, versions: Iterable[str] | None = None, *, update_golden: bool = False
) -> Report:
    """Hold a source against its samples.

    Args:
        name: Of the source.
        folder: Of its samples; where `samples_of` finds them when left out.
        versions: OCSF versions; all that are shipped when left out.
        update_golden: Write the goldens instead of holding events against them.

    Raises:
        ConfigError: There is no such source.
    """
    report = Report(name, registry.file_of(name), versions=tuple(versions or shipped.versions()))
    try:
        mapper = registry.load(name)
    except MappingError as error:
        report.problems = list(_placed(error, report.file))
        return report
    folder = folder or samples_of(name)
    report.cases = cases_in(folder, name) if folder is not None else []
    if not report.cases:
        report.problems.append("there are no samples: put some real records, or ones like them, into `samples`")
        return report
    report.problems += _shared_goldens(report.cases)
    if report.problems:
        return report
    parts = []
    for case in report.cases:
        try:
            parts += read_cases(mapper, [case])
        except OcsfMappersError as error:
            report.problems.append(f"{case.path.name}: {error}")
    for version in report.versions:
        engine = Engine(mapper, version)
        mapped = engine.map(parts)
        wrong = [*_of_version(engine, parts, mapped)]
        report.problems += [f"OCSF {version}: {message}" for message in wrong[:SHOWN]]
        if len(wrong) > SHOWN:
            report.problems.append(f"OCSF {version}: and {len(wrong) - SHOWN} more")
        if version == DEFAULT_VERSION:
            report.counts = Counter(
                read=sum(chunk.read for _, chunk in parts),
                events=len(mapped.events),
                quarantined=len(mapped.rejects),
                dropped=mapped.dropped.total(),
            )
            report.quarantined = Counter(mapped.rejects["reason"].to_pylist())
            report.coverage = coverage(mapper, parts, mapped)
            report.problems += _golden(report.cases, goldens(mapped, parts), update_golden)
    return report


def _placed(error: MappingError, file: Path | None) -> Iterator[str]:
    """What is wrong with a source that cannot be loaded, each with the line that it is about."""
    cause = error.__cause__ or error
    problems = getattr(cause, "problems", ()) or (str(error),)
    text = file.read_text(encoding="utf-8", errors="replace") if file is not None and file.is_file() else ""
    frames = traceback.extract_tb(cause.__traceback__)
    raised = [frame.lineno for frame in frames if frame.filename == str(file)]
    for problem in problems:
        line = getattr(cause, "lineno", None) or (raised[-1] if raised else _line(text, problem))
        yield f"{file}:{line}: {problem}" if line else problem


def line_of(file: Path, path: str) -> int | None:
    """The line of a mapper's file with the row of an OCSF path; None where there is none."""
    return _line(file.read_text(encoding="utf-8", errors="replace"), path) if file.is_file() else None


def _line(text: str, problem: str) -> int | None:
    """The line of the row that a problem begins with: the path, or its last step inside a table of its own."""
    path = problem.partition(":")[0]
    keys = (path, path.rpartition(".")[2], path.partition(".")[0])
    for words in (*(f'"{key}":' for key in keys), *(f'"{key}"' for key in keys)):
        for number, line in enumerate(text.splitlines(), start=1):
            if words in line:
                return number
    return None


def _of_version(engine: Engine, parts: Parts, mapped: Mapped) -> Iterator[str]:
    if not len(mapped.events):
        yield "no record of the samples becomes an event"
    yield from _accounted(parts, mapped)
    yield from _table(engine.mapper, mapped)
    yield from _lossless(engine.mapper, parts, mapped)
    yield from _same(engine, parts, mapped)


def _accounted(parts: Parts, mapped: Mapped) -> Iterator[str]:
    """Every record is an event or in quarantine, once, or a drop that is counted."""
    read = sum(chunk.read for _, chunk in parts)
    ends = len(mapped.events) + len(mapped.rejects) + mapped.dropped.total()
    if read != ends:
        yield (
            f"{read} records were read, and {ends} accounted for: {len(mapped.events)} events,"
            f" {len(mapped.rejects)} in quarantine, {mapped.dropped.total()} dropped"
        )
    places = Counter((lake["source_object"], lake["source_record"]) for _, lake in as_events(mapped.events))
    places += Counter((row["source_object"], row["source_record"]) for row in mapped.rejects.to_pylist())
    for (uri, number), count in places.items():
        if count > 1:
            yield f"record {number} of {uri} ends in {count} places"
    for row in mapped.rejects.to_pylist():
        if not row["reason"] or not row["raw"]:
            yield f"record {row['source_record']} of {row['source_object']} is in quarantine without reason or text"


def _table(mapper: Mapper, mapped: Mapped) -> Iterator[str]:
    columns = mapper.lake_table.arrow
    if mapped.events.column_names != [*columns.names, "_table"] or plain(mapped.events, columns).schema != columns:
        yield "events have other columns than their table"
    if strange := set(mapped.events["_table"].to_pylist()) - mapper.tables.keys():
        yield f"events name tables that the mapper does not: {', '.join(sorted(map(str, strange)))}"


def _lossless(mapper: Mapper, parts: Parts, mapped: Mapped) -> Iterator[str]:
    """What a record says is in its event, in `unmapped`, or among what the mapper drops with a reason."""
    events = {(lake["source_object"], lake["source_record"]): event for event, lake in as_events(mapped.events)}
    for where, chunk in parts:
        for number, record in lossless.records(chunk):
            event = events.get((where.uri, number))
            if event is None:
                continue
            for path, value in lossless.lost(mapper, record, event):
                yield f"record {number} of {where.uri}: {path} is lost: {value[:80]!r} is not in the event"
            for path, value in lossless.invented(record, event):
                yield f"record {number} of {where.uri}: unmapped has {path} = {value[:80]!r}, which the record has not"


def _same(engine: Engine, parts: Parts, mapped: Mapped) -> Iterator[str]:
    """A record becomes the same event whatever stands beside it."""
    halves: list[list[tuple[RawObject, Chunk]]] = [[], []]
    for where, chunk in parts:
        middle = len(chunk.records) // 2
        halves[0].append((where, replace(chunk, records=chunk.records.slice(0, middle))))
        halves[1].append((where, replace(chunk, records=chunk.records.slice(middle), bad=(), dropped={})))
    half_rows = [row for half in halves for row in _rows(engine.map(half).events)]
    if sorted(half_rows) != sorted(_rows(mapped.events)):
        yield "the halves of the samples map to other events than the whole"


def _rows(events: pa.Table) -> list[tuple[str, int, str]]:
    return [
        (lake["source_object"], lake["source_record"], json.dumps(event, sort_keys=True))
        for event, lake in as_events(events)
    ]


def _shared_goldens(cases: Sequence[Case]) -> Iterator[str]:
    """Samples whose golden is the same file: one would be written over the other."""
    of: dict[Path, list[str]] = {}
    for case in cases:
        of.setdefault(case.expected, []).append(case.path.name)
    for golden, names in of.items():
        if len(names) > 1:
            yield f"{', '.join(names)}: all have the golden {golden.name}: call them differently before the first dot"


# -- goldens ----------------------------------------------------------------------------------------------------------
def _golden(cases: Sequence[Case], mapped: dict[str, Json], update: bool) -> Iterator[str]:
    for case in cases:
        new = mapped.get(case.name, NO_EVENTS)
        command = f"ocsf-lake check {case.source} --update-golden"
        if update:
            case.expected.write_text(pretty(new), encoding="utf-8")
        elif not case.expected.exists():
            yield f"{case.path.name}: there is no golden: write it with `{command}`, and read it"
        else:
            old = json.loads(case.expected.read_text(encoding="utf-8"))
            lines = differences(old, new)
            yield from (f"{case.path.name}: {line}" for line in lines)
            if lines:
                yield f"{case.path.name}: if it is right, rewrite the golden with `{command}`"


def differences(old: Json, new: Json) -> list[str]:
    """What changed between two goldens, a line for each attribute of each record."""
    lines = [
        f"record {number}: {path}: {before or 'nothing'} -> {after or 'nothing'}"
        for number, _, path, before, after in _changes(old, new)
    ]
    if old["dropped"] != new["dropped"]:
        lines.append(f"dropped: {old['dropped']} -> {new['dropped']}")
    return lines


def changes(old: Json, new: Json) -> Iterator[tuple[str, str, str, str]]:
    """Class, path, value before and value after of everything that changed between two goldens; "" is no value."""
    for _, event_class, path, before, after in _changes(old, new):
        yield event_class, path, before, after


def _changes(old: Json, new: Json) -> Iterator[tuple[int, str, str, str, str]]:
    before, after = _by_record(old), _by_record(new)
    nothing: tuple[str, dict[str, str]] = ("", {})
    for number in sorted(before.keys() | after.keys()):
        (was, values_before), (now, values_after) = before.get(number, nothing), after.get(number, nothing)
        if was != now:
            yield number, now or was, "record", was, now
        if was and now:
            for path in sorted(values_before.keys() | values_after.keys()):
                if (first := values_before.get(path, "")) != (second := values_after.get(path, "")):
                    yield number, now, path, first, second


def _by_record(golden: Json) -> dict[int, tuple[str, dict[str, str]]]:
    """Number of a record -> what became of it, and every path of that with its value."""
    outcomes: dict[int, tuple[str, dict[str, str]]] = {}
    for item in golden["events"]:
        paths = dict(_paths({**item["event"], "lake": item["lake"]}))
        outcomes[item["lake"]["source_record"]] = (str(item["event"].get("class_name")), paths)
    for item in golden["rejects"]:
        outcomes[item["record"]] = ("quarantine", {"reason": item["reason"]})
    return outcomes


def _paths(value: object, path: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, dict) and value:
        for key, item in value.items():
            yield from _paths(item, f"{path}.{key}" if path else key)
    elif isinstance(value, list) and value:
        for number, item in enumerate(value):
            yield from _paths(item, f"{path}[{number}]")
    else:
        yield path, json.dumps(value, ensure_ascii=False)
