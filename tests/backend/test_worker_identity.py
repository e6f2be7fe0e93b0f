"""A worker's name: it is kept over restarts, and no two that live have the same."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import trio

from backend.stage import (
    TAG,
    ended,
    eventually,
    new_run,
    running,
    started,
    until,
    worker_options,
)
from pyoco_server.backend import Backend, open_backend
from pyoco_server.model.run import RunStatus
from pyoco_server.worker.identity import WorkerName


def test_the_name_is_the_hosts_with_a_part_that_is_kept(tmp_path: Path) -> None:
    first = WorkerName.of(None, tmp_path, replace=False)
    beside = WorkerName.of(None, tmp_path, replace=False)
    assert first.worker_id.startswith(f"{socket.gethostname()}-")
    assert beside.worker_id != first.worker_id
    for each in (first, beside):
        each.let_go()
    names = {first.worker_id, beside.worker_id}
    again = [WorkerName.of(None, tmp_path, replace=False) for _ in range(2)]
    assert {each.worker_id for each in again} == names
    for each in again:
        each.let_go()
    assert WorkerName.of("mine", tmp_path, replace=False).worker_id == "mine"


async def test_a_second_living_worker_of_a_name_is_refused(tmp_path: Path) -> None:
    async with running(tmp_path) as backend:
        settings = backend.settings_with_node()

        async def known() -> bool:
            return await backend.worker("w1") is not None

        await eventually(known)
        async with open_backend(settings, gateway=False, worker=worker_options(tmp_path)) as second:

            async def refused() -> bool:
                return second.worker_refusal is not None

            await eventually(refused)
            assert "--replace" in str(second.worker_refusal)
            assert str(second.worker_refusal) in (await second.readiness()).reasons
            with trio.fail_after(60):
                await second.drain_ordered()
            accepted = await backend.submit(new_run("quick"))
            assert (await ended(backend, accepted.run_id)).status is RunStatus.COMPLETED
        assert backend.worker_refusal is None
        record = await backend.worker("w1")
        assert record is not None
        # It left the record alone, at its end as well.
        assert record.state.active


async def test_a_worker_takes_the_place_of_a_living_one_when_told_to(tmp_path: Path) -> None:
    async with running(tmp_path, worker=False) as backend:
        settings = backend.settings_with_node()
        options = worker_options(tmp_path)
        replacing = worker_options(tmp_path, replace=True)
        accepted = await backend.submit(new_run("slow", seconds=1))
        async with trio.open_nursery() as nursery:

            async def first() -> None:
                async with open_backend(settings, gateway=False, worker=options) as worker:
                    await worker.drain_ordered()
                    await worker.drain(within=20)

            nursery.start_soon(first)
            await started(backend, accepted.run_id)
            async with open_backend(settings, gateway=False, worker=replacing) as second:
                later = await backend.submit(new_run("quick"))
                assert (await ended(backend, later.run_id)).status is RunStatus.COMPLETED
                assert second.worker_refusal is None
        # The run of the other one was not cut short.
        state = await backend.get(accepted.run_id)
        assert (state.status, state.attempt) == (RunStatus.COMPLETED, 1)


_PROGRAM = "from pyoco_cli.worker import main; raise SystemExit(main())"


@contextmanager
def worker_process(folder: Path, backend: Backend, *more: str) -> Iterator[subprocess.Popen[str]]:
    settings = backend.settings_with_node()
    environment = {**os.environ, "PYOCO_STATE_DIR": str(folder), "PYOCO_LOAD_DOTENV": "0"}
    environment |= {"PYOCO_NATS_URL": settings.nats_url}
    process = subprocess.Popen(
        [sys.executable, "-c", _PROGRAM, "--tags", TAG, "--slots", "1", *more],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


async def test_a_killed_worker_starts_again_at_once_and_a_paused_one_gives_way(
    tmp_path: Path,
) -> None:
    """Its record says IDLE, and was written a moment ago."""
    async with running(tmp_path, worker=False) as backend:

        async def holder(but: str = "") -> str:
            """The instance that has the name now."""
            found = ""

            async def there() -> bool:
                nonlocal found
                record = await backend.worker("mine")
                found = record.instance_id if record is not None and record.state.active else ""
                return found not in ("", but)

            await eventually(there)
            return found

        arguments = ("--worker-id", "mine")
        with worker_process(tmp_path, backend, *arguments) as first:
            before = await holder()
            first.kill()
            with worker_process(tmp_path, backend, *arguments) as second:
                again = await holder(before)
                with worker_process(tmp_path, backend, *arguments) as third:
                    assert await trio.to_thread.run_sync(third.wait, 20) == 1
                    out = third.stdout.read() if third.stdout else ""
                    assert "ERR-PYOCO-0018" in out
                    assert "'mine' is alive" in out
                second.send_signal(signal.SIGSTOP)
                with worker_process(tmp_path, backend, *arguments):
                    await holder(again)
                    # It wakes up, and finds that the name is another one's.
                    second.send_signal(signal.SIGCONT)
                    assert await trio.to_thread.run_sync(second.wait, 20) == 1


async def test_a_worker_that_is_given_no_name_keeps_its_own(tmp_path: Path) -> None:
    async with running(tmp_path, worker=False) as backend:
        settings = backend.settings_with_node()
        ids = set()
        for _ in range(2):
            options = worker_options(tmp_path, worker_id=None)
            async with open_backend(settings, gateway=False, worker=options) as worker:
                ids.add(worker.worker_id)
                run = await backend.submit(new_run("quick"))
                done = await until(backend, run.run_id, lambda s: s.status.terminal)
                assert done.worker_id == worker.worker_id
        assert len(ids) == 1
