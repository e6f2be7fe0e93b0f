"""Both clients read and follow what happens in a run, whatever becomes of the connection."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import aclosing
from functools import partial
from pathlib import Path

import pytest
import trio

from backend.stage import ended, new_run
from http_api.test_events import talking
from pyoco_server.client import AsyncPyocoHttpClient, HttpProblem, PyocoHttpClient
from pyoco_server.client.answers import OutputDict
from tcp_proxy import open_proxy


async def test_the_trio_client_follows_over_connections_that_are_cut(tmp_path: Path) -> None:
    async with (
        talking(tmp_path) as (http, backend),
        open_proxy(http.base_url.port or 80) as proxy,
        AsyncPyocoHttpClient(f"http://127.0.0.1:{proxy.port}") as client,
    ):
        flag = tmp_path / "go on"
        run = await backend.submit(new_run("wait_for", path=str(flag)))
        seen = []
        with trio.fail_after(60):
            async with aclosing(client.events(run.run_id, follow=True)) as events:
                async for event in events:
                    seen.append(event)
                    proxy.cut()
                    if event["type"] == "log":
                        flag.touch()
        assert proxy.accepted > 3
        ids = [event["id"] for event in seen]
        assert len(set(ids)) == len(ids)
        states = [event["status"] for event in seen if event["type"] == "state"]
        assert states == ["PENDING", "RUNNING", "COMPLETED"]
        text = "".join(event["text"] for event in seen if event["type"] == "log")
        assert text == "waiting\nseen\n"
        assert [event["id"] async for event in client.events(run.run_id)] == ids


def text_of(printed: Iterable[OutputDict]) -> str:
    texts = []
    for chunk in printed:
        assert chunk["type"] == "log"
        texts.append(chunk["text"])
    return "".join(texts)


async def test_the_blocking_client_reads_logs_page_by_page_and_follows_behind_a_tail(
    tmp_path: Path,
) -> None:
    async with talking(tmp_path) as (http, backend):
        run = await backend.submit(new_run("flood", lines=3000))
        await ended(backend, run.run_id, within=60)

        def read() -> None:
            with PyocoHttpClient(str(http.base_url)) as client:
                followed = text_of(client.logs(run.run_id, follow=True))
                assert followed == ("x" * 999 + "\n") * 3000 + "the end\n"
                stored = text_of(client.logs(run.run_id))
                assert stored == followed
                last = list(client.logs(run.run_id, tail=2, follow=True))
                assert text_of(last) == "x" * 999 + "\nthe end\n"
                assert client.get_graph(run.run_id)["nodes"][0]["name"] == "flood"
                with pytest.raises(HttpProblem) as caught:
                    list(client.events("nothing", follow=True))
                assert caught.value.status == 404

        await trio.to_thread.run_sync(partial(read))


async def test_following_ends_when_its_time_is_over(tmp_path: Path) -> None:
    async with talking(tmp_path) as (http, backend):
        run = await backend.submit(new_run("wait_for", path=str(tmp_path / "never"), seconds=60))
        async with AsyncPyocoHttpClient(str(http.base_url)) as client:
            began = trio.current_time()
            with trio.fail_after(60):
                told = [e async for e in client.events(run.run_id, follow=True, within_seconds=3)]
            assert trio.current_time() - began > 2.5
            assert told[0]["type"] == "state"
            assert told[0]["status"] == "PENDING"
        await backend.cancel(run.run_id)
