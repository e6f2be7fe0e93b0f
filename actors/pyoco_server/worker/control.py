"""Listens to what gateways say to this worker and passes it to the slots."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Never

from pyoco_server.jetstream.connection import Connection
from pyoco_server.kernel import Actor, ActorRef
from pyoco_server.store.control import (
    EVERY_WORKER,
    CancelRecorded,
    FollowRun,
    LookAtRecord,
    control_subject,
    decode_control,
)
from pyoco_server.store.journal import Journal
from pyoco_server.worker.messages import CancelAttempt, LookAgain


class ControlListener(Actor[Never]):
    """Subscribes to the worker's control subjects. What is lost here, the buckets tell later."""

    def __init__(
        self,
        connection: Connection,
        instance_id: str,
        slots: Sequence[ActorRef[CancelAttempt]],
        heartbeat: ActorRef[LookAgain],
        journal: Journal,
    ) -> None:
        self._connection = connection
        self._instance_id = instance_id
        self._slots = slots
        self._heartbeat = heartbeat
        self._journal = journal

    async def on_start(self) -> None:
        """Begin to listen."""
        for subject in (control_subject(self._instance_id), EVERY_WORKER):
            self.spawn(self._listen, subject)

    async def _listen(self, subject: str) -> None:
        async with self._connection.subscribe(subject) as messages:
            async for _, payload in messages:
                match decode_control(payload):
                    case CancelRecorded(run_id=run_id):
                        for slot in self._slots:
                            await slot.tell(CancelAttempt(run_id))
                    case FollowRun(run_id=run_id):
                        self._journal.hurry(run_id)
                    case LookAtRecord():
                        await self._heartbeat.tell(LookAgain())
                    case None:
                        pass

    async def handle(self, message: Never) -> None:
        """Nobody tells it anything."""
