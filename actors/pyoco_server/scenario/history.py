"""Everything that happened in a scenario, as far as it can be seen from outside."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Final

from pyoco_server.model.run import RunSnapshot

PROBE: Final = "probe"
"""The group of runs that only measure how fast work goes on; they count as no scenario's runs."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """A submission was answered with 200. Times are seconds since the scenario began."""

    run_id: str
    group: str
    at: float


@dataclass(frozen=True, slots=True)
class Revision:
    """A snapshot that the runs bucket held; None where the key was deleted."""

    run_id: str
    revision: int
    snapshot: RunSnapshot | None
    at: float


@dataclass(frozen=True, slots=True)
class CancelAnswer:
    """What a cancel was answered with."""

    run_id: str
    status: str
    at: float


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer, or None for none in time."""

    call: str
    status: int | None
    seconds: float
    at: float


@dataclass(frozen=True, slots=True)
class Execution:
    """One execution of a task, as the task itself told it; ``ended`` is None when it was cut off.

    Times are unix seconds.
    """

    run_id: str
    attempt: int
    pid: int
    task: str
    started: float
    ended: float | None


@dataclass(frozen=True, slots=True)
class Trouble:
    """Something was done to a process or a connection: kill, freeze, cut, …; or undone."""

    what: str
    target: str
    at: float


@dataclass
class History:
    """What is known so far."""

    accepted: dict[str, Accepted] = field(default_factory=dict)
    revisions: defaultdict[str, list[Revision]] = field(default_factory=lambda: defaultdict(list))
    cancels: list[CancelAnswer] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)
    executions: list[Execution] = field(default_factory=list)
    troubles: list[Trouble] = field(default_factory=list)
    recoveries: list[float] = field(default_factory=list)
    """Seconds from the end of a trouble to the end of a run submitted after it."""
    left_processes: list[str] = field(default_factory=list)

    def group(self, name: str | None) -> list[Accepted]:
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
