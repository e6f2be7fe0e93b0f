"""One place under a supervisor: starts what stands there, contains its crash, stops and retires it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Protocol, TypeAlias

import structlog
import trio

from .cell import Cell
from .errors import StartExpired
from .messages import Reply
from .record import Record
from .registry import Registry
from .spec import ChildSpec, Restart, SupervisorSpec
from .tree import MailboxPicture, TreeNode

log = structlog.get_logger(__name__)

Spec: TypeAlias = ChildSpec[Any] | SupervisorSpec


class Below(Protocol):
    """The supervisor at a child's place, as the child and those above see it."""

    async def run(self, ready: Callable[[], None]) -> None:
        """Start the children, call ``ready``, supervise until `request_stop`, stop them."""
        ...

    def request_stop(self, *, for_good: bool) -> None:
        """End `run`; the children handle what is in their mailboxes only where it is ``for_good``."""
        ...

    def retire_all(self) -> None:
        """Close every mailbox below."""
        ...

    def restart(self, path: str) -> Reply[None] | None:
        """Restart what stands at ``path``; None where nothing does."""
        ...

    def picture(self) -> TreeNode:
        """What stands below, frozen."""
        ...


class Child:
    """A spec, the record of its incarnations, and the one that runs now.

    Args:
        record: Its counters, which outlive every incarnation.
        below: The supervisor that runs ``spec``; None for an actor.
    """

    def __init__(
        self,
        spec: Spec,
        record: Record,
        registry: Registry,
        *,
        below: Below | None,
    ) -> None:
        self.spec = spec
        self.record = record
        self.below = below
        self.error: BaseException | None = None
        self.stopping = False  # on purpose, so that its end is no event to react to
        self.finished = False  # ended and does not come back
        # Rises with each plan that covers this child, so that an older plan's restart is void.
        self.ticket = 0
        self._registry = registry
        self._cell: Cell | None = None
        self._was_ready = False
        self._settled = trio.Event()  # ready, or ended before it was
        self._ended = trio.Event()
        self._ended.set()

    @property
    def running(self) -> bool:
        """Whether an incarnation lives, be it starting or cleaning up."""
        return not self._ended.is_set()

    async def start(self, nursery: trio.Nursery, on_end: Callable[[Child], None]) -> None:
        """Start an incarnation and wait until it is ready.

        Cancelled while waiting, the incarnation goes on: stop it. ``on_end`` is called when it has ended,
        whatever the cause.

        Raises:
            StartExpired: It was not ready in time; it has ended by now.
            BaseException: What ended it before it was ready.
        """
        self.stopping = self.finished = self._was_ready = False
        self.error = None
        self._ended = trio.Event()
        self._settled = trio.Event()
        self.record.starts()
        within = math.inf  # a supervisor takes as long as its children may
        if isinstance(self.spec, ChildSpec):
            self._cell = Cell(self.spec, self.record, self._registry)
            within = self.spec.start_within
        nursery.start_soon(self._run, on_end, name=self.record.path)
        with trio.move_on_after(within) as scope:
            await self._settled.wait()
        if scope.cancelled_caught:
            await self._cut_off_start(within)
        if self.error is not None and not self._was_ready:
            self.stopping = True  # its end is reported here, not as an event
            raise self.error

    async def _cut_off_start(self, within: float) -> None:
        assert self._cell is not None
        self.stopping = True
        self._cell.cancel()
        with trio.CancelScope(shield=True):  # bounded by the child's clean-up time
            await self._ended.wait()
        if self.error is None or isinstance(self.error, Exception):
            expired = StartExpired(f"{self.record.path} was not ready within {within:g} s")
            expired.__cause__ = self.error
            self.error = expired
            self.record.crashed(expired)

    async def _run(self, on_end: Callable[[Child], None]) -> None:
        """The task of one incarnation: whatever ends it is kept in ``error``, only Cancelled passes."""
        runner = self.below or self._cell
        assert runner is not None

        def ready() -> None:
            self._was_ready = True
            self._settled.set()

        try:
            await runner.run(ready)
        except Exception as error:  # noqa: BLE001 - containing any crash is what a supervisor is for
            self.error = error
        except BaseException as error:
            if _holds_cancelled(error):
                raise
            self.error = error  # Ctrl-C or SystemExit: the supervisor hands it up in good order
        finally:
            self._note_end()
            on_end(self)

    def _note_end(self) -> None:
        reason = None
        if self.error is not None:
            self.record.crashed(self.error)
            reason = self.record.last_error
        if isinstance(self.spec, ChildSpec):
            self.spec.mailbox.fail_asks(f"ended: {reason or 'stopped'}")
        self.record.stopped()
        self._ended.set()
        self._settled.set()
        self._registry.announce_end(self.record, reason)

    async def stop(self, *, for_good: bool) -> None:
        """Stop what runs here, if anything does, and void every planned restart.

        Args:
            for_good: Handle what is in the mailbox first, then close it; otherwise what waits is left to the
                next incarnation.
        """
        self.ticket += 1
        if self.spec.restart is Restart.TEMPORARY:
            for_good = self.finished = True
        if self.running:
            self.stopping = True
            await self._ask_to_stop(for_good=for_good)
            await self._ended.wait()
            if self.error is not None:
                log.error(
                    "child crashed as it stopped",
                    child=self.record.path,
                    reason=self.record.last_error,
                )
        self.record.stopped()
        if for_good:
            self.retire()

    async def _ask_to_stop(self, *, for_good: bool) -> None:
        if self.below is not None:
            self.below.request_stop(for_good=for_good)
            return
        assert self._cell is not None
        if self._settled.is_set():
            await self._cell.stop(self._ended, drain=for_good)
        else:
            self._cell.cancel()

    def retire(self) -> None:
        """Close what belongs to a child that never runs again: nothing may wait for it."""
        if self.below is not None:
            self.below.retire_all()
            return
        assert isinstance(self.spec, ChildSpec)
        left = self.spec.mailbox.close("was stopped")
        if left:
            log.warning("messages left unhandled", actor=self.record.path, count=left)

    def picture(self) -> TreeNode:
        """What stands here and everything below it, frozen."""
        if self.below is not None:
            return self.below.picture()
        assert isinstance(self.spec, ChildSpec)
        box = self.spec.mailbox
        return self.record.picture(MailboxPicture(len(box), box.capacity, box.waiting_senders))


def _holds_cancelled(error: BaseException) -> bool:
    if isinstance(error, BaseExceptionGroup):
        return error.subgroup(trio.Cancelled) is not None
    return isinstance(error, trio.Cancelled)
