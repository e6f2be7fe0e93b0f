"""What the kernel keeps about one place in the tree, over all incarnations that stood there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import trio

from .tree import MailboxPicture, State, TreeNode, Work


def describe_error(error: BaseException) -> str:
    """One line for people: the innermost cause of a chain of single-error groups, with its type."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    if isinstance(error, BaseExceptionGroup):
        return f"{error.message}: " + "; ".join(describe_error(part) for part in error.exceptions)
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


@dataclass
class Record:
    """Mutable counters behind a `tree.TreeNode`; written by the supervisor and the cell only."""

    path: str
    kind: str = ""
    state: State = State.STOPPED
    incarnation: int = 0
    # Restarts of this child in a row without a healthy time between; drives the backoff.
    failures_in_row: int = 0
    restarts: int = 0
    ready_at: float | None = None
    # How long the last incarnation was ready; zero while one is starting.
    lived_seconds: float = 0.0
    last_error: str | None = None
    last_error_at: float | None = None
    messages: int = 0
    refusals: int = 0
    busy_seconds: float = 0.0
    longest_seconds: float = 0.0

    def starts(self) -> None:
        """Begin a new incarnation."""
        self.incarnation += 1
        self.lived_seconds = 0.0
        self.state = State.STARTING

    def came_up(self, state: State) -> None:
        """Note that the current incarnation is ready."""
        self.ready_at = trio.current_time()
        self.state = state

    def went_down(self) -> None:
        """Note that the current incarnation is no longer ready: what follows is its clean-up."""
        if self.ready_at is not None:
            self.lived_seconds = trio.current_time() - self.ready_at
            self.ready_at = None
        self.state = State.STOPPING

    def stopped(self) -> None:
        """Note that nothing runs here."""
        self.ready_at = None
        self.state = State.STOPPED

    def crashed(self, error: BaseException) -> None:
        """Note why the current incarnation ended."""
        self.last_error = describe_error(error)
        self.last_error_at = trio.current_time()

    def handled(self, seconds: float) -> None:
        """Count a message that took ``seconds``."""
        self.messages += 1
        self.busy_seconds += seconds
        self.longest_seconds = max(self.longest_seconds, seconds)

    def picture(
        self, mailbox: MailboxPicture | None = None, children: Sequence[TreeNode] = ()
    ) -> TreeNode:
        """The actor with this mailbox, or the supervisor with these children, as it is now."""
        now = trio.current_time()
        work = Work(self.messages, self.refusals, self.busy_seconds, self.longest_seconds)
        return TreeNode(
            path=self.path,
            kind=self.kind,
            state=self.state,
            incarnation=self.incarnation,
            restarts=self.restarts,
            up_seconds=None if self.ready_at is None else now - self.ready_at,
            last_error=self.last_error,
            last_error_age_seconds=None if self.last_error_at is None else now - self.last_error_at,
            mailbox=mailbox,
            work=None if mailbox is None else work,
            children=tuple(children),
        )
