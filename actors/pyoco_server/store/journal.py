"""What is told of runs, on its way to the event stream: in order for each run, within bounds, best effort.

Whoever tells something adds it and goes on at once; a task writes it. Nothing of a run's life waits for
its events: what cannot be stored for long is left out.
"""

from __future__ import annotations

import math
import uuid
from collections import deque
from dataclasses import dataclass, field

import structlog
import trio

from pyoco_server.jetstream.connection import Connection
from pyoco_server.jetstream.errors import ApiError, BridgeError, Malformed, PayloadTooLarge
from pyoco_server.jetstream.publish import publish_acked
from pyoco_server.model.event import (
    Event,
    StateChanged,
    join_events,
)
from pyoco_server.model.json_text import encode_json
from pyoco_server.model.run import RunStatus

log = structlog.get_logger(__name__)

WAITING_BYTES = 8 * 1024 * 1024
"""How much may wait to be stored before those who can wait have to."""

# The first event after a pause is written at once, and what follows gathers for a moment. The start of an
# attempt waits so long too, so that a short run makes one message, unless somebody follows the run.
_GATHER_SECONDS = 0.02
_STARTS = (RunStatus.PENDING, RunStatus.RUNNING)
_MOST_AWAITED = 10_000
_ANSWER_SECONDS = 5.0
# With NATS there but the stream not: how often a message is tried, and the pause in between.
_TRIES = 20
_RETRY_SECONDS = 0.5
_LAST_SECONDS = 2.0
# What an event takes besides its text, roughly.
_ITEM_BYTES = 100


@dataclass(slots=True)
class _Topic:
    """What waits of one run."""

    held: bool = False
    ended: bool = False
    events: deque[bytes] = field(default_factory=deque)
    size: int = 0
    # The message that is being written: trying again with its id must mean the same events.
    message: tuple[str, list[bytes]] | None = None


class Journal:
    """The events that wait, by run.

    Args:
        max_message_bytes: Size of a message; a single larger event is a message of its own.
        waiting_bytes: When `full`; at twice as much, events are dropped.
    """

    def __init__(self, *, max_message_bytes: int, waiting_bytes: int = WAITING_BYTES) -> None:
        self._max_message_bytes = max_message_bytes
        self._limit = waiting_bytes
        self._size = 0
        self._topics: dict[str, _Topic] = {}
        self._due: set[str] = set()
        # Runs whose start waits for what follows, and until when; in the order of that.
        self._held: deque[tuple[float, str]] = deque()
        # What the writer waits in; to have it wait for a start as well takes no step of its own.
        self._waiting = trio.CancelScope()
        # Runs whose start somebody waits for; the oldest first.
        self._awaited: dict[str, None] = {}
        self._more = trio.Event()  # set while there is any `_due`
        self._shrunk = trio.Event()
        # Makes message ids: repeating a message within the stream's duplicate window is harmless.
        self._id = uuid.uuid4().hex[:12]
        self._count = 0
        self.dropped = 0

    def add(self, run_id: str, event: Event) -> None:
        """Tell an event of a run, behind those that were told before; returns at once."""
        encoded = encode_json(event)
        if self._size >= 2 * self._limit:
            self.dropped += 1
            return
        topic = self._topics.get(run_id)
        starts = isinstance(event, StateChanged) and event.status in _STARTS
        if topic is None:
            topic = _Topic(held=starts and run_id not in self._awaited)
            self._topics[run_id] = topic
            if topic.held:
                self._held.append((trio.current_time() + _GATHER_SECONDS, run_id))
                if len(self._held) == 1:
                    self._waiting.deadline = self._held[0][0]
        topic.events.append(encoded)
        size = len(encoded)
        topic.size += size
        self._size += size + _ITEM_BYTES
        if isinstance(event, StateChanged) and not starts:
            topic.held = False
            topic.ended = event.status.terminal
            if topic.ended:
                self._awaited.pop(run_id, None)
        if not topic.held:
            self._due.add(run_id)
            self._more.set()

    def hurry(self, run_id: str) -> None:
        """Somebody waits for the events of a run: hold its start back no longer, also if it is to come."""
        self._awaited[run_id] = None
        if len(self._awaited) > _MOST_AWAITED:
            del self._awaited[next(iter(self._awaited))]
        topic = self._topics.get(run_id)
        if topic is not None and topic.held:
            topic.held = False
            self._due.add(run_id)
            self._more.set()

    @property
    def full(self) -> bool:
        """Whether those who can wait should wait for `room`."""
        return self._size >= self._limit

    async def room(self) -> None:
        """Wait until it is not `full`."""
        while self.full:
            await self._shrunk.wait()

    @property
    def run_ids(self) -> list[str]:
        """The runs of which something waits."""
        return list(self._topics)

    async def due(self) -> set[str]:
        """Wait until something is to be written that was not at the last call; return of which runs.

        For the writer.
        """
        while not self._due:
            while self._held:
                until, run_id = self._held[0]
                topic = self._topics.get(run_id)
                if topic is not None and topic.held:
                    if until > trio.current_time():
                        break
                    topic.held = False
                    self._due.add(run_id)
                self._held.popleft()
            if self._due:
                break
            deadline = self._held[0][0] if self._held else math.inf
            with trio.CancelScope(deadline=deadline) as self._waiting:
                await self._more.wait()
        due, self._due, self._more = self._due, set(), trio.Event()
        return due

    def message(self, run_id: str) -> tuple[str, list[bytes]] | None:
        """The next message of a run, the same until it is `done`: its id and events; None for none."""
        topic = self._topics.get(run_id)
        if topic is None or topic.message is not None:
            return None if topic is None else topic.message
        events: list[bytes] = []
        size = 2
        for event in topic.events:
            size += len(event) + 1
            if events and size > self._max_message_bytes:
                break
            events.append(event)
        self._count += 1
        topic.message = f"{run_id}:{self._id}:{self._count}", events
        return topic.message

    def done(self, run_id: str, events: list[bytes]) -> float:
        """Let go of a message's events; return how many seconds the next one's are to gather."""
        topic = self._topics[run_id]
        for event in events:
            topic.events.popleft()
            size = len(event)
            topic.size -= size
            self._size -= size + _ITEM_BYTES
        topic.message = None
        if not topic.events:
            del self._topics[run_id]
        if not self.full:
            shrunk, self._shrunk = self._shrunk, trio.Event()
            shrunk.set()
        another = topic.events and topic.size >= self._max_message_bytes
        return 0.0 if another or topic.ended else _GATHER_SECONDS


class EventWriter:
    """Stores what the journal holds: runs beside each other, of each run one message after the other.

    Args:
        subject_prefix: ``pyoco.events``; a run's events go to ``<prefix>.<run_id>``.
    """

    def __init__(self, connection: Connection, journal: Journal, subject_prefix: str) -> None:
        self._connection = connection
        self._journal = journal
        self._prefix = subject_prefix
        self._writing: set[str] = set()

    async def write(self) -> None:
        """Do so for as long as it is not cancelled; what was left before is written first."""
        due = set(self._journal.run_ids)
        async with trio.open_nursery() as nursery:
            while True:
                for run_id in due - self._writing:
                    self._writing.add(run_id)
                    nursery.start_soon(self._write, run_id)
                due = await self._journal.due()

    async def close(self) -> None:
        """Write what is left, for a moment, if NATS is there."""
        if not self._connection.status.connected:
            return
        with trio.move_on_after(_LAST_SECONDS):
            async with trio.open_nursery() as nursery:
                for run_id in self._journal.run_ids:
                    nursery.start_soon(self._write, run_id)

    async def _write(self, run_id: str) -> None:
        """Write all that waits of a run."""
        try:
            while (message := self._journal.message(run_id)) is not None:
                message_id, events = message
                await self._publish(run_id, message_id, join_events(events))
                pause = self._journal.done(run_id, events)
                if pause:
                    await trio.sleep(pause)
        finally:
            self._writing.discard(run_id)

    async def _publish(self, run_id: str, message_id: str, payload: bytes) -> None:
        """Store a message, however long NATS is away; give up what the stream does not take."""
        tries = 0
        while True:
            try:
                await publish_acked(
                    self._connection,
                    f"{self._prefix}.{run_id}",
                    payload,
                    msg_id=message_id,
                    within=_ANSWER_SECONDS,
                )
            except (ApiError, PayloadTooLarge, Malformed) as error:
                log.warning("events left out", run_id=run_id, reason=str(error))
                return
            except BridgeError as error:
                if not self._connection.status.connected:
                    await self._connection.changed()
                    continue
                tries += 1
                if tries >= _TRIES:
                    log.warning("events left out", run_id=run_id, reason=str(error))
                    return
                await trio.sleep(_RETRY_SECONDS)
            else:
                return
