"""A gateway that asks for API keys, and what it says in Japanese, which it is set to."""

from __future__ import annotations

import pytest
from playwright.sync_api import Browser, expect

from dashboard.browsing import open_dashboard
from dashboard.world import World


def test_the_key_is_asked_for_kept_for_the_tab_and_forgotten(
    browser: Browser, world: World
) -> None:
    key = world.key()
    mine = world.put_run(flow_name="mine", tenant_id="blue")
    foreign = world.put_run(flow_name="foreign", tenant_id="red")
    with open_dashboard(browser, world.keyed_url) as dashboard:
        page = dashboard.open("runs")
        dialog = page.get_by_role("dialog")
        expect(dialog).to_contain_text("API キー")  # PYOCO_DASHBOARD_LANG=ja
        dialog.get_by_role("textbox").fill("pyoco_unknown1.0123456789abcdefghij")
        dialog.get_by_role("button").click()
        expect(dialog.locator(".error-text")).to_be_visible()
        dialog.get_by_role("textbox").fill(key)
        dialog.get_by_role("button").click()
        expect(dashboard.row(mine)).to_be_visible()
        expect(dashboard.row(foreign)).to_have_count(0)
        expect(page.locator(".holder")).to_have_text("blue (submit, operate, admin)")
        expect(dashboard.button("キーを忘れる")).to_be_visible()
        assert page.evaluate("sessionStorage.getItem('pyoco.key')") == key
        assert page.evaluate("Object.values(localStorage).join()").find(key) == -1
        page.reload()
        expect(dashboard.row(mine)).to_be_visible()

        page.get_by_role("combobox").first.select_option("en")
        expect(page.get_by_role("heading", name="Runs")).to_be_visible()
        dashboard.button("Forget the key").click()
        expect(page.get_by_role("dialog")).to_contain_text("API key")
        assert page.evaluate("sessionStorage.getItem('pyoco.key')") is None
        dashboard.check(failed_requests=True)


@pytest.mark.parametrize("view", ["system"])
def test_a_key_that_may_only_read_sees_what_it_may(
    browser: Browser, world: World, view: str
) -> None:
    key = world.key("--read-only")
    run_id = world.put_run(flow_name="read-only", tenant_id="blue", status="PENDING")
    with open_dashboard(browser, world.keyed_url) as dashboard:
        page = dashboard.page
        page.goto(world.keyed_url)
        page.evaluate("key => sessionStorage.setItem('pyoco.key', key)", key)
        page.evaluate("localStorage.setItem('pyoco.lang', 'en')")
        page.reload()
        dashboard.open(view)
        expect(page.locator(".holder")).to_have_text("blue: reads only")
        expect(dashboard.card("Supervision tree")).to_contain_text('lacks the role "operate"')
        expect(dashboard.card("Queues")).to_contain_text("dead letter")
        dashboard.open(f"runs/{run_id}")
        dashboard.button("Cancel").click()
        dashboard.dialog_button("Cancel").click()
        expect(dashboard.toast).to_contain_text('lacks the role "submit"')
        dashboard.check(failed_requests=True)
