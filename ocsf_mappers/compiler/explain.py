"""A mapper as its mapping document, in Markdown, and the query that it compiles to, laid out for reading."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping

from ocsf_mappers.compiler.compile import BatchShape, compile_mapper
from ocsf_mappers.compiler.observables import OBSERVABLE_TYPES
from ocsf_mappers.compiler.program import Program
from ocsf_mappers.errors import MappingError
from ocsf_mappers.ocsf import schema
from ocsf_mappers.ocsf.schema import DEFAULT_VERSION
from ocsf_mappers.readers import JsonRecords
from ocsf_mappers.vocabulary.check import lacking
from ocsf_mappers.vocabulary.expr import as_word
from ocsf_mappers.vocabulary.lists import parts
from ocsf_mappers.vocabulary.mapper import EventMap, Mapper
from ocsf_mappers.vocabulary.record import OBJECT_KEY_COLUMNS
from ocsf_mappers.vocabulary.word import Explained

DERIVED = (
    "Not in the tables, because the engine derives it: ids, names and captions beside ids (`activity_name`, "
    "`type_uid`, `class_name`...), `*_dt` beside times, `metadata.product`, `metadata.profiles`, `metadata.version`, "
    "`observables`, and `unmapped` with everything that nothing below reads."
)


def text(value: object) -> str:
    """An expression or constant as readable text, such as `coalesce(pkt_srcaddr, srcaddr)`."""
    words = Explained()
    rendered = words.of(as_word(value))
    return re.sub(r"pattern (\d+)", lambda name: f"/{list(words.patterns)[int(name[1]) - 1]}/", rendered)


# -- the mapping document ---------------------------------------------------------------------------------------------
def markdown(mapper: Mapper, version: str = DEFAULT_VERSION) -> str:
    """The mapping document of a source: formats, tables, and a table of attributes for each event map.

    Raises:
        SchemaError: The OCSF version is not shipped.
    """
    ocsf, words = schema.load(version), Explained()
    product = mapper.product
    product_name = " ".join(filter(None, [product.vendor, product.name, product.feature]))
    sections = [
        f"# {mapper.name}",
        f"{product_name}, as OCSF {version}.",
        "\n".join(
            [
                f"- Formats: {'; '.join(reader.label for reader in mapper.readers)}.",
                f"- Tables: {', '.join(map(_code, mapper.tables))}{_table_choice(mapper, words)}.",
                f"- {_lacks(mapper, version)}",
                *([f"- Not known, and null wherever it is read: {_blank(mapper)}."] if mapper.blank else []),
                *(f"- Left out of `unmapped`: {_code(path)}, {reason}." for path, reason in mapper.drop.items()),
                *(
                    f"- Set aside: objects with {_code(part)} in their name, because {reason}."
                    for part, reason in mapper.set_aside.items()
                ),
            ]
        ),
        DERIVED,
    ]
    for number, event in enumerate(mapper.events):
        sections += _event_map(mapper, event, number, ocsf, words)
    if words.patterns:
        sections += ["## Patterns", *(f"{number}. {_code(pattern)}" for pattern, number in words.patterns.items())]
    return "\n\n".join(sections) + "\n"


def _blank(mapper: Mapper) -> str:
    return ", ".join(_code(json.dumps(text, ensure_ascii=False)) for text in mapper.blank)


def _table_choice(mapper: Mapper, words: Explained) -> str:
    return "" if isinstance(mapper.table_word, str) else f": {_code(words.of(as_word(mapper.table_word)))}"


def _lacks(mapper: Mapper, version: str) -> str:
    missing = dict.fromkeys(lacking(mapper, version))
    if not missing:
        return f"OCSF {version} has every attribute below."
    names = ", ".join(f"{_code(path)} ({event_class})" for event_class, path in missing)
    return f"OCSF {version} lacks, so that the values stay in `unmapped`: {names}."


def _event_map(mapper: Mapper, event: EventMap, number: int, ocsf: schema.Schema, words: Explained) -> Iterator[str]:
    event_class = ocsf.event_class(event.event_class)
    yield f"## {event_class.caption} [{event_class.uid}]"
    others = "All other records" if number else "All records"
    records = others if event.where is None else f"Records where {_code(words.of(as_word(event.where)))}"
    yield f"{records}. Profiles: {', '.join(event.all_profiles)}."
    rows = ["| OCSF attribute | from | note |", "|---|---|---|"]
    for path, word in event.words.items():
        for part in parts(word):
            each = f"each of {_code(words.of(part.inner))}" + (", else an empty list" if part.or_empty else "")
            for name, value in part.fields:
                note = _note(mapper, event, ocsf, f"{path}.{name}")
                rows.append(_row(f"{path}[].{name}", words.of(value), "; ".join(filter(None, [each, note]))))
        if not parts(word):
            rows.append(_row(path, words.of(word), _note(mapper, event, ocsf, path)))
    yield "\n".join(rows)


def _row(path: str, source: str, note: str) -> str:
    return f"| {_code(path)} | {_cell(_code(source))} | {_cell(note)} |"


def _cell(value: str) -> str:
    return value.replace("|", "\\|").replace("\n", " ")


def _code(value: str) -> str:
    return f"`` {value} ``" if "`" in value else f"`{value}`"


def _note(mapper: Mapper, event: EventMap, ocsf: schema.Schema, path: str) -> str:
    """What the schema says of the attribute and the table does not show."""
    try:
        attribute = ocsf.resolve(event.event_class, path, event.all_profiles)[-1]
    except MappingError:
        return f"not in OCSF {ocsf.version}"
    notes = ["required"] if attribute.required else []
    if attribute.enum is not None and attribute.sibling:
        notes.append(f"caption beside it in {_code(attribute.sibling)}")
    if attribute.object is None:
        scalar = ocsf.scalar(attribute)
        if scalar.base == "timestamp_t":
            notes.append(f"also {_code(attribute.name + '_dt')}")
        declared = mapper.observables.get(path)
        observables = [declared] if isinstance(declared, str) else list(declared or ())
        if declared is None and scalar.observable in OBSERVABLE_TYPES:
            observables = [ocsf.observable_captions[scalar.observable]]
        notes += [f"observable: {' or '.join(observables)}"] if observables else []
    return "; ".join(notes)


# -- the query --------------------------------------------------------------------------------------------------------
LINE = 120
INDENT = "    "
_SELECT = re.compile(r"(?:WITH )?\w+ AS (?:NOT )?MATERIALIZED \(|SELECT ")
_MARKS = re.compile(r"""'(?:[^']|'')*'|"(?:[^"]|"")*"|[(\[{]|[)\]}]|,|\n|\bFROM\b|\bMATERIALIZED \(""")
_WORDS = re.compile(r"""(?:'(?:[^']|'')*'|"(?:[^"]|"")*"|[^\s'"])+""")


def query(mapper: Mapper, version: str = DEFAULT_VERSION) -> str:
    """The DuckDB query that maps the source's usual records, one column a line, with what each column holds.

    Raises:
        SchemaError: The OCSF version is not shipped.
    """
    program = compile_mapper(mapper, version, usual_batch(mapper))
    return layout(program.sql, _labels(program))


def usual_batch(mapper: Mapper) -> BatchShape:
    """The relation that the query reads when records have the declared members and no others."""
    if any(isinstance(reader, JsonRecords) for reader in mapper.readers):
        return BatchShape(object_key=OBJECT_KEY_COLUMNS)
    return BatchShape(frozenset(path[0] for path in mapper.shape.leaves), object_key=OBJECT_KEY_COLUMNS)


def _labels(program: Program) -> dict[str, str]:
    """Column of the query -> what it holds."""
    return {
        **{column: path for path, column in program.values.items()},
        **{column: f"{path}_dt" for path, column in program.times.items()},
        **{caption.column: path for path, caption in program.captions.items()},
        **{column: f"unmapped: {key}" for key, column in program.leftovers.items()},
    }


def layout(sql: str, labels: Mapping[str, str] | None = None) -> str:
    """A query with the columns of its outer selects on their own lines; no word of it changes.

    Args:
        sql: The query, its common table expressions marked `MATERIALIZED (` as the compiler writes them.
        labels: Alias of a column -> the comment behind it.
    """
    lines: list[str] = []
    for piece in _pieces(sql):
        alias = piece.removesuffix(",").rpartition(" AS ")[2]
        note = f"  -- {labels[alias]}" if labels and " AS " in piece and alias in labels else ""
        first = _SELECT.match(piece) is not None
        if not (note or first) and lines and " -- " not in lines[-1] and len(lines[-1]) + len(piece) < LINE:
            lines[-1] += f" {piece}"
        else:
            lines += _wrapped(piece, "" if first else INDENT)
            lines[-1] += note
    return "\n".join(lines) + "\n"


def _pieces(sql: str) -> Iterator[str]:
    """The query cut behind commas and before FROM where no bracket of a select's own is open."""
    depth = level = start = 0
    for mark in _MARKS.finditer(sql):
        token, end = mark[0], mark.end()
        if token.endswith("MATERIALIZED ("):
            level = depth = 1
        elif token in "([{":
            depth += 1
        elif token in ")]}":
            depth -= 1
            level = min(level, depth)
        elif depth == level and token in {",", "\n", "FROM"}:
            cut = mark.start() if token == "FROM" else end
            if piece := sql[start:cut].strip():
                yield piece
            start = cut
    yield sql[start:].strip()


def _wrapped(piece: str, indent: str) -> list[str]:
    """A piece in lines of bounded length, broken where there is a space outside quotes."""
    lines = [indent]
    for word in _WORDS.findall(piece):
        if len(lines[-1]) + len(word) >= LINE and lines[-1].strip():
            lines.append(indent + INDENT)
        lines[-1] += word if lines[-1].endswith(" ") or not lines[-1] else f" {word}"
    return lines
