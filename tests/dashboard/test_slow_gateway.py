"""A gateway whose answers are late, are lost, or never come."""

from __future__ import annotations

import json
import re
import time
import uuid
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
from playwright.sync_api import Browser, Locator, Page, Route, expect

from dashboard import flows
from dashboard.browsing import PATIENCE_MS, Dashboard, open_dashboard
from dashboard.world import World, snapshot
from e2e.programs import HTTP

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


@pytest.fixture
def name() -> str:
    return f"slow-{uuid.uuid4().hex[:8]}"


def lose_one(page: Page, pattern: re.Pattern[str] = SUBMISSIONS) -> None:
    """Let the next request that does something through and drop its answer."""
    lost: list[Route] = []

    def lose(route: Route) -> None:
        if lost or route.request.method == "GET":
            route.fallback()
            return
        lost.append(route)
        route.fetch()
        route.abort()

    page.route(pattern, lose)


def twice(dashboard: Dashboard, act: Callable[[], None]) -> None:
    """Do something whose answer is lost, and then again."""
    lose_one(dashboard.page)
    act()
    expect(dashboard.toast).to_have_text(UNREACHABLE)
    act()


def runs_of(world: World, **filters: str) -> list[dict[str, Any]]:
    answer = HTTP.get(f"{world.url}/runs", params={"updated_after": "0", **filters}).json()
    items: list[dict[str, Any]] = answer["items"]
    return items


@pytest.mark.refusals
def test_a_retry_whose_answer_is_lost_makes_one_run(
    dashboard: Dashboard, world: World, name: str
) -> None:
    first = world.submit(flows.REPORT, flow_name=name)
    world.reaches(first, "COMPLETED")
    page = dashboard.open(f"runs/{first}")
    twice(dashboard, dashboard.button("Retry").click)
    page.wait_for_url(re.compile(rf"#/runs/(?!{first})"))
    assert len(runs_of(world, flow=name)) == 2

    # Where it was answered, another one is meant.
    dashboard.open(f"runs/{first}")
    dashboard.button("Retry").click()
    page.wait_for_url(re.compile(rf"#/runs/(?!{first})"))
    assert len(runs_of(world, flow=name)) == 3


@pytest.mark.refusals
def test_a_gateway_that_asks_for_patience_says_nothing_of_the_try_before(
    dashboard: Dashboard, world: World, name: str
) -> None:
    first = world.submit(flows.REPORT, flow_name=name)
    world.reaches(first, "COMPLETED")
    page = dashboard.open(f"runs/{first}")
    lose_one(page)
    dashboard.button("Retry").click()
    expect(dashboard.toast).to_have_text(UNREACHABLE)
    detail = "too many requests"
    page.route(
        SUBMISSIONS, lambda route: route.fulfill(status=429, json={"detail": detail}), times=1
    )
    dashboard.button("Retry").click()
    expect(dashboard.toast).to_have_text(detail)
    dashboard.button("Retry").click()
    page.wait_for_url(re.compile(rf"#/runs/(?!{first})"))
    assert len(runs_of(world, flow=name)) == 2


@pytest.mark.refusals
def test_retries_of_many_whose_answers_are_lost_make_one_run_each(
    dashboard: Dashboard, world: World, name: str
) -> None:
    first = world.submit(flows.REPORT, flow_name=name)
    world.reaches(first, "COMPLETED")
    dashboard.open(f"runs?flow={name}")

    def retry() -> None:
        box = dashboard.row(first).get_by_role("checkbox")
        expect(box).not_to_be_checked()  # what was told of before is chosen no more
        box.check()
        dashboard.button("Retry 1").click()
        dashboard.dialog_button("Retry").click()

    lose_one(dashboard.page)
    retry()
    expect(dashboard.toast).to_have_text(f"0 done, 1 failed ({UNREACHABLE})")
    retry()
    expect(dashboard.toast).to_have_text("1 done, 0 failed")
    assert len(runs_of(world, flow=name)) == 2


@pytest.mark.refusals
def test_a_submission_whose_answer_is_lost_makes_one_run(
    dashboard: Dashboard, world: World, name: str
) -> None:
    page = dashboard.open("submit")
    page.get_by_label("flow.yaml").fill(flows.REPORT)
    page.locator("#flow-name").fill(name)
    page.locator("#flow-tag").fill("hello")
    twice(dashboard, dashboard.button("Run").click)
    expect(page.locator(".view-head .status")).to_have_text("completed")
    assert len(runs_of(world, flow=name)) == 1


@pytest.mark.refusals
def test_what_was_changed_behind_a_lost_answer_is_another_run(
    dashboard: Dashboard, world: World, name: str
) -> None:
    page = dashboard.open("submit")
    page.get_by_label("flow.yaml").fill(flows.REPORT)
    page.locator("#flow-name").fill(name)
    page.locator("#flow-tag").fill("hello")
    lose_one(page)
    dashboard.button("Run").click()
    expect(dashboard.toast).to_have_text(UNREACHABLE)
    page.locator('[data-param="title"]').fill("Another")
    dashboard.button("Run").click()
    page.wait_for_url(re.compile("#/runs/"))
    titles = [
        world.stage.get(run["run_id"])["params"]["title"] for run in runs_of(world, flow=name)
    ]
    assert sorted(titles) == ["Another", "Visits"]


@pytest.mark.refusals
def test_a_run_with_changes_keeps_its_tags_and_is_one_run(
    dashboard: Dashboard, world: World, name: str
) -> None:
    first = world.submit(flows.REPORT, flow_name=name, tags=["hello", "nightly"])
    world.reaches(first, "COMPLETED")
    page = dashboard.open(f"runs/{first}")

    def again(tag: str = "hello") -> None:
        dashboard.button("Run with changes").click()
        page.get_by_role("dialog").locator('[data-param="title"]').fill("Others")
        page.get_by_role("dialog").get_by_label("Tag").fill(tag)
        dashboard.dialog_button("Run").click()

    twice(dashboard, again)
    page.wait_for_url(re.compile(rf"#/runs/(?!{first})"))
    [fresh] = [run for run in runs_of(world, flow=name) if run["run_id"] != first]
    assert world.stage.get(fresh["run_id"])["tags"] == ["hello", "nightly"]
    assert world.stage.get(fresh["run_id"])["params"]["title"] == "Others"

    dashboard.open(f"runs/{first}")
    again("absent")
    page.wait_for_url(re.compile(rf"#/runs/(?!{first}|{fresh['run_id']})"))
    assert world.stage.get(page.url.rpartition("/")[2])["tags"] == ["absent", "nightly"]


@pytest.fixture
def schedule(world: World, name: str) -> Iterator[str]:
    """The path of a schedule that is not due."""
    path = f"{world.url}/schedules/{name}"
    fields = {"flow_name": name, "tag": "absent", "cron": "0 3 * * *", "params": {"day": 1}}
    HTTP.put(path, json=fields).raise_for_status()
    yield path
    HTTP.delete(path)


@pytest.mark.refusals
@pytest.mark.usefixtures("schedule")
def test_a_schedule_that_is_run_now_has_one_run_where_an_answer_is_lost(
    dashboard: Dashboard, world: World, name: str
) -> None:
    dashboard.open(f"schedules/{name}")
    twice(dashboard, dashboard.button("Run now").click)
    expect(dashboard.toast).to_contain_text("Submitted, as run")
    assert len(runs_of(world, schedule_id=name)) == 1


@pytest.mark.refusals
def test_a_new_schedule_whose_answer_is_lost_is_one(
    dashboard: Dashboard, world: World, name: str
) -> None:
    page = dashboard.open("schedules?new=1")
    text = page.locator("#schedule-text")
    text.fill(json.dumps(json.loads(text.input_value()) | {"name": name}))
    lose_one(page)
    dashboard.button("Save").click()
    expect(page.locator(".problem")).to_have_text(UNREACHABLE)
    dashboard.button("Save").click()
    page.wait_for_url(re.compile(r"#/schedules/s-\w+"))
    made = HTTP.get(f"{world.url}/schedules", params={"q": name}).json()["items"]
    for each in made:
        HTTP.delete(f"{world.url}/schedules/{each['schedule_id']}")
    assert len(made) == 1


@pytest.mark.refusals
def test_a_schedule_whose_save_is_not_answered_is_saved_again(
    dashboard: Dashboard, schedule: str, name: str
) -> None:
    page = dashboard.open(f"schedules/{name}?tab=edit")
    text = page.locator("#schedule-text")
    fields = json.loads(text.input_value())

    def save(cron: str) -> None:
        text.fill(json.dumps(fields | {"cron": cron}))
        dashboard.button("Save").click()

    def save_unanswered(cron: str) -> None:
        lose_one(page, re.compile(f"/schedules/{name}$"))
        save(cron)
        expect(page.locator(".problem")).to_have_text(UNREACHABLE)

    save_unanswered("0 4 * * *")
    save("0 4 * * *")
    expect(dashboard.toast).to_have_text("Saved")
    expect(page.locator(".problem")).to_have_count(0)

    # Nor is it somebody else's change, where another text follows.
    save_unanswered("0 5 * * *")
    expect(page.locator(".facts")).to_contain_text("0 5 * * *")
    save("0 6 * * *")
    expect(page.locator(".facts")).to_contain_text("0 6 * * *")
    expect(page.locator(".problem")).to_have_count(0)
    assert HTTP.get(schedule).json()["cron"] == "0 6 * * *"


@pytest.mark.usefixtures("schedule")
def test_a_button_is_disabled_until_its_call_is_answered(
    dashboard: Dashboard, world: World, name: str
) -> None:
    page = dashboard.page
    trigger = Held(page, re.compile("/trigger$"))
    dashboard.open(f"schedules/{name}")
    button = dashboard.button("Run now")
    button.focus()
    page.keyboard.press("Enter")
    expect(button).to_be_disabled()
    # Also when the page has been brought up to date meanwhile.
    HTTP.patch(f"{world.url}/schedules/{name}", json={"name": "renamed"}).raise_for_status()
    expect(page.get_by_role("heading", level=1)).to_have_text("renamed")
    expect(button).to_be_disabled()
    trigger.go()
    expect(button).to_be_enabled()
    expect(button).to_be_focused()
    assert len(runs_of(world, schedule_id=name)) == 1

    [run] = runs_of(world, schedule_id=name)
    HTTP.post(f"{world.url}/runs/{run['run_id']}/cancel").raise_for_status()
    retry = Held(page, re.compile("/retry$"))
    dashboard.open(f"runs/{run['run_id']}")
    button = dashboard.button("Retry")
    button.click()
    expect(button).to_be_disabled()
    retry.go()
    page.wait_for_url(re.compile(rf"#/runs/(?!{run['run_id']})"))


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


def test_counts_of_earlier_filters_that_come_late_are_not_shown(
    dashboard: Dashboard, world: World, name: str
) -> None:
    for flow in (name, "another"):
        world.put_run(flow_name=flow)
    page = dashboard.page
    held = Held(
        page,
        re.compile("/runs/counts"),
        lambda route: "flow=" not in route.request.url and "steps=" not in route.request.url,
    )
    dashboard.open("runs")
    held.come()
    page.locator("#filter-flow").fill(name)
    total = page.locator('.count[data-status=""] b')
    expect(total).to_have_text("1")
    held.go()
    assert total.inner_text() == "1"


def dry_run(page: Page, dashboard: Dashboard, until: str) -> None:
    page.locator("#backfill-to").fill(until)
    dashboard.button("Show what would run").click()


@pytest.mark.usefixtures("schedule")
def test_a_dry_run_of_other_times_that_comes_late_is_not_shown(
    dashboard: Dashboard, name: str
) -> None:
    page = dashboard.open(f"schedules/{name}?tab=backfill")
    held = Held(page, re.compile("/backfill$"))
    page.locator("#backfill-from").fill("2026-01-01T00:00:00")
    dry_run(page, dashboard, "2026-02-01T00:00:00")
    dry_run(page, dashboard, "2026-01-03T00:00:00")
    held.come(2)
    late = held.routes.pop(0)
    held.go()
    submit = page.get_by_role("tabpanel").locator("button.primary")
    expect(submit).to_have_text("Submit 2 runs")
    held.routes.append(late)
    held.go()
    assert submit.inner_text() == "Submit 2 runs"


def test_a_preview_of_another_text_that_comes_late_is_not_shown(dashboard: Dashboard) -> None:
    page = dashboard.open("schedules?new=1")
    text = page.locator("#schedule-text")
    fields = json.loads(text.input_value())
    held = Held(page, re.compile("/preview$"))

    def preview(cron: str) -> None:
        text.fill(json.dumps(fields | {"cron": cron}))
        dashboard.button("Show the next ticks").click()

    preview("0 3 * * *")
    preview("0 5 * * *")
    held.come(2)
    late = held.routes.pop(0)
    held.go()
    tick: Locator = page.locator(".ticks li").first
    expect(tick).to_contain_text("05:00:00")
    held.routes.append(late)
    held.go()
    assert "05:00:00" in tick.inner_text()


def test_what_was_asked_of_an_earlier_attempt_and_comes_late_is_not_shown(
    dashboard: Dashboard, world: World
) -> None:
    going = {"status": "RUNNING", "start_time": time.time(), "end_time": None}
    first = snapshot(attempt=1, worker_id="w-one", tasks={"read": "RUNNING"}, **going)
    run_id = world.put_run(**first)
    late: dict[str, Callable[[], None]] = {}  # how it is answered, by what was asked

    def hold(route: Route) -> None:
        if (url := route.request.url) in late:
            route.continue_()
        else:
            late[url] = partial(answered, route, partial(route.fulfill, response=route.fetch()))

    page = dashboard.page
    page.route(re.compile(rf"/runs/{run_id}(/graph)?$"), hold)
    dashboard.open(f"runs/{run_id}")
    wait_in(page, lambda: len(late) == 2)
    tasks = {"read": "SUCCEEDED", "write": "RUNNING"}
    changes = {"attempt": 2, "worker_id": "w-two", "tasks": tasks, "updated_at": time.time()}
    world.put("pyoco_runs", {run_id: first | changes})
    worker = page.locator("dd", has=page.get_by_role("link", name="w-two"))
    expect(worker.locator(".status")).to_be_visible()
    expect(page.locator(".graph .node")).to_have_count(2)
    for answer in late.values():
        answer()
    assert page.locator(".graph .node").count() == 2
    assert worker.locator(".status").is_visible()


LISTED = (r"/runs\?", r"/runs/counts\?(?!.*steps)", r"/runs/counts\?.*steps")


def expect_all_of(
    dashboard: Dashboard, flow: str, run_id: str, *, at_first: Callable[[Route], None]
) -> None:
    """The list that has this run alone comes, with its counts and bars, behind three others of each."""
    page = dashboard.page
    for asked in LISTED:
        page.route(re.compile(asked), at_first, times=3)
    dashboard.open(f"runs?flow={flow}")
    expect(dashboard.row(run_id)).to_be_visible()
    expect(page.locator(".problem")).to_have_count(0)
    expect(page.locator('.count[data-status="COMPLETED"]')).to_contain_text("1")
    expect(page.locator(".histogram")).to_contain_text("1 run")


@pytest.mark.refusals
def test_a_list_that_could_not_be_had_is_asked_for_again(
    dashboard: Dashboard, world: World, name: str
) -> None:
    run_id = world.put_run(flow_name=name)  # nothing changes, so that nothing else has it asked for

    def refuse(route: Route) -> None:
        route.fulfill(status=503, json={"detail": "runs not readable"})

    expect_all_of(dashboard, name, run_id, at_first=refuse)


def test_a_list_of_a_gateway_that_is_behind_is_asked_for_again(
    dashboard: Dashboard, world: World, name: str
) -> None:
    run_id = world.put_run(flow_name=name)

    def know_nothing(route: Route) -> None:
        answer: dict[str, Any] = {
            "items": [],
            "next_cursor": None,
            "counts": {},
            "exact": True,
            "submissions": [{"start": 0, "counts": {}}],
            "submissions_exact": True,
        }
        route.fulfill(headers={"X-Pyoco-Stale": "true"}, json=answer)

    expect_all_of(dashboard, name, run_id, at_first=know_nothing)


def test_what_a_page_of_the_list_says_that_comes_late_is_not_shown(
    dashboard: Dashboard, world: World, name: str
) -> None:
    now = time.time()
    runs = [snapshot(flow_name=name, updated_at=now - number) for number in range(202)]
    world.put("pyoco_runs", {run["run_id"]: run for run in runs})
    gone, changed = runs[-2:]
    late: list[Callable[[], None]] = []

    def hold(route: Route) -> None:
        late.append(partial(answered, route, partial(route.fulfill, response=route.fetch())))

    page = dashboard.page
    page.route(re.compile(r"/runs\?.*cursor="), hold)
    dashboard.open(f"runs?flow={name}&status=COMPLETED")
    table = page.locator(".window")
    count = page.locator('.count[data-status="COMPLETED"]')
    expect(count).to_contain_text("202")
    table.evaluate("table => { table.scrollTop = table.scrollHeight; }")
    wait_in(page, lambda: bool(late))
    world.put("pyoco_runs", {gone["run_id"]: gone | {"status": "FAILED"}})
    later = changed | {"worker_id": "later", "updated_at": now - 300}  # by its writer's clock
    world.put("pyoco_runs", {changed["run_id"]: later})
    dashboard.button("1 newer").click()
    expect(count).to_contain_text("201")
    late[0]()
    table.evaluate("table => { table.scrollTop = table.scrollHeight; }")
    expect(dashboard.row(changed["run_id"])).to_contain_text("later")
    expect(dashboard.row(gone["run_id"])).to_have_count(0)


@pytest.mark.refusals
def test_a_check_whose_answer_is_lost_is_made_again(dashboard: Dashboard) -> None:
    page = dashboard.page
    again = Held(page, re.compile("/flows/check$"))
    page.route(re.compile("/flows/check$"), lambda route: route.abort(), times=1)
    dashboard.open("submit")
    expect(page.locator("#flow-verdict .problem")).to_have_text(UNREACHABLE)
    again.come()
    again.go()
    expect(dashboard.button("Run")).to_be_enabled()
    expect(page.locator(".graph .node")).to_have_count(2)


@pytest.mark.usefixtures("schedule")
def test_a_submission_that_is_answered_late_takes_nobody_away(
    dashboard: Dashboard, world: World, name: str
) -> None:
    page = dashboard.open("submit")
    held = Held(page, re.compile("/runs/batch$"))
    page.get_by_label("flow.yaml").fill(flows.REPORT)
    page.locator("#flow-name").fill(name)
    dashboard.button("Run").click()
    held.come()
    draft = flows.REPORT.replace("Visits", "Others")
    dashboard.open(f"schedules/{name}")
    dashboard.open("submit")
    page.get_by_label("flow.yaml").fill(draft)
    dashboard.open(f"schedules/{name}?tab=edit")
    page.locator("#schedule-text").fill("{}")
    held.go()
    [run] = runs_of(world, flow=name)
    expect(dashboard.toast).to_have_text(f"Submitted, as run {run['run_id'][:8]}")
    assert page.url.endswith(f"#/schedules/{name}?tab=edit")
    expect(page.locator("#schedule-text")).to_have_value("{}")
    dashboard.open("submit")
    expect(page.get_by_label("flow.yaml")).to_have_value(draft)
    HTTP.post(f"{world.url}/runs/{run['run_id']}/cancel").raise_for_status()
