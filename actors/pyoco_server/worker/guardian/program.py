"""What a guardian does; its worker's side is `pyoco_server.worker.runner.guarded`.

The worker asks for a child by a message on the control socket: what `ChildOptions` say, with the child's five
descriptors. The last of them is the child's line: over it the child tells its process id, with a pidfd, and
the guardian tells at last how the child ended and what it took, or that it could not be made. A line that the
worker closes ends the child.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import gc
import os
import select
import signal
import socket
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Final, Never

import msgspec

from pyoco_server.worker.runner import child, kin, libc
from pyoco_server.worker.runner.meter import KIB
from pyoco_server.worker.runner.protocol import ChildEnd, ChildOptions

LONGEST_REQUEST: Final = 1024 * 1024
_DESCRIPTORS: Final = 5
# A process that was killed is gone at once, unless the kernel itself holds it.
_PATIENCE_SECONDS: Final = 5.0
# What a terminal or a service manager sends is for the worker, and task code of its user may send anything.
_NOT_FOR_IT: Final = (
    signal.SIGINT,
    signal.SIGHUP,
    signal.SIGTERM,
    signal.SIGQUIT,
    signal.SIGALRM,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGTSTP,
)
# What a child has to end by itself, once the worker is gone; one whose code lets no thread run takes it all.
_OWN_SECONDS: Final = 2.0


def main() -> None:
    """Make children until the worker is gone; then end them."""
    for number in _NOT_FOR_IT:
        signal.signal(number, signal.SIG_IGN)
    libc.adopt_orphans()
    gc.collect()
    gc.freeze()  # what is shared with the children stays shared
    _Guardian(socket.socket(fileno=int(sys.argv[1]))).serve()


class _Guardian:
    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._lines: dict[int, socket.socket] = {}
        self._groups: dict[int, Path] = {}
        # How children ended that have left something which may not be gone yet, and when that is told anyway.
        self._ended: list[tuple[socket.socket, ChildEnd, float]] = []
        # What they left, and since when: beyond some seconds, the kernel itself holds it.
        self._orphans: dict[int, float] = {}
        # Their control groups, and until when what is in these is spared where something is.
        self._left: list[tuple[Path, float]] = []
        self._woken, waker = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        os.set_blocking(waker, False)
        signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        self._poll = select.poll()
        self._poll.register(control, select.POLLIN)
        self._poll.register(self._woken, select.POLLIN)

    def serve(self) -> None:
        while True:
            wait = 50 if self._ended else None
            ready = {descriptor for descriptor, _ in self._poll.poll(wait)}
            if self._woken in ready:
                with suppress(BlockingIOError):
                    os.read(self._woken, 4096)
            for pid, line in list(self._lines.items()):
                if line.fileno() in ready:
                    self._hear(pid, line)
            self._look()
            if self._control.fileno() in ready and not self._make_child():
                break
        # A child that notices ends what it started before itself. Killed from here it would leave that to
        # this process, which may be killed as well in the next moment.
        until = time.monotonic() + _OWN_SECONDS
        while kin.has_living_child() and time.monotonic() < until:
            time.sleep(0.01)
        kin.end_children()

    def _make_child(self) -> bool:
        """Make the child that the worker asks for; return whether there is a worker."""
        try:
            request, descriptors, _, _ = socket.recv_fds(
                self._control, LONGEST_REQUEST, _DESCRIPTORS
            )
        except ConnectionError:
            return False
        if not request:
            return False
        options = msgspec.json.decode(request, type=ChildOptions)
        line = socket.socket(fileno=descriptors[-1])
        try:
            pid = os.fork()
        except OSError as error:
            _tell(line, ChildEnd(1, refused=error.errno or errno.EAGAIN))
        else:
            if not pid:
                _become_child(options, descriptors)
            self._lines[pid] = line
            if options.group is not None:
                self._groups[pid] = Path(options.group)
            self._poll.register(line, select.POLLIN)
        for descriptor in descriptors[:-1]:
            os.close(descriptor)
        return True

    def _hear(self, pid: int, line: socket.socket) -> None:
        """Send the child's group the signal that the worker asks for; the line's end is the child's.

        What is no number is the control group that it is in now.
        """
        try:
            said = line.recv(LONGEST_REQUEST)
        except ConnectionError:
            said = b""
        with suppress(ProcessLookupError, PermissionError):
            if said.isdigit():
                os.killpg(pid, int(said))
            elif said:
                self._groups[pid] = Path(os.fsdecode(said))
            else:
                os.kill(pid, signal.SIGKILL)
                self._poll.unregister(line)

    def _look(self) -> None:
        """Take note of children that ended, and end what they left."""
        with suppress(ChildProcessError):
            while (ended := os.wait4(-1, os.WNOHANG))[0]:
                pid, status, taken = ended
                if os.WIFSTOPPED(status):  # it has itself traced; let it go on untraced
                    libc.detach(pid, os.WSTOPSIG(status))
                    continue
                if (line := self._lines.pop(pid, None)) is not None:
                    with suppress(KeyError):
                        self._poll.unregister(line)
                    end = ChildEnd(
                        os.waitstatus_to_exitcode(status),
                        peak_memory_bytes=taken.ru_maxrss * KIB,
                        cpu_sec=round(taken.ru_utime + taken.ru_stime, 6),
                    )
                    self._ended.append((line, end, time.monotonic() + _PATIENCE_SECONDS))
                if (group := self._groups.pop(pid, None)) is not None:
                    self._left.append((group, time.monotonic() + kin.SPARED_SECONDS))
        now = time.monotonic()
        orphans = set(kin.children(os.getpid())) - self._lines.keys()
        self._orphans = {orphan: self._orphans.get(orphan, now) for orphan in orphans}
        spared = {
            orphan for orphan, since in self._orphans.items() if kin.is_spared(orphan, now - since)
        }
        for group, until in [*self._left]:
            if not spared or now > until:
                self._left.remove((group, until))
                with suppress(OSError):  # faster than whatever starts processes in it
                    (group / "cgroup.kill").write_text("1")
        for orphan in orphans - spared:
            kin.kill(orphan)  # it is ours until we wait for it
        self._tell_ends(now)

    def _tell_ends(self, now: float) -> None:
        """Tell how children ended, once nothing is waited for, or this one's end has waited long enough."""
        waiting = any(now <= since + _PATIENCE_SECONDS for since in self._orphans.values())
        untold, self._ended = self._ended, []
        for line, end, until in untold:
            if waiting and now <= until:
                self._ended.append((line, end, until))
            else:
                _tell(line, end)


def _tell(line: socket.socket, end: ChildEnd) -> None:
    with line, suppress(OSError):
        line.send(msgspec.json.encode(end))


def _become_child(options: ChildOptions, descriptors: list[int]) -> Never:
    """Leave everything of the guardian behind but what it has imported."""
    try:
        os.setsid()
        signal.set_wakeup_fd(-1)
        for number in (*_NOT_FOR_IT, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        _place(descriptors)
        with socket.socket(fileno=4) as line:
            pidfd = os.pidfd_open(os.getpid())
            socket.send_fds(line, [str(os.getpid()).encode()], [pidfd])
            os.close(pidfd)
        _rename()
        child.main(options)
    finally:
        os._exit(os.EX_SOFTWARE)


def _place(descriptors: list[int]) -> None:
    """Move descriptors to 0, 1, 2 and so on, where all programs have theirs, and close all others."""
    beyond = [fcntl.fcntl(each, fcntl.F_DUPFD_CLOEXEC, 512) for each in descriptors]
    for number, descriptor in enumerate(beyond):
        os.dup2(descriptor, number, inheritable=number <= 2)
    for path in list(Path("/proc/self/fd").iterdir()):
        if int(path.name) >= len(descriptors):
            with suppress(OSError):  # the one of the listing itself
                os.close(int(path.name))


def _rename() -> None:
    """Show in lists of processes what this one is; see arg_start of proc_pid_stat(5)."""
    fields = Path("/proc/self/stat").read_bytes().rpartition(b")")[2].split()
    start, end = int(fields[45]), int(fields[46])
    if start:
        shown = ctypes.string_at(start, end - start)
        named = shown.replace(b"pyoco_server.worker.guardian", b"pyoco_server.worker.runner")
        ctypes.memmove(start, named.ljust(len(shown), b"\0"), len(shown))
