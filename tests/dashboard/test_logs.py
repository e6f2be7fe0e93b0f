"""The logs of a run, its files and its flow.yaml."""

from __future__ import annotations

import json
import re
from pathlib import Path

from playwright.sync_api import expect

from dashboard import flows
from dashboard.browsing import Dashboard
from dashboard.world import World

NOISE = """\
flow:
  graph: noise >> save
  defaults: {day: "2026-04-01", id: 9007199254740993}
tasks:
  noise: {callable: "dash_tasks:noise"}
  save: {callable: "dash_tasks:save"}
"""

# How many milliseconds it takes; a minute, where a character could be in two parts of it.
READING_A_LONG_SEQUENCE = """async () => {
    const { ansi } = await import("/static/js/parts/ansi.js");
    const began = performance.now();
    ansi("\\x1b[" + "!".repeat(200_000));
    return performance.now() - began;
}"""


def test_logs_are_coloured_searched_and_downloaded(dashboard: Dashboard, world: World) -> None:
    run_id = world.submit(NOISE)
    world.reaches(run_id, "COMPLETED")
    page = dashboard.open(f"runs/{run_id}?tab=logs")
    log = page.get_by_role("log")
    # A bar that a program draws again and again is one line, as it was in the end.
    expect(log.locator(".log-line", has_text="step")).to_have_count(1)
    expect(log.locator(".log-line", has_text="step")).to_contain_text("100%|")
    expect(log.locator(".ansi-bold.ansi-fg-2")).to_have_text("green")
    assert page.evaluate(
        "getComputedStyle(document.querySelector('.log-text span[style]')).color"
    ) == ("rgb(255, 135, 0)")
    expect(log.locator(".ansi-fg-1")).to_have_text(["red", "goes on"])
    assert "\x1b" not in log.inner_text()
    assert page.evaluate(READING_A_LONG_SEQUENCE) < 1_000
    expect(log.locator(".log-at").first).to_have_text(re.compile(r"^\d\d:\d\d:\d\d\.\d{3}$"))

    page.get_by_label("Search the logs").fill("number 1")
    status = page.get_by_role("tabpanel").get_by_role("status")
    expect(status).to_have_text("11 of 11")
    page.get_by_label("Search the logs").press("Enter")
    expect(status).to_have_text("1 of 11")
    expect(log.locator(".log-line.at")).to_have_text(re.compile("number 1$"))
    page.get_by_label("Search the logs").fill("")
    dashboard.button("Jump to error").click()
    expect(log.locator(".log-line.at")).to_contain_text("KeyError: no such day")
    expect(log.locator(".log-line.at")).to_be_in_viewport()

    page.get_by_label("Wrap lines").uncheck()
    page.get_by_label("Times").uncheck()
    expect(log.locator(".log-at").first).to_be_hidden()
    with page.expect_download() as download:
        dashboard.button("Download all").click()
    assert download.value.suggested_filename == f"{run_id[:8]}.log"
    assert "number 19" in download.value.path().read_text()
    page.reload()
    expect(page.get_by_label("Wrap lines")).not_to_be_checked()


def test_files_are_looked_into_and_nothing_of_them_runs(dashboard: Dashboard, world: World) -> None:
    run_id = world.submit(NOISE)
    world.reaches(run_id, "COMPLETED")
    page = dashboard.open(f"runs/{run_id}?tab=files")
    panel = page.get_by_role("tabpanel")
    shown = {
        "big.json": '"id": 9007199254740993',
        "page.html": "<script>window.owned=1</script>",
        "pic.svg": "onload='window.owned=1'",
        "blob.bin": "cannot be shown",
    }
    for name, text in shown.items():
        dashboard.button(f"Preview {name}").click()
        expect(panel).to_contain_text(text)
    dashboard.button("Preview data.csv").click()
    cells = panel.locator(".preview-table td")
    expect(cells).to_have_text(["2026-04-01", "12", "a, b", "2026-04-02", "13", "two\nlines"])
    dashboard.button("Preview pic.png").click()
    picture = panel.get_by_role("img", name="pic.png")
    expect(picture).to_be_visible()
    assert picture.evaluate("each => [...each.getContext('2d').getImageData(1, 0, 1, 1).data]") == [
        255,
        0,
        0,
        255,
    ]
    assert page.evaluate("window.owned") is None
    assert page.locator("main script, main img, main iframe").count() == 0


def test_a_run_is_repeated_with_other_params_and_its_file_is_shown(
    dashboard: Dashboard, world: World, tmp_path: Path
) -> None:
    run_id = world.submit(NOISE, flow_name="nightly", timeout_sec=60, expected_end_within_sec=90)
    world.reaches(run_id, "COMPLETED")
    page = dashboard.open(f"runs/{run_id}?tab=flow")
    expect(page.get_by_role("region", name="flow.yaml")).to_contain_text("graph: noise >> save")
    with page.expect_download() as download:
        dashboard.button("Download").click()
    assert download.value.path().read_text() == NOISE

    dashboard.button("Run with changes").click()
    dialog = page.get_by_role("dialog")
    dialog.locator('[data-param="day"]').fill("2026-04-02")
    dialog.get_by_label("Tag").fill("no tag")
    dashboard.dialog_button("Back").click()
    expect(dialog).to_have_count(0)
    dashboard.button("Run with changes").click()
    dialog.locator('[data-param="day"]').fill("2026-04-02")
    dialog.get_by_label("More params").fill('{"extra": [1.0]}')
    dialog.get_by_label("More params").press("Enter")
    page.wait_for_url(re.compile(rf"#/runs/(?!{run_id})"))
    expect(page.locator(".view-head .status")).to_have_text("completed")
    again = world.stage.get(re.findall(r"[0-9a-f-]{36}", page.url)[0])
    assert again["params"] == {"day": "2026-04-02", "id": 9007199254740993, "extra": [1.0]}
    assert (again["flow_name"], again["tag"], again["timeout_sec"]) == ("nightly", "hello", 60)
    assert again["expected_end_within_sec"] == 90

    page.get_by_role("tab", name="flow.yaml").click()
    dashboard.button("Open in Submit").click()
    expect(page.locator("#flow-text")).to_have_value(NOISE)
    expect(page.locator('[data-param="day"]')).to_have_value("2026-04-02")
    expect(page.locator('[data-param="id"]')).to_have_value("9007199254740993")
    page.reload()
    expect(page.locator('[data-param="extra"]')).to_have_value("[1.0]")
    page.locator('[data-param="day"]').fill("2026-04-03")
    dashboard.button("Run").click()
    page.wait_for_url(re.compile(r"#/runs/[0-9a-f-]{36}"))
    third = world.stage.get(re.findall(r"[0-9a-f-]{36}", page.url)[0])
    assert third["params"] == {"day": "2026-04-03", "id": 9007199254740993, "extra": [1.0]}


def test_a_cancel_says_what_it_does_and_took_goes_on(dashboard: Dashboard, world: World) -> None:
    run_id = world.submit(flows.waiting("told"))
    world.reaches(run_id, "RUNNING")
    page = dashboard.open(f"runs/{run_id}")
    # The dialog says what the page knew when it was opened.
    expect(page.locator('.graph [data-task="wait"]')).to_have_attribute("data-state", "RUNNING")
    took = page.locator(".facts").first.locator("dt:text-is('Took') + dd")
    expect(took).to_contain_text("s")
    before = took.inner_text()
    expect(took).not_to_have_text(before)
    dashboard.button("Cancel").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text(f"Cancel the run {run_id[:8]} of main?")
    expect(dialog).to_contain_text("Its worker w1 asks it to stop and waits 500 ms; then")
    expect(dialog).to_contain_text("1 of 3 tasks have succeeded.")
    dashboard.dialog_button("Back").click()
    world.open_gate("told")
    expect(page.locator(".view-head .status")).to_have_text("completed")


LARGE = """\
flow: {graph: large >> noise}
tasks:
  large: {callable: "dash_tasks:large"}
  noise: {callable: "dash_tasks:noise"}
"""


def test_a_large_result_is_downloaded_whole(dashboard: Dashboard, world: World) -> None:
    run_id = world.submit(LARGE)
    world.reaches(run_id, "COMPLETED")
    page = dashboard.open(f"runs/{run_id}?task=large")
    with page.expect_download() as download:
        page.get_by_role("button", name=re.compile(r"^Whole result \(\d+\.\d KiB\)$")).click()
    assert json.loads(download.value.path().read_text()) == list(range(100_000))
