"""The dashboard below a path of a proxy that takes the path off, and a gateway that knows nothing of it."""

from __future__ import annotations

from pathlib import Path

from playwright.sync_api import Browser, expect

from dashboard.browsing import open_dashboard
from dashboard.world import World
from nginx_server import nginx


def test_all_pages_are_there(browser: Browser, world: World, tmp_path: Path) -> None:
    location = (
        f"location /deep/pyoco/ {{ proxy_pass {world.url}/; proxy_http_version 1.1; "
        'proxy_set_header Host $http_host; proxy_set_header Connection ""; }'
    )
    with nginx(tmp_path, location) as port:
        url = f"http://127.0.0.1:{port}/deep/pyoco"
        with open_dashboard(browser, url) as dashboard:
            page = dashboard.open("runs")
            expect(dashboard.live).to_have_text("live")
            dashboard.open("submit")
            dashboard.button("Run").click()
            expect(page.locator(".view-head .status")).to_be_visible()
            dashboard.button("Copy as command").click()
            shown = page.get_by_role("dialog").locator("code").first
            expect(shown).to_contain_text(f"--server {url} ")
            page.keyboard.press("Escape")
            dashboard.open("system")
            expect(page.get_by_text("ready", exact=True).first).to_be_visible()
            dashboard.check()
