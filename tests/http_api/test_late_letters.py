"""Dead letters that are asked for as soon as their runs are seen to be FAILED."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest
import trio

from backend.stage import TAG, ended
from http_api.gateway import gateway
from http_api.test_seen import SEEN, STALE, second_gateway
from pyoco_server.gateway import late_letters
from pyoco_server.store.dead_letters import DeadLetterStore


def letters_late_by(seconds: float, patch: pytest.MonkeyPatch) -> None:
    write = DeadLetterStore.write

    async def late(self: DeadLetterStore, *letter: Any, **details: Any) -> None:
        await trio.sleep(seconds)
        await write(self, *letter, **details)

    patch.setattr(DeadLetterStore, "write", late)


async def failed(client: httpx.AsyncClient, flow: str = "broken") -> httpx.Response:
    """The answer that tells of a run that has just FAILED."""
    answer = await client.post("/runs", json={"flow_name": flow, "tag": TAG})
    run_id = answer.json()["run_id"]
    with trio.fail_after(60):
        while (told := await client.get(f"/runs/{run_id}")).json()["status"] != "FAILED":
            await trio.sleep(0.005)
    return told


async def letters(
    client: httpx.AsyncClient, *, seen: httpx.Response | None = None, **query: Any
) -> list[str]:
    told = {} if seen is None else {SEEN: seen.headers[SEEN]}
    answer = await client.get("/dlq", params=query, headers=told)
    assert answer.status_code == 200, answer.text
    assert STALE not in answer.headers
    return [letter["run_id"] for letter in answer.json()["items"]]


async def test_the_letter_is_there_when_its_run_is_told_to_be_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    letters_late_by(0.2, monkeypatch)
    # However busy the machine is.
    monkeypatch.setattr(late_letters, "_PATIENCE_SECONDS", 20.0)
    async with gateway(tmp_path) as (client, backend), second_gateway(tmp_path, backend) as other:
        for query in ({}, {"tag": TAG}, {"limit": 1}, {"reason": "execution_error"}):
            run_id = (await failed(client)).json()["run_id"]
            assert (await letters(client, **query))[0] == run_id
        run_id = (await failed(client, "no-such-flow")).json()["run_id"]
        assert await letters(client, run_id=run_id) == [run_id]
        told = await failed(client)
        assert (await letters(other, seen=told))[0] == told.json()["run_id"]
        assert await letters(client, tag="another") == []


async def test_no_letter_stays_of_a_run_that_is_repeated_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    letters_late_by(0.2, monkeypatch)
    monkeypatch.setattr(late_letters, "_PATIENCE_SECONDS", 20.0)
    async with gateway(tmp_path) as (client, backend):
        run_id = (await failed(client)).json()["run_id"]
        again = (await client.post(f"/runs/{run_id}/retry")).json()["run_id"]
        assert (await ended(backend, again)).status == "FAILED"
        assert await letters(client) == [again]


async def test_what_takes_longer_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    release = trio.Event()
    write = DeadLetterStore.write

    async def held(self: DeadLetterStore, *letter: Any, **details: Any) -> None:
        await release.wait()
        await write(self, *letter, **details)

    monkeypatch.setattr(DeadLetterStore, "write", held)
    monkeypatch.setattr(late_letters, "_LATE_SECONDS", 600.0)
    async with gateway(tmp_path) as (client, _):
        run_id = (await failed(client)).json()["run_id"]
        answer = await client.get("/dlq")
        assert (answer.json()["items"], answer.headers[STALE]) == ([], "true")
        release.set()
        monkeypatch.setattr(late_letters, "_PATIENCE_SECONDS", 20.0)
        assert await letters(client) == [run_id]


async def test_none_is_waited_for_where_none_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(late_letters, "_LATE_SECONDS", 600.0)
    async with gateway(tmp_path, dlq_publish_execution_error=False) as (client, _):
        await failed(client)
        assert await letters(client) == []
