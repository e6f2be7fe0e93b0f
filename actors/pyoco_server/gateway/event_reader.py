"""Reading the events of runs: what is stored, and what comes.

Each event has a cursor, behind which reading goes on: the sequence of its message, and, but for the last
event of a message, how many events of it were seen. A run's first state, PENDING, is told by whoever moves
the run on from it, along with the next one; until then it is read off the run. It has a cursor of its own.
"""

from __future__ import annotations

import math
import re
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import TypeAlias, assert_never

import structlog
import trio
from msgspec.structs import replace

from pyoco_server.jetstream.connection import Connection
from pyoco_server.jetstream.consumer import Message
from pyoco_server.jetstream.errors import BridgeError, Unanswered, Unavailable
from pyoco_server.jetstream.follow import CaughtUp, Follower, Reset
from pyoco_server.jetstream.inventory import stream_info
from pyoco_server.jetstream.stored import last_message
from pyoco_server.model.event import (
    Event,
    StateChanged,
    UnreadableEvents,
    decode_events,
    is_first,
    state_changed,
)
from pyoco_server.model.run import RunStatus
from pyoco_server.store.runs import RunStore

log = structlog.get_logger(__name__)

_CURSOR = re.compile(r"(\d{1,18})(?:\.(\d{1,9}))?", re.ASCII)
# A message may have a quarter of a mebibyte.
_BATCH = 8
_FEED_EVENTS = 16
_READ_SECONDS = 10.0
_ASK_SECONDS = 2.0
# A worker stores how a run ended before what happened last in it. That comes some ten milliseconds later, or
# when the worker's backlog is stored; behind the longer time it does not come any more.
_LAST_SECONDS = 1.0
_LATEST_SECONDS = 10.0


class InvalidCursor(ValueError):
    """A text that is no cursor of an event."""


@dataclass(frozen=True, slots=True)
class Cursor:
    """A place among the events of a run.

    Attributes:
        sequence: Of a message; all before it was seen.
        seen: How many of its events were seen as well; None for all.
    """

    sequence: int
    seen: int | None = None

    @classmethod
    def parse(cls, text: str) -> Cursor:
        """Read a cursor.

        Raises:
            InvalidCursor: It is none.
        """
        match = _CURSOR.fullmatch(text)
        if match is None:
            raise InvalidCursor(f"takes the id of an event, such as 17 or 17.2, not {text[:40]!r}")
        return cls(int(match[1]), None if match[2] is None else int(match[2]))

    @property
    def before(self) -> int | None:
        """The last sequence of which nothing is to be read any more; None for none."""
        return max(self.sequence if self.seen is None else self.sequence - 1, 0) or None

    def __str__(self) -> str:
        """Write it as `parse` reads it."""
        return str(self.sequence) if self.seen is None else f"{self.sequence}.{self.seen}"


BEGINNING = Cursor(0)
"""Before the first event."""

_FIRST = Cursor(0, 1)


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """An event and where to go on behind it."""

    cursor: Cursor
    event: Event

    def shown(self) -> Event:
        """The event as readers see it."""
        return replace(self.event, id=str(self.cursor))


@dataclass(frozen=True, slots=True)
class MoreToCome:
    """A run has ended and its last events are not stored yet: they are to be read behind what was given."""


Read: TypeAlias = StoredEvent | CaughtUp


@dataclass(eq=False)
class EventFeed:
    """What a follower reads: the events in order, and once `CaughtUp`. Filled by `EventReader.serve`."""

    run_id: str
    after: Cursor | None
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)

    def __post_init__(self) -> None:
        self.send, self.receive = trio.open_memory_channel[Read](_FEED_EVENTS)

    async def next(self) -> Read | None:
        """Wait for the next one; None when the feed was ended by the gateway. Cancelling loses nothing."""
        try:
            return await self.receive.receive()
        except trio.EndOfChannel:
            return None


class EventReader:
    """Reads events of runs; whether the caller may see the run is for the caller to know."""

    def __init__(
        self, connection: Connection, runs: RunStore, stream: str, subject_prefix: str
    ) -> None:
        self._connection = connection
        self._runs = runs
        self._stream = stream
        self._prefix = subject_prefix
        self._ask, self._asked = trio.open_memory_channel[EventFeed](0)

    async def stored(
        self,
        run_id: str,
        after: Cursor | None = None,
        *,
        ended: bool = False,
        patience: float = _LAST_SECONDS,
    ) -> AsyncGenerator[StoredEvent | MoreToCome, None]:
        """Give what is stored by now; close it when leaving before its end.

        Args:
            run_id: The run.
            after: Begin behind this event.
            ended: The run may have ended: then wait until its last events are stored too.
            patience: For how many seconds at most; `MoreToCome` behind the rest says that it was too short.

        Raises:
            Unanswered: The next events were not there within 10 seconds.
            BridgeError: NATS could not be asked.
        """
        async with aclosing(self._events(run_id, after)) as reader:
            seen, caught_up, waits_until = after or BEGINNING, False, math.inf
            while True:
                item: Read | None = None
                with trio.move_on_at(min(trio.current_time() + _READ_SECONDS, waits_until)):
                    item = await anext(reader)
                match item:
                    case None if caught_up:
                        yield MoreToCome()
                        return
                    case None:
                        raise Unanswered(f"events of run {run_id} not read in {_READ_SECONDS:g} s")
                    case CaughtUp() if caught_up:
                        continue
                    case CaughtUp():
                        if not (ended and await self.end_to_come(run_id, seen)):
                            return
                        caught_up, waits_until = True, trio.current_time() + patience
                    case StoredEvent(cursor, event):
                        seen, ended = cursor, ended and not _is_end(event)
                        yield item
                        if caught_up and not ended:
                            return
                    case _:
                        assert_never(item)

    async def end_to_come(self, run_id: str, seen: Cursor | None) -> bool:
        """Whether a run has ended, and what happened last in it may still be stored behind this event.

        Raises:
            BridgeError: NATS could not be asked.
        """
        subject = f"{self._prefix}.{run_id}"
        last = await last_message(self._connection, self._stream, subject)
        if last is not None and _has_end(last.data):
            return last.sequence > (seen or BEGINNING).sequence
        stored = await self._runs.find(run_id)
        if stored is None:
            return False
        run = stored.snapshot
        # A worker of 0.5.1, which has no instance, tells no events.
        old = run.start_time is not None and run.worker_instance_id is None
        if old or not run.status.terminal:
            return False
        info = await stream_info(self._connection, self._stream)
        if info is None or info.ts is None or stored.stored_at is None:
            return False
        return info.ts.timestamp() - stored.stored_at < _LATEST_SECONDS

    @asynccontextmanager
    async def follow(self, run_id: str, after: Cursor | None = None) -> AsyncIterator[EventFeed]:
        """Follow the events: those that are stored, then each as it comes, over lost connections.

        Raises:
            Unavailable: The gateway is stopping, or too busy.
        """
        feed = EventFeed(run_id, after)
        try:
            with trio.move_on_after(_ASK_SECONDS) as asking:
                await self._ask.send(feed)
            if asking.cancelled_caught:
                raise Unavailable("nobody reads events for followers")
            yield feed
        finally:
            feed.scope.cancel()
            feed.receive.close()

    async def serve(self) -> None:
        """Read for each follower in a task of its own, no further ahead than a few events."""
        async with trio.open_nursery() as nursery:
            while True:
                nursery.start_soon(self._fill, await self._asked.receive())

    async def _fill(self, feed: EventFeed) -> None:
        # A feed that ends is opened anew by its follower.
        with feed.send, feed.scope, suppress(trio.BrokenResourceError, BridgeError):
            async with aclosing(self._events(feed.run_id, feed.after)) as reader:
                async for item in reader:
                    await feed.send.send(item)

    async def _events(self, run_id: str, after: Cursor | None) -> AsyncGenerator[Read, None]:
        # Whoever begins at the beginning sees the first state first, and nobody sees it again.
        first_seen = after not in (None, BEGINNING)
        behind = None if after is None else after.before
        subject = f"{self._prefix}.{run_id}"
        follower = Follower(self._connection, self._stream, subject, after=behind, batch=_BATCH)
        async with aclosing(follower.messages()) as messages:
            async for message in messages:
                if isinstance(message, Reset):
                    after = None  # of a stream that is gone
                    continue
                items = [] if isinstance(message, CaughtUp) else [*_unpacked(message, after)]
                if not first_seen:
                    first = items[0].event if items else None
                    if not _is_first(first):
                        first = await _first_state(self._runs, run_id, alone=not items)
                    if first is not None:
                        yield StoredEvent(_FIRST, first)
                    first_seen = first is not None or not isinstance(message, CaughtUp)
                for item in items:
                    if isinstance(item.event, StateChanged):
                        # Whoever is told of it and reads the run then must not be told of an older state.
                        self._runs.on_told(run_id, item.event.revision)
                    if not _is_first(item.event):
                        yield item
                if isinstance(message, CaughtUp):
                    yield message


def _is_end(event: Event | None) -> bool:
    return isinstance(event, StateChanged) and event.status.terminal


def _has_end(message: bytes) -> bool:
    try:
        return any(map(_is_end, decode_events(message)))
    except UnreadableEvents:
        return False


def _is_first(event: Event | None) -> bool:
    return isinstance(event, StateChanged) and is_first(event)


async def _first_state(runs: RunStore, run_id: str, *, alone: bool) -> StateChanged | None:
    """The first state of a run whose events do not tell of it (yet); None where it is not known.

    Where it would be ``alone``, it is told only as long as others are to follow.
    """
    stored = await runs.find(run_id)
    if stored is None:
        return None
    run = stored.snapshot
    if is_first(run):
        return state_changed(run, stored.revision, at=stored.stored_at or 0.0)
    # A run of 0.5.1 does not say when it was submitted.
    if run.submitted_at is None or (alone and run.status.terminal):
        return None
    # The revision that it had is lower than all that the events tell.
    return StateChanged(at=run.submitted_at, status=RunStatus.PENDING, revision=0)


def _unpacked(message: Message, after: Cursor | None) -> Iterator[StoredEvent]:
    sequence = message.stream_sequence
    try:
        events = decode_events(message.data)
    except UnreadableEvents as error:
        log.warning("unreadable events", subject=message.subject, reason=str(error))
        return
    seen = after.seen or 0 if after is not None and after.sequence == sequence else 0
    for number, event in enumerate(events, 1):
        if event is not None and number > seen:
            yield StoredEvent(Cursor(sequence, None if number == len(events) else number), event)
