"""The `unmapped` column: whatever of a record no attribute took, row by row."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ocsf_mappers import sqltext
from ocsf_mappers.record import Path, RecordShape, flatten, json_path

if TYPE_CHECKING:
    from ocsf_mappers.compile import BatchShape
    from ocsf_mappers.render import Resolver


class Leftovers:
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
        self.whole: dict[Path, list[str | None]] = {}
        self.members: dict[Path, list[tuple[str, str | None]]] = {}

    def use(self, path: Path, keys: tuple[str, ...], condition: str | None) -> None:
        """Note that a column, or one member of a JSON column, is carried over where the condition holds."""
        if not keys:
            self.whole.setdefault(path, []).append(condition)
        elif len(keys) == 1:
            self.members.setdefault(path, []).append((keys[0], condition))

    def sql(self) -> str:
        """A list of {key, value}; keys are dotted source paths."""
        singles = [f"{{'key': {sqltext.text(key)}, 'value': {value}}}" for key, value in self._texts()]
        lists = [*self._json_values(), *self._undeclared()]
        kept = f"list_filter([{', '.join(singles)}], lambda item: item.value IS NOT NULL)" if singles else "[]"
        return f"list_concat({', '.join([kept, *lists])})" if lists else kept

    def _texts(self) -> list[tuple[str, str]]:
        found = []
        for path, is_json in self.shape.leaves.items():
            reference = self.column(path)
            if is_json or reference.startswith("NULL") or ".".join(path) in self.dropped:
                continue
            if (unused := self._unused(path)) is not None:
                found.append((".".join(path), f"CASE WHEN {unused} THEN {reference} END" if unused else reference))
        return found + [(name, sqltext.name(name)) for name in self.batch.extras]

    def _unused(self, path: Path) -> str | None:
        """A test for rows where the column is not carried over: "" for all rows, None for no row."""
        conditions = self.whole.get(path, [])
        if None in conditions:
            return None
        used = " OR ".join(dict.fromkeys(f"({condition})" for condition in conditions))
        return f"({used}) IS NOT TRUE" if used else ""

    def _json_values(self) -> list[str]:
        found = []
        for path, is_json in self.shape.leaves.items():
            unused = self._unused(path)
            if not is_json or unused is None or ".".join(path) in self.dropped:
                continue
            reference = self.column(path)
            entries = flatten(reference, sqltext.text(".".join(path)), self._taken(path))
            test = f"{reference} IS NOT NULL" + (f" AND {unused}" if unused else "")
            found.append(f"CASE WHEN {test} THEN {entries} END")
        return found

    def _taken(self, path: Path) -> str | None:
        """SQL for the names of a JSON column's members that are carried over."""
        uses = self.members.get(path, [])
        if not uses:
            return None
        names = [
            sqltext.text(name) if condition is None else f"CASE WHEN {condition} THEN {sqltext.text(name)} END"
            for name, condition in uses
        ]
        return f"[{', '.join(names)}]"

    def _undeclared(self) -> list[str]:
        found = []
        if self.batch.envelope:
            found.append(f"CASE WHEN _envelope IS NOT NULL THEN {flatten('_envelope', sqltext.text('envelope'))} END")
        if not self.batch.careful:
            return found
        for number, (path, names) in enumerate(self.shape.objects.items(), start=1):
            declared = sqltext.texts(names)
            whole = f"json_extract(_raw, {sqltext.text(json_path(path))})"
            entries = flatten(whole, sqltext.text(".".join(path)) if path else None, declared)
            found.append(f"CASE WHEN NOT list_has_all({declared}, k[{number}]) THEN {entries} END")
            if path:
                kept = f"[{{'key': {sqltext.text('.'.join(path))}, 'value': json_extract_string({whole}, '$')}}]"
                mistyped = f"len(k[{number}]) = 0 AND json_type({whole}) NOT IN ('OBJECT', 'NULL')"
                found.append(f"CASE WHEN {mistyped} THEN {kept} END")
        return found
