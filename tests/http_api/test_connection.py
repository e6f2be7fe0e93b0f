"""How requests come and answers go on one connection, whichever way they are answered."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from http_api.gateway import gateway
from http_api.raw import Answer, answer_on, ask, closes, connected
from pyoco_http.app import GatewayApp, create_app
from pyoco_server.backend import Backend

RUN = b'{"flow_name": "x"}'
HEAD = b"POST /runs HTTP/1.1\r\nHost: localhost\r\n"


def post(*lines: bytes) -> bytes:
    return HEAD + b"".join(line + b"\r\n" for line in lines) + b"\r\n"


SIZED = post(b"Content-Length: %d" % len(RUN))
CHUNKED = post(b"Transfer-Encoding: chunked")


@pytest.mark.parametrize(
    "pieces",
    [
        [SIZED + RUN],
        [SIZED, RUN],
        [SIZED[:20], SIZED[20:] + RUN[:5], RUN[5:]],
        [CHUNKED, b"5\r\n" + RUN[:5] + b"\r\n", b"d\r\n" + RUN[5:] + b"\r\n0\r\n\r\n"],
    ],
)
async def test_a_body_may_come_in_pieces(tmp_path: Path, pieces: list[bytes]) -> None:
    async with gateway(tmp_path, worker=False) as (client, _), connected(client) as stream:
        for piece in pieces:
            await stream.send_all(piece)
            await trio.testing.wait_all_tasks_blocked(0.01)
        answer = await answer_on(stream)
        assert (answer.status, json.loads(answer.body)["status"]) == (200, "PENDING")
        # The connection goes on.
        await stream.send_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert (await answer_on(stream)).status == 200


async def test_a_client_that_asks_first_is_told_to_go_on(tmp_path: Path) -> None:
    async with gateway(tmp_path, worker=False) as (client, _), connected(client) as stream:
        await stream.send_all(post(b"Content-Length: %d" % len(RUN), b"Expect: 100-continue"))
        with trio.fail_after(60):
            assert (await stream.receive_some()).startswith(b"HTTP/1.1 100 ")
        await stream.send_all(RUN)
        assert (await answer_on(stream)).status == 200


async def test_a_client_that_asks_first_is_not_told_to_send_what_is_refused(tmp_path: Path) -> None:
    async with gateway(tmp_path, worker=False) as (client, _), connected(client) as stream:
        lines = [b"POST /wheels HTTP/1.1", b"Host: localhost", b"Expect: 100-continue"]
        lines += [b"Content-Length: 99999999999", b"", b""]
        await stream.send_all(b"\r\n".join(lines))
        assert (await closes(stream, within=60)).startswith(b"HTTP/1.1 413 ")


async def test_a_client_that_asks_first_is_told_to_go_on_by_any_route(tmp_path: Path) -> None:
    async with gateway(tmp_path, worker=False) as (client, _), connected(client) as stream:
        lines = [b"POST /runs/yaml HTTP/1.1", b"Host: localhost", b"Expect: 100-continue"]
        await stream.send_all(b"\r\n".join([*lines, b"Content-Length: 2", b"", b""]))
        with trio.fail_after(60):
            assert (await stream.receive_some()).startswith(b"HTTP/1.1 100 ")
        await stream.send_all(b"{}")
        assert (await answer_on(stream)).status == 422


@pytest.mark.parametrize(
    ("target", "status"),
    [
        (b"?x=1", 400),
        (b"http://[x", 400),
        (b"http://%5Bx/health", 400),
        (b"http://%E2%84%80/", 400),
        (b"health", 400),
        (b"localhost:80", 400),
        (b"//[x", 404),
        (b"*", 404),
        (b"http://localhost/health/ready", 200),
        (b"http://localhost?x=1", 200),
    ],
)
async def test_a_target_that_is_none_is_refused(
    tmp_path: Path, target: bytes, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    async with gateway(tmp_path, worker=False) as (client, _):
        answer = await ask(client, b"GET %b HTTP/1.1\r\nHost: localhost\r\n\r\n" % target)
        assert answer.status == status, answer.body
        assert "Error in ASGI Framework" not in caplog.text


async def test_what_the_application_fails_on_is_answered_with_a_problem(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: object) -> Any:
        raise RuntimeError("broken")

    monkeypatch.setattr(GatewayApp, "handle_request", fail)
    async with gateway(tmp_path, worker=False) as (client, _):
        answer = await ask(client, b"GET /docs HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert answer.status == 500
        assert answer.headers["content-type"] == "application/problem+json"
        assert json.loads(answer.body)["status"] == 500
        assert (await client.get("/health")).status_code == 200
    assert "RuntimeError: broken" in caplog.text


async def test_what_is_asked_in_one_go_is_answered_in_order(tmp_path: Path) -> None:
    async with gateway(tmp_path, worker=False) as (client, _), connected(client) as stream:
        asked = [b"/health", b"/runs/nobody", b"/openapi.json", b"/nowhere", b"/health"]
        await stream.send_all(
            b"".join(b"GET %b HTTP/1.1\r\nHost: localhost\r\n\r\n" % path for path in asked[:-1])
            + b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        )
        said = await closes(stream, within=60)
        statuses = [part.split(b" ", 1)[0] for part in said.split(b"HTTP/1.1 ")[1:]]
        assert statuses == [b"200", b"404", b"200", b"404", b"200"]


@pytest.mark.parametrize("path", [b"/health", b"/openapi.json"])
async def test_what_comes_as_the_time_for_it_runs_out_is_answered(
    tmp_path: Path, path: bytes
) -> None:
    request = b"GET %b HTTP/1.1\r\nHost: localhost\r\n\r\n" % path
    limit = 0.5
    async with (
        gateway(tmp_path, worker=False, http_head_timeout_sec=limit) as (client, _),
        connected(client) as stream,
    ):
        await stream.send_all(request)
        assert (await answer_on(stream)).status == 200
        os.write(stream.socket.fileno(), request)
        time.sleep(2 * limit)  # noqa: ASYNC251 - the loop finds both, the request and the time over
        assert (await answer_on(stream)).status == 200


@pytest.mark.parametrize("path", [b"/health", b"/openapi.json"])
async def test_an_older_client_is_answered_and_let_go(tmp_path: Path, path: bytes) -> None:
    async with gateway(tmp_path, worker=False) as (client, _), connected(client) as stream:
        await stream.send_all(b"GET %b HTTP/1.0\r\n\r\n" % path)
        said = await closes(stream, within=60)
        assert said.startswith(b"HTTP/1.1 200 ")
        assert b"connection: close" in said.lower()


@pytest.mark.parametrize("half", [True, False])
@pytest.mark.parametrize("path", ["/runs", "/runs/nobody/retry"])
async def test_a_call_ends_with_its_client(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, half: bool
) -> None:
    begun, ended = trio.Event(), trio.Event()

    async def wait(*_: object) -> Any:
        begun.set()
        try:
            await trio.sleep_forever()
        finally:
            ended.set()

    monkeypatch.setattr(Backend, "submit", wait)
    monkeypatch.setattr(Backend, "get", wait)
    async with gateway(tmp_path, worker=False) as (client, _), connected(client) as stream:
        head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(RUN)}\r\n\r\n"
        await stream.send_all(head.encode() + RUN)
        with trio.fail_after(60):
            await begun.wait()
            if half:
                await stream.send_eof()
            else:
                await stream.aclose()
            await ended.wait()


class Spawned(trio.abc.Instrument):
    def __init__(self) -> None:
        self.names: list[str] = []

    def task_spawned(self, task: trio.lowlevel.Task) -> None:
        self.names.append(task.name)


HYPERCORN = "hypercorn.trio.task_group._handle"


@pytest.mark.parametrize(
    ("path", "served"),
    [
        (b"/health", []),
        (b"/runs/nobody", []),
        (b"/runs/a-b/tasks", []),
        (b"/docs", [HYPERCORN] * 20),
    ],
)
async def test_a_call_needs_no_task_but_the_one_that_hypercorn_runs_the_application_in(
    tmp_path: Path, path: bytes, served: list[str]
) -> None:
    async with gateway(tmp_path, worker=False) as (client, _), connected(client) as stream:
        spawned = Spawned()
        trio.lowlevel.add_instrument(spawned)
        try:
            for _ in range(20):
                await stream.send_all(b"GET %b HTTP/1.1\r\nHost: localhost\r\n\r\n" % path)
                assert (await answer_on(stream)).status in {200, 404}
        finally:
            trio.lowlevel.remove_instrument(spawned)
        assert [name for name in spawned.names if name.startswith("pyoco_http")] == []
        assert [name for name in spawned.names if name.startswith("hypercorn")] == served


LARGE = b'{"flow_name": "x", "params": {"a": "' + b"y" * 5_000_000 + b'"}}'
CALLS: list[tuple[str, str, dict[str, str], bytes]] = [
    ("GET", "/health", {}, b""),
    ("GET", "/health", {"X-Request-ID": "mine"}, b""),
    ("GET", "/runs/nobody", {}, b""),
    ("GET", "/runs/nobody/tasks?include=x", {}, b""),
    ("GET", "/runs/yaml", {}, b""),
    ("GET", "/runs/yaml/tasks", {}, b""),
    ("POST", "/runs/nobody/cancel", {}, b"{}"),
    ("POST", "/runs", {}, b"no json"),
    ("POST", "/runs", {"Idempotency-Key": "a b"}, RUN),
    ("POST", "/runs", {"Origin": "http://evil.example"}, RUN),
    ("POST", "/runs/batch", {}, b'{"runs": []}'),
    ("POST", "/runs/batch", {}, b'{"runs": [{"flow_name": ""}, 5]}'),
    ("POST", "/runs", {}, LARGE),
]


async def test_a_short_route_answers_as_any_other_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    apps: list[GatewayApp] = []

    def create(backend: Backend, *, loopback: bool) -> GatewayApp:
        apps.append(create_app(backend, loopback=loopback))
        return apps[-1]

    monkeypatch.setattr("pyoco_http.server.create_app", create)
    async with gateway(tmp_path, worker=False) as (client, _):
        by_quart = apps[0].test_client()
        for method, path, headers, body in CALLS:
            lines = {"Host": "localhost", "Content-Length": str(len(body)), **headers}
            head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
            short = await ask(client, f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode() + body)
            asks = by_quart.get if method == "GET" else by_quart.post
            answer = await asks(path, headers=headers, data=body)
            text = await answer.get_data(as_text=True)
            same = Answer(answer.status_code, dict(answer.headers), text.encode())
            assert _shown(short) == _shown(same), (method, path, headers)


def _shown(answer: Answer) -> tuple[int, dict[str, str], bytes]:
    headers = {name.lower(): value for name, value in answer.headers.items()}
    for name in ("date", "connection"):
        headers.pop(name, None)
    if headers["x-request-id"] != "mine":
        headers["x-request-id"] = "made"
    return answer.status, headers, answer.body
