"""The rules of a run's life, each by itself; see test_life_interleavings.py for all of them at once."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import UNSET
from msgspec.structs import replace

from pyoco_server.model import decisions, life
from pyoco_server.model.job import Job
from pyoco_server.model.limits import backoff
from pyoco_server.model.run import (
    MAX_FAILED_TASKS,
    RunSnapshot,
    RunStatus,
    TaskRecord,
    TaskState,
    TryRecord,
    decode_snapshot,
    encode_snapshot,
    shown,
)

JOB = Job(run_id="r", flow_name="f", submitted_at=10.0, max_attempts=None, timeout_sec=5.0)
TERMINAL = [status for status in RunStatus if status.terminal]


def claimed(snapshot: RunSnapshot, instance: str = "i1", now: float = 20.0) -> RunSnapshot:
    answer = life.claim(snapshot, worker_id="w", instance_id=instance, slot=0, now=now)
    assert isinstance(answer, decisions.Claimed)
    return answer.snapshot


def cancelling(snapshot: RunSnapshot) -> RunSnapshot:
    answer = life.request_cancel(snapshot, by="api_key:k", reason="tired", now=30.0)
    assert isinstance(answer, decisions.CancelRequested)
    return answer.snapshot


def finish(snapshot: RunSnapshot, status: RunStatus, **more: Any) -> decisions.Finish:
    return life.finish(snapshot, instance_id="i1", attempt=1, status=status, now=40.0, **more)


def test_what_a_worker_of_051_began_has_the_limits_that_it_was_submitted_with() -> None:
    job = replace(
        JOB, snapshot_revision=7, max_attempts=1, memory_mb=100, schedule_id="s", tag="gpu"
    )
    first = life.pending(job)
    # The fields that it knows, and no others.
    theirs = RunSnapshot(
        run_id="r",
        flow_name="f",
        status=RunStatus.RUNNING,
        tag="gpu",
        tags=["gpu"],
        worker_id="old",
        start_time=15.0,
        heartbeat_at=15.0,
        updated_at=15.0,
    )
    again = life.as_submitted(theirs, job)
    assert again == replace(
        first,
        status=RunStatus.RUNNING,
        worker_id="old",
        start_time=15.0,
        heartbeat_at=15.0,
        updated_at=15.0,
        attempt=1,
    )
    answer = life.claim(again, worker_id="w", instance_id="i", slot=0, now=20.0)
    assert isinstance(answer, decisions.AttemptsUsedUp)
    waiting = replace(theirs, status=RunStatus.PENDING)
    assert claimed(life.as_submitted(waiting, job)).attempt == 1
    # Their own jobs say nothing of it.
    own = replace(job, snapshot_revision=None)
    assert life.as_submitted(theirs, own) == theirs


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


def test_of_two_messages_of_a_job_the_one_that_came_first_has_the_run() -> None:
    def claim(snapshot: RunSnapshot, sequence: int | None, **more: Any) -> decisions.Claim:
        return life.claim(
            snapshot,
            worker_id="w",
            instance_id="i2",
            slot=0,
            now=50.0,
            job_sequence=sequence,
            **more,
        )

    first = claim(life.pending(JOB), 7)
    assert isinstance(first, decisions.Claimed)
    assert claim(first.snapshot, 9) == decisions.Spare(first.snapshot)
    # That very message is delivered again, or is lost: whoever had the run has lost it.
    assert isinstance(claim(first.snapshot, 7), decisions.Claimed)
    assert isinstance(claim(first.snapshot, 9, lost=7), decisions.Claimed)
    # A worker of another version has not said which it is.
    assert isinstance(claim(claimed(life.pending(JOB)), 9), decisions.Claimed)


def test_an_old_delivery_takes_no_run_from_an_owner_that_shows_life() -> None:
    def claim(by: str, now: float, sequence: int | None = 7) -> decisions.Claim:
        return life.claim(
            running,
            worker_id="w",
            instance_id=by,
            slot=0,
            now=now,
            job_sequence=sequence,
            respected_sec=10.0,
        )

    running = life.pending(replace(JOB, max_attempts=1))
    first = claim("owner", 100.0)
    assert isinstance(first, decisions.Claimed)
    running = first.snapshot
    assert claim("other", 109.0) == decisions.StillHeld(running)
    # It let the run go, or lost it: then its job comes this late.
    assert isinstance(claim("other", 110.0), decisions.AttemptsUsedUp)
    # It shows that itself; or its clock was set.
    assert isinstance(claim("owner", 101.0), decisions.AttemptsUsedUp)
    assert isinstance(claim("other", 80.0), decisions.AttemptsUsedUp)
    # A worker of another version does not say what it has in hand.
    running = replace(running, job_sequence=None)
    assert isinstance(claim("other", 101.0), decisions.AttemptsUsedUp)


def test_a_message_that_was_held_back_says_that_it_is_time() -> None:
    """Whatever the clock of the worker says: the server has measured the wait."""
    waiting = replace(life.pending(JOB), next_attempt_at=1000.0)

    def claim(due_at: float | None) -> decisions.Claim:
        return life.claim(waiting, worker_id="w", instance_id="i", slot=0, now=400.0, due_at=due_at)

    assert isinstance(claim(1000.0), decisions.Claimed)
    # It was held back for an attempt that was made meanwhile.
    assert claim(900.0) == claim(None) == decisions.NotYet(waiting, 600.0)


def test_a_claim_of_a_cancelled_run_ends_it_instead() -> None:
    for before in (life.pending(JOB), claimed(life.pending(JOB))):
        answer = life.claim(cancelling(before), worker_id="w", instance_id="i9", slot=1, now=50.0)
        assert isinstance(answer, decisions.CancelInstead)
        assert answer.snapshot.status is RunStatus.CANCELLED
        assert answer.snapshot.attempt == before.attempt
        assert answer.snapshot.worker_instance_id == before.worker_instance_id
        assert (answer.snapshot.reason, answer.snapshot.end_time) == ("cancelled", 50.0)


def test_a_run_is_claimed_only_as_often_as_it_may() -> None:
    first = claimed(life.pending(replace(JOB, max_attempts=2)))
    second = claimed(first, instance="i2")
    answer = life.claim(second, worker_id="w", instance_id="i3", slot=0, now=60.0)
    assert isinstance(answer, decisions.AttemptsUsedUp)
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
        assert isinstance(answer, decisions.Progressed)
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
    assert isinstance(answer, decisions.Finished)
    assert answer.snapshot.status is status
    assert answer.snapshot.end_time == answer.snapshot.updated_at == 40.0
    if status is not RunStatus.CANCELLED:
        assert (answer.snapshot.error, answer.snapshot.reason) == ("e", "execution_error")


@pytest.mark.parametrize("status", TERMINAL)
def test_a_cancelling_run_ends_cancelled_whatever_is_reported(status: RunStatus) -> None:
    answer = finish(cancelling(claimed(life.pending(JOB))), status, error="e", reason="x")
    assert isinstance(answer, decisions.Finished)
    assert answer.snapshot.status is RunStatus.CANCELLED
    # How the worker stopped it is told; what a flow that ended by itself reports is not.
    error = "e" if status is RunStatus.CANCELLED else None
    assert (answer.snapshot.error, answer.snapshot.reason) == (error, "cancelled")
    assert answer.snapshot.cancel_requested_by == "api_key:k"
    assert answer.snapshot.cancel_reason == "tired"


def test_a_run_does_not_end_in_the_middle_of_its_life() -> None:
    with pytest.raises(ValueError, match="not CANCELLING"):
        finish(claimed(life.pending(JOB)), RunStatus.CANCELLING)


def test_no_task_stays_running_when_its_run_has_ended() -> None:
    # SKIPPED is what readers are shown; it is never stored.
    tasks = {state.lower(): state for state in TaskState if state is not TaskState.SKIPPED}
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
        decisions.CancelRequested(first)
    )


def test_a_run_that_nobody_executes_is_ended() -> None:
    running = claimed(life.pending(JOB))
    for before in (life.pending(JOB), running):
        answer = life.abandon(before, reason="worker_crashed", error="gone", now=70.0)
        assert isinstance(answer, decisions.Finished)
        assert (answer.snapshot.status, answer.snapshot.error) == ("FAILED", "gone")
        assert answer.snapshot.reason == "worker_crashed"
    answer = life.abandon(cancelling(running), reason="worker_crashed", error="gone", now=70.0)
    assert isinstance(answer, decisions.Finished)
    assert (answer.snapshot.status, answer.snapshot.error) == ("CANCELLED", None)


@pytest.mark.parametrize("status", TERMINAL)
def test_nothing_changes_a_run_that_has_ended(status: RunStatus) -> None:
    end = replace(claimed(life.pending(JOB)), status=status)
    refused = decisions.AlreadyTerminal(end)
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
    assert finish(second, RunStatus.COMPLETED) == decisions.Superseded(second)
    assert life.progress(
        second, instance_id="i1", attempt=1, tasks={}, task_records={}, heartbeat_at=1, now=1
    ) == decisions.Superseded(second)


def retried(**more: Any) -> decisions.Finish:
    running = claimed(life.pending(replace(JOB, max_attempts=3, retry_backoff_sec=4.0)))
    more = {"error": "it broke", "reason": "execution_error", **more}
    return finish(running, RunStatus.FAILED, **more)


@pytest.mark.parametrize("reason", sorted(life.RETRIED_REASONS))
def test_a_failed_attempt_with_attempts_left_waits_for_the_next(reason: str) -> None:
    answer = retried(reason=reason, tasks={"a": TaskState.FAILED})
    assert isinstance(answer, decisions.RetryLater)
    again = answer.snapshot
    assert (answer.wait_sec, again.next_attempt_at) == (4.0, 44.0)
    assert (again.status, again.tasks, again.start_time) == (RunStatus.PENDING, {}, None)
    assert (again.worker_id, again.worker_instance_id, again.attempt) == (None, None, 1)
    assert (again.reason, again.error) == (reason, "it broke")
    (record,) = again.attempts
    assert (record.attempt, record.worker_id, record.started_at, record.ended_at) == (
        1,
        "w",
        20.0,
        40.0,
    )
    assert (record.reason, record.error) == (reason, "it broke")


def test_a_flow_that_nobody_knows_is_not_tried_again() -> None:
    assert isinstance(retried(reason="flow_not_found"), decisions.Finished)


def test_without_max_attempts_a_failure_is_the_end() -> None:
    answer = finish(claimed(life.pending(JOB)), RunStatus.FAILED, reason="execution_error")
    assert isinstance(answer, decisions.Finished)


def test_the_last_attempt_ends_the_run_with_its_own_reason() -> None:
    last = claimed(claimed(life.pending(replace(JOB, max_attempts=2))))
    answer = life.finish(
        last,
        instance_id="i1",
        attempt=2,
        status=RunStatus.FAILED,
        now=40.0,
        error="e",
        reason="timeout",
    )
    assert isinstance(answer, decisions.Finished)
    assert (answer.snapshot.reason, answer.snapshot.error) == ("timeout", "e")


def test_a_run_is_not_claimed_before_its_wait_is_over() -> None:
    again = retried().snapshot
    early = life.claim(again, worker_id="w", instance_id="i2", slot=0, now=42.0)
    assert early == decisions.NotYet(again, 2.0)
    second = claimed(again, instance="i2", now=44.0)
    assert (second.attempt, second.next_attempt_at, second.error) == (2, None, None)
    assert [record.attempt for record in second.attempts] == [1]


def test_the_wait_doubles_up_to_the_longest() -> None:
    waits = [backoff(2.0, attempt, 10.0) for attempt in range(1, 6)]
    assert waits == [2.0, 4.0, 8.0, 10.0, 10.0]
    assert backoff(None, 1, 300.0) == 1.0
    assert backoff(1.0, 100_000, 300.0) == 300.0


def test_a_cancelled_run_is_not_tried_again() -> None:
    running = claimed(life.pending(replace(JOB, max_attempts=3)))
    answer = finish(cancelling(running), RunStatus.FAILED, reason="execution_error", error="e")
    assert isinstance(answer, decisions.Finished)
    assert answer.snapshot.status is RunStatus.CANCELLED


def test_how_a_cancelled_attempt_was_stopped_is_told() -> None:
    answer = finish(cancelling(claimed(life.pending(JOB))), RunStatus.CANCELLED, error="killed")
    assert (answer.snapshot.error, answer.snapshot.reason) == ("killed", "cancelled")


def release(snapshot: RunSnapshot) -> decisions.Finish:
    return life.release(snapshot, instance_id="i1", attempt=1, now=50.0)


def test_a_run_that_its_worker_gives_back_may_start_again_at_once() -> None:
    answer = release(claimed(life.pending(JOB)))
    assert isinstance(answer, decisions.RetryLater)
    assert (answer.wait_sec, answer.snapshot.next_attempt_at) == (0.0, None)
    assert answer.snapshot.attempts[0].reason == "worker_stopped"
    second = claimed(answer.snapshot, instance="i2", now=50.0)
    assert second.attempt == 2
    assert release(second) == decisions.Superseded(second)


def test_a_run_that_may_not_start_again_ends_when_it_is_given_back() -> None:
    answer = release(claimed(life.pending(replace(JOB, max_attempts=1))))
    assert isinstance(answer, decisions.Finished)
    assert (answer.snapshot.status, answer.snapshot.reason) == ("FAILED", "max_deliveries")
    cancelled = release(cancelling(claimed(life.pending(JOB))))
    assert isinstance(cancelled, decisions.Finished)
    assert cancelled.snapshot.status is RunStatus.CANCELLED
    assert release(cancelled.snapshot) == decisions.AlreadyTerminal(cancelled.snapshot)


@pytest.mark.parametrize("max_attempts", [None, 1])
def test_attempts_that_do_not_count_are_bounded_too(max_attempts: int | None) -> None:
    run = life.pending(replace(JOB, max_attempts=max_attempts))
    for number in range(1, life.MAX_UNCOUNTED + 1):
        answer = life.release(
            claimed(run), instance_id="i1", attempt=number, now=50.0, error="none", counts=False
        )
        run = answer.snapshot
        assert isinstance(answer, decisions.RetryLater) == (number < life.MAX_UNCOUNTED)
    assert (run.status, run.reason) == ("FAILED", "max_deliveries")
    assert run.error == "none, as in 100 attempts, which is the most"


def test_an_attempt_that_was_lost_is_told_of() -> None:
    second = claimed(claimed(life.pending(JOB)), instance="i2", now=60.0)
    (record,) = second.attempts
    assert (record.attempt, record.worker_id, record.ended_at, record.reason) == (
        1,
        "w",
        60.0,
        "lost",
    )


def test_tries_are_counted_on_after_an_attempt_that_was_lost_or_given_back() -> None:
    begun = {"a": [TryRecord(number=2, started_at=21.0)]}
    answer = life.progress(
        claimed(life.pending(JOB)),
        instance_id="i1",
        attempt=1,
        tasks={},
        task_records={},
        heartbeat_at=22.0,
        now=22.0,
        tries_begun=begun,
    )
    running = decode_snapshot(encode_snapshot(answer.snapshot, max_bytes=0))
    assert running.tries_begun == begun
    assert claimed(running, instance="i2").tries_begun == begun
    given_back = release(running)
    assert claimed(given_back.snapshot, now=500.0).tries_begun == begun
    known = life.release(running, instance_id="i1", attempt=1, now=40.0, tries_begun={})
    assert known.snapshot.tries_begun is UNSET


@pytest.mark.parametrize("max_attempts", [None, 3])
def test_an_attempt_that_ended_leaves_no_tries_to_count_on(max_attempts: int | None) -> None:
    begun = {"a": [TryRecord(number=2, started_at=21.0)]}
    running = replace(
        claimed(life.pending(replace(JOB, max_attempts=max_attempts))), tries_begun=begun
    )
    for reason in ("execution_error", "timeout"):
        ended = finish(running, RunStatus.FAILED, reason=reason).snapshot
        assert ended.status is (RunStatus.PENDING if max_attempts else RunStatus.FAILED)
        assert ended.tries_begun is UNSET


def test_a_run_tells_of_its_last_attempts_only() -> None:
    run = life.pending(JOB)
    for _ in range(30):
        run = claimed(run)
    assert [record.attempt for record in run.attempts] == list(range(10, 30))


@pytest.mark.parametrize("status", TERMINAL)
def test_an_end_that_is_stored_already_is_told_again(status: RunStatus) -> None:
    """The answer to the write was lost, and the write is tried again."""
    running = claimed(life.pending(JOB))
    first = finish(running, status)
    assert isinstance(first, decisions.Finished)
    assert finish(first.snapshot, status) == first
    # Somebody else ended it.
    other = replace(first.snapshot, end_time=41.0)
    assert finish(other, status) == decisions.AlreadyTerminal(other)


def test_a_next_attempt_that_is_stored_already_is_told_again() -> None:
    first = retried(reason="timeout")
    assert isinstance(first, decisions.RetryLater)
    assert finish(first.snapshot, RunStatus.FAILED, reason="timeout") == first
    # That one has begun: nothing is left to do.
    begun = claimed(replace(first.snapshot, next_attempt_at=None))
    assert isinstance(finish(begun, RunStatus.FAILED), decisions.Superseded)


def test_a_run_names_the_tasks_that_failed_however_it_ended() -> None:
    running = RunSnapshot(
        run_id="r", flow_name="f", status=RunStatus.RUNNING, attempt=1, worker_instance_id="i"
    )
    tasks = {"a": TaskState.FAILED, "b": TaskState.PENDING, "c": TaskState.SUCCEEDED}
    for status in (RunStatus.COMPLETED, RunStatus.FAILED):
        ended = life.finish(
            running, instance_id="i", attempt=1, status=status, now=1.0, tasks=tasks
        ).snapshot
        assert ended.failed_tasks == ["a"]
        # As readers of 0.5.1 know it.
        assert ended.tasks["b"] is TaskState.PENDING
        assert shown(ended).tasks["b"] is TaskState.SKIPPED
    many = dict.fromkeys(map(str, range(500)), TaskState.FAILED)
    ended = life.finish(
        running, instance_id="i", attempt=1, status=RunStatus.COMPLETED, now=1.0, tasks=many
    ).snapshot
    assert len(ended.failed_tasks) == MAX_FAILED_TASKS
