"""Submitting a run again: what of an earlier one is taken over, and what stands in the way."""

from __future__ import annotations

from dataclasses import dataclass, replace

from pyoco_server.gateway.new_run import NewRun
from pyoco_server.kernel import Refusal
from pyoco_server.model.dead_letter import DeadLetter, DeadLetterReason
from pyoco_server.model.run import RunSnapshot
from pyoco_server.store.workflows import WorkflowStore


class NotRepeatable(Refusal):
    """The run cannot be submitted again; the text says why."""


@dataclass(frozen=True, slots=True)
class Asker:
    """Who asks for a run to be submitted again; see `NewRun` for the fields."""

    api_key_id: str | None = None
    request_id: str | None = None
    traceparent: str | None = None


def of_snapshot(run: RunSnapshot) -> NewRun:
    """The run that repeats another one, but for the text of its flow.yaml.

    Raises:
        NotRepeatable: It has not ended.
    """
    if not run.status.terminal:
        raise NotRepeatable(f"the run is {run.status}; only one that has ended is submitted again")
    return _again(run, run.run_id, run.flow_name)


def of_letter(letter: DeadLetter) -> NewRun:
    """The same from its dead letter, where its snapshot is gone.

    Raises:
        NotRepeatable: The letter does not tell enough.
    """
    if letter.reason == DeadLetterReason.INVALID_JOB:
        raise NotRepeatable(f"the message was no job that can be read: {letter.error}")
    if letter.run_id is None or letter.flow_name is None:
        raise NotRepeatable("the letter names no run and flow")
    if letter.params is None:
        raise NotRepeatable("neither the run nor its params are kept any more")
    return _again(letter, letter.run_id, letter.flow_name)


def _again(earlier: RunSnapshot | DeadLetter, run_id: str, flow_name: str) -> NewRun:
    return NewRun(
        flow_name,
        earlier.tag or "default",
        tuple(earlier.tags or ()),
        earlier.params or {},
        workflow_yaml_sha256=earlier.workflow_yaml_sha256,
        workflow_yaml_bytes=earlier.workflow_yaml_bytes,
        tenant_id=earlier.tenant_id,
        api_key_id=earlier.api_key_id,
        timeout_sec=earlier.timeout_sec,
        max_attempts=earlier.max_attempts,
        retry_backoff_sec=earlier.retry_backoff_sec,
        retry_of=run_id,
    )


async def completed(
    run: NewRun, workflows: WorkflowStore, asker: Asker, idempotency_key: str | None
) -> NewRun:
    """Add the text of its flow.yaml to a run that repeats another one, and who asks for it now.

    Raises:
        NotRepeatable: Its flow.yaml is not kept any more.
        BridgeError: NATS could not be asked.
    """
    text = None
    if run.workflow_yaml_sha256 is not None:
        text = await workflows.get(run.workflow_yaml_sha256)
        if text is None:
            raise NotRepeatable(
                f"the flow.yaml {run.workflow_yaml_sha256} that it brought is not kept (any more)"
            )
    return replace(
        run,
        workflow_yaml=text,
        api_key_id=asker.api_key_id or run.api_key_id,
        idempotency_key=idempotency_key,
        request_id=asker.request_id,
        traceparent=asker.traceparent,
    )
