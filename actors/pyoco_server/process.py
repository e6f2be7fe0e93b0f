"""Child processes that end with their owner, however the owner ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress

import trio

# Runs in the child before the program: ask the kernel for SIGKILL when the parent dies, make sure that
# it has not died in between, become the program. PR_SET_PDEATHSIG (1) outlives execve(2); see prctl(2).
_LAUNCHER = """\
import ctypes, os, signal, sys
parent = int(sys.argv[1])
ctypes.CDLL(None).prctl(1, signal.SIGKILL)
if os.getppid() != parent:
    os._exit(1)
os.execvp(sys.argv[2], sys.argv[2:])
"""
_REAP_SECONDS = 5.0


class OwnedProcess:
    """A running child; made by `spawn_owned`.

    It leads a process group of its own, so that `stop` reaches what it started as well.
    """

    def __init__(self, popen: subprocess.Popen[bytes]) -> None:
        self._popen = popen

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._popen.pid

    @property
    def returncode(self) -> int | None:
        """Its exit code, negative for a signal; None while it runs."""
        return self._popen.poll()

    async def wait(self) -> int:
        """Wait for its end and return the exit code. Cancelled, the process goes on."""
        if self._popen.poll() is None:
            # A descriptor for each waiter: trio lets only one task wait for a descriptor.
            pidfd = os.pidfd_open(self.pid)
            try:
                await trio.lowlevel.wait_readable(pidfd)
            finally:
                os.close(pidfd)
        return self._popen.wait()

    def send_signal(self, number: int) -> None:
        """Send a signal to the process; nothing happens when it has ended."""
        self._popen.send_signal(number)

    def kill_group(self) -> None:
        """Send SIGKILL to the process and all that it started in its group."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)

    async def stop(self, grace_seconds: float) -> int:
        """End it: SIGTERM, after ``grace_seconds`` SIGKILL to its whole group; return the exit code.

        Shielded from cancellation, and bounded: a process that got SIGKILL is gone at once, unless the
        kernel itself holds it.
        """
        with trio.CancelScope(shield=True):
            if self.returncode is None:
                self.send_signal(signal.SIGTERM)
                with trio.move_on_after(grace_seconds):
                    await self.wait()
            self.kill_group()
            with trio.move_on_after(_REAP_SECONDS):
                await self.wait()
        code = self.returncode
        return -signal.SIGKILL if code is None else code


def spawn_owned(
    argv: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    cwd: str | os.PathLike[str] | None = None,
    stdin: int | None = None,
    stdout: int | None = None,
    stderr: int | None = None,
    pass_fds: Sequence[int] = (),
) -> OwnedProcess:
    """Start a program that is killed when this process dies.

    Call it on trio's own thread: the kernel's death signal follows the thread that made the child, and
    a helper thread of trio ends after ten idle seconds. It blocks for a few milliseconds.

    Args:
        argv: The program (found in PATH) and its arguments.
        env: Its whole environment; this process's own when None.
        cwd: Its current directory; this process's own when None.
        stdin: As `subprocess.Popen` takes it.
        stdout: As `subprocess.Popen` takes it.
        stderr: As `subprocess.Popen` takes it.
        pass_fds: Descriptors that it inherits.

    Raises:
        OSError: It cannot be started.
    """
    launcher = [sys.executable, "-S", "-E", "-I", "-c", _LAUNCHER, str(os.getpid()), *argv]
    popen = subprocess.Popen(  # noqa: S603 - the caller's own program
        launcher,
        env=None if env is None else dict(env),
        cwd=cwd,
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        pass_fds=tuple(pass_fds),
        start_new_session=True,
    )
    return OwnedProcess(popen)
