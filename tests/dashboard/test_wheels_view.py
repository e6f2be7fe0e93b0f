"""The wheel registry."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import expect

from dashboard.browsing import Dashboard
from dashboard.world import World
from wheels.making import file_name, wheel_bytes

FLOW = """\
flow: {graph: use}
tasks: {use: {callable: "dash_wheel:work"}}
"""


def test_a_wheel_is_uploaded_used_and_deleted(
    dashboard: Dashboard, world: World, tmp_path: Path
) -> None:
    name = file_name("dash_wheel", "1.0")
    path = tmp_path / name
    path.write_bytes(
        wheel_bytes("dash_wheel", "1.0", {"dash_wheel.py": "def work():\n    return 1\n"})
    )
    page = dashboard.open("wheels")
    page.get_by_label("Tags, with commas").fill("hello")
    page.get_by_label("Choose files").set_input_files(path)
    expect(dashboard.toast).to_have_text(f"{name} uploaded")
    row = page.locator(f'tr[data-key="{name}"]')
    expect(row).to_contain_text("hello")
    expect(row).to_contain_text("w1")  # the worker has it
    with page.expect_download() as download:
        row.get_by_role("button", name="Download").click()
    assert download.value.path().read_bytes() == path.read_bytes()

    run_id = world.submit(FLOW)
    page.goto(f"{world.url}/#/runs/{run_id}")
    expect(page.locator(".view-head .status")).to_have_text("completed")
    expect(page.locator(".facts").first).to_contain_text("dash-wheel 1.0")
    page.goto(f"{world.url}/#/workers")
    expect(page.locator('[data-worker="w1"]')).to_contain_text("dash-wheel 1.0")

    page.goto(f"{world.url}/#/wheels")
    row.get_by_role("button", name="Delete").click()
    dashboard.dialog_button("Delete").click()
    expect(row).to_have_count(0)
    past = page.locator("tr", has_text=name)
    expect(past).to_have_count(2)
    expect(past.first).to_contain_text("deleted")
    expect(past.last).to_contain_text("uploaded")


@pytest.mark.refusals
def test_wheels_are_dropped_on_the_page_and_what_is_wrong_is_told(dashboard: Dashboard) -> None:
    page = dashboard.open("wheels")
    data = page.evaluate_handle(
        """() => {
          const data = new DataTransfer();
          data.items.add(new File(["no wheel"], "broken-1.0-py3-none-any.whl"));
          data.items.add(new File(["no wheel"], "notes.txt"));
          return data;
        }"""
    )
    drop = page.locator(".drop")
    drop.dispatch_event("dragover", {"dataTransfer": data})
    drop.dispatch_event("drop", {"dataTransfer": data})
    expect(page.locator(".toast.bad")).to_have_count(2)
    expect(page.locator(".toast.bad").first).to_contain_text("broken-1.0-py3-none-any.whl: invalid")
    expect(page.locator(".toast.bad").last).to_contain_text("notes.txt: invalid wheel")


def test_a_large_wheel_shows_its_progress(dashboard: Dashboard, tmp_path: Path) -> None:
    name = file_name("dash_large", "1.0")
    path = tmp_path / name
    blob = bytes(range(256)) * 32 * 1024
    path.write_bytes(wheel_bytes("dash_large", "1.0", {"dash_large.py": blob}, compress=False))
    page = dashboard.open("wheels")
    # Slow enough to be seen: 8 MiB at 1 MiB a second until they have been.
    session = page.context.new_cdp_session(page)
    limit = {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": 2**20}
    session.send("Network.emulateNetworkConditions", limit)
    page.get_by_label("Choose files").set_input_files(path)
    bar = page.get_by_role("progressbar", name=name)
    page.wait_for_function(
        """() => {
          const now = Number(document.querySelector('[role=progressbar]')?.ariaValueNow);
          return now > 0 && now < 100;
        }"""
    )
    session.send("Network.emulateNetworkConditions", limit | {"uploadThroughput": -1})
    expect(dashboard.toast).to_have_text(f"{name} uploaded")
    expect(bar).to_have_count(0)
