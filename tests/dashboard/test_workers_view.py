"""Workers and what an operator tells them."""

from __future__ import annotations

import re

from playwright.sync_api import Route, expect

from dashboard import flows
from dashboard.browsing import Dashboard
from dashboard.world import World


def test_slots_show_what_they_run(dashboard: Dashboard, world: World) -> None:
    run_id = world.submit(flows.waiting("slots"))
    page = dashboard.open("workers")
    card = page.locator('[data-worker="w1"]')
    expect(card).to_contain_text(re.compile(r"Slots: \d of 4 busy"))
    expect(card.get_by_role("link", name=run_id[:8])).to_be_visible()
    expect(card).to_contain_text(re.compile(r"Heartbeat\d+ s ago"))
    expect(card.locator(".chip").first).to_have_text("hello")
    world.open_gate("slots")
    expect(card.locator(f'.slot a[title="{run_id}"]')).to_have_count(0)
    card.locator(".facts").get_by_role("link").click()
    expect(page.locator(".view-head .status")).to_have_text("completed")


def test_more_workers_than_are_shown(dashboard: Dashboard) -> None:
    def many(route: Route) -> None:
        answer = route.fetch()
        [worker, *_] = answer.json()
        workers = [worker | {"worker_id": f"rack-{number}"} for number in range(500)]
        route.fulfill(response=answer, json=workers)

    page = dashboard.page
    page.route(re.compile(r"/workers\?"), many)
    dashboard.open("workers?q=rack-77")
    expect(page.locator("[data-worker]")).to_have_count(1)
    expect(page.get_by_text("Only the 500 that were seen last are shown.")).to_be_visible()


def test_hide_pause_and_drain(dashboard: Dashboard, world: World) -> None:
    world.stage.worker("--slots", "1", tags="spare", worker_id="w2")
    page = dashboard.open("workers")
    card = page.locator('[data-worker="w2"]')
    card.get_by_role("button", name="Pause").click()
    expect(page.get_by_role("dialog")).to_contain_text("until it is resumed")
    page.get_by_label("Reason (optional)").fill("disk is full")
    dashboard.dialog_button("Pause").click()
    paused = card.locator(".tone-warn", has_text="paused")
    expect(paused).to_be_visible()
    expect(card.locator(".facts")).to_contain_text("disk is full")
    waiting = world.submit(flows.REPORT, tag="spare")
    card.get_by_role("button", name="Resume").click()
    expect(paused).to_have_count(0)
    world.reaches(waiting, "COMPLETED")

    card.get_by_role("button", name="Hide").click()
    expect(card).to_have_count(0)
    page.get_by_label("stopped and hidden ones too").check()
    expect(page).to_have_url(re.compile("all=1"))
    expect(card.get_by_text("hidden", exact=True)).to_be_visible()
    card.get_by_role("button", name="Show").click()
    expect(card.get_by_text("hidden", exact=True)).to_have_count(0)

    gate = "drained"
    run_id = world.submit(flows.waiting(gate), tag="spare")
    expect(card.get_by_role("link", name=run_id[:8])).to_be_visible()
    card.get_by_role("button", name="Drain").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("1 run may end within 30.0 s; what has not ended then goes back")
    world.open_gate(gate)
    dashboard.dialog_button("Drain").click()
    expect(card.locator('.status[data-state="STOPPED_GRACEFUL"]')).to_be_visible()
    expect(card.get_by_role("button", name="Pause")).to_be_disabled()
