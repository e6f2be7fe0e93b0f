"""The wheel registry over HTTP: the contract's rows, races, tenants, and what is refused."""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio

from http_api.gateway import gateway
from http_api.keyed import KEYED, as_key, key_for
from nats_fixtures import away
from pyoco_server.backend import Backend
from pyoco_server.jetstream.api import call
from pyoco_server.model.api_key import Role
from wheels.hostile import hostile
from wheels.making import file_name, wheel_bytes

pytestmark = pytest.mark.nats


async def upload(
    client: httpx.AsyncClient,
    data: bytes,
    name: str = file_name(),
    *,
    key: str | None = None,
    **fields: str,
) -> httpx.Response:
    return await client.post(
        "/wheels",
        files={"wheel": (name, data)},
        data=fields,
        headers=as_key(key) if key else {},
    )


async def names(client: httpx.AsyncClient, key: str | None = None) -> list[str]:
    answer = await client.get("/wheels", headers=as_key(key) if key else {})
    return [wheel["name"] for wheel in answer.json()]


async def stored_chunks(backend: Backend) -> dict[str, int]:
    bucket = backend.settings.wheel_object_store_bucket
    info: dict[str, Any] = await call(
        backend.connection,
        f"STREAM.INFO.OBJ_{bucket}",
        {"subjects_filter": f"$O.{bucket}.>"},
        answer=dict[str, Any],
    )
    return info["state"].get("subjects") or {}


async def test_a_wheel_goes_in_and_comes_out(tmp_path: Path) -> None:
    data = wheel_bytes()
    sha = hashlib.sha256(data)
    async with gateway(tmp_path, worker=False) as (client, _):
        assert (await client.get("/wheels")).json() == []
        answer = await upload(client, data, tags="cpu, gpu")
        assert answer.status_code == 200, answer.text
        item = answer.json()
        b64 = base64.urlsafe_b64encode(sha.digest()).decode()
        known = {
            "name": file_name(),
            "size_bytes": len(data),
            "digest": f"SHA-256={b64}",
            "sha256_b64": b64,
            "sha256_hex": sha.hexdigest(),
            "bucket": "pyoco_wheels",
            "tags": ["cpu", "gpu"],
        }
        assert known.items() <= item.items()
        assert item["mtime"]
        assert item["nuid"]
        assert (await client.get("/wheels")).json() == [item]
        got = await client.get(f"/wheels/{file_name()}")
        assert got.content == data
        assert got.headers["content-type"] == "application/octet-stream"
        assert got.headers["content-disposition"] == f'attachment; filename="{file_name()}"'
        gone = await client.delete(f"/wheels/{file_name()}")
        assert (gone.status_code, gone.json()) == (200, {"name": file_name(), "deleted": True})
        for again in (
            await client.get(f"/wheels/{file_name()}"),
            await client.delete(f"/wheels/{file_name()}"),
            await client.get("/wheels/%00"),
        ):
            assert (again.status_code, again.json()["detail"]) == (404, "wheel not found")
        history = (await client.get("/wheels/history")).json()
        assert [(e["action"], e["wheel_name"]) for e in history] == [
            ("delete", file_name()),
            ("upload", file_name()),
        ]
        event = history[1]
        assert event["sha256_hex"] == sha.hexdigest()
        assert (event["replace"], event["tags"]) == (True, ["cpu", "gpu"])
        assert event["actor"] == {"tenant_id": None, "api_key_id": None}
        assert event["source"]["remote_addr"] == "127.0.0.1"
        assert event["source"]["user_agent"].startswith("python-httpx")
        only = await client.get("/wheels/history", params={"action": "upload", "limit": 1})
        assert [e["action"] for e in only.json()] == ["upload"]
        for wrong in ("action=eat", "limit=0", "limit=501", "limit=x", "wheel_name=a"):
            assert (await client.get(f"/wheels/history?{wrong}")).status_code == 422


async def test_versions_rise_also_against_deleted_ones(tmp_path: Path) -> None:
    async def version(client: httpx.AsyncClient, number: str) -> tuple[int, str]:
        answer = await upload(client, wheel_bytes("tasks", number), file_name("tasks", number))
        return answer.status_code, answer.json().get("detail", "")

    async with gateway(tmp_path, worker=False) as (client, _):
        assert (await version(client, "1.0"))[0] == 200
        assert await version(client, "1.0") == (409, "wheel version already exists; bump version")
        assert (await version(client, "2.0"))[0] == 200
        await client.delete(f"/wheels/{file_name('tasks', '2.0')}")
        too_low = (409, "wheel version must be greater than existing latest version")
        assert await version(client, "1.5") == too_low
        assert await version(client, "2.0") == (409, "wheel version already exists; bump version")
        assert (await version(client, "2.0.1"))[0] == 200
        assert (
            await upload(client, wheel_bytes("other", "0.1"), file_name("other", "0.1"))
        ).is_success


async def test_of_two_uploads_of_a_package_at_once_one_wins(tmp_path: Path) -> None:
    from pyoco_http.server import serve_http
    from pyoco_server.backend import open_backend

    async with gateway(tmp_path, worker=False) as (client, backend):
        settings = backend.settings_with_node()
        async with open_backend(settings) as second, trio.open_nursery() as nursery:
            await second.wait_ready(within=60)

            async def serve(*, task_status: trio.TaskStatus[str]) -> None:
                await serve_http(second, host="127.0.0.1", port=0, task_status=task_status)

            url = await nursery.start(serve)
            async with httpx.AsyncClient(base_url=url, timeout=60) as other:
                for round_ in range(5):
                    codes: list[int] = []

                    async def race(
                        at: httpx.AsyncClient, number: str, codes: list[int] = codes
                    ) -> None:
                        data = wheel_bytes("tasks", number)
                        codes.append(
                            (await upload(at, data, file_name("tasks", number))).status_code
                        )

                    async with trio.open_nursery() as racing:
                        for at in (client, other):
                            for _ in range(2):
                                racing.start_soon(race, at, f"{round_ + 1}.0")
                    assert sorted(codes) == [200, 409, 409, 409]
            nursery.cancel_scope.cancel()
        # A chunk and the metadata of each: the losers left nothing.
        assert len(await stored_chunks(backend)) == 10


@pytest.mark.parametrize(
    ("name", "detail"),
    [("tasks.zip", "invalid wheel name"), ("tasks-1.whl", "invalid wheel filename")],
)
async def test_names_are_refused_in_the_contracts_words(
    tmp_path: Path, name: str, detail: str
) -> None:
    async with gateway(tmp_path, worker=False) as (client, backend):
        answer = await upload(client, wheel_bytes(), name)
        assert (answer.status_code, answer.json()["detail"]) == (422, detail)
        assert await stored_chunks(backend) == {}


async def test_bad_requests_are_refused(tmp_path: Path) -> None:
    async with gateway(tmp_path, worker=False, wheel_max_bytes=100_000) as (client, backend):
        tags = await upload(client, wheel_bytes(), tags="a.b")
        assert (tags.status_code, tags.json()["detail"]) == (422, "invalid wheel tags")
        flag = await upload(client, wheel_bytes(), replace="perhaps")
        assert (flag.status_code, flag.json()["detail"]) == (422, "invalid replace")
        for size in (100_001, 3_000_000):
            large = await upload(client, os.urandom(size))
            assert (large.status_code, large.json()["detail"]) == (413, "wheel too large")
        for body in ({"content": b"x"}, {"data": {"a": "b"}}, {"files": {"other": b"x"}}):
            answer = await client.post("/wheels", **body)
            assert answer.status_code == 422, answer.text
        cut = await client.post(
            "/wheels",
            content=b'--x\r\nContent-Disposition: form-data; name="wheel"; filename="a"\r\n\r\nab',
            headers={"content-type": "multipart/form-data; boundary=x"},
        )
        assert cut.status_code == 422
        twice = await client.post(
            "/wheels",
            files={"wheel": (file_name(), wheel_bytes())},
            data={"tags": ["linux", "windows"]},
        )
        assert (twice.status_code, twice.json()["reason"]) == (422, "field 'tags' is given twice")
        assert await stored_chunks(backend) == {}


async def test_hostile_wheels_are_refused_with_the_reason_and_nothing_is_stored(
    tmp_path: Path,
) -> None:
    import re

    async with gateway(tmp_path, worker=False) as (client, backend):
        for kind, (data, reason) in hostile().items():
            answer = await upload(client, data)
            body = answer.json()
            assert (answer.status_code, body["detail"]) == (422, "invalid wheel archive"), kind
            assert re.search(reason, body["reason"]), kind
        assert await stored_chunks(backend) == {}
        assert (await client.get("/wheels/history")).json() == []


async def test_any_bytes_pass_when_the_check_is_off(tmp_path: Path) -> None:
    async with gateway(tmp_path, worker=False, wheel_check="off") as (client, _):
        assert (await upload(client, os.urandom(16))).status_code == 200


async def test_the_quota_holds(tmp_path: Path) -> None:
    first = wheel_bytes("a", "1")
    async with gateway(tmp_path, worker=False, wheel_quota_bytes=len(first) + 10) as (client, _):
        assert (await upload(client, first, file_name("a", "1"))).status_code == 200
        full = await upload(client, wheel_bytes("b", "1"), file_name("b", "1"))
        assert (full.status_code, full.json()["detail"]) == (413, "wheel registry full")
        assert "PYOCO_WHEEL_QUOTA_BYTES" in full.json()["reason"]


async def test_a_large_wheel_streams_both_ways(tmp_path: Path) -> None:
    data = wheel_bytes(files={"big.bin": os.urandom(6_000_000)}, compress=False)
    async with gateway(tmp_path, worker=False) as (client, _):
        assert (await upload(client, data)).status_code == 200
        assert (await client.get(f"/wheels/{file_name()}")).content == data


async def test_nats_away_is_a_503_and_leaves_nothing(tmp_path: Path) -> None:
    async with gateway(tmp_path, worker=False) as (client, backend):
        async with away(backend.node, backend.connection):
            answer = await upload(client, wheel_bytes())
            assert answer.status_code == 503, answer.text
            assert answer.json()["detail"].startswith("nats unavailable")
        await backend.wait_ready(within=60)
        assert (await client.get("/wheels")).json() == []


async def test_tenants_are_apart(tmp_path: Path) -> None:
    async with gateway(tmp_path, worker=False, **KEYED) as (client, backend):

        async def key(tenant: str, roles: Iterable[Role] = tuple(Role)) -> str:
            return (await key_for(backend, tenant, roles))[0]

        a, b = await key("a"), await key("b")
        operator, reader = await key("a", [Role.OPERATE]), await key("a", [])
        assert (await upload(client, wheel_bytes(), file_name())).status_code == 401
        assert (await upload(client, wheel_bytes(), key=reader)).status_code == 403
        assert (await upload(client, wheel_bytes(), key=operator, shared="true")).status_code == 403
        assert (await upload(client, wheel_bytes(), key=operator)).status_code == 200
        shared = wheel_bytes("common", "1.0"), file_name("common", "1.0")
        assert (await upload(client, *shared, key=b, shared="true")).status_code == 200
        assert await names(client, a) == [shared[1], file_name()]
        assert await names(client, b) == [shared[1]]
        mine = f"/wheels/{file_name()}"
        for answer in (
            await client.get(mine, headers=as_key(b)),
            await client.delete(mine, headers=as_key(b)),
        ):
            assert (answer.status_code, answer.json()["detail"]) == (404, "wheel not found")
        common2 = wheel_bytes("common", "2.0"), file_name("common", "2.0")
        taken = await upload(client, *common2, key=a, shared="false")
        assert (taken.status_code, taken.json()["detail"]) == (409, "wheel package name is taken")
        assert "shared=true" in taken.json()["reason"]
        assert (await upload(client, *common2, key=operator)).status_code == 409
        common = f"/wheels/{shared[1]}"
        assert (await client.get(common, headers=as_key(reader))).status_code == 200
        assert (await client.delete(common, headers=as_key(operator))).status_code == 409
        assert (await client.delete(mine, headers=as_key(reader))).status_code == 403
        assert (await client.delete(mine, headers=as_key(operator))).status_code == 200
        seen = (await client.get("/wheels/history", headers=as_key(b))).json()
        assert [event["wheel_name"] for event in seen] == [shared[1]]
        own = (await client.get("/wheels/history", headers=as_key(a))).json()
        assert {event["actor"]["tenant_id"] for event in own} == {"a", "b"}
        assert len(own) == 3


async def test_a_client_of_051_goes_on_with_what_was_there_before_tenants(tmp_path: Path) -> None:
    """It cannot say that its wheel is shared, as all of its time are."""
    async with gateway(tmp_path, worker=False, **KEYED) as (client, backend):
        a, b = (await key_for(backend, "a"))[0], (await key_for(backend, "b"))[0]
        for version in ("1.0", "1.1"):
            wheel = wheel_bytes("common", version), file_name("common", version)
            said = {"shared": "true"} if version == "1.0" else {}
            answer = await upload(client, wheel[0], wheel[1], key=a, **said)
            assert answer.status_code == 200
        assert await names(client, b) == [file_name("common", "1.0"), file_name("common", "1.1")]
        mine = wheel_bytes("mine", "1.0"), file_name("mine", "1.0")
        assert (await upload(client, *mine, key=a)).status_code == 200
        assert mine[1] not in await names(client, b)


async def test_a_version_with_an_epoch_is_taken_and_counts_above(tmp_path: Path) -> None:
    async with gateway(tmp_path, worker=False) as (client, _):
        for version in ("99.0", "1!2.0"):
            name = file_name(version=version)
            data = wheel_bytes(version=version)
            assert (await upload(client, data, name)).status_code == 200
            assert (await client.get(f"/wheels/{name}")).content == data
            assert (await client.get(f"/wheels/{name.replace('!', '%21')}")).content == data
        late = await upload(client, wheel_bytes(version="100.0"), file_name(version="100.0"))
        assert late.status_code == 409
        assert (await client.delete("/wheels/tasks-1!2.0-py3-none-any.whl")).status_code == 200


async def test_what_one_tenant_has_or_had_is_nothing_to_another(tmp_path: Path) -> None:
    """A 409 and its latest version told of packages; a version that was deleted blocked a name for all."""
    async with gateway(tmp_path, worker=False, **KEYED) as (client, backend):
        a, b = (await key_for(backend, "a"))[0], (await key_for(backend, "b"))[0]
        high = wheel_bytes("tasks", "99999.0"), file_name("tasks", "99999.0")
        assert (await upload(client, *high, key=a)).status_code == 200
        deleted = await client.delete(f"/wheels/{high[1]}", headers=as_key(a))
        assert deleted.status_code == 200
        assert (await upload(client, wheel_bytes(), key=a)).status_code == 409
        theirs = wheel_bytes(entry_points="[of]\nb = tasks:b\n")
        for data, key, shared in ((theirs, b, "false"), (wheel_bytes(), a, "true")):
            answer = await upload(client, data, key=key, shared=shared)
            assert answer.status_code == 200, answer.text
        # Their own goes before the shared one of that name, and each is deleted by itself.
        digest = hashlib.sha256(theirs).hexdigest()
        listed = (await client.get("/wheels", headers=as_key(b))).json()
        assert [(w["name"], w["tenant_id"]) for w in listed] == [
            (file_name(), None),
            (file_name(), "b"),
        ]
        got = await client.get(f"/wheels/{file_name()}", headers=as_key(b))
        assert hashlib.sha256(got.content).hexdigest() == digest
        seen = await client.get(f"/wheels/{file_name()}", headers=as_key(a))
        assert seen.content == wheel_bytes()
        for _ in range(2):
            gone = await client.delete(f"/wheels/{file_name()}", headers=as_key(b))
            assert gone.status_code == 200
        assert await names(client, b) == []
        # On the wire the shared ones have the name that 0.5.1 knows, and the others one that it passes over.
        state = await backend.wheels.state()
        owners = {owner for owner, _ in state.names}
        assert (owners, state.strange) == ({None, "a", "b"}, ())
