"""Faults 8 and 13 of pyoco-server 0.5.1: runs that were accepted and never end, or refused and executed.

0.5.1 took params that its worker could not write back, so that the run stayed PENDING for ever; and when a
publish was stored but its answer lost, it said 503, deleted the snapshot, and the run was executed unseen.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from backend.stage import TAG, empty_queue, ended, eventually, queued, running, worker_options
from pyoco_server.backend import Backend, open_backend
from pyoco_server.gateway.intake import SNAPSHOT_ROOM_BYTES
from pyoco_server.gateway.new_run import Accepted, NewRun, NotAccepted, RunTooLarge
from pyoco_server.jetstream.connection import Connection
from pyoco_server.jetstream.errors import BridgeError, Unanswered, Unavailable
from pyoco_server.jetstream.inventory import stream_info, update_stream
from pyoco_server.jetstream.keyvalue import KeyValue
from pyoco_server.jetstream.requests import RawMessage
from pyoco_server.model import life
from pyoco_server.model.job import encode_job, new_run_id
from pyoco_server.model.json_text import encode_json
from pyoco_server.model.run import RunStatus
from pyoco_server.store.runs import RunNotFound, RunStore

FLOWS = """\
import os

from pyoco.core.models import Flow
from pyoco.dsl.syntax import task


@task
def keep(text=""):
    with open(os.environ["HISTORY"], "a") as history:
        history.write(os.environ["PYOCO_RUN_ID"] + "\\n")
    return text


@task
def shout(text=""):
    raise ValueError("\\x01" * 300_000)


def resolve(name):
    return Flow(name=name) >> {"keep": keep, "shout": shout}[name]
"""


def worker(folder: Path) -> Any:
    (folder / "faulty.py").write_text(FLOWS)
    return worker_options(
        folder,
        flow_resolver=f"{folder / 'faulty.py'}:resolve",
        env={"HISTORY": str(folder / "history")},
    )


def executed(folder: Path) -> list[str]:
    """The run of each execution."""
    history = folder / "history"
    return history.read_text().split() if history.exists() else []


# Fault 8 -------------------------------------------------------------------------------------------


def text_that_fills(size: int, flow: str) -> str:
    """A param that makes the PENDING snapshot, as encoded, ``size`` bytes long."""
    empty = NewRun(flow, TAG, params={"text": ""}).job(new_run_id(), 1_000_000_000.123456)
    return "x" * (size - len(encode_json(life.pending(empty))))


@pytest.mark.parametrize("flow", ["keep", "shout"])
@pytest.mark.parametrize("setting", [262_144, 65_536, 0])
async def test_the_largest_run_that_is_accepted_ends(
    tmp_path: Path, setting: int, flow: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Just below the limit it ends, whatever it returns or raises; one byte more is refused."""
    # The time is a number of more or fewer digits.
    monkeypatch.setattr(RunStore, "now", lambda _: 1_000_000_000.123456)
    options = worker(tmp_path)
    async with running(tmp_path, worker=options, max_run_snapshot_bytes=setting) as backend:
        snapshot_limit = setting or 1024 * 1024 - 1024
        most = snapshot_limit - SNAPSHOT_ROOM_BYTES
        text = text_that_fills(most, flow)
        accepted = await backend.submit(NewRun(flow, TAG, params={"text": text}))
        state = await ended(backend, accepted.run_id)
        expected = RunStatus.COMPLETED if flow == "keep" else RunStatus.FAILED
        assert (state.status, state.attempt) == (expected, 1)
        assert state.params == {"text": text}
        assert set(state.tasks) == {flow}
        with pytest.raises(RunTooLarge, match=f"at most {most} are taken"):
            await backend.submit(NewRun(flow, TAG, params={"text": text + "x"}))


async def test_a_job_that_nats_does_not_take_is_refused_with_the_limit(tmp_path: Path) -> None:
    async with running(tmp_path, worker=False) as backend:
        text = "x" * (1024 * 1024 - 1024)
        with pytest.raises(RunTooLarge, match=r"at most 1047552 are taken \(max_payload of NATS"):
            await backend.submit(NewRun("keep", TAG, workflow_yaml=text))
        run = NewRun("keep", TAG, workflow_yaml="")
        room = 1024 * 1024 - 1024 - len(encode_job(run.job(new_run_id(), 1_000_000_000.123456)))
        await backend.submit(NewRun("keep", TAG, workflow_yaml="x" * (room - 1)))
        assert await queued(backend) == 1


async def test_the_params_that_stranded_a_run_of_0_5_1_are_refused(tmp_path: Path) -> None:
    async with running(tmp_path, worker=False) as backend:
        for length in (1_048_264, 1_048_576, 2_000_000):
            with pytest.raises(RunTooLarge, match="at most 229376 are taken"):
                await backend.submit(NewRun("keep", TAG, params={"text": "x" * length}))
        bucket = KeyValue(backend.connection, backend.settings.runs_kv_bucket)
        assert await bucket.all() == []
        assert await queued(backend) == 0


# Fault 13 ------------------------------------------------------------------------------------------


class LostAnswers:
    """Requests whose answer is lost: they reach the server and take effect there."""

    def __init__(self) -> None:
        self.lose: dict[str, int] = {}
        """Subject prefix to how many answers are lost."""

    def hit(self, subject: str) -> bool:
        for prefix, left in self.lose.items():
            if subject.startswith(prefix) and left > 0:
                self.lose[prefix] = left - 1
                return True
        return False


RUN = NewRun("keep", TAG, params={"text": "a"})
WORK = f"pyoco.work.{TAG}"
RUNS = "$KV.pyoco_runs."


class Held:
    """Holds back the first request whose subject has a prefix: before it takes effect, or its answer.

    What is held back before its effect takes effect when the gate opens, whether its sender waits or not.
    """

    def __init__(self, prefix: str, *, done: bool) -> None:
        self.reached, self.gate, self.over = trio.Event(), trio.Event(), trio.Event()
        self._prefix = prefix
        self._done = done

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        real = Connection.request

        async def request(
            connection: Connection, subject: str, payload: bytes = b"", **options: Any
        ) -> RawMessage:
            if self.reached.is_set() or not subject.startswith(self._prefix):
                return await real(connection, subject, payload, **options)
            if self._done:
                await real(connection, subject, payload, **options)
            self.reached.set()

            async def late() -> None:
                await self.gate.wait()
                if not self._done:
                    with suppress(BridgeError):
                        await real(connection, subject, payload, **options)
                self.over.set()

            trio.lowlevel.spawn_system_task(late)
            await trio.sleep_forever()
            raise AssertionError

        monkeypatch.setattr(Connection, "request", request)


@pytest.mark.parametrize("step", ["store", "enqueue"])
@pytest.mark.parametrize("done", [False, True])
@pytest.mark.parametrize("kind", ["plain", "keyed", "batch", "keyed batch"])
async def test_a_submission_that_nobody_waits_for_any_more_is_not_executed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, done: bool, kind: str
) -> None:
    """It was answered with 503 when its time was over, so it must not come to be later."""
    held = Held(RUNS if step == "store" else WORK, done=done)
    async with running(tmp_path, worker=False) as backend:
        held.install(monkeypatch)
        async with trio.open_nursery() as nursery:
            match kind:
                case "batch":
                    nursery.start_soon(backend.submit_all, [RUN] * 3)
                case "keyed batch":
                    runs = [replace(RUN, idempotency_key=f"k{number}") for number in range(3)]
                    nursery.start_soon(backend.submit_all, runs)
                case _:
                    key = "k" if kind == "keyed" else None
                    nursery.start_soon(backend.submit, replace(RUN, idempotency_key=key))
            with trio.fail_after(60):
                await held.reached.wait()
            nursery.cancel_scope.cancel()
        stored_runs = KeyValue(backend.connection, "pyoco_runs")
        withdrawn = 3 if "batch" in kind else 1
        stored = 0 if step == "store" and not done else withdrawn

        async def taken_back() -> bool:
            stream = await stream_info(backend.connection, "KV_pyoco_runs")
            assert stream is not None
            return stream.state.last_seq == stored + withdrawn and await stored_runs.all() == []

        await eventually(taken_back, what="what was stored, and that it is taken back")
        held.gate.set()
        with trio.fail_after(60):
            await held.over.wait()
        assert await taken_back(), "what comes late is refused"
        settings = backend.settings_with_node()
        async with open_backend(settings, gateway=False, worker=worker(tmp_path)):
            await empty_queue(backend)
        assert executed(tmp_path) == []


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> LostAnswers:
    lost = LostAnswers()
    real = Connection.request

    async def request(
        self: Connection, subject: str, payload: bytes = b"", **options: Any
    ) -> RawMessage:
        reply = await real(self, subject, payload, **options)
        if lost.hit(subject):
            raise Unanswered(f"request to {subject}: the answer was lost")
        return reply

    monkeypatch.setattr(Connection, "request", request)
    return lost


async def test_a_publish_whose_answer_is_lost_once_is_one_job(
    tmp_path: Path, answers: LostAnswers
) -> None:
    async with running(tmp_path, worker=worker(tmp_path)) as backend:
        answers.lose[WORK] = 1
        accepted = await backend.submit(RUN)
        assert (await ended(backend, accepted.run_id)).status is RunStatus.COMPLETED
        assert answers.lose[WORK] == 0
        await ended(backend, (await backend.submit(RUN)).run_id)
        assert executed(tmp_path).count(accepted.run_id) == 1


async def test_a_snapshot_whose_answer_is_lost_is_found(
    tmp_path: Path, answers: LostAnswers
) -> None:
    async with running(tmp_path, worker=worker(tmp_path)) as backend:
        answers.lose[RUNS] = 1
        accepted = await backend.submit(RUN)
        assert (await ended(backend, accepted.run_id)).status is RunStatus.COMPLETED


async def test_a_refused_run_is_not_executed_although_its_job_is_queued(
    tmp_path: Path, answers: LostAnswers
) -> None:
    """Refused while no worker is there: its job waits in the queue, and is dropped when one comes."""
    async with running(tmp_path, worker=False) as backend:
        answers.lose[WORK] = 10_000
        with pytest.raises(NotAccepted):
            await backend.submit(RUN)
        assert await queued(backend) == 1, "the ghost's job"
        bucket = KeyValue(backend.connection, backend.settings.runs_kv_bucket)
        assert await bucket.all() == []
        answers.lose.clear()
        async with open_backend(
            backend.settings_with_node(), gateway=False, worker=worker(tmp_path)
        ) as other:
            await other.wait_ready(within=60)
            accepted = await backend.submit(RUN)
            await ended(backend, accepted.run_id)

            await empty_queue(backend)
        assert executed(tmp_path) == [accepted.run_id]
        assert [entry.key for entry in await bucket.all()] == [accepted.run_id]


async def test_a_run_that_a_worker_has_is_accepted_though_no_answer_came(
    tmp_path: Path, answers: LostAnswers
) -> None:
    async with running(tmp_path, worker=worker(tmp_path)) as backend:
        answers.lose[WORK] = 10_000
        accepted = await backend.submit(RUN)
        assert (await ended(backend, accepted.run_id)).status is RunStatus.COMPLETED
        assert executed(tmp_path) == [accepted.run_id]


async def test_what_cannot_be_taken_back_is_named_and_taken_back_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(tmp_path, worker=False) as backend:
        real = Connection.request
        away = False

        async def request(
            self: Connection, subject: str, payload: bytes = b"", **options: Any
        ) -> RawMessage:
            nonlocal away
            if subject == WORK:
                away = True
            if away and (subject.startswith(RUNS) or "KV_pyoco_runs" in subject or subject == WORK):
                raise Unanswered("no answer")
            return await real(self, subject, payload, **options)

        monkeypatch.setattr(Connection, "request", request)
        with pytest.raises(NotAccepted, match="taking back what was stored") as refused:
            await backend.submit(RUN)
        monkeypatch.undo()
        run_id = refused.value.run_id
        assert run_id is not None

        async def gone() -> bool:
            try:
                await backend.get(run_id)
            except RunNotFound:
                return True
            return False

        await eventually(gone, what="the withdrawal")


async def test_a_keyed_run_that_was_refused_is_executed_once_when_it_is_tried_again(
    tmp_path: Path, answers: LostAnswers
) -> None:
    """The job of the refused try stays in the queue; it is not the one of the run that is accepted."""
    run = NewRun("keep", TAG, params={"text": "a"}, idempotency_key="k")
    async with running(tmp_path, worker=False) as backend:
        answers.lose[WORK] = 10_000
        with pytest.raises(NotAccepted):
            await backend.submit(run)
        answers.lose.clear()
        with trio.fail_after(60):
            accepted = await backend.submit(run)
        assert await queued(backend) == 2
        async with open_backend(
            backend.settings_with_node(), gateway=False, worker=worker(tmp_path)
        ):
            state = await ended(backend, accepted.run_id)
            assert (state.status, state.attempt) == (RunStatus.COMPLETED, 1)

            await empty_queue(backend)
        assert executed(tmp_path) == [accepted.run_id]
        assert (await backend.submit(run)).replayed


async def test_a_key_whose_settling_is_unsure_keeps_its_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Settled, and no answer came: the run must not be taken back, since the next try is told that it is."""
    run = NewRun("keep", TAG, params={"text": "a"}, idempotency_key="k")
    async with running(tmp_path, worker=worker(tmp_path)) as backend:
        real = Connection.request
        deaf = False

        async def request(
            self: Connection, subject: str, payload: bytes = b"", **options: Any
        ) -> RawMessage:
            nonlocal deaf
            reply = await real(self, subject, payload, **options)
            deaf |= subject == WORK
            if deaf and "pyoco_idempotency" in subject:
                raise Unanswered("the answer was lost")
            return reply

        monkeypatch.setattr(Connection, "request", request)
        with pytest.raises(NotAccepted, match="noting the run as accepted") as refused:
            await backend.submit(run)
        monkeypatch.undo()
        accepted = await backend.submit(run)
        assert (accepted.run_id, accepted.replayed) == (refused.value.run_id, True)
        assert (await ended(backend, accepted.run_id)).status is RunStatus.COMPLETED
        assert executed(tmp_path) == [accepted.run_id]


async def test_a_submission_that_takes_too_long_is_named_and_taken_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its time is over before NATS has answered: what may be stored is not left to chance."""
    async with running(tmp_path, worker=False) as backend:
        monkeypatch.setattr("pyoco_server.backend.backend._ASK_SECONDS", 0.5)
        bucket = KeyValue(backend.connection, "pyoco_runs")

        async def taken_back() -> bool:
            return await bucket.all() == []

        for count in (1, 2):
            outcomes: list[Accepted | Exception] = []
            held = Held(WORK, done=True)
            with monkeypatch.context() as patch:
                held.install(patch)
                try:
                    if count == 1:
                        outcomes.append(await backend.submit(RUN))
                    else:
                        outcomes += await backend.submit_all([RUN] * count)
                except NotAccepted as refused:
                    outcomes.append(refused)
            for outcome in outcomes:
                assert isinstance(outcome, NotAccepted)
                assert outcome.run_id is not None
                assert "did not answer in time" in str(outcome)
            await eventually(taken_back, what="the withdrawal")
            held.gate.set()


async def test_a_withdrawal_outlives_the_actor_that_carries_it_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answers: LostAnswers
) -> None:
    async with running(tmp_path, worker=False) as backend:
        held = Held(WORK, done=True)
        held.install(monkeypatch)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(backend.submit, RUN)
            with trio.fail_after(60):
                await held.reached.wait()
            answers.lose["$JS.API.STREAM.MSG.GET.KV_pyoco_runs"] = 1_000_000
            nursery.cancel_scope.cancel()
        held.gate.set()
        await backend.system.restart("/gateway/withdrawer")
        answers.lose.clear()
        bucket = KeyValue(backend.connection, "pyoco_runs")

        async def taken_back() -> bool:
            return await bucket.all() == []

        await eventually(taken_back, what="the withdrawal")


# Batches -------------------------------------------------------------------------------------------


async def without_batches(backend: Backend) -> None:
    """Make the streams what an older version, or a gateway before an older server, has made."""
    for name in ("PYOCO_WORK", "KV_pyoco_runs"):
        stream = await stream_info(backend.connection, name)
        assert stream is not None
        assert stream.config["allow_atomic"]
        await update_stream(backend.connection, stream.config | {"allow_atomic": False})


@pytest.mark.parametrize("lost", [(), (RUNS,), (WORK,), (RUNS, WORK)])
@pytest.mark.parametrize("way", ["batches", "streams without", "server without"])
async def test_each_run_of_a_batch_is_accepted_and_executed_once(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    answers: LostAnswers,
    way: str,
    lost: tuple[str, ...],
) -> None:
    """Whatever answer is lost, and also where NATS takes each message by itself only."""
    if way == "server without":
        monkeypatch.setattr("pyoco_server.jetstream.publish.takes_batches", lambda _: False)
    keyed = replace(RUN, idempotency_key="k")
    huge = NewRun("keep", TAG, params={"text": "x" * 1_000_000})
    async with running(tmp_path, worker=worker(tmp_path)) as backend:
        if way == "streams without":
            await without_batches(backend)
        answers.lose |= dict.fromkeys(lost, 1)
        with trio.fail_after(60):
            outcomes = await backend.submit_all([RUN, huge, RUN, keyed, keyed, RUN])
            assert not any(answers.lose.values())
            run_ids = [each.run_id for each in outcomes if isinstance(each, Accepted)]
            assert isinstance(outcomes[1], RunTooLarge)
            assert len(run_ids) == 5
            assert len(set(run_ids)) == 4
            for run_id in run_ids:
                state = await ended(backend, run_id)
                assert (state.status, state.attempt) == (RunStatus.COMPLETED, 1)
            await empty_queue(backend)
        assert sorted(executed(tmp_path)) == sorted(set(run_ids))


async def test_a_batch_that_is_not_answered_at_all_is_taken_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(tmp_path, worker=False) as backend:
        real = Connection.request

        async def request(
            self: Connection, subject: str, payload: bytes = b"", **options: Any
        ) -> RawMessage:
            if subject == WORK:
                raise Unanswered("no answer")
            return await real(self, subject, payload, **options)

        monkeypatch.setattr(Connection, "request", request)
        for outcome in await backend.submit_all([RUN] * 5):
            assert isinstance(outcome, NotAccepted)
            assert outcome.run_id is None
        bucket = KeyValue(backend.connection, "pyoco_runs")
        assert await bucket.all() == []
        assert await queued(backend) == 0


async def test_a_batch_is_one_message_in_flight_to_each_stream(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(tmp_path, worker=False) as backend:
        requests: list[str] = []
        real = Connection.request

        async def request(
            self: Connection, subject: str, payload: bytes = b"", **options: Any
        ) -> RawMessage:
            requests.append(subject)
            return await real(self, subject, payload, **options)

        monkeypatch.setattr(Connection, "request", request)
        outcomes = await backend.submit_all([RUN] * 500)
        asked = [subject for subject in requests if subject.startswith((RUNS, WORK))]
        assert len(asked) == 4, "two batches of snapshots, two of jobs"
        assert await queued(backend) == 500
        states = [await backend.get(each.run_id) for each in outcomes if isinstance(each, Accepted)]
        assert len(states) == 500


async def test_no_more_than_so_many_runs_are_worked_on_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(tmp_path, worker=False) as backend:
        real = Connection.request
        gate, full = trio.Event(), trio.Event()
        begun = refused = 0

        async def request(
            self: Connection, subject: str, payload: bytes = b"", **options: Any
        ) -> RawMessage:
            nonlocal begun
            if not subject.startswith(RUNS):
                return await real(self, subject, payload, **options)
            begun += 1
            if begun == 256:
                full.set()
            await gate.wait()
            raise Unavailable("NATS is not connected")

        async def submit() -> None:
            nonlocal refused
            with pytest.raises(NotAccepted, match="not connected"):
                await backend.submit(RUN)
            refused += 1

        monkeypatch.setattr(Connection, "request", request)
        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                for _ in range(300):
                    nursery.start_soon(submit)
                await full.wait()
                await trio.testing.wait_all_tasks_blocked()
                assert begun == 256
                gate.set()
        assert (begun, refused) == (300, 300)


@pytest.mark.parametrize("key", [None, "k"])
async def test_a_submitter_is_told_what_to_do_and_not_which_write_got_no_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str | None
) -> None:
    async with running(tmp_path, worker=False) as backend:
        run = NewRun("keep", TAG, idempotency_key=key)
        bucket = "pyoco_idempotency" if key else "pyoco_runs"
        real = Connection.request

        async def request(
            self: Connection, subject: str, payload: bytes = b"", **options: Any
        ) -> RawMessage:
            if f"KV.{bucket}." in subject:
                raise Unanswered("no answer")
            if f"KV_{bucket}" in subject:
                raise Unavailable("NATS is not connected")
            return await real(self, subject, payload, **options)

        with monkeypatch.context() as patch:
            patch.setattr(Connection, "request", request)
            with pytest.raises(NotAccepted, match="NATS did not answer in time") as refused:
                await backend.submit(run)
        assert bucket not in str(refused.value)
        assert ("the same Idempotency-Key" in str(refused.value)) == (key is not None)
        assert refused.value.run_id is None
        assert not (await backend.submit(run)).replayed
