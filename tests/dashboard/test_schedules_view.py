"""Schedules: made, looked at, run now, paused, changed, filled for the past and deleted."""

from __future__ import annotations

import json
import re
from importlib.resources import files
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import Route, expect

from dashboard import flows
from dashboard.browsing import Dashboard
from dashboard.world import World
from e2e.programs import HTTP
from pyoco_server.model.schedules.schedule import SAID_FIELDS

HOURLY = {"flow_name": "main", "tag": "absent", "cron": "30 * * * *"}


@pytest.mark.refusals
def test_a_schedule_from_its_text_to_its_end(dashboard: Dashboard, world: World) -> None:
    page = dashboard.open("schedules?new=1")
    text = page.locator("#schedule-text")
    fields = json.loads(text.input_value())
    fields |= {
        "name": "nightly report",
        "tag": "hello",
        "cron": "0 3 * * *",
        "workflow_yaml": flows.REPORT,
        "params": {"title": "Nights"},
    }
    text.fill(json.dumps(fields | {"cron": "0 25 * * *"}))
    dashboard.button("Show the next ticks").click()
    expect(page.locator(".problem")).to_contain_text("cron")
    text.fill(json.dumps(fields))
    dashboard.button("Show the next ticks").click()
    expect(page.locator(".ticks li")).to_have_count(5)
    expect(page.locator(".ticks li").first).to_contain_text("03:00:00")
    page.locator("#schedule-id").fill("dash-nightly")
    dashboard.button("Save").click()
    page.wait_for_url(re.compile("schedules/dash-nightly"))
    expect(page.get_by_role("heading", level=1)).to_have_text("nightly report")
    expect(dashboard.card("Next ticks").locator("li")).to_have_count(10)

    dashboard.button("Run now").click()
    past = page.get_by_role("tabpanel")
    expect(past.get_by_text("by hand")).to_be_visible()
    expect(past.locator('.status[data-state="COMPLETED"]')).to_be_visible()
    run_id = past.get_by_role("link").first.get_attribute("title")
    assert run_id is not None
    assert world.stage.get(run_id)["params"]["title"] == "Nights"

    page.get_by_role("tab", name="Edit").click()
    known = json.loads(page.locator("#schedule-text").input_value())
    page.locator("#schedule-text").fill(json.dumps(known | {"cron": "30 4 * * *"}))
    dashboard.button("Save").click()
    expect(page.locator(".facts")).to_contain_text("30 4 * * *")
    page.get_by_role("tab", name="Changes").click()
    expect(page.get_by_role("tabpanel")).to_contain_text("cron")

    page.get_by_role("tab", name="Backfill").click()
    page.locator("#backfill-from").fill("2026-01-01T00:00:00")
    page.locator("#backfill-to").fill("2026-01-03T00:00:00")
    dashboard.button("Show what would run").click()
    expect(page.get_by_role("tabpanel").locator("tbody tr")).to_have_count(2)
    dashboard.button("Submit 2 runs").click()
    dashboard.dialog_button("Submit 2 runs").click()
    expect(dashboard.toast).to_have_text("2 runs submitted")

    dashboard.button("Pause").click()
    expect(page.locator(".view-head .status")).to_have_text("paused")
    dashboard.open("schedules")
    row = page.locator('tr[data-key="dash-nightly"]')
    expect(row).to_contain_text("paused")
    row.get_by_role("button", name="Resume").click()
    expect(row).to_contain_text("active")
    lane = dashboard.card("The next 24 hours").locator('[data-key="dash-nightly"]')
    expect(lane.locator(".tick-mark")).to_have_count(1)
    row.get_by_role("link").first.click()
    dashboard.button("Delete").click()
    expect(page.get_by_role("dialog")).to_contain_text("nightly report")
    dashboard.dialog_button("Delete").click()
    # The list, which is shown when it is done.
    expect(page.get_by_role("heading", name="Schedules")).to_be_visible()
    expect(row).to_have_count(0)
    assert HTTP.get(f"{world.url}/schedules/dash-nightly").status_code == 404


@pytest.mark.refusals
def test_an_edit_keeps_what_it_does_not_touch_and_undoes_nothing_of_others(
    dashboard: Dashboard, world: World
) -> None:
    url = f"{world.url}/schedules/edited"
    given = {
        "flow_name": "main",
        "cron": "0 3 * * *",
        "memory_mb": 512,
        "cpu_sec": 30,
        "queue_ttl_sec": 600,
        "expected_start_within_sec": 60,
        "expected_end_within_sec": 900,
    }
    HTTP.put(url, json=given).raise_for_status()
    page = dashboard.open("schedules/edited?tab=edit")
    text = page.locator("#schedule-text")

    def edit(**changes: Any) -> None:
        text.fill(json.dumps(json.loads(text.input_value()) | changes))
        dashboard.button("Save").click()

    edit(cron="30 4 * * *")
    expect(page.locator(".facts")).to_contain_text("30 4 * * *")
    known = HTTP.get(url).json()
    assert {name: known[name] for name in given} == given | {"cron": "30 4 * * *"}

    # A pause is no other text.
    dashboard.button("Pause").click()
    expect(page.locator(".view-head .status")).to_have_text("paused")
    edit(jitter_sec=5)
    expect(page.locator(".facts")).to_contain_text("5.0 s")

    # The page knows of it before the other one is saved.
    HTTP.patch(url, json={"cron": "45 5 * * *"}).raise_for_status()
    expect(page.locator(".facts")).to_contain_text("45 5 * * *")
    edit(params={"mine": 1})
    expect(page.locator(".problem")).to_contain_text("schedule changed")
    assert HTTP.get(url).json()["cron"] == "45 5 * * *"
    HTTP.delete(url).raise_for_status()


def test_a_rule_that_is_edited_is_previewed_from_where_it_began(
    dashboard: Dashboard, world: World
) -> None:
    url = f"{world.url}/schedules/ruled"
    rule = {"flow_name": "main", "tag": "absent", "rrule": "FREQ=DAILY;INTERVAL=3"}
    HTTP.put(url, json=rule).raise_for_status()
    page = dashboard.open("schedules/ruled?tab=edit")
    dashboard.button("Show the next ticks").click()
    shown = page.get_by_role("tabpanel").locator(".ticks li")
    expect(shown).to_have_count(5)
    coming = dashboard.card("Next ticks").locator("li")
    assert shown.all_inner_texts() == coming.all_inner_texts()[:5]
    HTTP.delete(url).raise_for_status()


def test_the_last_of_many_schedules_is_due_and_found(dashboard: Dashboard, world: World) -> None:
    ids = [f"many-{number:03}" for number in range(201)]
    for schedule_id in ids:
        rare = {} if schedule_id == ids[-1] else {"cron": "0 3 29 2 *"}
        HTTP.put(f"{world.url}/schedules/{schedule_id}", json=HOURLY | rare).raise_for_status()
    try:
        page = dashboard.open("schedules")
        lane = dashboard.card("The next 24 hours").locator(f'[data-key="{ids[-1]}"]')
        expect(lane.locator(".tick-mark")).to_have_count(24)
        first = page.get_by_text("Only the first 100 are shown.")
        expect(first).to_be_visible()
        row = page.locator(f'tr[data-key="{ids[-1]}"]')
        expect(row).to_have_count(0)

        page.get_by_label("Search id, name").fill("many-2")
        expect(row).to_be_visible()
        expect(page.locator("tr[data-key]")).to_have_count(1)
        expect(first).to_be_hidden()
        page.wait_for_url(re.compile("q=many-2"))
        page.reload()
        expect(page.locator("tr[data-key]")).to_have_count(1)
        page.get_by_label("Search id, name").fill("of-this-name-is-none")
        expect(page.locator(".empty")).to_contain_text("No schedule fits this search.")
        page.get_by_label("Search id, name").fill("")
        for _ in range(2):
            dashboard.button("Show more").click()
        expect(row).to_be_visible()
        expect(dashboard.button("Show more")).to_be_hidden()
    finally:
        for schedule_id in ids:
            HTTP.delete(f"{world.url}/schedules/{schedule_id}")


def test_what_is_too_much_for_the_page_is_said(dashboard: Dashboard, world: World) -> None:
    HTTP.put(f"{world.url}/schedules/one-of-many", json=HOURLY).raise_for_status()
    known: dict[str, Any] = {}

    def endless(route: Route) -> None:
        answer = route.fetch()
        parts = urlsplit(route.request.url)
        query = parse_qs(parts.query)
        [limit], [cursor] = query["limit"], query.get("cursor", [""])
        [item, *_] = answer.json()["items"] or [known[parts.path]]
        known[parts.path] = item
        items = [item | {"schedule_id": f"{cursor}{number}"} for number in range(int(limit))]
        told = answer.json() | {"items": items, "next_cursor": f"{cursor}x"}
        route.fulfill(response=answer, json=told)

    page = dashboard.page
    page.route(re.compile(r"/schedules(/calendar)?\?"), endless)
    dashboard.open("schedules")
    notes = page.get_by_text("Only the first 1000 are shown.")
    expect(notes).to_have_count(1)  # of what is due
    more = dashboard.button("Show more")
    for count in (200, 400, 800, 1000):
        more.click()
        expect(page.get_by_text(f"Only the first {count} are shown.").first).to_be_visible()
    expect(more).to_be_hidden()
    expect(notes).to_have_count(2)
    HTTP.delete(f"{world.url}/schedules/one-of-many")


def test_the_editor_knows_every_field() -> None:
    editor = (files("pyoco_http") / "static/js/parts/schedule_editor.js").read_text()
    listed = re.search(r"const FIELDS = \[(.*?)\]", editor, re.DOTALL)
    assert listed is not None
    assert sorted(re.findall(r'"(\w+)"', listed[1])) == sorted(SAID_FIELDS)
