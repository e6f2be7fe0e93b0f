"""Sees to it that streams and buckets exist: at the start, each time NATS comes back, and all the while."""

from __future__ import annotations

from contextlib import suppress

import structlog
import trio
from trio.lowlevel import ParkingLot

from pyoco_server.jetstream.connection import Connection
from pyoco_server.jetstream.errors import BridgeError
from pyoco_server.jetstream.inventory import stream_info, stream_names
from pyoco_server.jetstream.resources import ensure_resources, expected_streams
from pyoco_server.model.errors import ErrorId
from pyoco_server.settings import Settings
from pyoco_server.store.workflows import WorkflowStore

log = structlog.get_logger(__name__)

_RETRY_SECONDS = 1.0


class Provisioner:
    """Creates what is missing of CONTRACT section 1; what exists keeps its settings.

    A server that came back may have lost what it held in memory, and somebody may delete a stream, so that
    it looks at once for each connection, every few seconds, and when it is asked.

    Args:
        workflows: Told which bucket its texts lie in, whoever has made it.
        look_seconds: How often to look.
    """

    def __init__(
        self,
        connection: Connection,
        settings: Settings,
        workflows: WorkflowStore,
        look_seconds: float,
    ) -> None:
        self._connection = connection
        self._settings = settings
        self._workflows = workflows
        self._look_seconds = look_seconds
        self._missing: str | None = "streams and buckets were not looked at yet"
        # The connection over which all was there.
        self._epoch = -1
        self._asked = trio.Event()
        self._looked = ParkingLot()

    async def missing(self) -> str | None:
        """What is missing; None when every resource was seen just now, over the present connection.

        Waits for the look at it: put a deadline around it.
        """
        if self._missing is None and self._connection.status.connected:
            self._asked.set()
            await self._looked.park()
        current = self._epoch == self._connection.epoch
        return self._missing or (None if current else "streams and buckets are looked at")

    async def keep(self) -> None:
        """Look, and make what is missing, for as long as it is not cancelled."""
        provisioned = -1
        while True:
            if not self._connection.status.connected:
                await self._connection.changed()
                continue
            epoch = self._connection.epoch
            try:
                if epoch == provisioned and (gone := await self._gone()):
                    log.warning("streams are gone, making them again", streams=gone)
                    self._note(f"gone: {', '.join(gone)}")
                    provisioned = -1
                if epoch != provisioned:
                    await ensure_resources(self._connection, self._settings)
            except BridgeError as error:
                log.warning(
                    "resources not there yet", err_id=ErrorId.NATS_UNAVAILABLE, reason=str(error)
                )
                self._note(str(error))
                await trio.sleep(_RETRY_SECONDS)
                continue
            provisioned = epoch
            with suppress(BridgeError):
                # For the time that it tells, too.
                info = await stream_info(
                    self._connection, f"KV_{self._settings.workflows_kv_bucket}"
                )
                self._workflows.lie_in("" if info is None else info.created)
            self._epoch = epoch
            self._note(None)
            await self._pause(epoch)

    def _note(self, missing: str | None) -> None:
        self._missing = missing
        self._looked.unpark_all()

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
