"""Submitting a run again: what of an earlier one is taken over, and what stands in the way."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pyoco_server.gateway.new_run import NewRun
from pyoco_server.kernel import Refusal
from pyoco_server.model.dead_letter import DeadLetter, DeadLetterReason
from pyoco_server.model.run import RunSnapshot
from pyoco_server.store.workflows import WorkflowStore


class NotRepeatable(Refusal):
    """The run cannot be submitted again; the text says why."""


@dataclass(frozen=True, slots=True)
class Earlier:
    """What is needed of a run to submit it again; see `NewRun` for the fields."""

    run_id: str
    flow_name: str
    tag: str
    tags: tuple[str, ...]
    params: dict[str, Any]
    tenant_id: str | None
    api_key_id: str | None
    workflow_yaml_sha256: str | None
    workflow_yaml_bytes: int | None
    timeout_sec: float | None
    max_attempts: int | None
    retry_backoff_sec: float | None


def of_snapshot(run: RunSnapshot) -> Earlier:
    """Take a run from its snapshot.

    Raises:
        NotRepeatable: It has not ended.
    """
    if not run.status.terminal:
        raise NotRepeatable(f"the run is {run.status}; only one that has ended is submitted again")
    return Earlier(
        run_id=run.run_id,
        flow_name=run.flow_name,
        tag=run.tag or "default",
        tags=tuple(run.tags),
        params=run.params,
        tenant_id=run.tenant_id,
        api_key_id=run.api_key_id,
        workflow_yaml_sha256=run.workflow_yaml_sha256,
        workflow_yaml_bytes=run.workflow_yaml_bytes,
        timeout_sec=run.timeout_sec,
        max_attempts=run.max_attempts,
        retry_backoff_sec=run.retry_backoff_sec,
    )


def of_letter(letter: DeadLetter) -> Earlier:
    """Take a run from its dead letter, where its snapshot is gone.

    Raises:
        NotRepeatable: The letter does not tell enough.
    """
    if letter.reason == DeadLetterReason.INVALID_JOB:
        raise NotRepeatable(f"the message was no job that can be read: {letter.error}")
    if letter.run_id is None or letter.flow_name is None:
        raise NotRepeatable("the letter names no run and flow")
    if letter.params is None:
        raise NotRepeatable("neither the run nor its params are kept any more")
    return Earlier(
        run_id=letter.run_id,
        flow_name=letter.flow_name,
        tag=letter.tag or "default",
        tags=tuple(letter.tags or ()),
        params=letter.params,
        tenant_id=letter.tenant_id,
        api_key_id=letter.api_key_id,
        workflow_yaml_sha256=letter.workflow_yaml_sha256,
        workflow_yaml_bytes=letter.workflow_yaml_bytes,
        timeout_sec=letter.timeout_sec,
        max_attempts=letter.max_attempts,
        retry_backoff_sec=letter.retry_backoff_sec,
    )


async def again(
    earlier: Earlier,
    workflows: WorkflowStore,
    *,
    api_key_id: str | None,
    idempotency_key: str | None,
    request_id: str | None,
    traceparent: str | None,
) -> NewRun:
    """Make the new run: of the same tenant, by whoever asks for it now.

    Raises:
        NotRepeatable: Its flow.yaml is not kept any more.
        BridgeError: NATS could not be asked.
    """
    text = None
    if earlier.workflow_yaml_sha256 is not None:
        text = await workflows.get(earlier.workflow_yaml_sha256)
        if text is None:
            raise NotRepeatable(
                f"the flow.yaml {earlier.workflow_yaml_sha256} that it brought is not kept (any more)"
            )
    return NewRun(
        earlier.flow_name,
        earlier.tag,
        earlier.tags,
        earlier.params,
        workflow_yaml=text,
        workflow_yaml_sha256=earlier.workflow_yaml_sha256,
        workflow_yaml_bytes=earlier.workflow_yaml_bytes,
        tenant_id=earlier.tenant_id,
        api_key_id=api_key_id or earlier.api_key_id,
        timeout_sec=earlier.timeout_sec,
        max_attempts=earlier.max_attempts,
        retry_backoff_sec=earlier.retry_backoff_sec,
        retry_of=earlier.run_id,
        idempotency_key=idempotency_key,
        request_id=request_id,
        traceparent=traceparent,
    )
