"""What the Python client gives of a running gateway, where no other test asks for it."""

from __future__ import annotations

import hashlib
import io
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from http_api.gateway import YAML, gateway
from pyoco_server.client import (
    AsyncPyocoHttpClient,
    DamagedDownload,
    HttpProblem,
    RetryPolicy,
    UnexpectedAnswer,
)
from pyoco_server.client.wire import cancel_wait_seconds
from pyoco_server.settings import Settings
from pyoco_server.worker.resource_watch import TERMINATE_SECONDS
from wheels.making import file_name, wheel_bytes


async def test_a_look_at_a_gateway(tmp_path: Path) -> None:
    async with (
        gateway(tmp_path, worker=False) as (http, _),
        AsyncPyocoHttpClient(str(http.base_url)) as client,
    ):
        assert await client.get_health() == {"status": "ok"}
        assert (await client.get_ready())["reasons"] == []
        assert len((await client.get_stats(minutes=3))["minutes"]) == 3
        assert (await client.get_api_description())["openapi"] == "3.1.0"
        checked = await client.check_flow(YAML.decode())
        assert sorted(checked["tasks"]) == ["add_one", "to_text"]
        with pytest.raises(HttpProblem) as found:
            await client.check_flow("tasks: {}\nflow: *x\n")
        assert (found.value.status, found.value.extra["line"]) == (422, 2)


def test_a_cancel_is_waited_for_longer_than_a_flow_that_ignores_it_lives() -> None:
    grace = Settings().cancel_grace_period_sec
    assert cancel_wait_seconds(None) >= grace + TERMINATE_SECONDS + 10
    assert cancel_wait_seconds(7) == 7


async def test_a_wheel_comes_back_as_it_was_uploaded(tmp_path: Path) -> None:
    name, data = file_name("mine", "1.0"), wheel_bytes("mine", "1.0")
    async with (
        gateway(tmp_path, worker=False) as (http, _),
        AsyncPyocoHttpClient(str(http.base_url)) as client,
    ):
        await client.upload_wheel(filename=name, data=data)
        to = io.BytesIO()
        digest = await client.download_wheel(name, to)
        assert to.getvalue() == data
        assert digest == hashlib.sha256(data).hexdigest()
        with pytest.raises(HttpProblem, match="wheel not found"):
            await client.download_wheel(file_name("other", "1.0"), io.BytesIO())


class Tampered(httpx.AsyncByteStream):
    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield b"tampered"


async def test_a_damaged_wheel_is_told() -> None:
    etag = '"' + hashlib.sha256(b"uploaded").hexdigest() + '"'
    answer = httpx.Response(200, stream=Tampered(), headers={"ETag": etag})
    transport = httpx.MockTransport(lambda _: answer)
    async with AsyncPyocoHttpClient("http://gateway.invalid", transport=transport) as client:
        with pytest.raises(DamagedDownload):
            await client.download_wheel("a-1.0-py3-none-any.whl", io.BytesIO())


@pytest.mark.parametrize("status", [429, 502, 503, 504])
async def test_a_proxy_whose_gateway_is_away_is_asked_again(status: int) -> None:
    ready = {"status": "ready"}
    answers = [httpx.Response(status, text="a proxy says so")] * 2
    answers.append(httpx.Response(200, json=ready | {"run_id": "r", "tasks": {}}))
    transport = httpx.MockTransport(lambda _: answers.pop(0))
    async with AsyncPyocoHttpClient(
        "http://gateway.invalid", transport=transport, retry=RetryPolicy(first_seconds=0.01)
    ) as client:
        await client.get_run("r")
    assert answers == []


async def test_how_far_a_gateway_was_may_be_no_number() -> None:
    seen = [(b"X-Pyoco-Seen", text) for text in (b"b-7", b"b-\xb2", b"b-3")]
    answers = [httpx.Response(200, json={}, headers=[each]) for each in seen]
    transport = httpx.MockTransport(lambda _: answers.pop(0))
    async with AsyncPyocoHttpClient("http://gateway.invalid", transport=transport) as client:
        for _ in seen:
            await client.get_run("r")
    assert answers == []


@pytest.mark.parametrize("name", ["put_schedule", "update_schedule"])
@pytest.mark.parametrize(("fields", "sent"), [({}, 3), ({"version": 7}, 1)])
async def test_a_change_of_one_version_that_got_no_answer_is_not_repeated(
    name: str, fields: dict[str, int], sent: int
) -> None:
    """It would be refused where it has had its effect."""
    calls: list[httpx.Request] = []

    def lose(request: httpx.Request) -> httpx.Response:
        calls.append(request)
        raise httpx.RemoteProtocolError("the answer is lost")

    async with AsyncPyocoHttpClient(
        "http://gateway.invalid",
        transport=httpx.MockTransport(lose),
        retry=RetryPolicy(first_seconds=0.01),
    ) as client:
        with pytest.raises(httpx.RemoteProtocolError):
            await getattr(client, name)("nightly", every_sec=60, **fields)
    assert len(calls) == sent


async def test_not_ready_is_an_answer() -> None:
    body = {"status": "not ready", "reasons": ["NATS is away"], "nats": {"connected": False}}
    answers = [httpx.Response(503, json=body), httpx.Response(503, text="a proxy says so")]
    transport = httpx.MockTransport(lambda _: answers.pop(0))
    async with AsyncPyocoHttpClient(
        "http://gateway.invalid", transport=transport, retry=RetryPolicy(attempts=1)
    ) as client:
        assert await client.get_ready() == body
        with pytest.raises(UnexpectedAnswer, match="a proxy says so"):
            await client.get_ready()
