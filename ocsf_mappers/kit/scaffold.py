"""A source written down: the text of its module, page and test, from what a sample shows."""

from __future__ import annotations

import keyword
import re
from collections.abc import Iterator, Sequence

from ocsf_mappers.kit.look import Look, Member, Path, quoted
from ocsf_mappers.kit.propose import Proposal, Row
from ocsf_mappers.ocsf import schema
from ocsf_mappers.readers.delimited import Delimited
from ocsf_mappers.readers.json_records import JsonRecords
from ocsf_mappers.readers.lines import Lines
from ocsf_mappers.readers.parquet import ParquetRows
from ocsf_mappers.vocabulary.expr import Expr

WIDTH = 116
MARKS = 4
"""A record is recognized by so many of the members that all have."""
HEADER_CHARACTERS = 80
"""A text log is recognized by so much of its header line."""
EXAMPLE_CHARACTERS = 40


def module(name: str, look: Look, proposal: Proposal) -> str:
    """The source as a Python module.

    Args:
        name: Of the source.
        look: What its sample shows.
        proposal: Its class and rows.
    """
    cloud = proposal.cloud
    imports = ["EventMap", "Mapper", "Marks", "Product", "Source", "col", "text_struct", _reader_class(look)]
    imports += ["Having"] if isinstance(look.reader, JsonRecords) else []
    imports += ["JSON"] if any(member.is_json for member in look.members) else []
    imports += [word for word in ("FieldNames", "Pairs", "Pattern", "Values") if word in look.code]
    imports += ["object_key"] if cloud or proposal.row_of("time") is None else []
    record = _record(look)
    arrow = "\nimport pyarrow as pa\n" if "pa." in record else ""
    caption, uid = _class(proposal)
    ordered = sorted(imports, key=lambda word: (not word.isupper(), word.islower(), word))
    return f'''"""{_title(name)} -> OCSF {caption} [{uid}].

Format: say where the log's owner describes it.
Record: say what one record is, and how its times are to be read.
Proposed from {look.records} records: {proposal.reason}.
"""
{arrow}
{_import(ordered)}
{record}
MAPPER = Mapper(
    name="{name}",
    product=Product({_product(name)}),
    readers=[{look.code}],
    record=RECORD,
    events=[
        EventMap("{proposal.event_class}", profiles={'("cloud",)' if cloud else '()'}, fields={{
{_rows(look, proposal)}
        }}),
    ],
)  # fmt: skip

SOURCE = Source(
    MAPPER,
{_marks(look)}
)
'''


def page(name: str, look: Look, proposal: Proposal, sample: str) -> str:
    """SOURCE.md: what its author has to say of the log."""
    caption, uid = _class(proposal)
    return f"""# {_title(name)}

What the log is, where its owner describes it, where it is delivered and how late, and how often a record comes twice.

## Class

{caption} [{uid}]: {proposal.reason}. Say why it is right.

## Samples

| file | what it shows |
|---|---|
| `{sample}` | {min(look.records, 20)} records as they came; take out what nobody else may see |
"""


def test(name: str) -> str:
    """The source's test: three lines."""
    return f'''"""The samples of {name}, in every OCSF version, against their goldens."""

from pathlib import Path

from ocsf_mappers.testing import conform


def test_{name}() -> None:
    conform(Path(__file__).parent)
'''


# -- parts of the module ----------------------------------------------------------------------------------------------
_CAPITALS = frozenset(["aws", "dns", "vpc", "waf", "sso"])


def _title(name: str) -> str:
    return " ".join(word.upper() if word in _CAPITALS else word.capitalize() for word in name.split("_"))


def _product(name: str) -> str:
    vendor, _, rest = name.partition("_")
    return f'"{_title(rest or vendor)}", vendor="{_title(vendor)}"'


def _class(proposal: Proposal) -> tuple[str, int]:
    event_class = schema.load(proposal.version).classes[proposal.event_class]
    return event_class.caption, event_class.uid


def _reader_class(look: Look) -> str:
    return look.code.partition("(")[0]


def _import(names: Sequence[str]) -> str:
    line = f"from ocsf_mappers import {', '.join(names)}"
    return line if len(line) <= WIDTH else f"from ocsf_mappers import (\n    {_folded(', '.join(names) + ',', 4)}\n)"


def _folded(text: str, indent: int) -> str:
    """Words over as many lines as they need."""
    lines, line = [], ""
    for word in text.split(" "):
        if line and len(line) + 1 + len(word) > WIDTH - indent:
            lines.append(line)
            line = word
        else:
            line = f"{line} {word}".strip()
    return f"\n{' ' * indent}".join([*lines, line])


def _record(look: Look) -> str:
    if isinstance(look.reader, Delimited | Lines | ParquetRows):
        names = " ".join(member.path[0] for member in look.members)
        columns = _folded(names, 12)
        columns_code = f'"""\n    {columns}\n"""' if "\n" in columns else f'"{columns}"'
        return f"\nCOLUMNS = {columns_code}\nRECORD = text_struct(COLUMNS)\n"
    fields = _fields(look.members, (), 1)
    if not fields.strip().startswith("*text_struct") or "\n" in fields.strip():
        return f"\nRECORD = pa.struct([\n{fields}])  # fmt: skip\n"
    return f"\nRECORD = {fields.strip().removeprefix('*').removesuffix(',')}\n"


def _fields(members: Sequence[Member], above: Path, depth: int) -> str:
    """The fields of one object: texts first, then JSON, then the objects in it."""
    pad = "    " * depth
    direct = [member for member in members if member.path[:-1] == above]
    texts = [member.path[-1] for member in direct if not member.is_json]
    plain = [name for name in texts if re.fullmatch(r"\S+", name)]
    lines = []
    if plain:
        joined = _folded(" ".join(plain), len(pad) + 4)
        if "\n" in joined:
            *lines_before, last = [line.strip() for line in joined.split("\n")]
            parts = [f"{pad}    {quoted(part)}" for part in [*(f"{line} " for line in lines_before), last]]
            lines.append(f"{pad}*text_struct(\n" + "\n".join(parts) + f"\n{pad}),")
        else:
            lines.append(f"{pad}*text_struct({quoted(joined)}),")
    lines += [f"{pad}pa.field({quoted(name)}, pa.string())," for name in texts if name not in plain]
    lines += [f"{pad}pa.field({quoted(member.path[-1])}, JSON)," for member in direct if member.is_json]
    inner = dict.fromkeys(
        member.path[len(above)]
        for member in members
        if len(member.path) > len(above) + 1 and member.path[: len(above)] == above
    )
    for name in inner:
        below = [member for member in members if member.path[: len(above) + 1] == (*above, name)]
        fields = _fields(below, (*above, name), depth + 1)
        lines.append(f"{pad}pa.field({quoted(name)}, pa.struct([\n{fields}{pad}])),")
    return "".join(f"{line}\n" for line in lines)


def _rows(look: Look, proposal: Proposal) -> str:
    mapped = {row.path: row for row in proposal.rows if row.path is not None}
    lines = ["# classification", *_classification(proposal), "# occurrence"]
    if time := mapped.pop("time", None):
        lines.append(_mapped("time", time, look))
    else:
        lines.append('"time": object_key.time.iso8601(),  # no member is a time: that of the object\'s name')
    lines += [_mapped(path, mapped.pop(path), look) for path in ("start_time", "end_time") if path in mapped]
    if proposal.cloud:
        lines += ["# context", '"cloud.provider": "AWS",']
        for path, key in (("cloud.account.uid", "account"), ("cloud.region", "region")):
            row = mapped.pop(path, None)
            lines.append(f'"{path}": object_key.{key},' if row is None else _mapped(path, row, look))
    lines.append("# primary")
    # objects in the order in which they first come
    objects = list(dict.fromkeys(path.partition(".")[0] for path in mapped))
    together = sorted(mapped, key=lambda path: objects.index(path.partition(".")[0]))
    lines += [_mapped(path, mapped[path], look) for path in together]
    if proposal.missing:
        lines.append(f"# required by OCSF, and nothing in the sample gives them away: {', '.join(proposal.missing)}")
    if unmapped := [row for row in proposal.rows if row.path is None]:
        lines.append("# left in `unmapped` until somebody says where it goes")
        lines += [_unmapped_row(row, look) for row in unmapped]
    if look.more:
        lines.append(f"# {look.more:,} more members were not looked at; they are left in `unmapped` too")
    return "\n".join(f"            {line}" for line in lines)


def _classification(proposal: Proposal) -> Iterator[str]:
    method = next((row for row in proposal.rows if row.path == "http_request.http_method"), None)
    if method is not None and proposal.event_class == "http_activity":
        column = _column(method.member.path)
        captions = [(text, text.capitalize()) for text in sorted(method.member.values)]
        pairs = ", ".join(f'{text}="{caption}"' for text, caption in captions if caption in proposal.activities)
        yield f'"activity_id": {column}.replace({pairs}),'
    else:
        note = f"one of: {', '.join(proposal.activities)}" if proposal.activities else "nothing else is known"
        yield f'"activity_id": "Unknown",  # {note}'
    yield '"severity_id": "Informational",'
    for name in proposal.unknown:
        yield f'"{name}": "Unknown",  # required'


def _mapped(path: str, row: Row, look: Look) -> str:
    return f'"{path}": {row.expression.format(_column(row.member.path))},{_comment(row.member, look)}'


def _unmapped_row(row: Row, look: Look) -> str:
    near = f"; near: {', '.join(row.near)}" if row.near else ""
    return f'# "?": {_column(row.member.path)},{_comment(row.member, look)}{near}'


def _column(path: Path) -> str:
    """A member as the vocabulary names it; one that Python or the vocabulary has a word for, in brackets."""
    text = "col"
    for number, name in enumerate(path):
        is_word = name.isidentifier() and not keyword.iskeyword(name) and not name.startswith("_")
        is_method = number > 0 and hasattr(Expr, name)
        text += f".{name}" if is_word and not is_method else f"[{quoted(name)}]"
    return text


def _comment(member: Member, look: Look) -> str:
    """What stands there, so that a reader sees whether the row is right."""
    looks = sorted(member.looks or ())
    kinds = "/".join(sorted(member.kinds)) or "nothing"
    examples = [_shown(text) for text in member.examples[:1]]
    often = "" if member.count == look.records else f", in {member.count} of {look.records}"
    return f"  # {', '.join([*examples, *(looks or [kinds])])}{often}"


def _shown(text: str) -> str:
    cut = text if len(text) <= EXAMPLE_CHARACTERS else f"{text[:EXAMPLE_CHARACTERS]}..."
    return ascii(cut)


def _marks(look: Look) -> str:
    if isinstance(look.reader, JsonRecords):
        always = [member for member in look.members if member.count == look.records]
        # Long names are the log's own; `id` and `time` are everybody's.
        names = sorted({member.path[0] for member in always}, key=lambda name: (-len(name), name))[:MARKS]
        if names:
            joined = ", ".join(map(quoted, sorted(names))) + ("," if len(names) == 1 else "")
            return f"    marks=Marks(members=(Having(all_of=({joined})),)),"
        why = "# no member is in every record: say what marks one, or name the source when you ingest"
        return f"    {why}\n    marks=Marks(),"
    if look.header is not None:
        return f'    marks=Marks(heads=(r"{_begins(look.header)}",)),'
    if isinstance(look.reader, Lines):
        return "    # say what a line looks like, `lines`, or how an object begins, `heads`\n    marks=Marks(),"
    return "    marks=Marks(columns=frozenset(COLUMNS.split())),"


def _begins(header: str) -> str:
    """A pattern for the beginning of a header line, or for all of one that is short."""
    beginning = header[:HEADER_CHARACTERS].replace("\t", "\\t")
    escaped = re.sub(r"([.()|\"])", r"\\\1", beginning)
    return escaped + ("" if len(header) > HEADER_CHARACTERS else r"\s")
