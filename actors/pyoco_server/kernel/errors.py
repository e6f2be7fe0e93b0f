"""What can go wrong between actors; one root, so that callers can tell it from their own errors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self


class KernelError(Exception):
    """Root of every error that the kernel itself raises.

    None of them subclasses `trio.TooSlowError`: a handler for slow input and output must not
    swallow an actor's missed deadline by accident.
    """


class InvalidSpec(KernelError):
    """A child or supervisor spec contradicts itself; the text says which field and what it takes."""


class UnknownActor(KernelError):
    """No actor or supervisor stands at the path that was asked for."""


class MailboxFull(KernelError):
    """`ActorRef.try_tell` found no room, or an actor would have waited for room in its own mailbox."""


class ActorDown(KernelError):
    """The actor crashed or was stopped before it answered, or takes no more messages."""


class AskExpired(KernelError):
    """The answer did not come within the asker's deadline; whether the request was handled is open."""


class NotAnswered(KernelError):
    """The actor handled the request without answering it: a mistake in that actor's code."""


class StartExpired(KernelError):
    """`Actor.on_start` took longer than the child spec's ``start_within`` seconds."""


class Refusal(Exception):
    """An expected "no": it goes back to the asker and leaves the actor alive.

    Subclass it for each thing an actor may refuse (run not found, version conflict). Raised while a
    plain `tell` is handled it is logged, since nobody waits for it.
    """


class RestartLimitExceeded(ExceptionGroup[Exception]):
    """A supervisor gave up: its children crashed more often than its restart intensity allows.

    The group holds the crashes of the window that led to it, oldest first. It arrives inside of the groups
    of the nurseries it went through; ``group.subgroup(RestartLimitExceeded)`` finds it there.
    """

    def derive(self, excs: Sequence[Exception], /) -> Self:  # type: ignore[override]
        """Keep the type when the group is split, by ``except*`` over the crashes for one."""
        return type(self)(self.message, excs)
