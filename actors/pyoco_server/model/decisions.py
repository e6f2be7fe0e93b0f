"""What the rules of a run's life answer: a snapshot to store, or why nothing may be stored."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from pyoco_server.model.run import RunSnapshot


@dataclass(frozen=True, slots=True)
class AlreadyTerminal:
    """Refused: the run has ended; this is how."""

    snapshot: RunSnapshot


@dataclass(frozen=True, slots=True)
class Superseded:
    """Refused: another attempt holds the run, so this one stops and walks away."""

    snapshot: RunSnapshot


@dataclass(frozen=True, slots=True)
class Claimed:
    """The run is this attempt's, as soon as the snapshot is stored."""

    snapshot: RunSnapshot


@dataclass(frozen=True, slots=True)
class CancelInstead:
    """A cancel came before the claim: store this CANCELLED snapshot and execute nothing."""

    snapshot: RunSnapshot


@dataclass(frozen=True, slots=True)
class AttemptsUsedUp:
    """The run was claimed as often as it may be: store this FAILED snapshot, execute nothing."""

    snapshot: RunSnapshot


@dataclass(frozen=True, slots=True)
class Expired:
    """The run had to start earlier, or not at all: store this FAILED snapshot, execute nothing."""

    snapshot: RunSnapshot


@dataclass(frozen=True, slots=True)
class Spare:
    """Refused: another copy of the job has the run, and is delivered again should its worker be lost."""

    snapshot: RunSnapshot


@dataclass(frozen=True, slots=True)
class NotYet:
    """Refused: the run waits for its time, or after a failed attempt, for so many seconds more."""

    snapshot: RunSnapshot
    wait_sec: float


@dataclass(frozen=True, slots=True)
class Progressed:
    """The snapshot with the attempt's progress; ``status`` tells whether a cancel was asked."""

    snapshot: RunSnapshot


@dataclass(frozen=True, slots=True)
class Finished:
    """The terminal snapshot."""

    snapshot: RunSnapshot


@dataclass(frozen=True, slots=True)
class RetryLater:
    """The attempt is over, the run is PENDING again; its job is to come back after so many seconds."""

    snapshot: RunSnapshot
    wait_sec: float


@dataclass(frozen=True, slots=True)
class CancelRequested:
    """The CANCELLING snapshot; the stored one itself when that was CANCELLING before."""

    snapshot: RunSnapshot


Claim: TypeAlias = (
    Claimed | CancelInstead | AttemptsUsedUp | Expired | NotYet | Spare | AlreadyTerminal
)
Progress: TypeAlias = Progressed | Superseded | AlreadyTerminal
Finish: TypeAlias = Finished | RetryLater | Superseded | AlreadyTerminal
CancelRequest: TypeAlias = CancelRequested | AlreadyTerminal
Abandonment: TypeAlias = Finished | AlreadyTerminal
