"""What every answer tells a browser not to do."""

from __future__ import annotations

from pathlib import Path

from backend.stage import TAG
from http_api.gateway import gateway
from pyoco_http.browsers import OwnNames


async def test_pages_load_nothing_foreign_and_are_not_framed(tmp_path: Path) -> None:
    async with gateway(tmp_path, worker=False) as (client, _):
        for path in ("/", "/docs", "/runs", "/openapi.json", "/nothing"):
            answer = await client.get(path)
            policy = answer.headers["content-security-policy"]
            assert "default-src 'none'" in policy, path
            assert "frame-ancestors 'none'" in policy, path
            assert "unsafe" not in policy, path
            assert "//" not in policy, path
            assert answer.headers["x-content-type-options"] == "nosniff", path


FOREIGN = [
    "evil.example",
    "evil.example:8000",
    "localhost.evil.example",
    "127.0.0.1.evil.example",
    "evil",
    "10.0.0.1",
    "0.0.0.0:8000",
    "[::2]:8000",
    "[::1",
    "evil.example:80@localhost:80x",
    "user:password@localhost",
    "localhost:8000, evil.example",
    "localhost/evil.example",
    "localhost#.evil.example",
    "localhost:http",
    "[::1%25lo]",
    "[127.0.0.1",
    "",
]
OWN = [
    "localhost",
    "LocalHost.:8000",
    "127.0.0.1:8000",
    "127.8.9.1",
    "[::1]:8000",
    "a.localhost:80",
]


async def test_a_name_that_was_made_to_point_here_reads_nothing(tmp_path: Path) -> None:
    listed = "gateway.example, [fd00::7]"
    async with gateway(tmp_path, worker=False, http_allowed_hosts=listed) as (client, _):
        run_id = (await client.post("/runs", json={"flow_name": "f", "tag": TAG})).json()["run_id"]
        # The first three without Quart, the others by it.
        paths = ["/runs", f"/runs/{run_id}", "/metrics", f"/runs/{run_id}/logs", "/workers", "/"]
        for path in [*paths, "/static/js/main.js", f"/runs/{run_id}/artifacts", "/none"]:
            for host in FOREIGN:
                refused = await client.get(path, headers={"Host": host})
                assert refused.status_code == 421, (path, host)
                assert "PYOCO_HTTP_ALLOWED_HOSTS" in refused.json()["reason"]
        for host in [*OWN, "Gateway.Example:8000", "[fd00::7]"]:
            assert (await client.get("/runs", headers={"Host": host})).status_code == 200, host
        page = {"Host": "gateway.example", "Origin": "http://gateway.example"}
        assert (await client.post(f"/runs/{run_id}/cancel", headers=page)).status_code == 200
        assert (await client.get("/health", headers={"Host": FOREIGN[0]})).status_code == 200


async def test_with_keys_any_name_is_right(tmp_path: Path) -> None:
    async with gateway(tmp_path, worker=False, http_auth_mode="api_key") as (client, _):
        answer = await client.get("/runs", headers={"Host": "gateway.example"})
        assert answer.json()["detail"] == "api key required"


def test_beyond_this_machine_any_name_is_right_where_none_is_listed() -> None:
    assert OwnNames(any_name=True).hold("gateway:8000")
    assert not OwnNames(any_name=False, listed=frozenset({"a"})).hold("gateway:8000")
