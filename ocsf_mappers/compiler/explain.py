"""A mapper as its mapping document, in Markdown, and the query that it compiles to, laid out for reading."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping

from ocsf_mappers.compiler.compile import OBSERVABLE_TYPES, BatchShape, compile_mapper
from ocsf_mappers.compiler.program import Program
from ocsf_mappers.errors import MappingError
from ocsf_mappers.ocsf import schema
from ocsf_mappers.ocsf.schema import DEFAULT_VERSION
from ocsf_mappers.readers import JsonRecords
from ocsf_mappers.vocabulary import expr as e
from ocsf_mappers.vocabulary.check import lacking, table_names
from ocsf_mappers.vocabulary.mapper import EventMap, Mapper
from ocsf_mappers.vocabulary.record import OBJECT_KEY, OBJECT_KEY_COLUMNS

LONG_PATTERN = 40
"""A longer pattern is named in the text and written out once below it."""

DERIVED = (
    "Not in the tables, because the engine derives it: ids, names and captions beside ids (`activity_name`, "
    "`type_uid`, `class_name`...), `*_dt` beside times, `metadata.product`, `metadata.profiles`, `metadata.version`, "
    "`observables`, and `unmapped` with everything that nothing below reads."
)


# -- expressions as text ----------------------------------------------------------------------------------------------
class Words:
    """Expressions as readable text; long patterns are numbered and kept in `patterns`."""

    def __init__(self) -> None:
        self.patterns: dict[str, int] = {}

    def of(self, given: object) -> str:
        """The text of an expression or a constant."""
        expr = e.as_expr(given)
        match expr:
            case e.Column(parts):
                special = {OBJECT_KEY: "object_key", e.OUTER: "outer", e.ELEMENT: "element"}
                return ".".join((special.get(parts[0], parts[0]), *parts[1:]))
            case e.Every(inner, path):
                return f"every({self._whole(inner)}, {path})"
            case e.Band(inner, floors, otherwise):
                said = ", ".join(f"from {floor} {_quoted(new)}" for floor, new in floors)
                return f"band({self.of(inner)}: {said}, else {self._whole(otherwise)})"
            case e.Literal(constant):
                return json.dumps(constant, ensure_ascii=False)
            case e.ListOf(items):
                return f"[{', '.join(map(self.of, items))}]"
            case e.Json(inner, keys):
                return ".".join([self._whole(inner), *keys])
            case e.Extract(inner, pattern):
                return f"extract({self.of(inner)}, {self._pattern(pattern)})"
            case e.Epoch(inner, micros, _):
                return f"epoch_{'seconds' if micros == 1_000_000 else 'millis'}({self.of(inner)})"
            case e.Iso8601(inner):
                return f"iso8601({self.of(inner)})"
            case e.Coalesce(items):
                return f"coalesce({', '.join(map(self._whole, items))})"
            case e.Replace(inner, pairs, otherwise):
                return self._replace("replace", inner, pairs, otherwise)
            case e.ReplacePrefix(inner, pairs, otherwise):
                return self._replace("replace_prefix", inner, pairs, otherwise)
            case e.Case(branches, default):
                return self._case(branches, default)
            case e.Each(inner, fields):
                return f"each({self.of(inner)}, {', '.join(f'{path}: {self.of(value)}' for path, value in fields)})"
            case e.Sql(template, reads, _):
                return f"sql({template.format(*map(self.of, reads))})"
            case _:
                return self._claim(expr)

    def _claim(self, expr: e.Expr) -> str:
        match expr:
            case e.Compare(op, left, right):
                return f"{self._whole(left)} {'!=' if op == '<>' else op} {self._whole(right)}"
            case e.Logic(op):
                return f" {op.lower()} ".join(self._operand(item, op) for item in _chain(expr, op))
            case e.IsNull(inner):
                return f"{self._whole(inner)} is null"
            case e.IsIn(inner, values):
                return f"{self._whole(inner)} in ({', '.join(map(_quoted, values))})"
            case e.Test(function, inner, argument):
                said = {"regexp_matches": "matches", "starts_with": "starts with", "ends_with": "ends with"}
                shown = self._pattern(argument) if function == "regexp_matches" else _quoted(argument)
                return f"{self._whole(inner)} {said.get(function, function)} {shown}"
            case e.Not(e.IsNull(inner)):
                return f"{self._whole(inner)} is not null"
            case e.Not(e.IsIn(inner, values)):
                return f"{self._whole(inner)} not in ({', '.join(map(_quoted, values))})"
            case e.Not(inner):
                return f"not ({self.of(inner)})"
            case _:
                raise TypeError(f"{type(expr).__name__} has no text")

    def _whole(self, expr: e.Expr) -> str:
        """The text as one operand."""
        text = self.of(expr)
        return f"({text})" if isinstance(expr, e.Case | e.Logic | e.Compare | e.IsIn | e.IsNull | e.Test) else text

    def _operand(self, expr: e.Expr, op: str) -> str:
        text = self.of(expr)
        return f"({text})" if isinstance(expr, e.Case) or (isinstance(expr, e.Logic) and expr.op != op) else text

    def _case(self, branches: Iterable[tuple[e.Expr, e.Expr]], default: e.Expr | None) -> str:
        parts = [f"{self._whole(value)} when {self.of(test)}" for test, value in branches]
        return ", else ".join([*parts, *([self._whole(default)] if default is not None else [])])

    def _replace(self, name: str, inner: e.Expr, pairs: Iterable[tuple[str, str]], otherwise: e.Expr | None) -> str:
        olds: dict[str, list[str]] = {}
        for old, new in pairs:
            olds.setdefault(new, []).append(_quoted(old))
        parts = [f"{', '.join(found)} -> {_quoted(new)}" for new, found in olds.items()]
        last = [] if otherwise is None else [f"else {self._whole(otherwise)}"]
        return f"{name}({'; '.join([self.of(inner), *parts, *last])})"

    def _pattern(self, pattern: str) -> str:
        if len(pattern) <= LONG_PATTERN:
            return f"/{pattern}/"
        return f"pattern {self.patterns.setdefault(pattern, len(self.patterns) + 1)}"


def text(given: object) -> str:
    """An expression or constant as readable text, such as `coalesce(pkt_srcaddr, srcaddr)`."""
    words = Words()
    found = words.of(given)
    return re.sub(r"pattern (\d+)", lambda name: f"/{list(words.patterns)[int(name[1]) - 1]}/", found)


def _chain(expr: e.Expr, op: str) -> Iterator[e.Expr]:
    """The operands of the same operator, however they were nested."""
    if isinstance(expr, e.Logic) and expr.op == op:
        yield from _chain(expr.left, op)
        yield from _chain(expr.right, op)
    else:
        yield expr


def _quoted(value: str) -> str:
    return json.dumps(value, ensure_ascii=False)


# -- the mapping document ---------------------------------------------------------------------------------------------
def markdown(mapper: Mapper, version: str = DEFAULT_VERSION) -> str:
    """The mapping document of a source: formats, tables, and a table of attributes for each event map.

    Raises:
        SchemaError: The OCSF version is not shipped.
    """
    facts, words = schema.load(version), Words()
    product = mapper.product
    named = " ".join(filter(None, [product.vendor, product.name, product.feature]))
    sections = [
        f"# {mapper.name}",
        f"{named}, as OCSF {version}.",
        "\n".join(
            [
                f"- Formats: {'; '.join(reader.label for reader in mapper.readers)}.",
                f"- Tables: {', '.join(map(_code, table_names(mapper)))}{_table_choice(mapper, words)}.",
                f"- {_lacks(mapper, version)}",
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
        sections += _event_map(mapper, event, number, facts, words)
    if words.patterns:
        sections += ["## Patterns", *(f"{number}. {_code(found)}" for found, number in words.patterns.items())]
    return "\n\n".join(sections) + "\n"


def _table_choice(mapper: Mapper, words: Words) -> str:
    return "" if isinstance(mapper.table, str) else f": {_code(words.of(mapper.table))}"


def _lacks(mapper: Mapper, version: str) -> str:
    missing = dict.fromkeys(lacking(mapper, version))
    if not missing:
        return f"OCSF {version} has every attribute below."
    listed = ", ".join(f"{_code(path)} ({event_class})" for event_class, path in missing)
    return f"OCSF {version} lacks, so that the values stay in `unmapped`: {listed}."


def _event_map(mapper: Mapper, event: EventMap, number: int, facts: schema.Schema, words: Words) -> Iterator[str]:
    found = facts.event_class(event.event_class)
    yield f"## {found.caption} [{found.uid}]"
    others = "All other records" if number else "All records"
    which = others if event.where is None else f"Records where {_code(words.of(event.where))}"
    yield f"{which}. Profiles: {', '.join(event.all_profiles)}."
    rows = ["| OCSF attribute | from | note |", "|---|---|---|"]
    for path, given in event.fields.items():
        expr = e.as_expr(given)
        for part in e.parts(expr):
            each = f"each of {_code(words.of(part.inner))}" + (", else an empty list" if part.or_empty else "")
            for name, value in part.fields:
                note = _note(mapper, event, facts, f"{path}.{name}")
                rows.append(_row(f"{path}[].{name}", words.of(value), "; ".join(filter(None, [each, note]))))
        if not e.parts(expr):
            rows.append(_row(path, words.of(expr), _note(mapper, event, facts, path)))
    yield "\n".join(rows)


def _row(path: str, source: str, note: str) -> str:
    return f"| {_code(path)} | {_cell(_code(source))} | {_cell(note)} |"


def _cell(value: str) -> str:
    return value.replace("|", "\\|").replace("\n", " ")


def _code(value: str) -> str:
    return f"`` {value} ``" if "`" in value else f"`{value}`"


def _note(mapper: Mapper, event: EventMap, facts: schema.Schema, path: str) -> str:
    """What the schema says of the attribute and the table does not show."""
    try:
        attribute = facts.resolve(event.event_class, path, event.all_profiles)[-1]
    except MappingError:
        return f"not in OCSF {facts.version}"
    notes = ["required"] if attribute.required else []
    if attribute.enum is not None and attribute.sibling:
        notes.append(f"caption beside it in {_code(attribute.sibling)}")
    if attribute.object is None:
        scalar = facts.scalar(attribute)
        if scalar.base == "timestamp_t":
            notes.append(f"also {_code(attribute.name + '_dt')}")
        given = mapper.observables.get(path)
        observables = [given] if isinstance(given, str) else list(given or ())
        if given is None and scalar.observable in OBSERVABLE_TYPES:
            observables = [facts.observable_captions[scalar.observable]]
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
    return layout(program.sql, _held(program))


def usual_batch(mapper: Mapper) -> BatchShape:
    """The relation that the query reads when records have the declared members and no others."""
    if any(isinstance(reader, JsonRecords) for reader in mapper.readers):
        return BatchShape(object_key=OBJECT_KEY_COLUMNS)
    return BatchShape(frozenset(path[0] for path in mapper.shape.leaves), object_key=OBJECT_KEY_COLUMNS)


def _held(program: Program) -> dict[str, str]:
    """Column of the query -> what it holds."""
    return {
        **{column: path for path, column in program.values.items()},
        **{column: f"{path}_dt" for path, column in program.times.items()},
        **{found.column: path for path, found in program.captions.items()},
        **{column: f"unmapped: {key}" for key, column in program.leftovers.items()},
    }


def layout(sql: str, held: Mapping[str, str] | None = None) -> str:
    """A query with the columns of its outer selects on their own lines; no word of it changes.

    Args:
        sql: The query, its common table expressions marked `MATERIALIZED (` as the compiler writes them.
        held: Alias of a column -> the comment behind it.
    """
    lines: list[str] = []
    for piece in _pieces(sql):
        alias = piece.removesuffix(",").rpartition(" AS ")[2]
        note = f"  -- {held[alias]}" if held and " AS " in piece and alias in held else ""
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
        found, end = mark[0], mark.end()
        if found.endswith("MATERIALIZED ("):
            level = depth = 1
        elif found in "([{":
            depth += 1
        elif found in ")]}":
            depth -= 1
            level = min(level, depth)
        elif depth == level and found in {",", "\n", "FROM"}:
            cut = mark.start() if found == "FROM" else end
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
