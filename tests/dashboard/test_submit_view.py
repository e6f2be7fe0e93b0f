"""Submitting a flow.yaml."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import expect

from dashboard import flows
from dashboard.browsing import Dashboard
from dashboard.world import World
from e2e.programs import HTTP

TYPES = """\
flow:
  graph: say
  defaults: {text: "2024", count: 3, options: {deep: [1]}}
tasks:
  say: {callable: "dash_tasks:say"}
"""


def test_paste_fill_and_run(dashboard: Dashboard, world: World) -> None:
    page = dashboard.open("submit")
    page.get_by_label("flow.yaml").fill(TYPES)
    expect(page.locator("#flow-verdict")).to_have_text("Understood: 1 task.")
    expect(page.locator(".graph .node")).to_have_count(1)
    page.locator("#flow-name").fill("typed")
    page.locator("#flow-tag").fill("hello")
    page.locator('[data-param="text"]').fill("2025")
    page.locator('[data-param="count"]').fill("4")
    page.get_by_text("Times and limits").click()
    page.get_by_label("Time limit in seconds").fill("50.5")
    dashboard.button("Run").click()
    expect(page.locator(".view-head .status")).to_have_text("completed")
    run = world.stage.get(page.url.rpartition("/")[2])
    assert run["flow_name"] == "typed"
    assert run["tag"] == "hello"
    assert run["timeout_sec"] == 50.5
    # A text stays a text, whatever it looks like.
    assert run["params"] == {"text": "2025", "count": 4, "options": {"deep": [1]}}


NUMBERS = """\
flow:
  graph: say
  defaults:
    big: 9007199254740993
    whole: 1.0
    small: -0.0
    deep: [1.0, {id: 12345678901234567890}]
    text: "1.0"
tasks:
  say: {callable: "dash_tasks:say"}
"""


def test_numbers_pass_through_as_they_are_written(dashboard: Dashboard, world: World) -> None:
    page = dashboard.open("submit")
    page.get_by_label("flow.yaml").fill(NUMBERS)
    shown = {
        "big": "9007199254740993",
        "whole": "1.0",
        "small": "-0.0",
        "deep": '[1.0,{"id":12345678901234567890}]',
        "text": "1.0",
    }
    for name, text in shown.items():
        expect(page.locator(f'[data-param="{name}"]')).to_have_value(text)
    page.locator("#flow-tag").fill("hello")
    page.locator('[data-param="whole"]').fill("9007199254740995")
    dashboard.button("Run").click()
    expect(page.locator(".view-head .status")).to_have_text("completed")
    stored = HTTP.get(f"{world.url}/runs/{page.url.rpartition('/')[2]}").text
    deep = '[1.0,{"id":12345678901234567890}]'
    for text in ("9007199254740993", "9007199254740995", "-0.0", deep, '"1.0"'):
        assert text in stored
    page.get_by_role("tab", name="Params and results").click()
    params = page.locator("pre.code", has_text='"big"').first
    for text in ('"big": 9007199254740993', '"id": 12345678901234567890', '"small": -0.0'):
        expect(params).to_contain_text(text)


@pytest.mark.refusals
def test_errors_are_told_by_line(dashboard: Dashboard) -> None:
    page = dashboard.open("submit")
    editor = page.get_by_label("flow.yaml")
    editor.fill("flow:\n  graph: a >> b\ntasks:\n  a: {callable: 'x:y'}\n  b: {calable: 'x:y'}\n")
    verdict = page.locator("#flow-verdict")
    expect(verdict).to_contain_text("calable")
    expect(verdict.locator(".source")).to_have_text("  b: {calable: 'x:y'}\n      ^")
    expect(page.locator(".bad-line")).to_have_text("5\n")
    expect(dashboard.button("Run")).to_be_disabled()
    dashboard.button("Line 5").click()
    before = page.evaluate(
        "text => text.value.slice(0, text.selectionStart)", editor.element_handle()
    )
    assert before.count("\n") == 4
    assert before.endswith("  b: {")
    editor.fill(TYPES)
    expect(dashboard.button("Run")).to_be_enabled()
    expect(page.locator(".bad-line")).to_have_count(0)


def test_a_file_is_opened_or_dropped_and_the_draft_is_kept(
    dashboard: Dashboard, tmp_path: Path
) -> None:
    page = dashboard.open("submit")
    path = tmp_path / "flow.yaml"
    path.write_text(flows.REPORT)
    page.locator("#flow-file").set_input_files(path)
    expect(page.locator(".graph .node")).to_have_count(4)
    data = page.evaluate_handle(
        """text => {
          const data = new DataTransfer();
          data.items.add(new File([text], 'flow.yaml'));
          return data;
        }""",
        flows.LOOPS,
    )
    page.locator(".editor").dispatch_event("drop", {"dataTransfer": data})
    expect(page.locator(".graph .group")).to_have_count(2)
    page.get_by_role("link", name="Runs").first.click()
    expect(dashboard.live).to_have_text("live")
    page.go_back()
    expect(page.get_by_label("flow.yaml")).to_have_value(flows.LOOPS)


LONG = "flow:\n  graph: a\ntasks:\n" + "  # more\n" * 80


@pytest.mark.refusals
def test_line_numbers_go_with_the_text_and_an_error_takes_the_old_picture_away(
    dashboard: Dashboard,
) -> None:
    page = dashboard.open("submit")
    expect(page.locator(".graph .node")).to_have_count(2)
    page.get_by_label("flow.yaml").fill(LONG + "  a: {calable: 'x:y'}\n")
    expect(page.locator(".bad-line")).to_have_text("84\n")
    expect(page.locator(".graph .node")).to_have_count(0)
    dashboard.button("Line 84").click()
    page.evaluate("document.querySelector('#flow-text').scrollTop = 1e6")
    # The last line of the text and its number are at the same height.
    page.wait_for_function(
        """() => {
          const text = document.querySelector("#flow-text");
          const gutter = document.querySelector(".editor .gutter");
          const tall = gutter.getBoundingClientRect().height === text.getBoundingClientRect().height;
          return tall && text.scrollTop > 0 && gutter.scrollTop === text.scrollTop;
        }"""
    )


def test_the_file_and_its_params_are_remembered_until_they_are_submitted(
    dashboard: Dashboard, tmp_path: Path
) -> None:
    page = dashboard.open("submit")
    path = tmp_path / "types.yaml"
    path.write_text(TYPES)
    page.locator("#flow-file").set_input_files(path)
    page.locator('[data-param="text"]').fill("2026")
    page.locator("#flow-name").fill("remembered")
    page.locator("#flow-tag").fill("hello")
    page.reload()
    expect(page.get_by_label("flow.yaml")).to_have_value(TYPES)
    expect(page.locator('[data-param="text"]')).to_have_value("2026")
    expect(page.locator("main")).to_contain_text("types.yaml")
    expect(page.locator("#flow-name")).to_have_value("remembered")
    dashboard.button("Run").click()
    expect(page.locator(".view-head .status")).to_have_text("completed")
    dashboard.open("submit")
    expect(page.locator("#flow-name")).to_have_value("main")
    expect(page.locator('[data-param="x"]')).to_be_visible()
