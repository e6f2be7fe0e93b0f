"""Faults of pyoco-server 0.5.1's gateway that must not come back; each test names what was seen there."""

from __future__ import annotations

import resource
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio

from http_api.gateway import YAML, gateway, yaml_form
from http_api.keyed import KEYED, as_key, key_for
from http_api.raw import answer_on, closes, connected
from pyoco_server.model.api_key import ApiKeyRecord, matches


def resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


async def zeros(megabytes: int) -> AsyncIterator[bytes]:
    piece = bytes(64 * 1024)
    for _ in range(megabytes * 16):
        yield piece


# 20: with auth off a foreign web page could submit a flow, by a simple cross-origin multipart form.
@pytest.mark.parametrize(
    ("headers", "taken"),
    [
        ({}, True),
        ({"Origin": "http://evil.example"}, False),
        ({"Origin": "null"}, False),
        ({"Origin": "http://[::1"}, False),
        ({"Sec-Fetch-Site": "cross-site"}, False),
        ({"Sec-Fetch-Site": "same-site"}, False),
        ({"Sec-Fetch-Site": "same-origin", "Origin": "http://evil.example"}, False),
        # A foreign name that was pointed at this machine.
        ({"Origin": "http://evil.example:80", "Host": "evil.example:80"}, False),
        ({"Origin": "http://localhost:8000", "Host": "localhost:8000"}, True),
        ({"Origin": "http://127.0.0.1:8000", "Host": "127.0.0.1:8000"}, True),
        ({"Sec-Fetch-Site": "none"}, True),
    ],
)
async def test_fault_20_a_foreign_page_cannot_submit(
    tmp_path: Path, headers: dict[str, str], taken: bool
) -> None:
    async with gateway(tmp_path, worker=False) as (client, _):
        answer = await client.post("/runs/yaml", **yaml_form(YAML), headers=headers)
        assert answer.status_code == (200 if taken else 403)
        if not taken:
            assert answer.json()["detail"] == "cross-origin request refused"
            assert (await client.get("/health", headers=headers)).status_code == 200


# 21: bodies were read before auth: 150 MB without a key took the gateway from 56 to 485 MB.
@pytest.mark.parametrize("key", [None, "pyoco_nobody00.0123456789abcdef"])
async def test_fault_21_a_body_without_a_key_is_not_kept(tmp_path: Path, key: str | None) -> None:
    async with gateway(tmp_path, worker=False, **KEYED) as (client, _):
        headers = {} if key is None else as_key(key)
        before = peak = resident_bytes()

        async def look() -> None:
            nonlocal peak
            while True:
                peak = max(peak, resident_bytes())
                await trio.sleep(0.005)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(look)
            for path in ("/runs", "/runs/yaml"):
                answer = await client.post(path, content=zeros(150), headers=headers)
                assert answer.status_code == (401 if key is None else 403)
            nursery.cancel_scope.cancel()
        assert peak - before < 16 * 1024 * 1024


# 24: PBKDF2 ran on the event loop: 44 ms each, 19 keyed requests a second.
async def test_fault_24_keyed_requests_do_not_hold_up_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the event loop, and one for each request, 200 checks took ten seconds."""
    answered = 0
    beside: list[bool] = []

    def check(record: ApiKeyRecord | None, secret: str, pepper: str | None) -> bool:
        """Takes until others have been answered, which they would not be if this were on the event loop."""
        before, ends = answered, time.monotonic() + 20
        while answered < before + 3 and time.monotonic() < ends:
            time.sleep(0.001)
        beside.append(answered >= before + 3)
        return matches(record, secret, pepper)

    monkeypatch.setattr("pyoco_server.gateway.key_ring.matches", check)
    async with gateway(tmp_path, worker=False, **KEYED) as (client, backend):
        keys = [(await key_for(backend))[0] for _ in range(5)]

        async def health() -> None:
            nonlocal answered
            async with httpx.AsyncClient(base_url=client.base_url, timeout=60) as other:
                while True:
                    assert (await other.get("/health")).status_code == 200
                    answered += 1
                    await trio.sleep(0.01)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(health)
            async with trio.open_nursery() as asking:
                for number in range(200):
                    key = keys[number % len(keys)]
                    asking.start_soon(expect, client, "/runs/x", as_key(key), 404)
                    await trio.sleep(0.01)
            nursery.cancel_scope.cancel()
        assert beside == [True] * len(keys)


async def expect(
    client: httpx.AsyncClient, path: str, headers: dict[str, str], status: int
) -> None:
    assert (await client.get(path, headers=headers)).status_code == status


# 25: slow-loris: 300 of 300 half-sent requests were still open after 20 s.
@pytest.mark.parametrize(
    "half",
    [
        b"",
        b"GET /health HTT",
        b"GET /health HTTP/1.1\r\nHost: localhost\r\nX-A: b\r\n",
        b"POST /runs HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{",
        b"POST /runs HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n4\r\n{}",
    ],
)
async def test_fault_25_half_sent_requests_are_cut(tmp_path: Path, half: bytes) -> None:
    limits: dict[str, Any] = {"http_head_timeout_sec": 1.0, "http_body_timeout_sec": 1.0}
    said: list[bytes] = []

    async def half_a_request(client: httpx.AsyncClient) -> None:
        async with connected(client) as stream:
            if half:
                await stream.send_all(half)
            said.append(await closes(stream, within=60))

    async with gateway(tmp_path, worker=False, **limits) as (client, _):
        async with trio.open_nursery() as nursery:
            for _ in range(300):
                nursery.start_soon(half_a_request, client)
        assert (await client.get("/health")).status_code == 200
    assert len(said) == 300
    if half:
        assert all(b" 408 " in text and b"request timeout" in text for text in said)


async def test_fault_25_a_trickle_is_cut_too(tmp_path: Path) -> None:
    limits: dict[str, Any] = {"http_head_timeout_sec": 1.0, "http_body_timeout_sec": 1.0}
    async with gateway(tmp_path, worker=False, **limits) as (client, _), connected(client) as slow:
        await slow.send_all(
            b"POST /runs HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n"
        )

        async def trickle() -> None:
            while True:
                await slow.send_all(b" ")
                await trio.sleep(0.02)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(trickle)
            assert (await answer_on(slow)).status == 408
            nursery.cancel_scope.cancel()


# 26: wrong codes: `/runs/%3E` was a 503.
@pytest.mark.parametrize("run_id", ["%3E", "%2A", "%00", "a%20b", "x" * 300, "%F0%9F%92%A9"])
async def test_fault_26_an_id_that_cannot_be_is_a_run_that_is_not(
    tmp_path: Path, run_id: str
) -> None:
    async with gateway(tmp_path, worker=False) as (client, _):
        for method, suffix in [("GET", ""), ("GET", "/tasks"), ("POST", "/cancel")]:
            answer = await client.request(method, f"/runs/{run_id}{suffix}")
            assert (answer.status_code, answer.json()["detail"]) == (404, "run not found")


# A name in a path or a query becomes part of a NATS subject, and nats-server ends a connection over a line
# of more than 4,096 bytes: the one connection that all requests share.
@pytest.mark.parametrize("length", [300, 5000])
async def test_a_long_name_does_not_cost_the_connection(tmp_path: Path, length: int) -> None:
    name = "a" * length
    async with gateway(tmp_path, worker=False) as (client, backend):
        for method, path, body, status in [
            ("POST", "/runs", {"flow_name": "x", "tag": name}, 422),
            ("POST", "/runs", {"flow_name": name, "tags": [name]}, 200),
            ("GET", f"/runs/{name}", None, 404),
            ("GET", f"/runs?tag={name}&worker_id={name}&flow={name}", None, 200),
            ("PATCH", f"/workers/{name}", {"hidden": True}, 404),
            ("POST", f"/workers/{name}/pause", None, 404),
            ("GET", f"/dlq?tag={name}", None, 422),
            ("GET", f"/dlq?run_id={name}&reason={name}", None, 200),
            ("GET", f"/wheels/{name}-1.0-py3-none-any.whl", None, 404),
            ("DELETE", f"/wheels/{name}-1.0-py3-none-any.whl", None, 404),
        ]:
            answer = await client.request(method, path, json=body)
            assert answer.status_code == status, (method, path[:20], answer.text)
        assert backend.connection.epoch == 1


# A tag that can be none was part of a subject all the same, and waited ten seconds for what could not come.
@pytest.mark.parametrize("tag", ["a b", "*", ">", "a.b", "é"])
async def test_what_is_no_tag_has_no_letters(tmp_path: Path, tag: str) -> None:
    async with gateway(tmp_path, worker=False) as (client, _):
        answer = await client.get("/dlq", params={"tag": tag})
        assert (answer.status_code, answer.json()["detail"]) == (422, "invalid tag")
