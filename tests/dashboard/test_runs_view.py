"""The list of runs."""

from __future__ import annotations

import re
import time
import uuid

from playwright.sync_api import expect

from dashboard import flows
from dashboard.browsing import Dashboard
from dashboard.world import World, snapshot
from e2e.programs import HTTP


def test_a_run_appears_and_changes_by_itself(dashboard: Dashboard, world: World) -> None:
    dashboard.open("runs")
    expect(dashboard.live).to_have_text("live")
    run_id = world.submit(flows.waiting("appears"))
    row = dashboard.row(run_id)
    expect(row.locator(".status")).to_have_text("running")
    expect(row).to_contain_text("w1")
    world.open_gate("appears")
    expect(row.locator(".status")).to_have_text("completed")
    time = row.locator("time")
    expect(time).to_have_attribute(
        "title", re.compile(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+ UTC$")
    )


def test_what_is_told_last_is_shown_whatever_the_clock_of_who_wrote_it(
    dashboard: Dashboard, world: World
) -> None:
    now = time.time()
    run_id = world.put_run(flow_name="clocks", status="PENDING", end_time=None, updated_at=now)
    dashboard.open("runs?flow=clocks")
    status = dashboard.row(run_id).locator(".status")
    expect(status).to_have_text("pending")
    world.put_run(run_id=run_id, flow_name="clocks", status="COMPLETED", updated_at=now - 5)
    expect(status).to_have_text("completed")


def test_filters_and_text_are_in_the_url(dashboard: Dashboard, world: World) -> None:
    flow = f"flow-{uuid.uuid4().hex[:8]}"
    good = world.put_run(flow_name=flow, tag="north")
    bad = world.put_run(flow_name=flow, status="FAILED", error="disk full at /var", tag="south")
    page = dashboard.open(f"runs?flow={flow}")
    expect(dashboard.row(good)).to_be_visible()
    expect(dashboard.row(bad)).to_be_visible()
    expect(page.locator('.count[data-status="FAILED"]')).to_contain_text("1")

    page.locator('.count[data-status="FAILED"]').click()
    expect(dashboard.row(good)).to_have_count(0)
    expect(page).to_have_url(re.compile("status=FAILED"))
    page.reload()
    expect(dashboard.row(bad)).to_be_visible()
    expect(dashboard.row(good)).to_have_count(0)
    # The counts are those of the other filters, so that one sees what the next click gives.
    expect(page.locator('.count[data-status="COMPLETED"]')).to_contain_text("1")

    page.locator('.count[data-status=""]').click()
    expect(dashboard.row(good)).to_be_visible()
    page.get_by_label("Search id, flow, error").fill("disk full")
    expect(dashboard.row(good)).to_have_count(0)
    expect(dashboard.row(bad)).to_be_visible()
    expect(page).to_have_url(re.compile(r"q=disk\+full"))
    page.get_by_label("Search id, flow, error").fill("")
    page.get_by_label("Tag", exact=True).fill("north")
    expect(dashboard.row(bad)).to_have_count(0)
    expect(dashboard.row(good)).to_be_visible()

    dashboard.button("Clear filters").click()
    expect(dashboard.row(bad)).to_be_visible()
    assert page.url.endswith("#/runs")


def test_a_run_that_stops_fitting_the_filters_leaves(dashboard: Dashboard, world: World) -> None:
    run_id = world.submit(flows.waiting("leaves"))
    dashboard.open("runs?status=RUNNING")
    expect(dashboard.row(run_id)).to_be_visible()
    world.open_gate("leaves")
    expect(dashboard.row(run_id)).to_have_count(0)


def test_no_runs_says_what_to_do_next(dashboard: Dashboard) -> None:
    page = dashboard.open("runs?flow=there-is-none-of-this-name")
    expect(page.locator(".empty")).to_contain_text("Nothing fits these filters.")


def test_everything_is_done_with_the_keyboard(dashboard: Dashboard, world: World) -> None:
    flow = f"keys-{uuid.uuid4().hex[:8]}"
    # Of now: what has ended longer ago than runs are kept may be swept away at any moment.
    older = world.put_run(flow_name=flow, updated_at=time.time() - 1)
    newer = world.put_run(flow_name=flow, updated_at=time.time())
    page = dashboard.open("runs")
    expect(dashboard.live).to_have_text("live")
    page.keyboard.press("/")
    page.keyboard.type(flow)
    expect(page.locator("tr[data-key]")).to_have_count(2)
    page.keyboard.press("Escape")
    page.keyboard.press("j")
    expect(dashboard.row(newer)).to_have_class(re.compile("at"))
    page.keyboard.press("j")
    page.keyboard.press("x")
    expect(dashboard.row(older)).to_have_attribute("aria-selected", "true")
    page.keyboard.press("Escape")
    expect(dashboard.row(older)).to_have_attribute("aria-selected", "false")
    page.keyboard.press("k")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name=flow)).to_be_visible()
    assert newer in page.url


def test_many_are_cancelled_and_retried_at_once(dashboard: Dashboard, world: World) -> None:
    gate = f"bulk-{uuid.uuid4().hex[:8]}"
    runs = [world.submit(flows.waiting(gate), flow_name=gate) for _ in range(3)]
    for run_id in runs:
        world.reaches(run_id, "RUNNING")
    page = dashboard.open(f"runs?flow={gate}")
    # The dialog says what the list knew when it was opened.
    expect(page.locator('tr[data-key] .status[data-state="RUNNING"]')).to_have_count(3)
    page.get_by_label("Select all that are loaded").check()
    dashboard.button("Cancel 3").click()
    expect(page.get_by_role("dialog")).to_contain_text(f"3 running: {gate}")
    dashboard.dialog_button("Back").click()
    assert {world.status(run_id) for run_id in runs} == {"RUNNING"}
    dashboard.button("Cancel 3").click()
    dashboard.dialog_button("Cancel").click()
    expect(dashboard.toast).to_have_text("3 done, 0 failed")
    for run_id in runs:
        expect(dashboard.row(run_id).locator(".status")).to_have_text("cancelled")

    world.open_gate(gate)
    dashboard.row(runs[0]).get_by_role("checkbox").check()
    dashboard.row(runs[1]).get_by_role("checkbox").check()
    dashboard.button("Retry 2").click()
    dashboard.dialog_button("Retry").click()
    expect(page.locator("tr[data-key]")).to_have_count(5)
    expect(page.locator('tr[data-key] .status[data-state="COMPLETED"]')).to_have_count(2)


def test_a_cancel_of_many_says_how_many_it_came_too_late_for(
    dashboard: Dashboard, world: World
) -> None:
    flow = f"late-{uuid.uuid4().hex[:8]}"
    first, second = (
        world.submit(flows.waiting(f"{flow}-{number}"), flow_name=flow) for number in range(2)
    )
    page = dashboard.open(f"runs?flow={flow}")
    expect(page.locator('tr[data-key] .status[data-state="RUNNING"]')).to_have_count(2)
    page.get_by_label("Select all that are loaded").check()
    dashboard.button("Cancel 2").click()
    world.open_gate(f"{flow}-0")
    world.reaches(first, "COMPLETED")
    dashboard.dialog_button("Cancel").click()
    expect(dashboard.toast).to_have_text("1 done, 0 failed, 1 had ended before")
    world.reaches(second, "CANCELLED")


def test_a_time_is_chosen_by_dragging_and_by_range(dashboard: Dashboard, world: World) -> None:
    flow = f"times-{uuid.uuid4().hex[:8]}"
    now = time.time()
    old = world.put_run(flow_name=flow, submitted_at=now - 20 * 3600, updated_at=now - 20 * 3600)
    new = world.put_run(flow_name=flow, submitted_at=now - 60, status="FAILED", error="x")
    page = dashboard.open(f"runs?flow={flow}")
    starts = page.locator(".histogram")
    expect(starts).to_contain_text("2 runs")
    # It stands below them: what moves it is there.
    expect(page.locator('.count[data-status=""] b')).to_have_text("2")
    expect(starts.locator("rect.bar-bad")).to_have_count(1)
    box = starts.locator(".histogram-plot").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] * 0.05, box["y"] + 20)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.5, box["y"] + 20, steps=3)
    page.mouse.up()
    expect(dashboard.row(new)).to_have_count(0)
    expect(dashboard.row(old)).to_be_visible()
    expect(page).to_have_url(re.compile("from="))
    expect(page).to_have_url(re.compile("to="))
    expect(page.locator("#filter-from")).to_be_visible()
    expect(page.locator('.count[data-status=""] b')).to_have_text("1")

    page.locator("#filter-range").select_option("1h")
    expect(dashboard.row(new)).to_be_visible()
    expect(dashboard.row(old)).to_have_count(0)
    expect(page).to_have_url(re.compile("range=1h"))
    assert "from=" not in page.url

    # The last hour goes on while one looks at it.
    page.clock.set_system_time(now + 3600)
    expect(dashboard.row(new)).to_have_count(0)
    expect(page.locator('.count[data-status=""] b')).to_have_text("0")


def test_filters_suggest_what_there_is_and_views_are_saved(
    dashboard: Dashboard, world: World
) -> None:
    flow = f"known-{uuid.uuid4().hex[:8]}"
    run_id = world.put_run(flow_name=flow, tag="north")
    page = dashboard.open("runs")
    # What there is is asked for once, when a field is chosen.
    expect(dashboard.row(run_id)).to_be_visible()
    page.locator("#filter-flow").focus()
    expect(page.locator(f'#known-flow option[value="{flow}"]')).to_be_attached()
    expect(page.locator('#known-tag option[value="north"]')).to_be_attached()
    expect(page.locator('#known-worker_id option[value="w1"]')).to_be_attached()
    page.locator("#filter-flow").fill(flow)
    page.wait_for_url(re.compile(flow))
    page.locator("#filter-range").select_option("24h")
    dashboard.button("Save this view").click()
    page.get_by_label("Name").fill("of today")
    page.get_by_label("Name").press("Enter")
    dashboard.button("Clear filters").click()
    expect(page.locator("#filter-flow")).to_have_value("")
    page.reload()
    page.get_by_label("Saved views").select_option("of today")
    expect(page.locator("#filter-flow")).to_have_value(flow)
    expect(page.locator("tr[data-key]")).to_have_count(1)
    assert f"flow={flow}" in page.url
    expect(page).to_have_url(re.compile("range=24h"))
    dashboard.button("Delete this view").click()
    expect(page.get_by_role("dialog")).to_contain_text("of today")
    dashboard.dialog_button("Delete this view").click()
    expect(page.get_by_label("Saved views")).to_be_hidden()


def test_what_a_gateway_told_is_sent_along(dashboard: Dashboard, world: World) -> None:
    sent: list[str | None] = []
    dashboard.page.on("request", lambda request: sent.append(request.headers.get("x-pyoco-seen")))
    page = dashboard.open("runs")
    expect(dashboard.live).to_have_text("live")
    page.locator("#filter-flow").focus()
    page.wait_for_function("() => document.querySelector('#known-worker_id option')")
    assert sent[-1] is not None
    assert sent[-1].count("-") >= 1


def test_runs_that_wait_for_their_time_expire_and_are_late(
    dashboard: Dashboard, world: World
) -> None:
    flow = f"time-{uuid.uuid4().hex[:8]}"
    planned = world.submit(flows.REPORT, flow_name=flow, delay_sec=3600)
    expired = world.submit(flows.REPORT, flow_name=flow, tag="absent", queue_ttl_sec=0.5)
    late = world.submit(flows.REPORT, flow_name=flow, tag="absent", expected_start_within_sec=0.5)
    page = dashboard.open(f"runs?flow={flow}")
    expect(dashboard.row(planned).locator(".status")).to_have_text("scheduled")
    expect(dashboard.row(expired).locator(".status")).to_have_text("expired")
    expect(dashboard.row(late).locator(".status")).to_have_text(["pending", "late"])
    page.locator('.count[data-status="EXPIRED"]').click()
    expect(page.locator("tr[data-key]")).to_have_count(1)
    expect(page).to_have_url(re.compile("status=EXPIRED"))
    page.locator('.count[data-status=""]').click()
    page.get_by_label("late ones only").check()
    expect(page.locator("tr[data-key]")).to_have_count(1)
    expect(dashboard.row(late)).to_be_visible()
    dashboard.row(late).get_by_role("link").click()
    page.get_by_role("tab", name="History").click()
    expect(page.get_by_role("tabpanel")).to_contain_text("started late, or has not started")
    HTTP.post(f"{world.url}/runs/{late}/cancel").raise_for_status()

    dashboard.open(f"runs/{planned}")
    expect(page.locator(".view-head .status")).to_have_text("scheduled")
    expect(page.locator(".facts").first).to_contain_text("Planned start")
    dashboard.button("Start at …").click()
    dashboard.dialog_button("Start now").click()
    expect(page.locator(".view-head .status")).to_have_text("completed")


def test_all_that_fit_are_selected_not_only_what_is_loaded(
    dashboard: Dashboard, world: World
) -> None:
    flow = f"many-{uuid.uuid4().hex[:8]}"
    runs = [snapshot(flow_name=flow) for _ in range(450)]
    world.put("pyoco_runs", {run["run_id"]: run for run in runs})
    page = dashboard.open(f"runs?flow={flow}")
    expect(page.locator('.count[data-status=""]')).to_contain_text("450")
    page.get_by_label("Select all that are loaded").check()
    expect(page.get_by_text("200 selected")).to_be_visible()
    dashboard.button("Select all that fit").click()
    expect(page.get_by_text("450 selected")).to_be_visible()
    expect(dashboard.button("Select all that fit")).to_have_count(0)
    dashboard.button("Retry 450").click()
    expect(page.get_by_role("dialog")).to_contain_text(f"450 completed: {flow}")
    dashboard.dialog_button("Back").click()


def test_a_list_that_stays_open_does_not_grow_without_end(
    dashboard: Dashboard, world: World
) -> None:
    flow = f"open-{uuid.uuid4().hex[:8]}"
    page = dashboard.open(f"runs?flow={flow}")
    expect(page.locator(".empty")).to_be_visible()

    def come() -> str:
        """So many at once that the gateway tells of each."""
        runs = [snapshot(flow_name=flow) for _ in range(700)]
        world.put("pyoco_runs", {run["run_id"]: run for run in runs})
        return world.put_run(flow_name=flow)

    with page.expect_response(re.compile(r"/runs\?")):
        for _ in range(3):
            expect(dashboard.row(come())).to_be_visible()
    page.get_by_label("Select all that are loaded").check()
    expect(page.get_by_text(re.compile(r"^\d{1,3} selected$"))).to_be_visible()
    dashboard.button("Select none").click()

    # Those that wait behind the button are no more either; with it, the last ones are there.
    page.locator(".window").evaluate("table => { table.scrollTop = 2000; }")
    for waiting in ("701", "1402", "2000+"):
        last = come()
        expect(dashboard.button(f"{waiting} newer")).to_be_visible()
    dashboard.button("2000+ newer").click()
    expect(dashboard.row(last)).to_be_visible()
    expect(page.get_by_role("button", name="newer")).to_be_hidden()
