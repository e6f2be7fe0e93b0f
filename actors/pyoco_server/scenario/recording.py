"""What happened on a live system, as a scenario holds it: runs with each of their states, and workers."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, field

from pyoco_server.model.run import RunSnapshot, RunStatus
from pyoco_server.scenario.history import AcceptedRun, CancelAnswer, History, Revision
from pyoco_server.scenario.parts import Part, Seconds


class RecordedState(Part, frozen=True, kw_only=True):
    """A state of a run.

    Attributes:
        at: When it was entered, in seconds since the recording begins.
        status: Which.
        attempt: Of which attempt.
        worker: Who held the run.
        reason: Why the run, or the attempt before, ended as it did.
    """

    at: Seconds
    status: RunStatus
    attempt: Annotated[int, Meta(ge=0)] = 0
    worker: str | None = None
    reason: str | None = None


class RecordedRun(Part, frozen=True, kw_only=True):
    """A run.

    Attributes:
        run: Its id then; the replayed one has another.
        flow: Its flow's name.
        tag: Which queue it went to.
        params: Its params; the replayed one has none.
        states: Its states, in their order.
    """

    run: str
    flow: str
    tag: str
    params: dict[str, Any] = field(default_factory=dict)
    states: Annotated[list[RecordedState], Meta(min_length=1)]

    @property
    def final(self) -> RunStatus:
        """The last state that was seen."""
        return self.states[-1].status

    @property
    def attempts(self) -> list[tuple[float, RunStatus, str | None]]:
        """How long each attempt ran, what it ended with (PENDING: another followed), and why."""
        found: list[tuple[float, RunStatus, str | None]] = []
        began: RecordedState | None = None
        for state in self.states:
            if state.status is RunStatus.RUNNING:
                if began is not None and state.attempt > began.attempt:
                    # Its worker was lost, and another took the run without a state in between.
                    found.append((state.at - began.at, RunStatus.PENDING, "lost"))
                    began = None
                began = began or state
            elif began is not None and state.status is not RunStatus.CANCELLING:
                found.append((state.at - began.at, state.status, state.reason))
                began = None
        if began is not None:  # it still ran
            found.append((self.states[-1].at - began.at, RunStatus.RUNNING, None))
        return found


class RecordedWorker(Part, frozen=True, kw_only=True):
    """A coming or going of a worker.

    Attributes:
        at: When, in seconds since the recording begins.
        id: Which worker.
        what: What it did; lost: it was not heard of any more.
    """

    at: Seconds
    id: str
    what: Literal["came", "stopped", "lost"]


class Recording(Part, frozen=True, kw_only=True):
    """Play what was recorded: the same runs, workers and ends, without the code of the flows.

    Each attempt takes as long as it took, and ends as it ended; a cancel comes in the state in which it came.

    Attributes:
        runs: What ran.
        workers: Who came and went meanwhile.
    """

    runs: list[RecordedRun]
    workers: list[RecordedWorker] = field(default_factory=list)


def as_history(recording: Recording) -> History:
    """The recorded states as the judge takes them: was it right what happened then?"""
    history = History(whole=False)
    number = 0
    for run in recording.runs:
        history.accepted[run.run] = AcceptedRun(run.run, "recorded", run.states[0].at)
        for state in run.states:
            number += 1
            snapshot = RunSnapshot(
                run_id=run.run,
                flow_name=run.flow,
                status=state.status,
                attempt=state.attempt,
                worker_instance_id=state.worker,
                updated_at=state.at,
            )
            history.revisions[run.run].append(Revision(run.run, number, snapshot, state.at))
            if state.status is RunStatus.CANCELLING:
                history.cancels.append(CancelAnswer(run.run, state.status, state.at))
    return history
