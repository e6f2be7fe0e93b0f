"""Everything that happened in a scenario or a drill, as far as it can be seen from outside.

All times are seconds of one clock; in a scenario since it began.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias

from pyoco_server.model.run import RunSnapshot, RunStatus

PROBE: Final = "probe"
"""The group of runs that only measure how fast work goes on; they count as no scenario's runs."""

Outcome: TypeAlias = Literal["accepted", "refused", "unknown"]


@dataclass(frozen=True, slots=True)
class AcceptedRun:
    """A run whose submission was answered with 200."""

    run_id: str
    group: str
    at: float


@dataclass(frozen=True, slots=True)
class Submission:
    """A submission of one run, as its client knows it when it tries no longer.

    Attributes:
        ticket: The request id of each of its tries, and so of its run. The runs of a batch have one ticket.
        outcome: "unknown" where no answer came and it was not tried again.
        run_id: The run, if it was accepted, or if a refusal names it as one that may show up.
    """

    ticket: str
    outcome: Outcome
    run_id: str | None = None


@dataclass(frozen=True, slots=True)
class Revision:
    """A snapshot that the runs bucket held; None where the key was deleted. ``at`` is when it was stored."""

    run_id: str
    revision: int
    snapshot: RunSnapshot | None
    at: float


@dataclass(frozen=True, slots=True)
class CancelAnswer:
    """What a cancel was answered with."""

    run_id: str
    status: RunStatus
    at: float


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """An HTTP answer, or None for none in time."""

    call: str
    status: int | None
    seconds: float


@dataclass(frozen=True, slots=True)
class TaskExecution:
    """One execution of a task, as the task itself told it.

    Attributes:
        run_id: Of which run.
        attempt: Of which attempt; 0 where the worker does not tell its code, as that of 0.5.1.
        pid: In which process.
        task: Which task.
        started: When it began.
        ended: When it ended; None when it was cut off.
    """

    run_id: str
    attempt: int
    pid: int
    task: str
    started: float
    ended: float | None


@dataclass(frozen=True, slots=True)
class Trouble:
    """Something was done to a process or a connection: kill, freeze, cut, …; or undone.

    Attributes:
        what: The name of the step.
        target: As the step names it.
        kind: What that is: worker, child, gateway, or nats.
        at: When.
    """

    what: str
    target: str
    kind: str
    at: float


@dataclass
class History:
    """What is known so far.

    Attributes:
        accepted: The accepted runs, by their ids.
        submissions: What became of each submission.
        revisions: What the bucket held of each run, in the order of the revisions.
        whole: Whether every revision is there; a recording tells of changes of the state only.
        cancels: Cancels that were answered.
        answers: Every call of the gateways.
        executions: What task code did.
        troubles: What was done to processes and connections.
        recoveries: Seconds from the end of a trouble to the end of a run submitted after it.
        left_processes: What outlived its owner.
    """

    accepted: dict[str, AcceptedRun] = field(default_factory=dict)
    submissions: list[Submission] = field(default_factory=list)
    revisions: defaultdict[str, list[Revision]] = field(default_factory=lambda: defaultdict(list))
    whole: bool = True
    cancels: list[CancelAnswer] = field(default_factory=list)
    answers: list[HttpAnswer] = field(default_factory=list)
    executions: list[TaskExecution] = field(default_factory=list)
    troubles: list[Trouble] = field(default_factory=list)
    recoveries: list[float] = field(default_factory=list)
    left_processes: list[str] = field(default_factory=list)

    def submitted(self, submission: Submission, group: str, at: float) -> None:
        """Write down what became of a submission."""
        self.submissions.append(submission)
        if submission.outcome == "accepted" and submission.run_id is not None:
            run = AcceptedRun(submission.run_id, group, at)
            self.accepted.setdefault(submission.run_id, run)

    def group(self, name: str | None) -> list[AcceptedRun]:
        """The accepted runs of a group, or all but probes, in their order."""
        return [
            run
            for run in self.accepted.values()
            if run.group == name or (name is None and run.group != PROBE)
        ]

    def last(self, run_id: str) -> RunSnapshot | None:
        """The newest snapshot of a run."""
        revisions = self.revisions.get(run_id)
        return revisions[-1].snapshot if revisions else None

    def snapshots(self, run_id: str) -> list[tuple[float, RunSnapshot]]:
        """When each snapshot of a run was stored, and which; where its key was deleted there is none."""
        revisions = self.revisions.get(run_id, ())
        return [(each.at, each.snapshot) for each in revisions if each.snapshot is not None]
