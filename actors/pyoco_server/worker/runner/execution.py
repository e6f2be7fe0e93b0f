"""One run in the child: from the flow's code to the last message."""

from __future__ import annotations

import os
import queue
import resource
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from typing import Any, Final, assert_never

from msgspec.structs import replace
from pyoco.core.models import Flow, RunContext
from pyoco.core.models import RunStatus as EngineStatus
from pyoco.core.models import TaskState as EngineTaskState

from pyoco_server.model.artifact import FOLDER
from pyoco_server.model.errors import NO_THREAD
from pyoco_server.model.flow.structure import GraphStructure
from pyoco_server.model.run import RunStatus, TaskRecord, TaskState, TryRecord
from pyoco_server.progress import attach, detach
from pyoco_server.worker.runner.condition import Condition
from pyoco_server.worker.runner.engine.calls import Calls
from pyoco_server.worker.runner.engine.cancel_signal import CancelSignal
from pyoco_server.worker.runner.engine.execute import execute_flow
from pyoco_server.worker.runner.engine.failure import TaskNotBegun, failure_of, says
from pyoco_server.worker.runner.engine.task_record import LiveRecord
from pyoco_server.worker.runner.engine.tries import TaskObserver, Tasks
from pyoco_server.worker.runner.environment import surroundings
from pyoco_server.worker.runner.flows import FlowBuilder, Plugins, Worker, read_flow_file
from pyoco_server.worker.runner.meter import Meter
from pyoco_server.worker.runner.output import OutputPump
from pyoco_server.worker.runner.pipe import EventPipe, end_copy
from pyoco_server.worker.runner.progress import ProgressBook
from pyoco_server.worker.runner.protocol import (
    CancelRun,
    ChildMessage,
    Environment,
    EnvironmentNeeded,
    Execute,
    FailureReason,
    FlowFinished,
    FlowStarted,
    Imported,
    Importing,
    Limits,
    Provider,
    Providers,
    ProvidersNeeded,
    TaskChanged,
    TriesTold,
    TryStored,
)
from pyoco_server.worker.runner.records import RecordBook, error_text
from pyoco_server.worker.runner.resolver import FlowResolver
from pyoco_server.worker.runner.shape import in_order, shape

_CANCELLED: Final = frozenset({EngineStatus.CANCELLING, EngineStatus.CANCELLED})
_STATES: Final = {state: TaskState(state.value) for state in EngineTaskState}


class FlowNotFound(Exception):
    """The resolver knows no flow of that name."""


class Execution(TaskObserver, Worker):
    """Executes one run on the thread that calls `execute`; the other methods are for others.

    Args:
        resolver: Makes the flow where the run brings none.
        plugins: The tasks that the worker knows where the run does.
        condition: Is told when the flow's code is imported.
        meter: Is told what copies of this process took.
    """

    def __init__(
        self,
        request: Execute,
        *,
        limits: Limits,
        resolver: FlowResolver,
        plugins: Plugins,
        output: OutputPump,
        events: EventPipe,
        condition: Condition,
        meter: Meter,
    ) -> None:
        self.request = request
        self._condition = condition
        self._meter = meter
        self._limits = limits
        self._resolver = resolver
        self._plugins = plugins
        self._output = output
        self._events = events
        self._context = RunContext(run_id=request.run_id, params=request.params)
        self._stopping = CancelSignal()
        self._structure: GraphStructure | None = None
        # Tasks whose code has begun.
        self._begun: dict[str, bool] = {}
        self._records = RecordBook(limits, request.workdir, request.params)
        # What the worker was told last, by the names of tasks; iterations of one may tell at the same time.
        self._told: dict[str, TaskRecord] = {}
        self._telling = threading.Lock()
        self._progress = ProgressBook(request.run_id, self._context.tasks, output, events)
        self._environment: queue.SimpleQueue[dict[str, bytes]] = queue.SimpleQueue()
        self._providers: queue.SimpleQueue[tuple[Provider, ...]] = queue.SimpleQueue()
        # Tries that begin once they are stored.
        self._tries: dict[str, threading.Event] = {}

    def cancel(self) -> None:
        """Have no further task or try started; before, during and after the run alike."""
        if self._context.status is EngineStatus.RUNNING:
            self._context.status = EngineStatus.CANCELLING
            self._stopping.ask()

    def hear(self, said: CancelRun | Environment | Providers | TryStored) -> None:
        """Take what the worker says of the run, on the thread that listens to it."""
        match said:
            case CancelRun():
                self.cancel()
            case Environment(values=values):
                self._environment.put(values)
            case Providers(providers=providers):
                self._providers.put(providers)
            case TryStored(key=key):
                if (waiting := self._tries.get(key)) is not None:
                    waiting.set()
            case _:
                assert_never(said)

    def execute(self) -> FlowFinished:
        """Execute the run and tell what happens in it; return its end, which is still to be told."""
        self._output.begin(self.request.run_id)
        self._output.also = self._progress.send_due
        self._output.on_rewritten = self._progress.line
        attach(self._progress.report)
        process = os.getpid()
        error: BaseException | None = None
        try:
            self._run()
        except BaseException as caught:  # noqa: BLE001 - user code may raise anything
            error = caught
        end_copy(process, error)
        detach()
        self._output.also = self._output.on_rewritten = None
        finished = self._finished(error)
        _let_go(error)
        return finished

    # Called by the engine, from the threads that execute tasks ------------------------------------

    def flow_started(self) -> None:
        """Tell the tasks and what the flow looks like."""
        self._send_soon(
            FlowStarted(run_id=self.request.run_id, tasks=self._states(), structure=self._structure)
        )

    def task_running(self, name: str, record: LiveRecord) -> None:
        """Tell that the task starts or is tried again."""
        self._progress.begin(name)
        self._tell(name, self._records.running(record))

    def iteration_ended(self, name: str, record: LiveRecord) -> None:
        """Tell what is known of the task, which goes on."""
        self._tell(name, self._progress.told_in(name, self._records.running(record)))

    def task_ended(self, name: str, record: LiveRecord) -> None:
        """Tell how the task ended, after all that it printed, or that it will not be executed."""
        self._output.end_task(name)
        ended = self._records.ended(name, record, _STATES[record.state])
        self._tell(name, self._progress.told_in(name, ended))

    def try_begins(self, key: str, tries: Sequence[TryRecord]) -> bool:
        """Wait for the worker's word that the try is stored."""
        stored = self._tries[key] = threading.Event()
        try:
            with self._stopping.calling(stored.set):
                self._events.send(
                    TriesTold(run_id=self.request.run_id, key=key, tries=tuple(tries), begins=True)
                )
                stored.wait()
        finally:
            del self._tries[key]
        return not self._stopping.asked

    def try_ended(self, key: str, tries: Sequence[TryRecord]) -> None:
        """Tell what the task's tries came to."""
        self._send_soon(TriesTold(run_id=self.request.run_id, key=key, tries=tuple(tries)))

    # Called by the call of a task that has a process of its own ----------------------------------

    def set_out(self, send: Callable[[tuple[Any, ...]], bool]) -> None:
        """In that process: hand over what is printed and reported."""
        self._output.relay = lambda stream, text: send(("printed", stream, text))

        def report(done: float | None, total: float | None, message: str | None) -> None:
            send(("reported", done, total, message))

        attach(report)

    def arrived(self, message: tuple[Any, ...]) -> None:
        """Take what that process handed over."""
        match message:
            case "printed", stream, text:
                self._output.write(stream, text)
            case "reported", done, total, said:
                self._progress.report(done, total, said)
            case _:  # of nobody that speaks this
                return

    def ended(self, taken: resource.struct_rusage) -> None:
        """Take what that process took."""
        self._meter.note(taken)

    # ---------------------------------------------------------------------------------------------

    def _send_soon(self, message: ChildMessage) -> None:
        """A short run wakes the worker at its end only."""
        self._events.send(message, quietly=True)
        self._output.announce_soon()

    def _tell(self, name: str, record: TaskRecord) -> None:
        with self._telling:
            self._send_soon(
                TaskChanged(run_id=self.request.run_id, name=name, record=record, at=time.time())
            )
            self._told[name] = record

    def _run(self) -> None:
        request = self.request
        variables = {
            **request.env,
            "PYOCO_RUN_ID": request.run_id,
            "PYOCO_RUN_ATTEMPT": str(request.attempt),
        }
        with surroundings(request.workdir, variables):
            flow = self._flow()
            if self._condition.imported():
                self._events.send(Imported(memory_bytes=self._condition.code_bytes), quietly=True)
            order = in_order(flow.tasks)
            self._structure = shape(flow, order)
            self._context.flow_name = flow.name
            calls = Calls(self._stopping, self)
            tasks = Tasks(
                self._context,
                self,
                self._stopping,
                calls,
                tries_before=request.tries_before,
                begun=self._begun,
            )
            try:
                # Wherever the flow's code goes, what it saves comes to lie there.
                saved = None if request.workdir is None else f"{request.workdir}/{FOLDER}"
                execute_flow(flow, order, tasks, self._parallel_tasks(flow), saved)
            finally:
                calls.close()

    def _parallel_tasks(self, flow: Flow) -> int:
        """How many tasks of the flow run at the same time."""
        wanted = getattr(flow, "parallel_tasks", None)
        return self._limits.parallel_tasks if wanted is None else int(wanted)

    def _flow(self) -> Flow:
        request = self.request
        if not request.workflow_yaml:
            try:
                flow = self._resolver(request.flow_name)
            except KeyError as error:
                raise FlowNotFound(f"flow_not_found: {error}") from error
            if not isinstance(flow, Flow):
                raise TypeError(
                    f"the flow resolver gave {flow!r} for {request.flow_name!r}; "
                    "it must return a pyoco Flow"
                )
            return flow
        file = read_flow_file(request.workflow_yaml, self._limits.workflow_bytes)
        if file.expose_env:
            # The flow's modules may look at them as soon as they are imported.
            self._events.send(EnvironmentNeeded(run_id=request.run_id, names=file.expose_env))
            for name, value in self._environment.get().items():
                os.environb[os.fsencode(name)] = value

        flow = FlowBuilder(file, self._plugins, self).build(request.flow_name or "main")
        flow.parallel_tasks = file.parallel_tasks  # type: ignore[attr-defined]
        return flow

    def ask_for_providers(self, since: float) -> tuple[Provider, ...]:
        """Ask the worker for what brings tasks that the flow.yaml does not define."""
        request, limits = self.request, self._limits
        names = read_flow_file(request.workflow_yaml or "", limits.workflow_bytes).expose_env
        self._events.send(ProvidersNeeded(run_id=request.run_id, names=names, since=since))
        return self._providers.get()

    def tell_import(self, place: str) -> None:
        """Tell the worker whose code is imported, in case that it ends the process."""
        self._events.send(Importing(place=place, at=time.monotonic()), quietly=True)

    def _states(self) -> dict[str, TaskState]:
        return {name: _STATES[state] for name, state in self._context.tasks.items()}

    def _reason(self, error: BaseException) -> FailureReason:
        if isinstance(error, FlowNotFound):
            return "flow_not_found"
        if "MemoryError" in failure_of(error).kinds:
            return "out_of_memory"
        no_thread = isinstance(error, RuntimeError) and str(error) == NO_THREAD
        if (no_thread or isinstance(error, TaskNotBegun)) and not self._begun:
            return "no_threads"
        return "execution_error"

    def _finished(self, error: BaseException | None) -> FlowFinished:
        states = self._states()
        untold: dict[str, TaskRecord] = {}
        for name, state in states.items():
            record = self._records.ended(name, self._context.ensure_task_record(name), state)
            record = self._progress.told_in(name, record)
            if record != self._told.get(name):
                untold[name] = record
        finished = FlowFinished(
            run_id=self.request.run_id,
            status=RunStatus.COMPLETED,
            tasks=states,
            task_records=untold,
        )
        if self._context.status in _CANCELLED:
            return replace(finished, status=RunStatus.CANCELLED)
        if error is None:
            return finished
        text, reason = says(error), self._reason(error)
        if reason == "out_of_memory":
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            text = f"out_of_memory: {text}; its process had {peak:.0f} MB at most"
        return replace(
            finished,
            status=RunStatus.FAILED,
            reason=reason,
            error=error_text(text),
        )


def _let_go(error: BaseException | None) -> None:
    """Have the frames in which an error arose, and those before it, keep nothing alive."""
    # One without a traceback has been seen, or was not raised.
    while error is not None and error.__traceback__ is not None:
        traceback.clear_frames(error.__traceback__)
        error.__traceback__ = None
        error = error.__cause__ or error.__context__
