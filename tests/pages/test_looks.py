"""The page in a real browser: nothing is fetched or refused, nothing runs over the edge, all can be read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser

from ocsf_lake import config
from ocsf_lake.pages import page
from tests.pages.large import facts
from tests.servers.browser import chromium

pytestmark = pytest.mark.slow

SIZES = [("light", 360), ("light", 1024), ("light", 1600), ("dark", 1024)]
"""What is wide depends on the width alone, and what stands out on the scheme."""
CONTRAST = """() => {
  const parts = text => (text.match(/[\\d.]+/g) || []).map(Number);
  const light = ([r, g, b]) => {
    const [x, y, z] = [r, g, b].map(v => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * x + 0.7152 * y + 0.0722 * z;
  };
  const behind = element => {
    for (let at = element; at; at = at.parentElement) {
      const colour = parts(getComputedStyle(at).backgroundColor);
      if (colour.length === 3 || colour[3] === 1) return colour;
    }
    return [255, 255, 255];
  };
  const low = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || !element.checkVisibility() || element.closest('svg')) continue;
    const style = getComputedStyle(element);
    if (style.clipPath !== 'none') continue;
    const [a, b] = [light(parts(style.color)), light(behind(element))].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    if (ratio < 4.5) low.push(`${element.className} ${ratio.toFixed(2)} ${element.textContent.slice(0, 40)}`);
  }
  return low;
}"""
"""Texts that stand out less from what is behind them than WCAG asks."""
LINES = """() => [...document.querySelectorAll('figure svg')].filter(svg => svg.checkVisibility()).map(svg => {
  const box = svg.getBoundingClientRect();
  return [...svg.querySelectorAll('text')].filter(text => {
    const at = text.getBoundingClientRect();
    return at.right > box.right + 6 || at.left < box.left - 6;
  }).map(text => text.textContent);
}).flat()"""
"""Texts of pictures that stand beside them."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Address of the page of a large lake with hostile values, without a server."""
    folder = tmp_path_factory.mktemp("looks")
    path: Path = folder / "report.html"
    path.write_text(page.render(facts(config.load(lake=str(folder / "lake")))), encoding="utf-8")
    return path.as_uri()


@pytest.mark.parametrize(("scheme", "width"), SIZES)
def test_the_page_can_be_read_at_every_width(browser: Browser, report: str, scheme: Any, width: int) -> None:
    with browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme) as context:
        shown = context.new_page()
        messages: list[str] = []
        requests: list[str] = []
        shown.on("console", lambda message: messages.append(message.text))
        shown.on("pageerror", lambda error: messages.append(str(error)))
        shown.on("dialog", lambda dialog: (messages.append(dialog.message), dialog.dismiss()))
        shown.on("request", lambda request: requests.append(request.url))
        shown.goto(report)
        assert shown.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
        assert shown.evaluate(CONTRAST) == []
        assert shown.evaluate(LINES) == []
        assert shown.evaluate("document.querySelectorAll('script,img,[onload],[onerror]').length") == 0
        assert len(shown.screenshot()) > 10_000
        assert (messages, requests) == ([], [report])


def test_the_keyboard_reaches_everything_in_the_order_of_the_page(browser: Browser, report: str) -> None:
    with browser.new_context(viewport={"width": 1024, "height": 900}) as context:
        shown = context.new_page()
        shown.goto(report)
        at = (
            "() => { const e = document.activeElement; const name = e.getAttribute('aria-label') || e.textContent || "
            "e.id; return [e.tagName, e.getBoundingClientRect().top + scrollY, name.trim()]; }"
        )
        stops = []
        for _ in range(40):
            shown.keyboard.press("Tab")
            stops.append(shown.evaluate(at))
        assert stops[0] == ["A", stops[0][1], "Skip to what to do next"]
        assert all(name for _, _, name in stops)
        below = [top for _, top, _ in stops[9:]]
        assert below == sorted(below)
        shown.keyboard.press("Home")
        assert shown.evaluate("[...document.querySelectorAll('nav a')].every(a => document.querySelector(a.hash))")


def test_the_theme_is_chosen_without_a_script_and_print_is_light(browser: Browser, report: str) -> None:
    with browser.new_context(color_scheme="light", java_script_enabled=True) as context:
        shown = context.new_page()
        shown.goto(report)
        colour = "getComputedStyle(document.body).backgroundColor"
        light = shown.evaluate(colour)
        shown.check("#t-dark", force=True)
        assert shown.evaluate(colour) != light
        shown.emulate_media(media="print")
        assert shown.evaluate(colour) == "rgb(255, 255, 255)"
        assert shown.evaluate("getComputedStyle(document.querySelector('nav')).display") == "none"
