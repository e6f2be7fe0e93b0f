"""Which streams of an account are ours, by the settings and by name, and in what they differ from those."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from pyoco_server.jetstream.connection import Connection
from pyoco_server.jetstream.inventory import StreamInfo, list_streams
from pyoco_server.jetstream.resources import RESTORE_MARKER, expected_streams
from pyoco_server.settings import Settings
from pyoco_server.settings.environment import variables_of
from pyoco_server.settings.readers import BUCKET, STREAM

# What other versions keep, or keep beside what the settings name, is called like that.
_PREFIXES: Final = ("PYOCO_", "KV_pyoco_", "OBJ_pyoco_")
FIXED: Final = ("retention", "storage")
"""What JetStream lets nobody change on a stream that exists."""
_DECIDED: Final = (
    *("subjects", "retention", "max_age", "storage", "max_msgs", "max_bytes"),
    *("max_msgs_per_subject", "allow_msg_ttl", "discard"),
)


async def our_streams(connection: Connection, settings: Settings) -> list[StreamInfo]:
    """All our streams that exist: the work queue first, schedules, then the runs, then the rest by name.

    A backup takes them in that order: a schedule whose tick had its run a moment later submits it again when
    it is restored, and finds the run; the other way round the tick would be lost. Idempotency keys come
    behind the runs, so that none of a run is missing; those without a run are removed by a restore.

    Raises:
        BridgeError: Not connected, refused or not answered.
    """
    first = {
        settings.work_stream: 0,
        f"KV_{settings.schedules_kv_bucket}": 1,
        f"KV_{settings.runs_kv_bucket}": 2,
    }
    known = {str(config["name"]) for config in expected_streams(settings)}
    found = [
        stream
        for stream in await list_streams(connection)
        if stream.name != RESTORE_MARKER
        and (stream.name in known or stream.name.startswith(_PREFIXES))
    ]
    return sorted(found, key=lambda stream: (first.get(stream.name, 3), stream.name))


def names_of(settings: Settings) -> dict[str, str]:
    """What the settings call our streams and buckets, by variable."""
    return {
        env.name: getattr(settings, field)
        for field, env in variables_of(Settings).items()
        if env.reader in (BUCKET, STREAM)
    }


def differences(stream: StreamInfo, wanted: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """What is otherwise on a stream than the settings decide, by name: as it is, and as it should be."""
    both = {name: (stream.config.get(name), wanted[name]) for name in _DECIDED if name in wanted}
    # Absent, off and none are the same to JetStream.
    return {name: (old, new) for name, (old, new) in both.items() if (old or None) != (new or None)}
