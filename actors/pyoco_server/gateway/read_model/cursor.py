"""Where the next page goes on: opaque to clients, and good for the list that it came from only."""

from __future__ import annotations

import base64
import hashlib
import math

import msgspec

from pyoco_server.gateway.read_model.filters import RunFilter

Place = tuple[float, str]
"""``updated_at`` and run id of the last run of a page; lists are ordered by both, the highest first."""


class InvalidCursor(ValueError):
    """It is no cursor, or one of another list: of other filters or of another tenant."""


class _Cursor(msgspec.Struct):
    u: float
    r: str
    f: str


def encode_cursor(place: Place, run_filter: RunFilter) -> str:
    """Make the cursor of the page that begins behind ``place``."""
    raw = msgspec.json.encode(_Cursor(place[0], place[1], _digest(run_filter)))
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def decode_cursor(cursor: str, run_filter: RunFilter) -> Place:
    """Read a cursor that `encode_cursor` made.

    Raises:
        InvalidCursor: It is none, or was made for another filter.
    """
    try:
        raw = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        read = msgspec.json.decode(raw, type=_Cursor)
    except (ValueError, msgspec.MsgspecError):
        raise InvalidCursor("it is no next_cursor of a list") from None
    if read.f != _digest(run_filter):
        raise InvalidCursor("it belongs to a list with other filters")
    if not math.isfinite(read.u):
        raise InvalidCursor("it is no next_cursor of a list")
    return read.u, read.r


def _digest(run_filter: RunFilter) -> str:
    # Binds, but does not protect: what a forged cursor shows is filtered all the same.
    return hashlib.blake2s(msgspec.json.encode(run_filter), digest_size=8).hexdigest()
