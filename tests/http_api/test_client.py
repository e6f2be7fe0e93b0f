"""What the Python client gives of a running gateway, where no other test asks for it."""

from __future__ import annotations

import hashlib
import io
import math
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import trio

from http_api.gateway import YAML, gateway
from http_api.seeding import put_runs, snapshot
from pyoco_server.client import (
    AsyncPyocoHttpClient,
    DamagedDownload,
    HttpProblem,
    PyocoHttpClient,
    RetryPolicy,
    UnexpectedAnswer,
)
from pyoco_server.client.download import Download
from pyoco_server.client.requests import get
from pyoco_server.client.sse import SseEvent
from pyoco_server.client.watch import EventWatch, ListWatch, RunWatch
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
        week = await client.get_stats(10_080, step_minutes=60, percentiles=True)
        assert (len(week["minutes"]), week["percentiles"]["wait"]) == (168, {})
        assert (await client.get_api_description())["openapi"] == "3.1.0"
        checked = await client.check_flow(YAML.decode())
        assert sorted(checked["tasks"]) == ["add_one", "to_text"]
        with pytest.raises(HttpProblem) as found:
            await client.check_flow("tasks: {}\nflow: *x\n")
        assert (found.value.status, found.value.extra["line"]) == (422, 2)


@pytest.mark.parametrize("method", ["find_runs", "list_runs_vnext"])
async def test_a_page_by_any_filter_says_where_the_next_one_begins(
    tmp_path: Path, method: str
) -> None:
    ids = ["a", "b", "c"]
    async with gateway(tmp_path, worker=False) as (http, backend):
        runs = [snapshot(run_id, flow_name="mine") for run_id in ids]
        await put_runs(backend, [*runs, snapshot("other")])
        async with AsyncPyocoHttpClient(str(http.base_url)) as client:
            cursor, seen = None, []
            for _ in ids:
                page = await getattr(client, method)(flow="mine", limit=1, cursor=cursor)
                cursor = page["next_cursor"]
                seen += [run["run_id"] for run in page["items"]]
            assert (sorted(seen), cursor) == (ids, None)
            assert len(await client.list_runs(flow="mine")) == 3

        def read() -> None:
            with PyocoHttpClient(str(http.base_url)) as client:
                cursor, seen = None, []
                for _ in ids:
                    page = getattr(client, method)(flow="mine", limit=1, cursor=cursor)
                    cursor = page["next_cursor"]
                    seen += [run["run_id"] for run in page["items"]]
                assert (sorted(seen), cursor) == (ids, None)
                assert len(client.list_runs(flow="mine")) == 3

        await trio.to_thread.run_sync(read)


LOST = httpx.RemoteProtocolError("the connection is lost")


def test_who_is_busy_with_an_event_for_minutes_still_has_a_gateway() -> None:
    """An outage begins with the first failure, and ends with an event or a stream that ends as it should."""
    watch = RunWatch(first=get("/runs/r/watch"))
    watch.take(SseEvent("{}", "heartbeat"), 0.0)
    assert watch.after_failure(LOST, 300.0) > 0
    assert watch.after_failure(LOST, 359.0) > 0
    assert watch.after_end(361.0) > 0
    assert watch.after_failure(LOST, 700.0) > 0
    with pytest.raises(httpx.RemoteProtocolError):
        watch.after_failure(LOST, 761.0)


def test_a_run_that_says_nothing_is_followed_to_the_end_of_the_time() -> None:
    once = RetryPolicy(attempts=1)
    watch = EventWatch(first=get("/runs/r/events"), deadline=1.0, retry=once)
    assert watch.after_failure(httpx.ReadTimeout("nothing came"), 3.0) == 0
    assert watch.ended
    away = EventWatch(first=get("/runs/r/events"), deadline=1.0, retry=once)
    with pytest.raises(httpx.ConnectError):
        away.after_failure(httpx.ConnectError("nobody is there"), 3.0)


@pytest.mark.parametrize(
    ("seconds", "asked"), [(0.1, 1), (60, 60), (86_400, 86_400), (7 * 86_400, 86_400)]
)
def test_a_list_is_followed_for_days(seconds: float, asked: int) -> None:
    call = ListWatch(first=get("/runs/stream"), deadline=seconds).next_call(0.0)
    assert call is not None
    assert call.params["timeout_sec"] == asked
    for_ever = ListWatch(first=get("/runs/stream"), deadline=math.inf).next_call(0.0)
    assert for_ever is not None
    assert "timeout_sec" not in for_ever.params


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


def test_what_was_in_a_file_before_a_download_that_starts_over_stays() -> None:
    to = io.BytesIO()
    to.write(b"before ")
    download = Download("a", to)
    for etag in ("one", "two"):
        download.begin(200, etag)
        download.take(etag.encode())
    assert to.getvalue() == b"before two"


async def test_what_waited_for_a_connection_in_vain_was_not_sent() -> None:
    refusals = [httpx.PoolTimeout("")]

    def answer(_: httpx.Request) -> httpx.Response:
        if refusals:
            raise refusals.pop()
        return httpx.Response(200, json={"run_id": "r", "status": "PENDING", "retry_of": "a"})

    async with AsyncPyocoHttpClient(
        "http://gateway.invalid",
        transport=httpx.MockTransport(answer),
        retry=RetryPolicy(first_seconds=0.01),
    ) as client:
        assert (await client.retry_run("a"))["run_id"] == "r"


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
