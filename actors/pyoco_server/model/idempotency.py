"""Idempotency keys: what a client may choose, and what is remembered of one."""

from __future__ import annotations

import hashlib
import re
from typing import Any, Final

import msgspec

from pyoco_server.model.errors import ModelError
from pyoco_server.model.json_text import safe_repr, without_nulls

MAX_KEY_CHARACTERS: Final = 255

_KEY: Final = re.compile(rf"[!-~]{{1,{MAX_KEY_CHARACTERS}}}")


class InvalidIdempotencyKey(ModelError):
    """A text that cannot be an idempotency key."""


class UnreadableIdempotencyRecord(ModelError):
    """Bytes that are no record of an idempotency key."""


class IdempotencyRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What is stored under a key: which run it stands for, and how far its submission is."""

    run_id: str
    digest: str
    """Of what was submitted; the same key with another digest is a mistake of the client."""
    owner: str
    """Which try works on the submission; each has another name."""
    accepted: bool = False
    """Whether snapshot and job are stored, so that the key is answered with the run from now on."""
    released: bool = False
    """Whether the owner gave up, having taken back what it had stored, so that the next try may begin."""


def check_idempotency_key(key: str) -> str:
    """Return ``key``.

    Raises:
        InvalidIdempotencyKey: It is not 1 to 255 visible ASCII characters.
    """
    if _KEY.fullmatch(key) is None:
        raise InvalidIdempotencyKey(
            f"an idempotency key has 1 to {MAX_KEY_CHARACTERS} visible ASCII characters and no blanks, "
            f"not {safe_repr(key)[:80]} of {len(key)} characters"
        )
    return key


def storage_key(tenant_id: str | None, key: str, space: str = "") -> str:
    """Where a key is stored: tenants do not see each other's, and any character is allowed in it.

    Args:
        tenant_id: Whose it is.
        key: The key.
        space: Whose names it is one of; those of clients have none.
    """
    within = f"{space}\0{key}" if space else key  # a client's key holds no \0
    return hashlib.sha256(f"{tenant_id or ''}\0{within}".encode()).hexdigest()


def content_digest(content: dict[str, Any]) -> str:
    """A digest of JSON values that does not depend on the order of keys; null is the same as missing."""
    present = msgspec.json.encode(without_nulls(content), order="deterministic")
    return hashlib.sha256(present).hexdigest()


def decode_record(raw: bytes) -> IdempotencyRecord:
    """Read a record.

    Raises:
        UnreadableIdempotencyRecord: It is none.
    """
    try:
        return msgspec.json.decode(raw, type=IdempotencyRecord)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise UnreadableIdempotencyRecord(f"no record of an idempotency key: {error}") from None
