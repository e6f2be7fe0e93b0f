"""Uses up the storage that NATS may use, and gives it back."""

from __future__ import annotations

from pyoco_server.jetstream.connection import Connection
from pyoco_server.jetstream.errors import ApiError
from pyoco_server.jetstream.inventory import create_stream, delete_stream
from pyoco_server.jetstream.publish import publish_acked
from pyoco_server.scenario.document import ScenarioError

_STREAM = "SCENE_FILLER"
_BLOCK = bytes(256 * 1024)
# 16 GiB: who has more than that left has forgotten `cast.store_mb`.
_MOST_BLOCKS = 65_536


async def fill(connection: Connection) -> None:
    """Store until JetStream refuses.

    Raises:
        ScenarioError: It does not.
    """
    config = {"name": _STREAM, "subjects": ["scene.filler"], "storage": "file", "num_replicas": 1}
    await create_stream(connection, config)
    for size in (len(_BLOCK), 4096, 1):
        for _ in range(_MOST_BLOCKS):
            try:
                await publish_acked(connection, "scene.filler", _BLOCK[:size])
            except ApiError:
                break
        else:
            raise ScenarioError("NATS takes whatever comes: set cast.store_mb to fill its storage")


async def free(connection: Connection) -> None:
    """Give the storage back."""
    await delete_stream(connection, _STREAM)
