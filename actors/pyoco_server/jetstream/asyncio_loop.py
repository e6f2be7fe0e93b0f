"""The asyncio loop inside of trio, and no other.

Importing trio-asyncio takes over asyncio in the whole process: ``asyncio.run`` outside of trio would run on a
loop of trio-asyncio from then on (its ``_loop.py``, ``_TrioPolicy.new_event_loop``). A program that embeds us
and uses asyncio besides keeps asyncio's own loops.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio_asyncio
from trio_asyncio import TrioEventLoop
from trio_asyncio._loop import _FakedPolicy

__all__ = ["TrioEventLoop", "open_loop"]

# What trio-asyncio delegates to outside of trio. An attribute of the class is the default of each thread;
# `asyncio.set_event_loop_policy` still sets a thread's own.
setattr(_FakedPolicy, "policy", asyncio.DefaultEventLoopPolicy())  # noqa: B010 - declared as None


@asynccontextmanager
async def open_loop() -> AsyncIterator[TrioEventLoop]:
    """An asyncio loop for the length of the block.

    Behind each event of a socket trio-asyncio lets its loop handle what that has queued, at the price of two
    turns of tasks (its ``_base.py``, ``_io_task``). Ours is spared them where nothing was queued.
    """
    async with trio_asyncio.open_loop() as loop:
        all_handled = loop.synchronize

        async def synchronize() -> None:
            queue = loop._q_recv.statistics()
            # A loop that does not wait has something in hand, although it is not in the queue any more.
            if queue.current_buffer_used or not queue.tasks_waiting_receive:
                await all_handled()

        setattr(loop, "synchronize", synchronize)  # noqa: B010 - has no type of its own there
        yield loop
