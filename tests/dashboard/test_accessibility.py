"""Every view in both languages and themes: no serious finding of axe-core, and fit for a phone."""

from __future__ import annotations

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from dashboard import flows
from dashboard.browsing import Dashboard, open_dashboard
from dashboard.world import World

HEADINGS = {
    "runs": ("Runs", "実行"),
    "submit": ("Submit", "投入"),
    "schedules": ("Schedules", "スケジュール"),
    "workers": ("Workers", "ワーカー"),
    "wheels": ("Wheels", "Wheel"),
    "dlq": ("Dead letters", "デッドレター"),
    "system": ("System", "システム"),
}


# What reaches over the right edge and cannot be brought onto the screen by scrolling its own part.
OFF_SCREEN = """() => [...document.querySelectorAll("main *")].filter((element) => {
  const box = element.getBoundingClientRect();
  if (box.width === 0 || box.right <= innerWidth + 1) return false;
  for (let above = element; above; above = above.parentElement) {
    if (["auto", "scroll", "hidden"].includes(getComputedStyle(above).overflowX)) return false;
  }
  return !element.closest(".visually-hidden");
}).map((element) => element.outerHTML.slice(0, 200))"""


@pytest.fixture(scope="module")
def failed_run(world: World) -> str:
    run_id = world.submit(flows.failing("no rows", attempts=2))
    world.reaches(run_id, "FAILED")
    return run_id


def settled(dashboard: Dashboard, view: str) -> Page:
    """The view, when what it shows is there."""
    page = dashboard.open(view)
    if view.startswith("runs/"):
        expect(page.locator(".timeline-row").first).to_be_visible()
        expect(page.locator(".graph .node").first).to_be_visible()
    elif view == "submit":
        expect(page.locator(".graph .node").first).to_be_visible()
    else:
        expect(dashboard.live).to_have_attribute("data-state", "live")
        part = {"workers": "[data-worker]", "system": ".actor", "runs": "tr[data-key]"}
        expect(page.locator(part.get(view, ".card")).first).to_be_visible()
    return page


def serious(page: Page) -> list[str]:
    found = Axe().run(page).response["violations"]
    return [
        f"{each['id']}: {each['nodes'][0]['html'][:200]}"
        for each in found
        if each["impact"] in {"serious", "critical"}
    ]


@pytest.mark.parametrize(("language", "theme"), [("en", "light"), ("ja", "dark")])
def test_axe_finds_nothing_serious(
    browser: Browser, world: World, failed_run: str, language: str, theme: str
) -> None:
    with open_dashboard(browser, world.url, language=language, theme=theme) as dashboard:
        for view, headings in HEADINGS.items():
            page = settled(dashboard, view)
            expect(page.get_by_role("heading", level=1)).to_have_text(headings[language == "ja"])
            assert page.evaluate("document.documentElement.lang") == language
            assert page.evaluate("document.documentElement.dataset.theme") == theme
            assert serious(page) == [], view
        page = settled(dashboard, f"runs/{failed_run}")
        for tab in ("logs", "history", "data", "files", "flow"):
            page.locator(f"#tab-{tab}").click()
            assert serious(page) == [], tab
        dashboard.check()


def test_language_and_theme_are_switched_and_remembered(dashboard: Dashboard) -> None:
    page = dashboard.open("runs")
    page.get_by_label("Language").select_option("ja")
    expect(page.get_by_role("heading", level=1)).to_have_text("実行")
    dashboard.button("ダーク").click()
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    page.reload()
    expect(page.get_by_role("heading", level=1)).to_have_text("実行")
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"


def test_a_phone_needs_no_scrolling_aside(browser: Browser, world: World, failed_run: str) -> None:
    with open_dashboard(browser, world.url, size=(390, 780)) as dashboard:
        for view in (*HEADINGS, f"runs/{failed_run}"):
            page = settled(dashboard, view)
            if view == "runs":
                tall = page.locator("tr[data-key]").first.bounding_box()
                assert tall is not None
                assert tall["height"] == 104  # a card
                expect(page.locator("#filter-flow")).to_be_hidden()
                dashboard.button("Filters").click()
                expect(page.locator("#filter-flow")).to_be_visible()
            if view == "dlq":
                page.locator("summary").first.click()
            width = page.evaluate("document.documentElement.scrollWidth")
            assert width <= 390, view
            assert page.evaluate(OFF_SCREEN) == [], view
        dashboard.check()
