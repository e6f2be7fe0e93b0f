"""Runs: read, listed, followed."""

from __future__ import annotations

import time
from enum import StrEnum
from typing import Annotated, Any, ClassVar, Final, TypeAlias

import msgspec
from msgspec import UNSET, Meta, UnsetType

from pyoco_server.api.base import EventCursor, Query, says
from pyoco_server.model.artifact import Artifact, RefusedArtifact
from pyoco_server.model.errors import ErrorId
from pyoco_server.model.punctuality import state_of
from pyoco_server.model.result import Result
from pyoco_server.model.run import (
    Late,
    RunSnapshot,
    RunState,
    RunStatus,
    TaskRecord,
    TaskState,
    shown,
)
from pyoco_server.model.worker import WorkerState


class CancelWish(msgspec.Struct):
    """The body of `POST /runs/{run_id}/cancel`; one that is not understood is ignored."""

    reason: str | None = None
    requested_by: str | None = None


class Include(StrEnum):
    """Words that ask for task records, each as good as the other."""

    RECORDS = "records"
    TASK_RECORDS = "task_records"
    FULL = "full"
    ALL = "all"


_INCLUDE: Final = says("With task records.")


class IncludeQuery(Query, frozen=True, kw_only=True):
    """Reading a run."""

    include: Annotated[tuple[Include, ...], _INCLUDE] = ()


class WatchQuery(IncludeQuery, frozen=True, kw_only=True):
    """Following a run."""

    since: Annotated[
        float | None,
        says("Skip a first state that changed before, unless it is an end; unix seconds."),
    ] = None
    timeout_sec: Annotated[float, Meta(ge=1, le=600, description="How long.")] = 60.0


# A time that is divided into steps, and more than anybody means.
_Moment: TypeAlias = Annotated[float, Meta(ge=-1e11, le=1e11)]


class RunsQuery(Query, frozen=True, kw_only=True):
    """Which runs. Times are unix seconds."""

    refusal: ClassVar[str | None] = "invalid list query"
    error_id: ClassVar[ErrorId] = ErrorId.INVALID_LIST_QUERY

    status: Annotated[
        tuple[RunState, ...], says("Only runs of this status, or of this state.")
    ] = ()
    late: Annotated[
        bool, says("Only runs that have not started, or not ended, by when that was expected.")
    ] = False
    flow: Annotated[str, says("Only runs of this flow.")] = ""
    tag: Annotated[str, says("Only runs of this tag.")] = ""
    workflow_yaml_sha256: Annotated[
        str, says("Only runs of this flow.yaml, by its digest in hex.")
    ] = ""
    worker_id: Annotated[str, says("Only runs of this worker.")] = ""
    q: Annotated[
        str, Meta(max_length=200, description="Only runs with this text in id, flow or error.")
    ] = ""
    updated_after: Annotated[
        float | None, says("Only runs that changed after this time, in unix seconds.")
    ] = None
    updated_before: Annotated[float | None, says("Only runs that last changed before it.")] = None
    submitted_after: Annotated[_Moment | None, says("Only runs submitted after it.")] = None
    submitted_before: Annotated[_Moment | None, says("Only runs submitted before it.")] = None
    schedule_id: Annotated[str, says("Only runs of this schedule.")] = ""
    scheduled_after: Annotated[
        float | None, says("Only runs of ticks after this time, in unix seconds.")
    ] = None
    scheduled_before: Annotated[float | None, says("Only runs of ticks before it.")] = None


class RunCountsQuery(RunsQuery, frozen=True, kw_only=True):
    """How many runs."""

    steps: Annotated[
        int,
        Meta(
            ge=0,
            le=500,
            description="Into how many equal steps the time behind submitted_after is divided, which "
            "has to be given then.",
        ),
    ] = 0


class RunListQuery(RunsQuery, frozen=True, kw_only=True):
    """A page of runs."""

    cursor: Annotated[str, says("A next_cursor.", format="list-cursor")] = ""
    limit: Annotated[int, Meta(ge=1, le=200, description="How many at most.")] = 50
    counts: Annotated[bool, says("Whether to count as well.")] = False
    include: Annotated[tuple[Include, ...], says("Whole snapshots.")] = ()


class RunStreamQuery(RunsQuery, frozen=True, kw_only=True):
    """The changes of a list of runs."""

    counts: Annotated[bool, says("Whether counts come as well.")] = False
    timeout_sec: (
        Annotated[int, Meta(ge=1, le=86_400, description="How long; for ever when left out.")]
        | None
    ) = None
    last_event_id: EventCursor = ""


class Run(RunSnapshot, kw_only=True, frozen=True):
    """A run as it is shown: with task records only where they were asked for.

    ``status`` is what pyoco-server 0.5.1 knows; ``state`` says SCHEDULED and EXPIRED as well.
    """

    state: RunState
    scheduled_for: float | None = None
    expires_at: float | None = None
    expected_start_within_sec: float | None = None
    expected_end_within_sec: float | None = None
    late: Late | None = None
    task_records: dict[str, TaskRecord] | UnsetType = UNSET  # type: ignore[assignment]
    task_records_truncated: bool | UnsetType = UNSET  # type: ignore[assignment]
    worker_alive: bool | UnsetType = UNSET
    """This and the following of a run that has a worker, where one run is read."""
    worker_state: WorkerState | UnsetType = UNSET
    worker_heartbeat_at: float | UnsetType | None = UNSET
    worker_hidden: bool | UnsetType = UNSET
    worker_tags: list[str] | UnsetType = UNSET


_NO_RECORDS: Final = {"task_records": UNSET, "task_records_truncated": UNSET}


def shown_run(snapshot: RunSnapshot, now: float, *, records: bool, **worker: Any) -> Run:
    """The run as it is shown at this time, with what is told of its worker."""
    told = msgspec.structs.asdict(shown(snapshot))
    fields: dict[str, Any] = {
        name: None if value is UNSET else value for name, value in told.items()
    }
    fields["state"] = state_of(snapshot, now)
    if not records:
        fields |= _NO_RECORDS
    return Run(**fields, **worker)


class RunTasks(msgspec.Struct, kw_only=True, frozen=True):
    """The tasks of a run."""

    run_id: str
    flow_name: str
    status: RunStatus
    tasks: dict[str, TaskState]
    task_records: dict[str, TaskRecord]
    task_records_truncated: bool


class RunArtifacts(msgspec.Struct, kw_only=True, frozen=True):
    """What a run saved."""

    run_id: str
    artifacts: list[Artifact]
    artifacts_refused: list[RefusedArtifact]


class RunResults(msgspec.Struct, kw_only=True, frozen=True):
    """What the tasks of a run returned."""

    run_id: str
    results: list[Result]


class RunItem(msgspec.Struct, kw_only=True, frozen=True):
    """A run as lists show it. Times are unix seconds."""

    run_id: str
    flow_name: str
    tag: str | None
    tags: list[str]
    tenant_id: str | None
    api_key_id: str | None
    status: RunStatus
    state: RunState
    updated_at: float | None
    heartbeat_at: float | None
    worker_id: str | None
    error: str | None
    failed_tasks: list[str]
    """The first of the tasks that failed; a run that has some may be COMPLETED."""
    submitted_at: float | None
    start_time: float | None
    end_time: float | None
    attempt: int
    workflow_yaml_sha256: str | None
    scheduled_for: float | None = None
    expires_at: float | None = None
    late: Late | None = None
    schedule_id: str | None = None
    scheduled_at: float | None = None


class SubmissionStep(msgspec.Struct, kw_only=True, frozen=True):
    """What was submitted in a part of a time."""

    start: float
    """Unix seconds."""
    counts: dict[str, int]
    """Of each status."""


class RunCounts(msgspec.Struct, kw_only=True, frozen=True):
    """How many runs there are."""

    counts: dict[str, int]
    """Of each state."""
    total: int
    exact: bool = True
    """Whether these are all; else there are at least so many."""
    flows: dict[str, int] = msgspec.field(default_factory=dict)
    """Of each flow, the most frequent first; empty where only statuses were counted."""
    tags: dict[str, int] = msgspec.field(default_factory=dict)
    submissions: list[SubmissionStep] | UnsetType = UNSET
    """Where steps were asked for: what was submitted in each."""
    submissions_exact: bool | UnsetType = UNSET
    """Whether those are all; else the newest."""


class _Page(msgspec.Struct, kw_only=True, frozen=True):
    next_cursor: str | None
    counts: dict[str, int] | UnsetType = UNSET
    """This and the following where counts were asked for; see `RunCounts`."""
    total: int | UnsetType = UNSET
    exact: bool | UnsetType = UNSET
    flows: dict[str, int] | UnsetType = UNSET
    tags: dict[str, int] | UnsetType = UNSET


class RunPage(_Page, kw_only=True, frozen=True):
    """A page of runs, the newest change first."""

    items: list[RunItem]


class FullRunPage(_Page, kw_only=True, frozen=True):
    """A page of whole runs, the newest change first."""

    items: list[Run]


# Told by server-sent events ----------------------------------------------------------------------------


class Told(msgspec.Struct, kw_only=True, frozen=True):
    """The data of an event that says no more than its name."""

    ts: float = msgspec.field(default_factory=time.time)
    """When it was told, in unix seconds."""


class ToldOfRun(Told, kw_only=True, frozen=True):
    """`gone`: the run is not in the list, or not any more. Of one run also `heartbeat`."""

    run_id: str


class ToldSnapshot(ToldOfRun, kw_only=True, frozen=True):
    """`snapshot`: the run as it is now."""

    snapshot: Run


class ToldEnd(ToldOfRun, kw_only=True, frozen=True):
    """`end`: the run has ended, and nothing will follow."""

    status: RunStatus


class ToldItem(Told, kw_only=True, frozen=True):
    """`run`: a run of the list, as it is now."""

    run: RunItem


class ToldCounts(Told, kw_only=True, frozen=True):
    """`counts`: how many runs the list has, by state."""

    counts: dict[str, int]
    exact: bool
