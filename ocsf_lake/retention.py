"""How long events are kept, as the settings say it: by source, table and account. Without a rule, for ever."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, model_validator

from ocsf_lake.storage import layout
from ocsf_mappers.errors import ConfigError, nearest

FOREVER = "forever"
FORMS = '"400d" for days, "7y" for years, or "forever"'
MOST_DAYS, MOST_YEARS = 36_500, 100
"""What is kept longer is kept for ever."""

_KEEP = re.compile(r"([1-9]\d{0,4})([dy])")
_LOOSE = re.compile(r"(\d{1,7})\s*([a-z]*)\.?")
_DAYS_OF = {"": 1, "d": 1, "day": 1, "w": 7, "wk": 7, "week": 7, "mo": 31, "mon": 31, "month": 31}
_YEARS = ("y", "yr", "year", "a")
_ENDLESS = frozenset("forever ever always never none infinite infinity unlimited indefinitely".split())  # noqa: SIM905


@dataclass(frozen=True)
class Keep:
    """How long something is kept: days, calendar years, or for ever.

    Args:
        text: As the settings write it: `400d`, `7y`, `forever`.
    """

    text: str

    def until(self, day: date) -> date | None:
        """The first day on which what is of a day, and ended with it, has been kept long enough; None for never."""
        match = _KEEP.fullmatch(self.text)
        if match is None:
            return None
        number = int(match[1])
        try:
            end = day + timedelta(days=1)
            if match[2] == "d":
                return end + timedelta(days=number)
            try:
                return end.replace(year=end.year + number)
            except ValueError:  # 29 February, in a year without one
                return date(end.year + number, 3, 1)
        except (OverflowError, ValueError):  # after the year 9999
            return None

    def days(self) -> int | None:
        """Its length in days, not too few; None for ever."""
        match = _KEEP.fullmatch(self.text)
        if match is None:
            return None
        return int(match[1]) if match[2] == "d" else int(match[1]) * 366

    def __str__(self) -> str:
        return self.text


def parsed(value: object) -> Keep:
    """A time to keep, of the text in the settings.

    Raises:
        ValueError: It is none; the message has the right form that is nearest.
    """
    if isinstance(value, Keep):
        return value
    if isinstance(value, str) and (value == FOREVER or _KEEP.fullmatch(value)) and _is_bounded(value):
        return Keep(value)
    shown = repr(value)[:80]
    form = _suggested(value)
    hint = f'; did you mean "{form}"?' if form else ""
    raise ValueError(f"{shown} is not a retention period; write {FORMS}{hint}")


def _is_bounded(text: str) -> bool:
    match = _KEEP.fullmatch(text)
    return match is None or int(match[1]) <= (MOST_DAYS if match[2] == "d" else MOST_YEARS)


def _suggested(value: object) -> str | None:
    """What was meant, never a shorter time than that."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    text = str(value).strip().lower()
    if re.sub(r"[^a-z]", "", text) in _ENDLESS:
        return FOREVER
    match = _LOOSE.fullmatch(text)
    if match is None or not (number := int(match[1])):
        return None
    unit = match[2] if match[2] in (*_DAYS_OF, *_YEARS) else match[2].removesuffix("s")
    if unit in ("m", "mo", "mon", "month") and number % 12 == 0:
        unit, number = "y", number // 12
    if unit in _YEARS:
        form = f"{number}y"
    elif unit in _DAYS_OF or unit == "m":
        form = f"{number * _DAYS_OF.get(unit, 31)}d"
    else:
        return None
    return form if _is_bounded(form) else FOREVER


def _account(value: object) -> str:
    text = str(value)
    if text != layout.UNKNOWN and layout.account(text) == layout.UNKNOWN:
        raise ValueError(f'{text!r} is not an account; write its twelve digits in quotes, as in "111122223333"')
    return text


KeepField = Annotated[Keep, BeforeValidator(parsed)]
AccountName = Annotated[str, BeforeValidator(_account)]


class _Checked(BaseModel):
    """A part of the settings in which a misspelt name is reported with the right one."""

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)

    @model_validator(mode="before")
    @classmethod
    def _only_known(cls, value: Any) -> Any:
        if isinstance(value, Mapping):
            for name in value:
                if name not in cls.model_fields:
                    raise ValueError(
                        f"there is no {name!r} here{nearest(str(name), cls.model_fields)}; "
                        f"there are: {', '.join(cls.model_fields)}"
                    )
        return value


class QuarantineRules(_Checked):
    """How long records in quarantine are kept.

    Args:
        default: Of every source.
        sources: Source -> how long.
    """

    default: KeepField | None = None
    sources: dict[str, KeepField] = {}


class Rules(_Checked):
    """How long events are kept.

    Args:
        default: Where nothing else is said.
        sources: Source -> how long.
        tables: Table -> how long; counts for more than the source.
    """

    default: KeepField | None = None
    sources: dict[str, KeepField] = {}
    tables: dict[str, KeepField] = {}


def _rules_of(value: object) -> object:
    """A time alone stands for rules that say no more than it."""
    return value if isinstance(value, Mapping | BaseModel) else {"default": parsed(value)}


class Retention(Rules):
    """How long events are kept, and records in quarantine; what has no rule is kept for ever.

    Args:
        accounts: Account -> how long, or rules of its own; counts for more than table and source.
        quarantine: How long records in quarantine are kept, all or by source.
    """

    accounts: dict[AccountName, Annotated[Rules, BeforeValidator(_rules_of)]] = {}
    quarantine: Annotated[QuarantineRules, BeforeValidator(_rules_of)] = QuarantineRules()

    @property
    def is_set(self) -> bool:
        """Whether anything may ever go."""
        return self != Retention()

    def may_end(self, table: str) -> bool:
        """Whether some rule lets events of a table go, whichever source they are of."""
        keeps = [keep for rules in (self, *self.accounts.values()) for keep in (
            rules.default, rules.tables.get(table), *rules.sources.values()
        )]  # fmt: skip
        return any(keep is not None and keep.text != FOREVER for keep in keeps)

    def rule(self, source: str, table: str, account: str) -> Rule | None:
        """The rule for one source's events of a table and account, the most specific one; None where there is none.

        Of an account that is not known it is the longest that any account has: the events may be of each of them.
        """
        if account != layout.UNKNOWN or account in self.accounts:
            return self._of(source, table, account)
        rules = [self._of(source, table, name) for name in (account, *self.accounts)]
        return longest(rules)

    def _of(self, source: str, table: str, account: str) -> Rule | None:
        own = self.accounts.get(account)
        places: list[tuple[Rules, str]] = [(own, f"accounts.{account}.")] if own else []
        for rules, prefix in [*places, (self, "")]:
            for name, keep in (
                (f"tables.{table}", rules.tables.get(table)),
                (f"sources.{source}", rules.sources.get(source)),
                ("default", rules.default),
            ):
                if keep is not None:
                    whole = f"accounts.{account}" if rules is own and name == "default" else f"{prefix}{name}"
                    return Rule(whole, keep)
        return None

    def of_quarantine(self, source: str) -> Rule | None:
        """The rule for a source's records in quarantine; None where there is none."""
        rules = self.quarantine
        if (keep := rules.sources.get(source)) is not None:
            return Rule(f"quarantine.sources.{source}", keep)
        return Rule("quarantine", rules.default) if rules.default is not None else None

    def check(self, sources: Collection[str], tables: Collection[str]) -> None:
        """Whether all sources and tables that are named exist: a misspelt one would be kept by another rule.

        Raises:
            ConfigError: One does not; the message names all.
        """
        if problems := list(self._unknown(sources, tables)):
            raise ConfigError("; ".join(problems))

    def _unknown(self, sources: Collection[str], tables: Collection[str]) -> Iterator[str]:
        places: list[tuple[str, Mapping[str, Keep], Collection[str], str]] = [
            ("sources", self.sources, sources, "source"), ("tables", self.tables, tables, "table"),
            ("quarantine.sources", self.quarantine.sources, sources, "source"),
        ]  # fmt: skip
        for account, rules in self.accounts.items():
            places.append((f"accounts.{account}.sources", rules.sources, sources, "source"))
            places.append((f"accounts.{account}.tables", rules.tables, tables, "table"))
        for place, named, existing, what in places:
            for name in sorted(named.keys() - set(existing)):
                yield f"setting retention.{place}: there is no {what} {name!r}{nearest(name, existing)}"


@dataclass(frozen=True)
class Rule:
    """What decides how long something is kept.

    Args:
        name: Where it stands below `[retention]`: `accounts.111122223333`, `tables.vpc_flow`, `default`.
        keep: How long.
    """

    name: str
    keep: Keep

    def __str__(self) -> str:
        return f'{self.name} = "{self.keep}"'


def longest(rules: Iterable[Rule | None], day: date = date(2000, 3, 1)) -> Rule | None:
    """The rule by which what is of a day is kept longest; None, which is for ever, where one of them is."""
    chosen: Rule | None = None
    until: date | None = None
    for rule in rules:
        if rule is None:
            return None
        end = rule.keep.until(day)
        if chosen is None or (until is not None and (end is None or end > until)):
            chosen, until = rule, end
    return chosen
