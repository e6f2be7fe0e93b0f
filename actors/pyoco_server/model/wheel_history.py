"""The history of the wheel registry: who did what to which wheel."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from typing import Final

import msgspec


class WheelActor(msgspec.Struct, frozen=True, kw_only=True):
    """Whose key it was; nothing where no keys are asked for."""

    tenant_id: str | None = None
    api_key_id: str | None = None


class WheelSource(msgspec.Struct, frozen=True, kw_only=True):
    """Where the request came from, as its headers say; not to be relied on."""

    remote_addr: str | None = None
    x_forwarded_for: str | None = None
    x_real_ip: str | None = None
    user_agent: str | None = None
    host: str | None = None
    scheme: str | None = None


class WheelEvent(msgspec.Struct, frozen=True, kw_only=True):
    """An upload or a deletion. Its time is unix seconds.

    ``owner_tenant_id`` is not in events of pyoco-server 0.5.1: whose wheel it is, None for a shared one.
    """

    event_id: str = msgspec.field(default_factory=lambda: uuid.uuid4().hex)
    occurred_at: float
    action: str
    wheel_name: str
    tags: list[str] = msgspec.field(default_factory=list)
    size_bytes: int | None = None
    sha256_hex: str | None = None
    replace: bool | None = None
    actor: WheelActor = WheelActor()
    source: WheelSource = WheelSource()
    owner_tenant_id: str | None = None

    @property
    def key(self) -> str:
        """Its key in the bucket, by which events are in the order of their times."""
        return f"{int(self.occurred_at * 1000):013d}_{self.event_id}"


_DECODER: Final = msgspec.json.Decoder(WheelEvent)


def decode_event(raw: bytes) -> WheelEvent | None:
    """Read an event; None for what is none."""
    try:
        return _DECODER.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def newest(
    events: Iterable[WheelEvent], *, limit: int, wheel_name: str | None, action: str | None
) -> list[WheelEvent]:
    """The newest events that match, newest first."""
    found = [
        event
        for event in events
        if wheel_name in {None, event.wheel_name} and action in {None, event.action}
    ]
    found.sort(key=lambda event: (event.occurred_at, event.event_id), reverse=True)
    return found[:limit]
