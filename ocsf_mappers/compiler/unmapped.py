"""The `unmapped` column: whatever of a record no attribute took, row by row."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ocsf_mappers import sqltext
from ocsf_mappers.vocabulary.record import Path, RecordShape, flatten, json_path
from ocsf_mappers.vocabulary.word import ABSENT, both

if TYPE_CHECKING:
    from ocsf_mappers.compiler.compile import BatchShape
    from ocsf_mappers.vocabulary.word import Resolver

NO_ENTRIES = 'NULL::STRUCT("key" VARCHAR, "value" VARCHAR)[]'


class Unmapped:
    """Collects what the mapping uses, then writes the SQL for what remains.

    Args:
        shape: The declared record.
        batch: What the batch holds beside it.
        column: SQL for a source column.
        dropped: Dotted source paths left out on purpose.
    """

    def __init__(self, shape: RecordShape, batch: BatchShape, column: Resolver, dropped: frozenset[str]) -> None:
        self.shape = shape
        self.batch = batch
        self.column = column
        self.dropped = dropped
        self.whole: dict[Path, list[tuple[str | None, str | None]]] = {}
        self.members: dict[Path, list[tuple[str, str | None]]] = {}

    def use(self, path: Path, keys: tuple[str, ...], condition: str | None, cast: str | None) -> None:
        """Note that a column, or one member of a JSON column, is carried over.

        Args:
            path: The column.
            keys: The member; empty for the whole column.
            condition: SQL for the rows where it is; None for all.
            cast: SQL for the rows where its cast worked; None where nothing can fail.
        """
        if not keys:
            self.whole.setdefault(path, []).append((condition, cast))
        elif len(keys) == 1:
            self.members.setdefault(path, []).append((keys[0], both(condition, cast)))

    def singles(self) -> list[tuple[str, str]]:
        """Key and SQL of each text column that the mapping leaves over in some or all rows."""
        entries = []
        for path in self._text_columns():
            unused = _unused([condition for condition, _ in self.whole.get(path, [])])
            if unused is not None:
                reference = self.column(path)
                entries.append((".".join(path), f"CASE WHEN {unused} THEN {reference} END" if unused else reference))
        return entries

    def pairs(self) -> list[str]:
        """SQL for each JSON value that is left over in some rows (see `flatten`), null in the others."""
        return [f"CASE WHEN {test} THEN {pair} END" for test, pair in (*self._json_values(), *self._undeclared())]

    def more(self, failing: str, pairs: list[str]) -> str:
        """SQL for further entries, a list of {key, value}, null where there are none: failed casts and JSON.

        Args:
            failing: SQL that is true where a cast failed.
            pairs: Columns with what `pairs` computes.
        """
        parts = []
        if rescued := ", ".join(self._rescued()):
            parts.append((failing, f"list_filter([{rescued}], lambda item: item.value IS NOT NULL)"))
        if pairs:
            any_pair = " OR ".join(f"{pair} IS NOT NULL" for pair in pairs)
            parts.append((any_pair, flatten(f"list_filter([{', '.join(pairs)}], lambda pair: pair IS NOT NULL)")))
        lists = [f"CASE WHEN {test} THEN {entries} END" for test, entries in parts]
        if len(lists) < 2:
            return "".join(lists) or NO_ENTRIES
        return f"CASE WHEN {' OR '.join(test for test, _ in parts)} THEN list_concat({', '.join(lists)}) END"

    def _text_columns(self) -> list[Path]:
        return [
            path
            for path, is_json in self.shape.leaves.items()
            if not is_json and self.column(path) != ABSENT and ".".join(path) not in self.dropped
        ]

    def _rescued(self) -> Iterator[str]:
        """Entries for the text of casts that failed."""
        for path in self._text_columns():
            uses = self.whole.get(path, [])
            if any(condition is None and cast is None for condition, cast in uses) or not any(cast for _, cast in uses):
                continue
            unused = _unused([condition for condition, _ in uses])
            lost = _unused([both(condition, cast) for condition, cast in uses]) or "true"
            test = lost if unused is None else f"({unused}) IS NOT TRUE AND {lost}" if unused else "false"
            yield f"{{'key': {sqltext.text('.'.join(path))}, 'value': CASE WHEN {test} THEN {self.column(path)} END}}"

    def _json_values(self) -> list[tuple[str, str]]:
        """Test and pair (see `flatten`) for each JSON column that is not carried over whole."""
        entries = []
        for path, is_json in self.shape.leaves.items():
            unused = _unused([both(condition, cast) for condition, cast in self.whole.get(path, [])])
            if not is_json or unused is None or ".".join(path) in self.dropped:
                continue
            reference = self.column(path)
            # Empty objects are frequent (`"webIdFederationData": {}`) and hold nothing.
            test = f"{reference} <> '{{}}'" + (f" AND {unused}" if unused else "")
            entries.append((test, _pair(".".join(path), reference, self._taken(path))))
        return entries

    def _taken(self, path: Path) -> str:
        """SQL for the names of a JSON column's members that are carried over."""
        names = [
            sqltext.text(name) if condition is None else f"CASE WHEN {condition} THEN {sqltext.text(name)} END"
            for name, condition in self.members.get(path, [])
        ]
        return f"[{', '.join(names)}]" if names else "NULL"

    def _undeclared(self) -> list[tuple[str, str]]:
        entries = []
        if self.batch.envelope:
            entries.append(("_envelope IS NOT NULL", _pair("envelope", "_envelope", "NULL")))
        if not self.batch.check_keys:
            return entries
        for number, (path, names) in enumerate(self.shape.objects.items(), start=1):
            declared = sqltext.texts(names)
            whole = f"json_extract(_raw, {sqltext.text(json_path(path))})"
            # An object where one is declared shows its undeclared members; anything else stands there itself.
            mistyped = f"(len(k[{number}]) = 0 AND json_type({whole}) NOT IN ('OBJECT', 'NULL'))" if path else "false"
            test = f"NOT list_has_all({declared}, k[{number}]) OR {mistyped}"
            entries.append((test, _pair(".".join(path), whole, declared)))
        return entries


def _unused(conditions: list[str | None]) -> str | None:
    """A test for rows where none of the conditions holds: "" for all rows, None for no row."""
    if None in conditions:
        return None
    used = " OR ".join(dict.fromkeys(f"({condition})" for condition in conditions))
    return f"({used}) IS NOT TRUE" if used else ""


def _pair(key: str, value: str, skip: str) -> str:
    prefix = f"{key}." if key else ""
    return (
        f"{{'key': {sqltext.text(key)}, 'prefix': {sqltext.text(prefix)}, 'value': {value}::JSON, "
        f"'skip': {skip}::VARCHAR[]}}"
    )
