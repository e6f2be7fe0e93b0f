"""Pull consumers: what is asked for and no more, and nothing that is taken and forgotten."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

import pytest
import trio
import trio.testing

from nats_fixtures import Connection, ConnectionOptions, Node, connected, eventually, killed
from pyoco_server.jetstream.api import call
from pyoco_server.jetstream.connection import open_connection
from pyoco_server.jetstream.consumer import PullConsumer
from pyoco_server.jetstream.errors import ApiError, BridgeError, NotFound, Unavailable
from pyoco_server.jetstream.publish import publish_acked
from pyoco_server.jetstream.resources import ensure_consumer, ensure_resources
from pyoco_server.settings import Settings
from tcp_proxy import open_proxy

SETTINGS = Settings(consumer_ack_wait_sec=30.0)


@dataclass
class Queue:
    node: Node
    connection: Connection
    consumer: PullConsumer

    async def add(self, *jobs: str) -> None:
        for job in jobs:
            await publish_acked(self.connection, "pyoco.work.hello", job.encode())

    async def info(self) -> dict[str, int]:
        stream, name = self.consumer.stream, self.consumer.name
        found: dict[str, int] = await call(
            self.connection, f"CONSUMER.INFO.{stream}.{name}", answer=dict
        )
        return found

    async def idle(self) -> bool:
        """Whether no job is out with anybody."""
        return (await self.info())["num_ack_pending"] == 0

    async def offers(self, count: int) -> None:
        """Wait until the consumer knows of so many jobs: it hears of one behind the publish's ack."""

        async def known() -> bool:
            return (await self.info())["num_pending"] == count

        await eventually(known)


@pytest.fixture
async def queue(nats_node: Node) -> AsyncIterator[Queue]:
    async with connected(nats_node) as connection:
        await ensure_resources(connection, SETTINGS)
        await ensure_consumer(connection, SETTINGS, "hello")
        consumer = PullConsumer(connection, "PYOCO_WORK", "pyoco_workers_hello")
        yield Queue(nats_node, connection, consumer)
        consumer.close()


async def test_no_more_than_asked_for_and_the_rest_stays(queue: Queue) -> None:
    await queue.add("a", "b", "c")
    await queue.offers(3)
    taken = await queue.consumer.fetch(2, expires=0.0)
    assert [each.data for each in taken] == [b"a", b"b"]
    await queue.offers(1)
    for each in taken:
        await each.ack()
    assert await queue.idle()
    assert [each.data for each in await queue.consumer.fetch(9, expires=0.0)] == [b"c"]


async def test_an_empty_queue_is_told_at_once_or_after_the_wait(queue: Queue) -> None:
    began = trio.current_time()
    assert await queue.consumer.fetch(5, expires=0.0) == []
    assert await queue.consumer.fetch(1, expires=0.4) == []
    assert 0.3 < trio.current_time() - began < 20


async def test_a_waiting_fetch_gets_the_job_as_it_comes(queue: Queue) -> None:
    async with trio.open_nursery() as nursery:

        async def later() -> None:
            await trio.sleep(0.2)
            await queue.add("a", "b")

        nursery.start_soon(later)
        with trio.fail_after(60):
            (job,) = await queue.consumer.fetch(4, expires=30)
    assert job.data == b"a"
    assert (await queue.info())["num_ack_pending"] == 1, "the other one is left for others"


async def test_fetches_that_were_given_up_take_no_delivery_of_a_job(queue: Queue) -> None:
    others = [
        PullConsumer(queue.connection, queue.consumer.stream, queue.consumer.name) for _ in range(5)
    ]
    async with trio.open_nursery() as nursery:
        for other in others:
            nursery.start_soon(partial(other.fetch, 1, expires=30))

        async def wait() -> bool:
            return (await queue.info())["num_waiting"] == len(others)

        await eventually(wait)
        nursery.cancel_scope.cancel()
    await queue.add("a")
    with trio.fail_after(20):  # long before the ack wait
        (job,) = await queue.consumer.fetch(1, expires=30)
    assert (job.data, job.num_delivered) == (b"a", 1)


async def test_a_cancelled_fetch_gives_back_what_is_under_way_to_it(
    nats_node: Node, queue: Queue
) -> None:
    async with (
        open_proxy(nats_node.port) as proxy,
        open_connection(ConnectionOptions(urls=(proxy.nats_url,))) as connection,
    ):
        await connection.wait_connected(within=60)
        consumer = PullConsumer(connection, queue.consumer.stream, queue.consumer.name)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: consumer.fetch(1, expires=30))

            async def waits() -> bool:
                return (await queue.info())["num_waiting"] == 1

            async def delivered() -> bool:
                return not await queue.idle()

            await eventually(waits)
            with proxy.held("down"):
                await queue.add("a")
                await eventually(delivered)
                nursery.cancel_scope.cancel()
        with trio.fail_after(20):  # long before the ack wait
            (job,) = await consumer.fetch(1, expires=30)
        assert job.data == b"a"
        # Had it been handed what the first one was sent, its own pull would be open still.
        assert (await queue.info())["num_waiting"] == 0


async def test_a_fetch_cancelled_with_jobs_in_hand_gives_them_back(queue: Queue) -> None:
    jobs = [str(number) for number in range(50)]
    await queue.add(*jobs)
    got: list[bytes] = []
    for tenths in range(40):  # from before the first message to behind the last
        batch = []
        with trio.move_on_after(tenths / 10_000):
            batch = await queue.consumer.fetch(50, expires=0.0)
        for each in batch:
            await each.ack()
            got.append(each.data)

    async def rest() -> bool:
        for each in await queue.consumer.fetch(50, expires=0.0):
            await each.ack()
            got.append(each.data)
        return len(set(got)) == 50

    await eventually(rest, within=20, what=f"all jobs, long before their ack wait: {len(got)}")
    assert sorted(got) == sorted(job.encode() for job in jobs), "each acknowledged once"


async def test_nak_and_in_progress_and_term(queue: Queue) -> None:
    await queue.add("a")
    (first,) = await queue.consumer.fetch(1, expires=30)
    assert first.num_delivered == 1
    await first.in_progress()
    await first.nak(0.2)
    began = trio.current_time()
    (second,) = await queue.consumer.fetch(1, expires=30)
    assert second.num_delivered == 2
    assert trio.current_time() - began > 0.1
    await second.nak(0.0)
    (third,) = await queue.consumer.fetch(1, expires=30)
    await third.term("nobody can do this")
    await eventually(queue.idle)
    assert await queue.consumer.fetch(1, expires=0.0) == []


async def test_a_consumer_deleted_under_a_waiting_fetch_is_told(queue: Queue) -> None:
    consumer = queue.consumer
    async with trio.open_nursery() as nursery:

        async def delete() -> None:
            await trio.sleep(0.2)
            await call(
                queue.connection, f"CONSUMER.DELETE.{consumer.stream}.{consumer.name}", answer=dict
            )

        nursery.start_soon(delete)
        with trio.fail_after(60), pytest.raises(NotFound):
            await consumer.fetch(1, expires=30)
    with trio.fail_after(60), pytest.raises(NotFound):
        await consumer.fetch(1, expires=30)
    await ensure_consumer(queue.connection, SETTINGS, "hello")
    await queue.add("a")
    assert len(await consumer.fetch(1, expires=30)) == 1


async def test_a_server_killed_under_a_waiting_fetch_ends_it_at_once(queue: Queue) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(killed, queue.node, queue.connection)
        with trio.fail_after(60):
            with suppress(Unavailable):  # killed before it was asked
                assert await queue.consumer.fetch(1, expires=60) == []

    async def again() -> bool:
        try:
            await queue.add("a")
            return len(await queue.consumer.fetch(1, expires=1)) == 1
        except BridgeError:
            return False

    await eventually(again)


async def test_more_pulls_than_the_server_holds_are_refused_not_answered_empty(
    queue: Queue,
) -> None:
    """Who is answered "nothing" at once comes again at once; a refusal makes the caller pause."""
    config = {"durable_name": "few", "name": "few", "ack_policy": "explicit", "max_waiting": 1}
    body = {"stream_name": "S", "config": config, "action": "create"}
    await call(queue.connection, "STREAM.CREATE.S", {"name": "S", "subjects": ["s"]}, answer=dict)
    await call(queue.connection, "CONSUMER.CREATE.S.few", body, answer=dict)
    first, second = (PullConsumer(queue.connection, "S", "few") for _ in range(2))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: first.fetch(1, expires=30))

        async def held() -> bool:
            info = await call(queue.connection, "CONSUMER.INFO.S.few", answer=dict)
            return bool(info["num_waiting"] == 1)

        await eventually(held)
        with trio.fail_after(60), pytest.raises(ApiError, match="MaxWaiting"):
            await second.fetch(1, expires=30)
        nursery.cancel_scope.cancel()


async def test_at_the_limit_of_jobs_in_work_there_is_nothing_for_now(queue: Queue) -> None:
    config = {"durable_name": "one", "name": "one", "ack_policy": "explicit", "max_ack_pending": 1}
    body = {"stream_name": "S", "config": config, "action": "create"}
    await call(queue.connection, "STREAM.CREATE.S", {"name": "S", "subjects": ["s"]}, answer=dict)
    await call(queue.connection, "CONSUMER.CREATE.S.one", body, answer=dict)
    for _ in range(2):
        await publish_acked(queue.connection, "s", b"")
    consumer = PullConsumer(queue.connection, "S", "one")
    (job,) = await consumer.fetch(2, expires=30.0)
    assert await consumer.fetch(1, expires=0.3) == []
    await job.ack()
    assert len(await consumer.fetch(2, expires=30.0)) == 1


async def test_an_ack_that_is_not_confirmed_is_told(nats_node: Node, queue: Queue) -> None:
    await queue.add("a")
    async with (
        open_proxy(nats_node.port) as proxy,
        open_connection(ConnectionOptions(urls=(proxy.nats_url,))) as connection,
    ):
        await connection.wait_connected(within=60)
        consumer = PullConsumer(connection, queue.consumer.stream, queue.consumer.name)
        (job,) = await consumer.fetch(1, expires=30)
        with proxy.held("up"), pytest.raises(BridgeError):
            await job.ack(within=0.2)
        await job.ack()
    await eventually(queue.idle)


async def test_what_exists_keeps_its_settings(queue: Queue) -> None:
    """The resources of an installation of 0.5.1, or of an operator, are taken as they are."""
    other = Settings(consumer_ack_wait_sec=5.0, consumer_max_deliver=3, dlq_max_msgs=7)
    await ensure_resources(queue.connection, other)
    await ensure_consumer(queue.connection, other, "hello")
    info = await queue.info()
    config: dict[str, object] = info["config"]  # type: ignore[assignment]
    assert config["ack_wait"] == 30_000_000_000
    assert config["max_deliver"] == 20
    assert config["max_ack_pending"] == 200
    assert config["filter_subject"] == "pyoco.work.hello"
    dlq = await call(queue.connection, "STREAM.INFO.PYOCO_DLQ", answer=dict)
    assert dlq["config"]["max_msgs"] == 100_000


async def test_resources_made_by_several_at_once_are_made_once(nats_node: Node) -> None:
    async with connected(nats_node) as connection, trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(ensure_resources, connection, SETTINGS)
    async with connected(nats_node) as connection:
        names = await call(connection, "STREAM.NAMES", answer=dict)
        for made in ("PYOCO_WORK", "PYOCO_DLQ", "KV_pyoco_runs", "OBJ_pyoco_wheels"):
            assert names["streams"].count(made) == 1
