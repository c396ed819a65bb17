"""Pictures for a page: drawn by another process, and taken only when they are nothing but pictures."""

from __future__ import annotations

import json
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

from markupsafe import Markup

from ocsf_lake.pages.facts import Facts
from ocsf_mappers.shown import escaped

NEEDED = ("altair", "vl_convert")
MISSING = "pictures: they need `pip install 'ocsf-lake[report]'`"
SECONDS = 120
"""A process that draws longer is ended."""
_SVG = "{http://www.w3.org/2000/svg}"
_DRAWN = frozenset({"svg", "g", "path", "rect", "line", "text", "tspan", "defs", "circle", "title"})
_MOST_BYTES = 150_000
_MOST_LINES = 13
"""Sources that the picture of lag has, the slowest first; the table has all."""


def drawn(facts: Facts) -> tuple[dict[str, Markup], str | None]:
    """Pictures by name, and why there are none or fewer, where that is so."""
    rows_by_picture = {name: rows for name, rows in _numbers(facts).items() if rows}
    if not rows_by_picture:
        return {}, None
    if any(find_spec(name) is None for name in NEEDED):
        return {}, MISSING
    try:
        done = subprocess.run(
            # -P: no module is taken from the folder where the command is run.
            [sys.executable, "-P", "-m", "ocsf_lake.pages.draw"], input=json.dumps(rows_by_picture), text=True,
            capture_output=True, timeout=SECONDS, check=False,
        )  # fmt: skip
        answer = json.loads(done.stdout) if done.returncode == 0 else {}
    except (OSError, subprocess.SubprocessError, ValueError):
        answer = {}
    pictures = {name: figure for name, svgs in answer.items() if (figure := _figure(svgs)) is not None}
    lost = sorted(rows_by_picture.keys() - pictures.keys())
    return pictures, f"pictures that could not be drawn: {', '.join(lost)}" if lost else None


def _numbers(facts: Facts) -> dict[str, list[dict[str, Any]]]:
    slowest: dict[str, float] = {}
    for lag in facts.lags.rows:
        slowest[lag.source] = max(slowest.get(lag.source, 0), lag.p95)
    sources = sorted(slowest, key=lambda name: -slowest[name])[:_MOST_LINES]
    lags = [
        # Below a minute a logarithmic scale has no place for it.
        {"day": str(lag.day), "source": _label(lag.source), "minutes": max(1.0, round(lag.p95, 1))}
        for lag in facts.lags.rows if lag.source in sources
    ]  # fmt: skip
    volume = [
        {"day": str(day), "class": _label(name), "events": facts.volume[day, name]}
        for name in facts.classes for day in facts.days if (day, name) in facts.volume
    ]  # fmt: skip
    counts: Counter[tuple[str, str]] = Counter()
    for item in facts.findings:
        counts[_label(item.tactic), item.severity] += item.number
    most = Counter({tactic: 0 for tactic, _ in counts})
    for (tactic, _), number in counts.items():
        most[tactic] += number
    kept = {tactic for tactic, _ in most.most_common(12)}
    findings = [
        {"tactic": tactic, "severity": severity, "findings": number}
        for (tactic, severity), number in counts.items() if tactic in kept
    ]  # fmt: skip
    return {"lag": lags, "volume": volume, "detections": findings}


def _label(text: str) -> str:
    """A text that XML can hold: it knows no control characters, halves of pairs, or U+FFFE."""
    shown = escaped(text)
    return "".join(f"\\u{ord(c):04x}" if 0xD800 <= ord(c) <= 0xDFFF or ord(c) in (0xFFFE, 0xFFFF) else c for c in shown)


def _figure(svgs: Mapping[str, str]) -> Markup | None:
    """Both widths of a picture; None where it is more than a picture, or too large."""
    parts = []
    for size in ("wide", "narrow"):
        svg = svgs.get(size, "")
        if len(svg) > _MOST_BYTES:
            return None
        cleaned = _cleaned(svg, size)
        if cleaned is None:
            return None
        parts.append(cleaned)
    return Markup(f"<figure>{''.join(parts)}</figure>")


def _cleaned(svg: str, size: str) -> str | None:
    """One picture without what means nothing here; for a screen reader it is not there: the table beside it is."""
    try:
        root = ET.fromstring(svg)
    except ET.ParseError:
        return None
    for element in root.iter():
        if element.tag.removeprefix(_SVG) not in _DRAWN:
            return None
        for name in list(element.attrib):
            if name.startswith(("on", "aria-", "{")) or name in ("role", "class", "style", "href", "id"):
                del element.attrib[name]
    root.set("class", size)
    root.set("aria-hidden", "true")
    ET.register_namespace("", _SVG.strip("{}"))
    return ET.tostring(root, encoding="unicode")
