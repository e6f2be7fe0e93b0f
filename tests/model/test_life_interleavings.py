"""One run under any interleaving of everybody who takes part in its life.

The bucket and the queue are models: a compare-and-set cell whose writers read early and write late, and a
message with leases that run out. What the submitter, the slots, the canceller and the reaper do between
two of their steps is in the machine below; what they may write is decided by the rules under test.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from msgspec.structs import replace

from pyoco_server.model import life
from pyoco_server.model.job import Job
from pyoco_server.model.run import RunSnapshot, RunStatus, TaskState

JOB = Job(run_id="r", flow_name="f", submitted_at=10.0)
INTERLEAVINGS = int(os.environ.get("PYOCO_LIFE_INTERLEAVINGS", "10000"))
MAX_DELIVER = 5
TERMINAL = [status for status in RunStatus if status.terminal]
LAGS = st.sampled_from([0, 0, 0, 1, 2])
"""How many revisions ago a writer read what it now writes on."""


@dataclass
class Delivery:
    """A job in the hands of a slot, from its delivery to its ack, nak or the slot's death."""

    instance: str
    number: int
    attempt: int | None = None
    """Set when the slot's claim was stored."""
    ended: bool = False
    """The slot has stored an end, or was refused: only the ack is left."""


class Life(RuleBasedStateMachine):
    """The bucket, the queue, and whoever is in the middle of something."""

    runs = 0
    writes = 0

    def __init__(self) -> None:
        super().__init__()
        self.now = 10.0
        self.history: list[RunSnapshot | None] = [None]
        self.in_queue = False
        self.leased: Delivery | None = None
        """Who has the lease; nobody when it ran out or was given back."""
        self.delivered = 0
        self.due = 0.0
        self.slots: list[Delivery] = []
        self.claims: list[Delivery] = []
        self.accepted = False
        self.submitting = False
        self.published = False
        self.cancel_acknowledged = False
        self.answers: list[RunSnapshot] = []
        self.refused_writes = 0

    # The bucket

    def read(self, lag: int) -> RunSnapshot | None:
        self.now += 1.0
        return self.history[max(len(self.history) - 1 - lag, 0)]

    @property
    def stored(self) -> RunSnapshot | None:
        return self.history[-1]

    @property
    def over(self) -> bool:
        return self.stored is not None and self.stored.status.terminal

    def write(self, read: RunSnapshot | None, snapshot: RunSnapshot | None) -> bool:
        Life.writes += 1
        if read is not self.history[-1]:
            self.refused_writes += 1
            return False
        self.history.append(snapshot)
        return True

    # The submitter

    @initialize(attempts=st.sampled_from([None, None, 1, 2, 3]))
    def submit(self, attempts: int | None) -> None:
        self.job = replace(JOB, max_attempts=attempts, retry_backoff_sec=3.0)
        self.write(None, life.pending(self.job))
        self.submitting = True

    @precondition(lambda self: self.submitting and not self.published)
    @rule(answered=st.booleans())
    def publish(self, answered: bool) -> None:
        """The job is stored; when its acknowledgement is lost, the submitter does not know."""
        self.in_queue = self.published = True
        if answered:
            self.submitting = False
            self.accepted = True

    @precondition(lambda self: self.submitting)
    @rule()
    def take_back(self) -> None:
        """Withdraw the snapshot that nobody touched; where somebody did, the run was accepted."""
        self.submitting = False
        first = self.history[1]
        if not self.write(first, None):
            self.accepted = self.published

    # The queue

    @property
    def deliverable(self) -> bool:
        return self.in_queue and self.leased is None and self.delivered < MAX_DELIVER

    @precondition(lambda self: self.deliverable and self.due <= self.now)
    @rule(instance=st.sampled_from(["i1", "i2", "i3"]))
    def deliver(self, instance: str) -> None:
        self.delivered += 1
        self.leased = Delivery(instance, self.delivered)
        self.slots.append(self.leased)

    @precondition(lambda self: self.leased is not None)
    @rule()
    def lease_runs_out(self) -> None:
        """A slot that was paused or cut off still believes that it has the job."""
        self.leased = None

    def leave_queue(self) -> None:
        """An ack of anybody who ever got the message takes it off the queue."""
        self.in_queue = False
        self.leased = None

    # Slots

    def slot(self, pick: int) -> Delivery:
        return self.slots[pick % len(self.slots)]

    @precondition(lambda self: self.slots)
    @rule(pick=st.integers(0, 3), lag=LAGS)
    def claim(self, pick: int, lag: int) -> None:
        slot = self.slot(pick)
        read = self.read(lag)
        if slot.attempt is not None or slot.ended:
            return
        if read is None:
            # Withdrawn: RunStore.change found no such run. A stale read of one finds out the same way.
            if self.stored is None:
                slot.ended = True
            return
        answer = life.claim(read, worker_id="w", instance_id=slot.instance, slot=0, now=self.now)
        match answer:
            case life.Claimed(snapshot):
                if self.write(read, snapshot):
                    slot.attempt = snapshot.attempt
                    self.claims.append(slot)
            case life.CancelInstead(snapshot) | life.AttemptsUsedUp(snapshot):
                slot.ended = self.write(read, snapshot)
            case life.AlreadyTerminal():
                slot.ended = True
            case life.NotYet(_, wait):
                if read is self.stored:
                    self.nak(slot, wait)

    @precondition(lambda self: self.claims)
    @rule(pick=st.integers(0, 3), lag=LAGS)
    def progress(self, pick: int, lag: int) -> None:
        slot, read = self.claims[pick % len(self.claims)], self.read(lag)
        if read is None or slot.ended:
            return
        answer = life.progress(
            read,
            instance_id=slot.instance,
            attempt=slot.attempt or 0,
            tasks={"a": TaskState.RUNNING},
            task_records={},
            heartbeat_at=self.now,
            now=self.now,
        )
        if isinstance(answer, life.Progressed):
            self.write_of(slot, read, answer.snapshot)
        elif read is self.stored:
            slot.ended = True

    @precondition(lambda self: self.claims)
    @rule(
        pick=st.integers(0, 3),
        lag=LAGS,
        status=st.sampled_from(TERMINAL),
        reason=st.sampled_from(["execution_error", "flow_not_found", "timeout"]),
    )
    def finish(self, pick: int, lag: int, status: RunStatus, reason: str) -> None:
        slot, read = self.claims[pick % len(self.claims)], self.read(lag)
        if read is None or slot.ended:
            return
        self.end(
            slot,
            read,
            life.finish(
                read,
                instance_id=slot.instance,
                attempt=slot.attempt or 0,
                status=status,
                now=self.now,
                reason=reason if status is RunStatus.FAILED else None,
            ),
        )

    @precondition(lambda self: self.claims)
    @rule(pick=st.integers(0, 3), lag=LAGS)
    def stop_worker(self, pick: int, lag: int) -> None:
        slot, read = self.claims[pick % len(self.claims)], self.read(lag)
        if read is not None and not slot.ended:
            answer = life.release(
                read, instance_id=slot.instance, attempt=slot.attempt or 0, now=self.now
            )
            self.end(slot, read, answer)

    def end(self, slot: Delivery, read: RunSnapshot, answer: life.Finish) -> None:
        match answer:
            case life.Finished(snapshot):
                slot.ended = self.write_of(slot, read, snapshot)
            case life.RetryLater(snapshot, wait):
                if self.write_of(slot, read, snapshot):
                    self.nak(slot, wait)
            case life.Superseded() | life.AlreadyTerminal():
                slot.ended |= read is self.stored

    def nak(self, slot: Delivery, wait: float) -> None:
        """Give the job back; at the last delivery a fresh copy is queued in its place."""
        slot.ended = True
        self.slots.remove(slot)
        if self.leased is slot:
            self.leased = None
            self.due = self.now + wait
            if self.delivered == MAX_DELIVER:
                self.delivered = 0

    def write_of(self, slot: Delivery, read: RunSnapshot, snapshot: RunSnapshot) -> bool:
        """Write what an attempt has to say: only the latest claim gets it accepted."""
        wrote = self.write(read, snapshot)
        if wrote:
            assert slot is self.claims[-1]
            assert read.attempt == slot.attempt
        return wrote

    @precondition(lambda self: any(slot.ended for slot in self.slots))
    @rule(pick=st.integers(0, 3))
    def ack(self, pick: int) -> None:
        """A slot that has stored an end acknowledges; one that lost its claim only walks away."""
        ended = [slot for slot in self.slots if slot.ended]
        slot = ended[pick % len(ended)]
        self.slots.remove(slot)
        if self.over or self.stored is None:
            self.leave_queue()

    @precondition(lambda self: self.slots)
    @rule(pick=st.integers(0, 3))
    def kill_worker(self, pick: int) -> None:
        slot = self.slot(pick)
        self.slots.remove(slot)
        slot.ended = True
        if self.leased is slot:
            self.leased = None

    # The canceller

    @precondition(lambda self: self.accepted)
    @rule(lag=LAGS)
    def cancel(self, lag: int) -> None:
        read = self.read(lag)
        if read is None:
            return
        match life.request_cancel(read, by=None, reason=None, now=self.now):
            case life.CancelRequested(snapshot):
                if snapshot is not read:
                    self.cancel_acknowledged |= self.write(read, snapshot)
            case life.AlreadyTerminal(snapshot):
                self.answers.append(snapshot)

    @precondition(lambda self: self.cancel_acknowledged)
    @rule(lag=LAGS)
    def end_unclaimed(self, lag: int) -> None:
        """What was PENDING when its cancel came ends without a worker, and its job is withdrawn."""
        read = self.read(lag)
        if read is None or read.status is not RunStatus.CANCELLING:
            return
        if read.worker_instance_id is None:
            answer = life.abandon(read, reason="cancelled", error="", now=self.now)
            if isinstance(answer, life.Finished) and self.write(read, answer.snapshot):
                self.leave_queue()

    # The reaper

    @precondition(lambda self: self.accepted and not self.deliverable and self.leased is None)
    @rule(lag=LAGS)
    def reap(self, lag: int) -> None:
        """The job used up its deliveries, or is not there: the run ends, unless it moved meanwhile."""
        read = self.read(lag)
        if read is None:
            return
        answer = life.abandon(read, reason="max_deliveries", error="e", now=self.now)
        if isinstance(answer, life.AlreadyTerminal) or self.write(read, answer.snapshot):
            self.leave_queue()

    @rule()
    def wait(self) -> None:
        self.now += 20.0

    # What must hold

    @invariant()
    def a_terminal_state_never_changes(self) -> None:
        ended = [i for i, item in enumerate(self.history) if item and item.status.terminal]
        assert ended in ([], [len(self.history) - 1])
        assert all(answer is self.stored for answer in self.answers)

    @invariant()
    def an_acknowledged_cancel_is_kept(self) -> None:
        if self.cancel_acknowledged:
            assert self.stored is not None
            assert self.stored.status in {RunStatus.CANCELLING, RunStatus.CANCELLED}

    @invariant()
    def claims_are_counted_and_limited(self) -> None:
        numbers = [slot.attempt for slot in self.claims]
        assert numbers == list(range(1, len(numbers) + 1))
        if self.stored is not None and self.stored.max_attempts is not None:
            assert len(numbers) <= self.stored.max_attempts

    @invariant()
    def an_accepted_run_has_a_job_until_it_ends(self) -> None:
        if self.accepted and not self.over:
            assert self.stored is not None
            assert self.in_queue

    def teardown(self) -> None:
        """Everybody dies; one good worker and the reaper bring every accepted run to its end."""
        Life.runs += 1
        self.slots.clear()
        self.leased = None
        if not self.accepted:
            return
        for _ in range(50):
            if self.over:
                return
            self.wait()
            if self.deliverable:
                self.deliver("i9")
                self.claim(0, 0)
                if self.slots and self.slots[0].attempt is not None and not self.slots[0].ended:
                    self.finish_as_reported()
                if self.slots:
                    self.ack(0)
            else:
                self.reap(0)
        raise AssertionError(f"an accepted run does not end: {self.stored}")

    def finish_as_reported(self) -> None:
        slot, read = self.slots[0], self.read(0)
        assert read is not None
        answer = life.finish(
            read,
            instance_id=slot.instance,
            attempt=slot.attempt or 0,
            status=RunStatus.COMPLETED,
            now=self.now,
        )
        self.end(slot, read, answer)


def test_any_interleaving_keeps_the_promises() -> None:
    Life.runs = Life.writes = 0
    run_state_machine_as_test(
        Life,
        settings=settings(
            max_examples=INTERLEAVINGS,
            stateful_step_count=16,
            deadline=None,
            phases=(Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink),
            suppress_health_check=list(HealthCheck),
        ),
    )
    print(f"{Life.runs} interleavings, {Life.writes} writes")
    assert Life.runs >= INTERLEAVINGS
