"""Writes whose answer is lost: the writer learns whether they hold, or that it is open."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from nats_fixtures import Connection, Node, connected
from pyoco_server.jetstream.errors import Unanswered, Unavailable, WrongRevision
from pyoco_server.jetstream.keyvalue import KeyValue
from pyoco_server.jetstream.resources import ensure_resources
from pyoco_server.settings import Settings
from pyoco_server.store.fenced import write_fenced


@pytest.fixture
async def bucket(nats_node: Node) -> AsyncIterator[KeyValue]:
    async with connected(nats_node) as connection:
        await ensure_resources(connection, Settings())
        yield KeyValue(connection, Settings().runs_kv_bucket)


async def test_a_write_whose_answer_was_lost_is_open_though_nats_is_away_by_now(
    bucket: KeyValue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is stored: a writer that took it for not done would leave it behind."""
    real = Connection.request
    sent = 0

    async def request(self: Connection, subject: str, payload: bytes = b"", **options: Any) -> Any:
        nonlocal sent
        sent += 1
        if sent > 1:
            raise Unavailable("NATS is not connected")
        await real(self, subject, payload, **options)
        raise Unanswered("the answer was lost")

    monkeypatch.setattr(Connection, "request", request)
    with pytest.raises(Unanswered, match="may be written"):
        await write_fenced(bucket, "a", b"1", 0, within=60)
    monkeypatch.undo()
    assert (await bucket.get("a")).value == b"1"


async def test_a_write_that_was_tried_before_is_found(bucket: KeyValue) -> None:
    revision = await bucket.create("a", b"1")
    assert await write_fenced(bucket, "a", b"1", 0, unsure=True, within=60) == revision
    with pytest.raises(WrongRevision):
        await write_fenced(bucket, "a", b"2", 0, unsure=True, within=60)
