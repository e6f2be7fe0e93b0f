"""Sees to it that streams and buckets exist: at the start, each time NATS comes back, and all the while."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import assert_never

import structlog
import trio

from pyoco_server.jetstream.connection import Connection
from pyoco_server.jetstream.errors import BridgeError
from pyoco_server.jetstream.inventory import stream_info, stream_names
from pyoco_server.jetstream.resources import ensure_resources, expected_streams
from pyoco_server.kernel import Actor, Reply, Request
from pyoco_server.model.errors import ErrorId
from pyoco_server.settings import Settings

log = structlog.get_logger(__name__)

_RETRY_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Provisioned(Request[str | None]):
    """What is missing: None when every resource was seen lately, over the present connection."""


@dataclass(frozen=True, slots=True)
class _Done:
    epoch: int


@dataclass(frozen=True, slots=True)
class _Failed:
    reason: str


ProvisionerMessage = Provisioned | _Done | _Failed


class Provisioner(Actor[ProvisionerMessage]):
    """Creates what is missing of CONTRACT section 1; what exists keeps its settings.

    A server that came back may have lost what it held in memory, and somebody may delete a stream, so that
    it looks at once for each connection, every few seconds, and when it is asked.

    Args:
        look_seconds: How often to look.
    """

    def __init__(self, connection: Connection, settings: Settings, look_seconds: float) -> None:
        self._connection = connection
        self._settings = settings
        self._look_seconds = look_seconds
        self._missing: str | None = "streams and buckets were not looked at yet"
        self._epoch = -1
        self._asked = trio.Event()
        self._waiting: list[Reply[str | None]] = []

    async def on_start(self) -> None:
        """Begin to look; it goes on for as long as the actor lives."""
        self.spawn(self._provision)

    async def _provision(self) -> None:
        provisioned = -1
        while True:
            if not self._connection.status.connected:
                await self._connection.changed()
                continue
            epoch = self._connection.epoch
            try:
                if epoch == provisioned and (gone := await self._gone()):
                    log.warning("streams are gone, making them again", streams=gone)
                    await self.me.tell(_Failed(f"gone: {', '.join(gone)}"))
                    provisioned = -1
                if epoch != provisioned:
                    await ensure_resources(self._connection, self._settings)
            except BridgeError as error:
                log.warning(
                    "resources not there yet", err_id=ErrorId.NATS_UNAVAILABLE, reason=str(error)
                )
                await self.me.tell(_Failed(str(error)))
                await trio.sleep(_RETRY_SECONDS)
                continue
            provisioned = epoch
            with suppress(BridgeError):
                # For the time that it tells.
                await stream_info(self._connection, self._settings.work_stream)
            await self.me.tell(_Done(epoch))
            await self._pause(epoch)

    async def _gone(self) -> list[str]:
        names = await stream_names(self._connection)
        return [
            config["name"]
            for config in expected_streams(self._settings)
            if config["name"] not in names
        ]

    async def _pause(self, epoch: int) -> None:
        """Wait until it is time to look again."""
        async with trio.open_nursery() as nursery:

            async def reconnected() -> None:
                while self._connection.epoch == epoch:
                    await self._connection.changed()
                nursery.cancel_scope.cancel()

            nursery.start_soon(reconnected)
            with trio.move_on_after(self._look_seconds):
                await self._asked.wait()
            nursery.cancel_scope.cancel()
        self._asked = trio.Event()

    async def handle(self, message: ProvisionerMessage) -> None:
        """Note an outcome or tell it."""
        match message:
            case Provisioned():
                self._waiting.append(self.reply_to(message))
                if self._missing or not self._connection.status.connected:
                    self._tell()
                else:
                    self._asked.set()
            case _Done(epoch):
                self._epoch, self._missing = epoch, None
                self._tell()
            case _Failed(reason):
                self._missing = reason
                self._tell()
            case _:
                assert_never(message)

    def _tell(self) -> None:
        """Answer those who wait with what is known."""
        current = self._epoch == self._connection.epoch
        answer = self._missing or (None if current else "streams and buckets are looked at")
        for reply in self._waiting:
            reply.send(answer)
        self._waiting.clear()
