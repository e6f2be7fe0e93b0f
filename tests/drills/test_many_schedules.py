"""Ten thousand schedules, a thousand of them due in one second: how late their runs are, and what it takes.

Only with ``PYOCO_DRILL_LONG=1``.
"""

from __future__ import annotations

import os
import resource
import statistics
import time
from pathlib import Path

import pytest
import trio

from backend.stage import settings_for
from nats_fixtures import node_in
from pyoco_server.backend import open_backend
from pyoco_server.gateway.new_run import Person
from pyoco_server.gateway.schedules.desk import Wish
from pyoco_server.jetstream.keyvalue import KeyValue
from pyoco_server.model.schedules.schedule import Schedule

ALL, AT_ONCE = 10_000, 1_000
ME = Person()


def every(schedule: Schedule) -> bool:
    return True


@pytest.mark.slow
@pytest.mark.skipif(os.environ.get("PYOCO_DRILL_LONG") != "1", reason="takes minutes")
async def test_a_thousand_of_ten_thousand_schedules_are_due_in_one_second(tmp_path: Path) -> None:
    async with (
        node_in(tmp_path / "nats") as node,
        open_backend(settings_for(tmp_path, nats_url=node.url)) as backend,
    ):
        await backend.wait_ready(within=30)
        desk = backend.schedules
        room = trio.CapacityLimiter(64)
        due = int(await desk.now()) + 90

        async def make(number: int) -> None:
            at = due if number < AT_ONCE else due + 86_400
            wish = Wish({"flow_name": "nobody-executes-it", "at": [at]})
            async with room:
                await desk.create(f"s{number}", wish, ME)

        began = time.perf_counter()
        async with trio.open_nursery() as nursery:
            for number in range(ALL):
                nursery.start_soon(make, number)
        made = time.perf_counter() - began
        assert await desk.now() < due - 5, "the machine was too slow to make them in time"
        began = time.perf_counter()
        assert len(list(desk.listed(None, every))) == ALL
        listed = time.perf_counter() - began
        idle_from, cpu = time.perf_counter(), time.process_time()
        await trio.sleep(min(10.0, due - await desk.now() - 3))
        idle = (time.process_time() - cpu) / (time.perf_counter() - idle_from)
        await trio.sleep(due - await desk.now())
        cpu = time.process_time()
        with trio.fail_after(120):
            while sum(bool(known.progress.ticks) for known in desk.board.all(every)) < AT_ONCE:
                # To look through all of them takes time from what is measured.
                await trio.sleep(3)
        took = time.process_time() - cpu
        ids = {
            known.progress.ticks[0].run_id
            for known in desk.board.all(every)
            if known.progress.ticks
        }
        assert len(ids) == AT_ONCE
        # By the server's clock: not when a run was begun, but when it was there.
        stored = await KeyValue(backend.connection, backend.settings.runs_kv_bucket).all()
        late = sorted(entry.created - due for entry in stored if entry.key in ids)
        p99 = late[int(0.99 * len(late))]
        print(
            f"\nmade in {made:.1f} s, listed in {1000 * listed:.0f} ms, idle {100 * idle:.1f} % of a core; "
            f"late: median {statistics.median(late):.2f} s, p99 {p99:.2f} s, most {late[-1]:.2f} s; "
            f"{took:.1f} s of processor; "
            f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB"
        )
        assert p99 <= float(os.environ.get("PYOCO_DRILL_LATENESS_SEC", "1.0"))
