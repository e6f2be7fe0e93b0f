"""A gateway whose answers are late, are lost, or never come."""

from __future__ import annotations

import re
import time
from collections.abc import Callable

import pytest
from playwright.sync_api import Browser, Page, Route, expect

from dashboard.browsing import PATIENCE_MS, open_dashboard
from dashboard.world import World

SUBMISSIONS = re.compile(r"/(runs/batch|retry|trigger|schedules(/s-\w+)?)$")
UNREACHABLE = "The gateway cannot be reached."


class Held:
    """Requests that fit a pattern and a test of them, held until they are let go."""

    def __init__(
        self, page: Page, pattern: re.Pattern[str], wanted: Callable[[Route], bool] | None = None
    ) -> None:
        self.page = page
        self.routes: list[Route] = []

        def hold(route: Route) -> None:
            if wanted is None or wanted(route):
                self.routes.append(route)
            else:
                route.continue_()

        page.route(pattern, hold)

    def come(self, count: int = 1) -> None:
        """Wait until there are so many."""
        wait_in(self.page, lambda: len(self.routes) >= count)

    def go(self) -> None:
        """Let the first one go; what becomes of its answer is on the screen behind this."""
        route = self.routes.pop(0)
        if route.request.failure is not None:
            return  # the page let it go itself
        answered(route, route.continue_)


def wait_in(page: Page, reached: Callable[[], bool]) -> None:
    """Wait until the routes of a page have seen something."""
    deadline = time.monotonic() + PATIENCE_MS / 1000
    while not reached():
        assert time.monotonic() < deadline
        page.wait_for_timeout(20)  # in which they are called


def answered(route: Route, answer: Callable[[], None]) -> None:
    """Answer a request; what becomes of it is on the screen behind this."""
    page = route.request.frame.page
    with page.expect_event("requestfinished", lambda each: each == route.request):
        answer()
    page.evaluate("() => new Promise((end) => setTimeout(() => requestAnimationFrame(end)))")


@pytest.mark.parametrize(
    ("view", "asked"),
    [("workers", r"/workers\?"), ("system", "/(health/ready|queues|stats|actors)")],
)
def test_a_gateway_that_does_not_answer_is_away(
    browser: Browser, world: World, view: str, asked: str
) -> None:
    with open_dashboard(browser, world.url) as dashboard:
        page = dashboard.page
        page.add_init_script(
            """const { timeout } = AbortSignal;
            AbortSignal.timeout = (ms) => timeout.call(AbortSignal, ms / 60);"""
        )
        dashboard.open(view)
        expect(dashboard.live).to_have_text("live")
        held = Held(page, re.compile(asked))
        expect(page.locator(".away")).to_be_visible()
        expect(page.locator(".away")).to_contain_text(UNREACHABLE)
        expect(dashboard.live).to_have_text("connection lost, trying again")
        page.unroute_all()
        expect(dashboard.live).to_have_text("live")
        expect(page.locator(".away")).to_be_hidden()
        assert held.routes
        dashboard.check(failed_requests=True)
