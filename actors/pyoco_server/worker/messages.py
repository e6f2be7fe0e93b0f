"""What the actors of a worker say to each other."""

from __future__ import annotations

from dataclasses import dataclass

from pyoco_server.jetstream.consumer import Message
from pyoco_server.kernel import Request
from pyoco_server.model.job import Job
from pyoco_server.model.worker import WheelSync
from pyoco_server.worker.wheel_set import WheelSets


@dataclass(frozen=True, slots=True)
class Assign:
    """Dispatcher to slot: execute this job; the slot had said that it is free."""

    job: Job
    delivery: Message


@dataclass(frozen=True, slots=True)
class Redelivered:
    """Dispatcher to slot: a job of the run that you hold came again, since its lease had run out.

    Slot to dispatcher, in answer: I am done with that run, this job is to be handed out.
    """

    job: Job
    delivery: Message


@dataclass(frozen=True, slots=True)
class CancelAttempt:
    """To every slot: a cancel of this run was recorded; whoever executes it asks its child."""

    run_id: str


@dataclass(frozen=True, slots=True)
class Refresh:
    """To a slot: take a fresh child before the next run, because task code changed."""


@dataclass(frozen=True, slots=True)
class Report:
    """Dispatcher to slot, after a restart of the dispatcher: say again whether you are free.

    Answered with `SlotFree`, `SlotHolds` or, where the slot is not ready for a run, `SlotUnfit`.
    """


@dataclass(frozen=True, slots=True)
class SlotFree:
    """Slot to dispatcher: give me a job; of the run before, if it is told, the end is being stored still."""

    index: int
    ending: str | None = None


@dataclass(frozen=True, slots=True)
class SlotUnfit:
    """Slot to dispatcher: I have no run and can take none until I say that I am free."""

    index: int


@dataclass(frozen=True, slots=True)
class SlotHolds:
    """Slot to dispatcher: I have this run, and am free when I say so; `ending` as with `SlotFree`."""

    index: int
    run_id: str
    ending: str | None = None


@dataclass(frozen=True, slots=True)
class Drain(Request[None]):
    """To the dispatcher: take no more jobs; answered when no slot has a run, nor will get one."""


@dataclass(frozen=True, slots=True)
class Ordered:
    """Heartbeat to dispatcher: what the operator wants of this worker, at first and when it changed."""

    paused: bool
    draining: bool


@dataclass(frozen=True, slots=True)
class LookAgain:
    """To the heartbeat: look what the operator wants, and tell the dispatcher of it."""


@dataclass(frozen=True, slots=True)
class Stopping:
    """Dispatcher to heartbeat: the worker takes no more jobs, for it is to stop."""


@dataclass(frozen=True, slots=True)
class DrainOrdered(Request[None]):
    """To the dispatcher: answered as soon as the operator has told this worker to drain."""


@dataclass(frozen=True, slots=True)
class Started(Request[None]):
    """To the dispatcher: answered as soon as a slot is free and the operator's orders are known."""


@dataclass(frozen=True, slots=True)
class FirstJob(Request[None]):
    """To the dispatcher: answered as soon as a job was taken, at once if one was already."""


@dataclass(frozen=True, slots=True)
class CurrentWheels(Request[WheelSets]):
    """To the wheel syncer: what do runs import from? Answered once the registry was looked at."""


@dataclass(frozen=True, slots=True)
class NewWheels:
    """Wheel syncer to slot: import from these, beginning with the next run."""

    sets: WheelSets


@dataclass(frozen=True, slots=True)
class WheelsReported:
    """Wheel syncer to heartbeat: what the last look at the registry gave."""

    report: WheelSync
