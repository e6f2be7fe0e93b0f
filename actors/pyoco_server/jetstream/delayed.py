"""Messages that the server holds back until it is time, by its own clock.

One is stored under a subject of its own until it is due, and then moved to its target by the server (ADR-51
of nats-architecture-and-design, nats-server 2.12). One that falls due while the server is away is moved when
it is back. Whether a stream can do that is `StreamInfo.holds_back`.
"""

from __future__ import annotations

from datetime import UTC, datetime

from pyoco_server.jetstream.publish import Publication


def delayed(
    subject: str, target: str, payload: bytes, at: float, *, msg_id: str | None = None
) -> Publication:
    """Return the message that has another one published when it is time.

    Args:
        subject: Where it is held back, in the place of an earlier one there.
        target: Where it goes then; a subject of the same stream.
        payload: Its bytes.
        at: When, in unix seconds; at once for a moment that is over.
        msg_id: Makes a repetition harmless.
    """
    moment = datetime.fromtimestamp(at, UTC).isoformat()
    headers = {"Nats-Schedule": f"@at {moment}", "Nats-Schedule-Target": target}
    return Publication(subject, payload, msg_id, headers=headers)
