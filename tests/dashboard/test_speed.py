"""How soon something is on the screen, and what ten thousand runs cost."""

from __future__ import annotations

import math
import statistics
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
from msgspec import json
from playwright.sync_api import Browser, expect

from busyness import best
from dashboard.browsing import Dashboard, open_dashboard
from dashboard.world import World, open_world, snapshot
from pyoco_server.jetstream.connection import Connection
from pyoco_server.jetstream.keyvalue import KeyValue

RUNS = 10_000

# Tells when the row of a run was painted with another status.
_WATCH = """runId => {
  const painted = (window.painted = {});
  const look = () => {
    const state = document.querySelector(`tr[data-key="${runId}"] .status`)?.dataset.state;
    if (state && !(state in painted)) {
      painted[state] = 0;
      requestAnimationFrame(() => setTimeout(() => { painted[state] = Date.now() / 1000; }));
    }
  };
  new MutationObserver(look).observe(document.body, {subtree: true, childList: true, attributes: true});
}"""


def test_the_first_view_is_there_in_a_second(dashboard: Dashboard, world: World) -> None:
    run_id = world.put_run(flow_name="first-view")

    def seconds() -> float:
        dashboard.page.goto("about:blank")
        began = time.perf_counter()
        dashboard.open("runs")
        dashboard.row(run_id).wait_for()
        taken = time.perf_counter() - began
        print(f"first view: {taken:.3f} s")
        return taken

    assert best(seconds, 1.0) <= 1.0


def test_a_status_is_on_the_screen_soon_after_its_write(dashboard: Dashboard, world: World) -> None:
    dashboard.open("runs")
    assert best(lambda: _seconds_until_painted(dashboard, world), 0.2) <= 0.2


def _seconds_until_painted(dashboard: Dashboard, world: World) -> float:
    """From the write of a status to its picture, the median of five."""
    run = snapshot(status="COMPLETED")
    run_id = run["run_id"]
    world.put("pyoco_runs", {run_id: run})
    expect(dashboard.row(run_id)).to_be_visible()
    dashboard.page.evaluate(_WATCH, run_id)
    states = ("RUNNING", "CANCELLING", "CANCELLED", "PENDING", "FAILED")
    written: dict[str, float] = {}

    async def write(connection: Connection) -> None:
        store = KeyValue(connection, "pyoco_runs")
        for state in states:
            document = {**run, "status": state, "updated_at": time.time()}
            await store.put(run_id, json.encode(document))
            written[state] = time.time()
            await trio.sleep(0.4)

    world.in_nats(write)
    dashboard.page.wait_for_function("() => window.painted.FAILED > 0")
    painted = dashboard.page.evaluate("window.painted")
    # One that was passed over between two pictures was never seen.
    delays: list[float] = [painted.get(state, math.inf) - written[state] for state in states]
    print("status on the screen after:", [f"{1000 * each:.0f} ms" for each in delays])
    return statistics.median(delays)


@pytest.fixture
def full_world(tmp_path: Path) -> Iterator[World]:
    with open_world(tmp_path, slots=0) as world:
        now = time.time()
        runs = (
            snapshot(
                run_id=str(uuid.UUID(int=index)), flow_name=f"f{index}", updated_at=now - index
            )
            for index in range(RUNS)
        )
        world.put("pyoco_runs", {run["run_id"]: run for run in runs})
        yield world


def _scrolled_to_the_end(dashboard: Dashboard) -> dict[str, float]:
    """Page by page, as a reader would: the most rows drawn, the longest ms without a frame."""
    dashboard.page.goto("about:blank")
    page = dashboard.open("runs")
    expect(page.locator('.count[data-status=""] b')).to_have_text(str(RUNS))
    page.evaluate(
        """() => {
          const table = document.querySelector(".window");
          const result = (window.scrolled = {longest: 0, rows: 0, done: false});
          let last = performance.now();
          const frame = (now) => {
            result.longest = Math.max(result.longest, now - last);
            last = now;
            result.rows = Math.max(result.rows, table.querySelectorAll("tr[data-key]").length);
            table.scrollTop = table.scrollHeight;
            result.done = table.querySelector('td[title="f9999"]') !== null;
            if (!result.done) requestAnimationFrame(frame);
          };
          requestAnimationFrame(frame);
        }"""
    )
    page.wait_for_function("() => window.scrolled.done")
    scrolled: dict[str, float] = page.evaluate("window.scrolled")
    print("10,000 runs:", scrolled)
    assert scrolled["rows"] < 100  # only what is on the screen is drawn
    return scrolled


def test_ten_thousand_runs_are_scrolled_without_lag(browser: Browser, full_world: World) -> None:
    world = full_world
    with open_dashboard(browser, world.url) as dashboard:
        page = dashboard.page
        assert best(lambda: _scrolled_to_the_end(dashboard)["longest"], 500) <= 500
        # With all of them loaded, a change is still soon there.
        page.evaluate("document.querySelector('.window').scrollTop = 0")
        fresh = world.put_run(flow_name="fresh")
        expect(dashboard.row(fresh)).to_be_visible()
        # On a busy machine, a query of so many may take five seconds: a 503, and it is asked again.
        dashboard.check(failed_requests=True)
