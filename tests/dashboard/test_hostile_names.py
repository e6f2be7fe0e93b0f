"""Whatever stands in a name is text: it runs nothing, and takes nothing of the page along."""

from __future__ import annotations

import json
import time
from typing import Any

from playwright.sync_api import Page, Route, expect

from dashboard import flows
from dashboard.browsing import Dashboard
from dashboard.world import World

SCRIPT = "<script>window.owned=1</script><img src=x onerror=window.owned=1>"
HOSTILE = f"{SCRIPT}\u202egnp.exe\u2066 👩‍👩‍👧 \"'`${{7*7}} {{{{x}}}}"
VIEWS = ("runs", "workers", "wheels", "dlq", "system")

# What the page decides by; all other texts of an answer are replaced.
_KEPT = {"status", "state", "run_id", "reason", "id", "source", "target", "kind", "parent", "event"}


def poisoned(value: Any, key: str = "") -> Any:
    """An answer with every text in it replaced that is not of a closed list."""
    if isinstance(value, dict):
        return {name: poisoned(each, name) for name, each in value.items()}
    if isinstance(value, list):
        return [poisoned(each, key) for each in value]
    return HOSTILE if isinstance(value, str) and key not in _KEPT else value


def unharmed(page: Page) -> None:
    assert page.evaluate("window.owned") is None
    assert page.locator("main script, main img").count() == 0


def test_names_in_what_is_stored(dashboard: Dashboard, world: World) -> None:
    record = {"state": "FAILED", "started_at": time.time(), "error": HOSTILE, "traceback": HOSTILE}
    run_id = world.put_run(
        flow_name=HOSTILE,
        status="FAILED",
        tag=HOSTILE,
        worker_id=HOSTILE,
        error=HOSTILE,
        params={HOSTILE: HOSTILE},
        tasks={HOSTILE: "FAILED"},
        task_records={HOSTILE: record},
        cancel_requested_at=time.time(),
        cancel_reason=HOSTILE,
        wheels=[{"name": HOSTILE, "version": HOSTILE, "sha256": HOSTILE}],
        artifacts=[{"name": HOSTILE.replace("/", "\u2215"), "size_bytes": 1, "sha256_hex": "0"}],
        attempts=[{"attempt": 1, "worker_id": HOSTILE, "started_at": 1.0, "error": HOSTILE}],
        workflow_yaml_sha256=None,
    )
    world.put_letter(reason=HOSTILE, error=HOSTILE, flow_name=HOSTILE, payload=HOSTILE)
    page = dashboard.open("runs")
    expect(dashboard.row(run_id)).to_contain_text(SCRIPT)
    unharmed(page)
    page.goto(f"{world.url}/#/dlq")
    expect(page.locator("tr", has_text=SCRIPT).first).to_be_visible()
    unharmed(page)


def test_what_tasks_print_and_raise(dashboard: Dashboard, world: World) -> None:
    run_id = world.submit(flows.failing(HOSTILE))
    world.reaches(run_id, "FAILED")
    page = dashboard.open(f"runs/{run_id}")
    expect(page.get_by_role("alert")).to_contain_text(SCRIPT)
    page.get_by_role("tab", name="Logs").click()
    expect(page.get_by_role("log")).to_contain_text(SCRIPT)
    for tab in ("History", "Params and results"):
        page.get_by_role("tab", name=tab).click()
        expect(page.get_by_role("tabpanel")).to_contain_text(SCRIPT)
    unharmed(page)


def test_every_text_of_every_answer(dashboard: Dashboard, world: World) -> None:
    run_id = world.submit(flows.LOOPS)
    world.reaches(run_id, "COMPLETED")
    page = dashboard.page

    def poison(route: Route) -> None:
        answer = route.fetch()
        if "json" in answer.headers.get("content-type", ""):
            body = json.dumps(poisoned(answer.json()))
            route.fulfill(response=answer, body=body, content_type="application/json")
        else:
            route.fulfill(response=answer)

    for route in ("workers?*", "wheels*", "wheels/**", "dlq?*", "queues", "stats", "actors"):
        page.route(f"{world.url}/{route}", poison)
    page.route(f"{world.url}/runs/*/graph", poison)
    for view in VIEWS[1:]:
        dashboard.open(view)
        expect(dashboard.live).to_have_text("live")
        unharmed(page)
    dashboard.open(f"runs/{run_id}")
    expect(page.locator(".graph .node").first).to_be_visible()
    unharmed(page)
