"""The streams and buckets that settings describe are such as JetStream makes."""

from __future__ import annotations

import pytest

from nats_fixtures import Node, connected
from pyoco_server.jetstream.errors import ApiError
from pyoco_server.jetstream.inventory import list_streams
from pyoco_server.jetstream.resources import ensure_resources, expected_streams
from pyoco_server.settings import Settings


@pytest.mark.parametrize("seconds", [0.1, 1.0, 9e9])
async def test_what_is_kept_may_be_kept_as_shortly_as_is_taken(
    nats_node: Node, seconds: float
) -> None:
    settings = Settings(
        dlq_max_age_sec=seconds,
        events_max_age_sec=seconds,
        wheel_history_ttl_sec=seconds,
        runs_ttl_sec=0.001,
    )
    async with connected(nats_node) as connection:
        await ensure_resources(connection, settings)
        made = {stream.name: stream.config["max_age"] for stream in await list_streams(connection)}
    expected = {config["name"]: config["max_age"] for config in expected_streams(settings)}
    assert made == expected
    assert expected["PYOCO_DLQ"] == int(seconds * 1e9)


async def test_a_stream_that_is_refused_is_named(nats_node: Node) -> None:
    async with connected(nats_node) as connection:
        with pytest.raises(ApiError, match="PYOCO_EVENTS cannot be made: insufficient storage"):
            await ensure_resources(connection, Settings(events_max_bytes=2**63 - 1))
