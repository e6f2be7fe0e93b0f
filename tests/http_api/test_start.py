"""The gateway's port opens when what it is asked can be done."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import httpx
import pytest
import trio

from backend.stage import settings_for
from e2e.programs import Stage, wait_for
from nats_fixtures import Node
from ports import free_port
from pyoco_http.server import PortBusy, serve_http
from pyoco_server.backend import Backend, open_backend


@asynccontextmanager
async def starting(
    folder: Path, nats_url: str, port: int, startup_wait_sec: float = 30.0
) -> AsyncIterator[tuple[httpx.AsyncClient, Backend]]:
    """A gateway that has just been started."""
    settings = settings_for(folder, startup_wait_sec=startup_wait_sec)
    async with open_backend(settings, nats=nats_url) as backend, trio.open_nursery() as nursery:
        nursery.start_soon(partial(serve_http, backend, host="127.0.0.1", port=port))
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
            yield client, backend
        nursery.cancel_scope.cancel()


async def health(client: httpx.AsyncClient) -> None:
    """Wait for the first answer of `/health`, as scripts do."""
    with trio.fail_after(60):
        while True:
            try:
                assert (await client.get("/health")).status_code == 200
            except httpx.ConnectError:
                await trio.sleep(0.002)
            else:
                return


async def test_who_is_answered_can_submit_and_read(tmp_path: Path, nats_node: Node) -> None:
    for number in range(3):  # into a new installation, and into one that is there
        async with starting(tmp_path, nats_node.url, free_port()) as (client, _):
            await health(client)
            answer = await client.post("/runs", json={"flow_name": "x"})
            assert answer.status_code == 200, answer.text
            assert len((await client.get("/runs")).json()) == number + 1
            assert (await client.get("/health/ready")).status_code == 200


async def test_without_nats_it_opens_after_a_while_and_says_so(tmp_path: Path) -> None:
    nowhere = f"nats://127.0.0.1:{free_port()}"
    async with starting(tmp_path, nowhere, free_port(), startup_wait_sec=0.5) as (client, _):
        began = trio.current_time()
        await health(client)
        assert trio.current_time() - began >= 0.4
        for answer in (
            await client.post("/runs", json={"flow_name": "x"}),
            await client.get("/runs"),
            await client.get("/health/ready"),
        ):
            assert answer.status_code == 503
            assert "NATS is not connected" in answer.text


async def test_a_port_that_is_taken_is_refused_at_once(tmp_path: Path) -> None:
    nowhere = f"nats://127.0.0.1:{free_port()}"
    with trio.socket.socket() as other:
        await other.bind(("127.0.0.1", 0))
        other.listen()
        with trio.fail_after(20), pytest.RaisesGroup(PortBusy, flatten_subgroups=True):
            async with starting(tmp_path, nowhere, other.getsockname()[1]):
                await trio.sleep_forever()


def test_a_stop_while_it_waits_for_nats_is_followed_at_once(tmp_path: Path) -> None:
    stage = Stage(tmp_path, {**os.environ, "PYOCO_STARTUP_WAIT_SEC": "600"})
    try:
        program = stage.start(
            "pyoco-server",
            *("--port", str(stage.http_port), "--nats-url", stage.nats_url),
        )
        wait_for(lambda: "NATS not reached" in program.text(), what="a gateway that waits")
        program.send(signal.SIGTERM)
        assert program.wait(within=60) == 0
    finally:
        for program in stage.programs:
            program.stop()
