"""Draws pictures: `python -m ocsf_lake.pages.draw`, numbers in JSON on stdin, SVG in JSON on stdout.

A program of its own: vl-convert aborts its whole process when a label has a character that XML does not know, and then
a page lacks its pictures, and nothing else. Colours are variables of the page's style, so that one picture is right in
light, dark and in print.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import altair as alt
import vl_convert

Rows = Sequence[Mapping[str, Any]]
WIDE, NARROW = 1040, 330
"""Widths that a page has, with text that can be read at both."""
HEIGHT = 260
_LONG, _SHORT = 30, 14
_POINTS = 130
_LETTER = 8
_SEVERITIES = ("Fatal", "Critical", "High", "Medium", "Low", "Informational", "Unknown")
_GRAVITY = ("var(--s4)", "var(--s4)", "var(--s3)", "var(--s2)", "var(--s1)", "var(--s0)", "var(--s0)")
_COLOURS = [f"var(--c{number})" for number in (1, 2, 3, 4, 5, 6)]
_UNITS = (("days", 2 * 24 * 60, 24 * 60), ("hours", 5 * 60, 60), ("minutes", 0, 1))
"""Units of lag: from how many minutes on each is used, and how many it has."""
_DASHES = [[1, 0], [6, 3], [2, 2]]
_AXIS = {
    "labelColor": "var(--soft)", "titleColor": "var(--soft)", "gridColor": "var(--grid)", "domainColor": "var(--line)",
    "tickColor": "var(--line)", "labelFontSize": 12, "titleFontSize": 12, "titleFontWeight": "normal",
    "labelLimit": 260,
}  # fmt: skip
_LEGEND = {
    "labelColor": "var(--ink)", "titleColor": "var(--soft)", "orient": "top", "title": None, "labelFontSize": 12,
    "symbolStrokeWidth": 3, "columnPadding": 26, "labelLimit": 220,
}  # fmt: skip
_CONFIG = {
    "background": "transparent", "font": "system-ui, sans-serif", "axis": _AXIS, "legend": _LEGEND,
    "view": {"stroke": None}, "padding": {"left": 2, "right": 14, "top": 2, "bottom": 2},
}  # fmt: skip


def lag(rows: Rows, narrow: bool) -> Any:
    """Lines by source; times from minutes to months, so the scale is logarithmic."""
    sources = sorted({row["source"] for row in rows})
    most = max(row["minutes"] for row in rows)
    unit, minutes = next((name, size) for name, least, size in _UNITS if most >= least)
    values = [{**row, "lag": row["minutes"] / minutes} for row in rows]
    scale = alt.Scale(type="log", nice=True)
    y = alt.Y("lag:Q", title=f"{unit}, 95 of 100", scale=scale, axis=alt.Axis(tickCount=5))
    # A line of one day is a point; of many days each would make the page heavy.
    point = {"size": 18} if len(rows) <= _POINTS else False
    return alt.Chart(alt.Data(values=values)).mark_line(strokeWidth=2, point=point).encode(
        x=_days(rows, narrow), y=y,
        color=alt.Color(
            "source:N", sort=sources, scale=alt.Scale(domain=sources, range=_repeated(_COLOURS, len(sources))),
            legend=alt.Legend(columns=1 if narrow else 4),
        ),
        strokeDash=alt.StrokeDash(
            "source:N", sort=sources, legend=None,
            scale=alt.Scale(domain=sources, range=[_DASHES[at // 6 % 3] for at in range(len(sources))]),
        ),
    )  # fmt: skip


def volume(rows: Rows, narrow: bool) -> Any:
    """Bars of events, stacked by class."""
    classes = list(dict.fromkeys(row["class"] for row in rows))
    number = max(1, len({row["day"] for row in rows}))
    width = max(1, min(24, ((NARROW if narrow else WIDE) - 60) // number - 1))
    rank = {name: place for place, name in enumerate(classes)}
    values = [{**row, "rank": rank[row["class"]]} for row in rows]
    return alt.Chart(alt.Data(values=values)).mark_bar(width=width).encode(
        x=_days(rows, narrow, 4 if narrow else 14),
        y=alt.Y("events:Q", title="events", stack=True, axis=alt.Axis(tickCount=5, format="~s")),
        order="rank:O",
        color=alt.Color(
            "class:N", sort=classes, scale=alt.Scale(domain=classes, range=_repeated(_COLOURS, len(classes))),
            legend=alt.Legend(columns=2 if narrow else 5),
        ),
    )  # fmt: skip


def detections(rows: Rows, narrow: bool) -> Any:
    """Bars of findings by tactic, stacked by severity."""
    there = [name for name in _SEVERITIES if any(row["severity"] == name for row in rows)]
    values = [
        {**row, "tactic": _cut(row["tactic"], _SHORT if narrow else _LONG), "rank": there.index(row["severity"])}
        for row in rows
    ]
    # A browser's letters may be wider than those that the library measures.
    room = _LETTER * max(len(row["tactic"]) for row in values) + 8
    return alt.Chart(alt.Data(values=values)).mark_bar(height=16).encode(
        y=alt.Y("tactic:N", title=None, sort="-x", axis=alt.Axis(labelLimit=room, minExtent=room)),
        x=alt.X("sum(findings):Q", title="findings", axis=alt.Axis(tickMinStep=1, format="~s")),
        order="rank:O",
        color=alt.Color(
            "severity:N", sort=there,
            scale=alt.Scale(domain=there, range=[_GRAVITY[_SEVERITIES.index(name)] for name in there]),
            legend=alt.Legend(columns=2 if narrow else 7),
        ),
    )  # fmt: skip


PICTURES: dict[str, Callable[[Rows, bool], Any]] = {"lag": lag, "volume": volume, "detections": detections}
"""Name of a picture -> what draws it."""


def drawn(name: str, rows: Rows) -> dict[str, str]:
    """A picture in both widths, as SVG."""
    height = max(90, 46 + 24 * len({row["tactic"] for row in rows})) if name == "detections" else HEIGHT
    return {
        size: _svg(PICTURES[name](rows, narrow), NARROW if narrow else WIDE, height)
        for size, narrow in (("wide", False), ("narrow", True))
    }


def _svg(chart: Any, width: int, height: int) -> str:
    sized = chart.properties(
        width=width, height=height, autosize=alt.AutoSizeParams(type="fit", contains="padding"), config=_CONFIG
    )
    # No address at all: a picture of numbers that are here asks nobody for more.
    return str(vl_convert.vegalite_to_svg(sized.to_dict(validate=False), allowed_base_urls=[]))


def _days(rows: Rows, narrow: bool, padding: int = 0) -> Any:
    """An axis of days, in UTC whatever the machine's zone, with as many labels as there is room for."""
    number = len({row["day"] for row in rows})
    step = max(1, -(-number // (4 if narrow else 12)))
    axis = alt.Axis(format="%-d %b", tickCount={"interval": "day", "step": step}, grid=False)
    return alt.X("day:T", title=None, scale=alt.Scale(type="utc", padding=padding), axis=axis)


def _repeated(colours: Sequence[str], number: int) -> list[str]:
    return [colours[place % len(colours)] for place in range(number)]


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: width - 5]}…{text[-4:]}"


def main() -> None:
    """Draws what it is given; a picture that fails is left out, and said on stderr."""
    pictures = {}
    for name, rows in json.load(sys.stdin).items():
        try:
            pictures[name] = drawn(name, rows)
        except Exception as error:
            sys.stderr.write(f"{name}: {type(error).__name__}\n")
    json.dump(pictures, sys.stdout)


if __name__ == "__main__":
    main()
