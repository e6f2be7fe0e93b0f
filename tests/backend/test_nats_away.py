"""NATS goes away under a worker and comes back: what it holds is written, and not executed again."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from artifacts.saving import content
from backend.stage import (
    TAG,
    empty_queue,
    ended,
    settings_for,
    started,
    worker_options,
)
from nats_fixtures import node_in
from pyoco_server.backend import Backend, open_backend
from pyoco_server.gateway.new_run import NewRun
from pyoco_server.jetstream.connection import Connection
from pyoco_server.jetstream.consumer import Message, PullConsumer
from pyoco_server.jetstream.errors import BridgeError, Unanswered
from pyoco_server.jetstream.keyvalue import KeyValue
from pyoco_server.jetstream.publish import publish_acked
from pyoco_server.jetstream.stored import get_message
from pyoco_server.model import decisions
from pyoco_server.model.artifact import Artifact
from pyoco_server.model.run import RunStatus
from pyoco_server.store.artifacts import ArtifactStore
from pyoco_server.worker import artifacts, executor, recorder
from pyoco_server.worker.attempt import Attempt, Ending
from pyoco_server.worker.claiming import claim_run
from tcp_proxy import TcpProxy, open_proxy

ACK_WAIT = 1.0
TASKS = """\
import os
import time
from pathlib import Path

FOLDER = Path(__file__).parent


def once(flag):
    with (FOLDER / "executed").open("a") as file:
        file.write(os.environ["PYOCO_RUN_ID"] + "\\n")
    while not (FOLDER / flag).exists():
        time.sleep(0.01)


def save(ctx, flag):
    once(flag)
    ctx.save_artifact("a.txt", "kept")
"""


@asynccontextmanager
async def behind_proxy(folder: Path) -> AsyncIterator[tuple[Backend, TcpProxy]]:
    """A backend with two slots, whose NATS can go away."""
    (folder / "awaytasks.py").write_text(TASKS)
    options = worker_options(folder, slots=2, import_paths=(str(folder),))
    settings = settings_for(folder, consumer_ack_wait_sec=ACK_WAIT)
    async with (
        node_in(folder / "nats") as node,
        open_proxy(node.port) as proxy,
        open_backend(settings, nats=proxy.nats_url, worker=options) as backend,
    ):
        await backend.wait_ready(within=60)
        yield backend, proxy


def one_task() -> NewRun:
    text = "flow:\n  graph: once\ntasks:\n  once:\n    callable: awaytasks:once\n"
    return NewRun("flow", TAG, params={"flag": "go on"}, workflow_yaml=text)


def executions(folder: Path) -> list[str]:
    file = folder / "executed"
    return file.read_text().split() if file.exists() else []


class HeldEnd:
    """Lets an end be written when it may, and tells when a write failed because NATS is away."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.failed = trio.Event()
        self.may = trio.Event()
        real = Attempt.write_end

        async def write_end(attempt: Attempt, ending: Ending) -> decisions.Finish:
            try:
                # The first try meets no NATS; any later one waits for what the test wants first.
                if self.failed.is_set():
                    await self.may.wait()
                return await real(attempt, ending)
            except BridgeError:
                self.failed.set()
                raise

        monkeypatch.setattr(Attempt, "write_end", write_end)


@pytest.fixture
def held_end(monkeypatch: pytest.MonkeyPatch) -> HeldEnd:
    return HeldEnd(monkeypatch)


@pytest.fixture
def redelivered(monkeypatch: pytest.MonkeyPatch) -> trio.Event:
    """Set as soon as the worker has pulled a job for the second time."""
    event = trio.Event()
    real = PullConsumer.fetch

    async def fetch(self: PullConsumer, batch: int, *, expires: float) -> list[Message]:
        messages = await real(self, batch, expires=expires)
        if any(message.num_delivered > 1 for message in messages):
            event.set()
        return messages

    monkeypatch.setattr(PullConsumer, "fetch", fetch)
    return event


async def until_executed_again(folder: Path, within: float) -> None:
    with trio.move_on_after(within):
        while len(executions(folder)) < 2:
            await trio.sleep(0.01)


async def away_beyond_the_lease(
    folder: Path,
    backend: Backend,
    proxy: TcpProxy,
    held_end: HeldEnd,
    *,
    restart: str | None = None,
) -> str:
    """Have a run end while NATS is away, and NATS come back when its job's lease is over.

    Args:
        folder: Where the task is.
        backend: Executes it.
        proxy: What it reaches NATS through.
        held_end: Tells when the end could not be written.
        restart: An actor to start anew meanwhile.
    """
    run_id = (await backend.submit(one_task())).run_id
    await started(backend, run_id)
    if restart is not None:
        await backend.system.restart(restart)
    with proxy.down():
        (folder / "go on").touch()
        with trio.fail_after(60):
            await held_end.failed.wait()
        # The server knows nothing of the worker; its clock alone says that the lease is over.
        await trio.sleep(ACK_WAIT)
    return run_id


async def test_a_job_that_comes_again_is_not_executed_beside_the_slot_that_has_its_run(
    tmp_path: Path, held_end: HeldEnd, redelivered: trio.Event
) -> None:
    async with behind_proxy(tmp_path) as (backend, proxy):
        run_id = await away_beyond_the_lease(tmp_path, backend, proxy, held_end)
        with trio.fail_after(60):
            await redelivered.wait()
        # The free slot gets all the time that it wants to take the run over.
        await until_executed_again(tmp_path, within=1.0)
        held_end.may.set()
        end = await ended(backend, run_id)
        assert executions(tmp_path) == [run_id]
        assert (end.status, end.attempt) == (RunStatus.COMPLETED, 1)
        await empty_queue(backend)


async def test_a_dispatcher_that_started_anew_knows_who_has_a_run(
    tmp_path: Path, held_end: HeldEnd, redelivered: trio.Event
) -> None:
    async with behind_proxy(tmp_path) as (backend, proxy):
        run_id = await away_beyond_the_lease(
            tmp_path, backend, proxy, held_end, restart="/worker/dispatcher"
        )
        with trio.fail_after(60):
            await redelivered.wait()
        await until_executed_again(tmp_path, within=1.0)
        held_end.may.set()
        end = await ended(backend, run_id)
        assert executions(tmp_path) == [run_id]
        assert (end.status, end.attempt) == (RunStatus.COMPLETED, 1)


async def test_another_job_of_a_run_that_is_executed_waits_for_its_end(tmp_path: Path) -> None:
    async with behind_proxy(tmp_path) as (backend, _):
        run_id = (await backend.submit(one_task())).run_id
        await started(backend, run_id)
        job = await get_message(backend.connection, "PYOCO_WORK", 1)
        assert job is not None
        await publish_acked(backend.connection, job.subject, job.data)
        await until_executed_again(tmp_path, within=1.0)
        (tmp_path / "go on").touch()
        end = await ended(backend, run_id)
        assert executions(tmp_path) == [run_id]
        assert (end.status, end.attempt) == (RunStatus.COMPLETED, 1)
        await empty_queue(backend)


async def test_a_claim_whose_answer_is_lost_is_no_attempt_that_is_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run FAILED, for it had had its one attempt, with nothing executed."""
    stored, away, failed = trio.Event(), trio.Event(), trio.Event()

    async def update(self: KeyValue, key: str, value: bytes, *args: Any, **more: Any) -> int:
        revision = await real(self, key, value, *args, **more)
        if b'"RUNNING"' in value and self.bucket == "pyoco_runs" and not stored.is_set():
            stored.set()
            await away.wait()
            raise Unanswered("the connection broke")
        return revision

    async def claim(*args: Any, **more: Any) -> Any:
        try:
            return await claim_run(*args, **more)
        except Unanswered:
            failed.set()
            raise

    real = KeyValue.update
    monkeypatch.setattr(KeyValue, "update", update)
    monkeypatch.setattr(executor, "claim_run", claim)
    (tmp_path / "go on").touch()
    async with behind_proxy(tmp_path) as (backend, proxy):
        accepted = await backend.submit(dataclasses.replace(one_task(), max_attempts=1))
        with trio.fail_after(60):
            await stored.wait()
            with proxy.down():
                away.set()
                await failed.wait()
        await backend.connection.wait_connected(within=60)
        end = await ended(backend, accepted.run_id)
        assert (end.status, end.attempt, end.attempts) == (RunStatus.COMPLETED, 1, [])
        assert executions(tmp_path) == [accepted.run_id]
        await empty_queue(backend)


async def test_a_held_end_is_written_with_the_reconnect_and_not_some_time_later(
    tmp_path: Path, held_end: HeldEnd, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Were it for the time between two tries, it would not be written within this test.
    monkeypatch.setattr(recorder, "_FIRST_RETRY_SECONDS", 3600.0)
    monkeypatch.setattr(recorder, "_RETRY_SECONDS", 3600.0)
    held_end.may.set()
    async with behind_proxy(tmp_path) as (backend, proxy):
        run_id = (await backend.submit(one_task())).run_id
        await started(backend, run_id)
        connection: Connection = backend.connection
        with proxy.down():
            (tmp_path / "go on").touch()
            with trio.fail_after(60):
                await held_end.failed.wait()
        await connection.wait_connected(within=60)
        end = await ended(backend, run_id)
        assert (end.status, end.attempt) == (RunStatus.COMPLETED, 1)


async def test_what_a_run_saved_is_kept_although_nats_is_away_as_it_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = trio.Event()
    real = ArtifactStore.keep

    async def keep(*arguments: Any) -> Artifact:
        try:
            return await real(*arguments)
        except BridgeError:
            tried.set()
            raise

    monkeypatch.setattr(ArtifactStore, "keep", keep)
    # Any number of tries that are counted would be over before NATS is back.
    monkeypatch.setattr(artifacts, "_RETRY_SECONDS", 0.0)
    async with behind_proxy(tmp_path) as (backend, proxy):
        text = "flow:\n  graph: save\ntasks:\n  save:\n    callable: awaytasks:save\n"
        run = NewRun("flow", TAG, params={"flag": "go on"}, workflow_yaml=text)
        run_id = (await backend.submit(run)).run_id
        await started(backend, run_id)
        with proxy.down():
            (tmp_path / "go on").touch()
            with trio.fail_after(60):
                await tried.wait()
        await backend.connection.wait_connected(within=60)
        end = await ended(backend, run_id)
        assert (end.status, end.artifacts_refused) == (RunStatus.COMPLETED, [])
        assert await content(backend, end, "a.txt") == b"kept"
