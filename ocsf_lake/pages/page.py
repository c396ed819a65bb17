"""A lake as one page of HTML: no script, no request, and nothing in it that a log could steer."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from datetime import date
from functools import cache
from importlib.metadata import version
from itertools import groupby
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup, escape

from ocsf_lake.pages import charts, heat, sections, todo
from ocsf_lake.pages.facts import Facts
from ocsf_lake.query import files
from ocsf_lake.storage import permissions
from ocsf_lake.text import plural, size
from ocsf_mappers.errors import ConfigError
from ocsf_mappers.shown import escaped, redacted

FOLDER = Path(__file__).parent
SECTIONS = (
    ("next", "Next"), ("coverage", "Coverage"), ("lag", "Lag"), ("volume", "Volume"), ("quarantine", "Quarantine"),
    ("drift", "Drift"), ("detections", "Detections"), ("cost", "Cost"), ("storage", "Storage"),
)  # fmt: skip
GAPS = 200
"""So many gaps are listed in words."""
LETTERS = {
    "complete and proved": "c", "empty and proved": "e", "present": "p", "missing": "m", "suspicious gap": "g",
    "late": "l", "not expected": "n", "unknown": "u",
}  # fmt: skip
"""State -> the class of its cells."""
_SPOKEN = {"complete and proved": "complete", "empty and proved": "empty", "suspicious gap": "gap"}
ALONE = "default-src 'none'; style-src '{style}'; img-src data:; base-uri 'none'; form-action 'none'"


def write(facts: Facts, path: Path) -> int:
    """Writes the page to a local file, which it replaces when it is whole; gives its size.

    Args:
        facts: What it says.
        path: The file.

    Raises:
        ConfigError: It cannot be written.
    """
    text = encoded(facts)
    try:
        with files.replaced(path) as part, permissions.open_file(part, facts.settings.mask) as file:
            file.write(text)
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError, PermissionError) as error:
        raise ConfigError(f"cannot write {str(path)!r}: {error.strerror}") from error
    return len(text)


def encoded(facts: Facts) -> bytes:
    """The page as a file has it."""
    return render(facts).encode("utf-8", "backslashreplace")


def render(facts: Facts, *, prompt: str | None = None, refresh: int | None = None) -> str:
    """The page.

    Args:
        facts: What it says.
        prompt: Address of a page that answers queries.
        refresh: After so many seconds a browser is to ask for it again.
    """
    steps = todo.steps(facts)
    pictures, lost = charts.drawn(facts)
    shown = heat.fold(facts.heat)
    states = [state for state in LETTERS if any(source.counts[state] for source in shown.sources)]
    not_looked = [*facts.not_looked, *([lost] if lost else []), "Athena's scans", "lifecycle rules of buckets"]
    return document(
        "page.j2", prompt=prompt, refresh=refresh, referrer="same-origin" if prompt else "no-referrer",
        lake=redacted(facts.settings.lake), verdict=todo.verdict(steps),
        urgent=any(step.tone != todo.PLAIN for step in steps),
        days=facts.days, accounts=plural(facts.heat.accounts, "account"),
        sources=plural(len(facts.heat.sources), "source"), written=f"{facts.now:%Y-%m-%d %H:%M} UTC",
        facts=sections.headline(facts), sections=SECTIONS, steps=steps, heat=shown, states=states, texts=heat.TEXTS,
        letter=LETTERS, cell=_cells(), months=_months(facts.days), gaps=_gaps(facts), most_gaps=GAPS,
        chart={"lag": "", "volume": "", "detections": ""} | pictures, kinds=sections.KINDS, drift=facts.drift,
        drift_number=facts.drift_number, refused=facts.refused, aside=facts.aside_bytes,
        spent=sorted(facts.spent.items()), not_looked=not_looked, **sections.context(facts),
    )  # fmt: skip


def document(template: str, **context: Any) -> str:
    """A page of these templates; every value in it is text, whatever it holds."""
    css, style = _style()
    return _environment().get_template(template).render(
        css=css, csp=_policy(template, style), version=version("ocsf-lake"), **({"refresh": None} | context)
    )


def lines(text: str) -> Markup:
    """Text of several lines, as they are; other characters that steer are spelled out."""
    return escape(escaped(text, "\n\t").encode("utf-8", "backslashreplace").decode())


def _policy(template: str, style: str) -> str:
    """What a browser may do: a page with a form may send it to where it came from."""
    policy = ALONE.format(style=style)
    return policy.replace("form-action 'none'", "form-action 'self'") if template == "prompt.j2" else policy


def style_hash() -> str:
    """What a policy has to name so that the page's style counts."""
    return _style()[1]


@cache
def _style() -> tuple[Markup, str]:
    css = (FOLDER / "page.css").read_text(encoding="utf-8").strip()
    digest = base64.b64encode(hashlib.sha256(css.encode()).digest()).decode()
    return Markup(css), f"sha256-{digest}"


@cache
def _environment() -> jinja2.Environment:
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(FOLDER), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True,
        finalize=_text,
    )  # fmt: skip
    made.filters |= {"middle": _middle, "plural": plural, "size": size, "usd": sections.dollars, "spelled": _spelled}
    return made


def _text(value: object) -> object:
    """Text without characters that steer, and without secrets; what templates made themselves stays as it is."""
    if isinstance(value, str) and not isinstance(value, Markup):
        return escaped(redacted(value)).encode("utf-8", "backslashreplace").decode()
    return value


def _spelled(text: str) -> Markup:
    """A sentence whose commands stand between back quotes; what else is in it stays text."""
    return Markup(re.sub(r"`([^`]*)`", r"<code>\1</code>", str(escape(_text(text)))))


def _middle(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: width - 9]}…{text[-8:]}"


def _cells() -> Mapping[str, Markup]:
    return {
        state: Markup(f"<td class={letter}><span>{_SPOKEN.get(state, state)}</span></td>")
        for state, letter in LETTERS.items()
    }


def _months(days: Sequence[date]) -> list[tuple[str, int]]:
    return [(name, len(list(same))) for name, same in groupby(days, key=lambda day: f"{day:%B %Y}")]


def _gaps(facts: Facts) -> list[dict[str, str]]:
    return [
        {
            "source": source.name, "account": row.account, "state": state,
            "text": f"{first}" if first == last else f"{first} to {last} ({(last - first).days + 1} days)",
        }
        for source, row, state, first, last in facts.heat.gaps()
    ]  # fmt: skip
