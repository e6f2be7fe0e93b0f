"""Ten tasks of an operator's first day (docs/guides/operator-tasks.md), each in at most three clicks."""

from __future__ import annotations

import json
import re
import uuid

import pytest
from playwright.sync_api import Locator, Page, Route, expect

from dashboard import flows
from dashboard.browsing import Dashboard
from dashboard.world import World

MOST = 3
DATED = """\
flow: {graph: say, defaults: {text: "2026-11-27"}}
tasks: {say: {callable: "dash_tasks:say"}}
"""


class Operator:
    """Clicks, and counts. What is typed or chosen from a list is no click."""

    def __init__(self, dashboard: Dashboard) -> None:
        self.dashboard = dashboard
        self.clicks = 0
        self.page: Page = dashboard.open("runs")
        expect(dashboard.live).to_have_text("live")

    def click(self, target: Locator) -> None:
        target.click()
        self.clicks += 1
        assert self.clicks <= MOST

    def go(self, view: str) -> None:
        self.click(self.page.locator(f'.nav-link[data-view="{view}"]'))

    def tab(self, name: str) -> Locator:
        # Until the graph is there, what is below it moves.
        expect(self.page.locator(".graph .node").first).to_be_visible()
        self.click(self.page.get_by_role("tab", name=name))
        return self.page.get_by_role("tabpanel")

    def save(self, button: Locator) -> str:
        """What a button downloads."""
        with self.page.expect_download() as download:
            self.click(button)
        return download.value.path().read_text()


@pytest.fixture
def operator(dashboard: Dashboard) -> Operator:
    return Operator(dashboard)


@pytest.fixture
def name() -> str:
    return f"task-{uuid.uuid4().hex[:8]}"


def test_1_which_run_failed_last_night_and_why(operator: Operator, world: World, name: str) -> None:
    run_id = world.submit(flows.failing("no rows for today"), flow_name=name)
    world.reaches(run_id, "FAILED")
    operator.page.locator("#filter-range").select_option("24h")
    operator.click(operator.page.locator('.count[data-status="FAILED"]'))
    operator.click(operator.dashboard.row(run_id))
    alert = operator.page.get_by_role("alert")
    expect(alert).to_contain_text("no rows for today")
    operator.click(alert.get_by_text("Traceback of fail"))
    expect(alert).to_contain_text("raise ValueError(text)")


def test_2_run_it_again_with_another_date(operator: Operator, world: World, name: str) -> None:
    run_id = world.submit(DATED, flow_name=name)
    world.reaches(run_id, "COMPLETED")
    operator.click(operator.dashboard.row(run_id))
    operator.click(operator.dashboard.button("Run with changes"))
    operator.page.locator('[data-param="text"]').fill("2026-11-28")
    operator.click(operator.dashboard.dialog_button("Run"))
    operator.page.wait_for_url(re.compile(rf"#/runs/(?!{run_id})"))
    expect(operator.page.locator(".view-head .status")).to_have_text("completed")
    expect(operator.page.get_by_role("tabpanel")).to_contain_text('"text": "2026-11-28"')


def test_3_stop_everything_of_a_flow(operator: Operator, world: World, name: str) -> None:
    runs = [world.submit(flows.REPORT, flow_name=name, tag="absent") for _ in range(3)]
    # Another, so that three are shown only when the list is that of the flow.
    expect(operator.dashboard.row(world.submit(flows.REPORT))).to_be_visible()
    operator.page.keyboard.press("/")
    operator.page.locator("#filter-flow").fill(name)
    expect(operator.page.locator("tr[data-key]")).to_have_count(3)
    operator.click(operator.page.get_by_label("Select all that are loaded"))
    operator.click(operator.dashboard.button("Cancel 3"))
    dialog = operator.page.get_by_role("dialog")
    expect(dialog).to_contain_text("Cancel 3 runs?")
    expect(dialog).to_contain_text(f"3 pending: {name}")
    operator.click(operator.dashboard.dialog_button("Cancel"))
    for run_id in runs:
        world.reaches(run_id, "CANCELLED")


def test_4_who_is_on_a_tag(operator: Operator, world: World, name: str) -> None:
    run_id = world.submit(flows.waiting(name))
    world.reaches(run_id, "RUNNING")
    operator.go("workers")
    operator.page.get_by_label("Search id, tag").fill("hello")
    card = operator.page.locator('[data-worker="w1"]')
    expect(card.get_by_role("link", name=run_id[:8])).to_be_visible()
    operator.page.get_by_label("Search id, tag").fill("gpu")
    expect(operator.page.locator(".empty")).to_contain_text("No worker fits this search.")
    expect(operator.page).to_have_url(re.compile("q=gpu"))
    world.open_gate(name)


def test_5_what_is_waiting_and_why(operator: Operator, world: World, name: str) -> None:
    run_id = world.submit(flows.REPORT, tag=name)
    operator.go("system")
    row = operator.page.locator(f'tr[data-key="{name}"]')
    expect(row).to_contain_text("no worker there")
    operator.click(row.get_by_role("link", name=name))
    expect(operator.dashboard.row(run_id).locator(".status")).to_have_text("pending")


def test_6_what_it_printed_its_result_and_its_files(
    dashboard: Dashboard, world: World, name: str
) -> None:
    run_id = world.submit(flows.REPORT, flow_name=name)
    world.reaches(run_id, "COMPLETED")
    operator = Operator(dashboard)
    operator.click(dashboard.row(run_id))
    log = operator.tab("Logs")
    expect(log).to_contain_text("1197 rows counted")
    assert "1197 rows counted" in operator.save(dashboard.button("Download all"))

    operator = Operator(dashboard)
    operator.click(dashboard.row(run_id))
    expect(operator.tab("Params and results")).to_contain_text('"report": "Visits: 1197 rows"')

    operator = Operator(dashboard)
    operator.click(dashboard.row(run_id))
    operator.tab("Files")
    assert operator.save(dashboard.button("Download report.txt")) == "Visits: 1197 rows\n"


def test_7_a_schedule_and_when_it_fires(operator: Operator, name: str) -> None:
    operator.go("schedules")
    operator.click(operator.page.get_by_role("link", name="New schedule"))
    text = operator.page.locator("#schedule-text")
    fields = json.loads(text.input_value())
    fields |= {"cron": "30 2 * * *", "timezone": "Asia/Tokyo", "tag": "absent"}
    text.fill(json.dumps(fields))
    operator.page.locator("#schedule-id").fill(name)
    operator.click(operator.dashboard.button("Save"))
    operator.page.wait_for_url(re.compile(f"schedules/{name}"))
    ticks = operator.dashboard.card("Next ticks").locator("li")
    expect(ticks).to_have_count(10)
    expect(ticks.first).to_contain_text("02:30:00")


def test_8_who_paused_a_worker_and_why(operator: Operator, world: World) -> None:
    def paused(route: Route) -> None:
        answer = route.fetch()
        told = {"ordered_at": 1.0, "ordered_by": "api_key:ops", "order_reason": "disk is full"}
        workers = [each | {"paused": True} | told for each in answer.json()]
        route.fulfill(response=answer, json=workers)

    operator.page.route(re.compile(r"/workers\?"), paused)
    operator.go("workers")
    card = operator.page.locator('[data-worker="w1"]')
    expect(card.locator(".tone-warn").first).to_have_text("paused")
    expect(card.locator(".facts")).to_contain_text("by api_key:ops")
    expect(card.locator(".facts")).to_contain_text("disk is full")


def test_9_is_everything_well(operator: Operator) -> None:
    operator.go("system")
    expect(operator.dashboard.card("Readiness")).to_contain_text("ready")
    expect(operator.dashboard.card("Queues")).to_contain_text(re.compile(r"\d+ dead letter"))


def test_10_free_the_slot_of_a_run_that_is_stuck(
    operator: Operator, world: World, name: str
) -> None:
    run_id = world.submit(flows.waiting(name), flow_name=name)
    world.reaches(run_id, "RUNNING")
    operator.click(operator.dashboard.row(run_id))
    operator.click(operator.dashboard.button("Cancel"))
    expect(operator.page.get_by_role("dialog")).to_contain_text(f"{run_id[:8]} of {name}")
    operator.click(operator.dashboard.dialog_button("Cancel"))
    expect(operator.page.locator(".view-head .status")).to_have_text("cancelled")
