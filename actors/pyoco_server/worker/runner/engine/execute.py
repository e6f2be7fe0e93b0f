"""Executes a flow of the engine's (pyoco 0.8) objects, by what the flow says.

The engine's own `Engine` is not used: docs/explanation/engine.md tells what is done alike, and what beyond.
Tasks that nothing can run beside are executed on the thread that calls, others in a pool of threads.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from queue import SimpleQueue

from pyoco.core.context import Context
from pyoco.core.models import Flow, RunContext, RunStatus, Task, TaskState

from pyoco_server.worker.runner.engine.policies import policy_of
from pyoco_server.worker.runner.engine.pool import Pool
from pyoco_server.worker.runner.engine.program import FlowProgram
from pyoco_server.worker.runner.engine.task_context import TaskContext
from pyoco_server.worker.runner.engine.tries import RunCancelled, Tasks


def execute_flow(
    flow: Flow,
    order: Sequence[str],
    tasks: Tasks,
    parallel_tasks: int,
    artifact_dir: str | None = None,
) -> Context:
    """Execute a flow; keep its run's status, states and records. Return what its tasks made of its context.

    Args:
        flow: The flow; neither it nor its tasks are changed.
        order: Its tasks, each after those that it waits for.
        tasks: Executes the tasks of its run, which may be cancelled already, or by another thread.
        parallel_tasks: How many tasks run at the same time, at most.
        artifact_dir: Where they save files; None for the current directory's folder of artifacts.

    Raises:
        Exception: A task failed whose failure ends the run, or the flow is none that can be executed.
    """
    run = tasks.run
    by_name = {task.name: task for task in flow.tasks}
    context = TaskContext(params=run.params, run_context=run, artifact_dir=artifact_dir)
    tasks.begin(order)
    in_steps = flow.has_control_flow()
    # The thread that calls takes iterations of loops, but waits for the tasks of a graph.
    with Pool(parallel_tasks - in_steps) as pool:
        try:
            if in_steps:
                FlowProgram(tasks, pool).execute(flow.build_program(), context)  # type: ignore[no-untyped-call]
            else:
                _Graph([by_name[name] for name in order], tasks, context, pool).execute()
        except RunCancelled:
            pass
        except BaseException:
            if run.status is RunStatus.RUNNING:
                run.status = RunStatus.FAILED
            raise
    if run.status is RunStatus.RUNNING:
        run.status = RunStatus.COMPLETED
    else:
        _cancel_pending(run)
    return context


def _cancel_pending(run: RunContext) -> None:
    run.status = RunStatus.CANCELLED
    for name, state in run.tasks.items():
        if state is TaskState.PENDING:
            run.tasks[name] = run.ensure_task_record(name).state = TaskState.CANCELLED


class _Graph:
    """Tasks that each start when those before them ended."""

    def __init__(self, order: Sequence[Task], tasks: Tasks, context: Context, pool: Pool) -> None:
        self._tasks = tasks
        self._context = context
        self._pool = pool
        self._ready: deque[Task] = deque()
        # By names: to hash a task is a call each time.
        self._waits: dict[str, int] = {}
        self._any: set[str] = set()
        self._after: dict[str, list[Task]] = {}
        for task in order:
            if task.dependencies and policy_of(task).trigger == "any":
                self._any.add(task.name)
            self._waits[task.name] = len(task.dependencies)
            for before in task.dependencies:
                self._after.setdefault(before.name, []).append(task)
            if not task.dependencies:
                self._ready.append(task)

    def execute(self) -> None:
        """Execute them all.

        Raises:
            RunCancelled: Not all.
            Exception: One failed whose failure ends the run; what ran beside it has ended.
        """
        done: SimpleQueue[tuple[Task, bool | BaseException]] = SimpleQueue()
        running = 0
        error: BaseException | None = None
        while True:
            if self._tasks.cancelled or error is not None:
                self._ready.clear()
            if len(self._ready) == 1 and not running:
                task = self._ready.popleft()
                self._settle(task, self._tasks.execute(task, self._context))
                continue
            while self._ready and running < self._pool.size and error is None:
                task = self._ready.popleft()
                try:
                    self._start(task, done)
                except RuntimeError as no_thread:
                    error = no_thread
                else:
                    running += 1
            if not running:
                break
            task, outcome = done.get()
            running -= 1
            if isinstance(outcome, BaseException):
                error = error or outcome
            else:
                self._settle(task, outcome)
        if error is not None:
            raise error
        if self._tasks.cancelled:
            raise RunCancelled
        if self._waits:
            raise RuntimeError("Deadlock or cycle detected in workflow")

    def _start(self, task: Task, done: SimpleQueue[tuple[Task, bool | BaseException]]) -> None:
        def call() -> None:
            try:
                done.put((task, self._tasks.execute(task, self._context)))
            except BaseException as error:  # noqa: BLE001 - it is raised where it is waited for
                done.put((task, error))

        self._pool.start(call)

    def _settle(self, task: Task, succeeded: bool) -> None:
        """See to what waits for a task that has ended, or will not be executed."""
        if self._tasks.cancelled:
            return  # what waits still is cancelled, not skipped
        ended = [(task, succeeded)]
        while ended:
            task, succeeded = ended.pop()
            del self._waits[task.name]
            for after in self._after.get(task.name, ()):
                left = self._waits.get(after.name, 0) - 1
                if left < 0:
                    continue  # it is ready or has started, or will not
                any_of = after.name in self._any
                if succeeded == any_of:
                    left = 0  # one is enough: to start, or not to
                self._waits[after.name] = left
                if left > 0:
                    continue
                if succeeded:
                    self._ready.append(after)
                else:
                    self._tasks.skip(after)
                    ended.append((after, False))
