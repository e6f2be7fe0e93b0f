"""A worker's guardian and the children that it makes.

What the guardian itself does is in `pyoco_server.worker.guardian`.
"""

from __future__ import annotations

import itertools
import os
import signal
import socket
import subprocess
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Final

import msgspec
import structlog
import trio

from pyoco_server.worker.runner import kin
from pyoco_server.worker.runner.protocol import ChildEnd, ChildOptions

log = structlog.get_logger(__name__)

_MODULE: Final = "pyoco_server.worker.guardian"
_PATIENCE_SECONDS: Final = 5.0
_LONGEST_WORD: Final = 512


class Guardian:
    """Makes children, in a process that is started when one is needed first and again when it has died.

    Args:
        python: The interpreter.
        env: The environment of that process and of its children.
        marks: For its children, one each, and what they start; None for what is killed in other ways only.
    """

    def __init__(self, python: str, env: Mapping[str, str], *, marks: range | None = None) -> None:
        self._python = python
        self._env = env
        self._marks = iter([]) if marks is None else itertools.cycle(marks)
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None

    def make_child(self, options: ChildOptions, descriptors: Sequence[int]) -> GuardedProcess:
        """Have a child made; blocks for some milliseconds where the guardian has to be started.

        Args:
            options: How it behaves.
            descriptors: The child's, from 0 on.

        Raises:
            OSError: No process can be made.
        """
        mark = next(self._marks, None)
        request = msgspec.json.encode(msgspec.structs.replace(options, mark=mark))
        with ExitStack() as stack:
            line, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            stack.enter_context(line)
            with theirs:
                passed = [*descriptors, theirs.fileno()]
                try:
                    self._ask(request, passed)
                except ConnectionError:
                    log.warning("the guardian of the children has died, starting another one")
                    self._collect()
                    self._ask(request, passed)
            stack.pop_all()
        line.setblocking(False)
        return GuardedProcess(line, mark, self.wake)

    def _ask(self, request: bytes, descriptors: list[int]) -> None:
        if self._control is None:
            self._start()
        assert self._control is not None
        self.wake()
        socket.send_fds(self._control, [request], descriptors)

    def _start(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs, ExitStack() as stack:
            stack.enter_context(ours)
            # -P: without it, -m would put the current directory on the import path.
            argv = [self._python, "-P", "-m", _MODULE, str(theirs.fileno())]
            self._process = subprocess.Popen(  # noqa: S603 - our own program
                argv,
                env=dict(self._env),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
            )
            stack.pop_all()
        self._control = ours

    def _collect(self) -> None:
        """Wait for the process, which has died or is dying."""
        if self._control is not None:
            self._control.close()
            self._control = None
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def wake(self) -> None:
        """Have the process go on, which code of its user may have stopped."""
        if self._process is not None:
            # Not by Popen, which would look what became of it first, and forget it.
            os.kill(self._process.pid, signal.SIGCONT)

    async def close(self) -> None:
        """End it with its children, in a few milliseconds; killed when it does not end within seconds.

        Shielded from cancellation.
        """
        if self._process is None:
            return
        self.wake()
        if self._control is not None:
            self._control.close()
        with trio.CancelScope(shield=True), trio.move_on_after(_PATIENCE_SECONDS):
            pidfd = os.pidfd_open(self._process.pid)
            try:
                await trio.lowlevel.wait_readable(pidfd)
            finally:
                os.close(pidfd)
        self._collect()


class GuardedProcess:
    """A child that a guardian made, or is about to make.

    When it has ended, all that it started is ended first, and then `end` is known.

    Attributes:
        pid: Its process id; 0 until it is known, and when it could not be made.
        pidfd: What is readable when it has ended, be that told or not; None until it is known.
        end: How it ended and what it took; None until then.
        guarded: Whether its guardian lives. It goes on without, and is to be replaced when it can be.
    """

    def __init__(
        self,
        line: socket.socket,
        mark: int | None = None,
        wake_guardian: Callable[[], None] = lambda: None,
    ) -> None:
        self._line = line
        self._wake_guardian = wake_guardian
        self._mark = mark
        self.pidfd: int | None = None
        self.pid = 0
        self.end: ChildEnd | None = None
        self.guarded = True

    @classmethod
    def never_made(cls) -> GuardedProcess:
        """What stands for a child that no guardian could be asked for."""
        line, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with other:
            other.send(msgspec.json.encode(ChildEnd(1)))
        return cls(line)

    def fileno(self) -> int:
        """What is readable when `look` has something to see; another one once it is not `guarded`."""
        return self._line.fileno() if self.guarded or self.pidfd is None else self.pidfd

    def look(self) -> None:
        """Take up what became of it, without waiting."""
        while self.guarded and self.end is None:
            try:
                said, descriptors, _, _ = socket.recv_fds(self._line, _LONGEST_WORD, 1)
            except BlockingIOError:
                if self.pidfd is not None and kin.is_readable(self.pidfd):
                    self._wake_guardian()  # it is about to tell, or was stopped
                return
            except ConnectionError:
                said, descriptors = b"", []
            if descriptors:
                self.pid, self.pidfd = int(said), descriptors[0]
                os.set_inheritable(self.pidfd, False)
            elif said:
                self.end = msgspec.json.decode(said, type=ChildEnd)
            else:
                self.guarded = False
        if self.end is None and (self.pidfd is None or kin.is_readable(self.pidfd)):
            self.end = ChildEnd(-signal.SIGKILL)  # nobody is there to ask
            if self._mark is not None:
                kin.end_marked(range(self._mark, self._mark + 1))

    def has_ended(self) -> bool:
        """Whether it has ended, be that told or not."""
        return self.end is not None or (self.pidfd is not None and kin.is_readable(self.pidfd))

    def join(self, group: str) -> None:
        """Put it, with what it has started, into a control group that ends with it; before it has ended.

        Raises:
            OSError: It cannot be put there.
        """
        for pid in (self.pid, *kin.descendants(self.pid)):
            (Path(group) / "cgroup.procs").write_text(str(pid))
        self._line.send(group.encode())

    def kill(self) -> None:
        """Kill it and all that it started, now; what is left of that goes before `end` is known."""
        if self.end is not None:
            return
        self._wake_guardian()
        if self.pidfd is None:
            with suppress(OSError):  # the guardian kills it as soon as it is made
                self._line.shutdown(socket.SHUT_WR)
        elif self.guarded:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)
        else:
            kin.end_with_descendants(self.pidfd, self.pid)

    def terminate(self) -> None:
        """Send SIGTERM to it and its group."""
        with suppress(OSError):
            if self.guarded:
                self._wake_guardian()
                self._line.send(str(int(signal.SIGTERM)).encode())
            elif self.pidfd is not None:
                signal.pidfd_send_signal(self.pidfd, signal.SIGTERM)

    def close(self) -> None:
        """Let go of it; the guardian kills it if it lives."""
        self._line.close()
        if self.pidfd is not None:
            os.close(self.pidfd)
            self.pidfd = None
