"""Every run ends, also one that nobody executes and nobody will."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import trio
from msgspec.structs import replace

from backend.stage import (
    TAG,
    dead_letters,
    deliver,
    empty_queue,
    ended,
    eventually,
    new_run,
    queued,
    running,
    worker_options,
)
from pyoco_server.backend import Backend, open_backend
from pyoco_server.gateway.live_runs import LiveRun, LiveRuns
from pyoco_server.gateway.new_run import NewRun
from pyoco_server.jetstream import advisories
from pyoco_server.jetstream.api import call
from pyoco_server.jetstream.consumer import Message, PullConsumer
from pyoco_server.jetstream.errors import NotFound
from pyoco_server.jetstream.inventory import consumer_info, stream_info, update_stream
from pyoco_server.jetstream.keyvalue import KeyValue
from pyoco_server.jetstream.publish import publish_acked
from pyoco_server.jetstream.resources import ensure_consumer
from pyoco_server.model import life
from pyoco_server.model.job import Job, decode_job, encode_job, new_run_id
from pyoco_server.model.run import RunSnapshot, RunStatus, encode_snapshot
from pyoco_server.store.queue import JobQueue, QueuedJob
from pyoco_server.store.runs import RunNotFound, RunStore

FAST: dict[str, Any] = {
    "reaper_interval_sec": 0.1,
    "run_orphan_after_sec": 0.5,
    "run_heartbeat_interval_sec": 0.1,
    "consumer_ack_wait_sec": 0.4,
    "consumer_max_deliver": 2,
}


@asynccontextmanager
async def reaping(folder: Path, **changes: Any) -> AsyncIterator[Backend]:
    async with running(folder, worker=False, **{**FAST, **changes}) as backend:
        await ensure_consumer(backend.connection, backend.settings, TAG)
        yield backend


def runs_of(backend: Backend) -> RunStore:
    return RunStore(KeyValue(backend.connection, "pyoco_runs"), max_bytes=0)


def queue_of(backend: Backend) -> JobQueue:
    return JobQueue(backend.connection, backend.settings)


async def claim(backend: Backend, run_id: str) -> RunSnapshot:
    def rule(snapshot: RunSnapshot) -> tuple[RunSnapshot, None]:
        answer = life.claim(snapshot, worker_id="gone", instance_id="gone", slot=0, now=time.time())
        return answer.snapshot, None

    return (await runs_of(backend).change(run_id, rule))[0].snapshot


async def remove_all(backend: Backend) -> None:
    for job in await queue_of(backend).contents():
        await queue_of(backend).remove(job.sequence)


async def reasons(backend: Backend) -> list[str]:
    return [letter["reason"] for letter in await dead_letters(backend)]


async def test_a_running_run_without_worker_and_job_ends_failed(tmp_path: Path) -> None:
    async with reaping(tmp_path) as backend:
        accepted = await backend.submit(new_run("quick"))
        await deliver(backend)
        await claim(backend, accepted.run_id)
        await remove_all(backend)
        state = await ended(backend, accepted.run_id)
        assert (state.status, state.reason) == (RunStatus.FAILED, "worker_crashed")
        assert "no sign of life" in (state.error or "")

        async def told() -> bool:
            return await reasons(backend) == ["worker_crashed"]

        await eventually(told, what="one dead letter")
        (letter,) = await dead_letters(backend)
        assert (letter["run_id"], letter["worker_id"]) == (accepted.run_id, "gone")


async def test_a_pending_run_without_job_ends_failed(tmp_path: Path) -> None:
    async with reaping(tmp_path) as backend:
        accepted = await backend.submit(new_run("quick"))
        await remove_all(backend)
        state = await ended(backend, accepted.run_id)
        assert (state.status, state.reason) == (RunStatus.FAILED, "job_lost")


async def test_a_pending_run_that_waits_for_a_worker_is_left_alone(tmp_path: Path) -> None:
    async with reaping(tmp_path) as backend:
        waiting = await backend.submit(new_run("quick"))
        # The lost one's end shows that the reaper has looked at both.
        lost = await backend.submit(new_run("quick"))
        job = next(j for j in await queue_of(backend).contents() if j.run_id == lost.run_id)
        await queue_of(backend).remove(job.sequence)
        await ended(backend, lost.run_id)
        assert (await backend.get(waiting.run_id)).status is RunStatus.PENDING
        async with open_backend(
            backend.settings_with_node(), gateway=False, worker=worker_options(tmp_path)
        ):
            assert (await ended(backend, waiting.run_id)).status is RunStatus.COMPLETED


async def test_a_cancel_without_an_owner_ends_cancelled(tmp_path: Path) -> None:
    async with reaping(tmp_path) as backend:
        accepted = await backend.submit(new_run("quick"))
        await deliver(backend)
        await claim(backend, accepted.run_id)
        answer = await backend.cancel(accepted.run_id, reason="enough")
        assert answer.status is RunStatus.CANCELLING
        state = await ended(backend, accepted.run_id)
        assert (state.status, state.cancel_reason) == (RunStatus.CANCELLED, "enough")
        assert await reasons(backend) == []


async def test_used_up_deliveries_end_the_run_at_the_word_of_the_server(tmp_path: Path) -> None:
    # The look for lost runs is too far away to help here.
    async with reaping(tmp_path, run_orphan_after_sec=600.0) as backend:
        accepted = await backend.submit(new_run("quick", x=5))
        for _ in range(2):
            await deliver(backend)
        await claim(backend, accepted.run_id)
        consumer = PullConsumer(backend.connection, "PYOCO_WORK", f"pyoco_workers_{TAG}")

        async def over() -> bool:
            # The server tells when a pull meets the message, as those of other workers would.
            assert await consumer.fetch(1, expires=0.2) == []
            return (await backend.get(accepted.run_id)).status.terminal

        await eventually(over)
        consumer.close()
        state = await backend.get(accepted.run_id)
        assert (state.status, state.reason) == (RunStatus.FAILED, "max_deliveries")

        async def settled() -> bool:
            return await queued(backend) == 0 and await queued(backend, "PYOCO_ADVISORIES") == 0

        await eventually(settled)
        (letter,) = await dead_letters(backend)
        assert (letter["reason"], letter["run_id"]) == ("max_deliveries", accepted.run_id)


async def test_a_long_queue_is_not_read_for_each_job_that_used_up_its_deliveries(
    tmp_path: Path,
) -> None:
    many, looks = 20, 0
    real = JobQueue.contents

    async def counted(queue: JobQueue) -> list[QueuedJob]:
        nonlocal looks
        looks += 1
        return await real(queue)

    async with reaping(tmp_path, run_orphan_after_sec=600.0) as backend:
        consumer = PullConsumer(backend.connection, "PYOCO_WORK", f"pyoco_workers_{TAG}")
        await backend.submit_all([NewRun("quick", tag="other")] * 200)
        await backend.submit_all([new_run("quick")] * many)
        deliveries = 0

        async def used_up() -> bool:
            nonlocal deliveries
            deliveries += len(await consumer.fetch(many, expires=0))
            return deliveries == 2 * many

        async def over() -> bool:
            assert await consumer.fetch(1, expires=0.2) == []
            return await reasons(backend) == ["max_deliveries"] * many

        await eventually(used_up)
        with mock.patch.object(JobQueue, "contents", counted):
            await eventually(over)
        consumer.close()
        assert await queued(backend) == 200
    assert looks < many // 2


async def test_used_up_deliveries_whose_word_was_lost_are_found(tmp_path: Path) -> None:
    async with reaping(tmp_path) as backend:
        await call(backend.connection, "STREAM.DELETE.PYOCO_ADVISORIES", answer=dict[str, Any])
        accepted = await backend.submit(new_run("quick"))
        for _ in range(2):
            await deliver(backend)
        await claim(backend, accepted.run_id)
        consumer = PullConsumer(backend.connection, "PYOCO_WORK", f"pyoco_workers_{TAG}")

        async def over() -> bool:
            await consumer.fetch(1, expires=0.2)
            return (await backend.get(accepted.run_id)).status.terminal

        await eventually(over)
        consumer.close()
        assert (await backend.get(accepted.run_id)).reason == "max_deliveries"

        await empty_queue(backend)


async def test_a_fresh_copy_of_a_used_up_job_keeps_its_run_alive(tmp_path: Path) -> None:
    async with reaping(tmp_path, run_orphan_after_sec=600.0) as backend:
        accepted = await backend.submit(new_run("quick"))
        for _ in range(2):
            old = await deliver(backend)
        await queue_of(backend).put_again(decode_job(old.data), old.stream_sequence)

        consumer = PullConsumer(backend.connection, "PYOCO_WORK", f"pyoco_workers_{TAG}")
        fresh: list[Message] = []

        async def one_left() -> bool:
            fresh.extend(await consumer.fetch(1, expires=0.2))
            contents = await queue_of(backend).contents()
            return [job.sequence for job in contents] == [old.stream_sequence + 1]

        await eventually(one_left, what="the end of the old copy")
        consumer.close()
        assert (await backend.get(accepted.run_id)).status is RunStatus.PENDING
        assert fresh


async def test_a_used_up_message_that_is_no_job_is_buried(tmp_path: Path) -> None:
    async with reaping(tmp_path) as backend:
        await publish_acked(backend.connection, f"pyoco.work.{TAG}", b"garbage")
        consumer = PullConsumer(backend.connection, "PYOCO_WORK", f"pyoco_workers_{TAG}")

        async def buried() -> bool:
            await consumer.fetch(1, expires=0.2)
            return await queued(backend) == 0

        await eventually(buried)
        consumer.close()
        (letter,) = await dead_letters(backend)
        assert (letter["reason"], letter["payload"]) == ("max_deliveries", "garbage")


async def test_several_gateways_write_one_end_and_one_letter(tmp_path: Path) -> None:
    async with (
        reaping(tmp_path) as one,
        open_backend(one.settings_with_node()) as two,
        open_backend(one.settings_with_node()) as three,
    ):
        await two.wait_ready(within=60)
        await three.wait_ready(within=60)
        accepted = [await one.submit(new_run("quick")) for _ in range(8)]
        await remove_all(one)
        for run in accepted:
            assert (await ended(one, run.run_id)).reason == "job_lost"

        async def told() -> bool:
            return len(await dead_letters(one)) == 8

        await eventually(told)
        # Each gateway has looked again by the time that a further run has ended.
        last = await three.submit(new_run("quick"))
        await remove_all(one)
        await ended(one, last.run_id)

        async def of_each() -> bool:
            return len({letter["run_id"] for letter in await dead_letters(one)}) == 9

        await eventually(of_each)
        assert len(await dead_letters(one)) == 9


async def test_a_run_of_an_older_worker_is_judged_by_its_heartbeat(tmp_path: Path) -> None:
    async with reaping(tmp_path) as backend:
        accepted = await backend.submit(new_run("quick"))
        await remove_all(backend)
        bucket = KeyValue(backend.connection, "pyoco_runs")
        # As 0.5.1 writes it: without attempt and instance, whatever is there.
        theirs = replace(
            await backend.get(accepted.run_id), status=RunStatus.RUNNING, worker_id="old"
        )
        stop = time.time() + 1.5
        while time.time() < stop:
            beat = replace(theirs, heartbeat_at=time.time())
            await bucket.put(accepted.run_id, encode_snapshot(beat, max_bytes=0))
            assert (await runs_of(backend).get(accepted.run_id)).snapshot == beat
            await trio.sleep(0.05)
        state = await ended(backend, accepted.run_id)
        assert (state.status, state.reason) == (RunStatus.FAILED, "worker_crashed")


async def test_the_job_of_an_ended_run_is_removed(tmp_path: Path) -> None:
    async with reaping(tmp_path) as backend:
        accepted = await backend.submit(new_run("quick"))
        again = Job(run_id=accepted.run_id, flow_name="quick", tag=TAG)
        await backend.cancel(accepted.run_id)
        await ended(backend, accepted.run_id)
        await publish_acked(backend.connection, f"pyoco.work.{TAG}", encode_job(again))
        # A lost run makes the reaper look through the queue.
        lost = await backend.submit(new_run("quick"))
        for job in await queue_of(backend).contents():
            if job.run_id == lost.run_id:
                await queue_of(backend).remove(job.sequence)

        await empty_queue(backend)


async def test_a_run_goes_away_some_time_after_its_end(tmp_path: Path) -> None:
    async with reaping(tmp_path, runs_ttl_sec=1.0) as backend:
        accepted = await backend.submit(new_run("quick"))
        await backend.cancel(accepted.run_id)
        await eventually(lambda: gone(backend, accepted.run_id))


async def gone(backend: Backend, run_id: str) -> bool:
    try:
        await backend.get(run_id)
    except RunNotFound:
        return True
    return False


async def test_a_run_that_older_versions_ended_goes_away_too(tmp_path: Path) -> None:
    async with reaping(tmp_path, runs_ttl_sec=1.0) as backend:
        bucket = KeyValue(backend.connection, "pyoco_runs")
        run_id = new_run_id()
        old = replace(
            life.pending(Job(run_id=run_id, flow_name="f")),
            status=RunStatus.COMPLETED,
            end_time=time.time(),
        )
        await bucket.put(run_id, encode_snapshot(old, max_bytes=0))
        await eventually(lambda: gone(backend, run_id))


@pytest.mark.parametrize("allowed", [True, False])
async def test_a_bucket_without_expiry_takes_ends_and_learns_it(
    tmp_path: Path, *, allowed: bool
) -> None:
    async with reaping(tmp_path) as backend:
        bucket = KeyValue(backend.connection, "pyoco_runs")
        plain = "KV_plain"
        info = await stream_info(backend.connection, bucket.stream)
        assert info is not None
        config = info.config | {"name": plain, "subjects": ["$KV.plain.>"]}
        await call(
            backend.connection,
            f"STREAM.CREATE.{plain}",
            config | {"allow_msg_ttl": False},
            answer=dict[str, Any],
        )
        if allowed:
            made = await stream_info(backend.connection, plain)
            assert made is not None
            await update_stream(backend.connection, made.config | {"allow_msg_ttl": True})
        runs = RunStore(KeyValue(backend.connection, "plain"), max_bytes=0, ttl_seconds=1.0)
        stored = await runs.create(life.pending(Job(run_id="r", flow_name="f")))
        end = life.abandon(stored.snapshot, reason="job_lost", error="e", now=time.time())
        await runs.replace(stored, end.snapshot)
        assert await runs.has_ended("r") or allowed
        if allowed:

            async def away() -> bool:
                return not await runs.has_ended("r")

            await eventually(away)
        else:
            await runs.forget("r")
            assert not await runs.has_ended("r")


async def test_a_gateway_that_has_just_started_ends_no_run_whose_worker_lives(
    tmp_path: Path,
) -> None:
    """It is told of used-up deliveries before it knows which runs show signs of life."""

    never = mock.PropertyMock(return_value=False)
    with mock.patch.object(LiveRuns, "caught_up", never, create=True):
        async with reaping(tmp_path) as backend:
            accepted = await backend.submit(new_run("quick"))
            for _ in range(2):
                await deliver(backend)
            await claim(backend, accepted.run_id)

            async def put_off() -> bool:
                consumer = PullConsumer(backend.connection, "PYOCO_WORK", f"pyoco_workers_{TAG}")
                await consumer.fetch(1, expires=0.2)  # JetStream notices as it looks for more
                consumer.close()
                try:
                    info = await consumer_info(
                        backend.connection, advisories.STREAM, advisories.DURABLE
                    )
                except NotFound:
                    return False
                return info.num_redelivered > 0

            await eventually(put_off, what="an advisory that is looked at again")
            assert (await backend.get(accepted.run_id)).status is RunStatus.RUNNING


async def test_a_long_queue_is_not_read_all_the_time(tmp_path: Path) -> None:
    looks = 0
    real = JobQueue.contents

    async def slow(queue: JobQueue) -> list[QueuedJob]:
        nonlocal looks
        looks += 1
        await trio.sleep(0.5)
        return await real(queue)

    sweeps = 0
    enough = trio.Event()
    silent = LiveRuns.silent

    def counted(live: LiveRuns, *patience: float) -> Iterator[LiveRun]:
        nonlocal sweeps
        sweeps += looks > 0
        if sweeps > 30:
            enough.set()
        return silent(live, *patience)

    with (
        mock.patch.object(JobQueue, "contents", slow),
        mock.patch.object(LiveRuns, "silent", counted),
    ):
        async with reaping(tmp_path, run_orphan_after_sec=0.1) as backend:
            await backend.submit_all([new_run("quick") for _ in range(20)])
            with trio.fail_after(60):
                await enough.wait()
            assert looks == 1


async def test_a_run_that_no_message_has_room_for_any_more_ends_and_holds_up_no_other(
    tmp_path: Path,
) -> None:
    """Version 0.5.1 accepts params that fill a message to its last byte."""
    async with reaping(tmp_path) as backend:
        runs = KeyValue(backend.connection, "pyoco_runs")
        large = RunSnapshot(
            run_id=new_run_id(),
            flow_name="quick",
            status=RunStatus.PENDING,
            tag=TAG,
            tags=[TAG],
            heartbeat_at=time.time(),
            updated_at=time.time(),
        )
        room = (runs.max_value_bytes or 0) - len(encode_snapshot(large, max_bytes=0))
        large = replace(large, params={"x": "x" * (room - 20)})
        await runs.put(large.run_id, encode_snapshot(large, max_bytes=0))
        accepted = await backend.submit(new_run("quick"))
        await remove_all(backend)
        for run_id in (accepted.run_id, large.run_id):
            state = await ended(backend, run_id)
            assert (state.status, state.reason) == (RunStatus.FAILED, "job_lost")


@pytest.mark.parametrize("name", ["indexer", "projector"])
async def test_runs_are_looked_after_over_a_crash_of_what_follows_them(
    tmp_path: Path, name: str
) -> None:
    async with reaping(tmp_path, run_orphan_after_sec=1.5) as backend:
        accepted = [await backend.submit(new_run("quick"))]
        await backend.system.restart(f"/gateway/reading/runs/{name}")
        accepted.append(await backend.submit(new_run("quick")))
        await remove_all(backend)
        for run in accepted:
            assert (await ended(backend, run.run_id)).reason == "job_lost"


async def test_a_gateway_that_starts_again_looks_after_the_runs_of_before(tmp_path: Path) -> None:
    async with reaping(tmp_path, run_orphan_after_sec=600.0) as backend:
        accepted = await backend.submit(new_run("quick"))
        await remove_all(backend)
        stored = await runs_of(backend).get(accepted.run_id)
        with trio.fail_after(60):
            await backend.reads.indexer.reached(stored.revision)
    async with reaping(tmp_path) as backend:
        assert (await ended(backend, accepted.run_id)).reason == "job_lost"


async def test_a_worker_lost_between_an_end_and_its_letter_leaves_the_letter_to_the_next(
    tmp_path: Path,
) -> None:
    calm = {"run_orphan_after_sec": 600.0, "consumer_max_deliver": 9}
    async with reaping(tmp_path, **calm) as backend:
        accepted = await backend.submit(new_run("quick"))
        delivered = await deliver(backend)
        await claim(backend, accepted.run_id)

        def fail(snapshot: RunSnapshot) -> tuple[RunSnapshot, None]:
            end = life.finish(
                snapshot,
                instance_id="gone",
                attempt=1,
                status=RunStatus.FAILED,
                now=time.time(),
                error="boom",
                reason="execution_error",
            )
            return end.snapshot, None

        await runs_of(backend).change(accepted.run_id, fail)
        assert await dead_letters(backend) == []
        async with open_backend(
            backend.settings_with_node(), gateway=False, worker=worker_options(tmp_path)
        ):
            await empty_queue(backend)
            (letter,) = await dead_letters(backend)
            assert (letter["reason"], letter["error"]) == ("execution_error", "boom")
            assert (letter["run_id"], letter["worker_id"]) == (accepted.run_id, "gone")
        # One whose acknowledgement was lost makes no second letter.
        await publish_acked(backend.connection, f"pyoco.work.{TAG}", delivered.data)
        await deliver(backend)
        async with open_backend(
            backend.settings_with_node(), gateway=False, worker=worker_options(tmp_path)
        ):
            await empty_queue(backend)
        assert len(await dead_letters(backend)) == 1
