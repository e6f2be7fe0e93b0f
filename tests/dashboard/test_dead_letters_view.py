"""Dead letters."""

from __future__ import annotations

import re

from playwright.sync_api import expect

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
