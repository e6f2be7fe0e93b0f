"""A worker's name: where it comes from, and whether somebody else who lives has it."""

from __future__ import annotations

import socket
import uuid
from dataclasses import dataclass
from pathlib import Path

import trio

from pyoco_server.jetstream.connection import Connection
from pyoco_server.jetstream.errors import Unanswered, Unavailable
from pyoco_server.jetstream.requests import RawMessage
from pyoco_server.store.control import presence_subject
from pyoco_server.worker.held_folder import HeldFolder, hold

_ANSWER_SECONDS = 2.0


class WorkerIdTaken(Exception):
    """A worker of that name is alive; the text says what to do."""

    def __init__(self, worker_id: str, instance_id: str) -> None:
        super().__init__(
            f"a worker {worker_id!r} is alive (instance {instance_id}): stop it, give this one another id "
            "(--worker-id), or let it take the place of the other (--replace)"
        )


@dataclass(eq=False, slots=True)
class WorkerName:
    """The name of a worker, for as long as its process has it.

    Attributes:
        worker_id: The name.
        replace: Whether to take it over from another process that lives.
        refusal: Why the worker may not have it; None as long as it may.
    """

    worker_id: str
    replace: bool = False
    refusal: WorkerIdTaken | None = None
    _kept: HeldFolder | None = None

    @classmethod
    def of(cls, worker_id: str | None, folder: Path, *, replace: bool) -> WorkerName:
        """That name, or where there is none the host's with a part that is kept in a folder.

        Several workers of one folder have a part each, and the next ones have them again.

        Raises:
            OSError: The folder cannot be used.
        """
        if worker_id is not None:
            return cls(worker_id, replace)
        kept = _kept_part(folder)
        return cls(f"{socket.gethostname()}-{kept.path.name}", replace, _kept=kept)

    def let_go(self) -> None:
        """Leave the kept part to the next worker of the folder."""
        if self._kept is not None:
            self._kept.release()


def _kept_part(folder: Path) -> HeldFolder:
    folder.mkdir(parents=True, exist_ok=True)
    for path in sorted(folder.iterdir()):
        if (held := hold(path, alone=True)) is not None:
            return held
    while True:
        path = folder / uuid.uuid4().hex[:8]
        path.mkdir(exist_ok=True)
        if (held := hold(path, alone=True)) is not None:  # else another worker was faster
            return held


async def answer_presence(connection: Connection, instance_id: str) -> None:
    """Answer those who ask whether this process lives, until cancelled."""

    def answer(reply: RawMessage) -> None:
        connection.publish_soon(reply.reply, b"here")

    feed = connection.open_feed(presence_subject(instance_id), answer, lambda: None)
    try:
        await trio.sleep_forever()
    finally:
        connection.close_feed(feed)


async def is_present(connection: Connection, instance_id: str) -> bool:
    """Whether a worker's process lives: it answers. No clock is asked, nor its record.

    One of version 0.5.1 never answers.

    Raises:
        Unavailable: NATS is not connected.
    """
    try:
        reply = await connection.request(presence_subject(instance_id), b"", within=_ANSWER_SECONDS)
    except Unanswered:
        return False
    except Unavailable:
        if not connection.status.connected:
            raise
        return False
    return reply.status != 503
