# Written by tests/contract/answer_types.py from what routes answer with; `uv run poe client` writes it.
"""What the client gives: each a plain dict, with the fields of the struct that the gateway answers with.

What it takes by name is here as well. A field that is `NotRequired` is not always there. Fields and words may
come with later versions.
"""

from __future__ import annotations

from typing import Any, Literal, NotRequired, TypeAlias, TypedDict


class ActorNodeDict(TypedDict):
    """An actor or supervisor and what stands below it. Times are seconds."""

    path: str
    kind: str
    state: str
    incarnation: int
    restarts: int
    up_seconds: float | None
    last_error: str | None
    last_error_age_seconds: float | None
    strategy: NotRequired[str]
    mailbox_depth: NotRequired[int]
    mailbox_capacity: NotRequired[int]
    waiting_senders: NotRequired[int]
    messages: NotRequired[int]
    refusals: NotRequired[int]
    busy_seconds: NotRequired[float]
    seconds_per_message: NotRequired[float | None]
    longest_seconds: NotRequired[float]
    children: list[ActorNodeDict]


class ActorTreeDict(TypedDict):
    """The supervision tree."""

    tree: ActorNodeDict


class ArtifactDict(TypedDict):
    """A file that was kept."""

    name: str
    size_bytes: int
    sha256_hex: str
    task: str | None


class AttemptRecordDict(TypedDict):
    """An attempt that ended without ending its run. Times are unix seconds."""

    attempt: int
    worker_id: str | None
    started_at: float | None
    ended_at: float | None
    reason: str | None
    error: str | None
    peak_memory_bytes: int | None
    cpu_sec: float | None


class BackfillAnswerDict(TypedDict):
    """What a backfill does."""

    items: list[FilledTickDict]
    dry_run: bool
    more: bool


class BatchAnswerDict(TypedDict):
    """What became of a batch."""

    accepted: int
    rejected: int
    items: list[BatchOutcomeDict]


class BatchOutcomeDict(TypedDict):
    """What became of a run of a batch: it was accepted, or else there is an error."""

    run_id: NotRequired[str]
    status: NotRequired[RunStatusWord]
    state: NotRequired[RunStateWord]
    scheduled_for: NotRequired[float]
    replayed: NotRequired[bool]
    error: NotRequired[dict[str, Any]]


CalendarDict = TypedDict(
    "CalendarDict",
    {
        "from": "float",
        "to": "float",
        "items": "list[CalendarItemDict]",
        "next_cursor": "str | None",
    },
)


class CalendarItemDict(TypedDict):
    """The ticks of one schedule to come."""

    schedule_id: str
    name: str
    flow_name: str
    timezone: str
    paused: bool
    ticks: list[ScheduledTickDict]
    more: bool
    problem: str | None


CatchUpWord: TypeAlias = Literal["none", "last", "all"]


class CheckedFlowDict(TypedDict):
    """What a flow.yaml says."""

    graph: GraphStructureDict
    defaults: dict[str, Any]
    tasks: dict[str, TaskConfigDict]
    unlisted: list[str]
    sha256: str
    bytes: int
    findings: list[FlowFindingDict]


class DeadLetterDroppedDict(TypedDict):
    """A dead letter that is gone."""

    seq: int
    deleted: bool


class DeadLetterItemDict(TypedDict):
    """A dead letter as it is stored."""

    timestamp: float
    reason: str
    error: str | None
    run_id: NotRequired[str | None]
    flow_name: NotRequired[str | None]
    tag: NotRequired[str | None]
    tags: NotRequired[list[str] | None]
    tenant_id: NotRequired[str | None]
    api_key_id: NotRequired[str | None]
    worker_id: NotRequired[str | None]
    num_delivered: NotRequired[int | None]
    subject: NotRequired[str | None]
    payload: NotRequired[str | None]
    params: NotRequired[dict[str, Any] | None]
    workflow_yaml_sha256: NotRequired[str | None]
    workflow_yaml_bytes: NotRequired[int | None]
    timeout_sec: NotRequired[float | None]
    max_attempts: NotRequired[int | None]
    retry_backoff_sec: NotRequired[float | None]
    memory_mb: NotRequired[int | None]
    cpu_sec: NotRequired[float | None]
    seq: int


class DeadLetterPageDict(TypedDict):
    """A page of dead letters, the newest first."""

    items: list[DeadLetterItemDict]
    next_cursor: str | None


class EventPageDict(TypedDict):
    """Stored events, in order."""

    run_id: str
    items: list[
        StateChangedDict
        | TaskChangeDict
        | LogChunkDict
        | ProgressReportDict
        | FlowShapeDict
        | OutputTruncatedDict
        | RunLateDict
    ]
    next_cursor: str | None
    position: str | None


class FilledTickDict(TypedDict):
    """What a backfill does for a tick."""

    tick_at: int
    local: str
    run_id: str
    outcome: Literal["exists", "failed", "submitted", "would_submit"]
    reason: str | None


class FlowFindingDict(TypedDict):
    """Something in a flow.yaml that is not as it should be. Line and column count from 1."""

    severity: Literal["error", "warning"]
    path: str
    reason: str
    nearest: str | None
    line: int | None
    column: int | None
    source: str | None


class FlowShapeDict(TypedDict):
    """What the flow looks like, as the process that executes it found it."""

    type: Literal["flow"]
    at: float
    attempt: int
    id: NotRequired[str]
    run_id: NotRequired[str]
    ts: NotRequired[float]
    structure: GraphStructureDict


class FullRunPageDict(TypedDict):
    """A page of whole runs, the newest change first."""

    next_cursor: str | None
    counts: NotRequired[dict[str, int]]
    total: NotRequired[int]
    exact: NotRequired[bool]
    flows: NotRequired[dict[str, int]]
    tags: NotRequired[dict[str, int]]
    items: list[RunDict]


class GraphEdgeDict(TypedDict):
    """The target comes after the source."""

    source: str
    target: str
    kind: Literal["all", "any"]


class GraphNodeDict(TypedDict):
    """A task, or a group of the engine's language with nodes inside."""

    id: str
    kind: Literal["foreach", "repeat", "switch", "task", "until"]
    name: str
    task: str | None
    detail: str | None
    parent: str | None
    branch: str | None


class GraphStructureDict(TypedDict):
    """The nodes and edges of a graph. A group comes before what is inside of it."""

    nodes: list[GraphNodeDict]
    edges: list[GraphEdgeDict]


class HealthDict(TypedDict):
    """The process is alive."""

    status: Literal["ok"]


class InstalledWheelDict(TypedDict):
    """A wheel that is installed."""

    wheel_name: str
    package_name: str | None
    package_version: str | None
    installed_at: float | None
    nuid: str | None


class IterationRecordDict(TypedDict):
    """A time that a task was executed in a loop. Times are unix seconds."""

    path: str
    state: str
    started_at: float | None
    ended_at: float | None
    error: str | None


class LateDict(TypedDict):
    """Which of what was expected of a run did not come in time."""

    start: bool
    end: bool


class LogChunkDict(TypedDict):
    """What was printed: whole lines, as a rule."""

    type: Literal["log"]
    at: float
    attempt: int
    id: NotRequired[str]
    run_id: NotRequired[str]
    ts: NotRequired[float]
    task: str | None
    stream: Literal["stderr", "stdout"]
    text: str
    seq: int


class LogPageDict(TypedDict):
    """Stored output, in order."""

    run_id: str
    items: list[LogChunkDict | OutputTruncatedDict]
    next_cursor: str | None
    position: str | None


class MinuteDict(TypedDict):
    """What happened in a minute, or in a step of several; averages are seconds, null for none."""

    start: int
    submitted: int
    started: int
    completed: int
    failed: int
    cancelled: int
    ended: int
    wait_avg: float | None
    run_avg: float | None
    wait_p50: NotRequired[float]
    wait_p95: NotRequired[float]
    wait_p99: NotRequired[float]
    run_p50: NotRequired[float]
    run_p95: NotRequired[float]
    run_p99: NotRequired[float]


class NatsHealthDict(TypedDict):
    """The connection to NATS."""

    connected: bool
    server: str | None
    reconnects: int
    last_error: str | None


class OutputTruncatedDict(TypedDict):
    """Output was left out, because of its size or because it could not be stored in time."""

    type: Literal["truncated"]
    at: float
    attempt: int
    id: NotRequired[str]
    run_id: NotRequired[str]
    ts: NotRequired[float]
    left_out_bytes: int | None
    limit_bytes: int


OverlapWord: TypeAlias = Literal["skip", "queue", "cancel_running", "allow"]


class PastTickDict(TypedDict):
    """What became of a tick, and of its run."""

    tick: int
    outcome: TickOutcomeWord
    decided_at: float
    run_id: NotRequired[str | None]
    reason: NotRequired[str | None]
    count: NotRequired[int]
    triggered: NotRequired[bool]
    local: str
    status: NotRequired[RunStatusWord | None]


class PercentilesDict(TypedDict):
    """Of the whole time, in seconds: ``p50``, ``p95`` and ``p99``, where there were runs."""

    wait: dict[str, float]
    run: dict[str, float]
    every: int


class ProgressReportDict(TypedDict):
    """How far a task is, as it says."""

    type: Literal["progress"]
    at: float
    attempt: int
    id: NotRequired[str]
    run_id: NotRequired[str]
    ts: NotRequired[float]
    task: str
    done: float | None
    total: float | None
    message: str | None


class QueueDict(TypedDict):
    """The jobs of one tag."""

    tag: str
    pending: int
    ack_pending: int
    waiting_pulls: int
    redelivered: int
    consumer: bool
    waiting_reason: WaitingReasonWord | None


class QueuesDict(TypedDict):
    """The queues of all tags, by name."""

    queues: list[QueueDict]
    dead_letters: int | None


class ReadyAnswerDict(TypedDict):
    """Whether the gateway can do its work."""

    status: Literal["not ready", "ready"]
    reasons: list[str]
    nats: NatsHealthDict


class RefusedArtifactDict(TypedDict):
    """A file that was not kept, and why."""

    name: str
    reason: str


class ResultDict(TypedDict):
    """A result that is too large for its record."""

    task: str
    size_bytes: int
    sha256_hex: str | None
    media_type: str
    cut: str | None
    refused: str | None


class ResultNoteDict(TypedDict):
    """What a task's record tells of its result where ``output`` is not all of it."""

    size_bytes: int
    value: NotRequired[Any]
    cut: NotRequired[str | None]


class RetryBackoffDict(TypedDict):
    """How long to wait between two tries."""

    kind: Literal["exponential", "fixed", "linear"]
    delay_sec: float
    cap_sec: float
    jitter: float


RoleWord: TypeAlias = Literal["submit", "operate", "admin"]


class RunArtifactsDict(TypedDict):
    """What a run saved."""

    run_id: str
    artifacts: list[ArtifactDict]
    artifacts_refused: list[RefusedArtifactDict]


class RunCountsDict(TypedDict):
    """How many runs there are."""

    counts: dict[str, int]
    total: int
    exact: bool
    flows: dict[str, int]
    tags: dict[str, int]
    submissions: NotRequired[list[SubmissionStepDict]]
    submissions_exact: NotRequired[bool]


class RunDict(TypedDict):
    """A run as it is shown: with task records only where they were asked for.

    ``status`` is what pyoco-server 0.5.1 knows; ``state`` says SCHEDULED and EXPIRED as well.
    """

    run_id: str
    flow_name: str
    status: RunStatusWord
    tag: str | None
    tags: list[str]
    tenant_id: str | None
    api_key_id: str | None
    workflow_yaml_sha256: str | None
    workflow_yaml_bytes: int | None
    params: dict[str, Any]
    tasks: dict[str, TaskStateWord]
    task_records: NotRequired[dict[str, TaskRecordDict]]
    task_records_truncated: NotRequired[bool]
    start_time: float | None
    end_time: float | None
    heartbeat_at: float | None
    updated_at: float | None
    error: str | None
    worker_id: str | None
    cancel_requested_at: float | None
    cancel_requested_by: str | None
    attempt: int
    max_attempts: int | None
    timeout_sec: float | None
    retry_backoff_sec: float | None
    next_attempt_at: float | None
    attempts: list[AttemptRecordDict]
    worker_instance_id: str | None
    slot: int | None
    job_sequence: int | None
    submitted_at: float | None
    reason: str | None
    retry_of: str | None
    cancel_reason: str | None
    wheels: list[RunWheelDict]
    artifacts: list[ArtifactDict]
    failed_tasks: list[str]
    artifacts_refused: list[RefusedArtifactDict]
    results: list[ResultDict]
    request_id: str | None
    memory_mb: NotRequired[int | None]
    cpu_sec: NotRequired[float | None]
    usage: NotRequired[UsageDict | None]
    uncounted_attempts: NotRequired[int | None]
    scheduled_for: float | None
    expires_at: float | None
    expected_start_within_sec: float | None
    expected_end_within_sec: float | None
    late: LateDict | None
    tries_begun: NotRequired[dict[str, list[TryRecordDict]] | None]
    schedule_id: NotRequired[str | None]
    scheduled_at: NotRequired[float | None]
    params_left_out: NotRequired[bool | None]
    state: RunStateWord
    worker_alive: NotRequired[bool]
    worker_state: NotRequired[WorkerStateWord]
    worker_heartbeat_at: NotRequired[float | None]
    worker_hidden: NotRequired[bool]
    worker_tags: NotRequired[list[str]]


class RunGraphDict(TypedDict):
    """What the flow of a run looks like."""

    run_id: str
    flow_name: str
    source: Literal["run", "tasks", "workflow"]
    nodes: list[GraphNodeDict]
    edges: list[GraphEdgeDict]


class RunItemDict(TypedDict):
    """A run as lists show it. Times are unix seconds."""

    run_id: str
    flow_name: str
    tag: str | None
    tags: list[str]
    tenant_id: str | None
    api_key_id: str | None
    status: RunStatusWord
    state: RunStateWord
    updated_at: float | None
    heartbeat_at: float | None
    worker_id: str | None
    error: str | None
    failed_tasks: list[str]
    submitted_at: float | None
    start_time: float | None
    end_time: float | None
    attempt: int
    workflow_yaml_sha256: str | None
    scheduled_for: float | None
    expires_at: float | None
    late: LateDict | None
    schedule_id: str | None
    scheduled_at: float | None


class RunLateDict(TypedDict):
    """The run has not started, or not ended, by when that was expected."""

    type: Literal["late"]
    at: float
    attempt: int
    id: NotRequired[str]
    run_id: NotRequired[str]
    ts: NotRequired[float]
    what: Literal["end", "start"]
    expected_at: float


class RunPageDict(TypedDict):
    """A page of runs, the newest change first."""

    next_cursor: str | None
    counts: NotRequired[dict[str, int]]
    total: NotRequired[int]
    exact: NotRequired[bool]
    flows: NotRequired[dict[str, int]]
    tags: NotRequired[dict[str, int]]
    items: list[RunItemDict]


class RunResultsDict(TypedDict):
    """What the tasks of a run returned."""

    run_id: str
    results: list[ResultDict]


RunStateWord: TypeAlias = Literal[
    "PENDING", "SCHEDULED", "RUNNING", "COMPLETED", "FAILED", "EXPIRED", "CANCELLING", "CANCELLED"
]

RunStatusWord: TypeAlias = Literal[
    "PENDING", "RUNNING", "COMPLETED", "FAILED", "CANCELLING", "CANCELLED"
]


class RunTasksDict(TypedDict):
    """The tasks of a run."""

    run_id: str
    flow_name: str
    status: RunStatusWord
    tasks: dict[str, TaskStateWord]
    task_records: dict[str, TaskRecordDict]
    task_records_truncated: bool


class RunWheelDict(TypedDict):
    """A wheel that an attempt could import from."""

    name: str
    version: str
    sha256: str


class RunsQueryDict(TypedDict):
    """Which runs. Times are unix seconds."""

    status: NotRequired[str | None]
    late: NotRequired[bool | None]
    flow: NotRequired[str | None]
    tag: NotRequired[str | None]
    workflow_yaml_sha256: NotRequired[str | None]
    worker_id: NotRequired[str | None]
    q: NotRequired[str | None]
    updated_after: NotRequired[float | None]
    updated_before: NotRequired[float | None]
    submitted_after: NotRequired[float | None]
    submitted_before: NotRequired[float | None]
    schedule_id: NotRequired[str | None]
    scheduled_after: NotRequired[float | None]
    scheduled_before: NotRequired[float | None]


class ScheduleChangeDict(TypedDict):
    """Who has changed a schedule, when, and what."""

    changed_at: float
    action: str
    changed_by: NotRequired[str | None]
    fields: NotRequired[list[str]]
    version: NotRequired[int]


class ScheduleDeletedDict(TypedDict):
    """A schedule that is gone."""

    schedule_id: str
    deleted: bool


class ScheduleFieldsDict(TypedDict):
    """What can be said of a schedule; one of ``cron``, ``every_sec``, ``rrule`` and ``at`` says when."""

    flow_name: NotRequired[str | None]
    name: NotRequired[str | None]
    tag: NotRequired[str | None]
    tags: NotRequired[list[str] | None]
    params: NotRequired[dict[str, Any] | None]
    workflow_yaml: NotRequired[str | None]
    workflow_yaml_sha256: NotRequired[str | None]
    cron: NotRequired[str | None]
    every_sec: NotRequired[float | None]
    rrule: NotRequired[str | None]
    at: NotRequired[list[float | str] | None]
    timezone: NotRequired[str | None]
    jitter_sec: NotRequired[float | None]
    start_at: NotRequired[float | str | None]
    end_at: NotRequired[float | str | None]
    overlap: NotRequired[OverlapWord | None]
    catch_up: NotRequired[CatchUpWord | None]
    catch_up_limit: NotRequired[float | None]
    timeout_sec: NotRequired[float | None]
    max_attempts: NotRequired[float | None]
    retry_backoff_sec: NotRequired[float | None]
    memory_mb: NotRequired[float | None]
    cpu_sec: NotRequired[float | None]
    queue_ttl_sec: NotRequired[float | None]
    expected_start_within_sec: NotRequired[float | None]
    expected_end_within_sec: NotRequired[float | None]
    labels: NotRequired[dict[str, str] | None]
    paused: NotRequired[bool | None]


class SchedulePageDict(TypedDict):
    """Schedules, by id."""

    items: list[ScheduleViewDict]
    next_cursor: str | None
    total: int


class SchedulePreviewDict(TypedDict):
    """The next ticks of a schedule."""

    ticks: list[ScheduledTickDict]
    spec: ScheduleSpecDict
    problem: str | None


class ScheduleSpecDict(TypedDict):
    """What people say of a schedule. Moments are whole unix seconds."""

    flow_name: str
    name: str
    tag: str
    tags: list[str]
    params: dict[str, Any]
    workflow_yaml_sha256: str | None
    workflow_yaml_bytes: int | None
    cron: str | None
    every_sec: int | None
    rrule: str | None
    at: list[int] | None
    timezone: str
    jitter_sec: float
    start_at: int | None
    end_at: int | None
    overlap: OverlapWord
    catch_up: CatchUpWord
    catch_up_limit: int
    timeout_sec: float | None
    max_attempts: int | None
    retry_backoff_sec: float | None
    memory_mb: int | None
    cpu_sec: float | None
    queue_ttl_sec: float | None
    expected_start_within_sec: float | None
    expected_end_within_sec: float | None
    labels: dict[str, str]
    anchor_at: int


ScheduleStateWord: TypeAlias = Literal["active", "paused", "ended"]


class ScheduleUpdateDict(TypedDict):
    """What a schedule is to be, or what of it is to be changed."""

    flow_name: NotRequired[str | None]
    name: NotRequired[str | None]
    tag: NotRequired[str | None]
    tags: NotRequired[list[str] | None]
    params: NotRequired[dict[str, Any] | None]
    workflow_yaml: NotRequired[str | None]
    workflow_yaml_sha256: NotRequired[str | None]
    cron: NotRequired[str | None]
    every_sec: NotRequired[float | None]
    rrule: NotRequired[str | None]
    at: NotRequired[list[float | str] | None]
    timezone: NotRequired[str | None]
    jitter_sec: NotRequired[float | None]
    start_at: NotRequired[float | str | None]
    end_at: NotRequired[float | str | None]
    overlap: NotRequired[OverlapWord | None]
    catch_up: NotRequired[CatchUpWord | None]
    catch_up_limit: NotRequired[float | None]
    timeout_sec: NotRequired[float | None]
    max_attempts: NotRequired[float | None]
    retry_backoff_sec: NotRequired[float | None]
    memory_mb: NotRequired[float | None]
    cpu_sec: NotRequired[float | None]
    queue_ttl_sec: NotRequired[float | None]
    expected_start_within_sec: NotRequired[float | None]
    expected_end_within_sec: NotRequired[float | None]
    labels: NotRequired[dict[str, str] | None]
    paused: NotRequired[bool | None]
    version: NotRequired[float | None]


class ScheduleViewDict(TypedDict):
    """A schedule as it is now."""

    flow_name: str
    name: str
    tag: str
    tags: list[str]
    params: dict[str, Any]
    workflow_yaml_sha256: str | None
    workflow_yaml_bytes: int | None
    cron: str | None
    every_sec: int | None
    rrule: str | None
    at: list[int] | None
    timezone: str
    jitter_sec: float
    start_at: int | None
    end_at: int | None
    overlap: OverlapWord
    catch_up: CatchUpWord
    catch_up_limit: int
    timeout_sec: float | None
    max_attempts: int | None
    retry_backoff_sec: float | None
    memory_mb: int | None
    cpu_sec: float | None
    queue_ttl_sec: float | None
    expected_start_within_sec: float | None
    expected_end_within_sec: float | None
    labels: dict[str, str]
    anchor_at: int
    schedule_id: str
    version: int
    paused: bool
    state: ScheduleStateWord
    tenant_id: str | None
    api_key_id: str | None
    created_at: float
    updated_at: float
    next_tick_at: int | None
    next_due_at: float | None
    waiting: list[int]
    last_tick: TickRecordDict | None
    counts: dict[TickOutcomeWord, int]
    problem: str | None


class ScheduledTickDict(TypedDict):
    """A tick to come."""

    tick_at: int
    due_at: float
    local: str


class SkippedWheelDict(TypedDict):
    """A wheel that this worker does not install, and why."""

    wheel_name: str
    package_name: str | None
    package_version: str | None
    reason: str | None


class SlotRecordDict(TypedDict):
    """One slot of a worker, and what it executes."""

    index: int
    run_id: str | None
    attempt: int | None
    pid: int | None
    busy_since: float | None
    resting: str | None


class StateChangedDict(TypedDict):
    """The run's status, or who holds it, changed; told by whoever won the write."""

    type: Literal["state"]
    at: float
    attempt: int
    id: NotRequired[str]
    run_id: NotRequired[str]
    ts: NotRequired[float]
    status: RunStatusWord
    revision: int
    worker_id: str | None
    reason: str | None
    error: str | None
    by: str | None


class StatsDict(TypedDict):
    """What happened in each of the last minutes."""

    minutes: list[MinuteDict]
    percentiles: NotRequired[PercentilesDict]


class SubmissionStepDict(TypedDict):
    """What was submitted in a part of a time."""

    start: float
    counts: dict[str, int]


class SubmittedDict(TypedDict):
    """A run that was accepted."""

    run_id: str
    status: RunStatusWord
    state: NotRequired[RunStateWord]
    scheduled_for: NotRequired[float]
    retried_from: NotRequired[str]
    retry_of: NotRequired[str]


class TaskChangeDict(TypedDict):
    """A task started, is tried again, or ended."""

    type: Literal["task"]
    at: float
    attempt: int
    id: NotRequired[str]
    run_id: NotRequired[str]
    ts: NotRequired[float]
    task: str
    state: TaskStateWord
    error: str | None
    traceback: str | None
    duration_ms: float | None
    try_number: NotRequired[int]


class TaskConfigDict(TypedDict):
    """What a file says about a task; neither ``callable`` nor ``use``: the worker knows it."""

    callable: str | None
    use: str | None
    inputs: dict[str, Any]
    outputs: list[str]
    policy: TaskPolicyDict


class TaskPolicyDict(TypedDict):
    """What is said of a task; ``None`` is "not said"."""

    retries: NotRequired[int | None]
    backoff: NotRequired[RetryBackoffDict | None]
    retry_on: NotRequired[list[str] | None]
    not_on: NotRequired[list[str] | None]
    timeout_sec: NotRequired[float | None]
    on_failure: NotRequired[Literal["isolate", "stop"] | None]
    trigger: NotRequired[Literal["all", "any"] | None]
    event_loop: NotRequired[Literal["asyncio", "trio"] | None]


class TaskProgressDict(TypedDict):
    """What a task reported last of how far it is."""

    done: float | None
    total: float | None
    message: str | None
    at: float


class TaskRecordDict(TypedDict):
    """What is known of one task of a run. Times are unix seconds.

    ``inputs``, ``output`` and ``artifacts`` hold JSON only; their producer passes them through
    ``pyoco_server.model.json_text.json_safe``.
    """

    state: TaskStateWord
    started_at: float | None
    ended_at: float | None
    duration_ms: float | None
    error: str | None
    traceback: str | None
    inputs: dict[str, Any]
    output: Any
    artifacts: dict[str, Any]
    result: NotRequired[ResultNoteDict]
    progress: NotRequired[TaskProgressDict]
    tries: NotRequired[list[TryRecordDict]]
    iterations: NotRequired[list[IterationRecordDict]]
    iteration_counts: NotRequired[dict[str, int]]
    skipped: NotRequired[bool]


TaskStateWord: TypeAlias = Literal[
    "PENDING", "RUNNING", "SUCCEEDED", "FAILED", "CANCELLED", "SKIPPED"
]

TickOutcomeWord: TypeAlias = Literal["run", "skipped", "missed", "refused"]


class TickPageDict(TypedDict):
    """The last ticks of a schedule, the latest first."""

    items: list[PastTickDict]
    waiting: list[ScheduledTickDict]


class TickRecordDict(TypedDict):
    """What became of a tick, or of one that somebody triggered."""

    tick: int
    outcome: TickOutcomeWord
    decided_at: float
    run_id: NotRequired[str | None]
    reason: NotRequired[str | None]
    count: NotRequired[int]
    triggered: NotRequired[bool]


class ToldCountsDict(TypedDict):
    """`counts`: how many runs the list has, by state."""

    ts: float
    counts: dict[str, int]
    exact: bool


class ToldDict(TypedDict):
    """The data of an event that says no more than its name."""

    ts: float


class ToldEndDict(TypedDict):
    """`end`: the run has ended, and nothing will follow."""

    ts: float
    run_id: str
    status: RunStatusWord


class ToldItemDict(TypedDict):
    """`run`: a run of the list, as it is now."""

    ts: float
    run: RunItemDict


class ToldOfRunDict(TypedDict):
    """`gone`: the run is not in the list, or not any more. Of one run also `heartbeat`."""

    ts: float
    run_id: str


class ToldSnapshotDict(TypedDict):
    """`snapshot`: the run as it is now."""

    ts: float
    run_id: str
    snapshot: RunDict


class TriggeredDict(TypedDict):
    """A run that was asked for."""

    run_id: str
    status: RunStatusWord
    schedule_id: str


class TryRecordDict(TypedDict):
    """A try of a task that may have more than one. Times are unix seconds."""

    number: int
    started_at: float | None
    ended_at: float | None
    error: str | None


class UsageDict(TypedDict):
    """What the processes of an attempt took of their machine, as far as it is known."""

    peak_memory_bytes: int | None
    cpu_sec: float | None


WaitingReasonWord: TypeAlias = Literal["no_worker", "paused", "busy"]


class WheelActorDict(TypedDict):
    """Whose key it was; nothing where no keys are asked for."""

    tenant_id: str | None
    api_key_id: str | None


class WheelDeletedDict(TypedDict):
    """A wheel that is gone."""

    name: str
    deleted: bool


class WheelEventDict(TypedDict):
    """An upload or a deletion. Its time is unix seconds.

    ``owner_tenant_id`` is not in events of pyoco-server 0.5.1: whose wheel it is, None for a shared one.
    """

    event_id: str
    occurred_at: float
    action: str
    wheel_name: str
    tags: list[str]
    size_bytes: int | None
    sha256_hex: str | None
    replace: bool | None
    actor: WheelActorDict
    source: WheelSourceDict
    owner_tenant_id: str | None


class WheelItemDict(TypedDict):
    """A wheel of the registry."""

    name: str
    size_bytes: int
    digest: str
    sha256_b64: str
    sha256_hex: str
    mtime: str | None
    nuid: str | None
    bucket: str
    tags: list[str]
    package: str
    version: str
    tenant_id: str | None


class WheelSourceDict(TypedDict):
    """Where the request came from, as its headers say; not to be relied on."""

    remote_addr: str | None
    x_forwarded_for: str | None
    x_real_ip: str | None
    user_agent: str | None
    host: str | None
    scheme: str | None


class WheelSyncDict(TypedDict):
    """What a worker's last look at the wheel registry gave. Times are unix seconds."""

    enabled: bool
    last_result: str
    last_attempt_at: float | None
    last_success_at: float | None
    last_synced_at: float | None
    last_error: str | None
    selected_count: int
    updated_count: int
    removed_count: int
    skipped_incompatible_count: int
    selected_wheels: list[str]
    updated_wheels: list[str]
    removed_wheels: list[str]
    skipped_incompatible: list[SkippedWheelDict]
    installed_wheels: list[InstalledWheelDict]


class WhoamiDict(TypedDict):
    """Who makes a call, and what they may do."""

    tenant_id: str | None
    key_id: str | None
    roles: list[RoleWord]
    version: str


class WholeScheduleDict(TypedDict):
    """A schedule with its history of changes, the latest last."""

    flow_name: str
    name: str
    tag: str
    tags: list[str]
    params: dict[str, Any]
    workflow_yaml_sha256: str | None
    workflow_yaml_bytes: int | None
    cron: str | None
    every_sec: int | None
    rrule: str | None
    at: list[int] | None
    timezone: str
    jitter_sec: float
    start_at: int | None
    end_at: int | None
    overlap: OverlapWord
    catch_up: CatchUpWord
    catch_up_limit: int
    timeout_sec: float | None
    max_attempts: int | None
    retry_backoff_sec: float | None
    memory_mb: int | None
    cpu_sec: float | None
    queue_ttl_sec: float | None
    expected_start_within_sec: float | None
    expected_end_within_sec: float | None
    labels: dict[str, str]
    anchor_at: int
    schedule_id: str
    version: int
    paused: bool
    state: ScheduleStateWord
    tenant_id: str | None
    api_key_id: str | None
    created_at: float
    updated_at: float
    next_tick_at: int | None
    next_due_at: float | None
    waiting: list[int]
    last_tick: TickRecordDict | None
    counts: dict[TickOutcomeWord, int]
    problem: str | None
    changes: list[ScheduleChangeDict]


class WorkerHiddenDict(TypedDict):
    """A worker that is hidden, or shown again."""

    worker_id: str
    hidden: bool
    updated_at: float


class WorkerOrderedDict(TypedDict):
    """What a worker was told."""

    worker_id: str
    instance_id: str
    paused: bool
    draining: bool
    ordered_at: float | None
    ordered_by: str | None
    order_reason: str | None
    updated_at: float


class WorkerRecordDict(TypedDict):
    """A worker as it last described itself. Times are unix seconds."""

    worker_id: str
    instance_id: str
    state: WorkerStateWord
    hidden: bool
    paused: bool
    draining: bool
    ordered_at: float | None
    ordered_by: str | None
    order_reason: str | None
    tags: list[str]
    last_seen_at: float
    last_heartbeat_at: float
    heartbeat_at: float
    current_run_id: str | None
    last_run_id: str | None
    last_run_status: str | None
    last_run_started_at: float | None
    last_run_finished_at: float | None
    stopped_at: float | None
    stop_reason: str | None
    updated_at: float
    wheel_sync: WheelSyncDict
    slots: list[SlotRecordDict]
    drain_timeout_sec: float | None
    cancel_grace_period_sec: float | None


WorkerStateWord: TypeAlias = Literal["RUNNING", "IDLE", "STOPPED_GRACEFUL", "DISCONNECTED"]

EventDict: TypeAlias = (
    StateChangedDict
    | TaskChangeDict
    | LogChunkDict
    | ProgressReportDict
    | FlowShapeDict
    | OutputTruncatedDict
    | RunLateDict
)

OutputDict: TypeAlias = LogChunkDict | OutputTruncatedDict
