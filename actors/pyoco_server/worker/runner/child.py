"""The child process of a slot: executes the runs that its worker sends, one after the other.

User code runs on the main thread, as it would in a program of its own; a thread listens to the
worker meanwhile. Whatever becomes of the worker, the child goes too: the end of its pipe is
the end of the child.
"""

from __future__ import annotations

import contextvars
import errno
import faulthandler
import os
import queue
import random
import signal
import sys
import threading
import traceback
from contextlib import suppress
from pathlib import Path
from typing import Final, NoReturn, assert_never

from msgspec.structs import replace

from pyoco_server.model.errors import NO_THREAD
from pyoco_server.model.run import RunStatus
from pyoco_server.worker.runner import kin, libc, pipe
from pyoco_server.worker.runner.condition import Condition
from pyoco_server.worker.runner.execution import Execution
from pyoco_server.worker.runner.flows import Plugins
from pyoco_server.worker.runner.meter import Meter
from pyoco_server.worker.runner.output import OutputPump, Streams
from pyoco_server.worker.runner.protocol import (
    EXIT_NO_ROOM,
    CancelRun,
    ChildOptions,
    Environment,
    Execute,
    FlowFinished,
    ImportFrom,
    Providers,
    Ready,
    Stop,
    TryStored,
    WorkerMessage,
)
from pyoco_server.worker.runner.resolver import (
    FlowResolver,
    FlowResolverError,
    load_flow_resolver,
)

_OOM_SCORE: Final = "500"


def main(options: ChildOptions) -> NoReturn:
    """Execute runs until the worker says stop or is gone; in a process of its own, with its descriptors."""
    request_descriptor, event_descriptor = pipe.take_over_standard_streams()
    # Ctrl-C in a terminal goes to the worker, which decides what becomes of its runs.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    faulthandler.enable(2)
    libc.adopt_orphans()
    if options.mark is not None:
        kin.bear(options.mark)
    code = 0
    go_first_when_memory_runs_out()
    try:
        if options.group is not None:
            (Path(options.group) / "cgroup.procs").write_text("0")  # itself: cgroups(7)
        os.chdir(options.directory)
        if options.user is not None:
            options.user.become()
        sys.path[:0] = options.extra_sys_path
        _Child(options, request_descriptor, pipe.EventPipe(event_descriptor)).serve()
    except BaseException as error:  # noqa: BLE001 - the last words of this process, on the bare stream
        _print_last_words()
        code = EXIT_NO_ROOM if _is_for_want_of_room(error) else os.EX_SOFTWARE
    # Threads that user code left behind would hold up an ordinary exit.
    os._exit(code)


def _is_for_want_of_room(error: BaseException) -> bool:
    if isinstance(error, OSError):
        return error.errno in (errno.EAGAIN, errno.ENOMEM)
    return isinstance(error, RuntimeError) and str(error) == NO_THREAD


def go_first_when_memory_runs_out() -> None:
    """Have the kernel kill this process and what it starts before others, its worker among them (proc(5))."""
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(_OOM_SCORE)


def _print_last_words() -> None:
    """Print the error in hand where it is read in any case."""
    os.write(2, traceback.format_exc().encode("utf-8", "backslashreplace"))


class _Child:
    def __init__(self, options: ChildOptions, requests: int, events: pipe.EventPipe) -> None:
        self._limits = options.limits
        self._events = events
        self._output = OutputPump(events, options.limits.output_characters)
        self._streams = Streams(self._output, events)
        self._condition = Condition(self._streams)
        self._meter = Meter()
        self._plugins = Plugins(options.limits, options.extra_sys_path)
        self._resolver = _load_resolver(options.flow_resolver)
        self._accepted: dict[str, Execution] = {}
        self._queue: queue.SimpleQueue[Execution | ImportFrom | None] = queue.SimpleQueue()
        listener = threading.Thread(
            target=self._listen, args=(requests,), name="requests", daemon=True
        )
        listener.start()

    def serve(self) -> None:
        """Execute what comes."""
        self._output.flush()
        self._events.send(
            Ready(cpu_sec=self._meter.cpu_sec, memory_bytes=self._condition.resident())
        )
        self._condition.settle()
        while (execution := self._queue.get()) is not None:
            if isinstance(execution, ImportFrom):
                self._import_from(execution.folders)
                continue
            # What code sets in the context, as `decimal` does, is of its run.
            finished = contextvars.copy_context().run(execution.execute)
            del self._accepted[finished.run_id]
            workdir = execution.request.workdir
            # Nothing of the run is held any more when it is looked at what it left.
            del execution
            self._tell_end(finished, workdir)
            del finished
            # Whatever the run made of it; while nobody waits. Of all the bytes that it takes by itself, it
            # takes twice as long.
            random.seed(int.from_bytes(os.urandom(8)))

    def _import_from(self, folders: tuple[str, ...]) -> None:
        sys.path[: len(self._plugins.wheels)] = folders
        self._plugins.wheels = folders
        self._condition.settle()

    def _tell_end(self, finished: FlowFinished, workdir: str | None) -> None:
        try:
            self._condition.restore(failed=finished.status is RunStatus.FAILED, workdir=workdir)
            worn = self._condition.worn
        except Exception as error:  # noqa: BLE001 - a run may have replaced whatever that uses
            worn = f"it cannot be looked at: {type(error).__name__}"
        self._streams.end_run(all_of_c=worn is None)
        left_out = self._output.end()
        self._events.send(
            replace(
                finished,
                output_left_out=left_out,
                worn=worn,
                bound=self._condition.bound,
                usage=self._meter.read(),
            )
        )
        self._meter.forget_peak()

    def _listen(self, requests: int) -> None:
        try:
            for request in pipe.requests(requests):
                self._take(request)
        except BaseException:  # noqa: BLE001 - nobody else hears of it
            _print_last_words()
            os._exit(os.EX_SOFTWARE)
        # The worker is gone, and maybe the guardian with it.
        if self._accepted or kin.have_children():
            kin.end_all()
        os._exit(0)

    def _take(self, request: WorkerMessage) -> None:
        match request:
            case Execute():
                execution = Execution(
                    request,
                    limits=self._limits,
                    resolver=self._resolver,
                    plugins=self._plugins,
                    output=self._output,
                    events=self._events,
                    condition=self._condition,
                    meter=self._meter,
                )
                self._accepted[request.run_id] = execution
                self._queue.put(execution)
            case ImportFrom():
                self._queue.put(request)
            case CancelRun() | Environment() | Providers() | TryStored():
                if accepted := self._accepted.get(request.run_id):
                    accepted.hear(request)
            case Stop():
                for accepted in list(self._accepted.values()):
                    accepted.cancel()
                self._queue.put(None)
            case _:
                assert_never(request)


def _load_resolver(spec: str | None) -> FlowResolver:
    """Return the resolver; one that cannot be loaded fails each run that needs it."""
    if spec is None:
        return _no_flow
    try:
        return load_flow_resolver(spec)
    except FlowResolverError as error:
        traceback.print_exc()
        problem = str(error)

    def refuse(_name: str) -> NoReturn:
        raise FlowResolverError(problem)

    return refuse


def _no_flow(name: str) -> NoReturn:
    raise KeyError(name)
