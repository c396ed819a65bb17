"""Secrets in texts: in distinct values of columns, many at once, and in single messages.

One pattern, which finds no less than all rules together, goes over the texts first; only those that it finds cost
more. RE2 finds, whatever the text, in time that grows with its length alone; what it found is replaced in Python, text
by text.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ocsf_lake.redaction.hiding import Replace
from ocsf_lake.redaction.members import Members, Rewriter
from ocsf_mappers.secret_forms import Form

Places: TypeAlias = np.ndarray[Any, np.dtype[np.int64]]

_OPEN, _CLOSE = (f"\ue000{secrets.token_hex(8)}{end}\ue001" for end in "oc")
"""Around what RE2 found; a log cannot hold what no log has seen."""
BLOCK_BYTES = 4 << 10
"""So many bytes are gone through at once, about. In ten thousand requests of CloudTrail some forty are worth a closer
look."""

_NOWHERE: Places = np.zeros(0, np.int64)
_STRING = re.compile(r'[^"\\]*+(?:\\.[^"\\]*+)*+', re.DOTALL)
_ESCAPED_NAME = r'\\u[0-9A-Fa-f]{4}[^"\\]*\\*"\s*:'
"""A member whose name is spelled with escapes."""


@dataclass(frozen=True)
class Detection:
    """Values that one rule finds by how they look."""

    rule: str
    forms: Sequence[Form]
    replace: Replace


@dataclass(frozen=True)
class NamedMembers:
    """Members of JSON that one rule hides.

    Args:
        rule: Name of the rule.
        members: Which, and what takes their place.
        names: Pattern of the last names of their paths.
        hinted: A pattern that finds no fewer of them, and costs less; without one, `names`.
        plain: Whether members of these names are hidden wherever they stand, so that RE2 can find them.
    """

    rule: str
    members: Members
    names: str
    plain: bool = False
    hinted: str = ""

    @property
    def hint(self) -> str:
        """Pattern of the ends of their names."""
        return self.hinted or self.names


@dataclass
class Changed:
    """Texts after the rules.

    Args:
        texts: All of them.
        places: Rule -> the places of texts in which it hid something.
    """

    texts: pa.Array
    places: dict[str, set[int]] = field(default_factory=dict)


@dataclass(frozen=True)
class Texts:
    """Rules that hide parts of texts; earlier ones come first.

    Args:
        detections: Values found by how they look.
        members: Members of JSON.
    """

    detections: Sequence[Detection] = ()
    members: Sequence[NamedMembers] = ()

    @cached_property
    def hint(self) -> str:
        """A pattern that finds every text that a rule concerns; empty without rules."""
        return "|".join(hint for hint in (self._forms_hint, self._members_hint) if hint)

    @cached_property
    def _forms_hint(self) -> str:
        return "|".join(dict.fromkeys(form.hint for one in self.detections for form in one.forms))

    @cached_property
    def _members_hint(self) -> str:
        named = [f'{one.hint}\\\\*"\\s*:' for one in self.members]
        return "|".join([*named, _ESCAPED_NAME]) if named else ""

    @cached_property
    def _walk_hint(self) -> str:
        """A pattern for the texts that have to be gone through token by token."""
        hints = [_ESCAPED_NAME]
        for one in self.members:
            if one.plain:
                # In JSON inside JSON, with a value that is no string, or where a string may not end.
                hints.append(f'{one.hint}\\\\+"\\s*:')
                others = '"ntf' if one.members.texts_only else '"n'
                hints.append(f'{one.hint}"\\s*:\\s*(?:[^{others}\\s]|$|"(?:[^"\\\\]|\\\\.)*\\\\?$)')
            else:
                hints.append(f'{one.names}\\\\*"\\s*:')
        return "|".join(hints)

    @cached_property
    def _plain(self) -> list[tuple[NamedMembers, str]]:
        return [(one, f'("{one.names}"\\s*:\\s*")') for one in self.members if one.plain]

    def changed(self, texts: pa.Array, suspects: Places | None = None) -> Changed | None:
        """The texts without what rules hide; None where no rule found anything.

        Args:
            texts: Strings; null stays null.
            suspects: The places of those that `hint` finds; None to look for them.
        """
        if not self.hint or not len(texts):
            return None
        suspects = _where(texts, self.hint) if suspects is None else suspects
        if not len(suspects):
            return None
        state = _State(texts.take(pa.array(suspects)))
        if self._members_hint:
            self._hide_members(state)
        if self._forms_hint and len(found := _where(state.texts, self._forms_hint)):
            self._hide_detected(state, found)
        if not state.places:
            return None
        mask = np.zeros(len(texts), bool)
        mask[suspects] = True
        whole = pc.replace_with_mask(texts, pa.array(mask), state.texts)
        return Changed(whole, {rule: {int(suspects[place]) for place in hit} for rule, hit in state.places.items()})

    def message(self, text: str) -> str:
        """One text without what rules hide."""
        changed = self.changed(pa.array([text], pa.string()))
        return text if changed is None else str(changed.texts[0].as_py())

    def _hide_members(self, state: _State) -> None:
        walked = _where(state.texts, self._walk_hint)
        if len(walked):
            state.edit(walked, self._walked)
        for one, pattern in self._plain:
            found = np.setdiff1d(_where(state.texts, pattern), walked, assume_unique=True)
            if len(found):
                state.edit(found, partial(_plain, one=one), (pattern, f"\\1{_OPEN}"))

    def _walked(self, text: str) -> tuple[str, list[str]]:
        rewriter = Rewriter([one.members for one in self.members])  # of its own: threads share these rules
        changed = rewriter.rewritten(text)
        return changed, [self.members[number].rule for number in rewriter.hits]

    def _hide_detected(self, state: _State, among: Places) -> None:
        for one in self.detections:
            for form in one.forms:
                texts = state.texts.take(pa.array(among))
                found = among[_where(texts, form.pattern)]
                if len(found):
                    marks = (form.pattern, f"\\1{_OPEN}\\2{_CLOSE}\\3")
                    state.edit(found, partial(_detected, one=one, form=form), marks)


class _State:
    """Texts that rules change one after the other."""

    def __init__(self, texts: pa.Array) -> None:
        self.texts = texts
        self.places: dict[str, set[int]] = {}

    def edit(
        self, places: Places, change: Callable[[str], tuple[str, list[str]]], marks: tuple[str, str] | None = None
    ) -> None:
        """Changes some of the texts.

        Args:
            places: Which.
            change: Gives a text as it is to be, and the rules that hid something.
            marks: A pattern, and what takes its place, before they are changed.
        """
        chosen = self.texts.take(pa.array(places))
        if marks is not None:
            chosen = pc.replace_substring_regex(chosen, pattern=marks[0], replacement=marks[1])
        edited = []
        for place, text in zip(places.tolist(), chosen.to_pylist(), strict=True):
            after, rules = change(text)
            edited.append(after)
            for rule in rules:
                self.places.setdefault(rule, set()).add(place)
        mask = np.zeros(len(self.texts), bool)
        mask[places] = True
        self.texts = pc.replace_with_mask(self.texts, pa.array(mask), pa.array(edited, pa.string()))


def _where(texts: pa.Array, pattern: str) -> Places:
    """The places of texts that a pattern finds."""
    found = pc.fill_null(pc.match_substring_regex(texts, pattern), False)
    places: Places = np.flatnonzero(found.to_numpy(zero_copy_only=False))
    return places


def _plain(marked: str, one: NamedMembers) -> tuple[str, list[str]]:
    """A text with marks before the strings that are to be hidden, without these."""
    first, *pieces = marked.split(_OPEN)
    parts, rules = [first], []
    for piece in pieces:
        written = _STRING.match(piece)
        assert written is not None
        end = written.end()
        value = written[0]
        if "\\" in value:
            with suppress(ValueError):
                value = json.loads(f'"{value}"', strict=False)
        replacement = one.members.replace(value)
        if replacement is None:
            parts.append(piece)
        else:
            rules = [one.rule]
            parts += [replacement, piece[end:]]
    return "".join(parts), rules


def _detected(marked: str, one: Detection, form: Form) -> tuple[str, list[str]]:
    """A text with marks around what was found, without it, where it is what it looks like."""
    first, *pieces = marked.split(_OPEN)
    parts, rules = [first], []
    for piece in pieces:
        value, _, rest = piece.partition(_CLOSE)
        replacement = one.replace(value) if form.check is None or form.check(value) else None
        if replacement is not None:
            rules = [one.rule]
        parts += [value if replacement is None else replacement, rest]
    return "".join(parts), rules


def found_in(columns: Sequence[pa.Array], pattern: str) -> list[Places]:
    """The places of texts that a pattern finds, in each of some columns; the pattern has to find them across blocks.

    The bytes of some texts are gone through at once, and then each of these where something was found, in one of them
    or across two: a look at each of many short texts costs as much again. So a pattern must not ask for the beginning
    or end of a text.
    """
    if not pattern:
        return [_NOWHERE] * len(columns)
    blocks = [_blocks(column) for column in columns]
    starts = np.cumsum([0, *(len(data) for data, _, _ in blocks)], dtype=np.int64)
    ends = np.concatenate([[0], *(start + ends for start, (_, ends, _) in zip(starts[:-1], blocks, strict=True))])
    data = pa.py_buffer(b"".join(data for data, _, _ in blocks))
    whole = pa.Array.from_buffers(pa.large_binary(), len(ends) - 1, [None, pa.py_buffer(ends.astype(np.int64)), data])
    flags = pc.match_substring_regex(whole, pattern).to_numpy(zero_copy_only=False)
    found, at = [], 0
    for column, (_, of_column, texts) in zip(columns, blocks, strict=True):
        hit = flags[at : at + len(of_column)]
        at += len(of_column)
        rows = np.flatnonzero(np.repeat(hit, texts)[: len(column)]) if hit.any() else _NOWHERE
        found.append(rows[_where(column.take(pa.array(rows)), pattern)] if len(rows) else _NOWHERE)
    return found


def _blocks(texts: pa.Array) -> tuple[memoryview | bytes, np.ndarray[Any, Any], int]:
    """The bytes of a column, where blocks of texts end in them, and how many texts each block has but the last."""
    _, offsets, data = texts.buffers()
    if data is None or offsets is None or not len(texts):
        return b"", np.zeros(0, np.int64), 1
    wide = pa.types.is_large_string(texts.type)
    ends = np.frombuffer(offsets, np.int64 if wide else np.int32)[texts.offset : texts.offset + len(texts) + 1]
    first, last = int(ends[0]), int(ends[-1])
    size = max(1, BLOCK_BYTES * len(texts) // max(last - first, 1))
    block_ends = np.append(ends[size:-1:size], last).astype(np.int64)
    return memoryview(data)[first:last], block_ends - first, size
