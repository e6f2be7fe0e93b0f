"""`/docs`: what people need first, its texts as they are meant, and calls that are tried on the page."""

from __future__ import annotations

import json

import pytest
from playwright.sync_api import Locator, expect

from dashboard import flows
from dashboard.browsing import Dashboard
from dashboard.world import World


def call(dashboard: Dashboard, method: str, path: str) -> Locator:
    """An operation, unfolded."""
    page = dashboard.page
    operation = page.locator(f"section:has(form[data-method={method}][data-path='{path}'])")
    operation.locator("summary").first.click()
    return operation


def answer(operation: Locator) -> str:
    text = operation.locator("output pre").text_content()
    assert text is not None
    return text


@pytest.mark.refusals
def test_calls_are_tried_on_the_page(dashboard: Dashboard, world: World) -> None:
    page = dashboard.page
    page.goto(f"{world.url}/docs")
    headings = page.get_by_role("heading", level=2).all_text_contents()
    assert headings[:4] == ["First calls", "In every answer", "Submit", "Runs"]
    expect(page.locator("dl pre").first).to_have_text(
        f"curl -F workflow=@flow.yaml -F flow_name=main -F tag=default '{world.url}/runs/yaml'"
    )
    assert "`" not in page.locator("main").inner_text()

    submit = call(dashboard, "POST", "/runs/yaml")
    submit.locator("[name=workflow]").set_input_files(
        {"name": "flow.yaml", "mimeType": "text/yaml", "buffer": flows.REPORT.encode()}
    )
    submit.locator("[name=flow_name]").fill("from-docs")
    submit.locator("[name=tag]").fill("hello")
    submit.get_by_role("button", name="Send POST").click()
    expect(submit.locator("output")).to_contain_text("HTTP 200")
    run_id = json.loads(answer(submit))["run_id"]
    world.reaches(run_id, "COMPLETED")

    read = call(dashboard, "GET", "/runs/{run_id}")
    read.locator("[name=run_id]").fill(run_id)
    read.get_by_role("button", name="Send GET").click()
    expect(read.locator("output")).to_contain_text('"status": "COMPLETED"')
    assert json.loads(answer(read))["flow_name"] == "from-docs"

    batch = call(dashboard, "POST", "/runs")
    assert json.loads(batch.locator("textarea").input_value()) == {"flow_name": ""}
    batch.get_by_role("button", name="Send POST").click()
    expect(batch.locator("output")).to_contain_text("HTTP 422")
    expect(batch.locator("output")).to_contain_text("flow_name")


def test_with_keys_the_key_is_sent_along(dashboard: Dashboard, world: World) -> None:
    dashboard.url = world.keyed_url
    page = dashboard.page
    page.goto(f"{world.keyed_url}/docs")
    page.locator("#key").fill(world.key())
    runs = call(dashboard, "GET", "/runs")
    runs.locator("[name=limit]").fill("1")
    runs.get_by_role("button", name="Send GET").click()
    expect(runs.locator("output")).to_contain_text("HTTP 200")
