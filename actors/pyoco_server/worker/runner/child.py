"""The child process of a slot: executes the runs that its worker sends, one after the other.

User code runs on the main thread, as it would in a program of its own; a thread listens to the
worker meanwhile. Whatever becomes of the worker, the child goes too: the end of its pipe is
the end of the child.
"""

from __future__ import annotations

import faulthandler
import os
import platform
import queue
import signal
import sys
import threading
import traceback
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Final, NoReturn, assert_never

import msgspec

from pyoco_server.worker.runner import pipe
from pyoco_server.worker.runner.execution import Execution
from pyoco_server.worker.runner.flows import Plugins
from pyoco_server.worker.runner.output import OutputPump, capture
from pyoco_server.worker.runner.protocol import (
    CancelRun,
    ChildOptions,
    Environment,
    Execute,
    Providers,
    Ready,
    Stop,
    WorkerMessage,
)
from pyoco_server.worker.runner.resolver import (
    FlowResolver,
    FlowResolverError,
    load_flow_resolver,
)

_OOM_SCORE: Final = "500"
_EXIT_BROKEN: Final = 70  # EX_SOFTWARE of sysexits.h


def main() -> None:
    """Execute runs until the worker says stop or is gone."""
    request_descriptor, event_descriptor = pipe.take_over_standard_streams()
    # Ctrl-C in a terminal goes to the worker, which decides what becomes of its runs.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    faulthandler.enable(2)
    code = 0
    go_first_when_memory_runs_out()
    try:
        options = msgspec.json.decode(sys.argv[1], type=ChildOptions)
        if options.user is not None:
            options.user.become()
        sys.path[:0] = options.extra_sys_path
        events = pipe.EventPipe(event_descriptor, options.bell)
        _Child(options, request_descriptor, events).serve()
    except BaseException:  # noqa: BLE001 - the last words of this process, on the bare stream
        traceback.print_exc(file=sys.__stderr__)
        code = _EXIT_BROKEN
    # Threads that user code left behind would hold up an ordinary exit.
    os._exit(code)


def go_first_when_memory_runs_out() -> None:
    """Have the kernel kill this process and what it starts before others, its worker among them (proc(5))."""
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(_OOM_SCORE)


class _Child:
    def __init__(self, options: ChildOptions, requests: int, events: pipe.EventPipe) -> None:
        self._limits = options.limits
        self._events = events
        self._output = OutputPump(events, options.limits.output_characters)
        capture(self._output, events)
        self._plugins = Plugins(options.limits, options.extra_sys_path)
        self._resolver, self._resolver_error = _load_resolver(options.flow_resolver)
        self._accepted: dict[str, Execution] = {}
        self._queue: queue.SimpleQueue[Execution | None] = queue.SimpleQueue()
        listener = threading.Thread(
            target=self._listen, args=(requests,), name="requests", daemon=True
        )
        listener.start()

    def serve(self) -> None:
        """Execute what comes."""
        self._output.flush()
        self._events.send(
            Ready(
                pid=os.getpid(),
                python=platform.python_version(),
                pyoco=version("pyoco"),
                resolver_error=self._resolver_error,
            )
        )
        while (execution := self._queue.get()) is not None:
            execution.execute()
            self._accepted.pop(execution.request.run_id, None)

    def _listen(self, requests: int) -> None:
        try:
            for request in pipe.requests(requests):
                self._take(request)
        except BaseException:  # noqa: BLE001 - nobody else hears of it
            traceback.print_exc(file=sys.__stderr__)
            os._exit(_EXIT_BROKEN)
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
                )
                self._accepted[request.run_id] = execution
                self._queue.put(execution)
            case CancelRun(run_id=run_id):
                if accepted := self._accepted.get(run_id):
                    accepted.cancel()
            case Environment(run_id=run_id, values=values):
                if accepted := self._accepted.get(run_id):
                    accepted.give_environment(values)
            case Providers(run_id=run_id, providers=providers):
                if accepted := self._accepted.get(run_id):
                    accepted.give_providers(providers)
            case Stop():
                for accepted in list(self._accepted.values()):
                    accepted.cancel()
                self._queue.put(None)
            case _:
                assert_never(request)


def _load_resolver(spec: str | None) -> tuple[FlowResolver, str | None]:
    """Return the resolver, and what is wrong with it: then it fails each run that needs it."""
    if spec is None:
        return _no_flow, None
    try:
        return load_flow_resolver(spec), None
    except FlowResolverError as error:
        traceback.print_exc()
        problem = str(error)

    def refuse(_name: str) -> NoReturn:
        raise FlowResolverError(problem)

    return refuse, problem


def _no_flow(name: str) -> NoReturn:
    raise KeyError(name)
