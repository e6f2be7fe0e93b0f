"""Every call of the HTTP API as a value: what to send, and how to read the answer. Does no I/O."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, BinaryIO, Generic, TypeAlias, TypedDict, TypeVar, Unpack
from urllib.parse import quote

T = TypeVar("T")

Document: TypeAlias = dict[str, Any]
"""A JSON object."""

IDEMPOTENCY_HEADER = "Idempotency-Key"
CANCEL_WAIT_SECONDS = 45
"""Longer than a flow that ignores its cancel lives by default: 30 s of grace, and 2 s more to be killed."""


class UnexpectedAnswer(ValueError):
    """A success that is not what the API gives: most likely no gateway answers at that URL."""


@dataclass(frozen=True, slots=True)
class Upload:
    """A file part of a form."""

    field: str
    filename: str
    data: bytes | BinaryIO
    content_type: str


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """One call.

    Attributes:
        method: The HTTP method.
        path: The path, below the base URL.
        parse: Makes the result of the answer's body; raises ``ValueError`` for a wrong one.
        params: The query.
        json: The body, for calls that take JSON.
        content: The body, for calls that take a text as it is.
        form: Text fields of a multipart body.
        upload: The file of a multipart body.
        headers: Headers of this call.
        repeatable: Whether sending it twice has the effect of sending it once.
        also: A status that is an answer of this call although it is no success.
    """

    method: str
    path: str
    parse: Callable[[bytes], T]
    params: Mapping[str, str | int | float | bool] = field(default_factory=dict)
    json: Document | None = None
    content: bytes | None = None
    form: Mapping[str, str] | None = None
    upload: Upload | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    repeatable: bool = False
    also: int | None = None

    def answered_by(self, status: int) -> bool:
        """Whether an answer with this status holds the result."""
        return 200 <= status < 300 or status == self.also

    def check_stream(self, content_type: str) -> None:
        """Make sure that the answer is a stream of server-sent events.

        Raises:
            UnexpectedAnswer: It is something else.
        """
        if content_type.partition(";")[0].strip().lower() != "text/event-stream":
            raise UnexpectedAnswer(
                f"{self.method} {self.path} answered with {content_type or 'no content type'!r}, "
                "which is no event stream; is there a pyoco gateway at this URL?"
            )

    def read(self, body: bytes) -> T:
        """Return the result.

        Raises:
            UnexpectedAnswer: The body is not what this call gives.
        """
        try:
            return self.parse(body)
        except ValueError as error:
            start = body[:80].decode("utf-8", "replace")
            raise UnexpectedAnswer(
                f"{self.method} {self.path} answered with {start!r}, which is no {error}; "
                "is there a pyoco gateway at this URL?"
            ) from None


def new_idempotency_key() -> str:
    """Return a key that no other submit has."""
    return uuid.uuid4().hex


class RunLimits(TypedDict, total=False):
    """Limits of a run; those of its flow.yaml hold where they are not given."""

    timeout_sec: float | None
    """How long one attempt may take, in seconds."""
    max_attempts: int | None
    """How often the run may be started."""
    retry_backoff_sec: float | None
    """The wait before the second attempt, in seconds; doubled before each further one."""


def _given(limits: RunLimits) -> Document:
    return {name: value for name, value in limits.items() if value is not None}


def submit_run(
    flow_name: str,
    params: Mapping[str, Any] | None = None,
    *,
    tag: str | None = None,
    tags: list[str] | None = None,
    idempotency_key: str | None = None,
    **limits: Unpack[RunLimits],
) -> Call[Document]:
    """``POST /runs``."""
    body: Document = {"flow_name": flow_name, "params": dict(params or {}), **_given(limits)}
    if tag is not None:
        body["tag"] = tag
    if tags is not None:
        body["tags"] = tags
    return Call(
        "POST",
        "/runs",
        parse_object,
        json=body,
        headers=_idempotency(idempotency_key),
        repeatable=idempotency_key is not None,
    )


def submit_run_yaml(
    workflow_yaml: str,
    *,
    flow_name: str = "main",
    tag: str | None = None,
    idempotency_key: str | None = None,
    **limits: Unpack[RunLimits],
) -> Call[Document]:
    """``POST /runs/yaml``."""
    data = workflow_yaml.encode()
    form = {"flow_name": flow_name} if tag is None else {"flow_name": flow_name, "tag": tag}
    return Call(
        "POST",
        "/runs/yaml",
        parse_object,
        form=form | {name: str(value) for name, value in _given(limits).items()},
        upload=Upload("workflow", "flow.yaml", data, "application/x-yaml"),
        headers=_idempotency(idempotency_key),
        repeatable=idempotency_key is not None,
    )


def submit_batch(runs: Sequence[Mapping[str, Any]]) -> Call[Document]:
    """``POST /runs/batch``; repeatable where each of the runs has an ``idempotency_key``."""
    return Call(
        "POST",
        "/runs/batch",
        parse_object,
        json={"runs": [dict(run) for run in runs]},
        repeatable=all(run.get("idempotency_key") for run in runs),
    )


def check_flow(workflow_yaml: str) -> Call[Document]:
    """``POST /flows/check``."""
    return Call(
        "POST",
        "/flows/check",
        parse_object,
        content=workflow_yaml.encode(),
        headers={"Content-Type": "text/plain; charset=utf-8"},
        repeatable=True,
    )


def get_run(run_id: str, *, include_records: bool = False) -> Call[Document]:
    """``GET /runs/{run_id}``."""
    params = {"include": "records"} if include_records else {}
    return get(f"/runs/{segment(run_id)}", parse_object, **params)


def cancel_run(
    run_id: str, *, reason: str | None = None, requested_by: str | None = None
) -> Call[Document]:
    """``POST /runs/{run_id}/cancel``; a second one finds the run cancelling or ended."""
    wish = {"reason": reason, "requested_by": requested_by}
    given = {name: value for name, value in wish.items() if value is not None}
    path = f"/runs/{segment(run_id)}/cancel"
    return Call("POST", path, parse_object, json=given or None, repeatable=True)


def get_tasks(run_id: str) -> Call[Document]:
    """``GET /runs/{run_id}/tasks``."""
    return get(f"/runs/{segment(run_id)}/tasks", parse_object)


def list_runs(
    *,
    status: str | None = None,
    flow: str | None = None,
    tag: str | None = None,
    full: bool = False,
    limit: int | None = None,
    updated_after: float | None = None,
    cursor: str | None = None,
    workflow_yaml_sha256: str | None = None,
) -> Call[Document]:
    """``GET /runs``, always as ``{items, next_cursor}``."""
    return get(
        "/runs",
        parse_page,
        status=status,
        flow=flow,
        tag=tag,
        include="full" if full else None,
        limit=limit,
        updated_after=updated_after,
        cursor=cursor,
        workflow_yaml_sha256=workflow_yaml_sha256,
    )


def watch_run(
    run_id: str,
    *,
    include_records: bool = False,
    since: float | None = None,
    timeout_sec: int | None = None,
) -> Call[Document]:
    """``GET /runs/{run_id}/watch``; the answer is a stream of server-sent events."""
    return get(
        f"/runs/{segment(run_id)}/watch",
        parse_object,
        include="records" if include_records else None,
        since=since,
        timeout_sec=timeout_sec,
    )


def get(
    path: str,
    parse: Callable[[bytes], T],
    **params: str | float | bool | None,
) -> Call[T]:
    """Describe a ``GET``; parameters that are ``None`` or empty are left out."""
    present = {name: value for name, value in params.items() if value is not None and value != ""}
    return Call("GET", path, parse, params=present, repeatable=True)


def get_bytes(path: str, start: int) -> Call[bytes]:
    """Describe a download, from a byte on."""
    headers = {"Range": f"bytes={start}-"} if start else {}
    return Call("GET", path, bytes, headers=headers, repeatable=True)


def with_params(call: Call[T], **params: str | float | None) -> Call[T]:
    """Return the call with further parameters; those that are ``None`` are left out."""
    present = {name: value for name, value in params.items() if value is not None}
    return replace(call, params={**call.params, **present})


def segment(text: str) -> str:
    """One segment of a path, whatever characters the text holds."""
    return quote(text, safe="")


def _idempotency(key: str | None) -> dict[str, str]:
    return {} if key is None else {IDEMPOTENCY_HEADER: key}


def parse_object(body: bytes) -> Document:
    """Read a JSON object.

    Raises:
        ValueError: It is something else; the text says what was wanted.
    """
    match _json(body):
        case dict() as document:
            return document
        case _:
            raise ValueError("JSON object")


def parse_objects(body: bytes) -> list[Document]:
    """Read a JSON list of objects.

    Raises:
        ValueError: It is something else.
    """
    match _json(body):
        case list() as documents:
            return documents
        case _:
            raise ValueError("JSON list")


def parse_page(body: bytes) -> Document:
    """Read ``{items, next_cursor}``, or a bare list of runs as such a page."""
    match _json(body):
        case list() as items:
            return {"items": items, "next_cursor": None}
        case {"items": list()} as page:
            return dict(page)
        case _:
            raise ValueError("JSON list of runs")


def parse_text(body: bytes) -> str:
    """Read any text; bytes that are no UTF-8 are replaced."""
    return body.decode("utf-8", "replace")


def _json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        raise ValueError("JSON") from None
