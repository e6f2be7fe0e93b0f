"""What the rules of a run's life answer: a snapshot to store, or why nothing may be stored."""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from pyoco_server.model.run import RunSnapshot


class _Decision(msgspec.Struct, frozen=True):
    snapshot: RunSnapshot


class AlreadyTerminal(_Decision, frozen=True):
    """Refused: the run has ended; this is how."""


class Superseded(_Decision, frozen=True):
    """Refused: another attempt holds the run, so this one stops and walks away."""


class Claimed(_Decision, frozen=True):
    """The run is this attempt's, as soon as the snapshot is stored."""


class CancelInstead(_Decision, frozen=True):
    """A cancel came before the claim: store this CANCELLED snapshot and execute nothing."""


class AttemptsUsedUp(_Decision, frozen=True):
    """The run was claimed as often as it may be: store this FAILED snapshot, execute nothing."""


class Expired(_Decision, frozen=True):
    """The run had to start earlier, or not at all: store this FAILED snapshot, execute nothing."""


class Spare(_Decision, frozen=True):
    """Refused: another copy of the job has the run, and is delivered again should its worker be lost."""


class StillHeld(_Decision, frozen=True):
    """Refused: who has the run showed life just now, with this very job in hand; leave the delivery alone."""


class NotYet(_Decision, frozen=True):
    """Refused: the run waits for its time, or after a failed attempt, for so many seconds more."""

    wait_sec: float


class Progressed(_Decision, frozen=True):
    """The snapshot with the attempt's progress; ``status`` tells whether a cancel was asked."""


class Finished(_Decision, frozen=True):
    """The terminal snapshot."""


class RetryLater(_Decision, frozen=True):
    """The attempt is over, the run is PENDING again; its job is to come back after so many seconds."""

    wait_sec: float


class CancelRequested(_Decision, frozen=True):
    """The CANCELLING snapshot; the stored one itself when that was CANCELLING before."""


Claim: TypeAlias = (
    Claimed
    | CancelInstead
    | AttemptsUsedUp
    | Expired
    | NotYet
    | Spare
    | StillHeld
    | AlreadyTerminal
)
Progress: TypeAlias = Progressed | Superseded | AlreadyTerminal
Finish: TypeAlias = Finished | RetryLater | Superseded | AlreadyTerminal
CancelRequest: TypeAlias = CancelRequested | AlreadyTerminal
Abandonment: TypeAlias = Finished | AlreadyTerminal
