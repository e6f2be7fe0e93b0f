"""Looks at the streams behind the gateway: how deep the queues are, and whether the read model keeps up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, assert_never

import trio

from pyoco_server.gateway.indexer import GetPosition, IndexerMessage
from pyoco_server.jetstream.connection import Connection
from pyoco_server.jetstream.errors import BridgeError, NotFound
from pyoco_server.jetstream.inventory import list_consumers
from pyoco_server.jetstream.subjects import StreamState, subject_counts
from pyoco_server.kernel import Actor, ActorDown, ActorRef, AskExpired, Refusal, Reply, Request
from pyoco_server.settings import Settings

_FRESH_SECONDS: Final = 1.0
_ANSWER_SECONDS: Final = 1.5
_STALLED_SECONDS: Final = 10.0


class NotSeen(Refusal):
    """NATS could not be asked; the text says why."""


@dataclass(frozen=True, slots=True)
class Queue:
    """The jobs of one tag.

    Attributes:
        tag: The tag.
        pending: Jobs that no worker has taken yet.
        ack_pending: Jobs that workers hold.
        waiting: Pulls of workers that wait for a job.
        redelivered: How many of the jobs that workers hold were delivered before.
        consumer: Whether the tag has a consumer: else no worker ever asked for it.
    """

    tag: str
    pending: int
    ack_pending: int = 0
    waiting: int = 0
    redelivered: int = 0
    consumer: bool = True


@dataclass(frozen=True, slots=True)
class Overview:
    """What the streams say.

    Attributes:
        queues: One for each tag that has a consumer or a job, by name.
        dead_letters: How many there are.
        lag: How many changes of runs the read model has not got yet.
        stalled_seconds: How long it has not moved although there are some.
    """

    queues: tuple[Queue, ...]
    dead_letters: int
    lag: int
    stalled_seconds: float

    @property
    def stalled(self) -> bool:
        """Whether the read model has stopped to follow."""
        return self.stalled_seconds > _STALLED_SECONDS


@dataclass(frozen=True, slots=True)
class GetOverview(Request[Overview]):
    """How things are, not longer than a second ago."""


@dataclass(frozen=True, slots=True)
class _Seen:
    overview: Overview
    moved: tuple[int, float]


@dataclass(frozen=True, slots=True)
class _Failed:
    error: NotSeen


MonitorMessage = GetOverview | _Seen | _Failed


class Monitor(Actor[MonitorMessage]):
    """Asks when it is asked, once for all who ask meanwhile, and at most once a second."""

    def __init__(
        self, connection: Connection, settings: Settings, indexer: ActorRef[IndexerMessage]
    ) -> None:
        self._connection = connection
        self._settings = settings
        self._indexer = indexer
        self._overview: Overview | None = None
        self._seen_at = float("-inf")
        # The position of the read model, and since when it has had that.
        self._moved = (-1, float("-inf"))
        self._askers: list[Reply[Overview]] = []

    async def handle(self, message: MonitorMessage) -> None:
        """Answer, or look first.

        Raises:
            NotSeen: NATS could not be asked.
        """
        match message:
            case GetOverview():
                reply = self.reply_to(message)
                fresh = trio.current_time() - self._seen_at < _FRESH_SECONDS
                if fresh and self._overview is not None:
                    reply.send(self._overview)
                    return
                self._askers.append(reply)
                if len(self._askers) == 1:
                    self.spawn(self._look, self._moved)
            case _Seen(overview, moved):
                self._overview, self._moved = overview, moved
                self._seen_at = trio.current_time()
                for reply in self._take_askers():
                    reply.send(overview)
            case _Failed(error):
                for reply in self._take_askers():
                    reply.fail(error)
            case _:
                assert_never(message)

    def _take_askers(self) -> list[Reply[Overview]]:
        askers, self._askers = self._askers, []
        return askers

    async def _look(self, moved: tuple[int, float]) -> None:
        found: _Seen | _Failed = _Failed(NotSeen(f"not answered within {_ANSWER_SECONDS:g} s"))
        try:
            with trio.move_on_after(_ANSWER_SECONDS):
                found = await self._ask_all(moved)
        except (BridgeError, AskExpired, ActorDown) as error:
            found = _Failed(NotSeen(str(error)))
        await self.me.tell(found)

    async def _ask_all(self, moved: tuple[int, float]) -> _Seen:
        settings = self._settings
        runs = await self._state(f"KV_{settings.runs_kv_bucket}")
        dead_letters = await self._state(settings.dlq_stream)
        position = await self._indexer.ask(GetPosition(), within=_ANSWER_SECONDS)
        lag = max(runs.last_seq - position.seq, 0)
        now = trio.current_time()
        if lag == 0 or moved[0] != position.seq:
            moved = (position.seq, now)
        queues = await self._queues()
        return _Seen(Overview(queues, dead_letters.messages, lag, now - moved[1]), moved)

    async def _queues(self) -> tuple[Queue, ...]:
        prefix = f"{self._settings.work_subject_prefix}."
        stream = self._settings.work_stream
        state = await self._state(stream, subjects=f"{prefix}>")
        queues: dict[str, Queue] = {}
        for subject, count in (state.subjects or {}).items():
            tag = subject.removeprefix(prefix)
            queues[tag] = Queue(tag, count, consumer=False)
        for consumer in await list_consumers(self._connection, stream):
            tag = str(consumer.config.get("filter_subject", "")).removeprefix(prefix)
            if tag and ">" not in tag and "*" not in tag:
                queues[tag] = Queue(
                    tag,
                    consumer.num_pending,
                    consumer.num_ack_pending,
                    consumer.num_waiting,
                    consumer.num_redelivered,
                )
        return tuple(queues[tag] for tag in sorted(queues))

    async def _state(self, stream: str, *, subjects: str | None = None) -> StreamState:
        """The state of a stream; an empty one where it was not made yet."""
        try:
            return await subject_counts(self._connection, stream, subjects=subjects)
        except NotFound:
            return StreamState()
