"""The journal: in order for each run, gathered into few messages, bounded, and never waited for."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import pytest
import trio
import trio.lowlevel
from trio.testing import MockClock, wait_all_tasks_blocked

from nats_fixtures import Connection, Node, connected, killed, paused
from pyoco_server.jetstream.consumer import Message
from pyoco_server.jetstream.follow import CaughtUp, Follower
from pyoco_server.jetstream.resources import ensure_resources
from pyoco_server.kernel import SupervisorSpec, open_system, task
from pyoco_server.model.event import LogChunk, StateChanged, decode_events
from pyoco_server.model.run import RunStatus
from pyoco_server.settings import Settings
from pyoco_server.store import journal as journal_module
from pyoco_server.store.journal import EventWriter, Journal

MESSAGE_BYTES = 64 * 1024


def chunk(number: int, size: int = 10) -> LogChunk:
    return LogChunk(at=1.0, attempt=1, task="t", stream="stdout", text="x" * size, seq=number)


@asynccontextmanager
async def writing(node: Node, journal: Journal) -> AsyncIterator[Connection]:
    async with connected(node) as connection:
        await ensure_resources(connection, Settings())
        writer = EventWriter(connection, journal, "pyoco.events")
        events = task("events", writer.write, close=writer.close)
        async with open_system(SupervisorSpec("root", [events])):
            yield connection


async def emptied(journal: Journal) -> None:
    """Wait until all that was told is stored or given up."""
    with trio.fail_after(60):
        while journal.run_ids:
            await trio.sleep(0.01)


async def stored(connection: Connection, run_id: str) -> list[list[int]]:
    """The numbers of the stored chunks of a run, by message."""
    messages: list[list[int]] = []
    follower = Follower(connection, "PYOCO_EVENTS", f"pyoco.events.{run_id}")
    with trio.fail_after(60):
        async with aclosing(follower.messages()) as reader:
            async for item in reader:
                if isinstance(item, CaughtUp):
                    break
                assert isinstance(item, Message)
                events = decode_events(item.data)
                messages.append([event.seq for event in events if isinstance(event, LogChunk)])
    return messages


async def test_events_of_a_run_are_stored_in_order_and_gathered(nats_node: Node) -> None:
    journal = Journal(max_message_bytes=MESSAGE_BYTES)
    async with writing(nats_node, journal) as connection:
        for number in range(500):
            journal.add("a", chunk(number))
            journal.add("b", chunk(number))
        await emptied(journal)
        for run_id in ("a", "b"):
            messages = await stored(connection, run_id)
            assert [number for message in messages for number in message] == list(range(500))
            assert len(messages) <= 3


def state(status: RunStatus) -> StateChanged:
    return StateChanged(at=1.0, attempt=1, status=status, revision=1)


async def test_a_short_run_is_one_message(nats_node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_module, "_GATHER_SECONDS", 3600.0)
    journal = Journal(max_message_bytes=MESSAGE_BYTES)
    async with writing(nats_node, journal) as connection:
        journal.add("a", state(RunStatus.RUNNING))
        await wait_all_tasks_blocked()
        assert await stored(connection, "a") == []
        journal.add("a", chunk(0))
        journal.add("a", state(RunStatus.COMPLETED))
        with trio.fail_after(60):
            while not (messages := await stored(connection, "a")):
                pass
        assert messages == [[0]]


class StepsOf(trio.abc.Instrument):
    """Counts the steps of one task."""

    def __init__(self) -> None:
        self.task: trio.lowlevel.Task | None = None
        self.count = 0

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self.count += task is self.task


async def test_a_short_run_wakes_the_writer_once_and_a_start_once_its_time_is_over(
    autojump_clock: MockClock,
) -> None:
    journal, steps, begun = Journal(max_message_bytes=MESSAGE_BYTES), StepsOf(), trio.current_time()
    told: list[tuple[float, str]] = []

    async def write() -> None:
        steps.task = trio.lowlevel.current_task()
        trio.lowlevel.add_instrument(steps)
        while True:
            for run_id in await journal.due():
                _, events = journal.message(run_id) or ("", [])
                journal.done(run_id, events)
                told.append((round(trio.current_time() - begun, 6), run_id))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(write)
        await wait_all_tasks_blocked()
        for run_id in "abc":
            journal.add(run_id, state(RunStatus.RUNNING))
            await trio.sleep(0.001)
            journal.add(run_id, state(RunStatus.COMPLETED))
            await trio.sleep(1)
        journal.add("d", state(RunStatus.RUNNING))
        await trio.sleep(1)
        assert steps.count == 4
        nursery.cancel_scope.cancel()
    trio.lowlevel.remove_instrument(steps)
    assert told == [(0.001, "a"), (1.002, "b"), (2.003, "c"), (3.023, "d")]


@pytest.mark.parametrize("first", ["follow", "start"])
async def test_the_start_of_a_run_that_is_followed_is_told_at_once(
    nats_node: Node, monkeypatch: pytest.MonkeyPatch, first: str
) -> None:
    monkeypatch.setattr(journal_module, "_GATHER_SECONDS", 3600.0)
    journal = Journal(max_message_bytes=MESSAGE_BYTES)
    async with writing(nats_node, journal) as connection:
        if first == "start":
            journal.add("a", state(RunStatus.RUNNING))
        journal.hurry("a")
        if first == "follow":
            journal.add("a", state(RunStatus.RUNNING))
        with trio.fail_after(60):
            while await stored(connection, "a") != [[]]:
                pass


async def test_a_message_is_no_larger_than_it_may_be(nats_node: Node) -> None:
    journal = Journal(max_message_bytes=MESSAGE_BYTES)
    async with writing(nats_node, journal) as connection:
        for number in range(10):
            journal.add("a", chunk(number, size=MESSAGE_BYTES // 4))
        journal.add("a", chunk(10, size=2 * MESSAGE_BYTES))
        await emptied(journal)
        assert await stored(connection, "a") == [[0, 1, 2], [3, 4, 5], [6, 7, 8], [9], [10]]


async def test_nothing_is_lost_doubled_or_reordered_when_the_server_dies(nats_node: Node) -> None:
    journal = Journal(max_message_bytes=MESSAGE_BYTES)
    async with writing(nats_node, journal) as connection:
        for number in range(100):
            journal.add("a", chunk(number, size=4000))
            if number == 50:
                await killed(nats_node, connection)
            await trio.lowlevel.checkpoint()
        await emptied(journal)
        numbers = [number for message in await stored(connection, "a") for number in message]
        assert numbers == list(range(100))


async def test_what_waits_is_bounded_and_room_comes_back(nats_node: Node) -> None:
    journal = Journal(max_message_bytes=MESSAGE_BYTES, waiting_bytes=100_000)
    async with writing(nats_node, journal):
        with paused(nats_node):
            number = 0
            while journal.dropped == 0:
                journal.add("a", chunk(number, size=1000))
                number += 1
            assert journal.full
            assert number < 210
        with trio.fail_after(60):
            await journal.room()
        await emptied(journal)


async def test_what_the_stream_does_not_take_is_given_up(nats_node: Node) -> None:
    journal = Journal(max_message_bytes=MESSAGE_BYTES)
    async with writing(nats_node, journal) as connection:
        journal.add("a", chunk(0, size=2 * 1024 * 1024))
        journal.add("a", chunk(1))
        await emptied(journal)
        assert await stored(connection, "a") == [[1]]


async def test_what_waits_at_the_end_is_stored(nats_node: Node, tmp_path: Path) -> None:
    journal = Journal(max_message_bytes=MESSAGE_BYTES)
    async with connected(nats_node) as connection:
        async with writing(nats_node, journal):
            for number in range(10):
                journal.add("a", chunk(number))
        assert [n for message in await stored(connection, "a") for n in message] == list(range(10))
