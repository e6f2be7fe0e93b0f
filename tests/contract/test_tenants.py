"""Tenants are apart on every route that there is: what one has does not exist for another."""

from __future__ import annotations

from pathlib import Path

import httpx

from contract.populated import Population, populate
from http_api.answers import known_operations
from http_api.gateway import gateway
from http_api.keyed import KEYED, as_key, key_for


def names(there: Population, path: str) -> dict[str, str]:
    file = there.wheel if path.startswith("/wheels") else there.artifact
    file = "docs.css" if path.startswith("/static") else file
    return {
        "run_id": there.ended,
        "seq": str(there.letter),
        "name": file,
        "task": there.task,
        "worker_id": there.worker,
        "schedule_id": there.schedule,
    }


async def ask(
    client: httpx.AsyncClient, method: str, path: str, there: Population, key: str
) -> httpx.Response:
    """Call a route about what there is, with a body that it takes."""
    url = path.format(**names(there, path))
    query = {"timeout_sec": "1"} if path.endswith(("/watch", "/stream")) else {}
    match method, path:
        case "POST", "/runs":
            body: dict[str, object] = {"flow_name": "own"}
        case "POST", "/runs/batch":
            body = {"runs": [{"flow_name": "own"}]}
        case "PATCH" | "PUT", "/schedules/{schedule_id}":
            # Another version than one that does not exist makes none.
            body = {"flow_name": "own", "every_sec": 3600, "version": 1}
        case "POST", "/schedules/{schedule_id}/backfill":
            body = {"from": 0, "to": 1, "dry_run": True}
        case "PATCH", _:
            body = {"hidden": False}
        case _:
            body = {}
    return await client.request(method, url, params=query, json=body or None, headers=as_key(key))


async def test_what_one_tenant_has_does_not_exist_for_another(tmp_path: Path) -> None:
    async with gateway(tmp_path, worker=False, **KEYED) as (client, backend):
        key, record = await key_for(backend, "a")
        there = await populate(client, backend, key, "a")
        # One way to leave the check below: nothing that is looked for is there at all.
        own = await ask(client, "GET", "/runs/{run_id}", there, key)
        assert "secret error" in own.text
        stranger, _ = await key_for(backend, "b")
        marks = ("secret", there.ended, there.pending, record.key_id)
        wrong = []
        for method, path in known_operations():
            answer = await ask(client, method, path, there, stranger)
            if path in ("/openapi.json", "/docs"):
                continue
            hidden = path.startswith(("/runs/{", "/dlq/{", "/wheels/{", "/schedules/{"))
            if hidden and answer.status_code != 404:
                wrong.append(f"{method} {path}: {answer.status_code}")
            # What a 404 names is what was asked for.
            if answer.status_code != 404 and any(mark in answer.text for mark in marks):
                wrong.append(f"{method} {path}: {answer.text[:300]}")
        assert wrong == []
        for path in ("/runs/{run_id}", "/dlq/{seq}", "/wheels/{name}", "/schedules/{schedule_id}"):
            left = await ask(client, "GET", path, there, key)
            assert left.status_code == 200, path
        pending = await client.get(f"/runs/{there.pending}", headers=as_key(key))
        assert pending.json()["status"] == "PENDING"


async def test_every_route_asks_for_a_key_but_those_that_say_otherwise(tmp_path: Path) -> None:
    async with gateway(tmp_path, worker=False, **KEYED) as (client, backend):
        key, _ = await key_for(backend, "a")
        there = await populate(client, backend, key, "a")
        public = {"/health", "/health/ready", "/", "/static/{name}", "/openapi.json", "/docs"}
        for method, path in known_operations():
            url = path.format(**names(there, path))
            for headers, status in (({}, 401), (as_key("pyoco_nobody00.0123456789abcdef"), 403)):
                answer = await client.request(method, url, headers=headers)
                if path in public:
                    assert answer.status_code not in (401, 403), path
                else:
                    assert answer.status_code == status, (method, path)
