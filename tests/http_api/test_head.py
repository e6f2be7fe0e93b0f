"""HEAD: what a GET would be answered with, without the body."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from backend.stage import TAG, new_run
from http_api.gateway import gateway
from http_api.raw import answer_on, connected
from pyoco_server.backend import Backend

STREAMS = {
    "/runs/{run}/watch": "text/event-stream",
    "/runs/{run}/events?follow=true": "text/event-stream",
    "/runs/{run}/logs?follow=true": "text/event-stream",
    "/runs/{run}/logs?follow=true&format=text": "text/plain",
    "/runs/stream": "text/event-stream",
}


async def run_of(backend: Backend) -> str:
    return (await backend.submit(new_run("quick"))).run_id


async def test_a_stream_is_answered_at_once_and_holds_no_place(tmp_path: Path) -> None:
    options = {"http_max_streams": 1, "http_max_streams_per_client": 1}
    async with gateway(tmp_path, worker=False, **options) as (client, backend):
        run_id = await run_of(backend)
        async with connected(client) as stream:
            for path, kind in STREAMS.items():
                for _ in range(2):
                    head = f"HEAD {path.format(run=run_id)} HTTP/1.1\r\nHost: localhost\r\n\r\n"
                    await stream.send_all(head.encode())
                    answer = await answer_on(stream, method="HEAD")
                    assert (answer.status, answer.body) == (200, b""), path
                    assert answer.headers["content-type"].startswith(kind)
            # The next request of the connection is answered as well.
            await stream.send_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert (await answer_on(stream)).body == b'{"status":"ok"}'


@pytest.mark.parametrize(
    "path",
    [
        "/health",
        "/",
        "/runs",
        "/runs/counts",
        "/runs/{run}",
        "/runs/{run}/logs?format=text",
        "/metrics",
    ],
)
async def test_the_headers_are_those_of_a_get(tmp_path: Path, path: str) -> None:
    async with gateway(tmp_path, worker=False) as (client, backend):
        path = path.format(run=await run_of(backend))
        with trio.fail_after(60):
            told, head = await client.get(path), await client.head(path)
        assert (head.status_code, head.content) == (told.status_code, b"")
        assert head.headers["content-type"] == told.headers["content-type"]
        if path != "/metrics":  # which changes with each request
            assert head.headers.get("content-length") == told.headers.get("content-length")


async def test_what_is_not_there_is_no_stream(tmp_path: Path) -> None:
    async with gateway(tmp_path, worker=False) as (client, _):
        assert (await client.head("/runs/nobody/watch")).status_code == 404
        assert (await client.head(f"/runs/stream?tag={TAG}&status=NO")).status_code == 422
