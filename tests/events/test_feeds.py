"""Following the events of a run, inside of a gateway."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from backend.stage import new_run, running
from pyoco_server.gateway.event_reader import FollowEvents, UnfollowEvents
from pyoco_server.kernel import TapEvent, TapKind

pytestmark = pytest.mark.nats


async def test_a_follower_that_leaves_before_it_is_answered_leaves_nothing_behind(
    tmp_path: Path,
) -> None:
    async with running(tmp_path, worker=False) as backend:
        run = await backend.submit(new_run("quick"))
        closed = trio.Event()

        def listen(event: TapEvent) -> None:
            if event.kind is TapKind.ASKED and isinstance(event.message, FollowEvents):
                scope.cancel()
            if event.kind is TapKind.HANDLED and isinstance(event.message, UnfollowEvents):
                closed.set()

        with backend.system.tap(listen):
            with trio.CancelScope() as scope:
                async with backend.events.follow(run.run_id):
                    raise AssertionError("it was answered")
            assert scope.cancelled_caught
            with trio.fail_after(20):
                await closed.wait()
