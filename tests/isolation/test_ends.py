"""What a process has started ends with it, also what changes its parent at that very moment."""

from __future__ import annotations

import inspect
import os
import signal
import subprocess
import sys
import time

import pytest

from isolation.families import is_alive
from pyoco_server.worker.runner import kin

_ADOPTS = """\
import subprocess, time
from pyoco_server.worker.runner import libc
libc.adopt_orphans()
between = subprocess.Popen(["sh", "-c", "sleep 600 & echo $!; wait"], stdout=subprocess.PIPE)
print(between.pid, between.stdout.readline().decode(), flush=True)
time.sleep(600)
"""


def test_nothing_escapes_by_the_end_of_its_parent_while_it_is_looked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    children = kin.children
    with subprocess.Popen(
        [sys.executable, "-c", _ADOPTS], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        between, below = map(int, process.stdout.readline().split())

        def as_it_ends(pid: int) -> list[int]:
            found = list(children(pid))
            if pid == process.pid and below not in found:
                os.kill(between, signal.SIGKILL)
                until = time.monotonic() + 30
                while below not in children(process.pid):
                    assert time.monotonic() < until
                    time.sleep(0.001)
            return found

        monkeypatch.setattr(kin, "children", as_it_ends)
        pidfd = os.pidfd_open(process.pid)
        kin.end_with_descendants(pidfd, process.pid, 30)
        os.close(pidfd)
        assert process.wait(30) == -signal.SIGKILL
        until = time.monotonic() + 30
        while is_alive(below):
            assert time.monotonic() < until, "it lives on"
            time.sleep(0.01)


_LOSES_ITS_FIRST_THREAD = """\
import ctypes, threading, time
threading.Thread(target=time.sleep, args=(600,)).start()
ctypes.CDLL(None).pthread_exit(None)
"""
_HAS_SUCH_A_CHILD = f"""\
import subprocess, sys, time
from pathlib import Path
from pyoco_server.worker.runner import kin, libc
libc.adopt_orphans()
kin.bear(int(sys.argv[1]))
child = subprocess.Popen([sys.executable, "-c", {_LOSES_ITS_FIRST_THREAD!r}])
until = time.monotonic() + 30
while Path(f"/proc/{{child.pid}}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
    assert time.monotonic() < until
    time.sleep(0.001)
print(child.pid, kin.has_living_child(), flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize("way", ["with its parent", "by its mark"])
def test_what_goes_on_without_its_first_thread_is_no_dead_process(way: str) -> None:
    marks = kin.marks_of(f"test {os.getpid()}")
    with subprocess.Popen(
        [sys.executable, "-c", _HAS_SUCH_A_CHILD, str(marks[0])], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        child, lives = process.stdout.readline().split()
        pidfd = os.pidfd_open(int(child))
        if way == "with its parent":
            parent = os.pidfd_open(process.pid)
            kin.end_with_descendants(parent, process.pid, 30)
            os.close(parent)
        else:
            process.kill()
            process.wait(30)
            kin.end_marked(marks)
        ended = kin.is_readable(pidfd, 30)
        kin.kill(int(child))
        os.close(pidfd)
        assert (lives, ended) == ("True", True)


_STARTS_ITSELF = """\
import os, sys, time
for _ in range({depth}):
    if os.fork():
        os.wait()
        os._exit(0)
print(flush=True)
time.sleep(600)
"""


def test_a_chain_of_processes_may_be_longer_than_calls_can_be_nested() -> None:
    depth = 150
    code = _STARTS_ITSELF.format(depth=depth)
    with subprocess.Popen([sys.executable, "-S", "-c", code], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        limit = sys.getrecursionlimit()
        try:
            sys.setrecursionlimit(len(inspect.stack(0)) + 100)
            found = kin.descendants(process.pid)
        finally:
            sys.setrecursionlimit(limit)
            for pid in kin.descendants(process.pid):
                kin.kill(pid)
        assert len(found) == depth
