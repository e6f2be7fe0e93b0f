"""The system."""

from __future__ import annotations

import re

from playwright.sync_api import expect

from dashboard import flows
from dashboard.browsing import Dashboard
from dashboard.world import World
from e2e.programs import HTTP


def test_readiness_queues_charts_and_tree(dashboard: Dashboard, world: World) -> None:
    world.reaches(world.submit(flows.REPORT), "COMPLETED")
    page = dashboard.open("system")
    expect(dashboard.card("Readiness")).to_contain_text("ready")
    expect(dashboard.card("Readiness")).to_contain_text(world.stage.nats_url)
    before = page.locator('tr[data-key="nobody"]')
    expect(dashboard.card("Queues").locator('tr[data-key="hello"]')).to_be_visible()
    expect(before).to_have_count(0)
    world.submit(flows.REPORT, tag="nobody")
    expect(before.locator("td").nth(1)).to_have_text("1")

    rate = dashboard.card("Runs ended")
    expect(rate.locator("rect.bar-good").first).to_be_attached()
    expect(rate).to_contain_text(re.compile(r"[1-9]\d* runs? ended, last hour"))
    expect(dashboard.card("Time in the queue")).to_contain_text(re.compile(r"p95 \d"))

    tree = dashboard.card("Supervision tree")
    canceller = tree.locator('[data-path="/gateway/canceller"]')
    expect(canceller).to_contain_text("mailbox 0 of")
    expect(tree.locator('[data-path="/gateway"]')).to_contain_text("supervises")
    count = canceller.inner_text()
    run_id = world.submit(flows.REPORT, tag="nobody")
    HTTP.post(f"{world.url}/runs/{run_id}/cancel").raise_for_status()
    expect(canceller).not_to_have_text(count)


def test_charts_have_axes_and_are_read_over_other_times(dashboard: Dashboard, world: World) -> None:
    world.reaches(world.submit(flows.REPORT), "COMPLETED")
    page = dashboard.open("system?span=24h")
    rate = dashboard.card("Runs ended")
    expect(rate).to_contain_text(re.compile(r"[1-9]\d* runs? ended, last 24 h"))
    heights = rate.locator(".chart-y span")
    expect(heights.last).to_have_text("0")
    most = int(heights.first.inner_text())
    assert most >= 1
    expect(rate.locator(".chart-x span")).to_have_count(5)
    # The step of now is the last one, by keyboard as by mouse.
    rate.locator(".chart-plot").focus()
    page.keyboard.press("ArrowLeft")
    # Should that step have begun after the end of the run, this one ends in it.
    world.submit(flows.REPORT)
    expect(rate.locator(".chart-read")).to_contain_text(
        re.compile(r"[1-9]\d* completed, \d+ failed")
    )
    took = dashboard.card("Time that runs took")
    took.locator(".chart-plot").hover(position={"x": 1, "y": 20})
    expect(took.locator(".chart-read")).to_contain_text(re.compile("p50 .*, p95 .*, p99 "))
    for span, words in (("30d", "last 30 days"), ("7d", "last 7 days"), ("1h", "last hour")):
        dashboard.button(words).click()
        expect(rate).to_contain_text(re.compile(f"runs? ended, {words}"))
        assert ("span=" + span in page.url) == (span != "1h")
