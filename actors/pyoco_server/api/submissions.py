"""Runs, submitted."""

from __future__ import annotations

from typing import Annotated, Any, Final, TypeAlias

import msgspec
from msgspec import UNSET, UnsetType

from pyoco_server.api.base import FormBody, JsonBody, number, says, shaped, whole
from pyoco_server.api.times import (
    DelaySec,
    ExpectedEndWithinSec,
    ExpectedStartWithinSec,
    ExpiresAt,
    QueueTtlSec,
    StartAt,
    TimesBody,
)
from pyoco_server.model.limits import (
    MAX_ATTEMPTS,
    MAX_BACKOFF_SECONDS,
    MAX_CPU_SECONDS,
    MAX_MEMORY_MB,
    MAX_TIMEOUT_SECONDS,
)
from pyoco_server.model.run import RunState, RunStatus

MAX_BATCH_RUNS: Final = 1000


SECONDS: Final = {"type": "number", "exclusiveMinimum": 0, "maximum": MAX_TIMEOUT_SECONDS}
ATTEMPTS: Final = whole(1, MAX_ATTEMPTS)
MEMORY: Final = whole(1, MAX_MEMORY_MB)
CPU: Final = {"type": "number", "exclusiveMinimum": 0, "maximum": MAX_CPU_SECONDS}
BACKOFF: Final = {"type": "number", "minimum": 0, "maximum": MAX_BACKOFF_SECONDS}
_FLOW: Final = shaped(pattern="[A-Za-z0-9]")
_TAG: Final = shaped(pattern=r"^\s*[A-Za-z0-9_-]{0,200}\s*$")


TimeoutSec: TypeAlias = Annotated[Any, number("How long one attempt may take.", **SECONDS)]
MaxAttempts: TypeAlias = Annotated[Any, number("How often it may be started.", **ATTEMPTS)]
RetryBackoffSec: TypeAlias = Annotated[
    Any, number("The wait before the second attempt.", **BACKOFF)
]

MemoryMb: TypeAlias = Annotated[
    Any, number("MB of memory that its processes may have together.", **MEMORY)
]
CpuSec: TypeAlias = Annotated[
    Any, number("Seconds of processor time that they may take together.", **CPU)
]


class SubmitBody(TimesBody, kw_only=True):
    """The body of `POST /runs`."""

    flow_name: Annotated[str, _FLOW]
    params: dict[str, Any] = msgspec.field(default_factory=dict)
    tag: Annotated[str | None, _TAG] = None
    tags: list[str] | None = None
    timeout_sec: TimeoutSec = None
    max_attempts: MaxAttempts = None
    retry_backoff_sec: RetryBackoffSec = None
    memory_mb: MemoryMb = None
    cpu_sec: CpuSec = None


class BatchItem(SubmitBody, kw_only=True):
    """One run of `POST /runs/batch`."""

    workflow_yaml: str | None = None
    """The text of a flow.yaml; ``params`` go over its defaults."""
    idempotency_key: str | None = None


_RUNS: Final = says(
    "Each as the body of POST /runs, with workflow_yaml (text) and idempotency_key.",
    minItems=1,
    maxItems=MAX_BATCH_RUNS,
)


class BatchBody(JsonBody, kw_only=True):
    """The body of `POST /runs/batch`; each run is read by itself, so that a wrong one spoils no other."""

    runs: Annotated[list[msgspec.Raw], _RUNS]


class FlowForm(FormBody, kw_only=True):
    """The form of `POST /runs/yaml`."""

    workflow: Annotated[bytes, shaped(format="flow-yaml")]
    flow_name: Annotated[str, _FLOW]
    tag: Annotated[str, _TAG] = ""
    params: Annotated[str, shaped(format="json-object", contentMediaType="application/json")] = ""
    timeout_sec: TimeoutSec = None
    max_attempts: MaxAttempts = None
    retry_backoff_sec: RetryBackoffSec = None
    start_at: StartAt = None
    delay_sec: DelaySec = None
    expires_at: ExpiresAt = None
    queue_ttl_sec: QueueTtlSec = None
    expected_start_within_sec: ExpectedStartWithinSec = None
    expected_end_within_sec: ExpectedEndWithinSec = None
    memory_mb: MemoryMb = None
    cpu_sec: CpuSec = None


class Submitted(msgspec.Struct, kw_only=True, frozen=True):
    """A run that was accepted."""

    run_id: str
    status: RunStatus
    state: RunState | UnsetType = UNSET
    """This and the following of one that is to start later."""
    scheduled_for: float | UnsetType = UNSET
    """When it may start, in unix seconds."""
    retried_from: str | UnsetType = UNSET
    """Of a dead letter: the run that this one repeats."""
    retry_of: str | UnsetType = UNSET
    """Of a retry: the same."""


class BatchOutcome(msgspec.Struct, kw_only=True, frozen=True):
    """What became of a run of a batch: it was accepted, or else there is an error."""

    run_id: str | UnsetType = UNSET
    status: RunStatus | UnsetType = UNSET
    state: RunState | UnsetType = UNSET
    """This and the following of one that is to start later."""
    scheduled_for: float | UnsetType = UNSET
    replayed: bool | UnsetType = UNSET
    """Whether its key had been submitted before."""
    error: dict[str, Any] | UnsetType = UNSET
    """The problem that it would have been answered with alone."""


class BatchAnswer(msgspec.Struct, kw_only=True, frozen=True):
    """What became of a batch."""

    accepted: int
    rejected: int
    items: list[BatchOutcome]
    """One for each run, in order."""
