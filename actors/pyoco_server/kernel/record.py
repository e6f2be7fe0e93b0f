"""What the kernel keeps about one place in the tree, over all incarnations that stood there."""

from __future__ import annotations

from dataclasses import dataclass

import trio

from .tree import State, Work


def describe_error(error: BaseException) -> str:
    """One line for people: the innermost cause of a chain of single-error groups, with its type."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    if isinstance(error, BaseExceptionGroup):
        return f"{error.message}: " + "; ".join(describe_error(part) for part in error.exceptions)
    text = str(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


@dataclass
class Record:
    """Mutable counters behind a `tree.Node`; written by the supervisor and the cell only."""

    path: str
    kind: str = ""
    state: State = State.STOPPED
    incarnation: int = 0
    # Restarts of this child in a row without a healthy time between; drives the backoff.
    failures_in_row: int = 0
    restarts: int = 0
    ready_at: float | None = None
    last_error: str | None = None
    last_error_at: float | None = None
    messages: int = 0
    refusals: int = 0
    busy_seconds: float = 0.0
    longest_seconds: float = 0.0

    def crashed(self, error: Exception) -> None:
        """Note why the current incarnation ended."""
        self.last_error = describe_error(error)
        self.last_error_at = trio.current_time()

    def handled(self, seconds: float) -> None:
        """Count a message that took ``seconds``."""
        self.messages += 1
        self.busy_seconds += seconds
        self.longest_seconds = max(self.longest_seconds, seconds)

    def work(self) -> Work:
        """The counters as a frozen value."""
        return Work(self.messages, self.refusals, self.busy_seconds, self.longest_seconds)
