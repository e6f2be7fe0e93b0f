"""The dead letter: why a job or a run could not be brought to a good end, for people to read."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Final

import msgspec

from pyoco_server.model.errors import ModelError
from pyoco_server.model.json_text import decode_json

PAYLOAD_BYTES: Final = 4096
"""How much of a message that is no job is kept."""


class DeadLetterReason(StrEnum):
    """Why a dead letter was written; those from ``max_deliveries`` on are not known to pyoco-server 0.5.1."""

    INVALID_JOB = "invalid_job"
    FLOW_NOT_FOUND = "flow_not_found"
    EXECUTION_ERROR = "execution_error"
    MAX_DELIVERIES = "max_deliveries"
    WORKER_CRASHED = "worker_crashed"
    TIMEOUT = "timeout"
    OUT_OF_MEMORY = "out_of_memory"
    CPU_LIMIT = "cpu_limit"
    JOB_LOST = "job_lost"
    EXPIRED = "expired"


class UnreadableDeadLetter(ModelError):
    """Bytes that are no dead letter."""


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One message of the dead-letter stream; what is not known is not written.

    ``reason`` is a ``DeadLetterReason``, or another word of another version.
    """

    timestamp: float
    """When it was written, in unix seconds."""
    reason: str
    error: str | None
    run_id: str | None = None
    flow_name: str | None = None
    tag: str | None = None
    tags: list[str] | None = None
    tenant_id: str | None = None
    api_key_id: str | None = None
    worker_id: str | None = None
    num_delivered: int | None = None
    """How often the message had been delivered."""
    subject: str | None = None
    """The subject of the message that could not be handled."""
    payload: str | None = None
    """The beginning of that message, made by ``payload_text``."""
    params: dict[str, Any] | None = None
    """The run's params, and what else it takes to submit it again; not known to pyoco-server 0.5.1."""
    workflow_yaml_sha256: str | None = None
    workflow_yaml_bytes: int | None = None
    timeout_sec: float | None = None
    max_attempts: int | None = None
    retry_backoff_sec: float | None = None
    memory_mb: int | None = None
    cpu_sec: float | None = None


def payload_text(raw: bytes) -> str:
    """Return the first ``PAYLOAD_BYTES`` bytes of a message as text."""
    return raw[:PAYLOAD_BYTES].decode("utf-8", "replace")


def decode_dead_letter(raw: bytes) -> DeadLetter:
    """Read a dead letter.

    Raises:
        UnreadableDeadLetter: It is not JSON, or not of the shape of a dead letter.
    """
    try:
        data = decode_json(raw, cut=True)
        if isinstance(data, dict):
            data.setdefault("error", None)
        return msgspec.convert(data, DeadLetter)
    except ValueError as error:
        raise UnreadableDeadLetter(f"a dead letter cannot be understood: {error}") from None
