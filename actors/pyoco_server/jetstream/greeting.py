"""What a NATS server says of itself before anybody logs in."""

from __future__ import annotations

from urllib.parse import urlsplit

import msgspec
import trio

_PORT = 4222
_MOST_BYTES = 64 * 1024


class Greeting(msgspec.Struct, kw_only=True):
    """The INFO line of a server (docs.nats.io, client protocol)."""

    server_name: str = ""
    version: str = ""
    cluster: str | None = None
    jetstream: bool = False
    auth_required: bool = False
    tls_required: bool = False
    tls_verify: bool = False


async def read_greeting(url: str) -> Greeting | None:
    """Read it; None when nobody, or no NATS server, answers. Put a deadline around it."""
    parts = urlsplit(url)
    try:
        async with await trio.open_tcp_stream(
            parts.hostname or "127.0.0.1", parts.port or _PORT
        ) as stream:
            said = b""
            while b"\n" not in said and len(said) < _MOST_BYTES:
                piece = bytes(await stream.receive_some())
                if not piece:
                    return None
                said += piece
        return msgspec.json.decode(said.partition(b" ")[2].strip(), type=Greeting)
    except (OSError, trio.BrokenResourceError, msgspec.MsgspecError):
        return None
