"""Child specs and supervisor specs: validated data that says what stands where and how it restarts."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Generic, TypeVar

from .actor import Actor
from .errors import InvalidSpec
from .mailbox import Mailbox
from .ref import ActorRef
from .restart import Backoff, Intensity, Strategy

M = TypeVar("M")

_ID = re.compile(r"[A-Za-z0-9_-]+")


class Restart(Enum):
    """When a child is started again after it ended (the terms of Erlang's supervisor)."""

    PERMANENT = "permanent"
    """Always, also after it ended by itself."""
    TRANSIENT = "transient"
    """Only after a crash."""
    TEMPORARY = "temporary"
    """Never."""


def _check_id(value: str) -> None:
    if not _ID.fullmatch(value):
        raise InvalidSpec(f"id {value!r}: takes letters, digits, '_' and '-', at least one")


def _check_seconds(name: str, value: float, *, infinite: bool = False) -> None:
    if math.isnan(value) or value < 0 or (math.isinf(value) and not infinite):
        raise InvalidSpec(f"{name} {value!r}: takes seconds, zero or more")


@dataclass(frozen=True, eq=False)
class ChildSpec(Generic[M]):
    """One actor under a supervisor.

    Attributes:
        id: Name among its siblings; the last part of its path.
        start: Makes a fresh actor for each incarnation.
        restart: When it is started again.
        shutdown_seconds: How long it may go on with what is in its mailbox when the tree stops, before
            it is cancelled.
        cleanup_seconds: How long `Actor.on_stop` may take, shielded from cancellation.
        start_within: How many seconds `Actor.on_start` may take.
        mailbox_capacity: How many messages may wait; senders wait beyond that.
        ref: The handle that outsiders send through; valid over restarts.
    """

    id: str
    start: Callable[[], Actor[M]]
    restart: Restart = Restart.PERMANENT
    shutdown_seconds: float = 5.0
    cleanup_seconds: float = 5.0
    start_within: float = 30.0
    mailbox_capacity: int = 64
    mailbox: Mailbox = field(init=False, repr=False)
    ref: ActorRef[M] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        _check_id(self.id)
        if self.mailbox_capacity < 1:
            raise InvalidSpec(f"mailbox_capacity {self.mailbox_capacity}: takes 1 or more")
        _check_seconds("shutdown_seconds", self.shutdown_seconds)
        _check_seconds("cleanup_seconds", self.cleanup_seconds)
        _check_seconds("start_within", self.start_within, infinite=True)
        mailbox = Mailbox(self.mailbox_capacity)
        object.__setattr__(self, "mailbox", mailbox)
        object.__setattr__(self, "ref", ActorRef[M](mailbox))


@dataclass(frozen=True, eq=False)
class SupervisorSpec:
    """A supervisor and the children that it starts in order and stops in reverse.

    Attributes:
        id: Name among its siblings; the root's does not show in paths.
        children: Actors and further supervisors, in order of start.
        strategy: Which siblings are restarted along with a crashed child.
        intensity: How many restarts are borne in which time, before the failure goes up the tree.
        backoff: How long a crashed child waits before its restart.
        restart: What the supervisor above does when this one gives up.
        stop_together: Stop all children at once instead of one after the other, for siblings that do
            not need each other (worker slots).
    """

    id: str
    children: Sequence[ChildSpec[Any] | SupervisorSpec]
    strategy: Strategy = Strategy.ONE_FOR_ONE
    intensity: Intensity = field(default_factory=Intensity)
    backoff: Backoff = field(default_factory=Backoff)
    restart: Restart = Restart.PERMANENT
    stop_together: bool = False

    def __post_init__(self) -> None:
        _check_id(self.id)
        ids = [child.id for child in self.children]
        for name in ids:
            if ids.count(name) > 1:
                raise InvalidSpec(f"supervisor {self.id!r} has two children with the id {name!r}")
