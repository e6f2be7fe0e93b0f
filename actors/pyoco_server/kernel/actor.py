"""The base class of actors: one mailbox, one task, one message at a time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Generic, Never, Protocol, TypeVar, TypeVarTuple, Unpack

import trio

from .errors import KernelError, Refusal
from .messages import A, Reply, Request
from .ref import ActorRef

M = TypeVar("M")
Ts = TypeVarTuple("Ts")


class Incarnation(Protocol):
    """One incarnation of an actor, as the actor itself sees it; `Cell` runs it."""

    @property
    def ref(self) -> ActorRef[Any]:
        """The actor's reference."""
        ...

    @property
    def nursery(self) -> trio.Nursery:
        """See `Actor.spawn`."""
        ...

    def take_reply(self, request: Request[A]) -> Reply[A]:
        """See `Actor.reply_to`."""
        ...

    def monitor(self, other: ActorRef[Never]) -> None:
        """See `Actor.monitor`."""
        ...

    def stop_after_current(self) -> None:
        """See `Actor.stop`."""
        ...


class Actor(Generic[M]):
    """Subclass it with ``handle`` and, where needed, ``on_start`` and ``on_stop``.

    ``M`` is the union of the messages that the actor takes. State lives in attributes and is touched
    only by ``on_start``, ``handle`` and ``on_stop``, which never run at the same time. What has to wait
    (a watch, a process's output) runs in a task of its own (`spawn`) and tells the actor.

    Use a plain function or class instead where there is no state to guard and no failure to contain.
    """

    _incarnation: Incarnation | None = None

    async def on_start(self) -> None:
        """Acquire what the actor needs. It takes messages after this returned.

        An exception, or taking longer than the spec's ``start_within``, is a crash at start.
        """

    async def handle(self, message: M) -> None:
        """Handle one message.

        A `Refusal` raised here goes to the asker and the actor lives on. Any other exception crashes it,
        also a group that holds a refusal, as a nursery of the handler makes one.

        Cancelled here means that the actor is ended: the message in hand is lost, so what must not be
        lost is confirmed to its source only after it was done.
        """
        raise NotImplementedError

    async def on_stop(self) -> None:
        """Release what was acquired; runs after the actor's tasks have ended, however they ended.

        Shielded from cancellation and limited to the spec's ``cleanup_seconds``. It also runs when
        ``on_start`` failed half-way.
        """

    @property
    def me(self) -> ActorRef[M]:
        """The actor's own reference, for its tasks and for handing out."""
        return self._running.ref

    @property
    def path(self) -> str:
        """Where the actor stands in the tree."""
        return self._running.ref.path

    def spawn(
        self,
        task: Callable[[Unpack[Ts]], Awaitable[object]],
        *args: *Ts,
        name: str | None = None,
    ) -> None:
        """Run a task beside the mailbox. It is cancelled with the actor; if it raises, the actor crashes."""
        self._running.nursery.start_soon(task, *args, name=name)

    def reply_to(self, request: Request[A]) -> Reply[A]:
        """Take the reply of the request in hand, to answer now or later.

        Raises:
            KernelError: ``request`` is not the message that is being handled.
        """
        return self._running.take_reply(request)

    def answer(
        self,
        request: Request[A],
        work: Callable[[Unpack[Ts]], Awaitable[A]],
        *args: *Ts,
        refusing: type[Exception] | tuple[type[Exception], ...] = Refusal,
    ) -> None:
        """Answer the request in hand with what a task comes to: its value, or an error of ``refusing``.

        The mailbox goes on meanwhile; what else the task raises crashes the actor, as in `spawn`.

        Raises:
            KernelError: ``request`` is not the message that is being handled.
        """
        reply = self.reply_to(request)

        async def settle() -> None:
            try:
                reply.send(await work(*args))
            except refusing as error:
                reply.fail(error)

        self.spawn(settle)

    def monitor(self, other: ActorRef[Never]) -> None:
        """Receive a `Down` message each time an incarnation of ``other`` ends from now on.

        It lasts over restarts of both, until one of them leaves the tree.

        Raises:
            UnknownActor: ``other`` does not stand in this tree.
        """
        self._running.monitor(other)

    def stop(self) -> None:
        """End this actor normally after the message in hand (a permanent child is then restarted)."""
        self._running.stop_after_current()

    @property
    def _running(self) -> Incarnation:
        if self._incarnation is None:
            raise KernelError(f"{type(self).__name__} is used outside of an actor tree")
        return self._incarnation
