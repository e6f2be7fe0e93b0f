"""Single keys of a person at the terminal, without Enter."""

from __future__ import annotations

import os
import sys
import termios
import tty
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager

import trio


@asynccontextmanager
async def pressed_keys() -> AsyncIterator[AsyncIterator[str] | None]:
    """The keys that are pressed inside of the block; None where nobody can press any.

    Ctrl-C stays a signal. The terminal is as it was after the block.
    """
    if not _has_keyboard():
        yield None
        return
    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    tty.setcbreak(descriptor)
    try:
        async with aclosing(_keys(descriptor)) as keys:
            yield keys
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


def _has_keyboard() -> bool:
    try:
        # A program in the background would be stopped for touching the terminal.
        return sys.stdin.isatty() and os.tcgetpgrp(sys.stdin.fileno()) == os.getpgrp()
    except (OSError, ValueError):
        return False


async def _keys(descriptor: int) -> AsyncGenerator[str, None]:
    while True:
        await trio.lowlevel.wait_readable(descriptor)
        try:
            data = os.read(descriptor, 64)
        except OSError:
            data = b""
        if not data:
            return  # the terminal has gone
        for char in data.decode("utf-8", "replace"):
            yield char
