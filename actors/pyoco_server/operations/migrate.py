"""Bringing streams and buckets that exist to the settings of today: their replicas, and the rest."""

from __future__ import annotations

from typing import Any

import msgspec

from pyoco_server.jetstream.connection import Connection
from pyoco_server.jetstream.errors import ApiError
from pyoco_server.jetstream.inventory import StreamInfo, update_stream
from pyoco_server.jetstream.resources import expected_streams
from pyoco_server.operations.ours import FIXED, differences, our_streams
from pyoco_server.settings import Settings


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """What is, or would be, changed on a stream."""

    stream: str
    changes: dict[str, tuple[Any, Any]]
    """By name: before and after."""
    error: str | None = None
    """Why JetStream refused it."""


async def migrate(
    connection: Connection,
    settings: Settings,
    *,
    replicas: int | None,
    to_settings: bool,
    dry_run: bool,
) -> list[Change]:
    """Change what differs; a refused change does not keep the others from being made.

    Args:
        connection: The way to NATS.
        settings: What is wanted.
        replicas: Copies of each stream, ours by name included; None leaves them.
        to_settings: Whether ages, limits and the like become those of the settings.
        dry_run: Only say what would be changed.

    Raises:
        BridgeError: NATS could not be asked.
    """
    expected = {str(config["name"]): config for config in expected_streams(settings)}
    done: list[Change] = []
    for stream in await our_streams(connection, settings):
        wanted = expected.get(stream.name, {}) if to_settings else {}
        changes = _changes(stream, wanted, replicas)
        if not changes:
            continue
        config = stream.config | {name: after for name, (_, after) in changes.items()}
        if "max_age" in changes:
            config["duplicate_window"] = _window(config)
        error = None
        if not dry_run:
            try:
                await update_stream(connection, config)
            except ApiError as refused:
                error = refused.description
        done.append(Change(stream=stream.name, changes=changes, error=error))
    return done


def _changes(
    stream: StreamInfo, wanted: dict[str, Any], replicas: int | None
) -> dict[str, tuple[Any, Any]]:
    changes = {
        name: change for name, change in differences(stream, wanted).items() if name not in FIXED
    }
    if replicas is not None and stream.replicas != replicas:
        changes["num_replicas"] = (stream.replicas, replicas)
    return changes


def _window(config: dict[str, Any]) -> int:
    """The duplicate window, which may not be longer than messages live."""
    window, age = int(config.get("duplicate_window") or 0), int(config["max_age"] or 0)
    return min(window, age) if age else window
