"""The descriptors by which a worker hears of a child: what it says, what it writes, and its end."""

from __future__ import annotations

import os
import select
from typing import Final, NamedTuple

import trio

from pyoco_server.worker.runner.guarded import GuardedProcess

READ_BYTES: Final = 65536
"""How much is read at a time."""


class News(NamedTuple):
    """Of what there is something to take up: messages, text on bare descriptors, the process itself."""

    events: bool
    errors: bool
    process: bool


class Inbox:
    """One descriptor to wait for in place of four, so that reading needs no tasks of its own.

    The pipe of the child's messages is looked at when the child rings the bell. Only while it holds more than
    the bell has told of, it is waited for itself; so it is till the first message, for what cannot begin
    rings no bell.

    Args:
        process: The child.
        events: What it says.
        errors: What is written to its bare descriptors.
        bell: The eventfd that it rings.
    """

    def __init__(self, process: GuardedProcess, events: int, errors: int, bell: int) -> None:
        self._process = process
        self._events = events
        self._errors = errors
        self._bell = bell
        self._poll = select.epoll()
        self._readable = {events, errors}
        self._watching_events = True
        self._process_descriptor = process.fileno()
        self._pidfd: int | None = None
        for descriptor in (events, errors, self._process_descriptor):
            self._poll.register(descriptor, select.EPOLLIN)
        # Each ring counts by itself: to read it could block, for code in the child can read it, too.
        self._poll.register(bell, select.EPOLLIN | select.EPOLLET)
        for descriptor in (events, errors):
            os.set_blocking(descriptor, False)

    async def wait(self) -> News:
        """Wait until there is anything to take up. For one task at a time.

        Raises:
            trio.ClosedResourceError: It was closed meanwhile.
        """
        await trio.lowlevel.wait_readable(self._poll.fileno())
        if self._poll.closed:
            raise trio.ClosedResourceError
        ready = {descriptor for descriptor, _ in self._poll.poll(0)}
        return News(
            self._bell in ready or self._events in ready,
            self._errors in ready,
            self._process_descriptor in ready or self._pidfd in ready,
        )

    def look(self) -> None:
        """Take up what became of the process, and what else that is to be learnt from now."""
        self._process.look()
        if self._pidfd is None and (pidfd := self._process.pidfd) is not None:
            # Once: what it means the guardian tells, unless that one was stopped.
            self._poll.register(pidfd, select.EPOLLIN | select.EPOLLONESHOT)
            self._pidfd = pidfd
        if (descriptor := self._process.fileno()) != self._process_descriptor:
            self._poll.unregister(self._process_descriptor)
            self._poll.modify(descriptor, select.EPOLLIN)
            self._process_descriptor = descriptor

    def read_events(self) -> bytes:
        """Read one piece of what the child says; nothing where there is nothing now, or any more."""
        return self._piece(self._events)

    def read_errors(self) -> bytes:
        """Read one piece of what is written to bare descriptors."""
        return self._piece(self._errors)

    def _piece(self, descriptor: int) -> bytes:
        if descriptor not in self._readable:
            return b""
        try:
            data = os.read(descriptor, READ_BYTES)
        except BlockingIOError:
            return b""
        if not data:
            self._give_up(descriptor)
        return data

    def watch_events(self, *, more: bool) -> None:
        """Wait for the pipe itself while it holds more than the bell has told of."""
        if more and not self._watching_events and self._events in self._readable:
            self._poll.register(self._events, select.EPOLLIN)
        elif not more and self._watching_events:
            self._poll.unregister(self._events)
        self._watching_events = more and self._events in self._readable

    def give_up_events(self) -> None:
        """Read no more of what the child says."""
        self._give_up(self._events)

    def _give_up(self, descriptor: int) -> None:
        self._readable.discard(descriptor)
        if descriptor == self._events:
            self.watch_events(more=False)
        else:
            self._poll.unregister(descriptor)

    def close(self) -> None:
        """Close all of them; who waits learns of it."""
        trio.lowlevel.notify_closing(self._poll.fileno())
        self._poll.close()
        for descriptor in (self._events, self._errors, self._bell):
            os.close(descriptor)
