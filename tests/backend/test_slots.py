"""Slots in trouble: a second job, a child that does not listen, NATS that refuses, answers that get lost."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest
import trio
from msgspec.structs import replace

from artifacts.saving import content
from backend.stage import (
    TAG,
    dead_letters,
    deliver,
    empty_queue,
    ended,
    eventually,
    limited,
    new_run,
    queued,
    running,
    started,
    until,
    worker_options,
)
from pyoco_server.backend import Backend, open_backend
from pyoco_server.gateway.new_run import NewRun
from pyoco_server.jetstream.api import call
from pyoco_server.jetstream.errors import ApiError, NotFound, Unavailable
from pyoco_server.jetstream.keyvalue import KeyValue
from pyoco_server.jetstream.publish import publish_acked
from pyoco_server.jetstream.resources import ensure_consumer
from pyoco_server.jetstream.stored import get_message
from pyoco_server.kernel import TapEvent, TapKind
from pyoco_server.model import decisions, life
from pyoco_server.model.job import Job, decode_job, encode_job, new_run_id
from pyoco_server.model.run import RunSnapshot, RunStatus, SnapshotTooLarge, encode_snapshot
from pyoco_server.store.queue import JobQueue
from pyoco_server.store.runs import RunStore, StoredRun
from pyoco_server.worker import executor
from pyoco_server.worker.child import SlotChild
from pyoco_server.worker.claiming import claim_run
from pyoco_server.worker.messages import Assign, Redelivered, Refresh
from pyoco_server.worker.slot import Slot, SlotMessage

pytestmark = pytest.mark.nats

T = TypeVar("T")


# A job that was meant for the incarnation before ---------------------------------------------------


async def test_a_slot_that_has_a_run_gives_a_second_job_back(tmp_path: Path) -> None:
    async with running(tmp_path) as backend:
        first = await backend.submit(new_run("slow", seconds=3))
        await started(backend, first.run_id)
        second = await backend.submit(new_run("quick"))
        message = await deliver(backend)
        slot = backend.system.ref("/worker/slots/0")
        await slot.tell(Assign(decode_job(message.data), message))
        for run in (first, second):
            assert (await ended(backend, run.run_id)).status is RunStatus.COMPLETED


# More tags than one ---------------------------------------------------------------------------------


async def test_a_run_that_no_slot_is_free_for_waits_whatever_its_worker_asked_for_before(
    tmp_path: Path,
) -> None:
    """Each job of the one tag ended a wait for the other: what was asked for there is not to be delivered."""
    options = worker_options(tmp_path, slots=4, tags=(TAG, "other"))
    async with running(tmp_path, worker=options, consumer_max_deliver=3) as backend:

        async def waited_for() -> bool:
            what = f"CONSUMER.INFO.PYOCO_WORK.pyoco_workers_{TAG}"
            try:
                return bool((await call(backend.connection, what, answer=dict))["num_waiting"])
            except NotFound:  # the first pull creates it
                return False

        long: list[str] = []
        for _ in range(4):
            await eventually(waited_for, what="a pull")
            long.append((await backend.submit(new_run("steps"))).run_id)
            await started(backend, long[-1])
        waiting = await backend.submit(NewRun("quick", tag="other"))
        await backend.cancel(long[0])
        end = await ended(backend, waiting.run_id)
        assert (end.status, end.error) == (RunStatus.COMPLETED, None)


# Code that changes ---------------------------------------------------------------------------------


async def test_code_that_changes_while_a_fresh_child_is_made_is_for_another_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, again, may = trio.Event(), trio.Event(), trio.Event()
    made = 0
    replace_child, handle = SlotChild.replace, Slot.handle

    async def replacing(child: SlotChild, *, code_changed: bool = False) -> None:
        nonlocal made
        begun.set()
        await may.wait()
        await replace_child(child, code_changed=code_changed)
        made += 1

    async def handling(slot: Slot, message: SlotMessage) -> None:
        await handle(slot, message)
        if isinstance(message, Refresh) and begun.is_set():
            again.set()

    monkeypatch.setattr(SlotChild, "replace", replacing)
    monkeypatch.setattr(Slot, "handle", handling)
    async with running(tmp_path) as backend:
        await ended(backend, (await backend.submit(new_run("quick"))).run_id)
        await backend.refresh_slots()
        with trio.fail_after(60):
            await begun.wait()
            await backend.refresh_slots()
            await again.wait()
        accepted = await backend.submit(new_run("quick"))
        may.set()
        assert (await ended(backend, accepted.run_id)).status is RunStatus.COMPLETED
        assert made == 2


# How long a job stays with a slot ------------------------------------------------------------------


async def test_a_slot_takes_no_job_before_the_folder_of_its_last_run_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The job would wait there, and nobody would show meanwhile that it is held."""
    begun, may = trio.Event(), trio.Event()
    real = SlotChild.remove_folder

    async def remove(child: SlotChild) -> None:
        begun.set()
        await may.wait()
        await real(child)

    monkeypatch.setattr(SlotChild, "remove_folder", remove)
    (tmp_path / "leavingtasks.py").write_text("def leave():\n    open('left', 'w').close()\n")
    text = "flow:\n  graph: leave\ntasks:\n  leave:\n    callable: leavingtasks:leave\n"
    options = worker_options(tmp_path, slots=2, import_paths=(str(tmp_path),))
    async with running(tmp_path, worker=options) as backend:
        try:
            leaving = (await backend.submit(NewRun("main", TAG, workflow_yaml=text))).run_id
            last = await ended(backend, leaving)
            assert last.status is RunStatus.COMPLETED
            with trio.fail_after(60):
                await begun.wait()
            for _ in range(2):  # one for each slot, were both free
                accepted = await backend.submit(new_run("quick"))
                end = await ended(backend, accepted.run_id, within=20)  # less than the ack wait
                assert end.status is RunStatus.COMPLETED
                assert end.slot != last.slot
        finally:
            may.set()


async def test_a_run_that_is_not_over_at_once_shows_life_at_once(tmp_path: Path) -> None:
    """Its job may have waited in its slot for most of the ack wait."""
    async with running(tmp_path, consumer_ack_wait_sec=3600.0) as backend:
        with trio.fail_after(60):
            async with backend.connection.subscribe("$JS.ACK.PYOCO_WORK.>") as acks:
                await backend.submit(new_run("slow", seconds=1))
                async for _, said in acks:
                    if said == b"+WPI":
                        return


# The next job, while the end of a run is stored -----------------------------------------------------


class HeldEnds:
    """Has the ends of runs wait until they may be stored."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.held = trio.Event()
        self.may = trio.Event()
        real = RunStore.replace

        async def hold(store: RunStore, stored: StoredRun, snapshot: RunSnapshot) -> StoredRun:
            if snapshot.status.terminal:
                self.held.set()
                await self.may.wait()
            return await real(store, stored, snapshot)

        monkeypatch.setattr(RunStore, "replace", hold)


@pytest.fixture
def ends(monkeypatch: pytest.MonkeyPatch) -> HeldEnds:
    return HeldEnds(monkeypatch)


@contextmanager
def handled(backend: Backend, kind: type[T]) -> Iterator[trio.MemoryReceiveChannel[T]]:
    """The messages of one kind, as each is handled by an actor."""
    send, receive = trio.open_memory_channel[T](1000)

    def listen(event: TapEvent) -> None:
        if event.kind is TapKind.HANDLED and isinstance(event.message, kind):
            send.send_nowait(event.message)

    with backend.system.tap(listen):
        yield receive


async def test_the_next_job_comes_while_an_end_is_stored(tmp_path: Path, ends: HeldEnds) -> None:
    async with running(tmp_path) as backend:
        first = await backend.submit(new_run("quick"))
        with trio.fail_after(60):
            await ends.held.wait()
            with handled(backend, Assign) as assigned:
                second = await backend.submit(new_run("quick"))
                assert (await assigned.receive()).job.run_id == second.run_id
        ends.may.set()
        for run in (first, second):
            end = await ended(backend, run.run_id)
            assert (end.status, end.attempt) == (RunStatus.COMPLETED, 1)
        await empty_queue(backend)


async def test_a_slot_with_nothing_to_do_comes_before_one_that_stores_an_end(
    tmp_path: Path, ends: HeldEnds
) -> None:
    async with running(tmp_path, worker=worker_options(tmp_path, slots=2)) as backend:
        await backend.submit(new_run("quick"))
        with trio.fail_after(60):
            await ends.held.wait()
        other = await backend.submit(new_run("quick"))
        # While the end of the first is held.
        await until(backend, other.run_id, lambda state: state.status is RunStatus.RUNNING)
        ends.may.set()
        assert (await ended(backend, other.run_id)).status is RunStatus.COMPLETED


async def test_a_worker_has_drained_when_the_last_end_is_stored(
    tmp_path: Path, ends: HeldEnds
) -> None:
    async with running(tmp_path) as backend:
        stored = RunStore(KeyValue(backend.connection, "pyoco_runs"), max_bytes=0)
        run = await backend.submit(new_run("quick"))
        with trio.fail_after(60):
            await ends.held.wait()
        assert not await backend.drain(within=0.5)
        ends.may.set()
        assert await backend.drain(within=60)
        assert (await stored.get(run.run_id)).snapshot.status is RunStatus.COMPLETED


async def test_a_job_of_a_run_that_has_ended_does_not_stay_with_the_slot_that_had_it(
    tmp_path: Path, ends: HeldEnds
) -> None:
    """The slot has said last that it stores its end, and has had no reason since to say anything."""
    async with running(tmp_path) as backend:
        first = await backend.submit(new_run("quick"))
        with trio.fail_after(60):
            await ends.held.wait()
            job = await get_message(backend.connection, "PYOCO_WORK", 1)
            assert job is not None
            with handled(backend, Assign) as assigned:
                second = await backend.submit(new_run("steps"))
                await assigned.receive()
            ends.may.set()
            await started(backend, second.run_id)
            await publish_acked(backend.connection, job.subject, job.data)
            again = await deliver(backend)
            with handled(backend, Redelivered) as redelivered:
                dispatcher = backend.system.ref("/worker/dispatcher")
                await dispatcher.tell(Redelivered(decode_job(again.data), again))
                for _ in range(3):  # dispatcher, slot, dispatcher
                    assert (await redelivered.receive()).job.run_id == first.run_id
                await backend.cancel(second.run_id)
                assert (await ended(backend, second.run_id)).status is RunStatus.CANCELLED
                await empty_queue(backend)
                assert redelivered.statistics().current_buffer_used == 0


# A delivery that is noticed late -------------------------------------------------------------------


async def test_an_old_delivery_takes_no_run_from_the_worker_that_has_it(tmp_path: Path) -> None:
    """A worker was paused with the job on its way to it; meanwhile it was delivered to another one."""
    async with running(tmp_path, worker=False) as backend:

        async def its_job_alone() -> bool:
            return await queued(backend) == 1

        settings = backend.settings_with_node()
        await ensure_consumer(backend.connection, settings, TAG)
        accepted = await backend.submit(limited("steps", max_attempts=1))
        old = await deliver(backend)
        old.give_back()  # as the server does for itself when the ack wait is over
        async with open_backend(settings, gateway=False, worker=worker_options(tmp_path)):
            await started(backend, accepted.run_id)
            options = worker_options(tmp_path, worker_id="paused")
            async with open_backend(settings, gateway=False, worker=options) as paused:
                await paused.wait_ready(within=60)
                await ended(backend, (await backend.submit(new_run("quick"))).run_id)
                slot = paused.system.ref("/worker/slots/0")
                await slot.tell(Assign(decode_job(old.data), old))
                # It has seen to the one when it has executed the next.
                after = await ended(backend, (await backend.submit(new_run("quick"))).run_id)
                assert after.worker_id == "paused"
                await eventually(its_job_alone, what="one job in the queue, that of the run")
                await backend.cancel(accepted.run_id)
                end = await ended(backend, accepted.run_id)
                assert (end.status, end.attempt, end.worker_id) == (RunStatus.CANCELLED, 1, "w1")
                await empty_queue(backend)


# NATS refuses, or its answers get lost -------------------------------------------------------------


async def test_a_run_that_cannot_be_claimed_for_a_while_uses_up_no_delivery(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its storage is full, so that no fresh copy of the job can be queued either."""
    refusals = 3
    full = ApiError(503, 10077, "no space left")
    real = JobQueue.put_again

    async def claim(*arguments: Any, **more: Any) -> tuple[StoredRun, decisions.Claim] | None:
        nonlocal refusals
        if refusals:
            refusals -= 1
            raise full
        return await claim_run(*arguments, **more)

    async def put_again(*arguments: Any) -> None:
        if refusals:
            raise full
        await real(*arguments)

    monkeypatch.setattr(executor, "claim_run", claim)
    monkeypatch.setattr(JobQueue, "put_again", put_again)
    async with running(tmp_path, consumer_max_deliver=2) as backend:
        accepted = await backend.submit(new_run("quick"))
        end = await ended(backend, accepted.run_id)
        assert (end.status, end.attempt) == (RunStatus.COMPLETED, 1)
        assert await dead_letters(backend) == []


async def test_a_claim_that_a_stopping_worker_has_not_heard_of_is_no_attempt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run FAILED, for it had had its one attempt, with nothing executed."""
    stored = trio.Event()
    real = RunStore.replace

    async def unanswered(store: RunStore, before: StoredRun, snapshot: RunSnapshot) -> StoredRun:
        after = await real(store, before, snapshot)
        if snapshot.worker_id == "w1" and snapshot.status is RunStatus.RUNNING:
            stored.set()
            await trio.sleep_forever()
        return after

    monkeypatch.setattr(RunStore, "replace", unanswered)
    async with running(tmp_path, worker=False) as backend:
        settings = backend.settings_with_node()
        accepted = await backend.submit(limited("quick", max_attempts=1))
        async with open_backend(settings, gateway=False, worker=worker_options(tmp_path)):
            with trio.fail_after(60):
                await stored.wait()
        other = worker_options(tmp_path, worker_id="w2")
        async with open_backend(settings, gateway=False, worker=other):
            end = await ended(backend, accepted.run_id)
    assert (end.status, end.worker_id, end.uncounted_attempts) == (RunStatus.COMPLETED, "w2", 1)


class LostAnswers:
    """The first write that ends an attempt is stored, and its answer gets lost with the connection."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.lost = 0
        real = RunStore.replace

        async def losing(store: RunStore, stored: StoredRun, snapshot: RunSnapshot) -> StoredRun:
            written = await real(store, stored, snapshot)
            over = snapshot.status.terminal or bool(snapshot.attempts)
            if over and not self.lost:
                self.lost += 1
                raise Unavailable("the connection broke")
            return written

        monkeypatch.setattr(RunStore, "replace", losing)


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> LostAnswers:
    return LostAnswers(monkeypatch)


async def test_artifacts_stay_when_the_answer_to_the_end_is_lost(
    tmp_path: Path, answers: LostAnswers
) -> None:
    (tmp_path / "savingtasks.py").write_text(
        "def save(ctx):\n    ctx.save_artifact('a.txt', 'kept')\n"
    )
    text = "flow:\n  graph: save\ntasks:\n  save:\n    callable: savingtasks:save\n"
    options = worker_options(tmp_path, import_paths=(str(tmp_path),))
    async with running(tmp_path, worker=options) as backend:
        accepted = await backend.submit(NewRun("main", TAG, workflow_yaml=text))
        end = await ended(backend, accepted.run_id)
        assert (end.status, answers.lost) == (RunStatus.COMPLETED, 1)
        # The slot is done with it when the next run has ended.
        await ended(backend, (await backend.submit(new_run("quick"))).run_id)
        assert await content(backend, end, "a.txt") == b"kept"


async def test_a_failure_leaves_its_letter_when_the_answer_to_the_end_is_lost(
    tmp_path: Path, answers: LostAnswers
) -> None:
    async with running(tmp_path) as backend:
        accepted = await backend.submit(new_run("broken"))
        assert (await ended(backend, accepted.run_id)).status is RunStatus.FAILED
        assert answers.lost == 1

        async def told() -> bool:
            return [each["run_id"] for each in await dead_letters(backend)] == [accepted.run_id]

        await eventually(told, what="the dead letter")


async def test_the_next_attempt_is_queued_when_the_answer_to_the_last_end_is_lost(
    tmp_path: Path, answers: LostAnswers
) -> None:
    async with running(tmp_path, consumer_ack_wait_sec=60.0) as backend:
        accepted = await backend.submit(limited("flaky", good=2, max_attempts=2))
        end = await ended(backend, accepted.run_id, within=40)
        assert (end.status, end.attempt, answers.lost) == (RunStatus.COMPLETED, 2, 1)


# A child that does not listen ----------------------------------------------------------------------


@pytest.mark.parametrize("how", ["timeout", "cancel"])
async def test_a_child_that_reads_nothing_is_stopped_all_the_same(tmp_path: Path, how: str) -> None:
    (tmp_path / "sleepy.py").write_text("import time\n\ntime.sleep(600)\n")
    options = worker_options(tmp_path, flow_resolver=f"{tmp_path / 'sleepy.py'}:resolve")
    async with running(tmp_path, worker=options, cancel_grace_period_sec=0.5) as backend:
        # More than a pipe takes.
        large = limited("quick", x="x" * 150_000, timeout_sec=0.5 if how == "timeout" else None)
        accepted = await backend.submit(large)
        if how == "cancel":
            await until(backend, accepted.run_id, lambda state: state.status is RunStatus.RUNNING)
            await backend.cancel(accepted.run_id)
        end = await ended(backend, accepted.run_id)
        assert (end.status, end.reason) == (
            (RunStatus.FAILED, "timeout")
            if how == "timeout"
            else (RunStatus.CANCELLED, "cancelled")
        )


# Snapshots that hardly fit -------------------------------------------------------------------------


async def test_a_run_beyond_the_limit_hears_of_its_cancel(tmp_path: Path) -> None:
    """One that version 0.5.1 accepted, and cancels: it tells the worker nothing."""
    async with running(
        tmp_path, max_run_snapshot_bytes=65536, run_heartbeat_interval_sec=0.1
    ) as backend:
        runs = KeyValue(backend.connection, "pyoco_runs")
        job = Job(
            run_id=new_run_id(),
            flow_name="steps",
            tag=TAG,
            params={"seconds": 60, "x": "x" * 10**5},
        )
        await runs.put(job.run_id, encode_snapshot(life.pending(job), max_bytes=0))
        await publish_acked(backend.connection, f"pyoco.work.{TAG}", encode_job(job))
        await started(backend, job.run_id)

        def rule(snapshot: RunSnapshot) -> tuple[RunSnapshot, None]:
            cancelling = replace(
                snapshot, status=RunStatus.CANCELLING, cancel_requested_at=time.time()
            )
            return cancelling, None

        await RunStore(runs, max_bytes=0).change(job.run_id, rule)
        assert (await ended(backend, job.run_id)).status is RunStatus.CANCELLED


async def test_an_end_that_can_never_be_stored_holds_up_no_other_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = RunStore.replace
    never: set[str] = set()

    async def refusing(store: RunStore, stored: StoredRun, snapshot: RunSnapshot) -> StoredRun:
        if snapshot.status.terminal and snapshot.run_id in never:
            raise SnapshotTooLarge(2, 1, {})
        return await real(store, stored, snapshot)

    monkeypatch.setattr(RunStore, "replace", refusing)
    async with running(tmp_path) as backend:
        first = await backend.submit(new_run("slow", seconds=0.5))
        never.add(first.run_id)
        await started(backend, first.run_id)
        second = await backend.submit(new_run("quick"))
        assert (await ended(backend, second.run_id)).status is RunStatus.COMPLETED


# A worker that stops -------------------------------------------------------------------------------


async def test_a_run_is_given_back_before_its_folder_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A large folder may take longer than a stopping slot has."""
    states: list[RunStatus] = []
    real = SlotChild.remove_folder
    async with running(tmp_path, worker=False) as backend:
        stored = RunStore(KeyValue(backend.connection, "pyoco_runs"), max_bytes=0)

        async def remove(child: SlotChild) -> None:
            # As it is stored: the gateway may learn a moment later what another process wrote.
            states.append((await stored.get(accepted.run_id)).snapshot.status)
            await real(child)

        accepted = await backend.submit(new_run("slow"))
        settings = backend.settings_with_node()
        async with open_backend(settings, gateway=False, worker=worker_options(tmp_path)):
            await started(backend, accepted.run_id)
            monkeypatch.setattr(SlotChild, "remove_folder", remove)
        assert states == [RunStatus.PENDING]
        assert (await backend.get(accepted.run_id)).attempts[0].reason == "worker_stopped"
        assert await queued(backend) == 1
