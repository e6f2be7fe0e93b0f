"""Compare-and-set writes whose lost answers are looked up."""

from __future__ import annotations

import trio

from pyoco_server.jetstream.errors import (
    NO_TTL,
    ApiError,
    BridgeError,
    KeyNotFound,
    Unanswered,
    WrongRevision,
)
from pyoco_server.jetstream.keyvalue import KeyValue

# So that several tries fit into a time limit of a few seconds.
_TRY_SECONDS = 2.0


async def write_fenced(
    bucket: KeyValue,
    key: str,
    value: bytes,
    before: int,
    *,
    ttl_seconds: int | None = None,
    unsure: bool = False,
    within: float,
) -> int:
    """Write a value if the key still has revision ``before``; return the new revision.

    A write whose answer was lost is looked up and tried again, so that the caller learns whether it
    holds; for that, no other writer may write the same bytes. Cancelled, it may or may not be stored.

    Args:
        bucket: Where.
        key: The key.
        value: The bytes.
        before: The revision that the key must have: 0 for one that was never written, the revision of its
            marker (`KeyNotFound.revision`) for one that was deleted.
        ttl_seconds: The key is to go away so long after this write; it stays where the bucket, one of
            0.5.1's, cannot do that.
        unsure: This very write was tried before, and may be applied.
        within: Seconds, retries included.

    Raises:
        WrongRevision: Somebody else wrote first.
        Unanswered: Even looking it up got no answer within the time limit, or failed.
        BridgeError: NATS refused, or is not there; nothing is stored.
    """
    deadline = trio.current_time() + within
    while (left := deadline - trio.current_time()) > 0:
        patience = min(left, _TRY_SECONDS)
        try:
            try:
                return await bucket.update(
                    key, value, before, ttl_seconds=ttl_seconds, within=patience
                )
            except Unanswered:
                unsure = True
            except WrongRevision:
                if not unsure:
                    raise
            except ApiError as error:
                if error.err_code != NO_TTL or ttl_seconds is None:
                    raise
                ttl_seconds = None
                continue
            found = await _find(bucket, key, value, before, patience)
        except WrongRevision:
            raise
        except Unanswered:
            continue
        except BridgeError as error:
            if unsure:
                raise Unanswered(f"{bucket.bucket}/{key} may be written: {error}") from None
            raise
        if found is not None:
            return found
    raise Unanswered(f"no answer within {within:g} s to a write of {bucket.bucket}/{key}")


async def _find(bucket: KeyValue, key: str, value: bytes, before: int, within: float) -> int | None:
    """The revision of a write whose answer was lost; None when it is not stored."""
    try:
        entry = await bucket.get(key, within=within)
    except KeyNotFound as missing:
        if missing.revision == before:
            return None
        raise WrongRevision(key, before) from None
    if entry.value == value and entry.revision > before:
        return entry.revision
    if entry.revision == before:
        return None
    raise WrongRevision(key, before)
