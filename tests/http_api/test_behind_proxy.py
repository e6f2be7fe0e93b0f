"""A gateway below a path of its host, behind nginx as the guide has it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio

from backend.stage import TAG
from http_api.gateway import events, gateway
from nginx_server import nginx
from pyoco_http.proxies import below
from pyoco_server.client import AsyncPyocoHttpClient

GUIDE = Path(__file__).resolve().parents[2] / "docs/guides/proxy.md"


@pytest.mark.parametrize(
    ("target", "taken"),
    [
        (b"/pyoco/runs?x=/pyoco/", b"/runs?x=/pyoco/"),
        (b"/pyoco/", b"/"),
        (b"/pyoco", b"/"),
        (b"/pyoco?x=1", b"/?x=1"),
        (b"/pyocoruns", b"/pyocoruns"),
        (b"/runs", b"/runs"),
        (b"/pyoco/pyoco/runs", b"/pyoco/runs"),
        (b"*", b"*"),
    ],
)
def test_what_is_left_of_a_target(target: bytes, taken: bytes) -> None:
    assert below(b"/pyoco", target) == taken
    assert below(b"", target) == target


def links(page: str) -> set[str]:
    return set(re.findall(r'(?:href|src)="([^"]*)"', page))


async def test_the_prefix_is_believed_of_trusted_proxies_only(tmp_path: Path) -> None:
    told = {"X-Forwarded-Prefix": "/deep/er/"}
    for trusted, start in (("10.0.0.0/8", "static/"), ("127.0.0.0/8,::1", "/deep/er/static/")):
        options: dict[str, Any] = {"http_trusted_proxies": trusted}
        async with gateway(tmp_path / start, worker=False, **options) as (client, _):
            page = (await client.get("/", headers=told)).text
            assert all(link.startswith(start) for link in links(page))
            for wrong in ("//evil.example", "https://evil.example", '/a"><script>', "evil", ""):
                page = (await client.get("/", headers={"X-Forwarded-Prefix": wrong})).text
                assert all(link.startswith("static/") for link in links(page)), wrong


@pytest.mark.parametrize(
    "told", [["/outer", "/inner"], ["/outer/, /inner/"], ["/outer,/inner"], ["/outer/inner"]]
)
async def test_each_of_several_proxies_tells_its_part(tmp_path: Path, told: list[str]) -> None:
    headers = [("X-Forwarded-Prefix", value) for value in told]
    async with gateway(tmp_path, worker=False, http_trusted_proxies="127.0.0.0/8") as (client, _):
        page = (await client.get("/", headers=headers)).text
        assert all(link.startswith("/outer/inner/static/") for link in links(page))
        headers.append(("X-Forwarded-Prefix", "//evil.example"))
        page = (await client.get("/", headers=headers)).text
        assert all(link.startswith("static/") for link in links(page))


def of_guide(url: httpx.URL) -> str:
    """The guide's configuration, for a gateway that listens elsewhere."""
    found = re.search(r"<!-- run: nginx -->\n```nginx\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    assert found is not None
    return found[1].replace("127.0.0.1:8000", f"127.0.0.1:{url.port}")


async def test_all_of_it_works_behind_nginx(tmp_path: Path) -> None:
    options: dict[str, Any] = {"http_root_path": "/pyoco"}
    async with gateway(tmp_path, worker=False, **options) as (direct, _):
        with nginx(tmp_path, of_guide(direct.base_url)) as port:
            url = f"http://127.0.0.1:{port}/pyoco/"
            async with httpx.AsyncClient(base_url=url, timeout=60) as client:
                await _works(client, direct, url)
            async with AsyncPyocoHttpClient(url) as ours:
                run_id = (await ours.submit_run("f", tag=TAG))["run_id"]
                assert (await ours.get_run(run_id))["status"] == "PENDING"


async def _works(client: httpx.AsyncClient, direct: httpx.AsyncClient, url: str) -> None:
    page = await client.get("")
    assert page.status_code == 200
    assert len(links(page.text)) > 20
    for link in links(page.text):
        assert link.startswith("/pyoco/static/")
        assert (await client.get(link.removeprefix("/pyoco/"))).status_code == 200, link
    origin = {"Origin": url.removesuffix("/pyoco/"), "Sec-Fetch-Site": "same-origin"}
    run = {"flow_name": "f", "tag": TAG}
    run_id = (await client.post("runs", json=run, headers=origin)).json()["run_id"]
    assert (await client.get(f"runs/{run_id}")).json()["status"] == "PENDING"
    # Held back, it would come with the first heartbeat.
    with pytest.MonkeyPatch.context() as patch, trio.fail_after(60):
        patch.setattr("pyoco_http.sse.HEARTBEAT_SECONDS", 600.0)
        async with events(client, f"/pyoco/runs/{run_id}/watch") as stream:
            event, _ = await anext(stream)
            assert event == "snapshot"
    # Those who do not come by the proxy go on as before.
    assert (await direct.get(f"/runs/{run_id}")).status_code == 200
    assert (await direct.get("/health/ready")).status_code == 200
