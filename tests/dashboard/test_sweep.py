"""Every part of the dashboard at four widths, in both themes and languages: 16 times, each as it is open.

axe-core finds nothing, nothing reaches off the screen, and a picture is taken, for a person to look at:
``PYOCO_DRILL_LONG=1 PYOCO_SWEEP_PICTURES=/tmp/pictures uv run pytest tests/dashboard/test_sweep.py``.
"""

from __future__ import annotations

import itertools
import os
import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from axe_playwright_python.base import AXE_SCRIPT
from playwright.sync_api import Browser, Page, expect

from dashboard import flows
from dashboard.browsing import Dashboard, open_dashboard
from dashboard.test_accessibility import OFF_SCREEN
from dashboard.world import World, open_world
from e2e.programs import HTTP, wait_for
from wheels.making import file_name, wheel_bytes

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(
        os.environ.get("PYOCO_DRILL_LONG") != "1", reason="the long form: PYOCO_DRILL_LONG=1"
    ),
]

PATIENCE_MS = 60_000
WIDTHS = (390, 768, 1280, 1920)
THEMES = ("light", "dark")
LANGUAGES = ("en", "ja")

BROKEN = "flow:\n  graph: a >> b\ntasks:\n  a: {callable: 'x:y'}\n  b: {calable: 'x:y'}\n"
MANY = (
    "flow:\n  graph: |\n    say >> ("
    + " & ".join(f"part_{number}" for number in range(25))
    + ") >> end\n  defaults: {text: plain}\ntasks:\n  say: {callable: 'dash_tasks:say'}\n"
    + "".join(f"  part_{number}: {{callable: 'dash_tasks:say'}}\n" for number in range(25))
    + "  end: {callable: 'dash_tasks:say'}\n"
)
SAVING = (
    "flow:\n  graph: noise >> save\ntasks:\n  noise: {callable: 'dash_tasks:noise'}\n"
    "  save: {callable: 'dash_tasks:save'}\n"
)
LONG_WORDS = (
    "the table visits_of_the_day_by_country_and_by_browser has no rows for 2026-11-28, of 14"
)


@dataclass(frozen=True)
class Shown:
    """What the pages are about."""

    world: World
    failed: str
    saved: str
    loops: str
    many: str
    running: str
    scheduled: str


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shown]:
    with open_shown(tmp_path_factory.mktemp("sweep")) as shown:
        yield shown


@contextmanager
def open_shown(folder: Path) -> Iterator[Shown]:
    """An installation with something of each kind in each view."""
    with open_world(folder, keyed=True) as world:
        for version in ("1.2.0", "1.3.0"):
            wheel = wheel_bytes("visits", version, {"visits.py": "RATE = 1\n"})
            answer = httpx.post(
                f"{world.url}/wheels",
                files={"wheel": (file_name("visits", version), wheel)},
                data={"tags": "hello"},
            )
            assert answer.status_code == 200
        world.stage.worker("--slots", "2", tags="gpu,licences", worker_id="gpu-rack-4")
        world.stage.worker("--slots", "1", tags="reports", worker_id="reports-1")
        wait_for(lambda: len(HTTP.get(f"{world.url}/workers").json()) == 3, what="the workers")
        for _ in range(12):
            world.reaches(world.submit(flows.REPORT, flow_name="hourly"), "COMPLETED")
        failed = world.submit(flows.failing(LONG_WORDS, attempts=3), flow_name="billing")
        saved, loops, many = (
            world.submit(flow, flow_name=name)
            for flow, name in ((SAVING, "export"), (flows.LOOPS, "loops"), (MANY, "fan_out"))
        )
        for run_id in (saved, loops, many):
            world.reaches(run_id, "COMPLETED")
        world.reaches(failed, "FAILED")
        schedule = {
            "schedule_id": "nightly-report",
            "name": "nightly report of all visits",
            "flow_name": "visits",
            "tag": "hello",
            "cron": "*/10 * * * *",
            "timezone": "Asia/Tokyo",
            "workflow_yaml": flows.REPORT,
            "params": {"title": "Nights"},
            "labels": {"team": "web"},
        }
        assert httpx.post(f"{world.url}/schedules", json=schedule).status_code == 200
        httpx.post(f"{world.url}/schedules/nightly-report/trigger")
        paused = schedule | {"schedule_id": "weekly", "name": "weekly", "cron": "0 3 * * 1"}
        assert httpx.post(f"{world.url}/schedules", json=paused).status_code == 200
        httpx.post(f"{world.url}/schedules/weekly/pause")
        why = {"reason": "the disk is full", "requested_by": "kim"}
        httpx.post(f"{world.url}/workers/reports-1/pause", json=why)
        for tag in ("gpu", "absent", "reports"):
            world.submit(flows.REPORT, tag=tag, flow_name="import_of_the_visits_of_the_day")
        gate = uuid.uuid4().hex
        running = world.submit(
            flows.waiting(gate).replace("dash_tasks:wait", "dash_tasks:progress"),
            flow_name="visits",
        )
        world.reaches(running, "RUNNING")
        scheduled = world.submit(flows.REPORT, flow_name="later", delay_sec=86_400)
        yield Shown(world, failed, saved, loops, many, running, scheduled)
        world.open_gate(gate)


def tour(dashboard: Dashboard, shown: Shown) -> Iterator[str]:
    """Go through every part; the name of each, when it is on the screen and at rest."""
    page = dashboard.page
    dialog = page.locator("dialog[open]")

    def close() -> None:
        page.keyboard.press("Escape")
        expect(dialog).to_have_count(0)

    dashboard.open("runs")
    expect(page.locator("tr[data-key]").nth(5)).to_be_visible()
    expect(page.locator(".histogram svg, .histogram rect").first).to_be_attached()
    yield "runs"
    if (unfold := page.locator(".unfold")).first.is_visible():
        unfold.first.click()
    page.locator("#filter-range").select_option("custom")
    yield "runs-filters"
    page.locator("#filter-range").select_option("24h")
    expect(page.locator("tr[data-key]").nth(5)).to_be_visible()
    page.locator(".filters button", has_text=re.compile("Save this view|保存")).first.click()
    yield "runs-save-view"
    dialog.locator("#view-name").fill("since yesterday")
    dialog.locator("button.primary").click()
    expect(dashboard.toast).to_be_visible()
    yield "runs-saved-view"
    dashboard.row(shown.failed).locator("input").check()
    dashboard.row(shown.running).locator("input").check()
    yield "runs-selected"
    page.locator(".runs > .card-head button.danger").click()
    yield "runs-cancel"
    close()
    dashboard.open("runs?q=nothing-of-the-kind")
    expect(page.locator(".empty")).to_be_visible()
    yield "runs-none"

    yield from of_runs(dashboard, shown, close)

    dashboard.open("submit")
    expect(page.locator(".graph .node").first).to_be_visible()
    yield "submit"
    page.locator("details summary").first.click()
    yield "submit-limits"
    page.locator("#flow-text").fill(BROKEN)
    expect(page.locator("#flow-verdict .problem")).to_be_visible()
    yield "submit-broken"

    dashboard.open("schedules")
    expect(page.locator("tr[data-key]").nth(1)).to_be_visible()
    yield "schedules"
    dashboard.open("schedules?new=1")
    page.locator("form .filters button, .filters button").first.click()
    expect(page.locator(".ticks li").first).to_be_visible()
    yield "schedules-new"
    dashboard.open("schedules/nightly-report")
    expect(page.locator(".ticks li").nth(9)).to_be_visible()
    yield "schedule"
    for tab in ("edit", "backfill", "changes"):
        page.locator(f"#tab-{tab}").click()
        if tab == "backfill":
            page.locator("#backfill-from").fill("2026-01-01T00:00:00")
            page.locator("#backfill-to").fill("2026-01-01T01:00:00")
            page.locator(".filters button").click()
            expect(page.get_by_role("tabpanel").locator("tbody tr").first).to_be_visible()
        yield f"schedule-{tab}"
    page.locator(".view-head button.danger").click()
    yield "schedule-delete"
    close()

    dashboard.open("workers")
    expect(page.locator("[data-worker]").nth(2)).to_be_visible()
    yield "workers"
    foot = page.locator('[data-worker="w1"] .card-foot button')
    for place, what in enumerate(("pause", "drain")):
        foot.nth(place).click()
        yield f"workers-{what}"
        close()
    dashboard.open("wheels")
    expect(page.locator("tr[data-key] .chip").first).to_be_visible()
    yield "wheels"
    page.locator("tr[data-key] button.danger").first.click()
    yield "wheels-delete"
    close()
    dashboard.open("dlq")
    page.locator("tr[data-key] summary").first.click()
    yield "dlq"
    page.locator("tr[data-key] button.danger").first.click()
    yield "dlq-drop"
    close()
    dashboard.open("system")
    expect(page.locator(".actor").first).to_be_visible()
    expect(page.locator(".chart-plot svg").nth(2)).to_be_attached()
    yield "system"
    page.goto(f"{dashboard.url}/docs")
    expect(page.locator("section").first).to_be_visible()
    yield "docs"


def of_runs(dashboard: Dashboard, shown: Shown, close: object) -> Iterator[str]:
    """The pages of single runs."""
    assert callable(close)
    page = dashboard.page
    dashboard.open(f"runs/{shown.failed}")
    expect(page.locator(".graph .node").first).to_be_visible()
    expect(page.locator(".timeline-row").first).to_be_visible()
    yield "run-failed"
    page.locator("details summary").first.click()
    yield "run-traceback"
    for tab in ("logs", "history", "data", "files", "flow"):
        page.locator(f"#tab-{tab}").click()
        if tab == "logs":
            page.get_by_role("tabpanel").locator("#log-search").fill("about")
        yield f"run-{tab}"
    page.locator("#tab-history").click()
    page.get_by_role("tabpanel").get_by_role("checkbox").first.check()
    yield "run-compact"

    dashboard.open(f"runs/{shown.saved}?tab=logs")
    expect(page.get_by_role("log")).to_contain_text("no such day")
    yield "run-colours"
    page.locator("#tab-files").click()
    for name, part in (
        ("data.csv", ".preview-table"),
        ("big.json", "pre.code"),
        ("pic.png", ".preview-image"),
    ):
        row = page.get_by_role("tabpanel").locator("tr", has_text=name)
        row.get_by_role("button").first.click()
        expect(page.get_by_role("tabpanel").locator(part)).to_be_visible()
        yield f"run-preview-{name}"

    dashboard.open(f"runs/{shown.loops}")
    expect(page.locator(".graph .group").nth(1)).to_be_visible()
    yield "run-loops"
    dashboard.open(f"runs/{shown.many}")
    expect(page.locator(".graph .node").nth(5)).to_be_attached()
    yield "run-many"
    dashboard.open(f"runs/{shown.running}?task=wait")
    expect(page.locator(".timeline-row").nth(1)).to_be_visible()
    yield "run-running"
    for place, what in enumerate(("commands", "cancel", "again")):
        page.locator(".view-head .buttons button").nth(place).click()
        expect(page.locator("dialog[open]")).to_be_visible()
        yield f"run-{what}"
        close()
    dashboard.open(f"runs/{shown.scheduled}")
    expect(page.locator(".graph .node").first).to_be_visible()
    page.locator(".view-head .buttons button").nth(2).click()
    yield "run-move"
    close()
    dashboard.open(f"runs/{uuid.uuid4()}")
    expect(page.get_by_role("alert")).to_be_visible()
    yield "run-unknown"


@pytest.mark.parametrize(
    ("width", "theme", "language"), list(itertools.product(WIDTHS, THEMES, LANGUAGES))
)
def test_every_part(
    browser: Browser, shown: Shown, tmp_path: Path, width: int, theme: str, language: str
) -> None:
    folder = Path(os.environ.get("PYOCO_SWEEP_PICTURES", tmp_path))
    folder.mkdir(exist_ok=True)
    wrong: list[str] = []
    for url, way in ((shown.world.url, tour), (shown.world.keyed_url, without_a_key)):
        with open_dashboard(
            browser,
            url,
            language=language,
            theme=theme,
            size=(width, 780 if width == 390 else 900),
        ) as dashboard:
            page = dashboard.page
            page.set_default_timeout(PATIENCE_MS)
            for part in way(dashboard, shown):
                path = folder / f"{part}-{width}-{theme}-{language}.png"
                page.evaluate("scrollTo(0, 0)")
                page.screenshot(path=path, full_page=part != "docs")
                wrong.extend(f"{part}: {each}" for each in faults(page, width))
            dashboard.check(failed_requests=True)
    assert wrong == []


def without_a_key(dashboard: Dashboard, shown: Shown) -> Iterator[str]:
    """What a gateway with keys shows first."""
    # The gateway speaks Japanese to those who have not chosen.
    dashboard.page.add_init_script(
        "localStorage.setItem('pyoco.lang', navigator.language.slice(0, 2))"
    )
    dashboard.open("runs")
    expect(dashboard.page.locator("#api-key")).to_be_visible()
    yield "key"


def faults(page: Page, width: int) -> Iterator[str]:
    """What axe-core finds, of any impact, and what is not on the screen."""
    if page.evaluate("window.axe === undefined"):
        page.evaluate(AXE_SCRIPT)
    for each in page.evaluate("axe.run({resultTypes: ['violations']})")["violations"]:
        yield f"{each['impact']} {each['id']}: {each['nodes'][0]['html'][:200]}"
    if page.evaluate("document.documentElement.scrollWidth") > width:
        yield "wider than the screen"
    for each in page.evaluate(OFF_SCREEN):
        yield f"off the screen: {each}"
