"""A whole tree of actors inside the caller's nursery."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext
from random import Random
from typing import Any

import trio

from .errors import UnknownActor
from .ref import ActorRef
from .registry import Registry, TapListener
from .spec import SupervisorSpec
from .supervisor import Supervisor
from .tree import TreeNode


class ActorSystem:
    """A running tree; made by `open_system`."""

    def __init__(self, root: SupervisorSpec, random: Random) -> None:
        self._registry = Registry()
        self._record = self._registry.register("/", None)
        self._root = Supervisor(root, self._record, self._registry, random)
        self._ready = trio.Event()
        self._ended = trio.Event()

    def ref(self, path: str) -> ActorRef[Any]:
        """The reference of the actor at ``path``, such as ``/gateway/submitter``.

        Raises:
            UnknownActor: Nothing stands there; the text names what does.
        """
        return self._registry.ref(path)

    def tree(self) -> TreeNode:
        """The tree as it is now, frozen."""
        return self._root.picture()

    def tap(self, listener: TapListener) -> AbstractContextManager[None]:
        """Call ``listener`` with every message event inside of the block (see `TapEvent`)."""
        return self._registry.tap(listener)

    async def restart(self, path: str) -> None:
        """Stop the actor or supervisor at ``path`` in good order and start it again, and nothing else.

        It does not count as a crash. Messages that wait in mailboxes stay for the new incarnation;
        requests fail with `ActorDown`. Cancelled while waiting, the restart goes on.

        Raises:
            UnknownActor: Nothing stands there, or only the root.
            ActorDown: Its supervisor does not run, or stops first.
            Exception: What its start raised, in an exception group; it has then counted as a crash.
        """
        done = self._root.restart(path)
        if done is None:
            raise UnknownActor(f"no actor or supervisor under a supervisor at {path!r}")
        await done.outcome()

    async def _run(self) -> None:
        # The tree outlives a cancellation from outside just long enough to stop in reverse order:
        # every actor's shutdown and clean-up time is bounded by its spec.
        try:
            await trio.lowlevel.checkpoint_if_cancelled()
            with trio.CancelScope(shield=True):
                self._record.starts()
                await self._root.run(self._ready.set)
        finally:
            self._root.retire_all()
            self._record.stopped()
            self._ended.set()

    async def _stop(self) -> None:
        self._root.request_stop(for_good=True)
        with trio.CancelScope(shield=True):
            await self._ended.wait()


@asynccontextmanager
async def open_system(
    root: SupervisorSpec, *, random: Random | None = None, tap: TapListener | None = None
) -> AsyncIterator[ActorSystem]:
    """Run the tree of ``root`` for the length of the block.

    The block is entered when every child is ready. When it is left, also by cancellation, the children
    stop in reverse order: each handles what is in its mailbox for its ``shutdown_seconds``, is then
    cancelled, and cleans up for at most ``cleanup_seconds``.

    Args:
        root: The tree.
        random: Source of the backoff's jitter; a seeded one makes restarts repeatable.
        tap: Called with every event from the first start to the last stop; see `ActorSystem.tap`.

    Raises:
        ExceptionGroup: A first start failed, or crashes went above the root's intensity; the block is
            cancelled then. `RestartLimitExceeded` is a group itself, which ``except*`` cannot name: look
            for it with ``group.subgroup(RestartLimitExceeded)``. What the block raises comes in a group too.
        BaseExceptionGroup: The same where an actor or the block ended by KeyboardInterrupt or SystemExit.
    """
    system = ActorSystem(root, random or Random())  # noqa: S311 - jitter, no secret
    tapped = nullcontext() if tap is None else system.tap(tap)
    with tapped:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(system._run, name="actor system")
            try:
                await system._ready.wait()
                yield system
            finally:
                await system._stop()
