"""A whole tree of actors inside the caller's nursery."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractContextManager, asynccontextmanager
from random import Random
from typing import Any

import trio

from .errors import UnknownActor
from .record import Record
from .ref import ActorRef
from .spec import SupervisorSpec
from .supervisor import Supervisor
from .switchboard import Switchboard
from .tap import TapListener
from .tree import Node


class ActorSystem:
    """A running tree; made by `open_system`."""

    def __init__(self, root: SupervisorSpec, random: Random) -> None:
        self._switchboard = Switchboard()
        record = Record("/")
        record.incarnation = 1
        self._switchboard.register(record, None)
        self._root = Supervisor(root, record, self._switchboard, random)
        self._ready = trio.Event()
        self._ended = trio.Event()
        self._stop_requested = False

    def ref(self, path: str) -> ActorRef[Any]:
        """The reference of the actor at ``path``, such as ``/gateway/submitter``.

        Raises:
            UnknownActor: Nothing stands there; the text names what does.
        """
        return self._switchboard.ref(path)

    def tree(self) -> Node:
        """The tree as it is now, frozen."""
        return self._root.picture()

    def tap(self, listener: TapListener) -> AbstractContextManager[None]:
        """Call ``listener`` with every message event inside of the block (see `TapEvent`)."""
        return self._switchboard.tap(listener)

    async def restart(self, path: str) -> None:
        """Stop the actor or supervisor at ``path`` in good order and start it again.

        It does not count as a crash. Its mailbox keeps what waits in it. Cancelled while waiting, the
        restart goes on.

        Raises:
            UnknownActor: Nothing stands there.
            Exception: What its start raised; its supervisor has then counted a crash.
        """
        found = self._root.find(path)
        if found is None:
            raise UnknownActor(f"nothing stands at {path!r}")
        supervisor, child = found
        finished = trio.Event()
        failure: list[Exception] = []

        def done(error: Exception | None) -> None:
            if error is not None:
                failure.append(error)
            finished.set()

        supervisor.restart_child(child, done)
        await finished.wait()
        if failure:
            raise failure[0]

    async def _run(self) -> None:
        # The tree outlives a cancellation from outside just long enough to stop in reverse order:
        # every actor's shutdown and clean-up time is bounded by its spec.
        try:
            with trio.CancelScope(shield=True):
                if not self._stop_requested:
                    await self._root.run(self._ready.set)
        finally:
            self._root.retire_all()
            self._ended.set()
            self._ready.set()

    async def _stop(self) -> None:
        self._stop_requested = True
        self._root.request_stop(for_good=True)
        with trio.CancelScope(shield=True):
            await self._ended.wait()


@asynccontextmanager
async def open_system(
    root: SupervisorSpec, *, random: Random | None = None
) -> AsyncIterator[ActorSystem]:
    """Run the tree of ``root`` for the length of the block.

    The block is entered when every child is ready. When it is left, also by cancellation, the children
    stop in reverse order: each handles what is in its mailbox for its ``shutdown_seconds``, is then
    cancelled, and cleans up for at most ``cleanup_seconds``.

    Args:
        root: The tree.
        random: Source of the backoff's jitter; a seeded one makes restarts repeatable.

    Raises:
        ExceptionGroup: A first start failed, or crashes went above the root's intensity
            (`RestartLimitExceeded`); the block is cancelled then.
    """
    system = ActorSystem(root, random or Random())  # noqa: S311 - jitter, no secret
    async with trio.open_nursery() as nursery:
        nursery.start_soon(system._run, name="actor system")
        try:
            await system._ready.wait()
            yield system
        finally:
            await system._stop()
