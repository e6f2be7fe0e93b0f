"""Processes and what they started: found, and ended.

A process that adopts orphans is the ancestor of all that its children ever started, whatever sessions and
groups that is in. Where all such ancestors were killed at once, a mark is left to know it by: a limit of
resources that nothing needs, inherited by whatever is started, and as good as none.
"""

from __future__ import annotations

import math
import os
import resource
import select
import signal
import sys
import time
import zlib
from collections.abc import Callable, Iterable, Set
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, NoReturn

from pyoco_server.worker.runner import libc

SPARED_SECONDS: Final = 3.0
"""How long what ends by itself is waited for; its interpreter may still be starting."""

# What was killed is gone at once, unless the kernel itself holds it.
_PATIENCE_SECONDS: Final = 5.0
_LOOK_SECONDS: Final = 0.001
_LONGEST_POLL_MS: Final = 86_400_000  # poll(2) takes an int
# Far beyond what any process gets to, in microseconds of RLIMIT_RTTIME of getrlimit(2).
_MARKS: Final = 1 << 61
_MARKS_OF_ONE: Final = 1 << 20


def marks_of(name: str) -> range:
    """Return the marks for what the worker of that name starts."""
    first = _MARKS + zlib.crc32(name.encode()) * _MARKS_OF_ONE
    return range(first, first + _MARKS_OF_ONE)


def bear(mark: int) -> None:
    """Have this process and all that it starts bear a mark, unless it has such a limit already."""
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_RTTIME, (mark, mark))


def end_marked(marks: range) -> None:
    """Kill all processes that bear one of these marks, and wait some seconds at most until they are gone."""
    until = time.monotonic() + _PATIENCE_SECONDS
    while _end_marked(marks) and time.monotonic() < until:
        time.sleep(_LOOK_SECONDS)


def _end_marked(marks: range) -> bool:
    found = False
    for path in Path("/proc").iterdir():
        if not path.name.isdecimal() or (mark := _mark_of(path)) is None:
            continue  # to look for None in a range takes a step for each of its numbers
        if mark in marks and not _is_dead(int(path.name)):
            kill(int(path.name))
            found = True
    return found


def _mark_of(process: Path) -> int | None:
    with suppress(OSError):
        for line in (process / "limits").read_bytes().splitlines():
            if line.startswith(b"Max realtime timeout"):
                limit = line.split()[4]
                return int(limit) if limit.isdigit() else None
    return None


def children(pid: int) -> list[int]:
    """Return the children of a process; none when there is no such process any more."""
    found: list[int] = []
    with suppress(FileNotFoundError, ProcessLookupError):
        for thread in Path(f"/proc/{pid}/task").iterdir():
            with suppress(FileNotFoundError, ProcessLookupError):
                found += map(int, (thread / "children").read_bytes().split())
    return found


def descendants(pid: int) -> set[int]:
    """Return all that a process started and what that started, as of now."""
    found: set[int] = set()
    # Not by calls in each other: a chain of processes may be longer than these can be.
    to_look_at = [pid]
    while to_look_at:
        new = set(children(to_look_at.pop())) - found
        found |= new
        to_look_at += new
    return found


def have_children() -> bool:
    """Return whether this process has a child, be it one that has ended and was not waited for."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def has_living_child() -> bool:
    """Return whether this process has a child that has not ended."""
    return any(not _is_dead(pid) for pid in children(os.getpid()))


def end_children() -> bool:
    """Kill all that this process, which adopts orphans, has started, and wait for it, a few seconds at most.

    Returns whether there was anything that had not ended before.
    """
    any_lived = False
    trackers = _let_trackers_end()
    since = time.monotonic()
    while True:
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return any_lived
        any_lived = True
        taken = time.monotonic() - since
        for pid in children(os.getpid()):
            if not is_spared(pid, taken, trackers):
                kill(pid)
        if taken > _PATIENCE_SECONDS:
            return any_lived
        time.sleep(_LOOK_SECONDS)


def is_spared(pid: int, seconds: float, trackers: Set[int] = frozenset()) -> bool:
    """Whether a process is to end by itself, so many seconds after the others that it belongs to.

    It is a resource tracker, of `multiprocessing` or made like that (loky's): once its owners have ended, it
    removes what they left, such as shared memory, which nobody else would. One of the known ``trackers`` may
    not look like it yet: it was made a moment ago.
    """
    if seconds > SPARED_SECONDS:
        return False
    if pid in trackers:
        return True
    with suppress(OSError):
        return b".resource_tracker import main" in Path(f"/proc/{pid}/cmdline").read_bytes()
    return False


def _let_trackers_end() -> set[int]:
    """Close what tells the resource trackers that this process has started that there is an owner.

    Returns their process ids.
    """
    pids: set[int] = set()
    for name, module in list(sys.modules.items()):
        if name.endswith(".resource_tracker"):
            tracker: Any = getattr(module, "_resource_tracker", None)
            if (descriptor := getattr(tracker, "_fd", None)) is not None:
                pids.add(getattr(tracker, "_pid", 0))
                tracker._fd = None
                with suppress(OSError):
                    os.close(descriptor)
    return pids


def do_in_a_copy(do: Callable[[], NoReturn]) -> NoReturn:
    """Have a copy of this process do something; end as it does, after all that it has started.

    For code of others in a process that has no threads. The copy ends with this process.
    """
    libc.adopt_orphans()
    copy = os.fork()
    if not copy:
        libc.set_death_signal(signal.SIGKILL)
        try:
            do()
        finally:
            os._exit(1)
    _, status = os.waitpid(copy, 0)
    end_children()
    code = os.waitstatus_to_exitcode(status)
    if code < 0:
        # There is one of the copy, where it is wanted.
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        os.kill(os.getpid(), -code)
    os._exit(code)


def end_all() -> NoReturn:
    """End this process, which adopts orphans, and all that it has started and its threads start still.

    A copy of it does that from outside, since this one has to be stopped first.
    """
    process = os.getpid()
    with suppress(OSError):  # there may be no process left
        pidfd = os.pidfd_open(process)
        if not os.fork():
            try:
                end_with_descendants(pidfd, process)
            finally:
                os._exit(0)
        time.sleep(_PATIENCE_SECONDS)
    end_children()
    os._exit(0)


def end_with_descendants(pidfd: int, pid: int, patience_seconds: float = _PATIENCE_SECONDS) -> None:
    """Kill a process that adopts orphans, and before it, all that it started.

    It is stopped first, so that it starts nothing more. Blocks for as long as there is something to kill, at
    most for so many seconds.
    """
    with suppress(ProcessLookupError):
        signal.pidfd_send_signal(pidfd, signal.SIGSTOP)
        until = time.monotonic() + patience_seconds
        own, before = {os.getpid()}, None
        while time.monotonic() <= until:
            found = descendants(pid) - own
            living = {each for each in found if not (_is_dead(each) or is_spared(each, 0.0))}
            if not living and found == before:
                break
            # One that ends while it is looked at gives what it started to this process: look again.
            before = found
            for each in living:
                kill(each)
            if living:
                time.sleep(_LOOK_SECONDS)
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)


def is_readable(descriptor: int, within_seconds: float = 0.0) -> bool:
    """Return whether there is something to read, by then; a pidfd can be read when its process has ended."""
    return bool(readable((descriptor,), within_seconds))


def readable(descriptors: Iterable[int], within_seconds: float) -> set[int]:
    """Return which of these have something to read, as soon as one has; none where none has by then."""
    poll = select.poll()
    for descriptor in descriptors:
        poll.register(descriptor, select.POLLIN)
    found = poll.poll(min(math.ceil(within_seconds * 1000), _LONGEST_POLL_MS))
    return {descriptor for descriptor, _ in found}


def signal_name(number: int) -> str:
    """Return what a signal is called; not each of the real-time ones has a name."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def kill(pid: int) -> None:
    """Kill a process, if it is there and may be killed."""
    with suppress(ProcessLookupError, PermissionError):
        os.kill(pid, signal.SIGKILL)


def _is_dead(pid: int) -> bool:
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return True
    # Its first thread may have ended before others: it goes on (state and num_threads of proc_pid_stat(5)).
    return fields[0] in b"ZX" and int(fields[17]) <= 1
