"""A gateway over a real server, backend and NATS node, and what tests send to it and read of it."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import h11
import httpx
import pytest
import trio

from backend.stage import TAG, running
from http_api.answers import Reader
from pyoco_http.server import serve_http
from pyoco_server.backend import Backend

YAML = b"""\
flow:
  graph: add_one >> to_text
  defaults: {x: 1}
tasks:
  add_one: {callable: "pyoco_server._workflow_test_tasks:add_one"}
  to_text: {callable: "pyoco_server._workflow_test_tasks:to_text"}
"""


@asynccontextmanager
async def gateway(
    folder: Path, *, catch_up_seconds: float = 30.0, **options: Any
) -> AsyncIterator[tuple[httpx.AsyncClient, Backend]]:
    """A gateway, whose lists wait for what they should hold for as long as a busy machine may take."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pyoco_server.gateway.read_side._CATCH_UP_SECONDS", catch_up_seconds)
        async with running(folder, **options) as backend, trio.open_nursery() as nursery:
            url = await nursery.start(partial(serve_http, backend, host="127.0.0.1", port=0))
            async with client_of(url) as client:
                yield client, backend
            nursery.cancel_scope.cancel()


@asynccontextmanager
async def client_of(url: str) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a gateway, each of whose answers is read against the API description."""
    reader = Reader()

    async def read(response: httpx.Response) -> None:
        if "text/event-stream" not in response.headers.get("content-type", ""):
            await response.aread()
            reader.read(response)

    hooks = {"response": [read]}
    async with httpx.AsyncClient(base_url=url, timeout=60, event_hooks=hooks) as client:
        yield client


Event = tuple[str, dict[str, Any]]


@asynccontextmanager
async def events(
    client: httpx.AsyncClient, path: str
) -> AsyncIterator[AsyncGenerator[Event, None]]:
    """The server-sent events of a path. On h11, since httpx leaves generators of its own unclosed."""
    http, reader = h11.Connection(h11.CLIENT), Reader()
    host, port = client.base_url.host, client.base_url.port or 80

    async def pieces(stream: trio.SocketStream) -> AsyncGenerator[str, None]:
        while True:
            event = http.next_event()
            if event is h11.NEED_DATA:
                http.receive_data(await stream.receive_some())
            elif isinstance(event, h11.Response):
                assert event.status_code == 200
                assert dict(event.headers)[b"content-type"].startswith(b"text/event-stream")
            elif isinstance(event, h11.Data):
                yield bytes(event.data).decode()
            else:
                return

    async def parse(texts: AsyncGenerator[str, None]) -> AsyncGenerator[Event, None]:
        buffer = ""
        async for text in texts:
            buffer += text
            while "\n\n" in buffer:
                block, _, buffer = buffer.partition("\n\n")
                fields = dict(line.split(": ", 1) for line in block.splitlines())
                data = json.loads(fields["data"])
                reader.read_event(path, fields["event"], data)
                yield fields["event"], data

    stream = await trio.open_tcp_stream(host, port)
    async with stream, aclosing(pieces(stream)) as texts, aclosing(parse(texts)) as parsed:
        request = h11.Request(method="GET", target=path, headers=[("Host", host)])
        await stream.send_all(http.send(request) + http.send(h11.EndOfMessage()))
        yield parsed


def yaml_form(raw: bytes = YAML, **fields: str) -> dict[str, Any]:
    return {
        "files": {"workflow": ("flow.yaml", raw)},
        "data": {"flow_name": "main", "tag": TAG, **fields},
    }
