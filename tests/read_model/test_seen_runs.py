"""Single runs answered from memory: never older than what was told before, and from NATS when in doubt."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import cast

import pytest
import trio
from trio.testing import MockClock

from pyoco_server.gateway.seen_runs import SeenRuns
from pyoco_server.jetstream.clock import ServerClock
from pyoco_server.jetstream.connection import Connection, ConnectionStatus
from pyoco_server.jetstream.errors import KeyNotFound, Unanswered
from pyoco_server.jetstream.keyvalue import Batch, Deleted, Entry, KeyValue
from pyoco_server.model.run import RunSnapshot, RunStatus, encode_snapshot
from pyoco_server.store.runs import RunNotFound, RunStore

P, R, C = RunStatus.PENDING, RunStatus.RUNNING, RunStatus.COMPLETED


def raw(status: RunStatus, size: int = 0, run_id: str = "r") -> bytes:
    run = RunSnapshot(run_id=run_id, flow_name="x" * size, status=status)
    return encode_snapshot(run, max_bytes=0)


def entry(
    revision: int, status: RunStatus, key: str = "r", *, size: int = 0, ttl: float = 0
) -> Entry:
    now = time.time()
    return Entry(key, raw(status, size, key), revision, now, now + ttl if ttl else None)


def batch(
    *events: Entry | Deleted, last: int = 0, anew: bool = False, caught_up: bool = True
) -> Batch:
    last = last or max((event.revision for event in events), default=0)
    return Batch("bucket", anew, events, last, caught_up)


@dataclass
class Nats:
    """A bucket that answers with what it is told to, and when."""

    entries: dict[str, Entry] = field(default_factory=dict)
    markers: dict[str, int] = field(default_factory=dict)
    reads: int = 0
    clock: ServerClock = field(default_factory=ServerClock)
    asked: trio.Event = field(default_factory=trio.Event)
    held: trio.Event | None = None
    status: ConnectionStatus = field(
        default_factory=lambda: ConnectionStatus(connected=True, epoch=1)
    )

    @property
    def epoch(self) -> int:
        return self.status.epoch

    async def get(self, key: str) -> Entry:
        self.reads += 1
        found, marker = self.entries.get(key), self.markers.get(key, 0)
        self.asked.set()
        if self.held is not None:
            await self.held.wait()
        await trio.lowlevel.checkpoint()
        if found is None:
            raise KeyNotFound(f"no key {key!r}", marker)
        return found


@dataclass
class World:
    nats: Nats
    runs: RunStore
    seen: SeenRuns

    async def status(self, run_id: str = "r") -> RunStatus:
        return (await self.seen.get(run_id)).snapshot.status

    async def from_memory(self, run_id: str = "r") -> bool:
        before = self.nats.reads
        await self.seen.get(run_id)
        return self.nats.reads == before


@pytest.fixture
def world() -> World:
    nats = Nats()
    runs = RunStore(cast(KeyValue, nats), max_bytes=0)
    seen = SeenRuns(cast(Connection, nats), runs, most_bytes=20_000)
    runs.on_told = seen.note
    return World(nats, runs, seen)


async def test_what_the_watch_brought_is_answered_without_nats(world: World) -> None:
    world.seen.take(batch(entry(3, P), entry(5, R), anew=True))
    assert await world.status() is R
    assert world.nats.reads == 0


async def test_a_write_is_seen_by_the_next_read_though_the_watch_lags(world: World) -> None:
    world.seen.take(batch(entry(3, P), anew=True))
    world.nats.entries["r"] = entry(7, R)
    world.seen.note("r", 7)
    assert await world.status() is R
    assert world.nats.reads == 1
    # It is past other runs' changes, but not past this one's.
    world.seen.take(batch(entry(6, P, "other")))
    assert not await world.from_memory()
    world.seen.take(batch(entry(7, R)))
    assert await world.from_memory()


async def test_a_write_that_was_replaced_before_it_was_shown_is_not_undone(world: World) -> None:
    """The bucket keeps the last state of a run only: the watch passes the others by."""
    world.seen.take(batch(entry(3, P), anew=True))
    world.seen.note("r", 4)
    world.nats.entries["r"] = entry(9, C)
    world.seen.take(batch(entry(5, P, "other"), caught_up=False))
    assert await world.status() is C


async def test_a_read_of_a_state_that_the_watch_has_passed_by_is_not_undone(world: World) -> None:
    world.seen.take(batch(entry(3, P), entry(8, P, "other"), anew=True))
    world.seen.note("r", 5)  # an answer that was under way when it was replaced by 9
    world.nats.entries["r"] = entry(9, C)
    assert await world.status() is C


async def test_what_a_read_told_is_not_taken_back_by_memory(world: World) -> None:
    world.seen.take(batch(entry(3, P), anew=True))
    world.nats.entries["r"] = entry(4, R)
    assert (await world.runs.get("r")).snapshot.status is R  # as a cancel reads it
    assert await world.status() is R


async def test_an_answer_of_nats_that_comes_late_is_not_given_after_a_newer_one(
    world: World,
) -> None:
    world.seen.take(batch(entry(3, P), anew=True, caught_up=False))
    world.nats.entries["r"], world.nats.held = entry(3, P), trio.Event()
    late: list[RunStatus] = []

    async def read() -> None:
        late.append(await world.status())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        await world.nats.asked.wait()
        world.seen.take(batch(entry(4, C)))
        assert await world.status() is C
        # Nothing of it is left but that it was told.
        world.seen.take(batch(*(entry(5 + n, P, f"big{n}", size=9000) for n in range(3))))
        world.nats.entries["r"] = entry(4, C)
        world.nats.held.set()
    assert late == [C]


async def test_a_run_that_came_to_be_during_a_read_is_found(world: World) -> None:
    world.seen.take(batch(anew=True, last=1, caught_up=False))
    world.nats.held = trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.status)
        await world.nats.asked.wait()
        world.nats.entries["r"] = entry(2, P)
        world.seen.take(batch(entry(2, P)))
        world.nats.held.set()


@pytest.mark.parametrize(
    "away", ["not connected", "another connection", "watch ended", "begun anew"]
)
async def test_in_doubt_nats_is_asked(world: World, away: str) -> None:
    world.seen.take(batch(entry(3, P), entry(6, P, "other"), anew=True))
    world.nats.entries["r"] = entry(3, P)
    assert await world.from_memory()
    match away:
        case "not connected":
            world.nats.status = ConnectionStatus(connected=False, epoch=1)
        case "another connection":
            world.nats.status = ConnectionStatus(connected=True, epoch=2)
        case "watch ended":
            world.seen.pause()
        case _:
            world.seen.take(batch(entry(3, P), anew=True, caught_up=False))
    assert not await world.from_memory()
    world.nats.status = ConnectionStatus(connected=True, epoch=world.nats.status.epoch)
    # A projector that was started again reads some of it again, and is relied on when it is as far as before.
    world.seen.take(batch(entry(5, P, "another"), caught_up=True))
    if away != "begun anew":
        assert not await world.from_memory()
    world.seen.take(batch(last=6))
    assert await world.from_memory()


async def test_older_states_that_are_read_again_replace_none(world: World) -> None:
    world.seen.take(batch(entry(3, P), entry(6, C), anew=True))
    world.seen.pause()
    world.seen.take(batch(entry(3, P), caught_up=False))
    world.seen.take(batch(last=6))
    assert await world.status() is C


async def test_a_stalled_watch_is_not_relied_on(world: World, autojump_clock: MockClock) -> None:
    world.seen.take(batch(entry(3, P), anew=True))
    world.nats.entries["r"] = entry(3, P)
    world.seen.note("other", 4)
    assert await world.from_memory()
    await trio.sleep(1.5)
    assert not await world.from_memory()
    world.seen.take(batch(entry(4, P, "other")))
    assert await world.from_memory()


async def test_a_run_that_is_gone_is_not_answered_from_memory(world: World) -> None:
    world.seen.take(batch(entry(3, P), entry(4, P, "gone"), entry(5, C, "old", ttl=-1), anew=True))
    world.seen.take(batch(Deleted("r", 6)))
    world.nats.markers["r"] = 6
    world.seen.forget("gone", 4)
    for run_id in ("r", "gone", "old"):
        with pytest.raises(RunNotFound):
            await world.seen.get(run_id)
    assert world.nats.reads == 3


async def test_a_withdrawn_run_is_gone_at_once(world: World) -> None:
    world.seen.take(batch(entry(3, P), anew=True))
    world.seen.note("r", 4)  # the acknowledgement of its marker
    world.nats.markers["r"] = 4
    for _ in range(2):
        with pytest.raises(RunNotFound):
            await world.seen.get("r")


async def test_a_bucket_that_was_made_again_is_believed_when_the_watch_has_noticed(
    world: World, autojump_clock: MockClock
) -> None:
    world.seen.take(batch(entry(3, P), entry(90, C), anew=True))
    world.seen.note("r", 100)
    world.nats.status = ConnectionStatus(connected=True, epoch=2)
    world.nats.entries["r"] = entry(2, P)
    with pytest.raises(Unanswered):
        await world.seen.get("r")
    answers: list[RunStatus] = []

    async def read() -> None:
        answers.append(await world.status())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        await trio.sleep(1)
        world.seen.take(batch(entry(2, P), anew=True))
    assert answers == [P]
    assert await world.from_memory()


async def test_a_run_of_which_more_is_known_is_not_forgotten(world: World) -> None:
    world.seen.take(batch(entry(3, P), entry(4, P, "other"), anew=True))
    world.seen.forget("other", 3)
    assert await world.from_memory("other")
    world.seen.note("r", 6)  # written anew: an older storage that answers is not believed
    world.seen.forget("r", 3)
    world.nats.entries["r"], world.nats.held = entry(6, R), trio.Event()
    world.nats.held.set()
    assert world.seen._told["r"].revision == 6
    assert await world.status() is R


async def test_what_is_told_while_the_bucket_is_asked_is_believed(world: World) -> None:
    world.seen.take(batch(entry(90, R), anew=True))
    world.seen.note("of another bucket", 200)
    known = world.seen.newest
    # The bucket answers that it is at 100; before that is read, a cancel is acknowledged.
    world.seen.note("r", 301)
    world.seen.disbelieve(100, known)
    assert world.seen.newest == 301
    assert [*world.seen._told] == ["r"]
    world.nats.entries["r"] = entry(301, RunStatus.CANCELLING)
    assert await world.status() is RunStatus.CANCELLING
    world.seen.disbelieve(100, 301)
    assert world.seen.newest == 100
    assert not world.seen._told


async def test_memory_is_bounded(world: World) -> None:
    world.seen.take(batch(anew=True, last=1))
    for number in range(100):
        run_id = f"r{number}"
        world.seen.take(batch(entry(2 + number, P, run_id, size=1000)))
        world.nats.entries[run_id] = entry(2 + number, P, run_id)
        assert await world.from_memory("r0") or number > 5
    kept = [await world.from_memory(f"r{number}") for number in range(100)]
    assert 5 < sum(kept) < 20
    assert kept[99]


async def test_a_watch_that_is_far_behind_costs_no_memory_and_no_truth(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pyoco_server.gateway.seen_runs._MOST_TOLD", 10)
    world.seen.take(batch(entry(1, P), anew=True))
    world.nats.entries["r"] = entry(2, R)
    world.seen.note("r", 2)
    for number in range(3, 30):
        world.seen.note(f"other{number}", number)
    world.seen.take(batch(last=20))
    assert await world.status() is R
    world.seen.take(batch(last=29))
    assert await world.status() is R
    world.seen.take(batch(entry(30, R)))
    assert await world.from_memory()
