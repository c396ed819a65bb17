"""Records that a rule should find, one for each way in which its condition can hold.

Made from the condition alone. Whether the rule does find them is asked of a lake into which they went by the real
mapper.
"""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import date, datetime, timedelta
from typing import Any

from sigma import types
from sigma.types import CompareOperators, SigmaString, SpecialChars

from ocsf_lake.detections import facts, made
from ocsf_lake.detections.alternatives import Alternative, Atom
from ocsf_lake.detections.logs import Part
from ocsf_lake.detections.made import Impossible
from ocsf_lake.detections.places import Unmappable

_NOON = datetime(2026, 5, 4, 12, 10, 11)  # noqa: DTZ001  as text it gets the zone of its log
FILLER = "Zq"
"""Text that stands for any."""
_DOCUMENTS = (
    "requestParameters", "responseElements", "additionalEventData", "serviceEventDetails", "requestObject",
    "responseObject"
)  # fmt: skip
_parser: Any = re._parser  # type: ignore[attr-defined]


def record(part: Part, alternative: Alternative, filler: str = FILLER) -> made.Json:
    """A record for which an alternative holds.

    Args:
        part: Its source.
        alternative: What has to hold.
        filler: What stands for a wildcard: a member may be a number, or one of few texts.

    Raises:
        Impossible: There is none, this is why.
    """
    by_field: dict[str, list[Atom]] = {}
    for atom in alternative:
        if isinstance(atom.value, types.SigmaQueryExpression):
            raise Impossible(f"{atom}: a query in another system's language")
        by_field.setdefault(atom.field, []).append(atom)
    members: dict[str, Any] = {}
    for field, atoms in by_field.items():
        if any(isinstance(atom.value, types.SigmaTimestampPart) for atom in atoms):
            members[field] = _moment(part, field, atoms)
        elif field in _DOCUMENTS and any(
            atom.holds and not isinstance(atom.value, types.SigmaExists) for atom in atoms
        ):
            members[field] = _document(atoms)
        elif field and any(_wants_value(atom) for atom in atoms):
            members[field] = _value(atoms, filler, _likely_texts(part, field))
        elif field and any(_wants_none(atom) for atom in atoms):
            members[field] = None
        elif field and not _is_met(part, field, atoms):
            members[field] = _value(atoms, filler, _likely_texts(part, field))
    for field, atoms in by_field.items():
        for atom in atoms:
            if isinstance(atom.value, types.SigmaFieldReference) and atom.holds:
                members[atom.value.field] = members.setdefault(field, FILLER)
    if any(atom.holds for atom in by_field.get("", ())):
        members["userAgent" if part.source == "aws_cloudtrail" else "user_agent"] = _value(by_field[""])
    return made.record(part, dict(_outer_first(members)))


def _moment(part: Part, field: str, atoms: Sequence[Atom]) -> str:
    """A time for which all atoms of a member hold, as the ordinary record writes one.

    Raises:
        Impossible: None was found.
    """
    if all(isinstance(atom.value, types.SigmaTimestampPart) for atom in atoms):
        moment = _NOON
        try:
            for atom in atoms:
                moment = _with_part(moment, atom.value) if atom.holds else moment
        except ValueError as error:
            raise Impossible(f"{field}: no time is such: {error}") from error
        for days in (0, 1 / 24 / 60, 1 / 24, 1, 7, 31, 366):
            later = moment + timedelta(days=days)
            if all((_part_of(later, atom.value) == atom.value.number) is atom.holds for atom in atoms):
                if part.source == "aws_s3_access":
                    return f"{later:[%d/%b/%Y:%H:%M:%S +0000]}"
                return later.isoformat(timespec="seconds") + str(_dig(made.record(part, {}), field) or "Z")[19:]
    raise Impossible(f"contradiction, or no time was found that matches {' and '.join(map(_shown, atoms))}")


def _with_part(moment: datetime, time_part: types.SigmaTimestampPart) -> datetime:
    number = int(time_part.number)
    if time_part.timestamp_part is types.TimestampPart.WEEK:
        return datetime.combine(date.fromisocalendar(moment.year, number, 1), moment.time())
    units: dict[str, Any] = {time_part.timestamp_part.name.lower(): number}
    return moment.replace(**units)


def _part_of(moment: datetime, time_part: types.SigmaTimestampPart) -> int:
    if time_part.timestamp_part is types.TimestampPart.WEEK:
        return moment.isocalendar().week
    return int(getattr(moment, time_part.timestamp_part.name.lower()))


def _likely_texts(part: Part, field: str) -> Sequence[str]:
    """Texts that a member mostly has: what a rule has may be in another case, or a piece of one."""
    texts = [*facts.ENUMS.get(part.source, {}).get(field, ()), *facts.LIKELY.get(part.source, {}).get(field, ())]
    with suppress(Unmappable):
        if part.field(field).time is not None:
            texts += [f"{_NOON.replace(hour=hour).isoformat()}Z" for hour in range(24)]
    return texts


def _outer_first(members: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    yield from sorted(members.items(), key=lambda pair: pair[0].count("."))


def _document(atoms: Sequence[Atom]) -> dict[str, Any]:
    """A document whose text meets atoms: each is what a member of it looks like, or stands in the text of one."""
    made_up: dict[str, Any] = {}
    for number, atom in enumerate(atom for atom in atoms if atom.holds):
        text = _plain(atom.value, "") if isinstance(atom.value, SigmaString) else _value([atom])
        made_up |= _members(text) or {f"member{number}": text}
    return made_up


def _members(text: str) -> dict[str, Any] | None:
    """A piece of a JSON object as one; None where it is no such piece."""
    piece = text.strip(" ,{")
    for end in ("", "}", "}}", "]}", "]}}", "1}", '"}', "1}}", '"x"}'):
        try:
            members = json.loads(f"{{{piece.rstrip('}') if end == '' else piece}{end or '}'}")
        except ValueError:
            continue
        return members if isinstance(members, dict) and members else None
    return None


def _wants_none(atom: Atom) -> bool:
    if isinstance(atom.value, types.SigmaNull):
        return atom.holds
    return isinstance(atom.value, types.SigmaExists) and atom.value.exists != atom.holds


def _wants_value(atom: Atom) -> bool:
    if isinstance(atom.value, types.SigmaNull):
        return not atom.holds
    if isinstance(atom.value, types.SigmaExists):
        return atom.value.exists == atom.holds
    return atom.holds


def _is_met(part: Part, field: str, atoms: Sequence[Atom]) -> bool:
    """Whether the ordinary record meets what must not hold."""
    try:
        ordinary = _dig(made.record(part, {}), field)
    except Impossible:
        return True
    return ordinary is None or all(_holds(atom, str(ordinary)) is not False for atom in atoms)


def _dig(record: made.Json, field: str) -> Any:
    place: Any = record
    for step in field.split("."):
        place = place.get(step) if isinstance(place, dict) else None
    return place


# -- a value that meets several conditions ----------------------------------------------------------------------------
def _value(atoms: Sequence[Atom], filler: str = FILLER, likely: Sequence[str] = ()) -> str:
    """A text for which all atoms of a member hold.

    Args:
        atoms: The atoms.
        filler: See `record`.
        likely: Texts that are tried before others.

    Raises:
        Impossible: None was found.
    """
    if any(_wants_none(atom) for atom in atoms):
        raise Impossible(f"contradiction: {' and '.join(map(_shown, atoms))}")
    for text in (*likely, *_candidates([atom for atom in atoms if atom.holds], filler)):
        if all(_holds(atom, text) is not False for atom in atoms):
            return text
    reason = "" if len(atoms) == 1 else "contradiction, or "
    raise Impossible(f"{reason}no text was found that matches {' and '.join(map(_shown, atoms))}")


def _shown(atom: Atom) -> str:
    return str(atom) if atom.holds else f"not {atom}"


def _candidates(atoms: Sequence[Atom], filler: str) -> Iterator[str]:
    texts = [text for atom in atoms for text in _texts(atom, filler)]
    yield from texts
    strings = [atom.value for atom in atoms if isinstance(atom.value, SigmaString)]
    if len(strings) > 1:
        yield _together(strings)
    if len(atoms) > 1:
        yield from (mark.join(next(_texts(atom, filler), "") for atom in atoms) for mark in ("", " ", ", "))
    numbers = [atom for atom in atoms if isinstance(atom.value, types.SigmaCompareExpression)]
    if len(numbers) > 1:
        bounds = [float(atom.value.number.number) for atom in numbers]
        yield _number(sum(bounds) / len(bounds))
    yield from (FILLER, f"{FILLER}2", "1", "203.0.113.99", "")


def _texts(atom: Atom, filler: str) -> Iterator[str]:
    value = atom.value
    if isinstance(value, SigmaString):
        yield _plain(value, filler)
        yield _plain(value, "")
    elif isinstance(value, types.SigmaNumber):
        yield _number(value.number)
    elif isinstance(value, types.SigmaBool):
        yield "true" if value.boolean else "false"
    elif isinstance(value, types.SigmaCompareExpression):
        number = value.number.number
        yield from (_number(number + step) for step in (0, 1, -1))
    elif isinstance(value, types.SigmaCIDRExpression):
        network = ipaddress.ip_network(str(value.network), strict=False)
        yield str(network[min(7, network.num_addresses - 1)])
    elif isinstance(value, types.SigmaRegularExpression):
        yield from _of_regex(str(value.regexp))


def _number(value: float) -> str:
    return str(int(value)) if float(value).is_integer() else str(value)


def _plain(value: SigmaString, many: str) -> str:
    if value.contains_placeholder():
        return FILLER
    special = {SpecialChars.WILDCARD_MULTI: many, SpecialChars.WILDCARD_SINGLE: "Z"}
    return "".join(part if isinstance(part, str) else special.get(part, "") for part in value.s)  # type: ignore[arg-type]


def _together(strings: Sequence[SigmaString]) -> str:
    """A text of all parts: beginnings first, ends last."""
    return "".join(_plain(one, "") for one in sorted(strings, key=_turn))


def _turn(one: SigmaString) -> int:
    if one.s and isinstance(one.s[0], str):
        return 0
    return 2 if one.s and isinstance(one.s[-1], str) else 1


def _holds(atom: Atom, text: str) -> bool | None:
    """Whether an atom holds for a text; None where that is not known here."""
    matches = _compared(atom.value, text)
    return matches if matches is None else matches == atom.holds


def _compared(value: Any, text: str) -> bool | None:
    if isinstance(value, SigmaString):
        if value.contains_placeholder():
            return None
        folded = "" if isinstance(value, types.SigmaCasedString) else "i"
        return re.fullmatch(f"(?s{folded}){_pattern(value)}", text) is not None
    if isinstance(value, types.SigmaRegularExpression):
        flags = sum({value.sigma_to_python_flags[flag] for flag in value.flags})
        try:
            return re.search(str(value.regexp), text, flags) is not None
        except re.error:
            return None
    if isinstance(value, types.SigmaBool):
        return text.lower() == ("true" if value.boolean else "false")
    if isinstance(value, types.SigmaNumber):
        return _as_number(text) == value.number
    if isinstance(value, types.SigmaCompareExpression):
        return _in_order(_as_number(text), value.op, value.number.number)
    if isinstance(value, types.SigmaCIDRExpression):
        try:
            return ipaddress.ip_address(text) in ipaddress.ip_network(str(value.network), strict=False)
        except ValueError:
            return False
    if isinstance(value, types.SigmaExists):
        return bool(value.exists)
    return False if isinstance(value, types.SigmaNull) else None


def _pattern(value: SigmaString) -> str:
    return "".join(
        re.escape(part) if isinstance(part, str) else ".*" if part is SpecialChars.WILDCARD_MULTI else "."
        for part in value.s
    )


def _as_number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _in_order(number: float | None, operator: CompareOperators, bound: float) -> bool:
    if number is None:
        return False
    return {
        CompareOperators.LT: number < bound, CompareOperators.LTE: number <= bound, CompareOperators.GT: number > bound,
        CompareOperators.GTE: number >= bound, CompareOperators.NEQ: number != bound,
    }.get(operator, False)  # fmt: skip


# -- a text for a regular expression ----------------------------------------------------------------------------------
def _of_regex(pattern: str) -> Iterator[str]:
    try:
        parsed = _parser.parse(pattern)
    except (re.error, RecursionError, OverflowError):
        return
    for branch in range(4):
        text = "".join(_regex_texts(parsed, branch))
        # A name in DNS does not end in a dot for a rule.
        yield from (f"{text}z", text) if text.endswith(".") else (text,)


def _regex_texts(nodes: Iterable[Any], branch: int) -> Iterator[str]:
    """The pieces of a text; of alternatives the one of that number is taken, of repetitions the fewest or some more."""
    for operation, argument in nodes:
        name = str(operation)
        if name == "LITERAL":
            yield chr(argument)
        elif name == "NOT_LITERAL":
            yield "z" if argument != ord("z") else "y"
        elif name == "ANY":
            yield "z"
        elif name == "IN":
            yield _of_set(argument)
        elif name in ("MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT"):
            least, most, inner = argument
            times = min(max(least, branch), int(most), 200) if least <= 200 else 200
            for _ in range(times):
                yield from _regex_texts(inner, branch)
        elif name == "SUBPATTERN":
            yield from _regex_texts(argument[-1], branch)
        elif name == "ATOMIC_GROUP":
            yield from _regex_texts(argument, branch)
        elif name == "BRANCH":
            choices = argument[1]
            yield from _regex_texts(choices[branch % len(choices)], branch)


def _of_set(members: Sequence[Any]) -> str:
    names = {str(operation) for operation, _ in members}
    if "NEGATE" in names:
        pattern = [(operation, argument) for operation, argument in members if str(operation) != "NEGATE"]
        return next((letter for letter in "zZ0-_ ./:" if not _in_set(pattern, letter)), "\u00e9")
    operation, argument = members[0]
    if str(operation) == "LITERAL":
        return chr(argument)
    if str(operation) == "RANGE":
        return chr(argument[0])
    return next((letter for letter in "z0 -" if _in_set(members, letter)), "z")


def _in_set(members: Sequence[Any], letter: str) -> bool:
    for operation, argument in members:
        name = str(operation)
        if name == "LITERAL" and ord(letter) == argument:
            return True
        if name == "RANGE" and argument[0] <= ord(letter) <= argument[1]:
            return True
        if name == "CATEGORY":
            kind = str(argument).removeprefix("CATEGORY_")
            classes = {"DIGIT": letter.isdigit(), "WORD": letter.isalnum() or letter == "_", "SPACE": letter.isspace()}
            if classes.get(kind.removeprefix("NOT_"), False) != kind.startswith("NOT_"):
                return True
    return False
