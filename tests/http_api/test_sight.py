"""What tenants share the workers for: each is told of its own and of what is shared, an admin of all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest

from http_api.gateway import gateway
from http_api.keyed import KEYED, as_key, key_for
from http_api.seeding import put_runs, put_worker, snapshot
from http_api.test_wheels import upload
from nats_fixtures import eventually
from pyoco_server.backend import Backend
from pyoco_server.jetstream.resources import ensure_consumer
from pyoco_server.model.api_key import Role
from wheels.making import file_name, wheel_bytes

pytestmark = pytest.mark.nats

SECRET, OWN, SHARED = (file_name(name, "1.0") for name in ("secret", "own", "common"))
RUN = "5ec2e700-0000-4000-8000-00000000000b"


async def populate(client: httpx.AsyncClient, backend: Backend) -> tuple[str, str]:
    """Wheels, tags and a worker of a and b; the admin's key, and one of b that may only read."""
    a, admin = (await key_for(backend, "a"))[0], (await key_for(backend, "b"))[0]
    for name, key, shared in (("secret", a, ""), ("own", admin, ""), ("common", admin, "true")):
        data = wheel_bytes(name, "1.0")
        answer = await upload(client, data, file_name(name, "1.0"), key=key, shared=shared)
        assert answer.status_code == 200, answer.text
    for tag in ("default", "a-secret", "b-own"):
        await ensure_consumer(backend.connection, backend.settings, tag)
    state = await backend.wheels.state()
    names = sorted((SECRET, OWN, SHARED))
    await put_worker(
        backend,
        "w1",
        tags=["default", "a-secret", "b-own"],
        wheel_sync={
            "enabled": True,
            "last_result": "error",
            "last_error": f"{OWN}: torn; {SECRET}: its file is bad",
            "selected_count": 3,
            "updated_count": 3,
            "selected_wheels": names,
            "updated_wheels": names,
            "removed_wheels": [SECRET],
            "removed_count": 1,
            "skipped_incompatible_count": 2,
            "skipped_incompatible": [
                {"wheel_name": name, "package_name": name[:6], "reason": reason}
                for name, reason in ((OWN, "torn"), (SECRET, "its file is bad"))
            ],
            "installed_wheels": [
                {"wheel_name": each.wheel.name.text, "nuid": each.wheel.nuid}
                for each in state.wheels
            ],
        },
    )
    await put_runs(
        backend,
        [
            snapshot("5ec2e700-0000-4000-8000-00000000000a", tenant_id="a", tag="a-secret"),
            snapshot(RUN, tenant_id="b", tag="b-own", worker_id="w1"),
        ],
    )
    return admin, (await key_for(backend, "b", []))[0]


async def asked(client: httpx.AsyncClient, path: str, key: str) -> Any:
    answer = await client.get(path, headers=as_key(key))
    assert answer.status_code == 200, answer.text
    return answer.text if path == "/metrics" else answer.json()


async def test_tenants_are_told_of_their_own_and_of_what_is_shared(tmp_path: Path) -> None:
    async with gateway(tmp_path, worker=False, **KEYED) as (client, backend):
        admin, reader = await populate(client, backend)

        async def tags(key: str) -> list[str]:
            return [each["tag"] for each in (await asked(client, "/queues", key))["queues"]]

        async def known() -> bool:
            return await tags(admin) == ["a-secret", "b-own", "default"]

        await eventually(known)
        assert await tags(reader) == ["b-own", "default"]
        for path in (
            "/workers",
            "/queues",
            "/metrics",
            "/wheels",
            "/wheels/history",
            f"/runs/{RUN}",
        ):
            text = str(await asked(client, path, reader))
            assert "secret" not in text, (path, text)
        assert 'tag="a-secret"' in await asked(client, "/metrics", admin)

        (worker,) = await asked(client, "/workers", reader)
        sync = worker["wheel_sync"]
        assert worker["tags"] == ["default", "b-own"]
        assert sync["selected_wheels"] == sync["updated_wheels"] == [SHARED, OWN]
        assert (sync["selected_count"], sync["removed_count"]) == (2, 0)
        assert sync["last_error"] == f"{OWN}: torn"
        assert [each["wheel_name"] for each in sync["installed_wheels"]] == [SHARED, OWN]
        assert (await asked(client, f"/runs/{RUN}", reader))["worker_tags"] == ["b-own"]

        (whole,) = await asked(client, "/workers", admin)
        assert whole["tags"] == ["default", "a-secret", "b-own"]
        assert whole["wheel_sync"]["selected_wheels"] == sorted((SECRET, OWN, SHARED))


@pytest.mark.parametrize("path", ["/wheels", "/wheels/history"])
async def test_wheels_of_all_tenants_are_for_an_admin_who_asks(tmp_path: Path, path: str) -> None:
    async with gateway(tmp_path, worker=False, **KEYED) as (client, backend):
        _, reader = await populate(client, backend)
        admin, _ = await key_for(backend, "c", [Role.ADMIN])
        operator, _ = await key_for(backend, "b", [Role.SUBMIT, Role.OPERATE])

        async def names(query: str) -> set[str]:
            found = await asked(client, f"{path}{query}", admin)
            return {each.get("name") or each["wheel_name"] for each in found}

        assert await names("?all_tenants=true") == {SECRET, OWN, SHARED}
        assert await names("?all_tenants=false") == await names("") == {SHARED}
        for key in (reader, operator):
            refused = await client.get(f"{path}?all_tenants=1", headers=as_key(key))
            assert (refused.status_code, refused.json()["role"]) == (403, "admin")
            assert "secret" not in refused.text
        unreadable = await client.get(f"{path}?all_tenants=perhaps", headers=as_key(admin))
        assert unreadable.status_code == 422


async def test_where_no_keys_are_asked_for_everybody_may_ask_for_all(tmp_path: Path) -> None:
    async with gateway(tmp_path, worker=False) as (client, _):
        assert (await client.get("/wheels?all_tenants=true")).json() == []
