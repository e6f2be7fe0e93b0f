"""The asyncio loop inside of trio, and no other.

Importing trio-asyncio takes over asyncio in the whole process: ``asyncio.run`` outside of trio would run on a
loop of trio-asyncio from then on (its ``_loop.py``, ``_TrioPolicy.new_event_loop``). A program that embeds us
and uses asyncio besides keeps asyncio's own loops.
"""

from __future__ import annotations

import asyncio

from trio_asyncio import TrioEventLoop, open_loop
from trio_asyncio._loop import _FakedPolicy

__all__ = ["TrioEventLoop", "open_loop"]

# What trio-asyncio delegates to outside of trio. An attribute of the class is the default of each thread;
# `asyncio.set_event_loop_policy` still sets a thread's own.
setattr(_FakedPolicy, "policy", asyncio.DefaultEventLoopPolicy())  # noqa: B010 - declared as None
