"""`ocsf-lake coverage`."""

from __future__ import annotations

import os
import shutil
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import UTC, date, datetime
from itertools import groupby
from typing import TYPE_CHECKING, Annotated

import typer

from ocsf_lake.cli import output, terminal
from ocsf_lake.cli.backfill import Accounts, Regions
from ocsf_lake.cli.options import JsonOption, LakeOption, first_day, last_day, settings_of_lake

if TYPE_CHECKING:
    from ocsf_lake.upkeep.coverage import Coverage, Covered
    from ocsf_lake.upkeep.switches import Change

EXAMPLE = "ocsf-lake coverage aws_vpc_flow --from 2026-03-16 --to 2026-03-18 --account 012345678901 --lake demo_lake"

LINES = 400
"""A heat map has so many lines; JSON and SQL have every hour."""
LISTED = 20
"""Of gaps, and of calls that changed what is recorded, so many are listed."""
WIDE, NARROW = 66, 30
"""Columns that a line with account, region and day takes, and one with the day alone."""
PIPE_WIDTH = 200
_HOURS = 24

GLYPHS = {
    "complete and proved": ("#", "32"),
    "empty and proved": ("o", "36"),
    "present": ("+", "34"),
    "missing": ("!", "1;31"),
    "suspicious gap": ("x", "31"),
    "late": ("~", "33"),
    "not expected": ("-", "35"),
    "unknown": ("?", "90"),
}
"""State -> its character, and its colour on a terminal."""

Source = Annotated[
    str | None,
    typer.Argument(metavar="[SOURCE]", help="Only this source, see `ocsf-lake sources`.", show_default=False),
]
First = Annotated[date | None, first_day("First delivery day, UTC. Default: 6 days before --to.")]
Last = Annotated[date | None, last_day("Last day, included. Default: the newest with objects.")]


def coverage(
    source: Source = None,
    first: First = None,
    last: Last = None,
    account: Accounts = None,
    region: Regions = None,
    as_json: JsonOption = False,
    lake: LakeOption = None,
) -> None:
    """Show which hours of every log the lake has, and which it should have, by source, account and region.

    An hour is `complete and proved` or `empty and proved` by digests that `ocsf-lake verify` followed; otherwise
    `present`, `missing`, a `suspicious gap` judging by the log's history, `late`, `not expected` after a call that
    switched the log off, or `unknown`. Hours are those in object names. Calls that changed what is recorded are listed.
    The SQL table `coverage` has the same rows. Exit 1 if something is missing, or a gap is suspicious.
    """
    config = settings_of_lake(lake)
    from ocsf_lake.upkeep.coverage import Asked, covered

    asked = Asked(source, first, last, tuple(account or ()), tuple(region or ()))
    whole, streams = covered(config, asked, datetime.now(UTC))
    totals = _Totals(whole)
    if as_json:
        output.print_json_array(row for stream in totals.counting(streams) for row in stream.rows())
    else:
        _show(whole, totals, streams)
    totals.tell()
    raise typer.Exit(int(totals.gaps))


class _Totals:
    """What all streams come to."""

    def __init__(self, whole: Coverage) -> None:
        self.whole = whole
        self.hours: Counter[str] = Counter()
        self.streams = 0
        self.gaps = False
        self.silent: list[Covered] = []

    def counting(self, streams: Iterable[Covered]) -> Iterator[Covered]:
        """The streams, counted."""
        for stream in streams:
            self.streams += 1
            self.hours.update({str(state): number for state, number in stream.counts.items()})
            self.gaps |= stream.has_gaps
            if stream.silent:
                self.silent.append(stream)
            yield stream

    def tell(self) -> None:
        """Says it on stderr."""
        hours = ", ".join(f"{self.hours[state]:,} {state}" for state in GLYPHS if self.hours[state])
        terminal.say(
            f"{self.whole.first} to {self.whole.last}, {terminal.plural(self.streams, 'log')} of a source, account and"
            f" region: hours {hours or 'none'}"
        )
        for stream in self.silent[:LISTED]:
            name = stream.name
            terminal.say(
                f"{name.source} {name.account} {name.region}: nothing for {stream.silent:,} hours after"
                f" {self.whole.last}, which is unusual"
            )
        if len(self.silent) > LISTED:
            terminal.say(f"and {len(self.silent) - LISTED:,} more that fell silent")
        for source, number in sorted(self.whole.untimed.items()):
            if number:
                terminal.say(f"{terminal.plural(number, 'object')} of {source} in no hour: no time in their names")


# -- the heat map -----------------------------------------------------------------------------------------------------
def _show(whole: Coverage, totals: _Totals, streams: Iterable[Covered]) -> None:
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else PIPE_WIDTH
    colours = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    heat = _Heat(width, colours)
    lines, left = 0, 0
    gaps: list[str] = []
    for stream in totals.counting(streams):
        drawn = list(heat.of(stream))
        if lines + len(drawn) > LINES and (lines or not stream.has_gaps):
            left += 1
        else:
            lines += len(drawn)
            _print(drawn)
        if len(gaps) <= LISTED:
            gaps += list(_gaps(stream))
    _print(heat.legend())
    if left:
        _print([f"and {left:,} more; --json, or the table coverage in SQL, has all of them"])
    _list("gaps", gaps)
    _list("calls that changed what is recorded", [_call(change) for change in whole.changes])


def _list(title: str, lines: list[str]) -> None:
    if lines:
        _print(["", title, *(f"  {terminal.escaped(line)}" for line in lines[:LISTED])])
        if len(lines) > LISTED:
            _print(["  and more; --json has all of them"])


def _print(lines: Iterable[str]) -> None:
    sys.stdout.write("".join(f"{line}\n" for line in lines))


class _Heat:
    """Draws streams.

    Args:
        width: Columns of the terminal.
        colours: Whether it may have colours.
    """

    def __init__(self, width: int, colours: bool) -> None:
        self.width = width
        self.colours = colours
        self._source = ""
        self._seen: set[str] = set()

    def of(self, stream: Covered) -> Iterator[str]:
        """The lines of one."""
        from ocsf_lake.upkeep.coverage import ALL

        name = stream.name
        states = [str(ALL[code]) for code in stream.codes]
        self._seen.update(states)
        wide = self.width >= WIDE
        if name.source != self._source:
            yield from ([""] if self._source else [])
            self._source = name.source
            yield name.source
            if wide:
                yield f"{'account':12} {'region':14} {'day':10} {'0     6     12    18':24}"
        who = f"{terminal.escaped(name.account):12} {terminal.escaped(name.region):14}"
        if not wide:
            yield who.strip()
        for start in range(0, len(states), _HOURS):
            day = f"{_day(stream.first + start):%Y-%m-%d}"
            cells = states[start : start + _HOURS]
            if wide:
                yield f"{who if not start else ' ' * len(who)} {day} {self._cells(cells)}"
            elif self.width >= NARROW:
                yield f"{day[5:]} {self._cells(cells)}"
            else:
                yield f"{day[5:]} {self._cells(cells[: _HOURS // 2])}"
                yield f"      {self._cells(cells[_HOURS // 2 :])}"

    def legend(self) -> Iterator[str]:
        """What the characters mean, of those that were drawn."""
        yield ""
        for state, (glyph, _) in GLYPHS.items():
            if state in self._seen:
                yield f"{self._coloured(glyph, state)} {state}"

    def _cells(self, states: list[str]) -> str:
        runs = ((state, len(list(same))) for state, same in groupby(states))
        return "".join(self._coloured(GLYPHS[state][0] * number, state) for state, number in runs)

    def _coloured(self, glyph: str, state: str) -> str:
        return f"\x1b[{GLYPHS[state][1]}m{glyph}\x1b[0m" if self.colours else glyph


def _day(hour: int) -> datetime:
    from ocsf_lake.upkeep.streams import time_of

    return time_of(hour)


def _gaps(stream: Covered) -> Iterator[str]:
    """Hours that follow each other and are missing, or seem to be, or were switched off, for one reason."""
    begun: int | None = None
    state, reason = "", ""
    for hour in [*stream.hours, None]:
        here = (str(stream.state(hour)), stream.reasons.get(hour, "")) if hour is not None else ("", "")
        if begun is not None and here != (state, reason):
            end = hour if hour is not None else stream.first + len(stream.codes)
            yield _gap(stream, begun, end, state, reason)
            begun = None
        if begun is None and here[0] in ("missing", "suspicious gap", "not expected"):
            begun, (state, reason) = hour, here


def _gap(stream: Covered, start: int, end: int, state: str, reason: str) -> str:
    name = stream.name
    span = f"{_day(start):%Y-%m-%d %H:%M} to {_day(end):%Y-%m-%d %H:%M}"
    why = f": {reason}" if reason else ""
    return f"{span}  {state}  {name.source} {name.account} {name.region}{why}"


def _call(change: Change) -> str:
    refused = "" if change.done else " (refused)"
    return (
        f"{change.time:%Y-%m-%dT%H:%M:%SZ}  {change.operation}{refused}  {change.source}, in {change.account}"
        f" {change.region}, by {change.who}, event {change.uid}"
    )
