"""The bounded queue in front of an actor. It belongs to the child spec, so it survives a restart."""

from __future__ import annotations

from collections import deque
from enum import Enum, auto

import trio

from .errors import ActorDown, MailboxFull
from .messages import Envelope


class _Intake(Enum):
    OPEN = auto()
    HALTED = auto()  # keeps what it holds for the next incarnation, hands nothing out
    DRAINING = auto()  # takes nothing more, hands out the rest
    CLOSED = auto()


class Mailbox:
    """A first-in first-out queue of at most ``capacity`` envelopes with waiting senders.

    Control envelopes (a `Down` of a monitored actor) may exceed the capacity: there is at most one
    for each end of a monitored actor, and the kernel must never wait for a watcher.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._queue: deque[Envelope] = deque()
        self._intake = _Intake.OPEN
        self._receiver = trio.lowlevel.ParkingLot()
        self._senders = trio.lowlevel.ParkingLot()
        # Path of the actor, for the texts of errors.
        self.owner = "an actor that was never started"

    def __len__(self) -> int:
        return len(self._queue)

    @property
    def closed(self) -> bool:
        """Whether its actor ended for good."""
        return self._intake is _Intake.CLOSED

    @property
    def waiting_senders(self) -> int:
        """How many `put` calls wait for room."""
        return len(self._senders)

    async def put(self, envelope: Envelope) -> None:
        """Append, waiting for room; no schedule point where there is some.

        Cancelled while waiting, nothing was appended.

        Raises:
            ActorDown: The actor takes no more messages.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        self._require_intake()
        while len(self._queue) >= self.capacity:
            await self._senders.park()
            self._require_intake()
        self._append(envelope)

    def put_nowait(self, envelope: Envelope, *, control: bool = False) -> None:
        """Append at once.

        Raises:
            MailboxFull: There is no room, and the envelope is no control message.
            ActorDown: The actor takes no more messages.
        """
        self._require_intake()
        if len(self._queue) >= self.capacity and not control:
            raise MailboxFull(f"{self.owner} has {len(self._queue)} messages waiting, its limit")
        self._append(envelope)

    async def get(self) -> Envelope | None:
        """Wait for the next envelope; None when the actor should end (halted, or drained)."""
        if self._queue or self._intake is not _Intake.OPEN:
            await trio.lowlevel.checkpoint()
        else:
            await trio.lowlevel.checkpoint_if_cancelled()  # it is about to wait
        while True:
            if self._intake in (_Intake.HALTED, _Intake.CLOSED):
                return None
            if self._queue:
                envelope = self._queue.popleft()
                self._admit_senders(1)
                return envelope
            if self._intake is _Intake.DRAINING:
                return None
            await self._receiver.park()

    def open(self) -> None:
        """Hand out messages again, for a new incarnation."""
        self._intake = _Intake.OPEN

    def halt(self) -> None:
        """Hand out nothing more; what is queued waits for the next incarnation."""
        if self._intake is _Intake.OPEN:
            self._intake = _Intake.HALTED
            self._receiver.unpark_all()

    def drain(self) -> None:
        """Take nothing more; `get` hands out what is queued and then None."""
        self._intake = _Intake.DRAINING
        self._receiver.unpark_all()
        self._senders.unpark_all()

    def fail_asks(self, reason: str) -> None:
        """Fail every waiting request at once, and keep plain messages for the next incarnation."""
        asked = [each.reply for each in self._queue if each.reply is not None]
        for reply in asked:
            reply.fail(ActorDown(f"{self.owner} {reason}"))
        self._queue = deque(each for each in self._queue if each.reply is None)
        self._admit_senders(len(asked))

    def close(self, reason: str) -> int:
        """Take and hand out nothing ever again; return how many plain messages were left unhandled."""
        self.fail_asks(reason)
        self._intake = _Intake.CLOSED
        left = len(self._queue)
        self._queue.clear()
        self._receiver.unpark_all()
        self._senders.unpark_all()
        return left

    def _admit_senders(self, freed: int) -> None:
        # Control envelopes may have filled the mailbox beyond its capacity: then there is no room yet.
        room = self.capacity - len(self._queue)
        self._senders.unpark(count=max(min(freed, room), 0))

    def _append(self, envelope: Envelope) -> None:
        self._queue.append(envelope)
        self._receiver.unpark()

    def _require_intake(self) -> None:
        if self._intake in (_Intake.DRAINING, _Intake.CLOSED):
            raise ActorDown(f"{self.owner} takes no more messages: it is stopping or was stopped")
