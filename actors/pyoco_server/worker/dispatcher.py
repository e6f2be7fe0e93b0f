"""Pulls jobs from the tags' queues, as many as slots are free, and hands each to a slot."""

from __future__ import annotations

import math
from collections import defaultdict, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias, assert_never

import structlog
import trio

from pyoco_server.jetstream.connection import Connection
from pyoco_server.jetstream.consumer import Message, PullConsumer
from pyoco_server.jetstream.errors import BridgeError, NotFound
from pyoco_server.jetstream.resources import ensure_consumer
from pyoco_server.kernel import Actor, ActorDown, ActorRef, Down, Reply, Request
from pyoco_server.model import life
from pyoco_server.model.dead_letter import PAYLOAD_BYTES, DeadLetterReason
from pyoco_server.model.errors import ErrorId
from pyoco_server.model.job import InvalidJob, decode_job
from pyoco_server.model.run import RunSnapshot, UnreadableSnapshot
from pyoco_server.settings import Settings
from pyoco_server.store.runs import RunNotFound
from pyoco_server.store.stores import Stores
from pyoco_server.worker.messages import (
    Assign,
    Drain,
    DrainOrdered,
    FirstJob,
    LookAgain,
    Ordered,
    Redelivered,
    Report,
    SlotFree,
    SlotHolds,
    SlotUnfit,
    Started,
    Stopping,
)
from pyoco_server.worker.settling import put_off

log = structlog.get_logger(__name__)

# How long a pull may wait for a job. Alone on its tags a worker could wait longer; with more tags than
# free slots this is the turn of one tag.
_LINGER_SECONDS = 5.0
_TURN_SECONDS = 0.2
_RETRY_SECONDS = 0.5


_Queue: TypeAlias = tuple[str, PullConsumer]


@dataclass(slots=True)
class Taken:
    """How many jobs a worker has taken, over the restarts of its dispatcher."""

    jobs: int = 0


@dataclass(frozen=True, slots=True)
class _Pulled:
    messages: tuple[Message, ...]


DispatcherMessage = (
    SlotFree
    | SlotUnfit
    | SlotHolds
    | Redelivered
    | Drain
    | DrainOrdered
    | Started
    | FirstJob
    | Down
    | Ordered
    | _Pulled
)


class Dispatcher(Actor[DispatcherMessage]):
    """Keeps one pull going while slots are free, never for more jobs than they can take at once.

    Args:
        tags: What the worker takes; all workers of a tag share its durable consumer.
        heartbeat: Knows the operator's orders; nothing is pulled before it has told them.
        taken: How many jobs were taken before.
        limit: How many to take in all.
    """

    def __init__(
        self,
        connection: Connection,
        settings: Settings,
        tags: Sequence[str],
        slots: Sequence[ActorRef[Assign | Redelivered | Report]],
        stores: Stores,
        *,
        heartbeat: ActorRef[LookAgain | Stopping],
        worker_id: str,
        taken: Taken,
        limit: int | None = None,
    ) -> None:
        self._connection = connection
        self._settings = settings
        self._queues = deque(
            (
                tag,
                PullConsumer(connection, settings.work_stream, f"{settings.consumer_prefix}_{tag}"),
            )
            for tag in tags
        )
        self._slots = slots
        self._runs = stores.runs
        self._dead_letters = stores.dead_letters
        self._worker_id = worker_id
        self._limit = math.inf if limit is None else limit
        self._taken = taken
        # What each slot said last; one that was handed a job holds its run, until it says that it is free.
        self._said: dict[int, SlotFree | SlotUnfit | SlotHolds] = {}
        self._pull_scope: trio.CancelScope | None = None
        self._heartbeat = heartbeat
        self._orders: Ordered | None = None
        self._stopping = False
        # By what is waited for.
        self._waiting: defaultdict[type[Request[None]], list[Reply[None]]] = defaultdict(list)

    async def on_start(self) -> None:
        """Ask every slot whether it is free; one that starts says so by itself."""
        for slot in self._slots:
            self.monitor(slot)
            await slot.tell(Report())
        await self._heartbeat.tell(LookAgain())

    async def handle(self, message: DispatcherMessage) -> None:
        """Keep count of free slots, hand out what was pulled, pull again."""
        match message:
            case SlotFree(index) | SlotUnfit(index) | SlotHolds(index):
                self._said[index] = message
            case Down(path):
                paths = [slot.path for slot in self._slots]
                self._said = {i: said for i, said in self._said.items() if paths[i] != path}
            case Redelivered(_, delivery):
                await self._hand_out(delivery)
            case _Pulled(messages):
                self._pull_scope = None
                for each in messages:
                    await self._hand_out(each)
            case Drain():
                self._stopping = True
                self._waiting[Drain].append(self.reply_to(message))
                await self._heartbeat.tell(Stopping())
            case DrainOrdered() | Started() | FirstJob():
                self._waiting[type(message)].append(self.reply_to(message))
            case Ordered():
                self._take_orders(message)
            case _:
                assert_never(message)
        self._answer_waiting()
        if self._may_pull:
            self._pull_more()
        elif self._pull_scope is not None:
            self._pull_scope.cancel()

    @property
    def _free(self) -> list[int]:
        """Those first that have nothing else to do."""
        free = [said for said in self._said.values() if isinstance(said, SlotFree)]
        return [said.index for said in sorted(free, key=lambda said: said.ending is not None)]

    def _take_orders(self, orders: Ordered) -> None:
        # Most workers are told nothing at first.
        if self._orders != orders and (self._orders or orders.paused or orders.draining):
            log.info("orders of the operator", paused=orders.paused, draining=orders.draining)
        self._orders = orders

    @property
    def _may_pull(self) -> bool:
        ordered_not_to = self._orders is None or self._orders.paused or self._orders.draining
        return not (ordered_not_to or self._stopping)

    def _answer_waiting(self) -> None:
        if self._taken.jobs:
            self._answer(FirstJob)
        if self._taken.jobs or (self._orders is not None and self._free):
            self._answer(Started)
        idle = [each for each in self._said.values() if not any(_runs_of(each))]
        if self._stopping and self._pull_scope is None and len(idle) == len(self._slots):
            self._answer(Drain)
        if self._orders is not None and self._orders.draining:
            self._answer(DrainOrdered)

    def _answer(self, request: type[Request[None]]) -> None:
        for reply in self._waiting.pop(request, ()):
            reply.send(None)

    def _pull_more(self) -> None:
        room = min(len(self._free), self._limit - self._taken.jobs)
        if room > 0 and self._pull_scope is None:
            self._pull_scope = trio.CancelScope()
            self.spawn(self._pull, int(room), self._pull_scope)

    # Pulling -------------------------------------------------------------------------------------

    async def _pull(self, room: int, scope: trio.CancelScope) -> None:
        """Pull up to ``room`` jobs. A cancelled pull gives back what came too late (see `fetch`)."""
        pulled: list[Message] = []
        with scope:
            await self._sweep(room, pulled)
            if not pulled:
                await self._linger(room, pulled)
        try:
            self.me.try_tell(_Pulled(tuple(pulled)))  # there is one at a time
        except ActorDown:  # it is stopping
            for message in pulled:
                message.give_back()

    async def _sweep(self, room: int, pulled: list[Message]) -> None:
        """Take what waits in the queues already, beginning with another tag each time."""
        self._queues.rotate(-1)
        for queue in tuple(self._queues):
            if len(pulled) < room:
                pulled += await self._fetch(queue, room - len(pulled), 0.0)

    async def _linger(self, room: int, pulled: list[Message]) -> None:
        """Wait for the first job of any tag; with fewer free slots than tags they take turns."""
        expires = _LINGER_SECONDS if room >= len(self._queues) else _TURN_SECONDS
        first, *others = list(self._queues)[:room]
        if not others:
            pulled += await self._fetch(first, 1, expires)
            return

        async with trio.open_nursery() as nursery:

            async def wait(queue: _Queue) -> None:
                pulled.extend(await self._fetch(queue, 1, expires))
                if pulled:
                    nursery.cancel_scope.cancel()

            for queue in (first, *others):
                nursery.start_soon(wait, queue)

    async def _fetch(self, queue: _Queue, batch: int, expires: float) -> list[Message]:
        tag, consumer = queue
        try:
            try:
                return await consumer.fetch(batch, expires=expires)
            except NotFound:
                log.info("consumer missing, creating it", tag=tag)
            # At once: whoever starts the first worker of a tag waits for its first run.
            await ensure_consumer(self._connection, self._settings, tag)
            return await consumer.fetch(batch, expires=expires)
        except BridgeError as error:
            log.debug("pull failed", tag=tag, reason=str(error))
        await trio.sleep(_RETRY_SECONDS)
        return []

    # Handing out ---------------------------------------------------------------------------------

    async def _hand_out(self, delivery: Message) -> None:
        try:
            job = decode_job(delivery.data)
        except InvalidJob as error:
            await self._refuse(delivery, error)
            return
        for said in self._said.values():
            if job.run_id in _runs_of(said):
                # Another slot would take the run over and execute it again.
                await self._slots[said.index].tell(Redelivered(job, delivery))
                return
        free = self._free
        if not self._may_pull or not free:
            await put_off(delivery, 0.0)
            return
        self._taken.jobs += 1
        ending = next(_runs_of(self._said[free[0]]), None)
        self._said[free[0]] = SlotHolds(free[0], job.run_id, ending)
        await self._slots[free[0]].tell(Assign(job, delivery))

    async def _refuse(self, delivery: Message, error: InvalidJob) -> None:
        """Bury a message that is no job: it would be as unreadable the next time."""
        tag = delivery.subject.rpartition(".")[2]
        log.error(
            "invalid job",
            err_id=ErrorId.INVALID_JOB,
            reason=str(error),
            tag=tag,
            run_id=error.run_id,
        )
        try:
            if error.run_id is not None:
                await self._fail(error.run_id, str(error))
            await self._dead_letters.write(
                tag,
                DeadLetterReason.INVALID_JOB,
                str(error),
                run_id=error.run_id,
                worker_id=self._worker_id,
                num_delivered=delivery.num_delivered,
                subject=delivery.subject,
                payload=delivery.data[:PAYLOAD_BYTES].decode("utf-8", "replace"),
            )
            await delivery.term(DeadLetterReason.INVALID_JOB)
        except BridgeError as failure:
            log.info("invalid job not buried yet, it comes again", reason=str(failure))

    async def _fail(self, run_id: str, error: str) -> None:
        def rule(snapshot: RunSnapshot) -> tuple[RunSnapshot, None]:
            reason = DeadLetterReason.INVALID_JOB
            return life.abandon(
                snapshot, reason=reason, error=error, now=self._runs.now()
            ).snapshot, None

        try:
            await self._runs.change(run_id, rule)
        except (RunNotFound, UnreadableSnapshot):
            log.info("no snapshot for an invalid job", run_id=run_id)


def _runs_of(said: SlotFree | SlotUnfit | SlotHolds) -> Iterator[str]:
    """The runs that a slot has: that to execute, and that whose end is not stored yet."""
    if isinstance(said, SlotHolds):
        yield said.run_id
    if not isinstance(said, SlotUnfit) and said.ending is not None:
        yield said.ending
