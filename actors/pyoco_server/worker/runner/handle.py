"""A worker's handle on the child process of a slot; the trio side of the protocol."""

from __future__ import annotations

import codecs
import errno
import os
import select
import signal
import time
from collections import deque
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from typing import Any, Final, TypeAlias

import msgspec
import structlog
import trio

from pyoco_server.model.run import Usage
from pyoco_server.worker.runner import kin
from pyoco_server.worker.runner.environment import exposed
from pyoco_server.worker.runner.guarded import GuardedProcess, Guardian
from pyoco_server.worker.runner.inbox import READ_BYTES, Inbox
from pyoco_server.worker.runner.meter import memory_of
from pyoco_server.worker.runner.options import RunnerOptions
from pyoco_server.worker.runner.printed import Allowance
from pyoco_server.worker.runner.protocol import (
    EXIT_NO_ROOM,
    FROM_CHILD,
    ChildEnd,
    ChildMessage,
    Environment,
    EnvironmentNeeded,
    Execute,
    FlowFinished,
    FlowStarted,
    Frames,
    Imported,
    ImportFrom,
    Importing,
    Output,
    ProtocolError,
    Providers,
    ProvidersNeeded,
    Ready,
    Stop,
    WorkerMessage,
    check,
    frame,
)

log = structlog.get_logger(__name__)

_TAIL_CHARACTERS: Final = 4000
_LAST_READS: Final = 16
_REAP_SECONDS: Final = 5.0
_LOOK_SECONDS: Final = 0.01
_UNKNOWN: Final = Usage()
_WANT_OF_ROOM: Final = (errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE)

LAST_WORDS = "; its last words: "
"""What stands in an error before the last output of a process that crashed."""


@dataclass(frozen=True, slots=True)
class Exited:
    """The last event of a child.

    Attributes:
        returncode: Its exit status; negative: the number of the signal that killed it.
        signal: The name of that signal, e.g. ``SIGSEGV``.
        stderr_tail: The end of what it wrote past Python's own streams, where a crash leaves its
            trace.
        importing: Whose code it was importing, as far as it told.
        usage: What it took since the last run that it ended, as far as is known.
        no_room: Whether there was no thread, process or descriptor for what it needs first, and so it has
            executed nothing.
    """

    returncode: int
    signal: str | None
    stderr_tail: str
    importing: str | None = None
    usage: Usage = _UNKNOWN
    no_room: bool = False

    @property
    def text(self) -> str:
        """How it ended, in a sentence for people."""
        how = f"was killed by {self.signal}" if self.signal else f"exited with {self.returncode}"
        if self.importing:
            how += f" while it imported {self.importing}"
        tail = self.stderr_tail.strip()
        return f"the child process {how}" + (f"{LAST_WORDS}{tail}" if tail else "")


RunnerEvent: TypeAlias = ChildMessage | Exited
Spawn: TypeAlias = Callable[..., Any]
"""Runs an async function with its arguments in a task beside the caller."""


async def open_runner(options: RunnerOptions, guardian: Guardian) -> RunnerProcess:
    """Have the guardian start a child. Its first event is `Ready`; it takes messages from the start.

    The child is in the worker's current directory, and that is not on its import path, but for
    ``extra_sys_path``. It is to be stopped with `RunnerProcess.stop`; it dies with this process in any case.

    An interpreter that cannot be started shows as a child that exits at once.

    Raises:
        OSError: No process can be made.
    """
    # Here and not at the end: cancelled, it leaves no child that nobody knows of.
    await trio.lowlevel.checkpoint()
    runner = begin_runner(options, guardian)
    try:
        await runner.made()
    except (trio.Cancelled, OSError):
        await runner.stop(0)
        raise
    return runner


def begin_runner(options: RunnerOptions, guardian: Guardian) -> RunnerProcess:
    """Begin to start a child, without waiting for it to be `RunnerProcess.made`; else as `open_runner`.

    Raises:
        OSError: The guardian cannot be asked for one.
    """
    told = options.for_child()
    with ExitStack() as theirs, ExitStack() as ours:
        bell = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        ours.callback(os.close, bell)
        requests, our_requests = _pipe(theirs, ours)
        our_events, events = _pipe(ours, theirs)
        our_errors, errors = _pipe(ours, theirs)
        try:
            process = guardian.make_child(told, (requests, events, errors, bell))
        except FileNotFoundError as error:
            os.write(errors, f"{type(error).__name__}: {error}\n".encode())
            process = GuardedProcess.never_made()
        ours.pop_all()
    inbox = Inbox(process, our_events, our_errors, bell)
    return RunnerProcess(options, process, our_requests, inbox)


def _pipe(reading: ExitStack, writing: ExitStack) -> tuple[int, int]:
    """Make a pipe; each end is closed with its stack."""
    reader, writer = os.pipe()
    reading.callback(os.close, reader)
    writing.callback(os.close, writer)
    return reader, writer


class RunnerProcess:
    """A child that executes runs. Made by `open_runner`.

    Nothing is read from the child but by `next_event`, so a worker that does not keep up holds the
    child up, and gathers nothing. It looks at the child's messages when the child rings the bell.
    """

    def __init__(
        self, options: RunnerOptions, process: GuardedProcess, requests: int, inbox: Inbox
    ) -> None:
        self._options = options
        self._allowance = Allowance(options.limits.output_characters)
        self._process = process
        self._requests = trio.lowlevel.FdStream(requests)
        self._sending = trio.Lock()
        self._inbox = inbox
        self._frames = Frames(FROM_CHILD, "runner")
        self._decoder = codecs.getincrementaldecoder("utf-8")("backslashreplace")
        self._tail = ""
        self._run_id: str | None = None
        # Processor time that it has told of; None as long as it has told nothing.
        self._cpu_told: float | None = None
        self._importing: Importing | None = None
        # The memory that it had before any run, and how much has come with code of runs.
        self._fresh_bytes: int | None = None
        self._code_bytes = 0
        # Whether it was killed since there was no room to look at what its run needs.
        self._no_room = False
        self._said: deque[ChildMessage | EnvironmentNeeded | ProvidersNeeded] = deque()
        self._exited: Exited | None = None

    @property
    def pid(self) -> int:
        """The child's process id; 0 when it never was made."""
        return self._process.pid

    def kept_bytes(self, *, without_code: bool) -> int:
        """How much more memory it has than when it was fresh, in bytes; 0 as long as that is not known.

        Args:
            without_code: What came with the code that its runs imported does not count.
        """
        if self._fresh_bytes is None:
            return 0
        kept = memory_of({self.pid}, enough=0) - self._fresh_bytes
        return kept - self._code_bytes if without_code else kept

    async def made(self) -> None:
        """Wait until there is a child, or it is known that there will be none.

        Raises:
            OSError: No process can be made.
        """
        while not self.pid and self._process.end is None:
            news = await self._inbox.wait()
            if news.errors:
                self._take_errors()
            self._look()
            if news.events:
                break
        if self._process.end is not None and (refused := self._process.end.refused) is not None:
            raise OSError(refused, os.strerror(refused))

    def has_ended(self) -> bool:
        """Whether it has ended, be that told or not."""
        return self._exited is not None or self._process.has_ended()

    async def adopt(self, options: RunnerOptions) -> bool:
        """Have a child that has executed nothing be as one that was made with these options.

        Returns whether it is: it lives, and what is different does not show in what it has done so far.

        Raises:
            OSError: It was not made, or cannot join the group.
        """
        own, paths = self._options, options.extra_sys_path
        if options != replace(own, group=options.group, extra_sys_path=paths):
            return False
        if paths != own.extra_sys_path and own.flow_resolver is not None:
            return False  # who knows where that came from
        await self.made()
        self._look()
        if self._process.has_ended() or not self._process.guarded:
            return False
        if options.group is not None:
            self._process.join(options.group)
        if paths != own.extra_sys_path:
            await self.send(ImportFrom(folders=options.import_paths))
        self._options = options
        return True

    def tell(self, message: WorkerMessage, spawn: Spawn) -> None:
        """Send a message without waiting: at once, or in a task of its own where the child is slow to read.

        A child that does not read, because its code holds it up, holds up nobody else.
        """
        data = frame(message)
        # The kernel takes so much whole or not at all (pipe(7)).
        if len(data) <= select.PIPE_BUF and not self._sending.locked() and self._exited is None:
            self._expect(message)
            with suppress(BlockingIOError):
                with suppress(BrokenPipeError):
                    os.write(self._requests.fileno(), data)
                return
        spawn(self.send, message)

    async def send(self, message: WorkerMessage) -> None:
        """Send a message, one at a time.

        What is sent to a child that has died is lost. A child that got half a message is killed:
        cancelling this does that.
        """
        self._expect(message)
        async with self._sending:
            try:
                await self._requests.send_all(frame(message))
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                pass
            except trio.Cancelled:
                self.kill()
                raise

    def _expect(self, message: WorkerMessage) -> None:
        if isinstance(message, Execute):
            if self._exited is None:
                self._take_all(self._take_errors)  # it belongs to no run, or the one before
            self._run_id = message.run_id
            self._allowance.renew()
            self._tail = ""

    def kill(self) -> None:
        """Kill the child and all that it started, now."""
        self._process.kill()

    def terminate(self) -> None:
        """Send SIGTERM to the child and the processes that it started, which they may handle."""
        self._process.terminate()

    async def stop(self, grace_seconds: float) -> None:
        """Have the child cancel its run and exit; kill it after that many seconds.

        Events that are not read yet can still be read. Cancelled, it kills at once.
        """
        if self._exited is not None:
            return
        try:
            with trio.move_on_after(grace_seconds):
                await self.send(Stop())
                await self._ended()
        finally:
            if self._exited is None:
                self.kill()
                with trio.move_on_after(_REAP_SECONDS, shield=True):
                    await self._ended()
                self._wind_up()

    async def _ended(self) -> None:
        """Wait for the end of the child and of all that it started."""
        while self._exited is None and self._process.end is None:
            try:
                # A descriptor for each waiter: trio lets only one task wait for a descriptor.
                descriptor = os.dup(self._process.fileno())
            except OSError:  # none is left
                await trio.sleep(_LOOK_SECONDS)
            else:
                try:
                    await trio.lowlevel.wait_readable(descriptor)
                finally:
                    os.close(descriptor)
            self._look()

    async def next_event(self) -> RunnerEvent:
        """Wait for the next event; at last it is `Exited`, again and again. For one task at a time.

        Cancelling it loses nothing.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        while True:
            while self._said:
                event = self._said[0]
                if isinstance(event, EnvironmentNeeded):
                    shown = exposed(event.names, self._options.environ)
                    values = {name: os.fsencode(value) for name, value in shown.items()}
                    self._said.popleft()
                    await self.send(Environment(run_id=event.run_id, values=values))
                elif isinstance(event, ProvidersNeeded):
                    await self._tell_providers(event)
                    self._said.popleft()
                else:
                    self._said.popleft()
                    return event
            if self._exited is not None:
                return self._exited
            await self._read()

    async def _tell_providers(self, needed: ProvidersNeeded) -> None:
        """Have plug-ins looked at and tell of them, as long as there is somebody to be told.

        Where they cannot be looked at the child is killed, which has executed nothing of the run yet.
        """
        try:
            async with trio.open_nursery() as nursery:

                async def not_longer_than_the_child() -> None:
                    await self._ended()
                    nursery.cancel_scope.cancel()

                nursery.start_soon(not_longer_than_the_child)
                found = await self._options.catalog.find(
                    self._options.plugin_query(needed.names), needed.since
                )
                await self.send(Providers(run_id=needed.run_id, providers=found))
                nursery.cancel_scope.cancel()
        except* OSError as errors:
            error = errors.exceptions[0]
            log.warning("runner killed: plug-ins not looked at", pid=self.pid, reason=str(error))
            self._tail = f"{self._tail}\nplug-ins cannot be looked at: {error}"
            self._no_room = isinstance(error, OSError) and error.errno in _WANT_OF_ROOM
            self.kill()

    async def _read(self) -> None:
        """Wait until the child said or wrote something or died, and take that up."""
        try:
            news = await self._inbox.wait()
        except trio.ClosedResourceError:
            assert self._exited is not None  # stop() has taken everything up
            return
        if news.errors:
            self._take_errors()
        if news.events:
            self._take_events()
        if news.process:
            self._look()
            if self._process.end is not None:
                self._wind_up()

    def _look(self) -> None:
        """Take up what became of the child."""
        if self._exited is None:
            self._inbox.look()

    def _take_events(self) -> bool:
        """Take up one piece of what the child said; return whether there was any."""
        data = self._inbox.read_events()
        if not data:
            return False
        try:
            messages = self._frames.feed(data)
            for message in messages:
                check(message)
        except ProtocolError as error:
            log.warning(
                "runner killed: its messages make no sense", pid=self.pid, reason=str(error)
            )
            self._tail = f"{self._tail}\n{error}"
            self._inbox.give_up_events()
            self.kill()
            return False
        self._inbox.watch_events(more=self._frames.pending or len(data) == READ_BYTES)
        for message in messages:
            if isinstance(message, Importing):
                self._importing = message
                continue
            if isinstance(message, Imported):
                self._code_bytes = message.memory_bytes
                continue
            if isinstance(message, FlowStarted | FlowFinished):
                self._importing = None
            if isinstance(message, Ready):
                self._cpu_told, self._fresh_bytes = message.cpu_sec, message.memory_bytes
            if isinstance(message, FlowFinished):
                self._cpu_told = (self._cpu_told or 0.0) + (message.usage.cpu_sec or 0.0)
                self._take_all(self._take_errors)  # it belongs to the run
                self._take_text(self._decoder.decode(b"", final=True))
                self._run_id = None
                message = msgspec.structs.replace(  # noqa: PLW2901
                    message,
                    output_left_out=message.output_left_out + self._allowance.renew(),
                    worn=message.worn if self._process.guarded else "it has lost its guardian",
                )
            self._said.append(message)
        return True

    def _take_errors(self) -> bool:
        """Take up one piece of what was written to bare descriptors, as output of no task."""
        data = self._inbox.read_errors()
        self._take_text(self._decoder.decode(data))
        return bool(data)

    def _take_text(self, text: str) -> None:
        self._tail = (self._tail + text)[-_TAIL_CHARACTERS:]
        if text := self._allowance.take(text):
            self._said.append(
                Output(run_id=self._run_id, task=None, stream="stderr", text=text, at=time.time())
            )

    def _take_all(self, take: Callable[[], bool]) -> None:
        # Bounded, for a process that the flow started may write without end.
        for _ in range(_LAST_READS):
            if not take():
                break

    def _imported_last(self) -> str | None:
        if self._importing is None:
            return None
        limit = self._options.limits.import_seconds
        late = time.monotonic() - self._importing.at >= limit
        return self._importing.place + (f", which did not end within {limit:g} s" if late else "")

    def _wind_up(self) -> None:
        """Take up the last that the dead child said, and close everything."""
        if self._exited is not None:
            return
        self._take_all(self._take_errors)
        self._take_all(self._take_events)
        # Where it has not ended yet, the kernel itself holds it; SIGKILL is on its way.
        end = self._process.end or ChildEnd(-signal.SIGKILL)
        code = end.returncode
        cpu_sec = None if end.cpu_sec is None else max(0.0, end.cpu_sec - (self._cpu_told or 0.0))
        self._exited = Exited(
            code,
            kin.signal_name(-code) if code < 0 else None,
            self._tail,
            self._imported_last(),
            Usage(peak_memory_bytes=end.peak_memory_bytes, cpu_sec=cpu_sec),
            no_room=self._no_room or (code == EXIT_NO_ROOM and self._cpu_told is None),
        )
        self._inbox.close()
        self._requests.close()
        self._process.close()
