"""JetStream's own API: requests in JSON on ``$JS.API.>``."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

from pyoco_server.jetstream.connection import Connection
from pyoco_server.jetstream.errors import ApiError, NotFound, Unanswered

T = TypeVar("T")


class ApiRefusal(msgspec.Struct):
    """The error part of an answer."""

    code: int = 0
    err_code: int = 0
    description: str = ""


class Anything(msgspec.Struct):
    """An answer of which only matters that it is no refusal."""


class MaybeRefused(msgspec.Struct, frozen=True):
    """The error part alone of any answer."""

    error: ApiRefusal | None = None


def check(error: ApiRefusal | None) -> None:
    """Raise what an answer says went wrong.

    Raises:
        NotFound: The stream, consumer or message does not exist.
        ApiError: Anything else.
    """
    if error is None:
        return
    kind = NotFound if error.code == 404 else ApiError
    raise kind(error.code, error.err_code, error.description)


async def call(
    connection: Connection,
    what: str,
    body: dict[str, Any] | None = None,
    *,
    answer: type[T],
    within: float = 5.0,
) -> T:
    """Ask JetStream on ``$JS.API.<what>``, such as ``STREAM.INFO.PYOCO_WORK``; return what it answers.

    Raises:
        NotFound: What is asked about does not exist.
        ApiError: JetStream refused.
        BridgeError: Not connected, or not answered.
    """
    payload = b"" if body is None else msgspec.json.encode(body)
    reply = await connection.request(f"$JS.API.{what}", payload, within=within)
    try:
        check(msgspec.json.decode(reply.payload, type=MaybeRefused).error)
        return msgspec.json.decode(reply.payload, type=answer)
    except msgspec.MsgspecError as error:
        raise Unanswered(f"{what}: an answer that cannot be read: {error}") from None
