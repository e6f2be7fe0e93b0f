"""Who may call what: a policy on every route, keys, roles and tenants."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import trio
from msgspec.structs import replace

from backend.stage import running
from http_api.gateway import gateway
from http_api.keyed import KEYED, as_key, key_for, store, submitted
from pyoco_http.access import access_of
from pyoco_http.app import create_app
from pyoco_server.backend import Backend
from pyoco_server.model.api_key import Role

Gateway = tuple[httpx.AsyncClient, Backend]


@pytest.fixture
async def keyed(tmp_path: Path) -> AsyncIterator[Gateway]:
    async with gateway(tmp_path, worker=False, **KEYED) as made:
        yield made


async def test_every_route_says_who_may_call_it(tmp_path: Path) -> None:
    async with running(tmp_path, worker=False) as backend:
        app = create_app(backend)
        rules = list(app.url_map.iter_rules())
        assert len(rules) >= 6
        silent = [
            rule.rule for rule in rules if access_of(app.view_functions[rule.endpoint]) is None
        ]
        assert silent == []


@pytest.mark.parametrize("mode", ["none", "api_key"])
async def test_a_route_that_says_nothing_lets_nobody_in(tmp_path: Path, mode: str) -> None:
    async with running(tmp_path, worker=False, http_auth_mode=mode) as backend:
        app = create_app(backend)

        @app.get("/silent")
        async def silent() -> str:
            raise AssertionError("it was called")

        key, _ = await key_for(backend)
        answer = await app.test_client().get("/silent", headers={"X-API-Key": key})
        assert answer.status_code == 403
        assert (await answer.get_json())["detail"] == "not allowed"


async def test_no_key_is_401_and_any_wrong_one_403(keyed: Gateway) -> None:
    client, backend = keyed
    assert (await client.get("/health")).status_code == 200
    for headers in ({}, {"X-API-Key": ""}):
        answer = await client.get("/runs/x", headers=headers)
        assert (answer.status_code, answer.json()["detail"]) == (401, "api key required")
        assert answer.json()["err_id"] == "ERR-PYOCO-0014"
    good, record = await key_for(backend)
    _, revoked = await key_for(backend)
    wrong = [
        "x",
        "pyoco_short.short",
        good + "x",
        good.replace("pyoco_", "pyoca_"),
        f"pyoco_{'0' * 24}.{'s' * 43}",
        f"pyoco_{record.key_id}.{'s' * 43}",
    ]
    for key in wrong:
        answer = await client.get("/runs/x", headers=as_key(key))
        assert (answer.status_code, answer.json()["detail"]) == (403, "invalid api key"), key
        assert answer.json()["err_id"] == "ERR-PYOCO-0015"
    assert (await client.get("/runs/x", headers=as_key(good))).status_code == 404
    assert revoked.usable(0)


async def test_a_key_is_asked_for_before_the_body_is_looked_at(keyed: Gateway) -> None:
    client, _ = keyed
    for content in (b"not json", b"{}"):
        assert (await client.post("/runs", content=content)).status_code == 401
        wrong = await client.post("/runs", content=content, headers=as_key("x"))
        assert wrong.status_code == 403


async def test_a_run_belongs_to_its_keys_tenant(keyed: Gateway) -> None:
    client, backend = keyed
    mine, record = await key_for(backend, "mine")
    other, _ = await key_for(backend, "other")
    run_id = await submitted(client, mine)
    got = (await client.get(f"/runs/{run_id}", headers=as_key(mine))).json()
    assert (got["tenant_id"], got["api_key_id"]) == ("mine", record.key_id)
    missing = await client.get("/runs/no-such-run", headers=as_key(other))
    for method, suffix in [("GET", ""), ("GET", "/tasks"), ("GET", "/watch"), ("POST", "/cancel")]:
        answer = await client.request(method, f"/runs/{run_id}{suffix}", headers=as_key(other))
        assert answer.status_code == 404, suffix
        assert answer.json() | {"run_id": ""} == missing.json() | {"run_id": ""}
    assert (await backend.get(run_id)).cancel_requested_at is None
    cancelled = await client.post(f"/runs/{run_id}/cancel", headers=as_key(mine))
    assert cancelled.json()["cancel_requested_by"] == f"api_key:{record.key_id}"


async def test_a_role_is_needed_to_submit_and_none_to_read(keyed: Gateway) -> None:
    client, backend = keyed
    reader, _ = await key_for(backend, "a", roles=[])
    writer, _ = await key_for(backend, "a", roles=[Role.SUBMIT])
    run_id = await submitted(client, writer)
    assert (await client.get(f"/runs/{run_id}", headers=as_key(reader))).status_code == 200
    for path in ("/runs", "/runs/yaml", f"/runs/{run_id}/cancel"):
        answer = await client.post(path, content=b"not json", headers=as_key(reader))
        assert (answer.status_code, answer.json()["role"]) == (403, "submit"), path


async def test_a_revocation_takes_effect_at_once(keyed: Gateway) -> None:
    client, backend = keyed
    key, record = await key_for(backend)
    assert (await client.get("/runs/x", headers=as_key(key))).status_code == 404
    await store(backend, replace(record, revoked_at=1.0))
    with trio.fail_after(60):
        while (await client.get("/runs/x", headers=as_key(key))).status_code != 403:
            await trio.sleep(0.01)
