"""One run."""

from __future__ import annotations

import json
import re
import shlex
import time
import uuid

import pytest
from playwright.sync_api import expect

from dashboard import flows
from dashboard.browsing import Dashboard
from dashboard.world import World


def test_the_graph_and_the_tasks_are_live(dashboard: Dashboard, world: World) -> None:
    run_id = world.submit(flows.waiting("graph"))
    page = dashboard.open(f"runs/{run_id}")
    graph = dashboard.card("Flow").first
    expect(graph.locator('[data-task="prepare"]')).to_have_attribute("data-state", "SUCCEEDED")
    expect(graph.locator('[data-task="wait"]')).to_have_attribute("data-state", "RUNNING")
    expect(graph.locator('[data-task="finish"]')).to_have_attribute("data-state", "PENDING")
    assert graph.locator("path.edge").count() == 2
    lanes = page.locator(".timeline-row")
    expect(lanes).to_have_count(2)
    page.locator(".timeline-row", has_text="prepare").locator(".timeline-lane").click()
    expect(graph.locator('[data-task="prepare"]')).to_have_class("node chosen")
    expect(page.locator(".timeline-row.chosen")).to_contain_text("prepare")
    # With the keyboard as well.
    graph.get_by_role("button", name=re.compile("^wait")).focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name=re.compile("^wait"), pressed=True)).to_be_visible()

    world.open_gate("graph")
    expect(graph.locator('[data-task="finish"]')).to_have_attribute("data-state", "SUCCEEDED")
    expect(page.locator(".view-head .status")).to_have_text("completed")
    expect(lanes).to_have_count(3)
    expect(page.locator(".facts").first).to_contain_text("in the queue")
    assert "completed" in page.title()


def test_branches_loops_and_parallel_parts_are_drawn(dashboard: Dashboard, world: World) -> None:
    loops = world.submit(flows.LOOPS)
    world.reaches(loops, "COMPLETED")
    page = dashboard.open(f"runs/{loops}")
    graph = dashboard.card("Flow").first
    expect(graph.locator(".group")).to_have_count(2)
    expect(graph).to_contain_text("repeat · count=2")
    expect(graph).to_contain_text("switch")
    expect(graph.locator('[data-task="left"]')).to_have_attribute("data-state", "SUCCEEDED")
    expect(graph.locator('[data-task="right"]')).to_contain_text("did not run")

    report = world.submit(flows.REPORT)
    world.reaches(report, "COMPLETED")
    page.goto(f"{world.url}/#/runs/{report}")
    expect(graph.locator(".node")).to_have_count(4)
    clean, count = (
        graph.locator(f'[data-task="{name}"] rect').bounding_box() for name in ("clean", "count")
    )
    assert clean is not None
    assert count is not None
    assert clean["x"] == count["x"]
    assert clean["y"] < count["y"]


def test_logs_history_data_and_files(dashboard: Dashboard, world: World) -> None:
    run_id = world.submit(flows.REPORT)
    page = dashboard.open(f"runs/{run_id}")
    page.get_by_role("tab", name="Logs").click()
    log = page.get_by_role("log")
    expect(log).to_contain_text("reading https://example.org/visits.csv")
    expect(log).to_contain_text("1197 rows counted")
    expect(log.locator(".stderr")).to_contain_text("dropped 3 rows")
    page.locator("#log-task").select_option("count")
    expect(log.locator(".log-line:visible")).to_have_count(1)

    page.keyboard.press("Tab")
    page.get_by_role("tab", name="Logs").focus()
    page.keyboard.press("ArrowRight")
    history = page.get_by_role("tabpanel")
    expect(history.locator('tr:has(td:nth-child(2):text-is("Run")) .status')).to_have_text(
        ["pending", "running", "completed"]
    )
    expect(history.locator('tr:has(td:nth-child(2):text-is("report")) .status')).to_have_text(
        ["running", "succeeded"]
    )

    history.get_by_label("One line a task").check()
    report = history.locator("tr:visible", has=page.get_by_text("report", exact=True))
    expect(report).to_have_count(1)
    expect(report.locator(".status")).to_have_text(["running", "succeeded"])
    with page.expect_download() as download:
        dashboard.button("Download as JSON").click()
    told = json.loads(download.value.path().read_text())
    assert [each["state"] for each in told if each.get("task") == "report"] == [
        "RUNNING",
        "SUCCEEDED",
    ]

    page.get_by_role("tab", name="Params and results").click()
    expect(page.get_by_role("tabpanel")).to_contain_text('"report": "Visits: 1197 rows"')
    page.get_by_role("tab", name="Files").click()
    with page.expect_download() as download:
        dashboard.button("Download report.txt").click()
    assert download.value.path().read_text() == "Visits: 1197 rows\n"
    assert download.value.suggested_filename == "report.txt"


def test_states_are_in_the_order_in_which_they_came_about(
    dashboard: Dashboard, world: World
) -> None:
    """Whatever the order is in which gateway and worker told of them."""
    run_id = world.submit(flows.REPORT, tag="absent")
    page = dashboard.open(f"runs/{run_id}")
    page.get_by_role("tab", name="History").click()
    states = page.get_by_role("tabpanel").locator(".status")
    expect(states).to_have_text(["pending"])
    world.put_event(run_id, type="state", status="CANCELLING", revision=10**9)
    world.put_event(run_id, type="task", task="count", state="RUNNING")
    world.put_event(run_id, type="state", status="RUNNING", revision=10**8)
    expect(states).to_have_text(["pending", "running", "cancelling", "running"])


def test_an_error_comes_with_its_traceback_and_the_attempts_before(
    dashboard: Dashboard, world: World
) -> None:
    run_id = world.submit(flows.failing("no rows for today", attempts=2))
    world.reaches(run_id, "FAILED")
    page = dashboard.open(f"runs/{run_id}")
    alert = page.get_by_role("alert")
    expect(alert).to_contain_text("the flow failed")
    expect(alert).to_contain_text("no rows for today")
    alert.get_by_text("Traceback of fail").click()
    expect(alert).to_contain_text("raise ValueError(text)")
    expect(page.locator(".timeline-row.attempt")).to_have_count(2)
    expect(page.get_by_role("row", name=re.compile("^1 w1"))).to_contain_text("no rows for today")
    expect(page.locator(".facts").first).to_contain_text("2 / 2")


def test_cancel_and_retry(dashboard: Dashboard, world: World) -> None:
    gate = f"cancel-{uuid.uuid4().hex[:8]}"
    run_id = world.submit(flows.waiting(gate))
    world.reaches(run_id, "RUNNING")
    page = dashboard.open(f"runs/{run_id}")
    dashboard.button("Cancel").click()
    page.get_by_label("Reason (optional)").fill("wrong day")
    dashboard.dialog_button("Cancel").click()
    expect(page.locator(".view-head .status")).to_have_text("cancelled")
    expect(page.locator(".facts").first).to_contain_text("wrong day")
    expect(dashboard.button("Cancel")).to_be_disabled()
    assert world.status(run_id) == "CANCELLED"

    world.open_gate(gate)
    dashboard.button("Retry").click()
    page.wait_for_url(re.compile(rf"#/runs/(?!{run_id})"))
    expect(page.locator(".view-head .status")).to_have_text("completed")
    page.get_by_role("link", name=run_id[:8]).click()
    expect(page.locator(".view-head")).to_contain_text(run_id)


def test_two_windows_with_logs_and_history_leave_connections_for_a_cancel(
    dashboard: Dashboard, world: World
) -> None:
    gate = f"windows-{uuid.uuid4().hex[:8]}"
    runs = [world.submit(flows.waiting(gate)) for _ in range(2)]
    windows = [dashboard, Dashboard(dashboard.page.context.new_page(), world.url)]
    for window, run_id in zip(windows, runs, strict=True):
        world.reaches(run_id, "RUNNING")
        page = window.open(f"runs/{run_id}")
        page.get_by_role("tab", name="Logs").click()
        expect(page.get_by_role("log")).to_contain_text("waiting for the gate")
        page.get_by_role("tab", name="History").click()
        expect(page.get_by_role("tabpanel")).to_contain_text("running")
    dashboard.button("Cancel").click()
    dashboard.dialog_button("Cancel").click()
    world.reaches(runs[0], "CANCELLING", "CANCELLED")

    # A panel goes on where it was.
    world.open_gate(gate)
    page.get_by_role("tab", name="Logs").click()
    expect(page.get_by_role("log").locator(".log-line", has_text="waiting")).to_have_count(1)
    world.reaches(runs[1], "COMPLETED")
    page.get_by_role("tab", name="History").click()
    run_states = page.get_by_role("tabpanel").locator(
        'tr:has(td:nth-child(2):text-is("Run")) .status'
    )
    expect(run_states).to_have_text(["pending", "running", "completed"])
    windows[1].check()


def test_the_commands_of_a_run_work_in_a_shell(dashboard: Dashboard, world: World) -> None:
    run_id = world.submit(flows.failing("x"))
    world.reaches(run_id, "FAILED")
    page = dashboard.open(f"runs/{run_id}")
    dashboard.button("Copy as command").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("button", name="Copy: See it with its records").click()
    expect(dashboard.toast).to_have_text("Copied")
    command = page.evaluate("navigator.clipboard.readText()")
    assert command == f"pyoco-client --server {world.url} get {run_id} --records"
    answer = world.stage.run(*command.split())
    assert run_id in answer
    dialog.get_by_role("button", name="Done").click()
    expect(dialog).to_have_count(0)


def test_a_name_with_quotes_stays_one_word_of_the_command(
    dashboard: Dashboard, world: World
) -> None:
    params = {"text": "it's $(touch /tmp/x) `id`"}
    run_id = world.put_run(flow_name="o'brien; rm -rf $HOME", params=params)
    page = dashboard.open(f"runs/{run_id}")
    dashboard.button("Copy as command").click()
    page.get_by_role("button", name="Copy: Submit another one like it").click()
    expect(dashboard.toast).to_have_text("Copied")
    words = shlex.split(page.evaluate("navigator.clipboard.readText()"))
    assert words[words.index("--flow-name") + 1] == "o'brien; rm -rf $HOME"
    assert '"it\'s $(touch /tmp/x) `id`"' in words[words.index("--params") + 1]


@pytest.mark.refusals
def test_a_run_that_does_not_exist_says_so(dashboard: Dashboard) -> None:
    page = dashboard.open(f"runs/{uuid.uuid4()}")
    expect(page.get_by_role("alert")).to_contain_text("run not found")
    page.get_by_role("main").get_by_role("link", name="Runs").click()
    expect(dashboard.live).to_have_text("live")


def test_a_planned_run_waited_from_its_time_on(dashboard: Dashboard, world: World) -> None:
    now = time.time()
    times = {"submitted_at": now - 7200, "scheduled_for": now - 60, "start_time": now - 50}
    page = dashboard.open(f"runs/{world.put_run(**times)}")
    expect(page.locator(".facts").first).to_contain_text("after 10.0 s in the queue")


PROGRESS = """\
flow: {graph: progress, defaults: {gate: told-of-progress}}
tasks: {progress: {callable: "dash_tasks:progress"}}
"""


def test_how_far_a_task_is_and_what_its_run_took(dashboard: Dashboard, world: World) -> None:
    run_id = world.submit(PROGRESS)
    page = dashboard.open(f"runs/{run_id}")
    expect(page.locator('.graph [data-task="progress"]')).to_contain_text("running · 30 %")
    expect(page.get_by_role("tabpanel")).to_contain_text("3 / 10 · files read")
    bar = page.get_by_role("progressbar", name="Progress")
    assert bar.evaluate("bar => bar.value / bar.max") == 0.3
    world.open_gate("told-of-progress")
    expect(page.locator(".view-head .status")).to_have_text("completed")
    facts = page.locator(".facts").first
    expect(facts).to_contain_text(re.compile(r"Peak memory\d+\.\d MiB"))
    expect(facts).to_contain_text("CPU time")


def test_tries_iterations_and_what_was_skipped(dashboard: Dashboard, world: World) -> None:
    now = time.time()
    tried = {"started_at": now - 3, "ended_at": now - 2}
    run_id = world.put_run(
        tasks={"again": "SUCCEEDED", "each": "SUCCEEDED", "left": "PENDING"},
        task_records={
            "again": {
                "state": "SUCCEEDED",
                **tried,
                "tries": [{"number": 1, **tried, "error": "no route"}, {"number": 2, **tried}],
            },
            "each": {
                "state": "SUCCEEDED",
                **tried,
                "iterations": [{"path": "foreach:n[2]", "state": "SUCCEEDED", **tried}],
                "iteration_counts": {"SUCCEEDED": 2, "FAILED": 1},
            },
            "left": {"state": "PENDING", "skipped": True},
        },
    )
    page = dashboard.open(f"runs/{run_id}?task=again")
    panel = page.get_by_role("tabpanel")
    expect(panel.locator("tbody tr")).to_have_count(2)
    expect(panel.locator("tbody tr").first).to_contain_text("no route")
    expect(page.locator('.graph [data-task="again"]')).to_contain_text("try 2")
    expect(page.locator('.graph [data-task="left"]')).to_contain_text("did not run")
    page.locator('.graph [data-task="each"]').click()
    expect(panel).to_contain_text("2 succeeded, 1 failed")
    expect(panel).to_contain_text("foreach:n[2]")
    # What went before is on the time line as well, and told as a part of all where it is one.
    tried_bars = page.locator(".timeline-row", has_text="again").locator(".timeline-bar")
    expect(tried_bars).to_have_count(2)
    expect(tried_bars.first).to_have_class(re.compile("tone-bad"))
    expect(panel).to_contain_text("these are the last 1")
    page.get_by_role("link", name="all its runs").click()
    expect(page.locator("#filter-flow")).to_have_value("main")


EXACT = {
    "big": 9007199254740993,
    "float": 1.0,
    "text": "1e400",
    "hidden": "a\u202eb\u200bc\u0000",
    "word": "x" * 10_000,
    "rtl": "שלום",
}


def test_numbers_and_texts_are_exact_however_odd(dashboard: Dashboard, world: World) -> None:
    error = f"no \u202e{EXACT['word']}"
    run_id = world.put_run(params=EXACT, status="FAILED", error=error, flow_name="a\u202eb")
    page = dashboard.open(f"runs/{run_id}?tab=data")
    shown = page.get_by_role("tabpanel").locator("pre").first
    expect(shown).to_contain_text('"big": 9007199254740993,')
    expect(shown).to_contain_text('"float": 1.0,')
    text = shown.inner_text()
    assert json.loads(text) == EXACT
    assert "\\u202e" in text
    assert "\u202e" not in text
    expect(page.get_by_role("alert")).to_contain_text("no \\u202ex")
    for width in (390, 1280):
        page.set_viewport_size({"width": width, "height": 860})
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        tall = page.get_by_role("alert").bounding_box()
        assert tall is not None
        assert tall["height"] < 300
    with page.expect_download() as download:
        dashboard.button("Download as JSON").click()
    assert json.loads(download.value.path().read_text())["params"] == EXACT
    page.goto(f"{world.url}/#/runs?q={run_id}")
    expect(dashboard.row(run_id)).to_contain_text("a\\u202eb")
