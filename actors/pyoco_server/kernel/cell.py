"""One incarnation of an actor: its nursery, its message loop, its orderly end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Never

import structlog
import trio
from structlog.contextvars import bound_contextvars

from .actor import Actor
from .errors import ActorDown, KernelError, NotAnswered, Refusal
from .messages import A, Envelope, Reply, Request
from .record import Record, describe_error
from .ref import ActorRef, current_path
from .registry import Registry, TapKind
from .spec import ChildSpec
from .tree import State

log = structlog.get_logger(__name__)


class Cell:
    """Runs one incarnation. The supervisor calls `run`, and `stop` to end it."""

    def __init__(self, spec: ChildSpec[Any], record: Record, registry: Registry) -> None:
        self._spec = spec
        self._record = record
        self._registry = registry
        self._scope = trio.CancelScope()
        self._nursery: trio.Nursery | None = None
        self._current: Envelope | None = None
        # Replies taken and not yet given: failed when the actor ends, so that no asker waits in vain.
        self._open_replies: set[Reply[Any]] = set()

    @property
    def ref(self) -> ActorRef[Any]:
        """The actor's reference."""
        return self._spec.ref

    async def run(self, ready: Callable[[], None]) -> None:
        """Run the actor to its end; raise what crashed it. Cancelled by its own scope, it returns."""
        current_path.set(self.ref.path)
        self._spec.mailbox.open()
        actor = self._spec.start()
        actor._incarnation = self
        self._record.kind = type(actor).__name__
        self._registry.observe(TapKind.STARTED, self._record)
        crash: BaseException | None = None
        try:
            await self._live(actor, ready)
        except BaseException as error:  # whatever it was: the clean-up is told, and it goes on
            crash = error
            raise
        finally:
            self._let_go(crash)
            await self._clean_up(actor, crash)
            if isinstance(crash, Exception):
                self._registry.observe(TapKind.DIED, self._record, error=crash)

    async def _live(self, actor: Actor[Any], ready: Callable[[], None]) -> None:
        with self._scope:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                self.ref._owned_by(trio.lowlevel.current_task())
                await actor.on_start()
                await trio.lowlevel.checkpoint_if_cancelled()  # too late, it is not waited for
                self._record.came_up(State.IDLE)
                ready()
                await self._handle_all(actor)
                nursery.cancel_scope.cancel()

    async def _handle_all(self, actor: Actor[Any]) -> None:
        while (envelope := await self._spec.mailbox.get()) is not None:
            self._current = envelope
            self._record.state = State.BUSY
            began = trio.current_time()
            try:
                if envelope.log_fields:
                    with bound_contextvars(**envelope.log_fields):
                        await actor.handle(envelope.message)
                else:
                    await actor.handle(envelope.message)
            except Refusal as refusal:
                self._refused(envelope, refusal)
            except Exception as error:
                self._registry.observe(TapKind.CRASHED, self._record, envelope, error)
                if envelope.reply is not None:
                    envelope.reply.fail(
                        ActorDown(f"{self.ref.path} crashed: {describe_error(error)}")
                    )
                raise
            else:
                self._answered(envelope)
            finally:
                if envelope.reply is not None and not envelope.reply_taken:  # cancelled in hand
                    envelope.reply.fail(ActorDown(f"{self.ref.path} ended before it answered"))
                self._record.handled(trio.current_time() - began)
                self._current = None
            self._record.state = State.IDLE
            # Until the next message comes, what this one and its answer hold would be held by nobody else.
            del envelope

    def _answered(self, envelope: Envelope) -> None:
        if envelope.reply is not None and not envelope.reply_taken:
            name = type(envelope.message).__name__
            envelope.reply.fail(NotAnswered(f"{self.ref.path} handled {name} without an answer"))
        self._registry.observe(TapKind.HANDLED, self._record, envelope)

    def _refused(self, envelope: Envelope, refusal: Refusal) -> None:
        self._record.refusals += 1
        self._registry.observe(TapKind.REFUSED, self._record, envelope, refusal)
        if envelope.reply is not None:
            envelope.reply.fail(refusal)
        else:
            name = type(envelope.message).__name__
            log.warning(
                "told message refused", actor=self.ref.path, refused=name, reason=str(refusal)
            )

    def _let_go(self, crash: BaseException | None) -> None:
        """End what others have with this incarnation: askers learn it now, not after the clean-up."""
        self._nursery = None
        self._record.went_down()
        for reply in tuple(self._open_replies):
            reply.fail(ActorDown(f"{self.ref.path} ended before it answered"))
        reason = "stopped" if crash is None else describe_error(crash)
        self._spec.mailbox.fail_asks(f"ended: {reason}")

    async def _clean_up(self, actor: Actor[Any], crash: BaseException | None) -> None:
        seconds = self._spec.cleanup_seconds
        try:
            with trio.CancelScope(deadline=trio.current_time() + seconds, shield=True) as scope:
                await actor.on_stop()
        except Exception as error:
            if crash is None:
                raise
            raise BaseExceptionGroup(
                f"{self.ref.path} crashed and so did its clean-up", [crash, error]
            ) from None
        if scope.cancelled_caught:
            log.error("clean-up cut off", actor=self.ref.path, limit_seconds=seconds)

    async def stop(self, ended: trio.Event, *, drain: bool) -> None:
        """End the actor and wait for it.

        Args:
            ended: Set by the supervisor once `run` is over.
            drain: Handle what is queued first (the tree stops); otherwise finish the message in hand
                and leave the queue to the next incarnation.
        """
        self._record.state = State.STOPPING
        if drain:
            self._spec.mailbox.drain()
        else:
            self._spec.mailbox.halt()
        with trio.move_on_after(self._spec.shutdown_seconds):
            await ended.wait()
            return
        self._scope.cancel()
        await ended.wait()

    def cancel(self) -> None:
        """Cancel the actor without waiting for its mailbox."""
        self._scope.cancel()

    # What `Incarnation` says.

    @property
    def nursery(self) -> trio.Nursery:
        """See `Actor.spawn`."""
        if self._nursery is None:
            raise KernelError(f"{self.ref.path} cannot spawn a task before it starts or as it ends")
        return self._nursery

    def take_reply(self, request: Request[A]) -> Reply[A]:
        """See `Actor.reply_to`."""
        envelope = self._current
        if envelope is None or envelope.message is not request:
            raise KernelError(f"{self.ref.path} does not handle {type(request).__name__} right now")
        envelope.reply_taken = True
        if envelope.reply is None:  # told, not asked: the answer goes nowhere
            return Reply()
        reply: Reply[Any] = envelope.reply
        if not reply.settled:
            self._open_replies.add(reply)
            reply._on_settled = self._open_replies.discard
        return reply

    def monitor(self, other: ActorRef[Never]) -> None:
        """See `Actor.monitor`."""
        self._registry.monitor(other, self.ref)

    def stop_after_current(self) -> None:
        """See `Actor.stop`."""
        self._spec.mailbox.halt()
