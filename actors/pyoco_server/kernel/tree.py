"""A frozen picture of the tree: one source for `GET /actors`, the metrics and the dashboard."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum


class State(Enum):
    """What an actor or supervisor does right now."""

    STARTING = "starting"
    IDLE = "idle"
    BUSY = "busy"
    SUPERVISING = "supervising"
    STOPPING = "stopping"
    BACKING_OFF = "backing_off"
    STOPPED = "stopped"


@dataclass(frozen=True)
class MailboxPicture:
    """Depth and limits of a mailbox, in messages."""

    depth: int
    capacity: int
    waiting_senders: int


@dataclass(frozen=True)
class Work:
    """What an actor did since it was first started, over all its incarnations.

    Attributes:
        messages: Messages handled.
        refusals: How many of them were refused.
        busy_seconds: Time spent handling them.
        longest_seconds: The longest single one.
    """

    messages: int
    refusals: int
    busy_seconds: float
    longest_seconds: float


@dataclass(frozen=True)
class TreeNode:
    """An actor or supervisor as it is now.

    Attributes:
        path: ``/gateway/submitter``; the root is ``/``.
        kind: Class name of the actor, or the supervisor's strategy.
        state: What it does right now.
        incarnation: How many times it was started.
        restarts: How many of these followed a crash, its own or that of a sibling.
        up_seconds: Time since this incarnation became ready; None when it is not.
        last_error: Text of the last crash, None if there never was one.
        last_error_age_seconds: Time since then.
        mailbox: None for a supervisor.
        work: None for a supervisor.
        children: In order of start; empty for an actor.
    """

    path: str
    kind: str
    state: State
    incarnation: int
    restarts: int
    up_seconds: float | None
    last_error: str | None
    last_error_age_seconds: float | None
    mailbox: MailboxPicture | None = None
    work: Work | None = None
    children: tuple[TreeNode, ...] = ()

    def walk(self) -> Iterator[TreeNode]:
        """This node and everything below it, parents first."""
        yield self
        for child in self.children:
            yield from child.walk()

    def find(self, path: str) -> TreeNode | None:
        """The node at ``path``, or None."""
        return next((node for node in self.walk() if node.path == path), None)
