"""Which streams of an account are ours, by the settings and by name."""

from __future__ import annotations

from typing import Final

from pyoco_server.jetstream.connection import Connection
from pyoco_server.jetstream.inventory import StreamInfo, list_streams
from pyoco_server.jetstream.resources import RESTORE_MARKER, expected_streams
from pyoco_server.settings import Settings

# What other versions keep, or keep beside what the settings name, is called like that.
_PREFIXES: Final = ("PYOCO_", "KV_pyoco_", "OBJ_pyoco_")


def runs_stream(settings: Settings) -> str:
    """The stream of the bucket of runs."""
    return f"KV_{settings.runs_kv_bucket}"


def is_ours(name: str, settings: Settings) -> bool:
    """Whether a stream of that name is ours."""
    known = {str(config["name"]) for config in expected_streams(settings)}
    return name != RESTORE_MARKER and (name in known or name.startswith(_PREFIXES))


async def our_streams(connection: Connection, settings: Settings) -> list[StreamInfo]:
    """All our streams that exist: the work queue first, schedules, then the runs, then the rest by name.

    A backup takes them in that order: a schedule whose tick had its run a moment later submits it again when
    it is restored, and finds the run; the other way round the tick would be lost.

    Raises:
        BridgeError: Not connected, refused or not answered.
    """
    first = {
        settings.work_stream: 0,
        f"KV_{settings.schedules_kv_bucket}": 1,
        runs_stream(settings): 2,
    }
    found = [s for s in await list_streams(connection) if is_ours(s.name, settings)]
    return sorted(found, key=lambda stream: (first.get(stream.name, 3), stream.name))
