"""How many messages the subjects of a stream hold, and which keys a bucket has."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

import msgspec

from pyoco_server.jetstream.api import call
from pyoco_server.jetstream.connection import Connection
from pyoco_server.jetstream.errors import ApiError


class StreamState(msgspec.Struct, frozen=True):
    """A stream as it is now.

    Attributes:
        messages: How many messages it holds.
        num_subjects: On how many subjects.
        last_seq: The sequence of the last one that was ever stored.
        subjects: How many messages each subject has, where asked for.
    """

    messages: int = 0
    num_subjects: int = 0
    last_seq: int = 0
    subjects: dict[str, int] | None = None


class _StreamInfo(msgspec.Struct):
    state: StreamState
    created: str = ""
    total: int = 0


async def subject_counts(
    connection: Connection, stream: str, *, subjects: str | None = None, within: float = 5.0
) -> StreamState:
    """Count the messages of a stream, and of its subjects.

    Args:
        connection: The way to NATS.
        stream: Its name.
        subjects: Also count the messages of each subject of this pattern, of the first 100,000.
        within: Seconds to wait.

    Raises:
        NotFound: It does not exist.
        BridgeError: Not connected, or not answered.
    """
    body = None if subjects is None else {"subjects_filter": subjects}
    info = await call(connection, f"STREAM.INFO.{stream}", body, answer=_StreamInfo, within=within)
    return info.state


async def bucket_keys(
    connection: Connection, bucket: str, *, within: float = 10.0
) -> AsyncGenerator[tuple[StreamState, list[str]], None]:
    """List the keys of a key-value bucket, deletion markers included, in pages of 100,000 by name.

    Gives each page with the state of the stream when it was made. A key that is there from the first page to
    the last is in one of them.

    Raises:
        ApiError: It does not exist, or keys were removed meanwhile: then begin again.
        BridgeError: Not connected, or not answered.
    """
    prefix = f"$KV.{bucket}."
    offset, last = 0, None
    while True:
        body: dict[str, Any] = {"subjects_filter": f"{prefix}>", "offset": offset}
        info = await call(
            connection, f"STREAM.INFO.KV_{bucket}", body, answer=_StreamInfo, within=within
        )
        names = sorted(subject.removeprefix(prefix) for subject in info.state.subjects or ())
        # Each page begins with the last name of the one before: unless it does, something before it was
        # removed, what follows moved to the front, and a page that is given would have passed over it.
        if last is not None and names[:1] != [last]:
            raise ApiError(409, 0, f"keys of bucket {bucket} were removed while they were listed")
        yield info.state, names
        if offset + len(names) >= info.total or len(names) < 2:
            return
        offset, last = offset + len(names) - 1, names[-1]
