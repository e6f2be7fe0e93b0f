"""A thousand tasks are as soon on the screen as ten: what is off the screen is not drawn."""

from __future__ import annotations

import json
import re
import time

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

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


EVENTS = {"chain": 2 * COUNT + 3, "beside": 2 * COUNT + 3, "loop": 2 * 200 + 3}
"""Of a task its beginning and its end, of each round of a loop as well; and three of the run."""


@pytest.fixture(scope="module")
def runs(world: World) -> dict[str, str]:
    """The ids of runs of each shape."""
    return {shape: finished(world, text) for shape, text in SHAPES.items()}


@pytest.fixture
def chain(runs: dict[str, str]) -> str:
    """The id of a run of a thousand tasks, one after the other."""
    return runs["chain"]


def finished(world: World, text: str) -> str:
    run_id = world.submit(text)
    world.reaches(run_id, "COMPLETED")
    return run_id


def shown(dashboard: Dashboard, run_id: str) -> Page:
    page = dashboard.open(f"runs/{run_id}")
    expect(page.locator(".graph .node").first).to_have_attribute("data-state", "SUCCEEDED")
    expect(page.locator(".timeline-row").first).to_be_visible()
    return page


@pytest.mark.parametrize("shape", SHAPES)
def test_a_large_flow_draws_what_is_on_the_screen(
    dashboard: Dashboard, runs: dict[str, str], shape: str
) -> None:
    page = shown(dashboard, runs[shape])
    assert page.evaluate(ELEMENTS) < MOST_ELEMENTS
    panel = page.get_by_role("tabpanel")
    count = 200 if shape == "loop" else COUNT
    for tab in ("logs", "history", "data", "files", "flow"):
        page.locator(f"#tab-{tab}").click()
        if tab == "logs":
            search = page.get_by_label("Search the logs")
            search.fill("x")
            expect(panel.get_by_role("status")).to_have_text(re.compile(rf"of {count}$"))
        elif tab == "history":
            table = panel.get_by_role("table")
            expect(table).to_have_attribute("aria-rowcount", str(EVENTS[shape] + 1))
            assert page.evaluate(ELEMENTS) < MOST_ELEMENTS
            # The run itself is a line as well.
            tasks = 1 if shape == "loop" else COUNT
            page.get_by_label("One line a task").check()
            expect(table).to_have_attribute("aria-rowcount", str(tasks + 2))
        else:
            expect(panel.locator("pre, p").first).to_be_visible()
        drawn = page.evaluate(ELEMENTS)
        print(shape, tab, drawn)
        assert drawn < MOST_ELEMENTS, tab


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


def on_the_screen(rows: Locator) -> None:
    """It is there, and not only behind the edge of the part that is scrolled."""
    expect(rows).to_be_in_viewport()


def test_a_long_history_is_scrolled_searched_and_kept_whole(
    dashboard: Dashboard, chain: str
) -> None:
    page = dashboard.open(f"runs/{chain}?tab=history")
    history = dashboard.card("History")
    table = history.get_by_role("table")

    def rows(count: int) -> None:
        # Its head is a row as well.
        expect(table).to_have_attribute("aria-rowcount", str(count + 1))

    def row(number: int) -> Locator:
        return table.locator(f'[aria-rowindex="{number + 1}"]')

    rows(EVENTS["chain"])
    table.scroll_into_view_if_needed()
    on_the_screen(row(1))
    history.focus()
    page.keyboard.press("End")
    on_the_screen(row(EVENTS["chain"]))
    expect(row(1)).to_have_count(0)
    page.keyboard.press("Home")
    on_the_screen(row(1))
    assert table.locator("tbody tr").count() < 100

    # Screen after screen, no row is left out.
    page.get_by_label("Find by task, state").fill("t20")
    rows(2 * 11)
    page.get_by_label("Find by task, state").fill("t2")
    rows(2 * 111)
    on_the_screen(row(1))
    seen = max(numbers_on_the_screen(history))
    while seen < 2 * 111:
        history.evaluate("part => part.scrollBy({top: part.clientHeight - 120})")
        on_the_screen(row(seen + 1))
        seen = max(numbers_on_the_screen(history))

    # One line a task.
    page.get_by_label("One line a task").check()
    rows(111)
    last = row(111)
    history.focus()
    page.keyboard.press("End")
    expect(last.locator(".status")).to_have_text(["running", "succeeded"])
    page.get_by_label("Find by task, state").fill("no such thing")
    expect(page.get_by_text("Nothing of this happened in the run.")).to_be_visible()
    page.get_by_label("Find by task, state").fill("")
    rows(COUNT + 1)
    with page.expect_download() as download:
        dashboard.button("Download as JSON").click()
    told = json.loads(download.value.path().read_text())
    assert len(told) == EVENTS["chain"]
    assert {each["task"] for each in told if each["type"] == "task"} == set(NAMES)


def numbers_on_the_screen(part: Locator) -> list[int]:
    """The rows of a table that are between the edges of the part that is scrolled."""
    numbers: list[int] = part.evaluate(
        """part => {
          const {top, bottom} = part.getBoundingClientRect();
          return [...part.querySelectorAll("tbody tr")].filter((row) => {
            const box = row.getBoundingClientRect();
            return box.top >= top - 1 && box.bottom <= bottom + 1;
          }).map((row) => Number(row.getAttribute("aria-rowindex")) - 1);
        }"""
    )
    return numbers


def test_one_of_a_thousand_tasks_is_chosen_for_its_log(dashboard: Dashboard, chain: str) -> None:
    page = dashboard.open(f"runs/{chain}?tab=logs")
    tasks = page.locator("#log-task")
    page.get_by_label("Search the logs").fill("x")
    found = page.get_by_role("tabpanel").get_by_role("status")
    expect(found).to_have_text(re.compile(rf"of {COUNT}$"))
    expect(tasks.locator("option")).to_have_count(100)
    tasks.focus()
    expect(tasks.locator("option")).to_have_count(COUNT + 1)
    tasks.select_option("t777")
    expect(found).to_have_text(re.compile("of 1$"))
    page.keyboard.press("Tab")
    expect(tasks.locator("option")).to_have_count(101)
    expect(tasks).to_have_value("t777")


# From the first line that is drawn to the last one.
MARK = """() => {
  const lines = document.querySelectorAll(".log-line");
  getSelection().setBaseAndExtent(lines[0], 0, lines[lines.length - 1], 1);
}"""
MARKED = "getSelection().toString()"


LINES = 3_000
CHATTER = f"""\
flow:
  graph: chatter >> say
  defaults: {{lines: {LINES}, gate: said-enough, text: plain}}
tasks:
  chatter: {{callable: "dash_tasks:chatter"}}
  say: {{callable: "dash_tasks:say"}}
"""


def test_a_long_log_is_scrolled_and_searched(dashboard: Dashboard, world: World) -> None:
    run_id = world.submit(CHATTER)
    page = dashboard.open(f"runs/{run_id}?tab=logs")
    log = page.get_by_role("log")

    def line(text: str) -> Locator:
        return log.locator(".log-line", has_text=re.compile(rf"{text}\b"))

    def few() -> None:
        assert log.locator(".log-line").count() < 100
        assert page.evaluate(ELEMENTS) < MOST_ELEMENTS

    # The last line, as far as it goes.
    on_the_screen(line(f"line {LINES - 1}"))
    few()
    search = page.get_by_label("Search the logs")
    status = page.get_by_role("tabpanel").get_by_role("status")
    search.fill("line 77 ")
    expect(status).to_have_text("1 of 1")
    on_the_screen(line("line 77"))
    expect(line("line 77")).to_have_class(re.compile(r"\bat\b"))
    assert page.evaluate("CSS.highlights.get('log-search').size") == 1
    few()
    # What comes does not move what is read.
    world.open_gate("said-enough")
    expect(page.locator("#log-task option")).to_have_text(["All tasks", "chatter", "say"])
    on_the_screen(line("line 77"))
    page.locator("#log-task").select_option("say")
    expect(log.locator(".log-line")).to_have_text([re.compile("plain$")])
    page.locator("#log-task").select_option("")
    search.fill("")
    on_the_screen(line("plain"))
    on_the_screen(line("the last line of all"))
    dashboard.button("Jump to error").click()
    on_the_screen(line("KeyError"))
    log.focus()
    page.keyboard.press("End")
    on_the_screen(line("plain"))
    page.get_by_label("Wrap lines").uncheck()
    on_the_screen(line("plain"))
    log.focus()
    page.keyboard.press("Home")
    on_the_screen(line("KeyError"))
    # What is marked can be copied, however far one scrolls then.
    page.evaluate(MARK)
    marked = page.evaluate(MARKED)
    log.evaluate("log => log.scrollBy({top: 5_000})")
    expect(line("KeyError")).not_to_be_in_viewport()
    expect(log.locator(".log-line").nth(70)).to_be_attached()
    assert page.evaluate(MARKED).startswith(marked)
    page.evaluate("getSelection().removeAllRanges()")
    search.fill("line 1500 ")
    on_the_screen(line("line 1500"))
    page.get_by_label("Wrap lines").check()
    search.press("Enter")
    on_the_screen(line("line 1500"))
    # It is where it was when one comes back.
    page.locator("#tab-data").click()
    page.locator("#tab-logs").click()
    on_the_screen(line("line 1500"))
    few()


def test_many_rounds_of_many_tasks_are_few_elements(dashboard: Dashboard, world: World) -> None:
    now = time.time()

    def record(task: int) -> dict[str, object]:
        rounds = [
            {
                "path": f"repeat[{number}]",
                "state": "FAILED" if number == 7 else "SUCCEEDED",
                "started_at": now - 100 + number + task / 30,
                "ended_at": now - 100 + number + (task + 1) / 30,
            }
            for number in range(50)
        ]
        return {
            "state": "SUCCEEDED",
            "started_at": rounds[-1]["started_at"],
            "ended_at": rounds[-1]["ended_at"],
            "iterations": rounds,
            "iteration_counts": {"SUCCEEDED": 199, "FAILED": 1},
        }

    records = {f"part_{task}": record(task) for task in range(30)}
    run_id = world.put_run(tasks=dict.fromkeys(records, "SUCCEEDED"), task_records=records)
    page = dashboard.open(f"runs/{run_id}")
    expect(page.get_by_role("tabpanel")).to_contain_text("these are the last 50")
    row = page.locator(".timeline-row:has(button:text-is('part_0'))")
    for look in ("path.tone-good", "path.tone-bad", "span.tone-good"):
        expect(row.locator(look)).to_have_count(1)
    assert (row.locator("path.tone-good").get_attribute("d") or "").count("M") == 48
    assert page.evaluate(ELEMENTS) < MOST_ELEMENTS


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
        for tab, part in (("history", ".history tbody tr"), ("logs", ".log-line")):
            page.locator(f"#tab-{tab}").click()
            for width in (390, 1280):
                page.set_viewport_size({"width": width, "height": 780})
                expect(page.locator(part).first).to_be_visible()
                assert serious(page) == []
                assert page.evaluate("document.documentElement.scrollWidth") <= width
        dashboard.check()
