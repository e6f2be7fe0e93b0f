"""The invariants of RELIABILITY, judged from a whole history and not from the last state.

- I1: every accepted run ends, and none goes away before it has ended.
- I2: a terminal state never changes, and nothing of the run is executed after it.
- I3: an older attempt writes nothing; one worker holds an attempt, and it is executed once.
- I4: no process outlives its owner.
- I5: every call is answered in good time, and never with 500.
- I6: after a trouble new runs end within 30 s.
- I7: an acknowledged cancel ends CANCELLED, or its answer says how the run had ended.
- once: a submission is one run at most, and a refused one is none.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from pyoco_server.model.run import RunSnapshot, RunStatus
from pyoco_server.scenario.history import History, Revision, Submission

RECOVERY_SECONDS: Final = 30.0
ANSWER_SECONDS: Final = 15.0
# Task code tells its start by a clock of its own.
_SLACK_SECONDS: Final = 0.5


@dataclass(frozen=True, slots=True)
class Violation:
    """An invariant that did not hold."""

    invariant: str
    text: str
    run_id: str | None = None

    def __str__(self) -> str:
        return f"{self.invariant}: {self.text}" + (f" (run {self.run_id})" if self.run_id else "")


def judge(history: History, invariants: Iterable[str] | None = None) -> list[Violation]:
    """Return what violates the invariants, in their order; all of them when none are named."""
    names = _RULES if invariants is None else invariants
    return [violation for name in names for rule in _RULES[name] for violation in rule(history)]


def _every_run_ends(history: History) -> Iterator[Violation]:
    for run_id in history.accepted:
        last = history.last(run_id)
        if run_id not in history.revisions:
            yield Violation("I1", "accepted, and no snapshot was ever seen", run_id)
        elif last is None:
            yield Violation("I1", "accepted, and in the end it is not there", run_id)
        elif not last.status.terminal:
            text = f"accepted, and in the end {last.status}, attempt {last.attempt}"
            yield Violation("I1", text, run_id)


def _no_run_goes_away_before_its_end(history: History) -> Iterator[Violation]:
    for before, after in _steps(history):
        one = before.snapshot
        if one is None or after.snapshot is not None or one.status.terminal:
            continue
        # A submission that nobody touched may be taken back.
        if one.attempt > 0 or one.status is not RunStatus.PENDING:
            yield Violation("I1", f"deleted while {one.status}", before.run_id)


def _terminal_never_changes(history: History) -> Iterator[Violation]:
    for before, after in _steps(history):
        one, two = before.snapshot, after.snapshot
        if one is not None and two is not None and one.status.terminal:
            text = (
                f"{one.status} (revision {before.revision}) became {two.status} "
                f"(revision {after.revision})"
            )
            yield Violation("I2", text, before.run_id)


def _nothing_begins_after_the_end(history: History) -> Iterator[Violation]:
    for each in history.executions:
        ends = (at for at, run in history.snapshots(each.run_id) if run.status.terminal)
        late = each.started - min(ends, default=each.started)
        if late > _SLACK_SECONDS:
            text = f"attempt {each.attempt} began to execute {each.task} {late:.2f} s after the end"
            yield Violation("I2", text, each.run_id)


def _older_attempts_never_write(history: History) -> Iterator[Violation]:
    for one, two in _changes(history):
        if two.attempt < one.attempt:
            yield Violation("I3", f"attempt {two.attempt} wrote after {one.attempt}", one.run_id)
        elif history.whole and two.attempt > one.attempt + 1:
            yield Violation("I3", f"attempt {two.attempt} came after {one.attempt}", one.run_id)


def _one_worker_holds_an_attempt(history: History) -> Iterator[Violation]:
    # An attempt number alone would do, but two workers might believe in the same one.
    for run_id, revisions in history.revisions.items():
        holders: dict[int, str] = {}
        for revision in revisions:
            now = revision.snapshot
            if now is None:
                holders.clear()  # its id may be used again
            elif now.worker_instance_id is not None:
                holder = holders.setdefault(now.attempt, now.worker_instance_id)
                if holder != now.worker_instance_id:
                    text = f"attempt {now.attempt} is held by two workers"
                    yield Violation("I3", text, run_id)


def _an_attempt_is_executed_once(history: History) -> Iterator[Violation]:
    begun = Counter(
        (each.run_id, each.attempt, each.task) for each in history.executions if each.attempt
    )
    for (run_id, attempt, task), count in begun.items():
        if count > 1:
            yield Violation("I3", f"attempt {attempt} executed {task} {count} times", run_id)


def _no_process_is_left(history: History) -> Iterator[Violation]:
    for name in history.left_processes:
        yield Violation("I4", f"process {name} outlived its owner")


def _calls_are_answered(history: History) -> Iterator[Violation]:
    for answer in history.answers:
        if answer.status is None:
            if answer.seconds >= ANSWER_SECONDS:
                yield Violation("I5", f"{answer.call}: no answer within {answer.seconds:.1f} s")
        elif answer.status == 500:
            yield Violation("I5", f"{answer.call}: answered with 500")


def _work_goes_on_after_trouble(history: History) -> Iterator[Violation]:
    for seconds in history.recoveries:
        if seconds > RECOVERY_SECONDS:
            yield Violation("I6", f"the first run after a trouble took {seconds:.1f} s")


def _acknowledged_cancels_hold(history: History) -> Iterator[Violation]:
    for cancel in history.cancels:
        last = history.last(cancel.run_id)
        status = "not there" if last is None else last.status
        if cancel.status is RunStatus.CANCELLING:
            if status != RunStatus.CANCELLED:
                yield Violation("I7", f"its cancel was answered, it is {status}", cancel.run_id)
        elif status != cancel.status:
            text = f"its cancel was answered {cancel.status}, it is {status}"
            yield Violation("I7", text, cancel.run_id)


def _what_is_cancelled_stays_so(history: History) -> Iterator[Violation]:
    allowed = {RunStatus.CANCELLING, RunStatus.CANCELLED}
    for one, two in _changes(history):
        if one.status is RunStatus.CANCELLING and two.status not in allowed:
            yield Violation("I7", f"{two.status} came after CANCELLING", one.run_id)


def _a_submission_is_one_run(history: History) -> Iterator[Violation]:
    runs_of: defaultdict[str, set[str]] = defaultdict(set)
    for run_id in history.revisions:
        for _, snapshot in history.snapshots(run_id):
            if snapshot.request_id is not None:
                runs_of[snapshot.request_id].add(run_id)
    submissions: defaultdict[str, list[Submission]] = defaultdict(list)
    for each in history.submissions:
        submissions[each.ticket].append(each)
    executed = {each.run_id for each in history.executions}
    for ticket, those in submissions.items():
        runs = runs_of.get(ticket, set())
        strangers = (runs & executed) - {each.run_id for each in those}
        if len(strangers) > sum(each.outcome == "unknown" for each in those):
            told = ", ".join(sorted({each.outcome for each in those}))
            text = f"{', '.join(sorted(strangers))} executed beside what {ticket} was told ({told})"
            yield Violation("once", text)
        for each in those:
            # One with a key that another submission had before belongs to that one.
            if each.outcome == "accepted" and runs and each.run_id not in runs:
                yield Violation("once", f"{ticket} was answered with another run", each.run_id)


def _steps(history: History) -> Iterator[tuple[Revision, Revision]]:
    for revisions in history.revisions.values():
        yield from pairwise(revisions)


def _changes(history: History) -> Iterator[tuple[RunSnapshot, RunSnapshot]]:
    """The steps in which a run is there before and after."""
    for before, after in _steps(history):
        if before.snapshot is not None and after.snapshot is not None:
            yield before.snapshot, after.snapshot


_RULES: Final[dict[str, tuple[Callable[[History], Iterator[Violation]], ...]]] = {
    "I1": (_every_run_ends, _no_run_goes_away_before_its_end),
    "I2": (_terminal_never_changes, _nothing_begins_after_the_end),
    "I3": (
        _older_attempts_never_write,
        _one_worker_holds_an_attempt,
        _an_attempt_is_executed_once,
    ),
    "I4": (_no_process_is_left,),
    "I5": (_calls_are_answered,),
    "I6": (_work_goes_on_after_trouble,),
    "I7": (_acknowledged_cancels_hold, _what_is_cancelled_stays_so),
    "once": (_a_submission_is_one_run,),
}
