"""A call that can be stopped: made in a copy of this process, which gives the result back or is killed.

A thread cannot be stopped, so that a task with a time limit gets a process: a copy of this one (fork), which
has the task's code imported, and its arguments. What the task returns and what it puts into ``ctx.scratch``,
``ctx.params``, ``ctx.results`` and its artifacts comes back pickled; all else that it changes is the copy's.

At its time limit the code is asked: `TaskStopped` is raised in it (SIGTERM), so that its ``finally`` blocks
run. A moment later the copy is killed, with all that it started; one that ends before that takes it along.
"""

from __future__ import annotations

import gc
import mmap
import os
import pickle
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from resource import struct_rusage
from typing import Any, Final, NoReturn, Protocol

from pyoco.core.context import Context
from pyoco.core.models import RunContext, RunStatus

from pyoco_server.worker.runner import kin, libc
from pyoco_server.worker.runner.engine.cancel_signal import CancelSignal
from pyoco_server.worker.runner.engine.failure import (
    Failure,
    RemoteError,
    TaskCancelled,
    TaskNotBegun,
    TaskProcessDied,
    TaskTimeout,
    failure_of,
    interrupted,
)
from pyoco_server.worker.runner.engine.task_record import TASK
from pyoco_server.worker.runner.pipe import PieceWriter

GRACE_SECONDS: Final = 1.0
"""What code that was asked to stop has for its clean-up before it is killed."""

_LAST_WORD_SECONDS: Final = 0.2
_READ_BYTES: Final = 256 * 1024
# The places of two flags that a copy sees.
_CANCELLED: Final = 0
_ASKED_TO_STOP: Final = 1


class TaskStopped(BaseException):
    """Raised in the code of a task that has a time limit, when it is over or the run is cancelled."""


class Relay(Protocol):
    """Takes what a copy of this process says, on both sides."""

    def set_out(self, send: Callable[[tuple[Any, ...]], bool]) -> None:
        """In the copy: have what is printed handed to ``send``, which a copy of the copy cannot: False."""

    def arrived(self, message: tuple[Any, ...]) -> None:
        """In this process: take what the copy sent."""

    def ended(self, taken: struct_rusage) -> None:
        """In this process: take what the copy took of the machine."""


def call_apart(
    call: Callable[[], Any],
    *,
    limit: float,
    context: Context,
    stopping: CancelSignal,
    relay: Relay,
    stop_at_cancel: bool,
) -> Any:
    """Return what a call returns that is made in a copy of this process.

    Args:
        call: What to call; it and its result need not be known to pickle beforehand.
        limit: How long it may take, in seconds.
        context: The run's; what the call changes of it is changed here.
        stopping: Tells of a cancel.
        relay: Takes what the copy prints, and what it took.
        stop_at_cancel: Whether a cancel stops the code; else it can see it by ``ctx.is_cancelled``.

    Raises:
        TaskTimeout: It took longer.
        TaskCancelled: A cancel stopped it.
        TaskProcessDied: Its process ended by itself.
        RemoteError: What the call raised.
        TaskNotBegun: No process can be made.
    """
    until = time.monotonic() + limit
    flags = mmap.mmap(-1, 2)
    pid, pipe = _fork(call, context, relay, flags)
    watch = os.pidfd_open(pid)
    process = _Process(pid, watch, flags, relay)

    def on_cancel() -> None:
        with suppress(ValueError):  # it is over already
            flags[_CANCELLED] = 1
        if stop_at_cancel:
            process.ask()

    try:
        with stopping.calling(on_cancel):
            answer = _hear(pipe, watch, relay, until)
            if answer is None:
                process.ask()
                # Whatever it says now, it had its time.
                _hear(pipe, watch, relay, time.monotonic() + GRACE_SECONDS)
                raise TaskTimeout(
                    f"timeout: the task did not end within {limit:g} s and was stopped"
                )
    finally:
        os.close(pipe)
        process.end()
        flags.close()
    match answer:
        case ("returned", result, changes):
            _apply(context, changes)
            return result
        case _ if stop_at_cancel and stopping.asked:
            raise TaskCancelled
        case ("raised", failure):
            raise RemoteError(failure)
        case _:
            raise TaskProcessDied(f"the process of the task {process.ended()}")


def _not_handed_over(error: Exception) -> Failure:
    text = (
        f"the result of a task that has a time limit comes from a process of its own, and cannot be "
        f"handed over: {type(error).__name__}: {error}"
    )
    return Failure(text, ("TypeError",), text)


class _Process:
    """A copy, to be stopped and waited for."""

    def __init__(self, pid: int, watch: int, flags: mmap.mmap, relay: Relay) -> None:
        self._pid = pid
        self._watch = watch
        self._flags = flags
        self._relay = relay
        self._lock = threading.Lock()
        self._status: int | None = None
        self._over = False

    def ask(self) -> None:
        with self._lock:
            if not self._over:
                self._flags[_ASKED_TO_STOP] = 1
                with suppress(ProcessLookupError):
                    signal.pidfd_send_signal(self._watch, signal.SIGTERM)

    def end(self) -> None:
        """Have it be gone, and all that it started where it has not ended by itself."""
        with self._lock:
            self._over = True
        # It says its last word before it exits.
        if not kin.is_readable(self._watch, _LAST_WORD_SECONDS):
            kin.end_with_descendants(self._watch, self._pid)
        with suppress(ChildProcessError):  # code of the flow waits for any process
            _, self._status, taken = os.wait4(self._pid, 0)
            self._relay.ended(taken)
        os.close(self._watch)

    def ended(self) -> str:
        if self._status is None:
            return "ended"
        code = os.waitstatus_to_exitcode(self._status)
        return f"was ended by {kin.signal_name(-code)}" if code < 0 else f"exited with {code}"


def _hear(pipe: int, watch: int, relay: Relay, until: float) -> tuple[Any, ...] | None:
    """Take what the copy says up to its answer; None where that does not come in time, () where it ended.

    Its pipe alone does not tell of its end: whatever it has forked holds that open.
    """
    data = bytearray()
    while True:
        left = until - time.monotonic()
        if left <= 0:
            return None
        ended = watch in kin.readable((pipe, watch), left)
        if not kin.is_readable(pipe):  # looked at after its end: nothing more comes
            if ended:
                return ()
            continue
        read = os.read(pipe, _READ_BYTES)
        if not read:
            return ()
        data += read
        while len(data) >= 8:
            end = 8 + int.from_bytes(data[:8], "big")
            if len(data) < end:
                break
            message: tuple[Any, ...]
            try:
                message = pickle.loads(bytes(data[8:end]))  # noqa: S301 - a copy's of ours
            except Exception as error:  # noqa: BLE001 - unpickling executes code of the flow
                return "raised", _not_handed_over(error)
            del data[:end]
            if message[0] in ("returned", "raised"):
                return message
            relay.arrived(message)


# In the copy -----------------------------------------------------------------------------------


def _fork(
    call: Callable[[], Any], context: Context, relay: Relay, flags: mmap.mmap
) -> tuple[int, int]:
    pipe, theirs = os.pipe()
    _flush()  # else the copy would write it again
    try:
        pid = os.fork()
    except OSError as error:
        os.close(pipe)
        os.close(theirs)
        raise TaskNotBegun(error.errno, error.strerror) from error
    if pid == 0:
        _be_copy(call, context, relay, flags, theirs)
    os.close(theirs)
    return pid, pipe


def _be_copy(
    call: Callable[[], Any], context: Context, relay: Relay, flags: mmap.mmap, pipe: int
) -> NoReturn:
    code = os.EX_SOFTWARE
    try:
        out = _Out(pipe)
        signal.signal(signal.SIGTERM, out.stop)
        libc.adopt_orphans()
        gc.freeze()  # what is the original's is never looked at, and so stays shared
        relay.set_out(out.send)
        _see_cancel(context, flags)
        before = _Before(context)
        try:
            answer: tuple[Any, ...] = ("returned", call(), before.changes(context))
        except BaseException as error:  # noqa: BLE001 - it is told to the other side
            told = error if isinstance(error, Exception) else interrupted(error)
            answer = ("raised", failure_of(told))
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        _flush()
        try:
            out.send(answer)
        except Exception as error:  # noqa: BLE001 - pickling executes code of the flow
            out.send(("raised", _not_handed_over(error)))
        code = 0
    finally:
        try:
            if flags[_ASKED_TO_STOP]:
                kin.end_children()  # the original would adopt them, and they go on beside the next try
        finally:
            os._exit(code)


def _flush() -> None:
    """Hand on what is printed and held back, by C code too."""
    sys.stdout.flush()
    sys.stderr.flush()
    libc.flush()


class _Out:
    """What the copy says: each message whole, whichever threads say something and whatever signal comes."""

    def __init__(self, pipe: int) -> None:
        self._pipe = pipe
        self._writer = PieceWriter()
        self._process = os.getpid()
        self._main = threading.get_ident()
        self._lock = threading.Lock()
        self._sending_here = False
        self._asked = False

    def send(self, message: tuple[Any, ...]) -> bool:
        """Say something; a copy of the copy cannot, nor code that interrupts the saying of something else."""
        if os.getpid() != self._process:
            return False
        body = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
        here = threading.get_ident() == self._main
        if here and self._sending_here:
            return False
        self._sending_here = self._sending_here or here
        try:
            with self._lock:
                self._writer.write((self._pipe, len(body).to_bytes(8, "big")), (self._pipe, body))
        finally:
            if here:
                self._sending_here = False
        if here and self._asked:
            self._asked = False
            raise TaskStopped("the task is to stop")
        return True

    def stop(self, _number: int, _frame: object) -> None:
        """Raise `TaskStopped` in the code, once it is between two messages; it is on the main thread."""
        if self._sending_here:
            self._asked = True
        else:
            raise TaskStopped("the task is to stop")


def _see_cancel(context: Context, flags: mmap.mmap) -> None:
    """Have the run that the copy sees be cancelled when the original is."""
    context._lock = threading.Lock()  # another thread may have held it
    run = context.run_context
    if run is None:
        return

    def status(_run: RunContext) -> RunStatus:
        return RunStatus.CANCELLING if flags[_CANCELLED] else RunStatus.RUNNING

    seen: Any = type("CopiedRun", (RunContext,), {"status": property(status)})
    copied = seen.__new__(seen)
    vars(copied).update(vars(run))
    context.run_context = copied


class _Before:
    """What a context is like before a call."""

    def __init__(self, context: Context) -> None:
        self._pickled = {
            name: {key: _pickled(value) for key, value in getattr(context, name).items()}
            for name in ("scratch", "params")
        }
        self._same = {name: dict(getattr(context, name)) for name in ("results", "artifacts")}

    def changes(self, context: Context) -> dict[str, dict[str, Any]]:
        """Return what is new or other than before."""
        changes: dict[str, dict[str, Any]] = {}
        for name, before in self._pickled.items():
            changes[name] = {
                key: value
                for key, value in getattr(context, name).items()
                if key not in before or before[key] != _pickled(value)
            }
        for name, same in self._same.items():
            changes[name] = {
                key: value
                for key, value in getattr(context, name).items()
                if key not in same or same[key] is not value
            }
        return changes


def _pickled(value: object) -> bytes | None:
    try:
        return pickle.dumps(value)
    except Exception:  # noqa: BLE001 - what cannot be handed over stays as it was
        return None


def _apply(context: Context, changes: Mapping[str, Mapping[str, Any]]) -> None:
    for name, changed in changes.items():
        getattr(context, name).update(changed)
    task = TASK.get()
    if task is not None:
        task[1].artifacts |= {
            name: {"type": saved["type"]} for name, saved in changes["artifacts"].items()
        }
