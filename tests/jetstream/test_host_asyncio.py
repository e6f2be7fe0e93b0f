"""A program that has us installed keeps asyncio as it is."""

from __future__ import annotations

import subprocess
import sys

SCRIPT = """
import asyncio
import threading
import pyoco_server.jetstream.connection

async def which():
    print(type(asyncio.get_running_loop()).__module__)

asyncio.run(which())
thread = threading.Thread(target=lambda: asyncio.run(which()))
thread.start()
thread.join()
"""


def test_asyncio_run_uses_its_own_loops() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=60, check=True
    )
    assert ended.stdout.split() == ["asyncio.unix_events"] * 2
