"""A call of the HTTP API as a value: what to send, and how to read the answer. Does no I/O."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, BinaryIO, Generic, Literal, TypeAlias, TypedDict, TypeVar
from urllib.parse import quote

T = TypeVar("T")

Document: TypeAlias = dict[str, Any]
"""A JSON object."""

IDEMPOTENCY_HEADER = "Idempotency-Key"
CANCEL_WAIT_SECONDS = 45
"""Longer than a flow that ignores its cancel lives by default: 30 s of grace, and 2 s more to be killed."""


class UnexpectedAnswer(ValueError):
    """A success that is not what the API gives: most likely no gateway answers at that URL."""


class UnsendableValue(ValueError):
    """A field of a request holds what JSON cannot carry, such as ``inf``; the text says which."""


@dataclass(frozen=True, slots=True)
class FilePart:
    """A file part of a form."""

    field: str
    filename: str
    data: bytes | BinaryIO
    content_type: str


@dataclass(frozen=True, slots=True)
class ApiCall(Generic[T]):
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
    json: Mapping[str, object] | None = None
    content: bytes | None = None
    form: Mapping[str, str] | None = None
    upload: FilePart | None = None
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


class MoveArguments(TypedDict, total=False):
    """When a run may start and until when. A moment is unix seconds, or an ISO 8601 time with its zone."""

    start_at: float | str | None
    """Not to be started before; what has passed already means now."""
    delay_sec: float | None
    """The same, in seconds from now."""
    expires_at: float | str | None
    """Not to be started then or later."""
    queue_ttl_sec: float | None
    """The same, in seconds from when it may start."""


class TimeArguments(MoveArguments, total=False):
    """The same, and by when it is expected to start and to end; it is marked late where it did not."""

    expected_start_within_sec: float | None
    """In seconds from when it may start."""
    expected_end_within_sec: float | None
    """In seconds from when it may start."""


class LimitArguments(TimeArguments, total=False):
    """Limits and times of a run; the limits of its flow.yaml hold where they are not given."""

    timeout_sec: float | None
    """How long one attempt may take, in seconds."""
    max_attempts: int | None
    """How often the run may be started."""
    retry_backoff_sec: float | None
    """The wait before the second attempt, in seconds; doubled before each further one."""
    memory_mb: int | None
    """How much memory the processes of an attempt may have together, in MB of 1,048,576 bytes."""
    cpu_sec: float | None
    """How much processor time they may take together, in seconds."""


MOVE_NAMES = tuple(MoveArguments.__annotations__)
TIME_NAMES = tuple(TimeArguments.__annotations__)
LIMIT_NAMES = tuple(LimitArguments.__annotations__)


def limits_of(limits: Mapping[str, Any], names: Collection[str] = LIMIT_NAMES) -> Document:
    """Return the limits that are given.

    Raises:
        TypeError: One has another name. Whatever is passed by name arrives here, and would go out.
    """
    if wrong := set(limits) - set(names):
        raise TypeError(
            f"no limit is called {', '.join(sorted(wrong))}; there are {', '.join(names)}"
        )
    return given(**limits)


WorkerOrder: TypeAlias = Literal["pause", "resume", "drain"]


def parse_value(body: bytes) -> Any:
    """Read any JSON value.

    Raises:
        ValueError: It is none.
    """
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        raise ValueError("JSON") from None


def parse_object(body: bytes) -> Any:
    """Read a JSON object; whoever calls for it says which.

    Raises:
        ValueError: It is something else; the text says what was wanted.
    """
    match parse_value(body):
        case dict() as document:
            return document
        case _:
            raise ValueError("JSON object")


def get(path: str, parse: Callable[[bytes], T] = parse_object, **params: Any) -> ApiCall[T]:
    """Describe a ``GET``; parameters that are ``None`` or empty are left out."""
    present = {name: value for name, value in params.items() if value is not None and value != ""}
    return ApiCall("GET", path, parse, params=present, repeatable=True)


def get_bytes(path: str, start: int) -> ApiCall[bytes]:
    """Describe a download, from a byte on."""
    headers = {"Range": f"bytes={start}-"} if start else {}
    return ApiCall("GET", path, bytes, headers=headers, repeatable=True)


def submission(path: str, idempotency_key: str | None, **body: Any) -> ApiCall[Any]:
    """Describe the ``POST`` of a run, which may be repeated where it has a key."""
    headers = {} if idempotency_key is None else {IDEMPOTENCY_HEADER: idempotency_key}
    repeatable = idempotency_key is not None
    return ApiCall("POST", path, parse_object, headers=headers, repeatable=repeatable, **body)


def with_params(call: ApiCall[T], **params: str | float | None) -> ApiCall[T]:
    """Return the call with further parameters; those that are ``None`` are left out."""
    return replace(call, params={**call.params, **given(**params)})


def path_of(*parts: str | int) -> str:
    """The path of these parts, whatever characters they hold."""
    return "".join(f"/{quote(str(part), safe='')}" for part in parts)


def given(**values: Any) -> Document:
    """Return those of the values that are not ``None``."""
    return {name: value for name, value in values.items() if value is not None}


def parse_objects(body: bytes) -> list[Any]:
    """Read a JSON list of objects.

    Raises:
        ValueError: It is something else.
    """
    match parse_value(body):
        case list() as documents:
            return documents
        case _:
            raise ValueError("JSON list")


def parse_page(body: bytes) -> Any:
    """Read ``{items, next_cursor}``.

    Raises:
        ValueError: It is something else.
    """
    match parse_object(body):
        case {"items": list()} as page:
            return dict(page)
        case _:
            raise ValueError("page of runs")


def parse_readiness(body: bytes) -> Any:
    """Read what is ready and what is not.

    Raises:
        ValueError: It is something else.
    """
    match parse_object(body):
        case {"reasons": list()} as document:
            return dict(document)
        case _:
            raise ValueError("account of what is ready")


def parse_text(body: bytes) -> str:
    """Read any text; bytes that are no UTF-8 are replaced."""
    return body.decode("utf-8", "replace")
