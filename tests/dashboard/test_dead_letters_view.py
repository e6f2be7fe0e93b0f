"""Dead letters."""

from __future__ import annotations

import re
import time
import uuid

from playwright.sync_api import Route, expect

from dashboard import flows
from dashboard.browsing import Dashboard
from dashboard.world import World


def test_look_requeue_and_drop(dashboard: Dashboard, world: World) -> None:
    run_id = world.submit(flows.failing("the disk is full"))
    world.reaches(run_id, "FAILED")
    world.put_letter(reason="invalid_job", error="not JSON", payload="{broken")
    page = dashboard.open("dlq")
    # By its link: the letter of the run that repeats it names it as well.
    letter = page.locator("tr", has=page.get_by_role("link", name=run_id[:8]))
    expect(letter).to_contain_text("the flow failed")
    letter.locator("summary").click()
    expect(letter.locator("pre")).to_contain_text(f'"run_id": "{run_id}"')

    broken = page.locator("tr", has_text="not JSON")
    expect(broken.get_by_role("button", name="Run again")).to_be_disabled()
    broken.get_by_role("button", name="Drop").click()
    dashboard.dialog_button("Drop").click()
    expect(broken).to_have_count(0)

    letter.get_by_role("button", name="Run again").click()
    expect(dashboard.toast).to_contain_text("Runs again as")
    again = re.search(r"[0-9a-f-]{36}", dashboard.toast.inner_text())
    assert again is not None
    assert world.stage.get(again.group())["retry_of"] == run_id
    expect(letter).to_have_count(0)

    page.get_by_label("Reason").select_option("worker_crashed")
    expect(page).to_have_url(re.compile("reason=worker_crashed"))
    expect(page.locator(".empty")).to_contain_text("No dead letters")


def test_what_was_asked_before_is_not_shown_under_another_reason(
    dashboard: Dashboard, world: World
) -> None:
    mark = uuid.uuid4().hex[:8]
    world.put_letter(reason="invalid_job", error=f"torn {mark}")
    page = dashboard.open("dlq")
    expect(page.locator("tr", has_text=mark)).to_be_visible()
    held: list[Route] = []

    def hold(route: Route) -> None:
        held.append(route)

    page.route(re.compile(r"/dlq\?reason=invalid_job"), hold)
    with page.expect_request(re.compile("reason=invalid_job")):
        page.get_by_label("Reason").select_option("invalid_job")
    page.clock.install()
    page.clock.pause_at(time.time() + 1)  # no next look by itself
    page.get_by_label("Reason").select_option("worker_crashed")
    with page.expect_request(re.compile("reason=worker_crashed")):
        held[0].continue_()
    expect(page.locator(".empty")).to_contain_text("No dead letters")
