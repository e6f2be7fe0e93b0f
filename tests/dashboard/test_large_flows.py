"""A thousand tasks are as soon on the screen as ten: what is off the screen is not drawn."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Browser, Page, expect

from dashboard.browsing import Dashboard, open_dashboard
from dashboard.test_accessibility import serious
from dashboard.world import World

COUNT = 1_000
NAMES = [f"t{number}" for number in range(COUNT)]
MOST_ELEMENTS = 1_200
"""All of the page; a thousand tasks were 14,000 of them."""

ELEMENTS = "document.querySelectorAll('main *').length"


def file_of(graph: str, names: list[str]) -> str:
    task = "{callable: 'dash_tasks:say', inputs: {text: x}}"
    tasks = "".join(f"  {name}: {task}\n" for name in names)
    return f"flow:\n  graph: |\n    {graph}\n  defaults: {{n: 0}}\ntasks:\n{tasks}"


SHAPES = {
    "chain": file_of(" >> ".join(NAMES), NAMES),
    "beside": file_of(" & ".join(NAMES), NAMES),
    "loop": file_of("repeat(count=200) { t0 }", ["t0"]),
}


@pytest.fixture(scope="module")
def chain(world: World) -> str:
    """The id of a run of a thousand tasks, one after the other."""
    return finished(world, SHAPES["chain"])


def finished(world: World, text: str) -> str:
    run_id = world.submit(text)
    world.reaches(run_id, "COMPLETED")
    return run_id


def shown(dashboard: Dashboard, run_id: str) -> Page:
    page = dashboard.open(f"runs/{run_id}")
    expect(page.locator(".graph .node").first).to_have_attribute("data-state", "SUCCEEDED")
    expect(page.locator(".timeline-row").first).to_be_visible()
    return page


@pytest.mark.parametrize("shape", ["beside", "loop"])
def test_a_large_flow_draws_what_is_on_the_screen(
    dashboard: Dashboard, world: World, shape: str
) -> None:
    page = shown(dashboard, finished(world, SHAPES[shape]))
    assert page.evaluate(ELEMENTS) < MOST_ELEMENTS


def test_a_long_chain_is_one_node_until_it_is_wanted(dashboard: Dashboard, chain: str) -> None:
    page = shown(dashboard, chain)
    assert page.evaluate(ELEMENTS) < MOST_ELEMENTS
    folded = page.get_by_role("button", name="1000 in a row")
    expect(folded).to_contain_text("1000 succeeded")
    expect(page.locator(".minimap")).to_be_hidden()

    folded.focus()
    page.keyboard.press("Enter")
    expect(page.locator('.graph [data-task="t0"]')).to_be_visible()
    expect(page.locator(".graph [data-fold]")).to_be_focused()
    expect(page.locator('.graph [data-task="t999"]')).to_have_count(0)
    assert page.evaluate(ELEMENTS) < 2 * MOST_ELEMENTS
    # The small map has all of them, and leads to each.
    map_of = page.locator(".minimap")
    expect(map_of).to_be_visible()
    assert (map_of.locator(".bar-good").get_attribute("d") or "").count("M") == COUNT
    box = map_of.bounding_box()
    assert box is not None
    map_of.click(position={"x": box["width"] / 2, "y": box["height"] - 2})
    last = page.locator('.graph [data-task="t999"]')
    expect(last).to_have_attribute("data-state", "SUCCEEDED")
    expect(page.locator('.graph [data-task="t500"]')).to_have_count(0)
    assert page.evaluate(ELEMENTS) < 2 * MOST_ELEMENTS
    # So does the keyboard.
    last.focus()
    page.keyboard.press("Enter")
    expect(last).to_have_class("node chosen")
    expect(page.locator(".timeline-row.chosen")).to_have_attribute("aria-posinset", "1000")
    expect(page.locator(".task-list [aria-pressed=true]")).to_contain_text("t999")


def test_lists_of_a_thousand_tasks_are_scrolled_and_searched(
    dashboard: Dashboard, chain: str
) -> None:
    page = shown(dashboard, chain)
    for parts in (".timeline-row", ".task-list > [data-key]"):
        rows = page.locator(parts)
        expect(rows.first).to_have_attribute("aria-setsize", "1000")
        assert rows.count() < 100
    # From one to the next with the keyboard, beyond what is drawn at first.
    names = page.locator(".timeline button")
    names.first.focus()
    for number in range(1, 61, 10):
        for _ in range(10):
            page.keyboard.press("Tab")
        # Faster than the page is drawn is nobody.
        expect(page.locator(f'.timeline [aria-posinset="{number + 21}"]')).to_be_attached()
    focused = page.locator(".timeline-row:has(:focus)")
    expect(focused).to_have_attribute("aria-posinset", "61")
    page.keyboard.press("Enter")
    chosen = page.locator(".task-list [aria-pressed=true]")
    expect(chosen).to_be_visible()
    task = (chosen.locator(".task-name").text_content() or "").strip()
    assert re.fullmatch(r"t\d+", task)
    assert f"task={task}" in page.url

    page.get_by_label("Find by name or state").fill("t99")
    expect(page.locator(".task-list > [data-key]")).to_have_count(11)
    page.get_by_label("Find by name or state").fill("failed")
    expect(page.get_by_text("No task has this in its name or state.")).to_be_visible()


@pytest.mark.parametrize(("language", "theme"), [("en", "light"), ("ja", "dark")])
def test_they_are_for_everybody(
    browser: Browser, world: World, chain: str, language: str, theme: str
) -> None:
    with open_dashboard(browser, world.url, language=language, theme=theme) as dashboard:
        page = shown(dashboard, chain)
        assert serious(page) == []
        page.locator(".graph [data-fold]").press("Enter")
        expect(page.locator(".minimap")).to_be_visible()
        page.set_viewport_size({"width": 390, "height": 780})
        expect(page.locator(".graph .node").first).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        dashboard.check()
