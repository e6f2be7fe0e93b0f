"""One run under any interleaving of everybody who takes part in its life.

The bucket and the queue are models: a compare-and-set cell whose writers read early and write late, and a
message with leases that run out. What the submitter, the slots, the canceller and the reaper do between
two of their steps is in the machine below; what they may write is decided by the rules under test.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from hypothesis import HealthCheck, Phase, note, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    rule,
    run_state_machine_as_test,
)
from msgspec import UNSET
from msgspec.structs import replace

from pyoco_server.model import decisions, life
from pyoco_server.model.event import is_first
from pyoco_server.model.job import Job
from pyoco_server.model.punctuality import has_started, is_expired, moved, with_lateness
from pyoco_server.model.run import Moment, RunSnapshot, RunStatus, TaskState, known

JOB = Job(run_id="r", flow_name="f", submitted_at=10.0)
MAX_DELIVER = 5
RESPECTED_SECONDS = 5.0
TERMINAL = [status for status in RunStatus if status.terminal]
REASONS = ["execution_error", "flow_not_found", "timeout"]
LAGS = [0, 0, 0, 0, 0, 1, 1, 2]
"""How many revisions ago a writer read what it now writes on."""
TIMES = {
    "scheduled_for": 25.0,
    "expires_at": 80.0,
    "expected_start_within_sec": 10.0,
    "expected_end_within_sec": 40.0,
}
TROUBLES = [
    *("lease_runs_out", "stop_worker", "kill_worker", "cancel", "reap", "take_back"),
    *("move", "expire", "mark_late"),
]


@dataclass(frozen=True)
class Choice:
    """What a step needs to have decided, out of one byte."""

    byte: int

    @property
    def lag(self) -> int:
        return LAGS[self.byte % 8]

    @property
    def pick(self) -> int:
        return self.byte // 8 % 4

    @property
    def more(self) -> int:
        return self.byte // 32


@dataclass
class Delivery:
    """A job in the hands of a slot, from its delivery to its ack, nak or the slot's death."""

    instance: str
    number: int
    held_until: float | None = None
    """What its message was held back for."""
    attempt: int | None = None
    """Set when the slot's claim was stored."""
    ended: bool = False
    """The slot has stored an end, or was refused: only the ack is left."""


@dataclass
class Tally:
    """What the interleavings were like."""

    runs: int = 0
    moves: int = 0
    refused_writes: int = 0
    revisions: int = 0
    ends: Counter[str] = field(default_factory=Counter)
    attempts: Counter[int] = field(default_factory=Counter)


class Life(RuleBasedStateMachine):
    """The bucket, the queue, and whoever is in the middle of something."""

    tally = Tally()
    blind = False
    """Planted: writes that look at no revision."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 10.0
        self.history: list[RunSnapshot | None] = [None]
        self.in_queue = False
        self.leased: Delivery | None = None
        """Who has the lease; nobody when it ran out or was given back."""
        self.delivered = 0
        self.due = 0.0
        self.held_until: Moment = UNSET
        self.slots: list[Delivery] = []
        self.claims: list[Delivery] = []
        self.accepted = False
        self.submitting = False
        self.published = False
        self.cancel_acknowledged = False
        self.answers: list[RunSnapshot] = []

    @initialize(
        attempts=st.sampled_from([None, None, 1, 2, 3]),
        calm=st.sets(st.sampled_from(TROUBLES)),
        times=st.sampled_from([{}, {}, {"scheduled_for": 20.0}, {"expires_at": 60.0}, TIMES]),
    )
    def submit(self, attempts: int | None, calm: set[str], times: dict[str, float]) -> None:
        """Begin; what of the troubles is not to happen makes room for more of the others."""
        self.calm = calm
        self.job = replace(JOB, max_attempts=attempts, retry_backoff_sec=3.0)
        self.job = replace(self.job, **times)
        # The server queues it when it is due.
        self.due = times.get("scheduled_for", 0.0)
        self.held_until = self.job.scheduled_for
        self.write(None, life.pending(self.job))
        self.submitting = True

    @rule(script=st.binary(min_size=24, max_size=40))
    def go_on(self, script: bytes) -> None:
        """Two bytes a step: which of those that are possible, and how."""
        for which, how in zip(script[::2], script[1::2], strict=False):
            moves = [move for move in self.moves() if move.__name__ not in self.calm]
            move = moves[which % len(moves)]
            note(f"{move.__name__}({Choice(how)})")
            self.tally.moves += 1
            move(Choice(how))
            self.check()

    def moves(self) -> list[Callable[[Choice], None]]:
        """What can happen now, what leads on first, and more than once."""
        moves: list[Callable[[Choice], None]] = []
        if self.submitting:
            moves += [self.publish] * 4 * (not self.published) + [self.take_back]
        if self.deliverable and self.due <= self.now:
            moves += [self.deliver] * 3
        if self.leased is not None:
            moves += [self.lease_runs_out]
        if any(slot.attempt is None and not slot.ended for slot in self.slots):
            moves += [self.claim] * 3
        if any(not slot.ended for slot in self.claims):
            moves += [self.progress, self.finish, self.finish, self.stop_worker]
        if any(slot.ended for slot in self.slots):
            moves += [self.ack] * 2
        if self.slots:
            moves += [self.kill_worker]
        if self.accepted:
            moves += [self.cancel]
            moves += [self.move]
        if self.cancel_acknowledged and not self.over:
            moves += [self.end_unclaimed]
        if self.job.expires_at is not UNSET and not self.over:
            moves += [self.expire]
        if self.job.expected_end_within_sec is not UNSET and not self.over:
            moves += [self.mark_late]
        if self.accepted and not self.deliverable and self.leased is None:
            moves += [self.reap]
        return [*moves, self.wait]

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
        if read is not self.history[-1] and not self.blind:
            self.tally.refused_writes += 1
            return False
        self.history.append(snapshot)
        return True

    # The submitter

    def publish(self, how: Choice) -> None:
        """The job is stored; when its acknowledgement is lost, the submitter does not know."""
        self.in_queue = self.published = True
        if how.more < 6:
            self.submitting = False
            self.accepted = True

    def take_back(self, how: Choice) -> None:
        """Withdraw the snapshot that nobody touched; where somebody did, the run was accepted."""
        self.submitting = False
        first = self.history[1]
        if self.stored is not None and is_first(self.stored):
            first = self.stored  # nobody but the time has touched it
        if not self.write(first, None):
            self.accepted = self.published

    # The queue

    @property
    def deliverable(self) -> bool:
        return self.in_queue and self.leased is None and self.delivered < MAX_DELIVER

    def deliver(self, how: Choice) -> None:
        self.delivered += 1
        self.leased = Delivery(f"i{how.more}", self.delivered, known(self.held_until))
        self.slots.append(self.leased)

    def lease_runs_out(self, how: Choice) -> None:
        """A slot that was paused or cut off still believes that it has the job."""
        self.leased = None

    def leave_queue(self) -> None:
        """An ack of anybody who ever got the message takes it off the queue."""
        self.in_queue = False
        self.leased = None

    # Slots

    def claim(self, how: Choice) -> None:
        unclaimed = [slot for slot in self.slots if slot.attempt is None and not slot.ended]
        slot = unclaimed[how.pick % len(unclaimed)]
        read = self.read(how.lag)
        if read is None:
            # Withdrawn: RunStore.change found no such run. A stale read of one finds out the same way.
            if self.stored is None:
                slot.ended = True
            return
        answer = life.claim(
            read,
            worker_id="w",
            instance_id=slot.instance,
            slot=0,
            now=self.now,
            due_at=slot.held_until,
            job_sequence=1,
            respected_sec=RESPECTED_SECONDS,
        )
        match answer:
            case decisions.Claimed(snapshot):
                if self.write(read, snapshot):
                    self.it_starts_in_its_time(read)
                    slot.attempt = snapshot.attempt
                    self.claims.append(slot)
            case (
                decisions.CancelInstead(snapshot)
                | decisions.AttemptsUsedUp(snapshot)
                | decisions.Expired(snapshot)
            ):
                slot.ended = self.write(read, snapshot)
            case decisions.AlreadyTerminal() | decisions.Spare():
                slot.ended = True
            case decisions.StillHeld(held):
                # The delivery is left alone: its lease runs out, unless the owner settles the job before.
                assert held.worker_instance_id != slot.instance
                slot.ended |= read is self.stored
            case decisions.NotYet(snapshot, wait):
                if read is self.stored:
                    if self.leased is slot:
                        self.held_until = snapshot.scheduled_for
                    self.nak(slot, wait)

    def at_work(self, how: Choice) -> tuple[Delivery, RunSnapshot | None]:
        slots = [slot for slot in self.claims if not slot.ended]
        return slots[how.pick % len(slots)], self.read(how.lag)

    def progress(self, how: Choice) -> None:
        slot, read = self.at_work(how)
        if read is None:
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
        if isinstance(answer, decisions.Progressed):
            self.write_of(slot, read, answer.snapshot)
        elif read is self.stored:
            slot.ended = True

    def finish(self, how: Choice) -> None:
        slot, read = self.at_work(how)
        if read is None:
            return
        status = TERMINAL[how.more % len(TERMINAL)]
        reason = REASONS[how.more // 3]
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

    def stop_worker(self, how: Choice) -> None:
        slot, read = self.at_work(how)
        if read is not None:
            answer = life.release(
                read, instance_id=slot.instance, attempt=slot.attempt or 0, now=self.now
            )
            self.end(slot, read, answer)

    def end(self, slot: Delivery, read: RunSnapshot, answer: decisions.Finish) -> None:
        match answer:
            case decisions.Finished(snapshot):
                slot.ended = self.write_of(slot, read, snapshot)
            case decisions.RetryLater(snapshot, wait):
                if self.write_of(slot, read, snapshot):
                    self.nak(slot, wait)
            case decisions.Superseded() | decisions.AlreadyTerminal():
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

    def ack(self, how: Choice) -> None:
        """A slot that has stored an end acknowledges; one that lost its claim only walks away."""
        ended = [slot for slot in self.slots if slot.ended]
        slot = ended[how.pick % len(ended)]
        self.slots.remove(slot)
        if self.over or self.stored is None:
            self.leave_queue()

    def kill_worker(self, how: Choice) -> None:
        slot = self.slots[how.pick % len(self.slots)]
        self.slots.remove(slot)
        slot.ended = True
        if self.leased is slot:
            self.leased = None

    # The canceller

    def cancel(self, how: Choice) -> None:
        read = self.read(how.lag)
        if read is None:
            return
        match life.request_cancel(read, by=None, reason=None, now=self.now):
            case decisions.CancelRequested(snapshot):
                if snapshot is not read:
                    self.cancel_acknowledged |= self.write(read, snapshot)
            case decisions.AlreadyTerminal(snapshot):
                self.answers.append(snapshot)

    def end_unclaimed(self, how: Choice) -> None:
        """What was PENDING when its cancel came ends without a worker, and its job is withdrawn."""
        read = self.read(how.lag)
        if read is None or read.status is not RunStatus.CANCELLING:
            return
        if read.worker_instance_id is None:
            answer = life.abandon(read, reason="cancelled", error="", now=self.now)
            if isinstance(answer, decisions.Finished) and self.write(read, answer.snapshot):
                self.leave_queue()

    # Who changes its times

    def move(self, how: Choice) -> None:
        """Change when it may start; its message may follow, or stay where it is."""
        read = self.read(how.lag)
        if read is None or has_started(read) or is_expired(read, self.now):
            return
        due = self.now + [-5.0, 5.0, 30.0, 60.0][how.pick]
        follows = how.more % 2 and self.in_queue and self.leased is None
        if self.write(read, moved(read, due=due, expires_at=None, now=self.now)) and follows:
            self.due, self.held_until = due, due

    def expire(self, how: Choice) -> None:
        """End it where it has not started in time, and take its job off the queue."""
        read = self.read(how.lag)
        if read is None or not is_expired(read, self.now):
            return
        answer = life.abandon(read, reason="expired", error="e", now=self.now)
        if isinstance(answer, decisions.Finished) and self.write(read, answer.snapshot):
            self.leave_queue()

    def mark_late(self, how: Choice) -> None:
        read = self.read(how.lag)
        if read is not None and not read.status.terminal:
            late = with_lateness(read, self.now)
            if late is not read:
                self.write(read, late)

    # The reaper

    def reap(self, how: Choice) -> None:
        """The job used up its deliveries, or is not there: the run ends, unless it moved meanwhile."""
        read = self.read(how.lag)
        if read is None:
            return
        answer = life.abandon(read, reason="max_deliveries", error="e", now=self.now)
        if isinstance(answer, decisions.AlreadyTerminal) or self.write(read, answer.snapshot):
            self.leave_queue()

    def wait(self, how: Choice) -> None:
        self.now += 20.0

    # What must hold

    def check(self) -> None:
        self.a_terminal_state_never_changes()
        self.an_acknowledged_cancel_is_kept()
        self.claims_are_counted_and_limited()
        self.an_accepted_run_has_a_job_until_it_ends()

    def a_terminal_state_never_changes(self) -> None:
        ended = [i for i, item in enumerate(self.history) if item and item.status.terminal]
        assert ended in ([], [len(self.history) - 1])
        assert all(answer is self.stored for answer in self.answers)

    def an_acknowledged_cancel_is_kept(self) -> None:
        if self.cancel_acknowledged:
            assert self.stored is not None
            assert self.stored.status in {RunStatus.CANCELLING, RunStatus.CANCELLED}

    def claims_are_counted_and_limited(self) -> None:
        numbers = [slot.attempt for slot in self.claims]
        assert numbers == list(range(1, len(numbers) + 1))
        if self.stored is not None and self.stored.max_attempts is not None:
            assert len(numbers) <= self.stored.max_attempts

    def it_starts_in_its_time(self, read: RunSnapshot) -> None:
        """Never before its time, as the snapshot has it, and never when it has expired."""
        if read.attempt:
            return
        due, until = known(read.scheduled_for), known(read.expires_at)
        assert due is None or self.now >= due - 0.05
        assert until is None or self.now < until

    def an_accepted_run_has_a_job_until_it_ends(self) -> None:
        if self.accepted and not self.over:
            assert self.stored is not None
            assert self.in_queue

    def teardown(self) -> None:
        """Everybody dies; one good worker and the reaper bring every accepted run to its end."""
        for slot in [*self.slots, *self.claims]:
            slot.ended = True
        self.slots.clear()
        self.leased = None
        for _ in range(50):
            if self.over or not self.accepted:
                break
            self.wait(_WELL)
            if self.deliverable and self.due > self.now:
                continue  # the server holds it back
            if self.deliverable:
                self.deliver(_WELL)
                self.claim(_WELL)
                if any(slot is self.slots[0] for slot in self.claims if not slot.ended):
                    self.finish(_WELL)
                if self.slots:
                    self.ack(_WELL)
            else:
                self.reap(_WELL)
        else:
            raise AssertionError(f"an accepted run does not end: {self.stored}")
        self.note_in_tally()

    def note_in_tally(self) -> None:
        self.tally.runs += 1
        self.tally.revisions += len(self.history) - 1
        self.tally.ends[self.stored.status if self.stored else "taken back"] += 1
        self.tally.attempts[len(self.claims)] += 1


_WELL = Choice(0)
"""Reads what is stored, and takes the first."""


def play(examples: int, *phases: Phase) -> Tally:
    """Try so many interleavings; return what they were like.

    Raises:
        AssertionError: A promise was broken; hypothesis prints the shortest way there.
    """
    Life.tally = Tally()
    while Life.tally.runs < examples:
        run_state_machine_as_test(
            Life,
            settings=settings(
                max_examples=max((examples - Life.tally.runs) * 3 // 4, 1),
                stateful_step_count=4,
                deadline=None,
                phases=phases,
                suppress_health_check=list(HealthCheck),
            ),
        )
    return Life.tally
