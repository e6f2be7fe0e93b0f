"""Looks at the streams behind the gateway: how deep the queues are, and whether the read model keeps up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import trio

from pyoco_server.api.system import Queue
from pyoco_server.gateway.indexer import Indexer
from pyoco_server.jetstream.connection import Connection
from pyoco_server.jetstream.errors import BridgeError, Unanswered
from pyoco_server.jetstream.inventory import StreamState, list_consumers, stream_info, subjects_of
from pyoco_server.settings import Settings

_FRESH_SECONDS: Final = 1.0
_ANSWER_SECONDS: Final = 1.5
_STALLED_SECONDS: Final = 10.0


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


class Monitor:
    """Asks when it is asked, once for all who ask meanwhile, and at most once a second."""

    def __init__(self, connection: Connection, settings: Settings, indexer: Indexer) -> None:
        self._connection = connection
        self._settings = settings
        self._indexer = indexer
        self._asking = trio.Lock()
        # Or why it could not be found.
        self._found: Overview | str = "not asked yet"
        self._found_at = float("-inf")
        # Where the read model was when it was first seen to be behind there, and when; -1 while it is not.
        self._moved = (-1, float("-inf"))

    async def overview(self) -> Overview:
        """How things are, not longer than a second ago.

        Raises:
            Unanswered: NATS could not be asked; the text says why.
        """
        async with self._asking:
            if trio.current_time() - self._found_at >= _FRESH_SECONDS:
                await self._look()
        if isinstance(self._found, str):
            raise Unanswered(self._found)
        return self._found

    async def _look(self) -> None:
        found: Overview | str = f"not answered within {_ANSWER_SECONDS:g} s"
        try:
            with trio.move_on_after(_ANSWER_SECONDS):
                found = await self._ask_all()
        except BridgeError as error:
            found = str(error)
        self._found, self._found_at = found, trio.current_time()

    async def _ask_all(self) -> Overview:
        settings = self._settings
        runs = await self._state(f"KV_{settings.runs_kv_bucket}")
        dead_letters = await self._state(settings.dlq_stream)
        seq = 0 if self._indexer.position is None else self._indexer.position.seq
        lag = max(runs.last_seq - seq, 0)
        now = trio.current_time()
        if lag == 0:
            self._moved = (-1, now)
        elif self._moved[0] != seq:
            self._moved = (seq, now)
        return Overview(await self._queues(), dead_letters.messages, lag, now - self._moved[1])

    async def _queues(self) -> tuple[Queue, ...]:
        prefix = f"{self._settings.work_subject_prefix}."
        stream = self._settings.work_stream
        queues: dict[str, Queue] = {}
        for subject, count in (await subjects_of(self._connection, stream, f"{prefix}*")).items():
            tag = subject.removeprefix(prefix)
            queues[tag] = Queue(tag=tag, pending=count, consumer=False)
        for consumer in await list_consumers(self._connection, stream):
            tag = str(consumer.config.get("filter_subject", "")).removeprefix(prefix)
            if tag and ">" not in tag and "*" not in tag:
                queues[tag] = Queue(
                    tag=tag,
                    pending=consumer.num_pending,
                    ack_pending=consumer.num_ack_pending,
                    waiting_pulls=consumer.num_waiting,
                    redelivered=consumer.num_redelivered,
                )
        return tuple(queues[tag] for tag in sorted(queues))

    async def _state(self, stream: str) -> StreamState:
        """The state of a stream; an empty one where it was not made yet."""
        info = await stream_info(self._connection, stream)
        return StreamState() if info is None else info.state
