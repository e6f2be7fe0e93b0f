"""A gateway that goes away under an open page."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from dashboard import flows
from dashboard.browsing import open_dashboard
from dashboard.world import World, open_world


@pytest.fixture
def own_world(tmp_path: Path) -> Iterator[World]:
    with open_world(tmp_path) as world:
        yield world


def test_pages_come_back_by_themselves_and_show_nothing_stale(
    browser: Browser, own_world: World
) -> None:
    world = own_world
    run_id = world.submit(flows.waiting("away"))
    world.reaches(run_id, "RUNNING")
    gone = world.put_run(flow_name="changes-while-away", status="PENDING")
    with (
        open_dashboard(browser, world.url) as runs,
        open_dashboard(browser, world.url) as run,
        open_dashboard(browser, world.url) as workers,
    ):
        runs.open("runs")
        run.open(f"runs/{run_id}")
        workers.open("workers")
        expect(runs.row(run_id).locator(".status")).to_have_text("running")
        expect(run.page.locator(".view-head .status")).to_have_text("running")
        expect(workers.live).to_have_text("live")

        def while_away() -> None:
            for each in (runs, run, workers):
                expect(each.live).to_have_text("connection lost, trying again")
                expect(each.page.locator(".away")).to_contain_text("may be out of date")
            expect(runs.row(run_id)).to_be_visible()  # what is known stays to be read
            world.put("pyoco_runs", {gone: {"run_id": gone, "flow_name": "x", "status": "FAILED"}})
            world.open_gate("away")
            run.page.get_by_role("tab", name="flow.yaml").click()
            run.page.get_by_role("tab", name="Logs").click()

        world.restart_server(between=while_away)
        expect(run.page.locator(".view-head .status")).to_have_text("completed")
        expect(run.page.get_by_role("tabpanel").locator(".log-line").first).to_be_visible()
        run.page.get_by_role("tab", name="flow.yaml").click()
        expect(run.page.get_by_role("region", name="flow.yaml")).to_contain_text("graph:")
        expect(runs.row(run_id).locator(".status")).to_have_text("completed")
        expect(runs.row(gone).locator(".status")).to_have_text("failed")
        for each in (runs, workers):
            expect(each.live).to_have_text("live")
            expect(each.page.locator(".away")).to_be_hidden()
        for each in (runs, run, workers):
            each.check(failed_requests=True)
