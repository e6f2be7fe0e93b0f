"""A gateway that asks for API keys, and keys for it."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

import httpx

from pyoco_server.backend import Backend
from pyoco_server.jetstream.keyvalue import KeyValue
from pyoco_server.model.api_key import (
    ALL_ROLES,
    ApiKeyRecord,
    Role,
    bucket_key,
    new_key,
)
from pyoco_server.model.json_text import encode_json

KEYED: dict[str, Any] = {"http_auth_mode": "api_key"}


def bucket_of(backend: Backend) -> KeyValue:
    return KeyValue(backend.connection, backend.settings.auth_kv_bucket)


async def store(backend: Backend, record: ApiKeyRecord) -> None:
    await bucket_of(backend).put(bucket_key(record.key_id), encode_json(record))


async def key_for(
    backend: Backend,
    tenant_id: str = "a",
    roles: Iterable[Role] = ALL_ROLES,
    expires_at: float | None = None,
) -> tuple[str, ApiKeyRecord]:
    """Store a new key; return its text and its record."""
    text, record = new_key(
        tenant_id,
        now=time.time(),
        pepper=backend.settings.auth_pepper,
        roles=roles,
        expires_at=expires_at,
    )
    await store(backend, record)
    return text, record


def as_key(key: str) -> dict[str, str]:
    return {"X-API-Key": key}


async def submitted(client: httpx.AsyncClient, key: str | None = None) -> str:
    """The id of a run that nobody executes."""
    headers = as_key(key) if key is not None else {}
    answer = await client.post("/runs", json={"flow_name": "x"}, headers=headers)
    assert answer.status_code == 200, answer.text
    run_id = answer.json()["run_id"]
    assert isinstance(run_id, str)
    return run_id
