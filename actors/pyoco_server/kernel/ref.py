"""What the rest of the world holds of an actor: a handle that outlives its restarts."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextvars import ContextVar
from typing import TYPE_CHECKING, Generic, TypeVar

import trio
from structlog.contextvars import get_contextvars

from .errors import ActorDown, AskExpired, InvalidSpec, KernelError, MailboxFull
from .messages import A, Envelope, Reply, Request

if TYPE_CHECKING:
    from .mailbox import Mailbox

M_contra = TypeVar("M_contra", contravariant=True)

# The path of the actor in whose task the current code runs, for the tap's "who sent it".
current_path: ContextVar[str | None] = ContextVar("pyoco_server_actor_path", default=None)

# How soon somebody is asked again who is being restarted.
_RESTART_SECONDS = 0.05

SendObserver = Callable[[str, Envelope], None]


class ActorRef(Generic[M_contra]):
    """Sends messages of type ``M`` to one actor, whichever incarnation of it is alive.

    References come from `ChildSpec.ref` or `ActorSystem.ref`; they stay valid over restarts. After
    the actor ended for good each call raises `ActorDown`.
    """

    __slots__ = ("_mailbox", "_observer", "_owner_task", "path")

    def __init__(self, mailbox: Mailbox) -> None:
        self._mailbox = mailbox
        self.path = "(not started)"
        self._observer: SendObserver | None = None
        self._owner_task: trio.lowlevel.Task | None = None

    def __repr__(self) -> str:
        return f"<ActorRef {self.path}>"

    async def tell(self, message: M_contra) -> None:
        """Put a message into the mailbox, waiting while it is full (back-pressure).

        Cancelled while waiting, the message was not sent.

        Raises:
            ActorDown: The actor takes no more messages.
            MailboxFull: An actor told itself while its own mailbox was full, which could never end.
        """
        await trio.lowlevel.checkpoint()
        await self.put(Envelope(message, None, current_path.get()))

    def try_tell(self, message: M_contra) -> None:
        """Put a message into the mailbox at once.

        Raises:
            MailboxFull: There is no room; the caller decides what to do with the message.
            ActorDown: The actor takes no more messages.
        """
        envelope = Envelope(message, None, current_path.get())
        self._mailbox.put_nowait(envelope)
        self._observe(envelope)

    async def ask(self, request: Request[A], *, within: float) -> A:
        """Send a request and wait for its answer, together at most ``within`` seconds.

        Cancelled while waiting, the request may be handled all the same; its answer is dropped. What the
        actor logs while it handles the request, in tasks too that it spawns for it, has the fields of the
        asker's log context.

        Raises:
            Refusal: The actor's expected "no", as its own subclass.
            AskExpired: No answer in time.
            ActorDown: The actor crashed or stopped before it answered.
            NotAnswered: The actor has no answer for this request.
            KernelError: An actor asked itself, which could only end by the deadline.
        """
        if self._owner_task is trio.lowlevel.current_task():
            raise KernelError(
                f"{self.path} asks itself {type(request).__name__}, and would never answer"
            )
        reply: Reply[A] = Reply()
        expired = AskExpired(
            f"{self.path} did not answer {type(request).__name__} within {within:g} s"
        )
        try:
            with trio.move_on_after(within):
                fields = get_contextvars()
                await self.put(Envelope(request, reply, current_path.get(), fields))  # type: ignore[arg-type]
                return await reply.outcome()
        finally:
            reply.fail(expired)  # so that the actor can see that nobody waits any more
        raise expired

    async def ask_over_restarts(self, request: Request[A]) -> A:
        """Send a request until it is answered, whatever it takes: again to each new incarnation.

        Only cancelling it ends it where the actor never runs again; raises as `ask` but for `ActorDown`.
        """
        while True:
            try:
                return await self.ask(request, within=math.inf)
            except ActorDown:
                await trio.sleep(_RESTART_SECONDS)

    async def put(self, envelope: Envelope) -> None:
        """Send what says itself from whom it comes, as a replay does; waits and raises as `tell`."""
        mailbox = self._mailbox
        if len(mailbox) >= mailbox.capacity and self._owner_task is trio.lowlevel.current_task():
            raise MailboxFull(f"{self.path} waits for room in its own mailbox, which never comes")
        await mailbox.put(envelope)
        self._observe(envelope)

    def _notify(self, message: object, sender: str) -> None:
        """Put a message of the kernel's own, for which there is always room."""
        envelope = Envelope(message, None, sender)
        self._mailbox.put_nowait(envelope, control=True)
        self._observe(envelope)

    def _observe(self, envelope: Envelope) -> None:
        if self._observer is not None:
            self._observer(self.path, envelope)

    def _adopt(self, path: str, observer: SendObserver) -> None:
        if self._observer is not None and not self._mailbox.closed:
            raise InvalidSpec(f"the spec of {self.path} is used twice; make one for each place")
        self.path = path
        self._mailbox.owner = path
        self._mailbox.open()
        self._observer = observer

    def _owned_by(self, task: trio.lowlevel.Task) -> None:
        self._owner_task = task
