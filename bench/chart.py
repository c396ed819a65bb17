"""A bar chart as SVG, written by hand: text stays text, colours follow the reader's light or dark theme, no script."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, LABEL, BAR, ROW, HEAD, GAP = 760, 330, 330, 24, 30, 18
STYLE = """
svg { font: 13px system-ui, sans-serif; fill: #1f2328; }
.title { font-weight: 600; }
.note { fill: #59636e; }
.bar { fill: #9aa7b4; }
.ours { fill: #0969da; }
@media (prefers-color-scheme: dark) {
  svg { fill: #f0f6fc; }
  .note { fill: #9198a1; }
  .bar { fill: #59636e; }
  .ours { fill: #4493f8; }
}
"""


@dataclass(frozen=True)
class Bar:
    """One bar: its label, its length, and whether it is ours."""

    label: str
    value: float
    ours: bool = False


@dataclass(frozen=True)
class Panel:
    """Bars of one scale."""

    title: str
    bars: Sequence[Bar]


def bars(title: str, panels: Sequence[Panel]) -> str:
    """The chart; within a panel, lengths compare, between panels they do not.

    Args:
        title: What the numbers are, also read out to those who do not see the chart.
        panels: From top to bottom.
    """
    parts, y = [], HEAD
    for panel in panels:
        y += GAP
        parts.append(f'<text class="title" x="0" y="{y}">{escape(panel.title)}</text>')
        y += 8
        longest = max((bar.value for bar in panel.bars), default=0) or 1
        for bar in panel.bars:
            width = max(1.0, BAR * bar.value / longest)
            parts += [
                f'<text x="{LABEL - 10}" y="{y + 16}" text-anchor="end">{escape(bar.label)}</text>',
                f'<rect class="{"ours" if bar.ours else "bar"}" x="{LABEL}" y="{y + 4}" width="{width:.1f}" '
                f'height="{ROW - 8}" rx="2"/>',
                f'<text x="{LABEL + width + 8:.1f}" y="{y + 16}">{bar.value:,.0f}</text>',
            ]
            y += ROW
    height = y + 10
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" '
        f'viewBox="0 0 {WIDTH} {height}" role="img" '
        f'aria-label="{escape(title, quote=True)}">',
        f"<title>{escape(title)}</title>", f"<style>{STYLE}</style>",
        f'<text class="note" x="0" y="18">{escape(title)}; lengths compare within a source</text>',
        *parts, "</svg>", "",
    ])  # fmt: skip
