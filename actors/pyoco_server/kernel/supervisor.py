"""The running side of a `SupervisorSpec`: starts children in order, restarts them, stops them in reverse."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import assert_never

import structlog
import trio

from .child import Child, Spec
from .errors import ActorDown, KernelError, RestartLimitExceeded
from .messages import Reply
from .record import Record, describe_error
from .registry import Registry
from .restart import RestartWindow, plan
from .spec import ChildSpec, Restart, SupervisorSpec
from .tree import State, TreeNode

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class _Ended:
    child: Child
    incarnation: int


@dataclass(frozen=True)
class _Due:
    """The backoff of a planned restart is over; valid where a child's ticket is still the one noted."""

    tickets: tuple[tuple[Child, int], ...]


@dataclass(frozen=True)
class _RestartWanted:
    """Somebody outside wants a child restarted; it is done between two events."""

    child: Child
    done: Reply[None]


class Supervisor:
    """Runs under a shield of the system, so that children stop in order; `request_stop` ends it.

    It may run again after it ended, as the next incarnation at its place: the children's records,
    mailboxes and watchers live as long as the tree.
    """

    def __init__(
        self, spec: SupervisorSpec, record: Record, registry: Registry, random: Random
    ) -> None:
        self.spec = spec
        self.record = record
        record.kind = spec.strategy.value
        self._registry = registry
        self._random = random
        # Every path of the tree is known before the first actor starts.
        self._children = [self._enter(child) for child in spec.children]
        self._renew()

    def _enter(self, spec: Spec) -> Child:
        ref = spec.ref if isinstance(spec, ChildSpec) else None
        record = self._registry.register(f"{self.record.path.rstrip('/')}/{spec.id}", ref)
        below = None
        if isinstance(spec, SupervisorSpec):
            below = Supervisor(spec, record, self._registry, self._random)
        return Child(spec, record, self._registry, below=below)

    def _renew(self) -> None:
        """Set up what belongs to one run only, for the next one."""
        self._window = RestartWindow(self.spec.intensity)
        self._crashes: list[Exception] = []
        # What the restart of a child cannot mend: Ctrl-C and SystemExit.
        self._fatal: list[BaseException] = []
        self._events, self._inbox = trio.open_memory_channel[_Ended | _Due | _RestartWanted](
            math.inf
        )
        self._stopping = trio.CancelScope()
        self._for_good = False
        self._nursery: trio.Nursery | None = None
        for child in self._children:
            child.record.failures_in_row = 0

    # Running ------------------------------------------------------------------------------------

    async def run(self, ready: Callable[[], None]) -> None:
        """Start the children, call ``ready``, supervise until `request_stop`, stop them in reverse.

        Raises:
            Exception: A child's first start failed; the ones before it were stopped again.
            RestartLimitExceeded: Children crashed more often than the intensity allows.
            BaseException: A child ended by KeyboardInterrupt or SystemExit.

        All of them inside of an exception group, after the children have stopped.
        """
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                try:
                    await self._supervise(ready)
                finally:
                    self.record.went_down()
                    await self._stop(self._children, for_good=self._for_good)
                    nursery.cancel_scope.cancel()  # backoff sleepers
                    if self._fatal:
                        raise BaseExceptionGroup(f"{self.record.path} was interrupted", self._fatal)
        finally:
            self._refuse_pending()
            self._renew()

    async def _supervise(self, ready: Callable[[], None]) -> None:
        with self._stopping:
            for child in self._children:
                await self._start(child)
            self.record.came_up(State.SUPERVISING)
            ready()
            async for event in self._inbox:
                await self._on_event(event)

    def request_stop(self, *, for_good: bool) -> None:
        """Stop the children in reverse order of start and end `run` normally.

        Args:
            for_good: Children handle what is in their mailboxes first and take nothing more;
                otherwise what waits is left to those that will be started in their place.
        """
        self._for_good = for_good
        self._stopping.cancel()

    async def _on_event(self, event: _Ended | _Due | _RestartWanted) -> None:
        match event:
            case _Ended(child, incarnation):
                # While the event waited, the child may have been started again.
                if incarnation == child.record.incarnation and not child.stopping:
                    await self._on_end(child)
            case _Due(tickets):
                await self._on_due([child for child, ticket in tickets if child.ticket == ticket])
            case _RestartWanted():
                await self._restart(event)
            case _:
                assert_never(event)

    # Ends and restarts ---------------------------------------------------------------------------

    def _note_end(self, child: Child) -> None:
        """Called in the child's task, as its last act."""
        if child.record.lived_seconds >= self.spec.backoff.healthy_after:
            child.record.failures_in_row = 0
        if child.error is None or isinstance(child.error, Exception):
            self._events.send_nowait(_Ended(child, child.record.incarnation))
        else:
            self._fatal.append(child.error)
            self._stopping.cancel()

    async def _on_end(self, child: Child) -> None:
        error = child.error
        assert error is None or isinstance(error, Exception)
        restart = child.spec.restart
        if error is None and restart is Restart.PERMANENT:
            error = KernelError(f"{child.record.path} ended by itself, although it is permanent")
        if error is None or restart is Restart.TEMPORARY:
            child.finished = True
            await child.stop(for_good=True)
        else:
            await self._recover(child, error)

    async def _recover(self, child: Child, error: Exception) -> None:
        """Count a crash, and plan the restart of the child and of those that share its fate."""
        record = child.record
        record.failures_in_row += 1
        self._crashes.append(error)
        within = self._window.record(trio.current_time())
        del self._crashes[: -max(len(self._window), 1)]
        log.error(
            "child crashed",
            supervisor=self.record.path,
            child=record.path,
            reason=describe_error(error),
            incarnation=record.incarnation,
            restarts_in_window=len(self._window),
        )
        if not within or record.failures_in_row > self.spec.intensity.consecutive:
            raise RestartLimitExceeded(
                f"{self.record.path} gave up: {record.path} crashed; "
                f"{len(self._window)} restarts within {self.spec.intensity.seconds:g} s "
                f"(allowed: {self.spec.intensity.restarts}), "
                f"{record.failures_in_row} of it in a row",
                list(self._crashes),
            )
        by_id = {each.spec.id: each for each in self._children}
        planned = plan(self.spec.strategy, tuple(by_id), child.spec.id)
        await self._stop([by_id[name] for name in planned.stop], for_good=False)
        affected = [each for name in planned.start if not (each := by_id[name]).finished]
        for each in affected:
            each.ticket += 1
            each.record.state = State.BACKING_OFF
        delay = self.spec.backoff.delay(record.failures_in_row, self._random)
        due = _Due(tuple((each, each.ticket) for each in affected))
        assert self._nursery is not None
        self._nursery.start_soon(self._after, delay, due)

    async def _after(self, delay: float, due: _Due) -> None:
        await trio.sleep(delay)
        self._events.send_nowait(due)

    async def _on_due(self, children: Sequence[Child]) -> None:
        for child in children:
            child.record.restarts += 1
            try:
                await self._start(child)
            except Exception as error:  # noqa: BLE001 - a failed restart is one more crash
                # The new plan covers those that were not started yet: they share this child's fate.
                await self._recover(child, error)
                return

    # Children ------------------------------------------------------------------------------------

    async def _start(self, child: Child) -> None:
        assert self._nursery is not None
        await child.start(self._nursery, self._note_end)

    async def _stop(self, children: Sequence[Child], *, for_good: bool) -> None:
        """Stop running children in reverse order, or all at once where the spec says so."""
        if self.spec.stop_together:
            async with trio.open_nursery() as nursery:
                for child in children:
                    nursery.start_soon(partial(child.stop, for_good=for_good))
        else:
            for child in reversed(children):
                await child.stop(for_good=for_good)

    def retire_all(self) -> None:
        """Close every mailbox below: nothing runs again, so nothing may wait for it."""
        for child in self._children:
            child.retire()

    # Commands from outside and the picture --------------------------------------------------------

    def restart(self, path: str) -> Reply[None] | None:
        """Stop what stands at ``path`` in good order and start it again; None where nothing does.

        It is not a crash, unless its start fails.

        Raises:
            ActorDown: Its supervisor does not run.
        """
        for child in self._children:
            if child.record.path == path:
                return self._want_restart(child)
            if child.below is not None and (done := child.below.restart(path)) is not None:
                return done
        return None

    def _want_restart(self, child: Child) -> Reply[None]:
        if self._nursery is None:
            raise ActorDown(f"the supervisor {self.record.path} does not run")
        done: Reply[None] = Reply()
        self._events.send_nowait(_RestartWanted(child, done))
        return done

    async def _restart(self, wanted: _RestartWanted) -> None:
        child = wanted.child
        try:
            await child.stop(for_good=False)
            child.record.failures_in_row = 0
            await self._start(child)
        except Exception as error:  # noqa: BLE001 - whatever a start raises is the answer
            child.stopping = False  # a crash like any other: the event of its end is in the inbox
            wanted.done.fail(error)
        else:
            wanted.done.send(None)
        finally:
            self._refuse(wanted)  # has no effect on what was answered

    def _refuse(self, wanted: _RestartWanted) -> None:
        wanted.done.fail(ActorDown(f"the supervisor {self.record.path} stopped before it was done"))

    def _refuse_pending(self) -> None:
        while self._inbox.statistics().current_buffer_used:
            event = self._inbox.receive_nowait()
            if isinstance(event, _RestartWanted):
                self._refuse(event)

    def picture(self) -> TreeNode:
        """This supervisor and everything below it, frozen."""
        return self.record.picture(children=[child.picture() for child in self._children])
