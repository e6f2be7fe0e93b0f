"""Judges a drill by its whole history: what was submitted, every stored revision, every execution.

The invariants are those of docs/explanation/guarantees.md:

- I1: every accepted run ends.
- I2: a terminal state never changes.
- I3: an older attempt writes nothing; one attempt at a time holds a run.
- I4: no process outlives its owner.
- I6: after a fault is healed new runs complete, within 30 s.
- I7: an acknowledged cancel ends CANCELLED, or the answer says that the run had ended.
- once: a submission is one run at most, and a refused one is none.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field

from pyoco_server.model.run import RunSnapshot, RunStatus

# Clocks are read at both ends of a wire.
_SLACK_SECONDS = 0.5
HEAL_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Submission:
    """A submission, as its client knows it at the end.

    Attributes:
        ticket: Its own name; the param ``ticket`` of its run.
        outcome: "accepted", "refused", or "unknown" where no answer came and it was not tried again.
        run_id: The run, if it was accepted, or if a refusal names it as one that may show up.
    """

    ticket: str
    outcome: str
    run_id: str | None = None


@dataclass(frozen=True, slots=True)
class Revision:
    """A stored revision of a run; ``snapshot`` is None where it was deleted."""

    run_id: str
    number: int
    at: float
    snapshot: RunSnapshot | None


@dataclass(frozen=True, slots=True)
class Execution:
    """Task code that began, and ended unless it was killed."""

    run_id: str
    attempt: int
    pid: int
    began: float
    ended: float | None = None


@dataclass(frozen=True, slots=True)
class CancelAnswer:
    """The answer to a cancel: the status it told."""

    run_id: str
    status: RunStatus


@dataclass
class History:
    """All that happened. Times are unix seconds (or those of the drill's clock)."""

    submissions: list[Submission] = field(default_factory=list)
    revisions: list[Revision] = field(default_factory=list)
    executions: list[Execution] = field(default_factory=list)
    cancels: list[CancelAnswer] = field(default_factory=list)
    recoveries: list[float] = field(default_factory=list)
    """Seconds from the healing of each fault to the end of a run that was submitted after it."""
    left_over: list[int] = field(default_factory=list)
    """Processes that outlived their owner."""


@dataclass(frozen=True, slots=True)
class Violation:
    """What must not have happened."""

    invariant: str
    run_id: str
    text: str

    def __str__(self) -> str:
        return f"{self.invariant} {self.run_id}: {self.text}"


def judge(history: History) -> list[Violation]:
    """Everything in a history that must not be there."""
    by_run: dict[str, list[Revision]] = defaultdict(list)
    for revision in sorted(history.revisions, key=lambda each: each.number):
        by_run[revision.run_id].append(revision)
    found: list[Violation] = []
    for run_id, revisions in by_run.items():
        found += _lives(run_id, revisions)
    found += _all_end(history, by_run)
    found += _cancels(history, by_run)
    found += _executions(history, by_run)
    found += _once(history, by_run)
    found += [Violation("I4", "-", f"process {pid} is left over") for pid in history.left_over]
    found += [
        Violation("I6", "-", f"a run took {seconds:.1f} s after a fault was healed")
        for seconds in history.recoveries
        if seconds > HEAL_SECONDS
    ]
    return found


def _lives(run_id: str, revisions: list[Revision]) -> list[Violation]:
    """I2 and I3, on each step from one revision to the next."""
    found: list[Violation] = []
    owners: dict[int, str | None] = {}
    before: RunSnapshot | None = None
    for revision in revisions:
        now = revision.snapshot
        if now is None:
            # A submission that was taken back, or an ended run that was forgotten.
            touched = before is not None and (before.attempt > 0 or before.status != "PENDING")
            if touched and before is not None and not before.status.terminal:
                found.append(Violation("I1", run_id, f"deleted while {before.status}"))
            before, owners = None, {}
            continue
        if before is not None:
            if before.status.terminal:
                text = f"{before.status} was overwritten with {now.status} at {revision.number}"
                found.append(Violation("I2", run_id, text))
            if now.attempt < before.attempt:
                text = f"attempt {now.attempt} wrote after attempt {before.attempt}"
                found.append(Violation("I3", run_id, text))
            if now.attempt > before.attempt + 1:
                text = f"attempt {now.attempt} came after attempt {before.attempt}"
                found.append(Violation("I3", run_id, text))
            if before.status == "CANCELLING" and now.status not in ("CANCELLING", "CANCELLED"):
                found.append(Violation("I7", run_id, f"{now.status} came after CANCELLING"))
        if now.attempt > 0 and now.worker_instance_id is not None:
            owner = owners.setdefault(now.attempt, now.worker_instance_id)
            if owner != now.worker_instance_id:
                text = f"attempt {now.attempt} is of {owner} and of {now.worker_instance_id}"
                found.append(Violation("I3", run_id, text))
        before = now
    return found


def _last(revisions: list[Revision]) -> RunSnapshot | None:
    return revisions[-1].snapshot if revisions else None


def _all_end(history: History, by_run: dict[str, list[Revision]]) -> list[Violation]:
    found: list[Violation] = []
    accepted = {each.run_id for each in history.submissions if each.outcome == "accepted"}
    for run_id in sorted(filter(None, accepted)):
        last = _last(by_run.get(run_id, []))
        if last is None:
            found.append(Violation("I1", run_id, "was accepted and is not there"))
        elif not last.status.terminal:
            text = f"was accepted and is {last.status} at the end, attempt {last.attempt}"
            found.append(Violation("I1", run_id, text))
    return found


def _cancels(history: History, by_run: dict[str, list[Revision]]) -> list[Violation]:
    found: list[Violation] = []
    for cancel in history.cancels:
        last = _last(by_run.get(cancel.run_id, []))
        status = None if last is None else last.status
        expected = RunStatus.CANCELLED if cancel.status is RunStatus.CANCELLING else cancel.status
        if status is not expected:
            text = f"a cancel was answered {cancel.status}, the run is {status} at the end"
            found.append(Violation("I7", cancel.run_id, text))
    return found


def _executions(history: History, by_run: dict[str, list[Revision]]) -> list[Violation]:
    found: list[Violation] = []
    seen = Counter((each.run_id, each.attempt) for each in history.executions)
    for (run_id, attempt), count in seen.items():
        if count > 1:
            text = f"attempt {attempt} began {count} times"
            found.append(Violation("I3", run_id, text))
    for each in history.executions:
        ends = [
            revision.at
            for revision in by_run.get(each.run_id, [])
            if revision.snapshot is not None and revision.snapshot.status.terminal
        ]
        if ends and each.began > min(ends) + _SLACK_SECONDS:
            text = f"attempt {each.attempt} began {each.began - min(ends):.2f} s after the end"
            found.append(Violation("I2", each.run_id, text))
    return found


def _once(history: History, by_run: dict[str, list[Revision]]) -> list[Violation]:
    """A submission is one run at most; a refused one is none, unless the refusal says so."""
    found: list[Violation] = []
    runs_of: dict[str, set[str]] = defaultdict(set)
    for run_id, revisions in by_run.items():
        for revision in revisions:
            if revision.snapshot is not None:
                runs_of[str(revision.snapshot.params.get("ticket"))].add(run_id)
    executed = {each.run_id for each in history.executions}
    for each in history.submissions:
        runs = runs_of.get(each.ticket, set())
        ran = runs & executed
        if len(ran) > 1:
            found.append(Violation("once", ", ".join(sorted(ran)), "are one submission"))
        if each.outcome == "accepted" and runs and each.run_id not in runs:
            found.append(Violation("once", str(each.run_id), f"is not the run of {each.ticket}"))
        if each.outcome == "refused" and ran - {each.run_id}:
            text = f"was refused ({each.ticket}) and executed"
            found.append(Violation("once", ", ".join(sorted(ran)), text))
    return found
