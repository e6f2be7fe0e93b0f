"""What one client can take of the gateway, and what happens beyond that."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import MagicMock

import httpx
import pytest
import trio
from msgspec.structs import replace
from quart import Response
from trio.testing import MockClock

from backend.stage import TAG
from http_api.answers import described_app
from http_api.gateway import YAML, gateway, yaml_form
from http_api.keyed import KEYED, as_key, key_for, store, submitted
from http_api.raw import answer_on, ask, closes, connected
from http_api.seeding import put_runs, snapshot
from pyoco_http import bodies, flows, submissions
from pyoco_http.app import GatewayApp
from pyoco_http.bodies import Body, GatewayRequest
from pyoco_http.connection import HttpConnection
from pyoco_http.exchange import Exchange
from pyoco_http.server import OpenToAll, check_exposure
from pyoco_server.backend import Backend
from pyoco_server.gateway import new_run, run_graph
from pyoco_server.gateway.event_reader import EventFeed
from pyoco_server.gateway.schedules import runs as schedule_runs
from pyoco_server.model.flow.file import FlowFile, parse_flow_yaml
from pyoco_server.model.json_text import check_json, check_keys
from pyoco_server.settings import Settings
from wheels import making as wheels

BOTH_LENGTHS = (
    b"POST /runs HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
)
Gateway = tuple[httpx.AsyncClient, Backend]


@pytest.fixture
async def plain(tmp_path: Path) -> AsyncIterator[Gateway]:
    async with gateway(tmp_path, worker=False) as made:
        yield made


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"GET /health HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 20_000 + b"\r\n\r\n", 431),
        (b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", 431),
        (b"GET /health HTTP/1.1\r\n\r\n", 400),
        (b"GET /health HTTP/1.1\r\nHost: localhost\r\nHost: y\r\n\r\n", 400),
        (b"GET /health HTTP/1.1\r\nHost: localhost\r\nBad Name: y\r\n\r\n", 400),
        (b"GET /health HTTP/1.1\r\nHost: localhost\r\nX: a\x00b\r\n\r\n", 400),
        (b"GET /h\xc3\xa9 HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        (b"nonsense\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
        (BOTH_LENGTHS, 400),
        (
            b"POST /runs HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\n",
            400,
        ),
        (b"POST /runs HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n", 400),
        (b"POST /runs HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: gzip\r\n\r\n", 501),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    ],
)
async def test_what_is_no_request_is_refused_with_a_problem(
    plain: Gateway, raw: bytes, status: int
) -> None:
    client, _ = plain
    answer = await ask(client, raw)
    assert answer.status == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert json.loads(answer.body)["status"] == status
    assert (await client.get("/health")).status_code == 200


@pytest.mark.parametrize(
    "upgrade", [b"Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA", b"Upgrade: websocket"]
)
async def test_no_other_protocol_is_changed_to(plain: Gateway, upgrade: bytes) -> None:
    client, _ = plain
    head = (
        b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n"
        + upgrade
        + b"\r\n\r\n"
    )
    answer = await ask(client, head)
    assert (answer.status, json.loads(answer.body)) == (200, {"status": "ok"})


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/no-such-route", 404),
        ("DELETE", "/health", 405),
        ("PUT", "/runs", 405),
        ("TRACE", "/health", 405),
        ("BREW", "/health", 405),
    ],
)
async def test_what_there_is_no_route_for_is_a_problem(
    plain: Gateway, method: str, path: str, status: int
) -> None:
    client, _ = plain
    answer = await client.request(method, path)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["status"] == status
    assert (status == 405) == ("allow" in answer.headers)


async def test_head_and_options_need_no_handler_of_their_own(plain: Gateway) -> None:
    client, _ = plain
    head = await client.head("/health")
    assert (head.status_code, head.content) == (200, b"")
    options = await client.options("/runs")
    assert options.status_code == 200
    assert "POST" in options.headers["allow"]


async def test_a_body_is_counted_however_it_is_sent(plain: Gateway) -> None:
    client, _ = plain

    async def pieces(count: int) -> AsyncIterator[bytes]:
        for _ in range(count):
            yield b" " * 65_536

    for content in (b" " * 5_000_000, pieces(80)):
        answer = await client.post("/runs", content=content)
        assert answer.status_code == 413
        assert answer.json()["max_bytes"] == 4 * 1024 * 1024
        assert str(4 * 1024 * 1024) in answer.json()["reason"]
    small = await client.post("/runs", content=pieces(1))
    assert small.status_code == 422


async def test_connections_beyond_the_limit_are_told_so(tmp_path: Path) -> None:
    async with gateway(tmp_path, worker=False, http_max_connections=3) as (client, _):
        async with connected(client) as one, connected(client) as two, connected(client) as three:
            for stream in (one, two, three):
                await stream.send_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
                assert (await answer_on(stream)).status == 200
            async with connected(client) as fourth:
                answer = await answer_on(fourth)
            assert (answer.status, answer.headers["retry-after"]) == (503, "1")
            assert json.loads(answer.body)["detail"] == "too many connections"
        with trio.fail_after(60):
            while True:
                try:
                    assert (await client.get("/health")).status_code in {200, 503}
                    break
                except httpx.HTTPError:
                    await trio.sleep(0.01)


class Watcher:
    """An open event stream."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream

    @staticmethod
    async def open(
        client: httpx.AsyncClient, run_id: str, nursery: Any = None, key: str | None = None
    ) -> Watcher:
        stream = await trio.open_tcp_stream(client.base_url.host, client.base_url.port or 80)
        header = "" if key is None else f"X-API-Key: {key}\r\n"
        request = (
            f"GET /runs/{run_id}/watch?timeout_sec=600 HTTP/1.1\r\nHost: localhost\r\n{header}\r\n"
        )
        await stream.send_all(request.encode())
        said = b""
        with trio.fail_after(60):
            while b"event: snapshot" not in said:
                data = await stream.receive_some()
                assert data, said
                said += data
        return Watcher(stream)


async def test_event_streams_of_one_client_have_a_limit(tmp_path: Path) -> None:
    limits = {"http_max_streams_per_client": 2, "http_max_streams": 3}
    async with gateway(tmp_path, worker=False, **KEYED, **limits) as (client, backend):
        (a, _), (b, _) = await key_for(backend, "t"), await key_for(backend, "t")
        run_id = await submitted(client, a)
        wheel = {"wheel": (wheels.file_name(), wheels.wheel_bytes())}
        uploaded = await client.post("/wheels", files=wheel, headers=as_key(b))
        assert uploaded.status_code == 200, uploaded.text
        path = f"/runs/{run_id}/watch?timeout_sec=1"
        first = await Watcher.open(client, run_id, key=a)
        second = await Watcher.open(client, run_id, key=a)
        answer = await client.get(path, headers=as_key(a))
        assert (answer.status_code, answer.headers["retry-after"]) == (429, "5")
        assert answer.json()["reason"] == "2 event streams and downloads of one client are open"
        third = await Watcher.open(client, run_id, key=b)
        answer = await client.get(path, headers=as_key(b))
        assert answer.json()["reason"] == "3 event streams and downloads are open"
        download = await client.get(f"/wheels/{wheels.file_name()}", headers=as_key(b))
        assert (download.status_code, download.json()["reason"]) == (429, answer.json()["reason"])
        await first.stream.aclose()
        with trio.fail_after(60):
            while (await client.get(path, headers=as_key(a))).status_code == 429:
                await trio.sleep(0.01)
        for watcher in (second, third):
            await watcher.stream.aclose()


@pytest.mark.parametrize("how", ["revoked", "expired"])
async def test_a_stream_ends_with_its_key(tmp_path: Path, how: str) -> None:
    async with gateway(tmp_path, worker=False, **KEYED) as (client, backend):
        began = time.time()
        other, _ = await key_for(backend)
        run_id = await submitted(client, other)
        stays = await Watcher.open(client, run_id, key=other)
        # As soon as it can be, with time to spare for the same once more.
        expires_at = time.time() + 2 + 2 * (time.time() - began) if how == "expired" else None
        key, record = await key_for(backend, expires_at=expires_at)
        ends = await Watcher.open(client, run_id, key=key)
        if how == "revoked":
            await store(backend, replace(record, revoked_at=time.time()))
        assert b"0\r\n\r\n" in await answer_end(ends)
        with trio.move_on_after(0.3) as scope:
            await closes(stays.stream, 5)
        assert scope.cancelled_caught
        for watcher in (ends, stays):
            await watcher.stream.aclose()


@pytest.mark.parametrize(
    ("kind", "told"),
    [("text/event-stream", True), ("text/plain", False), ("application/octet-stream", False)],
)
async def test_what_is_cut_looks_whole_only_where_it_tells_its_end_itself(
    kind: str, told: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def cut(*_: object) -> bool:
        return False

    async def answer(_: GatewayApp, request: GatewayRequest) -> Response:
        request.event_stream = cast(Any, SimpleNamespace(carry=cut, close=lambda: None))
        return Response(b"", content_type=kind)

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    sent: list[dict[str, Any]] = []

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    monkeypatch.setattr(GatewayApp, "handle_request", answer)
    scope: dict[str, Any] = {"type": "http", "http_version": "1.1", "method": "GET", "path": "/"}
    scope |= {"scheme": "http", "query_string": b"", "root_path": "", "headers": []}
    await Exchange(described_app()[0], cast(Any, scope))(receive, send)
    assert sent == [{"type": "http.response.body", "body": b"", "more_body": False}] * told


async def test_a_text_that_is_cut_looks_unlike_one_that_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with gateway(tmp_path, worker=False, **KEYED) as (client, backend):
        (a, _), (b, record) = await key_for(backend), await key_for(backend)

        async def opened(run_id: str, key: str) -> trio.SocketStream:
            stream = await trio.open_tcp_stream(client.base_url.host, client.base_url.port or 80)
            path = f"/runs/{run_id}/logs?follow=true&format=text"
            head = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nX-API-Key: {key}\r\n\r\n"
            await stream.send_all(head.encode())
            with trio.fail_after(60):
                assert (await stream.receive_some()).startswith(b"HTTP/1.1 200 ")
            return stream

        waits, other = await submitted(client, a), await submitted(client, a)
        whole = await opened(other, a)
        revoked, stopped = await opened(waits, b), await opened(waits, a)
        await backend.cancel(other)
        assert (await answer_end(Watcher(whole))).endswith(b"0\r\n\r\n")
        await store(backend, replace(record, revoked_at=time.time()))
        assert not (await closes(revoked, 60)).endswith(b"0\r\n\r\n")

        async def lost(_: EventFeed) -> None:
            return None

        monkeypatch.setattr(EventFeed, "next", lost)
        broken = await opened(waits, a)
        assert not (await closes(broken, 60)).endswith(b"0\r\n\r\n")
        monkeypatch.undo()
    assert not (await closes(stopped, 60)).endswith(b"0\r\n\r\n")
    for stream in (whole, revoked, broken, stopped):
        await stream.aclose()


async def answer_end(watcher: Watcher) -> bytes:
    """What comes until the last chunk of a stream."""
    said = b""
    with trio.fail_after(60):
        while b"0\r\n\r\n" not in said:
            data = await watcher.stream.receive_some()
            if not data:
                break
            said += data
    return said


async def test_a_stop_ends_streams_in_order_and_waits_for_nobody(tmp_path: Path) -> None:
    async with gateway(tmp_path, worker=False, http_send_timeout_sec=60) as (client, backend):
        body = {"flow_name": "x", "params": {"a": "y" * 200_000}}
        run_id = (await client.post("/runs", json=body)).json()["run_id"]
        watcher = await Watcher.open(client, await submitted(client))
        idle = await trio.open_tcp_stream(client.base_url.host, client.base_url.port or 80)
        # Asks for far more than fits into the buffers in between, and reads nothing.
        deaf = await trio.open_tcp_stream(client.base_url.host, client.base_url.port or 80)
        asks = f"GET /runs/{run_id} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode() * 200
        await deaf.send_all(asks)
        assert backend is not None
        began = trio.current_time()
    assert trio.current_time() - began < 40, "the deaf one may take a minute"
    said = await answer_end(watcher)
    assert said.endswith(b"0\r\n\r\n")
    for stream in (watcher.stream, idle, deaf):
        await stream.aclose()


async def test_a_client_that_takes_nothing_is_let_go(tmp_path: Path) -> None:
    limits: dict[str, Any] = {"http_send_timeout_sec": 0.5, "http_max_connections": 2}
    async with gateway(tmp_path, worker=False, **limits) as (client, _):
        body = {"flow_name": "x", "params": {"a": "y" * 200_000}}
        run_id = (await client.post("/runs", json=body)).json()["run_id"]
        async with connected(client) as deaf:
            asks = f"GET /runs/{run_id} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode() * 200
            await deaf.send_all(asks)
            with trio.fail_after(60):
                while True:  # until its place is free for another
                    async with connected(client) as other:
                        await other.send_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
                        if (await answer_on(other)).status == 200:
                            break
                    await trio.sleep(0.05)


async def test_a_client_that_takes_little_at_a_time_is_sent_all_of_it(
    autojump_clock: MockClock,
) -> None:
    ours, theirs = trio.socket.socketpair()
    ours.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_SNDBUF, 16 * 1024)
    settings = Settings(http_send_timeout_sec=1.0)
    connection = HttpConnection(MagicMock(), settings, MagicMock(), trio.SocketStream(ours))
    data, taken = os.urandom(512 * 1024), b""
    with theirs, ours, trio.fail_after(600):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(connection._send, data)
            while len(taken) < len(data):
                await trio.sleep(0.1)
                piece = await theirs.recv(8 * 1024)
                assert not connection._broken, f"let go after {len(taken)} bytes"
                taken += piece
    assert taken == data


def test_others_are_not_let_in_without_keys_unless_told_so() -> None:
    for host in ("127.0.0.1", "localhost", "::1", "127.8.8.8"):
        check_exposure(host, Settings())
    for host in ("0.0.0.0", "::", "192.0.2.7", "example.org", ""):
        with pytest.raises(OpenToAll):
            check_exposure(host, Settings())
        check_exposure(host, Settings(http_auth_mode="api_key"))
        check_exposure(host, Settings(http_insecure_bind=True))


async def test_a_body_that_never_comes_costs_nothing_while_its_request_is_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = 0
    real = Body._next

    async def counted(body: Body) -> bytes:
        nonlocal looks
        looks += 1
        return await real(body)

    monkeypatch.setattr(Body, "_next", counted)
    async with (
        gateway(tmp_path, worker=False, http_body_timeout_sec=0.2) as (client, _),
        connected(client) as stream,
    ):
        head = b"GET /runs/stream?timeout_sec=2 HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n"
        await stream.send_all(head)
        assert b"event: hello" in await closes(stream, within=60)
    assert looks < 10


async def test_a_large_body_is_looked_through_beside_other_calls(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = threading.get_ident()
    # How long what was looked through is, and whether the event loop waited for it.
    looks: list[tuple[int, bool]] = []

    def told(look: Callable[[Any], None]) -> Callable[[Any], None]:
        def tell(value: Any) -> None:
            looks.append((len(str(value)), threading.get_ident() == loop))
            look(value)

        return tell

    for place in (bodies, submissions):
        monkeypatch.setattr(place, "check_keys", told(check_keys))
    params = {"x": "y" * 100_000}
    run = {"flow_name": "quick", "tag": TAG}
    async with gateway(tmp_path, worker=False) as (client, backend):
        await put_runs(backend, [snapshot("ended"), snapshot("waiting", status="PENDING")])

        async def kept(method: str, path: str, **body: Any) -> set[bool]:
            looks.clear()
            answer = await client.request(method, path, **body)
            assert answer.status_code in {200, 422}, answer.text
            assert max(looks)[0] > 100_000
            return {waited for size, waited in looks if size > 100_000}

        schedule = {**run, "every_sec": 3600, "params": params}
        assert await kept("PUT", "/schedules/s", json=schedule) == {False}
        assert await kept("PATCH", "/schedules/s", json={"params": params}) == {False}
        monkeypatch.setattr(new_run, "check_json", told(check_json))
        assert await kept("POST", "/runs", json={**run, "params": params}) == {False}
        form = yaml_form(params=json.dumps(params))
        assert await kept("POST", "/runs/yaml", **form) == {False}
        assert await kept("POST", "/runs/ended/retry", json={"params": params}) == {False}
        assert await kept("PATCH", "/runs/waiting", json={"start_at": "y" * 100_000}) == {False}
        looks.clear()
        assert (await client.post("/runs", json=run)).status_code == 200
        assert {waited for _, waited in looks} == {True}, "a small one costs no turn of a thread"


async def test_a_large_flow_yaml_is_read_beside_other_calls(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = threading.get_ident()
    # Whether the event loop waited for what was read.
    waited: list[bool] = []

    def read(raw: bytes, **options: Any) -> FlowFile:
        waited.append(threading.get_ident() == loop)
        return parse_flow_yaml(raw, **options)

    for place in (flows, run_graph, schedule_runs):
        monkeypatch.setattr(place, "parse_flow_yaml", read)
    large = YAML.decode() + "#" + "x" * 100_000
    async with gateway(tmp_path, worker=False) as (client, _):
        assert (await client.post("/flows/check", content=large)).status_code == 200
        schedule = {"flow_name": "main", "tag": TAG, "every_sec": 3600, "workflow_yaml": large}
        assert (await client.put("/schedules/s", json=schedule)).status_code == 200
        run = (await client.post("/schedules/s/trigger")).json()
        graph = await client.get(f"/runs/{run['run_id']}/graph")
        assert graph.json()["source"] == "workflow"
        assert waited == [False] * 4
        assert (await client.post("/flows/check", content=YAML)).status_code == 200
        assert waited[4:] == [True], "a small one costs no turn of a thread"
