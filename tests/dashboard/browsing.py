"""A page of the dashboard in Debian's Chromium, and what it must never do."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Locator, Page, sync_playwright

PATIENCE_MS = 60_000
"""How long the browser is waited for, on a machine that is busy with other tests."""

# What Chromium says of an answer that is no success, or that did not come.
_FAILED = re.compile(r"Failed to load resource")
_FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
)


def chromium() -> str:
    """The path of Debian's Chromium; skips the test without it, or fails it where it has to be there."""
    path = os.environ.get("PYOCO_CHROMIUM") or shutil.which("chromium")
    if path is not None:
        return path
    words = "no Chromium: `apt-get install chromium fonts-noto-cjk`, or name one in PYOCO_CHROMIUM"
    if os.environ.get("PYOCO_REQUIRE_CHROMIUM"):
        pytest.fail(words)
    pytest.skip(words)


@contextmanager
def open_browser() -> Iterator[Browser]:
    """Chromium, which is never downloaded."""
    path = chromium()
    # trio-asyncio gives new loops of its own, unless this thread has chosen asyncio's.
    asyncio.set_event_loop_policy(asyncio.DefaultEventLoopPolicy())
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=path, args=list(_FLAGS))
            yield browser
            browser.close()
    finally:
        asyncio.set_event_loop_policy(None)


@dataclass
class Dashboard:
    """The dashboard of one gateway in one page, watched for errors and for requests to others."""

    page: Page
    url: str
    console: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.on("console", lambda message: self._said(message.type, message.text))
        self.page.on("pageerror", lambda error: self.console.append(f"error: {error}"))
        self.page.on("request", lambda request: self._asked(request.url))

    def _said(self, kind: str, text: str) -> None:
        if kind in {"error", "warning"}:
            self.console.append(text)

    def _asked(self, url: str) -> None:
        if urlsplit(url).scheme not in {"blob", "data"} and not url.startswith(self.url + "/"):
            self.foreign.append(url)

    def open(self, place: str = "runs") -> Page:
        """Go to a view, such as ``runs?status=FAILED``."""
        self.page.goto(f"{self.url}/#/{place}")
        return self.page

    @property
    def live(self) -> Locator:
        """The sign that says whether the view is live."""
        return self.page.locator(".live")

    def row(self, run_id: str) -> Locator:
        """A run's row of the list."""
        return self.page.locator(f'tr[data-key="{run_id}"]')

    def card(self, name: str) -> Locator:
        """A part of the view by its label."""
        return self.page.get_by_role("region", name=name, exact=True)

    def button(self, name: str) -> Locator:
        return self.page.get_by_role("button", name=name, exact=True)

    def dialog_button(self, name: str) -> Locator:
        return self.page.get_by_role("dialog").get_by_role("button", name=name, exact=True)

    @property
    def toast(self) -> Locator:
        return self.page.locator(".toast").last

    def check(self, *, failed_requests: bool = False) -> None:
        """Nothing went wrong; requests may have failed only where the test made them."""
        wrong = [text for text in self.console if not (failed_requests and _FAILED.search(text))]
        assert wrong == [], wrong
        assert self.foreign == [], self.foreign


@contextmanager
def open_dashboard(
    browser: Browser,
    url: str,
    *,
    language: str = "en",
    theme: str = "light",
    size: tuple[int, int] = (1280, 860),
) -> Iterator[Dashboard]:
    """A page in a profile of its own, of a user who speaks ``language`` and likes ``theme``."""
    context = browser.new_context(
        viewport={"width": size[0], "height": size[1]},
        color_scheme="dark" if theme == "dark" else "light",
        locale="ja-JP" if language == "ja" else "en-US",
        timezone_id="Asia/Tokyo",
        permissions=["clipboard-read", "clipboard-write"],
    )
    context.set_default_timeout(PATIENCE_MS)
    page = context.new_page()
    try:
        yield Dashboard(page, url)
    finally:
        # What a test answers itself may be under way.
        page.unroute_all(behavior="ignoreErrors")
        context.close()
