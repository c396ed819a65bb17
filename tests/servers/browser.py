"""A real browser that looks at pages: Debian's Chromium, driven by Playwright."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from playwright.sync_api import Browser, sync_playwright


@contextmanager
def chromium() -> Iterator[Browser]:
    """A Chromium without a window; skips the test where it is not installed (`.ci/install` does that)."""
    program = shutil.which("chromium")
    if program is None:
        pytest.skip("chromium is not installed; .ci/install installs it")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()
