"""Pictures of every view; `--update-screenshots` renews those of the docs."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from dashboard import flows
from dashboard.browsing import open_dashboard
from dashboard.world import World, open_world
from e2e.programs import HTTP
from wheels.making import file_name, wheel_bytes

DOCS = Path(__file__).parents[2] / "docs" / "images"
MOST_BYTES = 150_000
PICTURES = [
    ("runs", "en", "light"),
    ("run", "en", "light"),
    ("submit", "en", "light"),
    ("workers", "en", "light"),
    ("wheels", "en", "light"),
    ("dlq", "en", "light"),
    ("system", "en", "light"),
    ("runs", "ja", "dark"),
    ("run", "ja", "dark"),
]


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[World, str]]:
    """A world with something in each view, and the run that is shown."""
    with open_world(tmp_path_factory.mktemp("pictures")) as world:
        name = file_name("visits", "1.2.0")
        wheel = wheel_bytes("visits", "1.2.0", {"visits.py": "RATE = 1\n"})
        answer = HTTP.post(
            f"{world.url}/wheels", files={"wheel": (name, wheel)}, data={"tags": "hello"}
        )
        assert answer.status_code == 200
        for flow, tag in (("nightly", "hello"), ("import", "gpu"), ("hourly", "hello")):
            world.submit(flows.REPORT, tag=tag, flow_name=flow)
        failed = world.submit(
            flows.failing("no rows for 2024-04-01", attempts=2), flow_name="billing"
        )
        world.reaches(failed, "FAILED")
        gate = uuid.uuid4().hex
        shown = world.submit(
            flows.REPORT.replace("dash_tasks:report", "dash_tasks:wait").replace(
                "    title: Visits\n", f"    gate: {gate}\n"
            ),
            flow_name="visits",
        )
        world.reaches(shown, "RUNNING")
        yield world, shown
        world.open_gate(gate)


@pytest.mark.parametrize(("view", "language", "theme"), PICTURES)
def test_picture(
    browser: Browser,
    shown: tuple[World, str],
    tmp_path: Path,
    pytestconfig: pytest.Config,
    view: str,
    language: str,
    theme: str,
) -> None:
    world, run_id = shown
    update = pytestconfig.getoption("--update-screenshots")
    folder = DOCS if update else tmp_path
    folder.mkdir(exist_ok=True)
    path = folder / f"dashboard-{view}-{language}-{theme}.png"
    with open_dashboard(
        browser, world.url, language=language, theme=theme, size=(1200, 760)
    ) as dashboard:
        page = dashboard.open(f"runs/{run_id}" if view == "run" else view)
        parts = {
            "run": '.timeline-row:has([title="report"])',
            "runs": "tr[data-key]",
            "submit": ".graph .node",
            "workers": ".slot.busy",
            "wheels": "tr[data-key] .chip",
            "dlq": "tr[data-key]",
            "system": ".actor",
        }
        expect(page.locator(parts[view]).first).to_be_visible()
        if view == "runs":
            expect(page.locator('.count[data-status="RUNNING"]')).to_contain_text("1")
        page.screenshot(path=path)
        dashboard.check()
    assert 5_000 < path.stat().st_size < MOST_BYTES
