"""Members of JSON texts, found by path and replaced where they stand.

All else of a text stays as it was written: numbers, blanks, repeated members. So a text is gone through token by token,
not parsed and written anew; and one that is cut off or no JSON is gone through as far as it goes, with what is not
closed reaching to its end. JSON inside a JSON string is gone through as well.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

NESTED = 4
"""JSON in strings of JSON is looked through so deep; what lies deeper is hidden by detectors alone."""

Step = tuple[str, bool]
"""Name of a member, lower case where capitals do not count, and whether it may stand deeper as well."""

_STEP = re.compile(r"""(\.\.|\.)([^.\[\]'"*\s]+)|(\.\.)?\[(?:'([^']+)'|"([^"]+)")\]|\[\*\]""")
_TOKEN = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"|"|[{}\[\],:]|[^\s{}\[\],:"]++', re.DOTALL)
_NULL, _BOOLEANS = "null", ("true", "false")


def steps(path: str) -> tuple[Step, ...]:
    """A JSON path's steps: `$.a.b`, `$..a`, `$['a.b']`; lists are gone into wherever they stand, with `[*]` or without.

    Raises:
        ValueError: It is none.
    """
    path_steps: list[Step] = []
    at = 1
    while at < len(path) and path.startswith("$"):
        step = _STEP.match(path, at)
        if step is None:
            break
        if name := step[2] or step[4] or step[5]:
            path_steps.append((name, ".." in (step[1], step[3])))
        at = step.end()
    if not path_steps or at < len(path):
        raise ValueError(f"{path!r} is not a JSON path of members, such as $.password, $..password or $.tags[*].value")
    return tuple(path_steps)


@dataclass(frozen=True)
class Members:
    """Members that one rule hides.

    Args:
        paths: Their paths.
        replace: Gives what stands in place of a value, of which it gets the text; None to leave it as it is. A text in
            place of another is quoted by the caller.
        drop: Whether the member goes altogether.
        any_case: Whether capitals of names do not count; names of `paths` are folded (`str.casefold`) then.
        also: Names of members, wherever they stand, that are hidden besides.
        texts_only: Whether only texts and numbers are hidden, and what objects, lists and booleans hold is not.
    """

    paths: tuple[tuple[Step, ...], ...]
    replace: Callable[[str], str | None]
    drop: bool = False
    any_case: bool = False
    texts_only: bool = False
    also: re.Pattern[str] | None = None


_State = tuple[int, int, int]
"""Number of the members, of a path, and of the step that is to come."""


_COLON, _COMMA = re.compile(r"\s*:"), re.compile(r"\s*,\s*")


@dataclass
class _Container:
    """An object or list that is open, or the text itself.

    Args:
        states: Where paths stand in it.
        hit: Of a list whose items are hidden one by one, the rule.
        name: Of the member under way, where that begins, and where the comma before it is, if that stays.
    """

    states: frozenset[_State]
    hit: int | None = None
    name: str | None = None
    name_at: int = 0
    comma: int | None = None
    removed_to: int = 0


@dataclass
class Rewriter:
    """Goes through texts.

    Args:
        rules: What is hidden; the first that takes a value has it.
    """

    rules: Sequence[Members]
    hits: set[int] = field(default_factory=set)
    """Numbers of the rules that hid something in the last text."""

    def rewritten(self, text: str) -> str:
        """The text with the members hidden; `hits` are known afterwards."""
        self.hits = set()
        return self._text(text, self._roots, NESTED)

    @property
    def _roots(self) -> frozenset[_State]:
        return frozenset(
            (number, place, 0) for number, rule in enumerate(self.rules) for place in range(len(rule.paths))
        )

    def _text(self, text: str, roots: frozenset[_State], nested: int) -> str:
        edits = list(_Pass(self, text, roots, nested).edits())
        parts, at = [], 0
        for start, end, replacement in edits:
            parts += [text[at:start], replacement]
            at = end
        return "".join([*parts, text[at:]]) if edits else text

    def after(self, states: frozenset[_State], name: str) -> tuple[frozenset[_State], int | None]:
        """Where paths stand behind a member, and the rule that hides its value."""
        behind: set[_State] = set()
        also = ((number, rule.also) for number, rule in enumerate(self.rules))  # once, however many paths a rule has
        hit = next((number for number, pattern in also if pattern is not None and pattern.fullmatch(name)), None)
        for number, place, step in states:
            rule = self.rules[number]
            path = rule.paths[place]
            expected, is_deep = path[step]
            if is_deep:
                behind.add((number, place, step))
            if (name.casefold() if rule.any_case else name) == expected:
                if step + 1 == len(path):
                    hit = number if hit is None else min(hit, number)
                else:
                    behind.add((number, place, step + 1))
        return frozenset(behind), hit


class _Pass:
    """One text, gone through once."""

    def __init__(self, rewriter: Rewriter, text: str, roots: frozenset[_State], nested: int) -> None:
        self.rewriter = rewriter
        self.text = text
        self.nested = nested
        self.stack = [_Container(roots)]
        self.hit: tuple[int, int, int] | None = None
        """The rule that hides the object or list under way, where that begins, and how deep it lies."""

    def edits(self) -> Iterator[tuple[int, int, str]]:
        """What is replaced, in order: from, to, by what."""
        text, at = self.text, 0
        while (token := _TOKEN.search(text, at)) is not None:
            start, at = token.span()
            word = text[start:at]
            if word in ("{", "["):
                self._opened(word, start)
            elif word in ("}", "]"):
                yield from self._closed(at)
            elif self.hit is not None:
                at = len(text) if word == '"' else at
            elif word == ",":
                here = self.stack[-1]
                here.name, here.comma = None, start if start >= here.removed_to else None
            elif word != ":":
                at = len(text) if word == '"' else at  # a string that does not end
                yield from self._scalar(start, at)
        if self.hit is not None:
            yield from self._edit(self.hit[0], self.hit[1], len(text), text[self.hit[1] :], None)

    def _opened(self, word: str, start: int) -> None:
        states, hit = self._here()
        if hit is not None and self.hit is None and not self.rewriter.rules[hit].texts_only:
            self.hit = (hit, start, len(self.stack))
        self.stack.append(_Container(states, hit if word == "[" else None))

    def _closed(self, end: int) -> Iterator[tuple[int, int, str]]:
        if len(self.stack) > 1:
            self.stack.pop()
        if self.hit is not None and len(self.stack) <= self.hit[2]:
            (number, start, _), self.hit = self.hit, None
            yield from self._edit(number, start, end, self.text[start:end], self.stack[-1])

    def _here(self) -> tuple[frozenset[_State], int | None]:
        """Where paths stand at the value to come."""
        here = self.stack[-1]
        if here.name is not None:
            return self.rewriter.after(here.states, here.name)
        return here.states, here.hit

    def _scalar(self, start: int, end: int) -> Iterator[tuple[int, int, str]]:
        here, written = self.stack[-1], self.text[start:end]
        if here.name is None and written.startswith('"') and _COLON.match(self.text, end):
            here.name, here.name_at = _content(written), start
            return
        states, hit = self._here()
        if hit is not None and not self._is_left(hit, written):
            yield from self._edit(hit, start, end, _content(written), here)
        elif self.nested and '\\"' in written and states:
            inner = _content(written)
            if (changed := self.rewriter._text(inner, states, self.nested - 1)) != inner:
                yield start, end, json.dumps(changed, ensure_ascii=False)

    def _is_left(self, number: int, written: str) -> bool:
        return written == _NULL or (self.rewriter.rules[number].texts_only and written in _BOOLEANS)

    def _edit(
        self, number: int, start: int, end: int, value: str, member: _Container | None
    ) -> Iterator[tuple[int, int, str]]:
        rule = self.rewriter.rules[number]
        replacement = rule.replace(value)
        if replacement is None:
            return
        self.rewriter.hits.add(number)
        if not rule.drop or member is None or member.name is None:
            yield start, end, json.dumps(replacement)
        elif member.comma is not None:
            yield member.comma, end, ""
        else:
            following = _COMMA.match(self.text, end)
            member.removed_to = following.end() if following else end
            yield member.name_at, member.removed_to, ""


def _content(written: str) -> str:
    """The value of a JSON string, or its text where it is none."""
    if not written.startswith('"'):
        return written
    try:
        return str(json.loads(written, strict=False))
    except ValueError:
        return written[1:].removesuffix('"')


def last_names(paths: Sequence[tuple[Step, ...]]) -> str:
    """A pattern for the names of the members that paths lead to."""
    return f"(?:{'|'.join(dict.fromkeys(re.escape(path[-1][0]) for path in paths))})"


def key_pattern(path: Sequence[str], deeper: Sequence[Step]) -> str:
    """A pattern for the name that `unmapped` has of a member: its path with dots; items of lists have their number."""
    parts = [re.escape(name) for name in path]
    for name, is_deep in deeper:
        parts.append(("(?:.*\\.)?" if is_deep and parts else "") + re.escape(name))
    return r"(?:\.[0-9]+)?\.".join(parts)
