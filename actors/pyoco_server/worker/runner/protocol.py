"""What a worker and its child process say to each other, and how it is framed.

A frame is the length of a message in four bytes, most significant first, and then the message as
JSON, tagged with its kind. Times are unix seconds.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Annotated, Any, Final, Generic, Literal, TypeAlias, TypeVar

import msgspec

from pyoco_server.model.flow.structure import GraphStructure
from pyoco_server.model.json_text import encode_json
from pyoco_server.model.run import RunStatus, TaskProgress, TaskRecord, TaskState, TryRecord, Usage
from pyoco_server.worker.runner.task_user import TaskUser

EXIT_NO_ROOM: Final = os.EX_OSERR
"""What a child exits with that finds no thread or process for itself."""

MAX_FRAME_BYTES: Final = 64 * 1024 * 1024
"""The longest message; both sides keep far below it, so a longer one is garbage."""

# Of anything that a child counts: every reader of JSON can read it, and floats hold it.
_MOST: Final = 2**53

StreamName: TypeAlias = Literal["stdout", "stderr"]
M = TypeVar("M")
FailureReason: TypeAlias = Literal[
    "flow_not_found", "execution_error", "out_of_memory", "no_threads"
]


class ProtocolError(Exception):
    """Bytes that are no message."""


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What a run may do, and how much of what it makes is sent; the rest is replaced by its size.

    Attributes:
        value_bytes: Of JSON that one output, and the inputs of one task, may have.
        values_bytes: Of JSON that all outputs and inputs of one run may have.
        snapshot_bytes: That the run's snapshot may have, which loses all records when it has more; 0: any.
        result_bytes: Of JSON that one output may have to be kept beside the record that has no room for it.
        results_bytes: The same of all outputs of one run.
        output_characters: That one run may print.
        workflow_bytes: That a flow.yaml may have; a run that brings more fails.
        callables: Which functions a flow.yaml may name (``PYOCO_FLOW_CALLABLES``).
        import_seconds: That the import of a plug-in, or of a module that a flow.yaml names, may take.
        parallel_tasks: How many tasks of a run run at the same time, where its flow says nothing.
    """

    value_bytes: int = 256 * 1024
    values_bytes: int = 8 * 1024 * 1024
    snapshot_bytes: int = 0
    result_bytes: int = 4 * 1024 * 1024
    results_bytes: int = 2 * 1024**3
    output_characters: int = 8 * 1024 * 1024
    workflow_bytes: int = 256 * 1024
    callables: str = "*"
    import_seconds: float = 60.0
    parallel_tasks: int = 8


class ChildOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How a child behaves.

    Attributes:
        directory: Its current directory.
        flow_resolver: ``module:function`` or ``path/file.py:function`` that makes a flow of a
            name; ``None`` for a child that takes only runs which bring their flow.yaml.
        extra_sys_path: Folders to import from, before all others.
        limits: How much it sends.
        user: Whom it becomes before it imports anything of others; None for the worker's own user.
        mark: What it and all that it starts is known by; see `runner.kin`.
        group: The folder of the control group that it joins first; None for that of its guardian.
    """

    directory: str
    flow_resolver: str | None = None
    extra_sys_path: tuple[str, ...] = ()
    limits: Limits = Limits()
    user: TaskUser | None = None
    mark: int | None = None
    group: str | None = None


class Execute(msgspec.Struct, frozen=True, kw_only=True, tag="execute"):
    """Worker to child: execute this run.

    Attributes:
        run_id: The run.
        attempt: Which attempt at it; the flow finds both in ``PYOCO_RUN_ID`` and
            ``PYOCO_RUN_ATTEMPT``.
        flow_name: The flow's name.
        params: The run's params.
        workflow_yaml: The flow.yaml that the run brings; ``None``: the child's resolver knows it.
        env: Further environment variables, for this run only.
        workdir: The current directory of the run, made when missing; ``None``: the worker's own.
        tries_before: The last tries in attempts that were lost or given back, by the key of `TriesTold`.
    """

    run_id: str
    attempt: int
    flow_name: str
    params: dict[str, Any] = msgspec.field(default_factory=dict)
    workflow_yaml: str | None = None
    env: dict[str, str] = msgspec.field(default_factory=dict)
    workdir: str | None = None
    tries_before: dict[str, tuple[TryRecord, ...]] = msgspec.field(default_factory=dict)


class ImportFrom(msgspec.Struct, frozen=True, kw_only=True, tag="import_from"):
    """Worker to child: take these for the folders to import from before all others; before any run."""

    folders: tuple[str, ...]


class CancelRun(msgspec.Struct, frozen=True, kw_only=True, tag="cancel_run"):
    """Worker to child: start no more tasks of this run."""

    run_id: str


class Environment(msgspec.Struct, frozen=True, kw_only=True, tag="environment"):
    """Worker to child: the answer to `EnvironmentNeeded`, without those that are not set.

    The system takes any bytes for a value.
    """

    run_id: str
    values: dict[str, bytes]


class Provider(msgspec.Struct, frozen=True, kw_only=True):
    """What brings tasks that a worker knows without a flow.yaml.

    Attributes:
        kind: A plug-in, or a module of ``PYOCO_DISCOVERY_MODULES``.
        name: Its name.
        value: What is imported: ``module:function`` or a module.
        place: What it is and whose, for people.
        tasks: The names of its tasks.
        problem: What it did instead of bringing any.
    """

    kind: Literal["plugin", "module"]
    name: str
    value: str
    place: str
    tasks: tuple[str, ...] = ()
    problem: str | None = None

    @property
    def key(self) -> str:
        """Tells it from all others."""
        return f"{self.kind} {self.name} {self.value} {self.place}"


class Providers(msgspec.Struct, frozen=True, kw_only=True, tag="providers"):
    """Worker to child: the answer to `ProvidersNeeded`, the more important ones last."""

    run_id: str
    providers: tuple[Provider, ...]


class TryStored(msgspec.Struct, frozen=True, kw_only=True, tag="try_stored"):
    """Worker to child: the answer to a `TriesTold` that begins a try; it is stored, and may begin."""

    run_id: str
    key: str


class Stop(msgspec.Struct, frozen=True, kw_only=True, tag="stop"):
    """Worker to child: cancel what you execute, and exit."""


class Ready(msgspec.Struct, frozen=True, kw_only=True, tag="ready"):
    """Child to worker: the first message; the child has imported what it needs.

    Attributes:
        cpu_sec: The processor time that it has taken so far, in seconds.
        memory_bytes: How much memory it has.
    """

    cpu_sec: float = 0.0
    memory_bytes: int = 0


class EnvironmentNeeded(msgspec.Struct, frozen=True, kw_only=True, tag="environment_needed"):
    """Child to worker: the flow's ``runtime.expose_env`` names these; the handle answers."""

    run_id: str
    names: tuple[str, ...]


class ProvidersNeeded(msgspec.Struct, frozen=True, kw_only=True, tag="providers_needed"):
    """Child to worker: the flow needs a task that it does not define itself; the handle answers.

    Attributes:
        names: Variables that the flow may see, and plug-ins too.
        since: When, on the machine's monotonic clock, they must have been looked at or later.
    """

    run_id: str
    names: tuple[str, ...]
    since: float


class Importing(msgspec.Struct, frozen=True, kw_only=True, tag="importing"):
    """Child to worker: it begins to import this, in case that nothing is told afterwards.

    Attributes:
        place: What and whose it is, for people.
        at: When, on the machine's monotonic clock.
    """

    place: str
    at: float


class Imported(msgspec.Struct, frozen=True, kw_only=True, tag="imported"):
    """Child to worker: a run has imported code.

    Attributes:
        memory_bytes: How much memory came with all such code since the child was ready.
    """

    memory_bytes: int


class FlowStarted(msgspec.Struct, frozen=True, kw_only=True, tag="flow_started"):
    """Child to worker: the flow has these tasks, none of them started, and looks like this."""

    run_id: str
    tasks: dict[str, TaskState]
    structure: GraphStructure | None = None


class TaskChanged(msgspec.Struct, frozen=True, kw_only=True, tag="task_changed"):
    """Child to worker: a task started, is tried again, or ended.

    One that is tried again is RUNNING and its record has the error of the last try.
    """

    run_id: str
    name: str
    record: TaskRecord
    at: float


class TriesTold(msgspec.Struct, frozen=True, kw_only=True, tag="tries_told"):
    """Child to worker: what became of the tries of a task that may be tried again.

    Attributes:
        key: The task, and which iteration and time of it.
        tries: Its last tries; none once it has succeeded.
        begins: Whether the last of them is to begin, and waits for `TryStored`.
    """

    run_id: str
    key: str
    tries: tuple[TryRecord, ...] = ()
    begins: bool = False


class ProgressMade(msgspec.Struct, frozen=True, kw_only=True, tag="progress_made"):
    """Child to worker: how far tasks are, as they say."""

    run_id: str
    progress: dict[str, TaskProgress]


class Output(msgspec.Struct, frozen=True, kw_only=True, tag="output"):
    """Child to worker: printed text, in the order in which it was printed.

    Attributes:
        run_id: The run; ``None`` when none was executed.
        task: The task; ``None`` for what a thread of the flow's own printed, a process that it
            started, or code that writes past ``sys.stdout``.
        stream: Where it was printed to; what was written past ``sys.stdout`` is ``stderr``.
        text: Whole lines, as a rule.
        at: When its beginning was printed.
    """

    run_id: str | None
    task: str | None
    stream: StreamName
    text: str
    at: float


class FlowFinished(msgspec.Struct, frozen=True, kw_only=True, tag="finished"):
    """Child to worker: the last message of a run.

    Attributes:
        run_id: The run.
        status: COMPLETED, FAILED or CANCELLED.
        reason: Of a FAILED run, why, for programs.
        error: Of a FAILED run, what went wrong, for people.
        tasks: The last state of every task; PENDING is one that never started.
        task_records: Of each whose record is not what `TaskChanged` told of it last.
        output_left_out: How many characters it printed beyond what is taken.
        worn: Why the child is not as good as a fresh one any more, so that another has to take its place.
        bound: Whether modules of this flow changed the process when they were imported, as they would in any
            child: this one is still as good as fresh for runs of the same flow.
        usage: What the run took of the machine.
    """

    run_id: str
    status: RunStatus
    reason: FailureReason | None = None
    error: str | None = None
    tasks: dict[str, TaskState] = msgspec.field(default_factory=dict)
    task_records: dict[str, TaskRecord] = msgspec.field(default_factory=dict)
    output_left_out: Annotated[int, msgspec.Meta(ge=0, le=_MOST)] = 0
    worn: str | None = None
    bound: bool = False
    usage: Usage = Usage()


WorkerMessage: TypeAlias = (
    Execute | ImportFrom | CancelRun | Environment | Providers | TryStored | Stop
)
ChildMessage: TypeAlias = (
    Ready | FlowStarted | TaskChanged | TriesTold | ProgressMade | Output | FlowFinished
)
"""What a child has to tell its slot."""
FromChild: TypeAlias = ChildMessage | EnvironmentNeeded | ProvidersNeeded | Importing | Imported
"""What a child has to tell, what is only for the handle included."""


class ChildEnd(msgspec.Struct, frozen=True, omit_defaults=True):
    """Guardian to worker, over the child's line: how a child ended.

    Attributes:
        returncode: Its exit code, negative for a signal.
        peak_memory_bytes: The most memory that it had, since it was told to forget that last.
        cpu_sec: The processor time of its whole life, with what it started and waited for.
        refused: Instead of all this, the ``errno`` for which it could not be made.
    """

    returncode: int
    peak_memory_bytes: int | None = None
    cpu_sec: float | None = None
    refused: int | None = None


# Checkers take the types of decoders from classes only, not from unions.
FROM_WORKER: Final[msgspec.json.Decoder[WorkerMessage]] = msgspec.json.Decoder(WorkerMessage)
FROM_CHILD: Final[msgspec.json.Decoder[FromChild]] = msgspec.json.Decoder(FromChild)


def check(message: FromChild) -> None:
    """Make sure that a message is one of a child, into whose pipe task code can write as well.

    Raises:
        ProtocolError: No child says that, and its worker could not go on with it.
    """
    states: Iterable[TaskState]
    match message:
        case FlowStarted(tasks=tasks):
            states = tasks.values()
        case TaskChanged(record=record):
            states = (record.state,)
        case FlowFinished(status=status, tasks=tasks, task_records=records, usage=usage):
            if not status.terminal:
                raise ProtocolError(f"a run that ends {status}")
            if max(abs(usage.peak_memory_bytes or 0), abs(usage.cpu_sec or 0.0)) > _MOST:
                raise ProtocolError("a run that takes more than there is")
            states = [*tasks.values(), *(record.state for record in records.values())]
        case _:
            return
    if TaskState.SKIPPED in states:  # which is never stored
        raise ProtocolError("a task that is SKIPPED")


def frame(message: WorkerMessage | FromChild) -> bytes:
    """Return the message as it is sent."""
    body = encode_json(message)
    return len(body).to_bytes(4, "big") + body


class Frames(Generic[M]):
    """Puts messages together from the pieces in which a pipe hands them out.

    Args:
        decoder: ``FROM_WORKER`` or ``FROM_CHILD``.
        sender: The same in words, for errors.
    """

    def __init__(self, decoder: msgspec.json.Decoder[M], sender: str) -> None:
        self._decoder = decoder
        self._sender = sender
        self._data = bytearray()

    @property
    def pending(self) -> bool:
        """Whether a message has come in part."""
        return bool(self._data)

    def feed(self, data: bytes) -> list[M]:
        """Take what was read; return the messages that are complete now.

        Raises:
            ProtocolError: One is no message of that side, or longer than any.
        """
        self._data += data
        messages: list[M] = []
        start = 0
        while len(self._data) - start >= 4:
            end = start + 4 + int.from_bytes(self._data[start : start + 4], "big")
            if end - start > MAX_FRAME_BYTES:
                raise ProtocolError(
                    f"a frame of {end - start} bytes; {MAX_FRAME_BYTES} is the most"
                )
            if len(self._data) < end:
                break
            try:
                messages.append(self._decoder.decode(self._data[start + 4 : end]))
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
                raise ProtocolError(f"not a message of a {self._sender}: {error}") from None
            start = end
        del self._data[:start]
        return messages
