"""Secrets in texts: in distinct values of columns, many at once, and in single messages.

One pattern, which finds no less than all rules together, goes over the texts first; only those that it finds cost
more. RE2 finds, whatever the text, in time that grows with its length alone; what it found is replaced in Python, text
by text.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from itertools import groupby
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ocsf_lake.redaction.hiding import Replace
from ocsf_lake.redaction.members import Members, Rewriter
from ocsf_mappers.secret_forms import CREDENTIAL_END, Form

Flags: TypeAlias = np.ndarray[Any, np.dtype[np.bool_]]
Places: TypeAlias = np.ndarray[Any, np.dtype[np.int64]]
_Edit: TypeAlias = tuple[str, list[str]]
"""A text as it is to be, and the rules that hid something in it; the text means nothing without one."""

_OPEN, _BETWEEN, _CLOSE = (f"\ue000{secrets.token_hex(8)}{end}\ue001" for end in "obc")
"""Around what RE2 found; a log cannot hold what no log has seen."""
BLOCK_BYTES = 4 << 10
"""So many bytes are gone through at once, about. In ten thousand requests of CloudTrail some forty are worth a closer
look."""

KEPT_NAMES, KEPT_CHARACTERS = 1024, 256
"""Of so many names, none of them longer, it is remembered whether they are those of members that are hidden."""

_WORDS = ("n", "t", "f")
"""Null and the booleans begin so."""
_NOWHERE: Places = np.zeros(0, np.int64)
_STRING = re.compile(r'[^"\\]*+(?:\\.[^"\\]*+)*+', re.DOTALL)
_COLON = r"(?:\s|\\+[nrt])*:"
"""A colon, with spaces before it that may be escaped themselves."""
_ESCAPED_NAME = rf'\\u[0-9A-Fa-f]{{4}}[^"\\]*\\*"{_COLON}'
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
        plain: Whether members of these names are hidden wherever they stand, so that RE2 can find them.
        others: Pattern of those that do not end as `CREDENTIAL_END` has it; None where all may not.
        left: Pattern of those of these names whose members stay; empty for none.
    """

    rule: str
    members: Members
    names: str
    plain: bool = False
    others: str | None = None
    left: str = ""

    @cached_property
    def ends(self) -> str:
        """A pattern that finds no fewer names, by their ends, and costs less."""
        return self.names if self.others is None else f"(?:{CREDENTIAL_END}|{self.others})"

    @cached_property
    def is_named(self) -> Callable[[str], bool]:
        """Whether a name is one of them."""
        pattern = re.compile(f"(?!(?:{self.left})\\Z){self.names}" if self.left else self.names)

        def matches(name: str) -> bool:
            return pattern.fullmatch(name) is not None

        remembered = lru_cache(KEPT_NAMES)(matches)
        return lambda name: remembered(name) if len(name) <= KEPT_CHARACTERS else matches(name)


@dataclass
class Changed:
    """Texts after the rules.

    Args:
        texts: All of them.
        places: Rule -> the places of texts in which it hid something.
    """

    texts: pa.Array
    places: dict[str, Places]


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
        return _any_of(*(one + other for one, other in zip(self._form_hints, self._member_hints, strict=True)))

    @cached_property
    def _form_hints(self) -> tuple[list[str], list[str]]:
        return _hints_of([form for one in self.detections for form in one.forms])

    @cached_property
    def _member_hints(self) -> tuple[list[str], list[str]]:
        """Patterns, and what follows `CREDENTIAL_END` in others."""
        behind = rf'\\*"{_COLON}'
        alone = [f"{one.names if one.others is None else one.others}{behind}" for one in self.members]
        named = [behind for one in self.members if one.others is not None]
        return [*alone, _ESCAPED_NAME] if alone else [], named

    @cached_property
    def _escaped_patterns(self) -> Sequence[str]:
        """Patterns for texts with members whose names or quotes are spelled with escapes, which find less and less.

        The names are looked for whole: in what is no JSON, any quote may be escaped, and token by token the strings
        of such a text are taken for what is between them.
        """
        behind = rf'\\+"{_COLON}'
        names = [[one.ends for one in self.members], [one.names for one in self.members]]
        return r"\\", *("|".join([_ESCAPED_NAME, *(f"{name}{behind}" for name in some)]) for some in names)

    @cached_property
    def _nested(self) -> str:
        """A pattern for members that are hidden at some places and not at others."""
        return "|".join(rf'{one.names}\\*"{_COLON}' for one in self.members if not one.plain)

    def changed(self, texts: pa.Array) -> Changed | None:
        """The texts without what rules hide; None where no rule found anything.

        Args:
            texts: Strings; null stays null.
        """
        return self.all_changed([texts], [_where(texts, self.hint)])[0] if self.hint and len(texts) else None

    def all_changed(self, columns: Sequence[pa.Array], suspects: Sequence[Places]) -> list[Changed | None]:
        """The same for several columns.

        Args:
            columns: Strings; null stays null.
            suspects: The places in each of the texts that `hint` finds.
        """
        chosen = [texts.take(pa.array(places)) for texts, places in zip(columns, suspects, strict=True)]
        if not sum(map(len, chosen)):
            return [None] * len(columns)
        state = _State(pa.concat_arrays(chosen))
        if self.members:
            self._hide_members(state)
        forms = [(one, form) for one in self.detections for form in one.forms]
        groups = [list(group) for _, group in groupby(forms, lambda pair: _hint_key(pair[1]))]
        self._hide_detected(state, groups, np.arange(len(state.texts)))
        return state.changed(columns, suspects)

    def message(self, text: str) -> str:
        """One text without what rules hide."""
        changed = self.changed(pa.array([text], pa.string()))
        return text if changed is None else str(changed.texts[0].as_py())

    def _hide_members(self, state: _State) -> None:
        walked = np.union1d(self._escaped(state.texts), _where(state.texts, self._nested) if self._nested else _NOWHERE)
        self._walk(state, walked)
        every, odd = np.arange(len(state.texts)), _NOWHERE
        plain = [(one, (f'{one.ends}"\\s*:\\s*', f"\\0{_OPEN}")) for one in self.members if one.plain]
        # Walked ones, too, before or after: of what is no JSON, strings were taken for what is between them.
        for one, marks in plain:
            others = np.setdiff1d(every, odd, assume_unique=True)
            odd = np.union1d(odd, state.edit(others, partial(_plain, one=one), marks))
        self._walk(state, np.setdiff1d(odd, walked, assume_unique=True))
        for one, marks in plain:
            if len(odd):
                state.edit(odd, partial(_plain, one=one, is_walked=True), marks)

    def _walk(self, state: _State, places: Places) -> None:
        if len(places):
            state.edit(places, self._walked)

    def _escaped(self, texts: pa.Array) -> Places:
        """The places of texts with members whose names or quotes are spelled with escapes."""
        places = np.arange(len(texts))
        for pattern in self._escaped_patterns:
            if len(places):
                places = places[_where(texts.take(pa.array(places)), pattern)]
        return places

    def _walked(self, text: str) -> _Edit:
        rewriter = Rewriter([one.members for one in self.members])  # of its own: threads share these rules
        changed = rewriter.rewritten(text)
        return changed, [self.members[number].rule for number in rewriter.hits]

    def _hide_detected(self, state: _State, groups: Sequence[Sequence[tuple[Detection, Form]]], among: Places) -> None:
        """Hides what some forms find; half of them are left out where one pattern for these finds nothing.

        Args:
            state: The texts.
            groups: Forms, those together that one hint finds.
            among: The places of the texts to look at.
        """
        if not groups:
            return
        hint = _any_of(*_hints_of([form for group in groups for _, form in group]))
        places = among[_where(state.texts.take(pa.array(among)), hint)]
        if not len(places):
            return
        if len(groups) > 1:
            middle = len(groups) // 2
            self._hide_detected(state, groups[:middle], places)
            self._hide_detected(state, groups[middle:], places)
            return
        if other := groups[0][0][1].other:
            places = places[_more(state.texts.take(pa.array(places)), hint, other)]
        for one, form in groups[0]:
            marks = (form.pattern, f"{_OPEN}\\1{_BETWEEN}\\2{_BETWEEN}\\3{_CLOSE}")
            undecided = state.edit(places, partial(_detected, one=one, form=form), marks)
            state.edit(undecided, partial(_named, one=one, form=form))


class _State:
    """Texts that rules change one after the other."""

    def __init__(self, texts: pa.Array) -> None:
        self.texts = texts
        self.places: dict[str, list[int]] = {}

    def changed(self, columns: Sequence[pa.Array], chosen: Sequence[Places]) -> list[Changed | None]:
        """Columns with these texts at some places; None for one of which none was changed."""
        after, at = list[Changed | None](), 0
        for texts, places in zip(columns, chosen, strict=True):
            of_rule = {rule: np.array(hits, np.int64) - at for rule, hits in self.places.items()}
            of_rule = {rule: hits[(hits >= 0) & (hits < len(places))] for rule, hits in of_rule.items()}
            places_by_rule = {rule: places[np.unique(hits)] for rule, hits in of_rule.items() if len(hits)}
            mask = np.zeros(len(texts), bool)
            mask[places] = True
            own = self.texts.slice(at, len(places))
            after.append(
                Changed(pc.replace_with_mask(texts, pa.array(mask), own), places_by_rule) if places_by_rule else None
            )
            at += len(places)
        return after

    def edit(
        self, places: Places, change: Callable[[str], _Edit | None], marks: tuple[str, str] | None = None
    ) -> Places:
        """Changes some of the texts.

        Args:
            places: Which.
            change: Gives a text as it is to be, and the rules that hid something; None where that is undecided.
            marks: A pattern, and what takes its place, before they are changed.

        Returns:
            The places of those that are undecided.
        """
        chosen = self.texts.take(pa.array(places))
        if marks is not None:
            chosen = pc.replace_substring_regex(chosen, pattern=marks[0], replacement=marks[1])
        edited, undecided = {}, []
        for place, text in zip(places.tolist(), chosen.to_pylist(), strict=True):
            if (changed := change(text)) is None:
                undecided.append(place)
                continue
            after, rules = changed
            if rules:
                edited[place] = after
            for rule in rules:
                self.places.setdefault(rule, []).append(place)
        if edited:
            mask = np.zeros(len(self.texts), bool)
            mask[list(edited)] = True
            after = pa.array(edited.values(), pa.string())
            self.texts = pc.replace_with_mask(self.texts, pa.array(mask), after)
        return np.array(undecided, np.int64)


def _any_of(alone: Iterable[str], named: Iterable[str]) -> str:
    """One pattern for several, and for what follows `CREDENTIAL_END` in others."""
    ends = "|".join(dict.fromkeys(named))
    return "|".join([*dict.fromkeys(alone), *([f"{CREDENTIAL_END}(?:{ends})"] if ends else [])])


def _hint_key(form: Form) -> tuple[str, str, str]:
    return form.hint, form.named, form.other


def _hints_of(forms: Sequence[Form]) -> tuple[list[str], list[str]]:
    """Their hints, and what follows `CREDENTIAL_END` in others."""
    return [form.hint for form in forms if form.hint], [form.named for form in forms if form.named]


def _where(texts: pa.Array, pattern: str) -> Places:
    """The places of texts that a pattern finds."""
    matches = pc.fill_null(pc.match_substring_regex(texts, pattern), False)
    places: Places = np.flatnonzero(matches.to_numpy(zero_copy_only=False))
    return places


def _more(texts: pa.Array, pattern: str, other: str) -> Flags:
    """Which of some texts have more of what one pattern finds than of what another does."""
    counts, other_counts = (pc.count_substring_regex(texts, one) for one in (pattern, other))
    flags: Flags = pc.greater(counts, other_counts).to_numpy(zero_copy_only=False)
    return flags


def _plain(marked: str, one: NamedMembers, *, is_walked: bool = False) -> _Edit | None:
    """A text with marks behind names that may be such members', without their strings.

    None where it has to be, and was not, gone through token by token: a value is no string, or one that does not end.
    """
    first, *pieces = marked.split(_OPEN)
    parts, rules, before = [first], [], first
    for piece in pieces:
        replacement = end = None
        name = before.rsplit('"', 2)[1:-1]
        if name and one.is_named(_content(name[0])):
            end = _end(piece) if piece.startswith('"') else None
            if end is not None:
                replacement = one.members.replace(_content(piece[1:end]))
            elif not is_walked and not piece.startswith(_WORDS if one.members.texts_only else "n"):
                return None
        if replacement is None:
            parts.append(piece)
        else:
            rules = [one.rule]
            parts += ['"', replacement, piece[end:]]
        before = piece
    return "".join(parts), rules


def _end(text: str) -> int | None:
    """Where the JSON string ends that a text begins with; None where it does not."""
    end = text.find('"', 1)
    if "\\" in text[1:end]:
        written = _STRING.match(text, 1)
        assert written is not None
        end = written.end()
    return end if text.startswith('"', end) and end > 0 else None


def _content(written: str) -> str:
    """The value of a JSON string, of which this stands between the quotes."""
    if "\\" in written:
        with suppress(ValueError):
            return str(json.loads(f'"{written}"', strict=False))
    return written


def _detected(marked: str, one: Detection, form: Form) -> _Edit | None:
    """A text with marks around what was found, without it, where it is what it looks like.

    None where something else has such a name: what was found behind it may begin with the name of a secret.
    """
    first, *pieces = marked.split(_OPEN)
    parts, rules = [first], []
    for piece in pieces:
        match, _, rest = piece.partition(_CLOSE)
        before, value, after = match.split(_BETWEEN)
        if form.hides_another(before, value):
            return None
        replacement = one.replace(value) if form.holds(before, value, after) else None
        if replacement is not None:
            rules = [one.rule]
        parts += [before, value if replacement is None else replacement, after, rest]
    return "".join(parts), rules


def _named(text: str, one: Detection, form: Form) -> _Edit:
    """A text without the secrets whose names stand before them."""
    after, is_changed = form.replaced(text, one.replace)
    return after, [one.rule] if is_changed else []


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
    rows, at = [], 0
    for column, (_, of_column, texts) in zip(columns, blocks, strict=True):
        hit = flags[at : at + len(of_column)]
        at += len(of_column)
        rows.append(np.flatnonzero(np.repeat(hit, texts)[: len(column)]) if hit.any() else _NOWHERE)
    near = [column.take(pa.array(places)) for column, places in zip(columns, rows, strict=True) if len(places)]
    if not near:
        return rows
    matches = np.zeros(sum(map(len, rows)), bool)
    matches[_where(pa.concat_arrays(near), pattern)] = True
    ends = np.cumsum([len(places) for places in rows])
    return [places[matches[end - len(places) : end]] for places, end in zip(rows, ends.tolist(), strict=True)]


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
