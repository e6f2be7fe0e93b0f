"""The backend in a program of the user's own: the parts that it wants, clean ends, nothing shared."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trio

from backend.stage import TAG, eventually, new_run, running, settings_for
from e2e.programs import FLOW_YAML
from ports import free_port
from pyoco_server import NewRun, open_backend
from pyoco_server.gateway import event_reader
from pyoco_server.gateway.new_run import Accepted, NotAccepted
from pyoco_server.jetstream.errors import Unavailable
from pyoco_server.jetstream.keyvalue import KeyValue
from pyoco_server.jetstream.stored import purge_subject
from pyoco_server.store.runs import RunNotFound
from pyoco_server.worker.tree import WorkerOptions

FLOW = FLOW_YAML.encode()

pytestmark = pytest.mark.nats


async def test_a_run_that_brings_its_flow_in_one_call(tmp_path: Path) -> None:
    async with running(tmp_path) as backend:
        with trio.fail_after(60):
            run = await backend.run(NewRun.of_flow_file(FLOW, tag=TAG, params={"x": 41}))
        assert run.status == "COMPLETED"
        assert run.task_records["to_text"].output == "v=42"


async def test_a_client_submits_watches_cancels_and_reads_without_a_gateway_of_its_own(
    tmp_path: Path,
) -> None:
    async with running(tmp_path) as whole:
        client_settings = settings_for(tmp_path / "client")
        assert whole.node is not None
        async with open_backend(client_settings, nats=whole.node.url, gateway="client") as client:
            await client.wait_ready(within=60)
            with trio.fail_after(60):
                assert (await client.run(new_run("quick", x=2))).status == "COMPLETED"

                accepted = await client.submit(new_run("steps"))
                async with client.watch(accepted.run_id) as states:
                    async for state in states:
                        if state.status == "RUNNING":
                            await client.cancel(accepted.run_id, reason="enough")
                        if state.status.terminal:
                            break
                assert state.status == "CANCELLED"

                with pytest.raises(RunNotFound):
                    await client.ended("no-such-run")
            with pytest.raises(RuntimeError, match="without a whole gateway"):
                _ = client.reads


@pytest.mark.parametrize("call", ["submit", "submit_all", "get", "cancel", "watch"])
async def test_a_client_waits_for_its_connection(tmp_path: Path, call: str) -> None:
    async with running(tmp_path, worker=False) as whole:
        assert whole.node is not None
        known = (await whole.submit(new_run("quick"))).run_id
        settings = settings_for(tmp_path / "client")
        async with open_backend(settings, nats=whole.node.url, gateway="client") as client:
            assert not client.connection.status.connected, "its program is faster"
            match call:
                case "submit":
                    run_id = (await client.submit(new_run("quick"))).run_id
                    assert (await whole.get(run_id)).status == "PENDING"
                case "submit_all":
                    outcomes = await client.submit_all([new_run("quick")] * 3)
                    assert all(isinstance(each, Accepted) for each in outcomes)
                case "get":
                    assert (await client.get(known)).run_id == known
                case "cancel":
                    assert (await client.cancel(known)).status in {"CANCELLING", "CANCELLED"}
                case _:
                    async with client.watch(known) as states:
                        assert (await anext(states)).run_id == known


async def test_a_client_without_nats_is_refused_when_its_time_is_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pyoco_server.backend.backend._ASK_SECONDS", 2.5)
    settings = settings_for(tmp_path)
    nowhere = f"nats://127.0.0.1:{free_port()}"
    async with open_backend(settings, nats=nowhere, gateway="client") as client:
        began = trio.current_time()
        with pytest.raises(NotAccepted):
            await client.submit(new_run("quick"))
        assert trio.current_time() - began < 30


async def test_the_watch_of_a_client_ends_when_the_run_is_deleted(tmp_path: Path) -> None:
    async with running(tmp_path, worker=False) as whole:
        assert whole.node is not None
        async with open_backend(
            settings_for(tmp_path / "client"), nats=whole.node.url, gateway="client"
        ) as client:
            await client.wait_ready(within=60)
            run_id = (await client.submit(new_run("quick"))).run_id
            with trio.fail_after(60):
                await client.cancel(run_id)
                await client.ended(run_id)
                async with client.watch(run_id) as states:
                    assert (await anext(states)).status == "CANCELLED"
                    await KeyValue(client.connection, "pyoco_runs").delete(run_id)
                    assert [state.status async for state in states] == []


PRINTING = b"version: 1\nflow:\n  graph: say\ntasks:\n  say:\n    callable: printing:hello\n"


def printer(folder: Path) -> WorkerOptions:
    """A worker that finds the task of `PRINTING`."""
    code = "def hello(ctx):\n    print('hello')\n    print('world')\n    return 1\n"
    (folder / "printing.py").write_text(code)
    return WorkerOptions(tags=(TAG,), slots=1, import_paths=(str(folder),))


async def test_logs_come_as_they_are_printed_and_end_with_the_run(tmp_path: Path) -> None:
    async with running(tmp_path, worker=printer(tmp_path)) as backend:
        with trio.fail_after(60):
            run_id = (await backend.submit(NewRun.of_flow_file(PRINTING, tag=TAG))).run_id
            async with backend.logs(run_id) as chunks:
                assert "".join([each.text async for each in chunks]) == "hello\nworld\n"
            async with backend.logs(run_id, follow=False) as chunks:
                assert "".join([each.text async for each in chunks]) == "hello\nworld\n"


async def test_logs_are_followed_to_the_end_of_the_run_though_their_feed_ends_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = 0
    real = event_reader._first_state

    async def look(*args: Any, **said: Any) -> Any:
        nonlocal looks
        looks += 1
        if looks == 1:
            raise Unavailable("not connected")
        return await real(*args, **said)

    monkeypatch.setattr(event_reader, "_first_state", look)
    printed: list[str] = []
    ended = trio.Event()
    async with running(tmp_path, worker=False) as backend:
        run_id = (await backend.submit(NewRun.of_flow_file(PRINTING, tag=TAG))).run_id

        async def read() -> None:
            async with backend.logs(run_id) as chunks:
                printed.extend([each.text async for each in chunks])
            ended.set()

        async def followed_again() -> bool:
            return looks == 2

        with trio.fail_after(120):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(read)
                await eventually(followed_again)
                await backend.system.restart("/gateway/event-feeds")
                async with open_backend(
                    backend.settings_with_node(), gateway=False, worker=printer(tmp_path)
                ):
                    await ended.wait()
    assert "".join(printed) == "hello\nworld\n"


async def test_logs_end_with_a_run_whose_end_is_not_among_its_events(tmp_path: Path) -> None:
    async with running(tmp_path, worker=printer(tmp_path)) as backend:
        with trio.fail_after(60):
            run = await backend.run(NewRun.of_flow_file(PRINTING, tag=TAG))
            async with backend.logs(run.run_id) as chunks:
                assert [each.text async for each in chunks]
        settings = backend.settings
        subject = f"{settings.events_subject_prefix}.{run.run_id}"
        await purge_subject(backend.connection, settings.events_stream, subject)
        for run_id in (run.run_id, "no-such-run"):
            with trio.fail_after(20):
                async with backend.logs(run_id) as chunks:
                    assert [each.text async for each in chunks] == []


async def test_two_backends_in_one_process_stay_apart(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    async with running(tmp_path / "one") as one, running(tmp_path / "two") as two:
        assert one.node is not None
        assert two.node is not None
        assert one.node.url != two.node.url
        with trio.fail_after(60):
            first = await one.run(new_run("quick", x=1))
            second = await two.run(new_run("quick", x=10))
        assert first.task_records["quick"].output == 2
        assert second.task_records["quick"].output == 11
        with pytest.raises(RunNotFound):
            await two.get(first.run_id)
        with pytest.raises(RunNotFound):
            await one.get(second.run_id)


def _children() -> set[str]:
    return set(Path("/proc/self/task").joinpath(str(_main()), "children").read_text().split())


def _main() -> int:
    import os

    return os.getpid()


async def test_cancelling_the_nursery_around_it_leaves_nothing(tmp_path: Path) -> None:
    before = _children()
    async with trio.open_nursery() as nursery:

        async def embed() -> None:
            async with running(tmp_path) as backend:
                accepted = await backend.submit(new_run("slow"))
                async with backend.watch(accepted.run_id) as states:
                    async for state in states:
                        if state.status == "RUNNING":
                            nursery.cancel_scope.cancel()

        nursery.start_soon(embed)
    assert nursery.cancel_scope.cancelled_caught
    assert _children() == before


async def test_a_failure_in_the_block_comes_out_as_one_group(tmp_path: Path) -> None:
    before = _children()
    with pytest.RaisesGroup(ZeroDivisionError, flatten_subgroups=True):
        async with running(tmp_path):
            raise ZeroDivisionError
    assert _children() == before
