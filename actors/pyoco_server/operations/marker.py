"""The stream that is there while a restore is not finished: gateways and workers wait for its end.

Its metadata tell a second restore command how far the first one came.
"""

from __future__ import annotations

import time
from enum import StrEnum
from typing import Any, Final

from msgspec import Struct

from pyoco_server.jetstream.connection import Connection
from pyoco_server.jetstream.inventory import (
    create_stream,
    delete_stream,
    stream_info,
    update_stream,
)
from pyoco_server.jetstream.resources import RESTORE_MARKER

_PHASE: Final = "pyoco_phase"
_ARCHIVE: Final = "pyoco_archive"
_KEPT: Final = "pyoco_kept"


class Phase(StrEnum):
    """How far a restore is."""

    EMPTYING = "emptying"
    """What was there before is being deleted."""
    FILLING = "filling"
    """Nothing of it is left; the backup's streams are being put in."""


class Marker(Struct, frozen=True):
    """What a restore that is not finished left.

    Attributes:
        phase: How far it came, as the marker says it.
        archive: Digest of its backup's manifest.
        kept: Path of what was there before, "" for nothing.
    """

    phase: str
    archive: str
    kept: str = ""


async def read_marker(connection: Connection) -> Marker | None:
    """The marker; None when no restore is unfinished.

    Raises:
        BridgeError: NATS refused or could not be asked.
    """
    info = await stream_info(connection, RESTORE_MARKER)
    if info is None:
        return None
    metadata: dict[str, str] = info.config.get("metadata") or {}
    return Marker(*(metadata.get(name, "") for name in (_PHASE, _ARCHIVE, _KEPT)))


async def set_marker(connection: Connection, marker: Marker, *, replicas: int, fresh: bool) -> None:
    """Make the marker, or change the one that is there.

    Args:
        connection: The way to NATS.
        marker: What it says.
        replicas: The most copies that a stream of the backup wants: what JetStream has too few
            servers for is refused here, before anything is touched.
        fresh: Whether there is none yet.

    Raises:
        ApiError: JetStream refused.
        BridgeError: Not connected, or not answered.
    """
    config: dict[str, Any] = {
        "name": RESTORE_MARKER,
        "subjects": [f"{RESTORE_MARKER}.none"],
        "retention": "limits",
        "storage": "file",
        "num_replicas": replicas,
        "max_msgs": 1,
        "metadata": {
            _PHASE: str(marker.phase),
            _ARCHIVE: marker.archive,
            _KEPT: marker.kept,
            "pyoco_since": f"{time.time():.0f}",
        },
    }
    await (create_stream if fresh else update_stream)(connection, config)


async def remove_marker(connection: Connection) -> None:
    """The restore is finished.

    Raises:
        BridgeError: NATS refused or could not be asked.
    """
    await delete_stream(connection, RESTORE_MARKER)
