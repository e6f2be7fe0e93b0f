"""Following the events of a run, inside of a gateway."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path

import pytest
import trio

from backend.stage import ended, new_run, running, worker_options
from pyoco_server.backend import Backend, open_backend
from pyoco_server.gateway.event_reader import Cursor, EventFeed, StoredEvent
from pyoco_server.jetstream.consumer import Message
from pyoco_server.jetstream.follow import CaughtUp, Follower, Reset
from pyoco_server.jetstream.inventory import stream_state
from pyoco_server.jetstream.publish import publish_acked
from pyoco_server.jetstream.stored import purge_subject
from pyoco_server.model.event import (
    StateChanged,
    join_events,
)
from pyoco_server.model.json_text import encode_json
from pyoco_server.model.run import RunStatus

pytestmark = pytest.mark.nats


async def test_a_follower_that_leaves_before_it_is_answered_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    began, closed = trio.Event(), trio.Event()
    real = Follower.messages

    async def watched(follower: Follower) -> AsyncGenerator[Message | CaughtUp | Reset, None]:
        began.set()
        try:
            async with aclosing(real(follower)) as messages:
                async for message in messages:
                    yield message
        finally:
            closed.set()

    monkeypatch.setattr(Follower, "messages", watched)
    async with running(tmp_path, worker=False) as backend:
        run = await backend.submit(new_run("quick"))
        with trio.CancelScope() as scope:
            async with backend.events.follow(run.run_id):
                with trio.fail_after(60):
                    await began.wait()
                scope.cancel()
                await trio.lowlevel.checkpoint()
        assert scope.cancelled_caught
        with trio.fail_after(60):
            await closed.wait()
        with trio.CancelScope() as scope:
            scope.cancel()
            async with backend.events.follow(run.run_id):
                raise AssertionError("it was answered")
        assert scope.cancelled_caught


async def stored(backend: Backend, run_id: str, after: Cursor | None = None) -> list[StoredEvent]:
    async with aclosing(backend.events.stored(run_id, after)) as events:
        return [event async for event in events if isinstance(event, StoredEvent)]


def states(events: list[StoredEvent]) -> list[RunStatus]:
    return [each.event.status for each in events if isinstance(each.event, StateChanged)]


async def read_on(feed: EventFeed) -> list[StoredEvent]:
    """What a follower sees from here to the end of its run."""
    seen: list[StoredEvent] = []
    with trio.fail_after(60):
        while not states(seen[-1:]) or not states(seen[-1:])[0].terminal:
            item = await feed.next()
            assert item is not None
            if isinstance(item, StoredEvent):
                seen.append(item)
    return seen


async def test_the_first_state_is_told_once_whenever_one_looks(tmp_path: Path) -> None:
    """A run that waits has no event stored; its first state comes along with the next one."""
    async with running(tmp_path, worker=False) as backend:
        run_id = (await backend.submit(new_run("quick"))).run_id
        assert (await stream_state(backend.connection, "PYOCO_EVENTS")).messages == 0
        [waiting] = await stored(backend, run_id)
        assert isinstance(waiting.event, StateChanged)
        assert (waiting.event.status, waiting.event.revision) == (RunStatus.PENDING, 1)
        assert waiting.event.at == (await backend.get(run_id)).submitted_at
        assert await stored(backend, run_id, waiting.cursor) == []
        async with (
            backend.events.follow(run_id) as feed,
            backend.events.follow(run_id, waiting.cursor) as behind,
        ):
            with trio.fail_after(60):
                assert await feed.next() == waiting
                assert isinstance(await feed.next(), CaughtUp)
                assert isinstance(await behind.next(), CaughtUp)
            async with open_backend(
                backend.settings_with_node(), gateway=False, worker=worker_options(tmp_path)
            ):
                live = await read_on(feed)
                assert await read_on(behind) == live
                await ended(backend, run_id)
        assert states(live) == [RunStatus.RUNNING, RunStatus.COMPLETED]
        assert await stored(backend, run_id) == [waiting, *live]
        assert await stored(backend, run_id, waiting.cursor) == live
        assert await stored(backend, run_id, live[0].cursor) == live[1:]
        assert await stored(backend, run_id, Cursor.parse("0")) == [waiting, *live]


async def test_a_first_state_that_was_lost_is_told_all_the_same(tmp_path: Path) -> None:
    """Whoever moved the run on may have died before its events were stored."""
    async with running(tmp_path, worker=False) as backend:
        run_id = (await backend.submit(new_run("quick"))).run_id
        subject = f"pyoco.events.{run_id}"
        later = StateChanged(at=2.0, attempt=2, status=RunStatus.RUNNING, revision=7)
        await backend.cancel(run_id)
        await ended(backend, run_id)
        with trio.fail_after(60):
            while not states(await stored(backend, run_id))[-1].terminal:
                await trio.sleep(0.02)
        await purge_subject(backend.connection, "PYOCO_EVENTS", subject)
        await publish_acked(backend.connection, subject, join_events([encode_json(later)]))
        first, second = await stored(backend, run_id)
        assert states([first, second]) == [RunStatus.PENDING, RunStatus.RUNNING]
        assert isinstance(first.event, StateChanged)
        assert first.event.revision < later.revision


async def test_a_run_that_is_cancelled_before_a_worker_has_it_tells_all_its_states(
    tmp_path: Path,
) -> None:
    async with running(tmp_path, worker=False) as backend:
        run_id = (await backend.submit(new_run("quick"))).run_id
        async with backend.events.follow(run_id) as feed:
            await backend.cancel(run_id)
            seen = await read_on(feed)
        assert states(seen) == [RunStatus.PENDING, RunStatus.CANCELLING, RunStatus.CANCELLED]
