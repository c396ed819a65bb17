"""What the prompt proposes while a query is typed: tables, nested columns, values that OCSF has for them, keywords."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

from prompt_toolkit.completion import Completer, Completion

if TYPE_CHECKING:
    from prompt_toolkit.document import Document

Tree = Mapping[str, Any]
"""Member of a nested column -> its own members."""

COMMANDS = (".tables", ".columns", ".explain", ".help", ".quit")
_VALUE = re.compile(r"([\w.]+)\s*(?:=|<>|!=|\bin\s*\((?:\s*'[^']*'\s*,)*|\blike)\s*'([^']*)$", re.IGNORECASE)
_TABLE = re.compile(r"(?:\b(?:from|join|describe|summarize)\s+|^\s*\.columns\s+)\w*$", re.IGNORECASE)
_WORD = re.compile(r"[\w.]*$")
_PLAIN = re.compile(r"[A-Za-z_]\w*", re.ASCII)


class LakeCompleter(Completer):
    """Completion over the tables of one lake.

    Args:
        tables: Name of a table -> its columns.
        keywords: Words of SQL.
        values: Gives the values that a path of a table may have.
    """

    def __init__(self, tables: Mapping[str, Tree], keywords: Iterable[str], values: Any) -> None:
        self._tables = tables
        self._keywords = sorted(keywords)
        self._values = values

    def get_completions(self, document: Document, _: Any = None) -> Iterator[Completion]:
        """What may stand at the cursor."""
        before = document.text_before_cursor
        word = _WORD.search(before)
        text = word[0] if word else ""
        if quoted := _VALUE.search(before):
            yield from self._of_value(quoted[1], quoted[2], document.text)
        elif before.startswith(".") and " " not in before:
            yield from (Completion(name, -len(before)) for name in COMMANDS if name.startswith(before))
        elif _TABLE.search(before):
            for name in self._tables:
                if name.startswith(text.lower()):
                    yield Completion(name, -len(text), display_meta="table")
        else:
            yield from self._of_columns(text, document.text)

    def _named(self, text: str) -> list[str]:
        """The tables that a query names, all of them where it names none."""
        words = set(re.findall(r"\w+", text.lower()))
        return [name for name in self._tables if name in words] or list(self._tables)

    def _of_value(self, path: str, begun: str, text: str) -> Iterator[Completion]:
        shown: set[str] = set()
        for name in self._named(text):
            for value in self._values(name, path):
                if value.lower().startswith(begun.lower()) and value not in shown:
                    shown.add(value)
                    yield Completion(value.replace("'", "''") + "'", -len(begun), display=value, display_meta=path)

    def _of_columns(self, word: str, text: str) -> Iterator[Completion]:
        *path, last = word.split(".")
        shown: set[str] = set()
        for name in self._named(text):
            node: Tree = self._tables[name]
            for step in path:
                node = node.get(step, {})
            for member, below in node.items():
                if member.lower().startswith(last.lower()) and member not in shown and _PLAIN.fullmatch(member):
                    shown.add(member)
                    end = "." if below else ""
                    yield Completion(f"{member}{end}", -len(last), display=member, display_meta="…" if below else name)
        if not path and last:
            for keyword in self._keywords:
                if keyword.startswith(last.lower()):
                    yield Completion(keyword.upper() if last.isupper() else keyword, -len(last), display_meta="keyword")


def tree(kind: Any) -> Tree:
    """The members of a nested Arrow type, those of lists those of their items."""
    import pyarrow as pa

    while pa.types.is_list(kind):
        kind = kind.value_type
    return {field.name: tree(field.type) for field in kind} if pa.types.is_struct(kind) else {}


@cache
def values(version: str, table: str) -> Mapping[str, tuple[str, ...]]:
    """Path of a table of events -> the captions that OCSF has for it."""
    from ocsf_lake.catalogs import security_lake
    from ocsf_lake.query import columns

    name = security_lake.table_of(table)
    if name is None:
        return {}
    captions: dict[str, tuple[str, ...]] = {}
    for path in columns.of(name, version):
        if path.values:
            stem = path.path.removesuffix("_id")
            for at in (path.path, stem, f"{stem}_name"):
                captions.setdefault(at, path.values)
    return captions
