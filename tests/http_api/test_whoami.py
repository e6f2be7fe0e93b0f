"""Whose a key is: over HTTP, and as the command tells it."""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path

import trio

from commands.calling import caught
from http_api.gateway import gateway
from http_api.keyed import KEYED, as_key, key_for
from pyoco_cli.client import main
from pyoco_server.model.api_key import Role

VERSION = version("pyoco-server")


async def test_a_key_is_told_whose_it_is_and_what_it_may_do(tmp_path: Path) -> None:
    async with gateway(tmp_path, worker=False, **KEYED) as (client, backend):
        key, record = await key_for(backend, "a", [Role.OPERATE, Role.SUBMIT])
        told = (await client.get("/whoami", headers=as_key(key))).json()
        assert told == {
            "tenant_id": "a",
            "key_id": record.key_id,
            "roles": ["submit", "operate"],
            "version": VERSION,
        }
        assert (await client.get("/whoami")).status_code == 401
        reader, _ = await key_for(backend, "b", [])
        words = ("--server", str(client.base_url), "--api-key", reader, "whoami")
        said = await trio.to_thread.run_sync(caught, lambda: main([*words, "--output", "table"]))
        assert said.code == 0, said.err
        for word in (str(client.base_url).rstrip("/"), VERSION, "b", "(reads only)"):
            assert word in said.out


async def test_without_keys_everybody_may_do_everything(tmp_path: Path) -> None:
    async with gateway(tmp_path, worker=False) as (client, _):
        told = (await client.get("/whoami")).json()
        assert told["roles"] == ["submit", "operate", "admin"]
        assert told["tenant_id"] is told["key_id"] is None
        words = ("--server", str(client.base_url), "whoami", "--output", "json")
        said = await trio.to_thread.run_sync(caught, lambda: main([*words]))
        assert json.loads(said.out) == {"server": str(client.base_url).rstrip("/"), **told}
