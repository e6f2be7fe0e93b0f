"""Each rule of the judge finds the history that breaks it, and finds nothing in one that is right."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pyoco_server.model.run import RunSnapshot, RunStatus
from pyoco_server.scenario.history import (
    CancelAnswer,
    History,
    HttpAnswer,
    Outcome,
    Revision,
    Submission,
    TaskExecution,
)
from pyoco_server.scenario.judge import judge

P, R, G = RunStatus.PENDING, RunStatus.RUNNING, RunStatus.CANCELLING
DONE, FAILED, CANCELLED = RunStatus.COMPLETED, RunStatus.FAILED, RunStatus.CANCELLED
# A state, its attempt and who held it; None for a deletion.
State = tuple[RunStatus, int, str | None] | None
LIFE: list[State] = [(P, 0, None), (R, 1, "w1"), (P, 1, None), (R, 2, "w2"), (DONE, 2, "w2")]


def of(
    *states: State, run_id: str = "r", ticket: str = "t", outcome: Outcome = "accepted"
) -> History:
    """A history of one run, with a revision a second."""
    return add(History(), *states, run_id=run_id, ticket=ticket, outcome=outcome)


def add(
    history: History, *states: State, run_id: str, ticket: str = "t", outcome: Outcome = "accepted"
) -> History:
    for state in states:
        number = sum(map(len, history.revisions.values())) + 1
        snapshot = None
        if state is not None:
            status, attempt, holder = state
            snapshot = RunSnapshot(
                run_id=run_id,
                flow_name="f",
                status=status,
                attempt=attempt,
                worker_instance_id=holder,
                request_id=ticket,
            )
        history.revisions[run_id].append(Revision(run_id, number, snapshot, float(number)))
    accepted = run_id if outcome == "accepted" else None
    history.submitted(Submission(ticket, outcome, accepted), "g", 0.0)
    return history


def executed(history: History, *attempts: int, run_id: str = "r", at: float = 2.0) -> History:
    for pid, attempt in enumerate(attempts):
        history.executions.append(TaskExecution(run_id, attempt, pid, "work", at, at + 0.1))
    return history


def cancelled(history: History, answer: RunStatus) -> History:
    history.cancels.append(CancelAnswer("r", answer, 1.0))
    return history


def answered(status: int | None, seconds: float) -> History:
    history = of(*LIFE)
    history.answers.append(HttpAnswer("POST /runs", status, seconds))
    return history


def submitted_twice(outcome: Outcome) -> History:
    """Two runs of one ticket, both executed, of which its client knows one at most."""
    history = add(of(*LIFE, outcome=outcome), *LIFE, run_id="again")
    del history.submissions[1], history.accepted["again"]
    executed(history, 1, 2)
    return executed(history, 1, 2, run_id="again", at=7.0)


def refused_but_executed() -> History:
    return executed(of(*LIFE, outcome="refused"), 1)


def answered_with_another_run() -> History:
    history = of(*LIFE)
    return add(history, *LIFE, run_id="other", ticket="another")


def confused() -> History:
    history = answered_with_another_run()
    history.submissions[0] = Submission("t", "accepted", "other")
    return history


def recovered(seconds: float) -> History:
    history = of(*LIFE)
    history.recoveries.append(seconds)
    return history


def left() -> History:
    history = of(*LIFE)
    history.left_processes.append("12 of w1")
    return history


def recorded(*states: State) -> History:
    history = of(*states)
    history.whole = False
    return history


def unseen() -> History:
    history = History()
    history.submitted(Submission("t", "accepted", "r"), "g", 0.0)
    return history


BAD: list[tuple[str, str, Callable[[], History]]] = [
    ("I1", "in the end PENDING", lambda: of((P, 0, None))),
    ("I1", "in the end CANCELLING", lambda: of((P, 0, None), (G, 0, None))),
    ("I1", "no snapshot was ever seen", unseen),
    ("I1", "it is not there", lambda: of((P, 0, None), None)),
    (
        "I1",
        "deleted while RUNNING",
        lambda: of((P, 0, None), (R, 1, "w1"), None, outcome="refused"),
    ),
    ("I1", "deleted while PENDING", lambda: of((P, 1, None), None, outcome="refused")),
    (
        "I2",
        "COMPLETED (revision 5) became RUNNING",
        lambda: of(*LIFE, (R, 3, "w1"), (DONE, 3, "w1")),
    ),
    ("I2", "COMPLETED (revision 5) became COMPLETED", lambda: of(*LIFE, (DONE, 2, "w2"))),
    ("I2", "began to execute work 1.00 s after the end", lambda: executed(of(*LIFE), 2, at=6.0)),
    ("I3", "attempt 1 wrote after 2", lambda: of(*LIFE[:4], (R, 1, "w1"), (R, 2, "w2"), LIFE[4])),
    ("I3", "attempt 3 came after 1", lambda: of(*LIFE[:2], (R, 3, "w2"), (DONE, 3, "w2"))),
    ("I3", "held by two workers", lambda: of(*LIFE[:2], (R, 1, "w2"), (DONE, 1, "w2"))),
    ("I3", "held by two workers", lambda: of(*LIFE[:3], (R, 1, "w2"), (DONE, 1, "w2"))),
    ("I3", "attempt 2 executed work 2 times", lambda: executed(of(*LIFE), 1, 2, 2)),
    ("I4", "process 12 of w1 outlived its owner", left),
    ("I5", "answered with 500", lambda: answered(500, 0.1)),
    ("I5", "no answer within 20.0 s", lambda: answered(None, 20.0)),
    ("I6", "took 31.0 s", lambda: recovered(31.0)),
    ("I7", "was answered, it is COMPLETED", lambda: cancelled(of(*LIFE), G)),
    (
        "I7",
        "was answered, it is not there",
        lambda: cancelled(of(*LIFE, None, outcome="refused"), G),
    ),
    ("I7", "answered FAILED, it is COMPLETED", lambda: cancelled(of(*LIFE), FAILED)),
    (
        "I7",
        "FAILED came after CANCELLING",
        lambda: of((P, 0, None), (G, 0, None), (FAILED, 0, None)),
    ),
    (
        "I7",
        "RUNNING came after CANCELLING",
        lambda: of((G, 0, None), (R, 1, "w1"), (CANCELLED, 1, "w1")),
    ),
    (
        "once",
        "again executed beside what t was told (accepted)",
        lambda: submitted_twice("accepted"),
    ),
    (
        "once",
        "again, r executed beside what t was told (unknown)",
        lambda: submitted_twice("unknown"),
    ),
    ("once", "r executed beside what t was told (refused)", refused_but_executed),
    ("once", "t was answered with another run", confused),
]

GOOD: list[Callable[[], History]] = [
    History,
    lambda: executed(of(*LIFE), 1, 2),
    lambda: executed(of(*LIFE), 2, at=5.4),
    # Expired long after its end, as far as nobody was promised anything of it any more.
    lambda: of(*LIFE, None, outcome="unknown"),
    # A submission that was taken back, and its id used again for the next try.
    lambda: of((P, 0, None), None, *LIFE),
    lambda: of((P, 0, None), None, outcome="refused"),
    # An attempt of 0 is one whose worker does not count.
    lambda: executed(of((P, 0, None), (R, 0, None), (DONE, 0, None)), 0, 0),
    lambda: cancelled(of((P, 0, None), (G, 0, None), (CANCELLED, 0, None)), G),
    lambda: cancelled(of(*LIFE), DONE),
    lambda: answered(503, 14.0),
    lambda: answered(None, 14.0),
    lambda: recovered(29.0),
    lambda: executed(of(*LIFE, outcome="unknown"), 1),
    # What a recording does not tell of is no jump.
    lambda: recorded(*LIFE[:2], (R, 3, "w2"), (DONE, 3, "w2")),
    answered_with_another_run,
]


@pytest.mark.parametrize(("invariant", "text", "history"), BAD)
def test_what_is_wrong_is_found(invariant: str, text: str, history: Callable[[], History]) -> None:
    violations = judge(history())
    assert {each.invariant for each in violations} == {invariant}, violations
    assert any(text in str(each) for each in violations), violations
    assert judge(history(), [invariant]) == violations


@pytest.mark.parametrize("history", GOOD)
def test_what_is_right_is_left_alone(history: Callable[[], History]) -> None:
    assert judge(history()) == []


def test_invariants_that_are_not_named_are_not_judged() -> None:
    assert judge(left(), ["I1", "I2", "I3", "I5", "I6", "I7", "once"]) == []
