"""The running side of a `SupervisorSpec`: starts children in order, restarts them, stops them in reverse."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, assert_never

import structlog
import trio

from .cell import Cell
from .errors import KernelError, RestartLimitExceeded, StartExpired
from .plan import Strategy, plan
from .record import Record, describe_error
from .restart import RestartWindow
from .spec import ChildSpec, Restart, SupervisorSpec
from .switchboard import Switchboard
from .tree import MailboxPicture, Node, State

log = structlog.get_logger(__name__)


class _Child:
    """A place under the supervisor and what runs there now."""

    def __init__(self, spec: ChildSpec[Any] | SupervisorSpec, record: Record) -> None:
        self.spec = spec
        self.record = record
        self.runs: Cell | Supervisor | None = None
        self.ended = trio.Event()
        self.settled = trio.Event()  # ready, or ended before it was
        self.was_ready = False
        self.error: Exception | None = None
        self.stopping = False  # on purpose, so that its end is no event to react to
        self.finished = False  # ended by itself and does not come back
        # Rises with each plan that covers this child, so that an older plan's restart is void.
        self.ticket = 0


@dataclass(frozen=True)
class _Ended:
    child: _Child
    incarnation: int


@dataclass(frozen=True)
class _Due:
    """The backoff of a planned restart is over; valid where a child's ticket is still the one noted."""

    tickets: tuple[tuple[_Child, int], ...]


@dataclass(frozen=True)
class _Restart:
    """Somebody outside wants a child restarted; ``done`` takes the error of its start, or None."""

    child: _Child
    done: Callable[[Exception | None], None]


class Supervisor:
    """Runs under a shield of the system, so that children stop in order; `request_stop` ends it."""

    def __init__(
        self, spec: SupervisorSpec, record: Record, switchboard: Switchboard, random: Random
    ) -> None:
        self.spec = spec
        self.record = record
        record.kind = spec.strategy.value
        self._switchboard = switchboard
        self._random = random
        self._window = RestartWindow(spec.intensity)
        self._crashes: list[Exception] = []
        self._children: list[_Child] = []
        self._events, self._inbox = trio.open_memory_channel[_Ended | _Due | _Restart](math.inf)
        self._stopping = trio.CancelScope()
        self._for_good = False
        self._nursery: trio.Nursery | None = None
        for child in spec.children:
            self._enter(child)

    def _enter(self, spec: ChildSpec[Any] | SupervisorSpec) -> _Child:
        path = f"{self.record.path.rstrip('/')}/{spec.id}"
        child = _Child(spec, Record(path))
        self._switchboard.register(child.record, spec.ref if isinstance(spec, ChildSpec) else None)
        if isinstance(spec, SupervisorSpec):
            # Built at once, so that every path of the tree is known before the first actor starts.
            child.runs = Supervisor(spec, child.record, self._switchboard, self._random)
        self._children.append(child)
        return child

    # Running ------------------------------------------------------------------------------------

    async def run(self, ready: Callable[[], None]) -> None:
        """Start the children, call ``ready``, supervise until `request_stop`, stop them in reverse.

        Raises:
            Exception: A child's first start failed; the ones before it were stopped again.
            RestartLimitExceeded: Children crashed more often than the intensity allows.
        """
        self.record.state = State.STARTING
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            try:
                with self._stopping:
                    for child in self._children:
                        await self._start(child)
                    self.record.state = State.SUPERVISING
                    self.record.ready_at = trio.current_time()
                    ready()
                    async for event in self._inbox:
                        await self._on_event(event)
            finally:
                self.record.state = State.STOPPING
                self.record.ready_at = None
                await self._stop(self._children, for_good=self._for_good)
                nursery.cancel_scope.cancel()  # backoff sleepers

    def request_stop(self, *, for_good: bool) -> None:
        """Stop the children in reverse order of start and end `run` normally.

        Args:
            for_good: Children handle what is in their mailboxes first and take nothing more;
                otherwise what waits is left to those that will be started in their place.
        """
        self._for_good = for_good
        self._stopping.cancel()

    async def _on_event(self, event: _Ended | _Due | _Restart) -> None:
        match event:
            case _Ended(child, incarnation):
                if incarnation == child.record.incarnation and not child.stopping:
                    await self._on_end(child)
            case _Due(tickets):
                await self._on_due([child for child, ticket in tickets if child.ticket == ticket])
            case _Restart(child, done):
                await self._on_restart(child, done)
            case _:
                assert_never(event)

    # Ends and restarts ---------------------------------------------------------------------------

    async def _on_end(self, child: _Child) -> None:
        again = child.spec.restart is Restart.PERMANENT or (
            child.spec.restart is Restart.TRANSIENT and child.error is not None
        )
        if not again:
            child.finished = True
            retire(child)
            return
        error = child.error
        if error is None:
            error = KernelError(f"{child.record.path} ended by itself, although it is permanent")
        await self._recover(child, error)

    async def _recover(self, child: _Child, error: Exception) -> None:
        """Count a crash, and plan the restart of the child and of those that share its fate."""
        now = trio.current_time()
        record = child.record
        record.failures_in_row += 1
        self._crashes.append(error)
        within = self._window.record(now)
        del self._crashes[: -max(len(self._window), 1)]
        log.error(
            "child crashed",
            supervisor=self.record.path,
            child=record.path,
            reason=record.last_error or describe_error(error),
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
        order = [each.spec.id for each in self._children]
        by_id = {each.spec.id: each for each in self._children}
        planned = plan(self.spec.strategy, order, child.spec.id)
        await self._stop([by_id[name] for name in reversed(planned.stop)], for_good=False)
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

    async def _on_restart(self, child: _Child, done: Callable[[Exception | None], None]) -> None:
        await self._stop_one(child, for_good=False)
        child.record.failures_in_row = 0
        try:
            await self._start(child)
        except Exception as error:  # noqa: BLE001 - told to whoever asked, then one more crash
            done(error)
            await self._recover(child, error)
        else:
            done(None)

    async def _on_due(self, children: Sequence[_Child]) -> None:
        for child in children:
            child.record.restarts += 1
            try:
                await self._start(child)
            except Exception as error:  # noqa: BLE001 - a failed restart is one more crash
                await self._recover(child, error)
                if self.spec.strategy is not Strategy.ONE_FOR_ONE:
                    return  # the new plan covers the rest

    # One child -----------------------------------------------------------------------------------

    async def _start(self, child: _Child) -> None:
        """Start a child and wait until it is ready.

        Raises:
            StartExpired: It was not ready in time.
            Exception: What ended it before it was ready.
        """
        child.stopping = child.finished = child.was_ready = False
        child.error = None
        child.ended = trio.Event()
        child.settled = trio.Event()
        child.record.incarnation += 1
        within = math.inf
        if isinstance(child.spec, ChildSpec):
            child.runs = Cell(child.spec, child.record, self._switchboard)
            within = child.spec.start_within
        elif child.record.incarnation > 1:
            assert isinstance(child.runs, Supervisor)
            child.runs._unregister_children()
            child.runs = Supervisor(child.spec, child.record, self._switchboard, self._random)
        assert self._nursery is not None
        self._nursery.start_soon(self._run, child, name=child.record.path)
        try:
            with trio.move_on_after(within) as scope:
                await child.settled.wait()
        except trio.Cancelled:
            child.stopping = True
            raise
        if scope.cancelled_caught:
            child.stopping = True
            self._cancel(child)
            with trio.CancelScope(shield=True):  # bounded: the child's clean-up time
                await child.ended.wait()
            error = StartExpired(f"{child.record.path} was not ready within {within:g} s")
            child.record.crashed(error)
            raise error
        if child.error is not None and not child.was_ready:
            child.stopping = True  # its end is reported here, not as an event
            raise child.error

    def _unregister_children(self) -> None:
        for child in self._children:
            if isinstance(child.runs, Supervisor):
                child.runs._unregister_children()
            self._switchboard.unregister(child.record.path)

    async def _run(self, child: _Child) -> None:
        """The child's task: contains its crash and reports its end. Never raises an Exception."""
        record, incarnation = child.record, child.record.incarnation
        assert child.runs is not None

        def ready() -> None:
            child.was_ready = True
            child.settled.set()

        try:
            await child.runs.run(ready)
        except Exception as error:  # noqa: BLE001 - containing any crash is what a supervisor is for
            child.error = error
        except BaseExceptionGroup as group:
            cancelled, crashes = group.split(trio.Cancelled)
            if isinstance(crashes, ExceptionGroup):
                child.error = crashes
            if cancelled is not None or not isinstance(crashes, ExceptionGroup):
                raise  # the whole system is being cancelled, or Ctrl-C: not the supervisor's business
        finally:
            reason = None
            if child.error is not None:
                record.crashed(child.error)
                reason = record.last_error
            if isinstance(child.spec, ChildSpec):
                child.spec.mailbox.fail_asks(f"ended: {reason or 'stopped'}")
            up = 0.0 if record.ready_at is None else trio.current_time() - record.ready_at
            if up >= self.spec.backoff.healthy_after:
                record.failures_in_row = 0
            record.state = State.STOPPED
            record.ready_at = None
            child.ended.set()
            child.settled.set()
            self._switchboard.announce_end(record, reason)
            self._events.send_nowait(_Ended(child, incarnation))

    def _cancel(self, child: _Child) -> None:
        match child.runs:
            case Cell():
                child.runs.cancel()
            case Supervisor():
                child.runs.request_stop(for_good=False)
            case None:
                pass
            case _:
                assert_never(child.runs)

    async def _stop(self, children: Sequence[_Child], *, for_good: bool) -> None:
        """Stop running children in reverse order, or all at once where the spec says so."""
        if self.spec.stop_together:
            async with trio.open_nursery() as nursery:
                for child in children:
                    nursery.start_soon(self._stop_one, child, for_good)
        else:
            for child in reversed(children):
                await self._stop_one(child, for_good)

    async def _stop_one(self, child: _Child, for_good: bool) -> None:
        child.ticket += 1
        if child.spec.restart is Restart.TEMPORARY:
            for_good = child.finished = True
        if child.record.incarnation > 0 and not child.ended.is_set():
            child.stopping = True
            if isinstance(child.runs, Cell) and child.settled.is_set():
                await child.runs.stop(child.ended, drain=for_good)
            elif isinstance(child.runs, Supervisor):
                child.runs.request_stop(for_good=for_good)
            else:
                self._cancel(child)
            await child.ended.wait()
        if for_good:
            retire(child)

    # Commands from outside and the picture --------------------------------------------------------

    def find(self, path: str) -> tuple[Supervisor, _Child] | None:
        """The supervisor of the child at ``path`` and that child."""
        for child in self._children:
            if child.record.path == path:
                return self, child
            if isinstance(child.runs, Supervisor):
                found = child.runs.find(path)
                if found is not None:
                    return found
        return None

    def restart_child(self, child: _Child, done: Callable[[Exception | None], None]) -> None:
        """Stop a child in good order and start it again between two events; not a crash."""
        self._events.send_nowait(_Restart(child, done))

    def retire_all(self) -> None:
        """Close every mailbox below: nothing runs again, so nothing may wait for it."""
        for child in self._children:
            retire(child)

    def picture(self) -> Node:
        """This supervisor and everything below it, frozen."""
        return _node(
            self.record, children=tuple(self._picture_of(child) for child in self._children)
        )

    def _picture_of(self, child: _Child) -> Node:
        if isinstance(child.runs, Supervisor):
            return child.runs.picture()
        assert isinstance(child.spec, ChildSpec)
        box = child.spec.mailbox
        return _node(
            child.record,
            mailbox=MailboxPicture(len(box), box.capacity, box.waiting_senders),
            working=True,
        )


def retire(child: _Child) -> None:
    """Close what belongs to a child that never runs again: nothing may wait for it."""
    if isinstance(child.spec, ChildSpec):
        left = child.spec.mailbox.close("was stopped")
        if left:
            log.warning("messages left unhandled", actor=child.record.path, count=left)
    elif isinstance(child.runs, Supervisor):
        child.runs.retire_all()


def _node(
    record: Record,
    *,
    mailbox: MailboxPicture | None = None,
    working: bool = False,
    children: tuple[Node, ...] = (),
) -> Node:
    now = trio.current_time()
    return Node(
        path=record.path,
        kind=record.kind,
        state=record.state,
        incarnation=record.incarnation,
        restarts=record.restarts,
        up_seconds=None if record.ready_at is None else now - record.ready_at,
        last_error=record.last_error,
        last_error_age_seconds=None if record.last_error_at is None else now - record.last_error_at,
        mailbox=mailbox,
        work=record.work() if working else None,
        children=children,
    )
