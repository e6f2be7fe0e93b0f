"""Tasks that tell how far they are."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from contextvars import copy_context
from pathlib import Path

import pyoco_server


def fast(count: int = 20_000) -> int:
    for done in range(count + 1):
        pyoco_server.report(done=done, total=count)
    return count


def then_silent(seconds: float = 1.5) -> None:
    pyoco_server.report(done=1, total=3)
    pyoco_server.report(done=2, message="two")
    time.sleep(seconds)


def in_a_thread() -> None:
    thread = threading.Thread(target=lambda: pyoco_server.report(done=7, total=7))
    thread.start()
    thread.join()


def beside(name: str = "") -> None:
    """Two of these run at the same time, each with a thread that has its context."""
    _BOTH.wait(10)
    context = copy_context()
    thread = threading.Thread(target=lambda: context.run(pyoco_server.report, message=name))
    thread.start()
    thread.join()
    threading.Thread(target=lambda: pyoco_server.report(message="whose?")).start()
    _BOTH.wait(10)


_BOTH = threading.Barrier(2)


def one_after_the_other(n: int = 0) -> None:
    """Two iterations beside each other; the second reports when the end of the first is told."""
    _BOTH.wait(10)
    while n and not Path("told").exists():
        time.sleep(0.01)
    if n:
        pyoco_server.report(done=1, total=1)


def odd() -> None:
    pyoco_server.report(done=10**400, total=-(10**400))
    pyoco_server.report(done=float("nan"), total=float("inf"), message="\ud800\x00" * 500)
    for wrong in ("1", [1]):
        try:
            pyoco_server.report(done=wrong)  # type: ignore[arg-type]
        except TypeError:
            continue
        raise AssertionError(wrong)


def late() -> threading.Thread:
    def soon() -> None:
        time.sleep(0.2)
        pyoco_server.report(message="too late")

    thread = threading.Thread(target=soon)
    thread.start()
    thread.join()
    return thread


async def from_a_coroutine() -> None:
    await asyncio.gather(*(_told(done) for done in range(1, 4)))


async def _told(done: int) -> None:
    await asyncio.sleep(0)
    pyoco_server.report(done=done, total=3)


def bar() -> None:
    """As tqdm draws one (4.67, `tqdm.std.tqdm.status_printer`)."""
    for done in range(0, 101, 5):
        sys.stderr.write(f"\r{done:3}%|{'#' * (done // 10):10}| {done}/100")
        sys.stderr.flush()
        time.sleep(0.03)
    sys.stderr.write("\n")
    print("working", end="\r")
    print("       ", end="\r")
    print("done\r\nplain")
    print("half\rnever ended", end="")


def bar_and_report() -> None:
    pyoco_server.report(done=1, message="mine")
    sys.stderr.write("\rtheirs")
    sys.stderr.flush()
