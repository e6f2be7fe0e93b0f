"""An operator pauses, resumes and drains a worker; a lost message only delays it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trio
from structlog.testing import CapturingLogger

import pyoco_cli.worker
from backend.stage import (
    ended,
    eventually,
    new_run,
    running,
    started,
    stop_as_at_the_end,
    worker_options,
)
from pyoco_http.app import create_app
from pyoco_server.backend import Backend, open_backend
from pyoco_server.gateway.worker_registry import WorkerNotFound, WorkerNotSteerable
from pyoco_server.jetstream.errors import Unavailable
from pyoco_server.jetstream.keyvalue import KeyValue
from pyoco_server.kernel import TapEvent, TapKind
from pyoco_server.model.run import RunStatus
from pyoco_server.model.worker import WorkerOrder, WorkerRecord, decode_worker, encode_worker
from pyoco_server.worker.messages import Drain, DrainOrdered, FirstJob
from pyoco_server.worker.slot import Slot
from pyoco_server.worker.wheel_set import WheelSets


async def stored(backend: Backend) -> WorkerRecord:
    return decode_worker((await KeyValue(backend.connection, "pyoco_workers").get("w1")).value)


async def known(backend: Backend) -> None:
    async def seen() -> bool:
        return await backend.worker("w1") is not None

    await eventually(seen, what="the worker's record")


async def test_a_paused_worker_ends_its_run_and_takes_no_other(tmp_path: Path) -> None:
    async with running(tmp_path) as backend:
        await known(backend)
        first = await backend.submit(new_run("slow", seconds=1))
        await started(backend, first.run_id)
        record = await backend.reads.worker_registry.order("w1", WorkerOrder.PAUSE)
        assert record.paused
        waiting = await backend.submit(new_run("quick"))
        assert (await ended(backend, first.run_id)).status is RunStatus.COMPLETED

        async def idle() -> bool:
            return (await stored(backend)).last_run_id == first.run_id

        await eventually(idle)
        assert (await backend.get(waiting.run_id)).status is RunStatus.PENDING
        assert (await stored(backend)).paused
        await backend.reads.worker_registry.order("w1", WorkerOrder.RESUME)
        assert (await ended(backend, waiting.run_id)).status is RunStatus.COMPLETED


async def test_a_pause_outlives_a_restart(tmp_path: Path) -> None:
    async with running(tmp_path, worker=False) as backend:
        settings = backend.settings_with_node()
        async with open_backend(settings, gateway=False, worker=worker_options(tmp_path)):
            await known(backend)
            await backend.reads.worker_registry.order("w1", WorkerOrder.PAUSE)
        before = await stored(backend)
        waiting = await backend.submit(new_run("quick"))
        async with open_backend(settings, gateway=False, worker=worker_options(tmp_path)) as worker:

            async def back() -> bool:
                return (await stored(backend)).instance_id != before.instance_id

            await eventually(back)
            with trio.move_on_after(0.5):
                await worker.first_job()
            assert (await backend.get(waiting.run_id)).status is RunStatus.PENDING
            await backend.reads.worker_registry.order("w1", WorkerOrder.RESUME)
            assert (await ended(backend, waiting.run_id)).status is RunStatus.COMPLETED


async def test_an_order_whose_message_is_lost_comes_with_the_next_heartbeat(tmp_path: Path) -> None:
    async with running(tmp_path, worker_heartbeat_interval_sec=0.2) as backend:
        await known(backend)
        bucket = KeyValue(backend.connection, "pyoco_workers")

        async def written() -> bool:
            entry = await bucket.get("w1")
            record = decode_worker(entry.value)
            from msgspec.structs import replace

            from pyoco_server.jetstream.errors import WrongRevision

            try:
                await bucket.update(
                    "w1", encode_worker(replace(record, draining=True)), entry.revision
                )
            except WrongRevision:
                return False
            return True

        await eventually(written)
        with trio.fail_after(60):
            await backend.drain_ordered()
        assert (await stored(backend)).draining


async def test_a_worker_that_is_there_no_more_or_too_old_is_said_so(tmp_path: Path) -> None:
    async with running(tmp_path, worker=False) as backend:
        with pytest.raises(WorkerNotFound):
            await backend.reads.worker_registry.order("nobody", WorkerOrder.PAUSE)
        old = WorkerRecord(worker_id="old", instance_id="x")
        await KeyValue(backend.connection, "pyoco_workers").put("old", encode_worker(old))
        with pytest.raises(WorkerNotSteerable):
            await backend.reads.worker_registry.order("old", WorkerOrder.PAUSE)


async def test_orders_over_http(tmp_path: Path) -> None:
    async with running(tmp_path) as backend:
        await known(backend)
        client = create_app(backend).test_client()
        answer = await client.post("/workers/w1/pause")
        assert answer.status_code == 200
        body = await answer.get_json()
        assert (body["worker_id"], body["paused"], body["draining"]) == ("w1", True, False)
        shown = await (await client.get("/workers")).get_json()
        assert shown[0]["worker_id"] == "w1"
        answer = await client.post("/workers/nobody/drain")
        assert (answer.status_code, (await answer.get_json())["detail"]) == (
            404,
            "worker not found",
        )
        await client.post("/workers/w1/resume")
        await client.post("/workers/w1/drain")
        with trio.fail_after(60):
            await backend.drain_ordered()


async def test_a_slot_that_gets_free_when_its_dispatcher_has_gone_does_not_crash(
    tmp_path: Path,
) -> None:
    """So it is at each stop of a worker: the dispatcher goes first."""
    crashed: list[str] = []

    def listen(event: TapEvent) -> None:
        if event.kind is TapKind.CRASHED:
            crashed.append(event.path)

    async with running(tmp_path) as backend:
        run = await backend.submit(new_run("slow", seconds=0.5))
        await started(backend, run.run_id)
        with backend.system.tap(listen):
            await stop_as_at_the_end(backend, "/worker/dispatcher")
            assert (await ended(backend, run.run_id)).status is RunStatus.COMPLETED
            # Handles what it was told first.
            await stop_as_at_the_end(backend, "/worker/slots/0")
        assert not crashed


@pytest.mark.parametrize("waiting", ["drain_ordered", "first_job"])
async def test_who_waits_for_the_dispatcher_waits_over_its_restart(
    tmp_path: Path, waiting: str
) -> None:
    async with running(tmp_path) as backend:
        await known(backend)
        told = trio.Event()

        async def wait() -> None:
            await getattr(backend, waiting)()
            told.set()

        asked = trio.Event()

        def listen(event: TapEvent) -> None:
            if event.kind is TapKind.HANDLED and isinstance(event.message, DrainOrdered | FirstJob):
                asked.set()

        with backend.system.tap(listen):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(wait)
                with trio.fail_after(60):
                    await asked.wait()
                await backend.system.restart("/worker/dispatcher")
                if waiting == "first_job":
                    await backend.submit(new_run("quick"))
                else:
                    await backend.reads.worker_registry.order("w1", WorkerOrder.DRAIN)
                with trio.fail_after(60):
                    await told.wait()


async def test_a_drain_waits_for_runs_over_a_restart_of_the_dispatcher(tmp_path: Path) -> None:
    """It was over at once, and what was executed was broken off."""
    async with running(tmp_path) as backend:
        run = await backend.submit(new_run("slow", seconds=2))
        await started(backend, run.run_id)
        asked, ends = trio.Event(), []

        def listen(event: TapEvent) -> None:
            if event.kind is TapKind.HANDLED and isinstance(event.message, Drain):
                asked.set()

        async def drain() -> None:
            assert await backend.drain(within=60)
            ends.append((await backend.get(run.run_id)).status)

        with backend.system.tap(listen):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(drain)
                with trio.fail_after(60):
                    await asked.wait()
                await backend.system.restart("/worker/dispatcher")
        assert ends == [RunStatus.COMPLETED]


async def test_a_limited_worker_takes_no_more_jobs_after_a_restart_of_the_dispatcher(
    tmp_path: Path,
) -> None:
    async with running(tmp_path, worker=worker_options(tmp_path, limit=1)) as backend:
        first = await backend.submit(new_run("slow", seconds=1))
        await started(backend, first.run_id)
        await backend.system.restart("/worker/dispatcher")
        second = await backend.submit(new_run("quick"))
        await ended(backend, first.run_id)

        async def idle() -> bool:
            return (await stored(backend)).last_run_id == first.run_id

        await eventually(idle)
        other = worker_options(tmp_path, worker_id="w2")
        async with open_backend(backend.settings_with_node(), gateway=False, worker=other):
            assert (await ended(backend, second.run_id)).worker_id == "w2"


async def test_a_worker_for_one_run_waits_for_it_from_when_it_can_take_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ended with nothing executed where its start took longer than it was to wait."""
    wait_seconds = 2.0
    ready, slow = Slot._ready_child, [2 * wait_seconds]

    async def slowly_at_first(self: Slot, wheels: WheelSets) -> None:
        await trio.sleep(slow.pop() if slow else 0.0)
        await ready(self, wheels)

    monkeypatch.setattr(Slot, "_ready_child", slowly_at_first)
    async with running(tmp_path, worker=False) as backend:
        submitted = await backend.submit(new_run("quick"))
        settings, options = backend.settings_with_node(), worker_options(tmp_path, limit=1)
        with trio.fail_after(60):
            assert await pyoco_cli.worker._work(settings, options, wait_seconds) == 0
        assert (await ended(backend, submitted.run_id)).status is RunStatus.COMPLETED


async def test_a_record_that_cannot_be_written_is_told_of_once_an_outage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pyoco_server.worker.heartbeat._RETRY_SECONDS", 0.01)
    async with running(tmp_path, worker_heartbeat_interval_sec=0.1) as backend:
        await known(backend)
        real, refused, tries = KeyValue.update, trio.Event(), 0

        async def update(self: KeyValue, *record: Any, **options: Any) -> int:
            nonlocal tries
            if self.bucket != "pyoco_workers":
                return await real(self, *record, **options)
            tries += 1
            if tries == 5:
                refused.set()
            raise Unavailable("NATS is not connected")

        for _ in range(2):
            tries, refused = 0, trio.Event()
            log = CapturingLogger()
            with monkeypatch.context() as patch, trio.fail_after(60):
                patch.setattr("pyoco_server.worker.heartbeat.log", log)
                patch.setattr(KeyValue, "update", update)
                await refused.wait()
            assert [call.args for call in log.calls] == [("heartbeat not written",)]
            before = (await stored(backend)).heartbeat_at

            async def written(before: float = before) -> bool:
                return (await stored(backend)).heartbeat_at > before

            await eventually(written, what="a record after the outage")
