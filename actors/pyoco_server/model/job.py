"""The job message: what a worker takes from the queue to execute a run."""

from __future__ import annotations

import re
import uuid
from typing import Any, Final

import msgspec
from msgspec import UNSET, UnsetType

from pyoco_server.model.errors import ErrorId, ModelError
from pyoco_server.model.json_text import NestedTooDeeply, decode_json, encode_json, safe_repr
from pyoco_server.model.run import Moment

TAG: Final = re.compile(r"[A-Za-z0-9_-]+")
"""A tag is one token of a NATS subject, so it has no dot."""

MAX_TAG_CHARACTERS: Final = 200
"""The line of a NATS message with its subject has 4,096 bytes at most; a longer one ends the connection."""
MAX_RUN_ID_CHARACTERS: Final = 200

# What NATS takes as a key of a key-value bucket (nats.py, nats/js/kv.py, VALID_KEY_RE), without
# the empty subject tokens that its server refuses.
_KEY: Final = re.compile(r"[-/_=A-Za-z0-9]+(\.[-/_=A-Za-z0-9]+)*")


class InvalidTag(ModelError):
    """A text that cannot be a tag."""


class InvalidJob(ModelError):
    """A message that is no job.

    Args:
        reason: What is wrong with it.
        run_id: The run it belongs to, where that can still be read.
    """

    error_id = ErrorId.INVALID_JOB

    def __init__(self, reason: str, run_id: str | None = None) -> None:
        self.run_id = run_id
        super().__init__(reason)


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """A run to be executed. The fields from ``snapshot_revision`` on are not in 0.5.1's jobs."""

    run_id: str
    flow_name: str
    tag: str = "default"
    tags: list[str] = msgspec.field(default_factory=list)
    params: dict[str, Any] = msgspec.field(default_factory=dict)
    submitted_at: float = 0.0
    """When it was submitted, in unix seconds."""
    tenant_id: str | None = None
    api_key_id: str | None = None
    workflow_yaml: str | None = None
    """The text of the flow.yaml, for a run that brings its own flow."""
    workflow_yaml_sha256: str | None = None
    workflow_yaml_bytes: int | None = None
    snapshot_revision: int | None = None
    """The revision of the PENDING snapshot, so that the first claim needs no read."""
    timeout_sec: float | None = None
    """How long one attempt may take, in seconds."""
    max_attempts: int | None = None
    """How often the run may be claimed."""
    retry_backoff_sec: float | None = None
    """The wait before the second attempt, in seconds; doubled before each further one."""
    memory_mb: int | UnsetType | None = UNSET
    """How much memory the processes of an attempt may have together, in MB of 1,048,576 bytes."""
    cpu_sec: float | UnsetType | None = UNSET
    """How much processor time they may take together, in seconds."""
    retry_of: str | None = None
    """The run that this one repeats."""
    traceparent: str | None = None
    """The W3C trace context of the submitting request."""
    request_id: str | None = None
    """The id of the submitting request, for the logs."""
    next_attempt_at: float | None = None
    """What this message was held back for: the snapshot's field of that name, in unix seconds."""
    scheduled_for: Moment = UNSET
    """The same, before the first attempt."""
    expires_at: Moment = UNSET
    """When the run may not start any more, in unix seconds."""
    expected_start_within_sec: Moment = UNSET
    """When the run is late, as in its snapshot."""
    expected_end_within_sec: Moment = UNSET
    schedule_id: str | UnsetType | None = UNSET
    """The schedule that submitted it."""
    scheduled_at: Moment = UNSET
    """For which tick of that, in unix seconds."""


_NO_REVISION: Final = b'"snapshot_revision":null'
# Falsy rather than null only: so 0.5.1 reads an empty text, list or object.
_DEFAULT_WHERE_FALSY: Final = ("tag", "tags", "params", "submitted_at")


def new_run_id() -> str:
    """Return a fresh run id: a random UUID in its text form."""
    return str(uuid.uuid4())


def is_run_id(text: str) -> bool:
    """Whether ``text`` can be the id of a run, whoever made it: a key that NATS takes."""
    return len(text) <= MAX_RUN_ID_CHARACTERS and _KEY.fullmatch(text) is not None


def check_tag(tag: str) -> str:
    """Return ``tag``.

    Raises:
        InvalidTag: It is not 1 to 200 of the characters ``A-Z a-z 0-9 _ -``.
    """
    if len(tag) > MAX_TAG_CHARACTERS or TAG.fullmatch(tag) is None:
        raise InvalidTag(
            f"a tag has 1 to {MAX_TAG_CHARACTERS} of the characters A-Z a-z 0-9 _ - only, "
            f"not {tag[:80]!r}"
        )
    return tag


def decode_job(raw: bytes) -> Job:
    """Read a job message of any producer.

    Only ``run_id`` and ``flow_name`` are required; null stands for the default.

    Raises:
        InvalidJob: It is not JSON, not an object, lacks a required field or has one of a wrong
            type. Its ``run_id`` tells the run, where that much can be read.
    """
    try:
        data = decode_json(raw)
    except NestedTooDeeply as error:
        # Read all the same, for whose run it is. Without what lies too deep it would be another run.
        known = decode_json(raw, cut=True)
        raise InvalidJob(str(error), _run_id(known) if isinstance(known, dict) else None) from None
    except ValueError as error:
        raise InvalidJob(f"not JSON: {error}") from None
    if not isinstance(data, dict):
        raise InvalidJob(f"a job must be a JSON object, not {type(data).__name__}")
    run_id = _run_id(data)
    flow_name = data.get("flow_name")
    if not isinstance(flow_name, str) or not flow_name:
        found = "it is missing" if flow_name is None else f"it is {safe_repr(flow_name)[:80]}"
        raise InvalidJob(f"flow_name must be a text of one or more characters; {found}", run_id)
    for name in _DEFAULT_WHERE_FALSY:
        if not data.get(name):
            data.pop(name, None)
    try:
        job = msgspec.convert(data, Job)
        check_tag(job.tag)
    except (msgspec.ValidationError, InvalidTag) as error:
        raise InvalidJob(str(error), run_id) from None
    return job


def _run_id(data: dict[str, Any]) -> str:
    run_id = data.get("run_id")
    if run_id is None:
        raise InvalidJob("run_id is missing")
    if not isinstance(run_id, str) or not is_run_id(run_id):
        raise InvalidJob(
            f"run_id must be a text of 1 to {MAX_RUN_ID_CHARACTERS} of the characters "
            f"A-Z a-z 0-9 - / _ = and single dots between them, not {safe_repr(run_id)[:80]}"
        )
    return run_id


def encode_job(job: Job) -> bytes:
    """Write a job message, as workers of this version and of 0.5.1 read it."""
    return encode_json(job)


def with_revision(encoded: bytes, revision: int) -> bytes:
    """Add the snapshot's revision to a job that was written before it was known."""
    # Behind it come numbers and texts only, which have no bare quotes: the last one is the job's own.
    head, found, tail = encoded.rpartition(_NO_REVISION)
    assert found
    return b"%b%b%d%b" % (head, _NO_REVISION.removesuffix(b"null"), revision, tail)
