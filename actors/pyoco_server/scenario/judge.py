"""The invariants of RELIABILITY, judged from a whole history and not from the last state."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from pyoco_server.model.run import RunStatus
from pyoco_server.scenario.history import History, Revision

RECOVERY_SECONDS: Final = 30.0
ANSWER_SECONDS: Final = 15.0


@dataclass(frozen=True, slots=True)
class Violation:
    """An invariant that did not hold."""

    invariant: str
    text: str
    run_id: str | None = None


def judge(history: History, invariants: list[str]) -> list[Violation]:
    """Return what violates the invariants, in their order."""
    return [violation for name in invariants for violation in _RULES[name](history)]


def _every_run_ends(history: History) -> Iterator[Violation]:
    for run_id in history.accepted:
        last = history.last(run_id)
        if last is None:
            yield Violation("I1", "accepted, and no snapshot was ever seen", run_id)
        elif not last.status.terminal:
            yield Violation("I1", f"accepted, and in the end {last.status}", run_id)


def _terminal_never_changes(history: History) -> Iterator[Violation]:
    for before, after in _steps(history):
        if before.snapshot is None or after.snapshot is None:
            continue
        if before.snapshot.status.terminal and after.snapshot != before.snapshot:
            yield Violation(
                "I2",
                f"{before.snapshot.status} (revision {before.revision}) became "
                f"{after.snapshot.status} (revision {after.revision})",
                before.run_id,
            )


def _older_attempts_never_write(history: History) -> Iterator[Violation]:
    for before, after in _steps(history):
        one, two = before.snapshot, after.snapshot
        if one is None or two is None:
            continue
        # An attempt number alone would do, but two workers might believe in the same one.
        if two.attempt < one.attempt:
            yield Violation("I3", f"attempt {two.attempt} wrote after {one.attempt}", before.run_id)
        elif (
            two.attempt == one.attempt
            and one.worker_instance_id is not None
            and two.worker_instance_id not in {one.worker_instance_id, None}
        ):
            yield Violation("I3", f"attempt {two.attempt} is held by two workers", before.run_id)


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
        if cancel.status != RunStatus.CANCELLING or last is None:
            continue
        if last.status is not RunStatus.CANCELLED:
            yield Violation("I7", f"its cancel was answered, it is {last.status}", cancel.run_id)


def _steps(history: History) -> Iterator[tuple[Revision, Revision]]:
    for revisions in history.revisions.values():
        yield from pairwise(revisions)


_RULES: Final[dict[str, Callable[[History], Iterator[Violation]]]] = {
    "I1": _every_run_ends,
    "I2": _terminal_never_changes,
    "I3": _older_attempts_never_write,
    "I4": _no_process_is_left,
    "I5": _calls_are_answered,
    "I6": _work_goes_on_after_trouble,
    "I7": _acknowledged_cancels_hold,
}
