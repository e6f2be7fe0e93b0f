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
# Python ignores SIGPIPE and SIGXFSZ, and what is ignored stays ignored over execve(2).
_LAUNCHER = """\
import ctypes, os, signal, sys
parent = int(sys.argv[1])
ctypes.CDLL(None).prctl(1, signal.SIGKILL)
if os.getppid() != parent:
    os._exit(1)
for number in signal.SIGPIPE, signal.SIGXFSZ:
    signal.signal(number, signal.SIG_DFL)
os.execvp(sys.argv[2], sys.argv[2:])
"""
_REAP_SECONDS = 5.0


class OwnedProcess:
    """A running child; made by `spawn_owned`.

    It leads a process group of its own. When it has ended, by itself or by `stop`, and this process
    learns of it, everything that is left of the group is killed.
    """

    def __init__(self, popen: subprocess.Popen[bytes]) -> None:
        self._popen = popen

    @property
    def pid(self) -> int:
        """Its process id; another process may have it once `returncode` is known."""
        return self._popen.pid

    @property
    def returncode(self) -> int | None:
        """Its exit code, negative for a signal; None while it runs."""
        if self._popen.returncode is None:
            with suppress(ChildProcessError):  # something else in this program reaped it
                if os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
                    return None
                # Before it is reaped: until then nobody else can get this id for a group.
                self.kill_group()
            self._popen.wait()
        return self._popen.returncode

    async def wait(self) -> int:
        """Wait for its end and return the exit code. Cancelled, the process goes on."""
        await trio.lowlevel.checkpoint()
        while (code := self.returncode) is None:
            # A descriptor for each waiter: trio lets only one task wait for a descriptor.
            pidfd = os.pidfd_open(self.pid)
            try:
                await trio.lowlevel.wait_readable(pidfd)
            finally:
                os.close(pidfd)
        return code

    def send_signal(self, number: int) -> None:
        """Send a signal to the process; nothing happens when it has ended."""
        # Not by Popen, which would reap it.
        if self.returncode is None:
            os.kill(self.pid, number)

    def kill_group(self) -> None:
        """Send SIGKILL to the process and all that it started in its group."""
        if self._popen.returncode is None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)

    async def stop(self, grace_seconds: float) -> int:
        """End it: SIGTERM, after ``grace_seconds`` SIGKILL; what is left of its group gets SIGKILL too.

        Returns the exit code.

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

    Only the child itself is killed then; what it started is killed with it in any other case, as long
    as it stays in the child's process group.

    A program that cannot be executed shows as a child that exits with 1 and says why on stderr.

    Args:
        argv: The program (found in PATH) and its arguments.
        env: Its whole environment; this process's own when None.
        cwd: Its current directory; this process's own when None.
        stdin: As `subprocess.Popen` takes it.
        stdout: As `subprocess.Popen` takes it.
        stderr: As `subprocess.Popen` takes it.
        pass_fds: Descriptors that it inherits.

    Raises:
        OSError: No process can be made.
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
