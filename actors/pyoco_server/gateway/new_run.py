"""What a submission asks for, and what comes of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from pyoco_server.jetstream.errors import BridgeError, Unanswered
from pyoco_server.kernel import Refusal
from pyoco_server.model.errors import InvalidField
from pyoco_server.model.flow.file import FlowFile, parse_flow_yaml
from pyoco_server.model.idempotency import check_idempotency_key, content_digest
from pyoco_server.model.job import Job, check_tag
from pyoco_server.model.json_text import NotJson, check_json
from pyoco_server.model.limits import check_limits, limits_in
from pyoco_server.model.run import RunStatus
from pyoco_server.model.timing import NO_TIMING, Timing
from pyoco_server.settings import Settings

# Who asks and how it is traced may differ from one try of a submission to the next.
_NOT_CONTENT = (
    "tenant_id",
    "api_key_id",
    "request_id",
    "traceparent",
    "idempotency_key",
    "key_space",
    "same_as",
)


class NotAccepted(Refusal):
    """NATS could not be asked, or did not acknowledge in time; nothing was accepted.

    Args:
        reason: What went wrong.
        run_id: The run's id where NATS could not even be asked to take back what may be stored, so that
            it may show up after all.
    """

    def __init__(self, reason: str, run_id: str | None = None) -> None:
        super().__init__(reason)
        self.run_id = run_id


def why_not_accepted(error: BridgeError | None, *, keyed: bool, run_id: str | None = None) -> str:
    """What is said of a submission that NATS did not take; what exactly got no answer is for the log.

    Args:
        error: What the bridge said; ``None`` where time was up.
        keyed: Whether the submission has an idempotency key.
        run_id: The run that may be executed although it was refused.
    """
    silent = error is None or isinstance(error, Unanswered)
    why = "NATS did not answer in time" if silent else str(error)
    if keyed:
        # What an earlier try with the key came to is not known either. A requeue has a key of ours.
        return (
            f"{why}; sent again, with the same Idempotency-Key where one was given, it is one run "
            "whatever became of this try"
        )
    if run_id is not None:
        return f"{why}; run {run_id} may be executed if a worker gets it before it is taken back"
    return why


class RunTooLarge(Refusal):
    """The run does not fit into what NATS or the snapshot limit allows."""


class KeyReused(Refusal):
    """The idempotency key stands for another submission than this one."""


class CannotWait(Refusal):
    """The run is to start later, and this NATS server holds no messages back."""

    def __init__(self) -> None:
        super().__init__(
            "the NATS server cannot hold a run back until its time: that takes nats-server 2.12 or newer"
        )


@dataclass(frozen=True, slots=True)
class NewRun:
    """A run as its submitter describes it.

    Attributes:
        flow_name: Which flow.
        tag: Where it is routed.
        tags: What is shown; ``[tag]`` when empty.
        params: JSON values.
        workflow_yaml: The text of a flow.yaml, for a run that brings its flow.
        workflow_yaml_sha256: Hex digest of that text's bytes.
        workflow_yaml_bytes: Its size in bytes.
        tenant_id: Whose run it is, under auth.
        api_key_id: Which key submitted it, under auth.
        timeout_sec: How long one attempt may take, in seconds.
        max_attempts: How often it may be tried.
        retry_backoff_sec: The wait before the second attempt, in seconds; doubled before each further one.
        memory_mb: How much memory the processes of an attempt may have together, in MB of 1,048,576 bytes.
        cpu_sec: How much processor time they may take together, in seconds.
        retry_of: The run that this one repeats.
        request_id: Id of the submitting request, for the logs.
        traceparent: W3C trace context of the submitting request.
        idempotency_key: All submissions of a tenant with the same key are one, for a day.
        key_space: Whose names the key is one of; empty for those of clients.
        same_as: What all submissions with this key are the same by, whatever else of them differs.
        timing: When it may start, until when, and when it is late.
        run_id: The run's id, for one that has it before it is submitted; so it is the same submission
            whatever else of it has changed by the next try.
        schedule_id: The schedule that submits it.
        scheduled_at: For which tick of that, in unix seconds.

    Raises:
        InvalidTag: The tag is none.
        InvalidIdempotencyKey: The key is none.
        InvalidField: The flow has no name, JSON cannot carry the params as they are, or a limit is none.
        NestedTooDeeply: The params are.
    """

    flow_name: str
    tag: str
    tags: tuple[str, ...] = ()
    params: dict[str, Any] = field(default_factory=dict)
    workflow_yaml: str | None = None
    workflow_yaml_sha256: str | None = None
    workflow_yaml_bytes: int | None = None
    tenant_id: str | None = None
    api_key_id: str | None = None
    timeout_sec: float | None = None
    max_attempts: int | None = None
    retry_backoff_sec: float | None = None
    memory_mb: int | None = None
    cpu_sec: float | None = None
    retry_of: str | None = None
    request_id: str | None = None
    traceparent: str | None = None
    idempotency_key: str | None = None
    key_space: str = ""
    same_as: str | None = None
    timing: Timing = NO_TIMING
    run_id: str | None = None
    schedule_id: str | None = None
    scheduled_at: float | None = None

    def __post_init__(self) -> None:
        """Refuse what no run can be asked for with."""
        if not self.flow_name.strip():
            raise InvalidField("flow_name", "must not be empty")
        check_tag(self.tag)
        try:
            check_json(self.params)
        except NotJson as error:
            raise InvalidField("params", str(error)) from None
        if limits := limits_in(self):
            check_limits(**limits)
        if self.idempotency_key is not None:
            check_idempotency_key(self.idempotency_key)

    @classmethod
    def of_flow_file(
        cls,
        raw: bytes,
        *,
        tag: str,
        flow_name: str = "main",
        params: Mapping[str, Any] | None = None,
    ) -> NewRun:
        """A run that brings its flow.

        Args:
            raw: The bytes of a flow.yaml.
            tag: Where it is routed.
            flow_name: What it is called.
            params: JSON values, over the defaults of the file.

        Raises:
            FlowFileError: The file is not what it should be; the error tells what and where.
            WorkflowTooLarge: It is larger than PYOCO_WORKFLOW_YAML_MAX_BYTES allows where nothing is set.
        """
        file = parse_flow_yaml(raw, max_bytes=Settings().workflow_yaml_max_bytes)
        return cls.of_flow(file, tag=tag, flow_name=flow_name, params=params)

    @classmethod
    def of_flow(
        cls,
        file: FlowFile,
        *,
        tag: str,
        flow_name: str = "main",
        params: Mapping[str, Any] | None = None,
    ) -> NewRun:
        """The same of a file that was read already."""
        return cls(
            flow_name,
            tag,
            params={**file.defaults, **(params or {})},
            workflow_yaml=file.text,
            workflow_yaml_sha256=file.sha256,
            workflow_yaml_bytes=file.size_bytes,
            **limits_in(file.limits),
        )

    def job(self, run_id: str, submitted_at: float) -> Job:
        """The job of this run."""
        return Job(
            run_id=run_id,
            flow_name=self.flow_name,
            tag=self.tag,
            tags=list(self.tags) or [self.tag],
            params=self.params,
            submitted_at=submitted_at,
            tenant_id=self.tenant_id,
            api_key_id=self.api_key_id,
            workflow_yaml=self.workflow_yaml,
            workflow_yaml_sha256=self.workflow_yaml_sha256,
            workflow_yaml_bytes=self.workflow_yaml_bytes,
            **limits_in(self),
            retry_of=self.retry_of,
            request_id=self.request_id,
            traceparent=self.traceparent,
            **self._times(submitted_at),
            schedule_id=self.schedule_id,
            scheduled_at=self.scheduled_at,
        )

    @property
    def timed(self) -> bool:
        """Whether it asks something of time."""
        return self.timing != NO_TIMING

    def _times(self, now: float) -> dict[str, Any]:
        """The times of a job that are set."""
        if not self.timed:
            return {}
        timing = self.timing
        times = {
            "scheduled_for": timing.due(now),
            "expires_at": timing.expiry(now),
            "expected_start_within_sec": timing.expected_start_within_sec,
            "expected_end_within_sec": timing.expected_end_within_sec,
        }
        return {name: time for name, time in times.items() if time is not None}

    def digest(self) -> str:
        """A digest of what is asked for; the same for each try of one submission."""
        if self.same_as is not None:
            return content_digest({"same_as": self.same_as})
        if self.run_id is not None:
            return content_digest({"run_id": self.run_id})
        content: dict[str, Any] = msgspec.to_builtins(self)
        for name in _NOT_CONTENT:
            del content[name]
        if not self.timed:
            # So it was before runs could ask for it: a key may be older than this version.
            del content["timing"]
        return content_digest(content)


@dataclass(frozen=True, slots=True)
class Person:
    """Who asks.

    Attributes:
        tenant_id: Whose dead letters and schedules those are; None for everybody's.
        api_key_id: The key that new schedules and runs belong to.
        actor: How the history of a schedule names them.
        request_id: See `NewRun`.
        traceparent: See `NewRun`.
    """

    tenant_id: str | None = None
    api_key_id: str | None = None
    actor: str | None = None
    request_id: str | None = None
    traceparent: str | None = None


@dataclass(frozen=True, slots=True)
class Accepted:
    """A submission that was taken: its run will come to an end.

    Attributes:
        run_id: The run.
        status: Its state when it was accepted.
        replayed: Whether an earlier submission with the same idempotency key had been taken already.
        scheduled_for: When it may start, in unix seconds, where that is later.
    """

    run_id: str
    status: RunStatus = RunStatus.PENDING
    replayed: bool = False
    scheduled_for: float | None = None
