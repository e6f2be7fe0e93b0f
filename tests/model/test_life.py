"""The rules of a run's life: each by itself, and all of them under any interleaving."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from msgspec.structs import replace

from pyoco_server.model import life
from pyoco_server.model.job import Job
from pyoco_server.model.run import RunSnapshot, RunStatus, TaskRecord, TaskState

JOB = Job(run_id="r", flow_name="f", submitted_at=10.0, max_attempts=None, timeout_sec=5.0)
TERMINAL = [status for status in RunStatus if status.terminal]


def claimed(snapshot: RunSnapshot, instance: str = "i1", now: float = 20.0) -> RunSnapshot:
    answer = life.claim(snapshot, worker_id="w", instance_id=instance, slot=0, now=now)
    assert isinstance(answer, life.Claimed)
    return answer.snapshot


def cancelling(snapshot: RunSnapshot) -> RunSnapshot:
    answer = life.request_cancel(snapshot, by="api_key:k", reason="tired", now=30.0)
    assert isinstance(answer, life.CancelRequested)
    return answer.snapshot


def finish(snapshot: RunSnapshot, status: RunStatus, **more: Any) -> life.Finish:
    return life.finish(snapshot, instance_id="i1", attempt=1, status=status, now=40.0, **more)


def test_a_run_begins_pending_with_what_its_job_says() -> None:
    first = life.pending(replace(JOB, tag="gpu", params={"x": 1}, tenant_id="t"))
    assert first == RunSnapshot(
        run_id="r",
        flow_name="f",
        status=RunStatus.PENDING,
        tag="gpu",
        tags=["gpu"],
        params={"x": 1},
        tenant_id="t",
        heartbeat_at=10.0,
        updated_at=10.0,
        submitted_at=10.0,
        timeout_sec=5.0,
    )


def test_a_claim_takes_the_run_and_starts_the_tasks_anew() -> None:
    first = claimed(life.pending(JOB))
    assert first.status is RunStatus.RUNNING
    assert (first.attempt, first.worker_id, first.worker_instance_id, first.slot) == (
        1,
        "w",
        "i1",
        0,
    )
    assert first.start_time == first.heartbeat_at == first.updated_at == 20.0
    second = claimed(replace(first, tasks={"a": TaskState.RUNNING}), instance="i2", now=50.0)
    assert (second.attempt, second.worker_instance_id, second.tasks) == (2, "i2", {})
    assert life.owns(second, "i2", 2)
    assert not life.owns(second, "i1", 1)
    assert not life.owns(second, "i2", 1)


def test_the_same_instance_that_claims_again_is_another_attempt() -> None:
    again = claimed(claimed(life.pending(JOB)))
    assert life.owns(again, "i1", 2)
    assert not life.owns(again, "i1", 1)


def test_a_claim_of_a_cancelled_run_ends_it_instead() -> None:
    for before in (life.pending(JOB), claimed(life.pending(JOB))):
        answer = life.claim(cancelling(before), worker_id="w", instance_id="i9", slot=1, now=50.0)
        assert isinstance(answer, life.CancelInstead)
        assert answer.snapshot.status is RunStatus.CANCELLED
        assert answer.snapshot.attempt == before.attempt
        assert answer.snapshot.worker_instance_id == before.worker_instance_id
        assert (answer.snapshot.reason, answer.snapshot.end_time) == ("cancelled", 50.0)


def test_a_run_is_claimed_only_as_often_as_it_may() -> None:
    first = claimed(life.pending(replace(JOB, max_attempts=2)))
    second = claimed(first, instance="i2")
    answer = life.claim(second, worker_id="w", instance_id="i3", slot=0, now=60.0)
    assert isinstance(answer, life.AttemptsUsedUp)
    assert answer.snapshot.status is RunStatus.FAILED
    assert answer.snapshot.reason == "max_deliveries"
    assert "2 attempts" in str(answer.snapshot.error)


def test_progress_keeps_the_status_so_that_a_cancel_is_not_lost() -> None:
    running = claimed(life.pending(JOB))
    for before in (running, cancelling(running)):
        answer = life.progress(
            before,
            instance_id="i1",
            attempt=1,
            tasks={"a": TaskState.RUNNING},
            task_records={"a": TaskRecord(state=TaskState.RUNNING)},
            heartbeat_at=33.0,
            now=34.0,
        )
        assert isinstance(answer, life.Progressed)
        assert answer.snapshot == replace(
            before,
            tasks={"a": TaskState.RUNNING},
            task_records={"a": TaskRecord(state=TaskState.RUNNING)},
            heartbeat_at=33.0,
            updated_at=34.0,
        )


@pytest.mark.parametrize("status", TERMINAL)
def test_a_running_run_ends_as_reported(status: RunStatus) -> None:
    answer = finish(claimed(life.pending(JOB)), status, error="e", reason="execution_error")
    assert isinstance(answer, life.Finished)
    assert answer.snapshot.status is status
    assert answer.snapshot.end_time == answer.snapshot.updated_at == 40.0
    if status is not RunStatus.CANCELLED:
        assert (answer.snapshot.error, answer.snapshot.reason) == ("e", "execution_error")


@pytest.mark.parametrize("status", TERMINAL)
def test_a_cancelling_run_ends_cancelled_whatever_is_reported(status: RunStatus) -> None:
    answer = finish(cancelling(claimed(life.pending(JOB))), status, error="e", reason="x")
    assert isinstance(answer, life.Finished)
    assert answer.snapshot.status is RunStatus.CANCELLED
    assert (answer.snapshot.error, answer.snapshot.reason) == (None, "cancelled")
    assert answer.snapshot.cancel_requested_by == "api_key:k"
    assert answer.snapshot.cancel_reason == "tired"


def test_a_run_does_not_end_in_the_middle_of_its_life() -> None:
    with pytest.raises(ValueError, match="not CANCELLING"):
        finish(claimed(life.pending(JOB)), RunStatus.CANCELLING)


def test_no_task_stays_running_when_its_run_has_ended() -> None:
    tasks = {state.lower(): state for state in TaskState}
    records = {"running": TaskRecord(state=TaskState.RUNNING, started_at=35.0)}
    running = claimed(life.pending(JOB))
    failed = finish(running, RunStatus.FAILED, tasks=tasks, task_records=records).snapshot
    assert failed.tasks == {
        "pending": "PENDING",
        "running": "FAILED",
        "succeeded": "SUCCEEDED",
        "failed": "FAILED",
        "cancelled": "CANCELLED",
    }
    assert failed.task_records["running"] == TaskRecord(
        state=TaskState.FAILED, started_at=35.0, ended_at=40.0
    )
    gone = finish(running, RunStatus.CANCELLED, tasks=tasks, task_records=records).snapshot
    assert (gone.tasks["pending"], gone.tasks["running"]) == ("CANCELLED", "CANCELLED")


def test_the_stored_tasks_stay_when_the_end_reports_none() -> None:
    running = replace(claimed(life.pending(JOB)), tasks={"a": TaskState.SUCCEEDED})
    assert finish(running, RunStatus.COMPLETED).snapshot.tasks == {"a": "SUCCEEDED"}


def test_the_first_cancel_request_is_remembered() -> None:
    first = cancelling(life.pending(JOB))
    assert (first.status, first.cancel_requested_at) == ("CANCELLING", 30.0)
    assert life.request_cancel(first, by="other", reason=None, now=99.0) == (
        life.CancelRequested(first)
    )


def test_a_run_that_nobody_executes_is_ended() -> None:
    running = claimed(life.pending(JOB))
    for before in (life.pending(JOB), running):
        answer = life.abandon(before, reason="worker_crashed", error="gone", now=70.0)
        assert isinstance(answer, life.Finished)
        assert (answer.snapshot.status, answer.snapshot.error) == ("FAILED", "gone")
        assert answer.snapshot.reason == "worker_crashed"
    answer = life.abandon(cancelling(running), reason="worker_crashed", error="gone", now=70.0)
    assert isinstance(answer, life.Finished)
    assert (answer.snapshot.status, answer.snapshot.error) == ("CANCELLED", None)


@pytest.mark.parametrize("status", TERMINAL)
def test_nothing_changes_a_run_that_has_ended(status: RunStatus) -> None:
    end = replace(claimed(life.pending(JOB)), status=status)
    refused = life.AlreadyTerminal(end)
    assert life.claim(end, worker_id="w", instance_id="i1", slot=0, now=1.0) == refused
    assert finish(end, RunStatus.COMPLETED) == refused
    assert life.request_cancel(end, by=None, reason=None, now=1.0) == refused
    assert life.abandon(end, reason="x", error="x", now=1.0) == refused
    assert (
        life.progress(
            end, instance_id="i1", attempt=1, tasks={}, task_records={}, heartbeat_at=1, now=1
        )
        == refused
    )


def test_an_older_attempt_is_refused() -> None:
    second = claimed(claimed(life.pending(JOB)), instance="i2")
    assert finish(second, RunStatus.COMPLETED) == life.Superseded(second)
    assert life.progress(
        second, instance_id="i1", attempt=1, tasks={}, task_records={}, heartbeat_at=1, now=1
    ) == life.Superseded(second)


@dataclass(frozen=True)
class Attempt:
    """A claim that was stored."""

    instance: str
    number: int


LAGS = st.sampled_from([0, 0, 0, 1, 2])
"""How many revisions ago a writer read what it now writes on."""

PICKS = st.integers(min_value=0, max_value=3)
"""Which attempt speaks: the latest, or one of those before it."""


class Bucket(RuleBasedStateMachine):
    """One run in a bucket with compare-and-set, and writers that read early and write late."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 10.0
        self.history = [life.pending(JOB)]
        self.attempts: list[Attempt] = []
        self.cancel_acknowledged = False
        self.terminal_answers: list[RunSnapshot] = []

    def read(self, lag: int) -> RunSnapshot:
        self.now += 1.0
        return self.history[max(len(self.history) - 1 - lag, 0)]

    def write(self, read: RunSnapshot, snapshot: RunSnapshot) -> bool:
        if read is not self.history[-1]:
            return False
        self.history.append(snapshot)
        return True

    def write_of(self, attempt: Attempt, read: RunSnapshot, snapshot: RunSnapshot) -> None:
        """Write what an attempt has to say: only the latest claim gets it accepted."""
        if self.write(read, snapshot):
            assert attempt == self.attempts[-1]

    def attempt(self, pick: int) -> Attempt:
        return self.attempts[max(len(self.attempts) - 1 - pick, 0)]

    @rule(lag=LAGS, instance=st.sampled_from(["i1", "i2"]))
    def claim(self, lag: int, instance: str) -> None:
        read = self.read(lag)
        answer = life.claim(read, worker_id="w", instance_id=instance, slot=0, now=self.now)
        match answer:
            case life.Claimed(snapshot):
                if self.write(read, snapshot):
                    assert snapshot.attempt == read.attempt + 1
                    self.attempts.append(Attempt(instance, snapshot.attempt))
            case life.CancelInstead(snapshot) | life.AttemptsUsedUp(snapshot):
                self.write(read, snapshot)
            case life.AlreadyTerminal(snapshot):
                self.terminal_answers.append(snapshot)

    @precondition(lambda self: self.attempts)
    @rule(lag=LAGS, pick=PICKS)
    def progress(self, lag: int, pick: int) -> None:
        read, attempt = self.read(lag), self.attempt(pick)
        answer = life.progress(
            read,
            instance_id=attempt.instance,
            attempt=attempt.number,
            tasks={"a": TaskState.RUNNING},
            task_records={},
            heartbeat_at=self.now,
            now=self.now,
        )
        if isinstance(answer, life.Progressed):
            self.write_of(attempt, read, answer.snapshot)

    @precondition(lambda self: self.attempts)
    @rule(lag=LAGS, pick=PICKS, status=st.sampled_from(TERMINAL))
    def finish(self, lag: int, pick: int, status: RunStatus) -> None:
        read, attempt = self.read(lag), self.attempt(pick)
        answer = life.finish(
            read,
            instance_id=attempt.instance,
            attempt=attempt.number,
            status=status,
            now=self.now,
        )
        if isinstance(answer, life.Finished):
            self.write_of(attempt, read, answer.snapshot)

    @rule(lag=LAGS)
    def cancel(self, lag: int) -> None:
        read = self.read(lag)
        match life.request_cancel(read, by=None, reason=None, now=self.now):
            case life.CancelRequested(snapshot):
                self.cancel_acknowledged |= self.write(read, snapshot)
            case life.AlreadyTerminal(snapshot):
                self.terminal_answers.append(snapshot)

    @precondition(lambda self: len(self.history) > 4)
    @rule(lag=LAGS)
    def abandon(self, lag: int) -> None:
        read = self.read(lag)
        answer = life.abandon(read, reason="worker_crashed", error="e", now=self.now)
        if isinstance(answer, life.Finished):
            self.write(read, answer.snapshot)

    @invariant()
    def a_terminal_state_never_changes(self) -> None:
        ended = [index for index, item in enumerate(self.history) if item.status.terminal]
        assert ended in ([], [len(self.history) - 1])
        assert all(answer == self.history[-1] for answer in self.terminal_answers)

    @invariant()
    def an_acknowledged_cancel_ends_cancelled(self) -> None:
        if self.cancel_acknowledged:
            assert self.history[-1].status in {RunStatus.CANCELLING, RunStatus.CANCELLED}


Bucket.TestCase.settings = settings(max_examples=250, stateful_step_count=15, deadline=None)
TestInterleavings = Bucket.TestCase
