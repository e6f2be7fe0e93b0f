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

    rate = dashboard.card("Runs ended a minute, last hour")
    expect(rate.locator("rect.bar-good").first).to_be_attached()
    expect(rate).to_contain_text(re.compile(r"[1-9]\d* in the last hour"))
    expect(dashboard.card("Time in the queue, last hour")).to_contain_text(re.compile(r"Last \d"))

    tree = dashboard.card("Supervision tree")
    canceller = tree.locator('[data-path="/gateway/canceller"]')
    expect(canceller).to_contain_text("mailbox 0 of")
    expect(tree.locator('[data-path="/gateway"]')).to_contain_text("supervises")
    count = canceller.inner_text()
    run_id = world.submit(flows.REPORT, tag="nobody")
    HTTP.post(f"{world.url}/runs/{run_id}/cancel").raise_for_status()
    expect(canceller).not_to_have_text(count)
