"""How a worker hears of a child, whatever code in the child does to what they share."""

from __future__ import annotations

import os
import socket

import trio

from pyoco_server.worker.runner.guarded import GuardedProcess
from pyoco_server.worker.runner.inbox import Inbox

WITHIN_SECONDS = 10


class Emptied:
    """A bell that is read by somebody else the moment before the worker would."""

    def __init__(self, inbox: Inbox, bell: int) -> None:
        self._poll = inbox._poll
        self._bell = bell

    def __getattr__(self, name: str) -> object:
        return getattr(self._poll, name)

    def poll(self, timeout: float) -> list[tuple[int, int]]:
        ready = self._poll.poll(timeout)
        os.eventfd_read(self._bell)
        return ready


async def test_each_ring_is_heard_though_code_in_the_child_reads_the_bell() -> None:
    line, guardian = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    line.setblocking(False)
    events, say = os.pipe()
    errors, write = os.pipe()
    bell = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
    inbox = Inbox(GuardedProcess(line), events, errors, bell)
    try:
        inbox.watch_events(more=False)
        inbox._poll = Emptied(inbox, bell)  # type: ignore[assignment]
        with trio.fail_after(WITHIN_SECONDS):
            for _ in range(2):
                os.eventfd_write(bell, 1)
                assert await inbox.wait() == (True, False, False)
    finally:
        inbox.close()
        guardian.close()
        line.close()
        os.close(say)
        os.close(write)
