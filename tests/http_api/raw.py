"""HTTP by hand, for what no well-behaved client sends."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import h11
import httpx
import trio


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes


@asynccontextmanager
async def connected(client: httpx.AsyncClient) -> AsyncIterator[trio.SocketStream]:
    stream = await trio.open_tcp_stream(client.base_url.host, client.base_url.port or 80)
    async with stream:
        yield stream


async def answer_on(
    stream: trio.SocketStream, within: float = 60, *, method: str = "GET"
) -> Answer:
    """Read one answer; the server has to end it."""
    http = h11.Connection(h11.CLIENT)
    http.send(h11.Request(method=method, target="/", headers=[("Host", "localhost")]))
    http.send(h11.EndOfMessage())
    answer = Answer(0, {}, b"")
    with trio.fail_after(within):
        while True:
            event = http.next_event()
            if event is h11.NEED_DATA:
                http.receive_data(await stream.receive_some())
            elif isinstance(event, h11.Response):
                answer.status = event.status_code
                answer.headers = {k.decode(): v.decode() for k, v in event.headers}
            elif isinstance(event, h11.Data):
                answer.body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                return answer


async def ask(client: httpx.AsyncClient, raw: bytes) -> Answer:
    """Send bytes on a connection of their own; return the first answer."""
    async with connected(client) as stream:
        await stream.send_all(raw)
        return await answer_on(stream)


async def closes(stream: trio.SocketStream, within: float) -> bytes:
    """What the server sends until it closes; fails when it does not within so many seconds."""
    said = b""
    with trio.fail_after(within):
        try:
            while data := await stream.receive_some():
                said += data
        except trio.BrokenResourceError:
            pass
    return said
