"""Waiting for a run with the Python client, at a gateway that a test plays."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import aclosing, closing
from functools import partial

import httpx
import pytest
import trio

from pyoco_server.client import AsyncPyocoHttpClient, HttpProblem, PyocoHttpClient, RetryPolicy

URL = "http://gateway.invalid"
MANY = 120
"""More than the 100 connections that httpx has where it is told nothing."""


def told(status: str) -> bytes:
    """What the stream tells of a run."""
    snapshot = {"run_id": "r", "status": status}
    return b"event: snapshot\ndata: %b\n\n" % json.dumps({"snapshot": snapshot}).encode()


def gateways(streamed: str, *read: str) -> Callable[[httpx.Request], httpx.Response]:
    """Answer the stream with one status, and each read of the run with the next."""
    answers = list(read)

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/watch"):
            headers = {"Content-Type": "text/event-stream"}
            return httpx.Response(200, content=told(streamed), headers=headers)
        status = answers.pop(0)
        return httpx.Response(200, json={"run_id": "r", "status": status, "task_records": {}})

    return answer


def client_of(answer: Callable[[httpx.Request], httpx.Response]) -> AsyncPyocoHttpClient:
    return AsyncPyocoHttpClient(URL, transport=httpx.MockTransport(answer))


@pytest.mark.parametrize("seconds", [None, 60])
async def test_a_gateway_that_is_behind_is_asked_again(
    seconds: float | None, autojump_clock: trio.testing.MockClock
) -> None:
    async with client_of(gateways("COMPLETED", "RUNNING", "RUNNING", "COMPLETED")) as client:
        run = await client.wait_run("r", within_seconds=seconds)
    assert run["status"] == "COMPLETED"


async def test_one_that_stays_behind_is_asked_until_the_time_is_up(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with client_of(gateways("COMPLETED", *["RUNNING"] * 100)) as client:
        with pytest.raises(TimeoutError):
            await client.wait_run("r", within_seconds=2)
    assert 2 <= trio.current_time() < 3


@pytest.mark.parametrize("seconds", [0, -1])
async def test_who_has_no_time_is_told_of_a_run_that_has_ended(seconds: float) -> None:
    answer = gateways("COMPLETED", "COMPLETED")
    async with client_of(answer) as client:
        assert (await client.wait_run("r", within_seconds=seconds))["status"] == "COMPLETED"
    with (
        PyocoHttpClient(URL, transport=httpx.MockTransport(gateways("FAILED"))) as blocking,
        closing(blocking.watch("r", within_seconds=seconds)) as events,
    ):
        (event,) = events
    assert event["data"]["snapshot"]["status"] == "FAILED"


@pytest.mark.parametrize("seconds", [0, -1])
async def test_who_has_no_time_is_told_what_is_wrong(seconds: float) -> None:
    def away(_: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("nobody is there")

    async with client_of(lambda _: httpx.Response(404, json={"detail": "gone"})) as client:
        with pytest.raises(HttpProblem, match="gone"):
            await client.wait_run("r", within_seconds=seconds)
        with pytest.raises(HttpProblem, match="gone"):
            async with aclosing(client.follow_runs(within_seconds=seconds)) as changes:
                await anext(changes)
    async with client_of(away) as client:
        with pytest.raises(httpx.ConnectError):
            await client.wait_run("r", within_seconds=seconds)


async def test_a_client_waits_for_more_runs_than_httpx_has_connections() -> None:
    """No stream tells the end before all are open."""
    opened, all_open = 0, trio.Event()

    async def serve(stream: trio.SocketStream) -> None:
        nonlocal opened
        async with stream:
            head = await stream.receive_some()
            if b"/watch" not in head:
                body = b'{"run_id": "r", "status": "COMPLETED", "task_records": {}}'
                await stream.send_all(
                    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
                    b"Connection: close\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
                )
                return
            opened += 1
            if opened == MANY:
                all_open.set()
            await all_open.wait()
            kind = b"Content-Type: text/event-stream\r\nConnection: close"
            await stream.send_all(b"HTTP/1.1 200 OK\r\n%b\r\n\r\n" % kind + told("COMPLETED"))

    with trio.fail_after(15):
        async with trio.open_nursery() as nursery:
            serving = partial(trio.serve_tcp, serve, 0, host="127.0.0.1")
            (listener,) = await nursery.start(serving)
            port = listener.socket.getsockname()[1]
            once = RetryPolicy(attempts=1)
            async with (
                AsyncPyocoHttpClient(f"http://127.0.0.1:{port}", retry=once) as client,
                trio.open_nursery() as waiting,
            ):
                for _ in range(MANY):
                    waiting.start_soon(client.wait_run, "r")
            nursery.cancel_scope.cancel()
