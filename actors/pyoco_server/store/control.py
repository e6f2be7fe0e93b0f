"""What gateways say to workers beside the queue: plain NATS messages, lost when nobody listens.

Nothing depends on them alone: they only make a worker see sooner what the buckets say.
"""

from __future__ import annotations

from typing import Final

import msgspec


class CancelRecorded(msgspec.Struct, frozen=True, tag="cancel", tag_field="op"):
    """A cancel of this run was recorded in its snapshot."""

    run_id: str


class LookAtRecord(msgspec.Struct, frozen=True, tag="look", tag_field="op"):
    """An operator has written an order into the worker's record."""


class FollowRun(msgspec.Struct, frozen=True, tag="follow", tag_field="op"):
    """Somebody reads the events of this run as they come."""

    run_id: str


Control = CancelRecorded | FollowRun | LookAtRecord

EVERY_WORKER: Final = "pyoco.control.all"
"""The subject that all workers listen on; no instance has this id."""

# Checkers take the types of decoders from classes only, not from unions.
_DECODER: msgspec.json.Decoder[Control] = msgspec.json.Decoder(Control)


def control_subject(instance_id: str) -> str:
    """The subject that the worker process ``instance_id`` listens on."""
    return f"pyoco.control.{instance_id}"


def presence_subject(instance_id: str) -> str:
    """Where the worker process ``instance_id`` answers whoever asks whether it lives."""
    return f"{control_subject(instance_id)}.presence"


def encode_control(message: Control) -> bytes:
    """Write a control message."""
    return msgspec.json.encode(message)


def decode_control(raw: bytes) -> Control | None:
    """Read a control message; None for one that this version does not know."""
    try:
        return _DECODER.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
