"""Sees to it that streams and buckets exist, at the start and each time NATS comes back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import assert_never

import structlog
import trio

from pyoco_server.jetstream.connection import Connection
from pyoco_server.jetstream.errors import BridgeError
from pyoco_server.jetstream.resources import ensure_resources
from pyoco_server.kernel import Actor, Request
from pyoco_server.model.errors import ErrorId
from pyoco_server.settings import Settings

log = structlog.get_logger(__name__)

_RETRY_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Provisioned(Request[str | None]):
    """What is missing: None when every resource was seen since NATS was last reached."""


@dataclass(frozen=True, slots=True)
class _Done:
    epoch: int


@dataclass(frozen=True, slots=True)
class _Failed:
    reason: str


ProvisionerMessage = Provisioned | _Done | _Failed


class Provisioner(Actor[ProvisionerMessage]):
    """Creates what is missing of CONTRACT section 1; what exists keeps its settings.

    A server that came back may have lost what it held in memory, so it is looked at once for each
    connection.
    """

    def __init__(self, connection: Connection, settings: Settings) -> None:
        self._connection = connection
        self._settings = settings
        self._missing: str | None = "streams and buckets were not looked at yet"
        self._epoch = -1

    async def on_start(self) -> None:
        """Begin to look; it goes on for as long as the actor lives."""
        self.spawn(self._provision)

    async def _provision(self) -> None:
        seen = -1
        while True:
            status = self._connection.status
            if not status.connected or self._connection.epoch == seen:
                await self._connection.changed()
                continue
            epoch = self._connection.epoch
            try:
                await ensure_resources(self._connection, self._settings)
            except BridgeError as error:
                log.warning(
                    "resources not there yet", err_id=ErrorId.NATS_UNAVAILABLE, reason=str(error)
                )
                await self.me.tell(_Failed(str(error)))
                await trio.sleep(_RETRY_SECONDS)
            else:
                seen = epoch
                await self.me.tell(_Done(epoch))

    async def handle(self, message: ProvisionerMessage) -> None:
        """Note an outcome or tell it."""
        match message:
            case Provisioned():
                current = self._epoch == self._connection.epoch
                self.reply_to(message).send(
                    self._missing or (None if current else "streams and buckets are looked at")
                )
            case _Done(epoch):
                self._epoch, self._missing = epoch, None
            case _Failed(reason):
                self._missing = reason
            case _:
                assert_never(message)
