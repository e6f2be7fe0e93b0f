"""What was typed stays when the page is drawn anew: in another language, or because another key is used."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from playwright.sync_api import Browser, Page, expect

from dashboard import flows
from dashboard.browsing import Dashboard, open_dashboard
from dashboard.world import World
from e2e.programs import HTTP

FIELDS = {"flow_name": "main", "tag": "absent", "cron": "0 3 * * *"}


def speak(page: Page, language: str, heading: str) -> None:
    page.locator(".topbar select").select_option(language)
    expect(page.get_by_role("heading", name=heading, exact=True).first).to_be_visible()


@contextmanager
def with_key(browser: Browser, world: World, key: str, place: str) -> Iterator[Dashboard]:
    """A page of the gateway that asks for keys, which has one."""
    with open_dashboard(browser, world.keyed_url) as dashboard:
        page = dashboard.page
        page.goto(world.keyed_url)
        page.evaluate("key => sessionStorage.setItem('pyoco.key', key)", key)
        page.evaluate("localStorage.setItem('pyoco.lang', 'en')")
        page.reload()
        dashboard.open(place)
        yield dashboard
        dashboard.check(failed_requests=True)


def another_key(page: Page, key: str) -> None:
    """Have the one in use refused, as one that has expired, and give another one."""
    page.evaluate("sessionStorage.setItem('pyoco.key', 'pyoco_unknown1.0123456789abcdefghij')")
    page.locator("#api-key").fill(key)
    page.get_by_role("button", name="Use this key").click()
    expect(page.locator("#api-key")).to_have_count(0)


def test_a_new_schedule(dashboard: Dashboard, world: World) -> None:
    name = f"typed-{uuid.uuid4().hex[:8]}"
    page = dashboard.open("schedules?new=1")
    page.locator("#schedule-id").fill(name)
    page.locator("#schedule-text").fill(json.dumps(FIELDS))
    speak(page, "ja", "新しいスケジュール")
    expect(page.locator("#schedule-id")).to_have_value(name)
    expect(page.locator("#schedule-text")).to_have_value(json.dumps(FIELDS))
    dashboard.button("保存").click()
    page.wait_for_url(re.compile(name))

    # On another page it is gone.
    dashboard.open("schedules?new=1")
    expect(page.locator("#schedule-id")).to_have_value("")
    HTTP.delete(f"{world.url}/schedules/{name}").raise_for_status()


@pytest.mark.refusals
def test_an_edit_and_which_version_it_is_of(dashboard: Dashboard, world: World) -> None:
    url = f"{world.url}/schedules/typed"
    HTTP.put(url, json=FIELDS).raise_for_status()
    page = dashboard.open("schedules/typed?tab=edit")
    text = json.dumps(FIELDS | {"cron": "0 4 * * *"})
    page.locator("#schedule-text").fill(text)
    HTTP.patch(url, json={"cron": "45 5 * * *"}).raise_for_status()
    expect(page.locator(".facts")).to_contain_text("45 5 * * *")
    speak(page, "ja", "スケジュール")
    expect(page.locator("#schedule-text")).to_have_value(text)
    dashboard.button("保存").click()
    expect(page.locator(".problem")).to_contain_text("schedule changed")
    assert HTTP.get(url).json()["cron"] == "45 5 * * *"

    page.locator("#tab-backfill").click()
    page.locator("#backfill-from").fill("2026-01-01T00:00:30")
    page.locator("#backfill-limit").fill("7")
    speak(page, "en", "Schedule")
    expect(page.locator("#backfill-from")).to_have_value("2026-01-01T00:00:30")
    expect(page.locator("#backfill-limit")).to_have_value("7")
    HTTP.delete(url).raise_for_status()


def test_limits_of_a_submission(dashboard: Dashboard, world: World) -> None:
    page = dashboard.open("submit")
    page.get_by_label("flow.yaml").fill(flows.REPORT)
    page.locator("#flow-tag").fill("absent")
    page.get_by_text("Times and limits").click()
    tomorrow = datetime.now(ZoneInfo("Asia/Tokyo")).replace(second=30, microsecond=0) + timedelta(
        days=1
    )
    page.locator("#limit-start_at").fill(f"{tomorrow:%Y-%m-%dT%H:%M:%S}")
    page.locator("#limit-timeout_sec").fill("50.5")
    speak(page, "ja", "投入")
    expect(page.locator("#limit-start_at")).to_be_visible()
    expect(page.locator("#limit-start_at")).to_have_value(f"{tomorrow:%Y-%m-%dT%H:%M:%S}")
    expect(page.locator("#limit-timeout_sec")).to_have_value("50.5")
    page.reload()
    expect(page.locator("#limit-timeout_sec")).to_have_value("50.5")
    dashboard.button("実行").click()
    page.wait_for_url(re.compile("#/runs/"))
    run = world.stage.get(page.url.rpartition("/")[2])
    assert run["timeout_sec"] == 50.5
    assert run["scheduled_for"] == tomorrow.timestamp()
    HTTP.post(f"{world.url}/runs/{run['run_id']}/cancel").raise_for_status()
    dashboard.open("submit")
    expect(page.locator("#limit-timeout_sec")).to_have_value("")
    expect(page.locator("#limit-timeout_sec")).to_be_hidden()


def test_tags_of_wheels(dashboard: Dashboard) -> None:
    page = dashboard.open("wheels")
    page.locator("#wheel-tags").fill("hello,gpu")
    speak(page, "ja", "登録済み")
    expect(page.locator("#wheel-tags")).to_have_value("hello,gpu")


def test_an_edit_while_a_key_expires(browser: Browser, world: World) -> None:
    key = world.key()
    url = f"{world.keyed_url}/schedules/typed-keyed"
    HTTP.put(url, json=FIELDS, headers={"X-API-Key": key}).raise_for_status()
    with with_key(browser, world, key, "schedules/typed-keyed?tab=edit") as dashboard:
        page = dashboard.page
        text = json.dumps(FIELDS | {"cron": "0 4 * * *"})
        page.locator("#schedule-text").fill(text)
        another_key(page, world.key("--read-only"))
        expect(page.locator(".holder")).to_have_text("blue: reads only")
        expect(dashboard.live).to_have_text("live")
        expect(page.locator("#schedule-text")).to_have_value(text)
        another_key(page, key)
        dashboard.button("Save").click()
        expect(page.locator(".facts")).to_contain_text("0 4 * * *")
    HTTP.delete(url, headers={"X-API-Key": key}).raise_for_status()


def test_nothing_of_one_tenant_is_shown_to_the_key_of_another(
    browser: Browser, world: World
) -> None:
    mine = world.put_run(flow_name="mine", tenant_id="blue")
    with with_key(browser, world, world.key(), "runs") as dashboard:
        expect(dashboard.row(mine)).to_be_visible()
        expect(dashboard.page.locator(".holder")).to_contain_text("blue")
        red = world.key(tenant="red")
        dashboard.page.evaluate(
            "sessionStorage.setItem('pyoco.key', 'pyoco_unknown1.0123456789abcdefghij')"
        )
        dashboard.page.locator("#filter-flow").fill("mine")
        dashboard.page.locator("#api-key").fill(red)
        dashboard.button("Use this key").click()
        expect(dashboard.page.locator(".holder")).to_contain_text("red")
        expect(dashboard.row(mine)).to_have_count(0)
