"""What messages cost in turns of tasks and waits for the network: what no noisy neighbour changes."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import trio

from nats_fixtures import Connection, Node, connected
from pyoco_server.jetstream.api import call
from pyoco_server.jetstream.publish import publish_acked


class Count(trio.abc.Instrument):
    def __init__(self) -> None:
        self.steps = 0
        self.waits = 0

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self.steps += 1

    def before_io_wait(self, timeout: float) -> None:
        self.waits += 1


@pytest.fixture
async def connection(nats_node: Node) -> AsyncIterator[Connection]:
    async with connected(nats_node) as connection:
        await call(connection, "STREAM.CREATE.S", {"name": "S", "subjects": ["s"]}, answer=dict)
        yield connection


async def publish(connection: Connection, in_flight: int, each: int) -> Count:
    """Publish, so many at a time; return what it cost."""
    count = Count()

    async def one() -> None:
        for _ in range(each):
            await publish_acked(connection, "s", bytes(800), within=60)

    await one()
    trio.lowlevel.add_instrument(count)
    try:
        async with trio.open_nursery() as nursery:
            for _ in range(in_flight):
                nursery.start_soon(one)
    finally:
        trio.lowlevel.remove_instrument(count)
    return count


# With one in flight: the socket's turn, and that of the task that waits.
@pytest.mark.parametrize(("in_flight", "steps"), [(1, 2.2), (32, 1.8)])
async def test_a_request_costs_few_turns(
    connection: Connection, in_flight: int, steps: float
) -> None:
    each = 500 // in_flight
    count = await publish(connection, in_flight, each)
    assert count.steps / (in_flight * each) <= steps
    assert count.waits / (in_flight * each) <= 2.2
