"""The world that the pages show, and the browser."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect

from dashboard.browsing import PATIENCE_MS, Dashboard, chromium, open_browser, open_dashboard
from dashboard.world import World, open_world

expect.set_options(timeout=PATIENCE_MS)


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """NATS, a gateway, one that asks for keys, and a worker for the tag ``hello``."""
    chromium()
    with open_world(tmp_path_factory.mktemp("dashboard"), keyed=True) as world:
        yield world


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Playwright holds an asyncio loop of this thread, so it has to be gone before other modules begin."""
    with open_browser() as browser:
        yield browser


@pytest.fixture
def dashboard(
    browser: Browser, world: World, request: pytest.FixtureRequest
) -> Iterator[Dashboard]:
    """A page in English and light; in the end nothing may have gone wrong in it."""
    with open_dashboard(browser, world.url) as dashboard:
        yield dashboard
        dashboard.check(failed_requests=request.node.get_closest_marker("refusals") is not None)
