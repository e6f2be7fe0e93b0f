"""Runs that wait for their next attempt: they are in nobody's way, and none is lost or executed twice."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from backend.stage import (
    TAG,
    deliver,
    empty_queue,
    ended,
    eventually,
    limited,
    new_run,
    queued,
    running,
    until,
    worker_options,
)
from nats_fixtures import connected, node_in
from pyoco_server.backend import Backend, open_backend
from pyoco_server.jetstream.consumer import Message
from pyoco_server.jetstream.errors import Unanswered
from pyoco_server.jetstream.inventory import consumer_info, create_stream, stream_info
from pyoco_server.jetstream.keyvalue import KeyValue
from pyoco_server.jetstream.resources import ensure_consumer, ensure_resources
from pyoco_server.model import decisions, life
from pyoco_server.model.job import Job, decode_job
from pyoco_server.model.run import RunSnapshot, RunStatus
from pyoco_server.operations.doctor.look import look_at
from pyoco_server.operations.doctor.runs import check_runs
from pyoco_server.settings import Settings
from pyoco_server.store.queue import JobQueue
from pyoco_server.store.runs import RunStore
from pyoco_server.worker.claiming import Claimant, claim_run


async def awaiting_ack(backend: Backend) -> int:
    info = await consumer_info(backend.connection, "PYOCO_WORK", f"pyoco_workers_{TAG}")
    return info.num_ack_pending


async def test_runs_that_wait_do_not_stop_those_of_others(tmp_path: Path) -> None:
    """They filled the tag's consumer, which delivered nothing until the first wait was over."""
    async with running(tmp_path, consumer_max_ack_pending=3) as backend:
        waiting = [
            await backend.submit(limited("broken", max_attempts=3, retry_backoff_sec=300.0))
            for _ in range(5)
        ]
        for each in waiting:
            await until(backend, each.run_id, lambda s: s.next_attempt_at is not None)
        quick = await backend.submit(new_run("quick"))
        assert (await ended(backend, quick.run_id)).status is RunStatus.COMPLETED

        async def none_held() -> bool:
            return await awaiting_ack(backend) == 0

        await eventually(none_held)
        assert await queued(backend) == len(waiting)

        async def shown() -> bool:
            queues = (await backend.reads.overview()).queues
            return [(each.tag, each.pending, each.ack_pending) for each in queues] == [(TAG, 0, 0)]

        await eventually(shown)
        look = await look_at(backend.connection, backend.settings)
        assert (look.queued, look.delayed) == ({}, {TAG: len(waiting)})
        assert await check_runs(replace(look, now=look.now + 100)) == []


async def test_a_queue_that_0_5_1_made_learns_to_delay(tmp_path: Path) -> None:
    async with node_in(tmp_path) as node, connected(node) as connection:
        work = {
            "name": "PYOCO_WORK",
            "subjects": ["pyoco.work.>"],
            "retention": "workqueue",
            "max_age": 10**15,
        }
        await create_stream(connection, work)
        await ensure_resources(connection, Settings())
        info = await stream_info(connection, "PYOCO_WORK")
        assert info is not None
        assert (info.config["allow_msg_schedules"], info.config["max_age"]) == (True, 10**15)


async def test_the_next_attempt_comes_when_the_wait_is_over(tmp_path: Path) -> None:
    async with running(tmp_path) as backend:
        late: list[tuple[float, float]] = []
        # The best of some, because other programs of this machine are none of the queue's doing.
        while len(late) < 5 and max(min(late, key=max, default=(9.0, 9.0))) > 0.9:
            late.append(await _late_attempts(backend))
        assert max(min(late, key=max)) < 0.9, late
        await empty_queue(backend)


async def _late_attempts(backend: Backend) -> tuple[float, float]:
    """How much later than a wait of one second and one of two the next attempt began."""
    run = limited("flaky", good=3, max_attempts=3, retry_backoff_sec=1.0)
    state = await ended(backend, (await backend.submit(run)).run_id)
    assert (state.status, state.attempt) == (RunStatus.COMPLETED, 3)
    first, second = state.attempts
    assert state.start_time is not None
    assert second.started_at is not None
    assert first.ended_at is not None
    assert second.ended_at is not None
    late = second.started_at - first.ended_at - 1.0, state.start_time - second.ended_at - 2.0
    assert min(late) > -0.1
    return late


async def test_a_server_that_cannot_delay_messages_holds_them_as_deliveries(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def put_later(*_: object, **__: object) -> bool:
        return False

    monkeypatch.setattr(JobQueue, "put_later", put_later)
    async with running(tmp_path) as backend:
        run = limited("flaky", good=2, max_attempts=2, retry_backoff_sec=1.0)
        state = await ended(backend, (await backend.submit(run)).run_id)
        assert (state.status, state.attempt) == (RunStatus.COMPLETED, 2)


async def test_a_lost_ack_of_what_is_held_back_costs_no_attempt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The delivery comes again while the run waits, and is put beside the job that is held back."""
    real, lost = Message.ack, 0

    async def ack(message: Message, **more: Any) -> None:
        nonlocal lost
        if lost == 0:
            lost += 1
            raise Unanswered("lost on the way")
        await real(message, **more)

    monkeypatch.setattr(Message, "ack", ack)
    async with running(tmp_path, consumer_ack_wait_sec=0.5) as backend:
        run = limited("flaky", good=2, max_attempts=2, retry_backoff_sec=1.5)
        state = await ended(backend, (await backend.submit(run)).run_id)
        assert (state.status, state.attempt, lost) == (RunStatus.COMPLETED, 2, 1)
        await empty_queue(backend)


class Claims:
    """What workers do with the run of a job, step by step."""

    def __init__(self, backend: Backend, job: Job) -> None:
        self.runs = RunStore(KeyValue(backend.connection, "pyoco_runs"), max_bytes=0)
        self.queue = JobQueue(backend.connection, backend.settings)
        self.job = job

    async def claim(self, worker: str, delivery: Message) -> decisions.Claim:
        outcome = await claim_run(
            self.runs,
            self.queue,
            decode_job(delivery.data),
            delivery,
            Claimant(worker, worker, 0),
            tried=set(),
        )
        assert isinstance(outcome, tuple)
        return outcome[1]

    async def fail(self, worker: str, attempt: int) -> None:
        """Store that the attempt failed, and put the job back for later; its delivery is not acknowledged."""

        def rule(snapshot: RunSnapshot) -> tuple[RunSnapshot | None, decisions.Finish]:
            answer = life.finish(
                snapshot,
                instance_id=worker,
                attempt=attempt,
                status=RunStatus.FAILED,
                reason="execution_error",
                now=time.time(),
            )
            return answer.snapshot, answer

        _, answer = await self.runs.change(self.job.run_id, rule)
        assert isinstance(answer, decisions.RetryLater)
        due = answer.snapshot.next_attempt_at
        assert await self.queue.put_later(self.job, 0.1, next_attempt_at=due)


async def test_of_two_copies_of_a_job_one_has_the_run(tmp_path: Path) -> None:
    """A worker was killed before it acknowledged the copy whose successor is queued already."""
    async with running(tmp_path, worker=False) as backend:
        await ensure_consumer(backend.connection, backend.settings, TAG)
        # The wait is too long for any clock to be that wrong: the server says when it is over.
        await backend.submit(limited("quick", max_attempts=9, retry_backoff_sec=300.0))
        first = await deliver(backend)
        workers = Claims(backend, decode_job(first.data))
        assert isinstance(await workers.claim("a", first), decisions.Claimed)
        await workers.fail("a", 1)
        assert isinstance(await workers.claim("b", first), decisions.NotYet)
        second = await deliver(backend)
        assert isinstance(await workers.claim("b", second), decisions.Claimed)
        # The copy before it is delivered again, while b is at work.
        assert isinstance(await workers.claim("c", first), decisions.Spare)
        # It is needed, should the other one be lost.
        await workers.queue.remove(second.stream_sequence)
        again = await workers.claim("c", first)
        assert isinstance(again, decisions.Claimed)
        assert again.snapshot.attempt == 3


async def test_a_worker_that_has_the_run_drops_the_spare_copy(tmp_path: Path) -> None:
    async with running(tmp_path, worker=False) as backend:
        accepted = await backend.submit(new_run("slow", seconds=2))
        settings = backend.settings_with_node()
        one = worker_options(tmp_path, worker_id="one")
        async with open_backend(settings, gateway=False, worker=one):
            await until(backend, accepted.run_id, lambda s: s.status is RunStatus.RUNNING)
            queue = JobQueue(backend.connection, backend.settings)
            (job,) = await queue.contents()
            whole = await queue.get(job.sequence)
            assert whole is not None
            await queue.put_again(decode_job(whole.data), job.sequence)
            two = worker_options(tmp_path, worker_id="two")
            async with open_backend(settings, gateway=False, worker=two):
                state = await ended(backend, accepted.run_id)
                assert (state.status, state.attempt, state.worker_id) == ("COMPLETED", 1, "one")
                await empty_queue(backend)
