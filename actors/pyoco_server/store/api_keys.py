"""The stored API keys, for the command that makes and revokes them; the key ring follows them itself."""

from __future__ import annotations

from collections.abc import Sequence

import structlog
from msgspec.structs import replace

from pyoco_server.jetstream.errors import KeyNotFound, Unanswered, WrongRevision
from pyoco_server.jetstream.keyvalue import KeyValue
from pyoco_server.model.api_key import (
    ApiKeyRecord,
    UnreadableKey,
    bucket_key,
    decode_key,
)
from pyoco_server.model.json_text import encode_json

log = structlog.get_logger(__name__)

_MOST_RACES = 20


class KeyRecords:
    """Reads and writes API key records."""

    def __init__(self, bucket: KeyValue) -> None:
        self._bucket = bucket

    async def create(self, record: ApiKeyRecord) -> None:
        """Store a new key.

        Raises:
            WrongRevision: The id is taken.
            BridgeError: It was refused, or is not known to be stored.
        """
        await self._bucket.create(bucket_key(record.key_id), encode_json(record))

    async def all(self) -> Sequence[ApiKeyRecord]:
        """Every readable record, the newest first. Waits for NATS: put a deadline around it."""
        records: list[ApiKeyRecord] = []
        for entry in await self._bucket.all():
            try:
                records.append(decode_key(entry.value))
            except UnreadableKey as error:
                log.warning("unreadable API key record", key=entry.key, reason=str(error))
        return sorted(records, key=lambda record: record.created_at, reverse=True)

    async def revoke(self, key_id: str, *, now: float) -> ApiKeyRecord | None:
        """Revoke a key and return its record, None where there is none; a second time changes nothing.

        Raises:
            UnreadableKey: What is stored under the id is no record.
            BridgeError: NATS refused or could not be asked.
        """
        for _ in range(_MOST_RACES):
            try:
                entry = await self._bucket.get(bucket_key(key_id))
            except KeyNotFound:
                return None
            record = decode_key(entry.value)
            if record.revoked_at is not None:
                return record
            record = replace(record, revoked_at=now)
            try:
                await self._bucket.update(entry.key, encode_json(record), entry.revision)
            except WrongRevision:
                continue
            return record
        raise Unanswered(f"key {key_id} is written by others faster than it can be read")
