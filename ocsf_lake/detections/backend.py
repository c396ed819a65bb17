"""Sigma's conditions as trees, see `places`: a back-end of pySigma that makes no text.

https://sigmahq.io/sigma-specification/. Texts are compared in upper and lower case alike, unless a rule says `|cased`;
regular expressions as they are written. `not` of a member that is not there is true.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, TypeGuard

from sigma.conditions import ConditionFieldEqualsValueExpression as FieldValue
from sigma.conditions import ConditionItem
from sigma.conversion.base import Backend
from sigma.processing.pipeline import ProcessingItem, ProcessingPipeline
from sigma.processing.transformations import ValueListPlaceholderTransformation
from sigma.rule import SigmaRule
from sigma.types import CompareOperators, SigmaRegularExpressionFlag, SigmaString, SpecialChars
from sqlglot import exp

from ocsf_lake.detections import places
from ocsf_lake.detections.places import Condition, Field, Unmappable, node, text

Fields = Callable[[str], Field]
"""Gives where a member of a log stands; raises `Unmappable`."""

_COMPARED: Mapping[CompareOperators, type[exp.Binary]] = {
    CompareOperators.LT: exp.LT, CompareOperators.LTE: exp.LTE, CompareOperators.GT: exp.GT,
    CompareOperators.GTE: exp.GTE, CompareOperators.NEQ: exp.NEQ,
}  # fmt: skip
_FLAGS = {
    SigmaRegularExpressionFlag.IGNORECASE: "i", SigmaRegularExpressionFlag.MULTILINE: "m",
    SigmaRegularExpressionFlag.DOTALL: "s",
}  # fmt: skip


@dataclass(frozen=True)
class Note:
    """What has to be known of a part of a rule.

    Args:
        field: The member that it names; empty for keywords.
        reason: What is wrong with it.
        never: Whether that part can never hold.
    """

    field: str
    reason: str
    never: bool = True

    def __str__(self) -> str:
        return f"{self.field}: {self.reason}" if self.field else self.reason


class TreeBackend(Backend):
    """Converts one rule after the other.

    Args:
        placeholders: Values of the placeholders that rules name.
    """

    name = "ocsf-lake"
    formats: ClassVar[dict[str, str]] = {"default": "a tree of sqlglot's"}
    convert_or_as_in = convert_and_as_in = False

    def __init__(self, placeholders: Mapping[str, Sequence[str]]) -> None:
        values = {name: list(given) for name, given in placeholders.items()}
        items = [ProcessingItem(ValueListPlaceholderTransformation(include=list(values)))] if values else []
        super().__init__(ProcessingPipeline(items=items, vars=values))
        self._fields: Fields = _no_fields
        self._notes: dict[Note, None] = {}

    def tree(self, rule: SigmaRule, fields: Fields) -> tuple[exp.Expr, tuple[Note, ...]]:
        """The condition of a rule, and what has to be known of it.

        Args:
            rule: The rule.
            fields: Where the members of its log stand.

        Raises:
            SigmaError: It cannot be converted.
        """
        self._fields, self._notes = fields, {}
        self.init_processing_pipeline("default")
        self.last_processing_pipeline.apply(rule)
        conditions = [
            self.convert_condition(condition.parsed, _NO_STATE) for condition in rule.detection.parsed_condition
        ]
        return _any(conditions), tuple(self._notes)

    # -- conditions of conditions -------------------------------------------------------------------------------------
    def convert_condition_or(self, cond: Any, state: Any) -> exp.Expr:
        texts: dict[str, list[SigmaString]] = {}
        others: list[exp.Expr] = []
        for part in cond.args:
            # Texts of one member together, so that it is read once, however long a list of them is.
            if isinstance(part, FieldValue) and _is_text(part.value):
                texts.setdefault(part.field, []).append(part.value)
            else:
                others.append(self.convert_condition(part, state))
        return _any([*(self._is_one_of(field, values) for field, values in texts.items()), *others])

    def convert_condition_and(self, cond: Any, state: Any) -> exp.Expr:
        parts = sorted(cond.args, key=self._cost)
        return _all([self.convert_condition(part, state) for part in parts])

    def convert_condition_not(self, cond: Any, state: Any) -> exp.Expr:
        inner = self.convert_condition(cond.args[0], state)
        # A member that is not there meets no condition, which makes its opposite true, not unknown.
        return exp.Not(this=exp.Coalesce(this=exp.Paren(this=inner), expressions=[exp.false()]))

    def _cost(self, part: Any) -> int:
        """What is cheap to look at is looked at first, and mostly decides."""
        if isinstance(part, FieldValue):
            try:
                return self._fields(part.field).cost
            except Unmappable:
                return 0
        if isinstance(part, ConditionItem):
            return max(map(self._cost, part.args), default=0)
        return 9

    # -- values of a member -------------------------------------------------------------------------------------------
    def _atom(self, cond: Any, condition: Condition) -> exp.Expr:
        field = self._field(cond.field)
        return exp.false() if field is None else field.any(condition)

    def _field(self, name: str) -> Field | None:
        try:
            field = self._fields(name)
        except Unmappable as reason:
            self._note(name, str(reason))
            return None
        if field.note:
            self._note(name, field.note, never=False)
        return field

    def _note(self, field: str, reason: str, *, never: bool = True) -> None:
        self._notes[Note(field, reason, never)] = None

    def _never(self, field: str, reason: str) -> exp.Expr:
        self._note(field, reason)
        return exp.false()

    def _is_one_of(self, field: str, values: Sequence[SigmaString]) -> exp.Expr:
        place = self._field(field)
        return exp.false() if place is None else place.any(lambda value: _one_of(exp.Lower(this=value), values))

    def convert_condition_field_eq_val_str(self, cond: Any, state: Any) -> exp.Expr:
        if cond.value.contains_placeholder():
            return self._never(cond.field, _unfilled(cond.value))
        return self._atom(cond, lambda value: like(exp.Lower(this=value), cond.value, folded))

    def convert_condition_field_eq_val_str_case_sensitive(self, cond: Any, state: Any) -> exp.Expr:
        if cond.value.contains_placeholder():
            return self._never(cond.field, _unfilled(cond.value))
        return self._atom(cond, lambda value: like(value, cond.value, str))

    def convert_condition_field_eq_val_num(self, cond: Any, state: Any) -> exp.Expr:
        return self._compared(cond, exp.EQ, cond.value.number)

    def convert_condition_field_compare_op_val(self, cond: Any, state: Any) -> exp.Expr:
        number = getattr(cond.value.number, "number", None)
        if not isinstance(number, int | float):
            return self._never(cond.field, f"it is compared with {cond.value.number}, which is not a number")
        return self._compared(cond, _COMPARED[cond.value.op], number)

    def _compared(self, cond: Any, operator: type[exp.Binary], number: float) -> exp.Expr:
        constant = exp.Literal.number(number)
        field = self._field(cond.field)
        if field is None:
            return exp.false()
        if field.number is not None:
            return operator(this=field.number, expression=constant)
        double = exp.DataType.build("double")
        cast = partial(exp.TryCast, to=double)
        return field.any(lambda value: operator(this=cast(this=value).copy(), expression=constant.copy()))

    def convert_condition_field_eq_val_bool(self, cond: Any, state: Any) -> exp.Expr:
        constant = "true" if cond.value.boolean else "false"
        return self._atom(cond, lambda value: exp.EQ(this=exp.Lower(this=value), expression=text(constant)))

    def convert_condition_field_eq_val_re(self, cond: Any, state: Any) -> exp.Expr:
        return self._atom(cond, lambda value: _matches(value, cond.value))

    def convert_condition_field_eq_val_cidr(self, cond: Any, state: Any) -> exp.Expr:
        network = text(str(cond.value.network))
        return self._atom(cond, lambda value: node(places.IN_NETWORK, value, network))

    def convert_condition_field_eq_field(self, cond: Any, state: Any) -> exp.Expr:
        other = self._field(cond.value.field)
        if other is None:
            return exp.false()
        starts, ends = cond.value.starts_with, cond.value.ends_with
        return self._atom(cond, lambda one: other.any(lambda two: _compared_texts(one, two, starts, ends)))

    def convert_condition_field_eq_val_null(self, cond: Any, state: Any) -> exp.Expr:
        field = self._field(cond.field)
        # Of a member that stands nowhere in our columns nobody knows whether it is absent.
        return exp.false() if field is None else exp.Not(this=exp.Paren(this=_sure(field.exists())))

    def convert_condition_field_exists(self, cond: Any, state: Any) -> exp.Expr:
        field = self._field(cond.field)
        return exp.false() if field is None else field.exists()

    def convert_condition_field_not_exists(self, cond: Any, state: Any) -> exp.Expr:
        return self.convert_condition_field_eq_val_null(cond, state)

    def convert_condition_field_eq_val_timestamp_part(self, cond: Any, state: Any) -> exp.Expr:
        part = cond.value.timestamp_part.name.lower()
        field = self._field(cond.field)
        if field is None or field.time is None:
            return self._never(cond.field, f"no time, of which |{part} could be taken") if field else exp.false()
        taken = node(places.TIME_PART, field.time, text(part))
        return exp.EQ(this=taken, expression=exp.Literal.number(cond.value.number))

    def convert_condition_field_eq_query_expr(self, cond: Any, state: Any) -> exp.Expr:
        return self._never(cond.field, "it is a query in another system's language")

    # -- values of any member -----------------------------------------------------------------------------------------
    def convert_condition_val_str(self, cond: Any, state: Any) -> exp.Expr:
        if cond.value.contains_placeholder():
            return self._never("", _unfilled(cond.value))
        # A keyword stands anywhere in a value, and is no whole one.
        keyword = SigmaString(f"*{cond.value!s}*")
        return places.anywhere(lambda value: like(exp.Lower(this=value), keyword, folded))

    def convert_condition_val_num(self, cond: Any, state: Any) -> exp.Expr:
        return places.anywhere(lambda value: node(places.CONTAINS, value, text(str(cond.value.number))))

    def convert_condition_val_re(self, cond: Any, state: Any) -> exp.Expr:
        return places.anywhere(lambda value: _matches(value, cond.value))

    def convert_condition_query_expr(self, cond: Any, state: Any) -> exp.Expr:
        return self._never("", "it is a query in another system's language")

    # -- what is done elsewhere ---------------------------------------------------------------------------------------
    def convert_condition_as_in_expression(self, cond: Any, state: Any) -> exp.Expr:
        raise NotImplementedError  # see `convert_or_as_in`

    def _not_here(self, *_: Any) -> list[Any]:
        raise NotImplementedError  # `correlations` converts these

    convert_correlation_event_count_rule: Any = _not_here
    convert_correlation_value_count_rule: Any = _not_here
    convert_correlation_temporal_rule: Any = _not_here
    convert_correlation_temporal_ordered_rule: Any = _not_here
    convert_correlation_extended_temporal_rule: Any = _not_here
    convert_correlation_extended_temporal_ordered_rule: Any = _not_here
    convert_correlation_value_sum_rule: Any = _not_here
    convert_correlation_value_avg_rule: Any = _not_here
    convert_correlation_value_percentile_rule: Any = _not_here
    convert_correlation_value_median_rule: Any = _not_here


_NO_STATE: Any = None


def like(value: exp.Expr, expected: SigmaString, folded: Callable[[str], str]) -> exp.Expr:
    """Whether a text is what a rule expects, whose wildcards are `*` and `?`.

    Args:
        value: The text.
        expected: What the rule expects.
        folded: Makes upper and lower case equal, if they are.
    """
    parts = [folded(part) if isinstance(part, str) else part for part in expected.s]
    texts = [part for part in parts if isinstance(part, str)]
    many = SpecialChars.WILDCARD_MULTI
    if not parts or len(texts) == len(parts):
        return exp.EQ(this=value, expression=text("".join(texts)))
    if not texts and set(parts) == {many}:
        return exp.not_(exp.Is(this=value, expression=exp.Null()))
    # LIKE with ESCAPE takes ten times as long as these.
    match parts:
        case [SpecialChars.WILDCARD_MULTI, str(part), SpecialChars.WILDCARD_MULTI]:
            return node(places.CONTAINS, value, text(part))
        case [str(part), SpecialChars.WILDCARD_MULTI]:
            return exp.StartsWith(this=value, expression=text(part))
        case [SpecialChars.WILDCARD_MULTI, str(part)]:
            return node(places.ENDS_WITH, value, text(part))
    pattern = "".join(
        re.sub(r"([%_\\])", r"\\\1", part) if isinstance(part, str) else "%" if part is many else "_" for part in parts
    )
    matched = exp.Like(this=value, expression=text(pattern))
    return exp.Escape(this=matched, expression=text("\\")) if "\\" in pattern else matched


def folded(written: str) -> str:
    """A text in lower case as DuckDB has it: letter by letter, whatever stands around them."""
    return "".join("i" if letter == "İ" else letter.lower() for letter in written)


def _one_of(lowered: exp.Expr, values: Sequence[SigmaString]) -> exp.Expr:
    plain = [folded(literal) for value in values if (literal := _plain(value)) is not None]
    others = [like(lowered.copy(), value, folded) for value in values if _plain(value) is None]
    if len(plain) == 1:
        others.insert(0, exp.EQ(this=lowered.copy(), expression=text(plain[0])))
    elif plain:
        others.insert(0, exp.In(this=lowered.copy(), expressions=list(map(text, plain))))
    return _any(others)


def _matches(value: exp.Expr, regex: Any) -> exp.Expr:
    flags = "".join(sorted(_FLAGS[flag] for flag in regex.flags))
    pattern = f"(?{flags})" if flags else ""
    return exp.RegexpLike(this=value, expression=text(f"{pattern}{regex.regexp}"))


def _compared_texts(one: exp.Expr, two: exp.Expr, starts: bool, ends: bool) -> exp.Expr:
    one, two = exp.Lower(this=one.copy()), exp.Lower(this=two.copy())
    if starts and ends:
        return node(places.CONTAINS, one, two)
    if starts:
        return exp.StartsWith(this=one, expression=two)
    return node(places.ENDS_WITH, one, two) if ends else exp.EQ(this=one, expression=two)


def _is_text(value: Any) -> TypeGuard[SigmaString]:
    """Whether it is a text in upper and lower case alike, without placeholders."""
    return type(value) is SigmaString and not value.contains_placeholder()


def _plain(value: SigmaString) -> str | None:
    """A text without wildcards; None for one with some."""
    if value.contains_special():
        return None
    # not str(value), which escapes anew
    return "".join(part for part in value.s if isinstance(part, str))


def _unfilled(value: SigmaString) -> str:
    return f"placeholder {value.original} has no values: name some in the setting rule_placeholders"


def _any(conditions: Sequence[exp.Expr]) -> exp.Expr:
    return exp.Paren(this=exp.or_(*conditions, wrap=True)) if len(conditions) > 1 else conditions[0]


def _all(conditions: Sequence[exp.Expr]) -> exp.Expr:
    return exp.Paren(this=exp.and_(*conditions, wrap=True)) if len(conditions) > 1 else conditions[0]


def _sure(condition: exp.Expr) -> exp.Expr:
    return exp.Coalesce(this=exp.Paren(this=condition), expressions=[exp.false()])


def _no_fields(name: str) -> Field:
    raise Unmappable("no log was named")
