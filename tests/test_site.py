"""The documentation as a site: it builds without a warning, and a browser that looks at it asks nobody else."""

from __future__ import annotations

import functools
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from scripts import reference
from tests.servers.browser import chromium
from tests.support import PROJECT

pytestmark = pytest.mark.slow

SITE = PROJECT / "build" / "site"


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    """The built site, served on loopback."""
    run = subprocess.run(
        [sys.executable, "scripts/site"], cwd=PROJECT, capture_output=True, text=True, check=False, timeout=300
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert "No issues found" in run.stderr

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            """Nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(SITE))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


def test_pages_are_shown_whole_and_from_here_alone(site: str, browser: Browser) -> None:
    page = browser.new_page(viewport={"width": 390, "height": 800})
    asked: list[str] = []
    wrong: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
    page.on("response", lambda answer: wrong.append(answer.url) if answer.status >= 400 else None)
    for name in ("", "query/", "reference/commands/", "reference/tables/vpc_flow/", "sources/aws_waf/"):
        page.goto(site + name)
        assert page.locator("article h1").count() == 1, name
        # Wide tables scroll in themselves.
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, name
    page.wait_for_load_state("networkidle")
    assert [url for url in asked if not url.startswith(site)] == []
    assert wrong == []


def test_a_search_finds_a_setting(site: str, browser: Browser) -> None:
    page = browser.new_page(viewport={"width": 1200, "height": 800})
    page.goto(site, wait_until="networkidle")
    page.keyboard.press("/")
    page.keyboard.type("compact_grace_hours")
    page.get_by_role("link", name=re.compile("Settings|compact", re.IGNORECASE)).first.wait_for(timeout=20_000)


def test_the_reference_has_every_command_and_table() -> None:
    pages = dict(reference.pages())
    assert "## ocsf-lake quarantine replay" in pages["commands.md"]
    assert "| `src_endpoint.ip` | `string` |" in pages["tables/vpc_flow.md"]
    assert "| `resources[].uid` | `string` |" in pages["tables/guardduty_findings.md"]
    assert "`compact_grace_hours`" in pages["settings.md"]
    assert all(Path(name).suffix == ".md" for name in pages)
