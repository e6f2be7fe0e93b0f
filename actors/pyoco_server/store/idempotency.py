"""The stored idempotency keys; each belongs to one try of its submission at a time.

A try that wants to work on a submission takes the key with a compare-and-set, and settles it with another
one that holds only while nobody took the key over in between.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from msgspec.structs import replace

from pyoco_server.jetstream.errors import KeyNotFound, WrongRevision
from pyoco_server.jetstream.keyvalue import KeyValue
from pyoco_server.model.idempotency import IdempotencyRecord, decode_record
from pyoco_server.model.json_text import encode_json
from pyoco_server.store.fenced import write_fenced

# For one write or read, retries included.
_WITHIN_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class HeldKey:
    """A key as it is stored.

    Attributes:
        key: Where it is stored.
        record: What is remembered.
        revision: The revision of that.
        age_seconds: How long ago that was written, by the server's clock.
    """

    key: str
    record: IdempotencyRecord
    revision: int
    age_seconds: float = 0.0


class IdempotencyStore:
    """Reads and compare-and-set writes of idempotency keys; the bucket forgets each after a day.

    Each of them raises a `BridgeError` where NATS refused or could not be asked; what it writes may be
    written or not.
    """

    def __init__(self, bucket: KeyValue) -> None:
        self._bucket = bucket

    async def get(self, key: str) -> HeldKey | None:
        """Read a key; None where it was never used, or more than a day ago.

        Raises:
            UnreadableIdempotencyRecord: Something else is stored there.
        """
        try:
            entry = await self._bucket.get(key, within=_WITHIN_SECONDS)
        except KeyNotFound:
            return None
        age = self._bucket.now() - entry.created
        return HeldKey(key, decode_record(entry.value), entry.revision, age)

    async def create(
        self, key: str, record: IdempotencyRecord, *, unsure: bool = False
    ) -> HeldKey | None:
        """Take a key that was never used; None where it was.

        ``unsure`` says that this very record may have been written before.
        """
        return await self._write(key, record, 0, unsure=unsure)

    async def create_all(self, records: Sequence[tuple[str, IdempotencyRecord]]) -> list[HeldKey]:
        """Take keys that were never used: all of them, or none.

        Raises:
            BridgeError: As `KeyValue.update_all`; where one was used, as where they cannot be taken together.
        """
        return await self._write_all([(key, record, 0) for key, record in records])

    async def take_over(self, held: HeldKey, owner: str) -> HeldKey | None:
        """Take a key from the try that holds it; None where another one was faster."""
        return await self._write(
            held.key, replace(held.record, owner=owner, released=False), held.revision
        )

    async def settle(self, held: HeldKey, *, unsure: bool = False) -> bool:
        """Note that the run is accepted; False where the key was taken over meanwhile.

        ``unsure`` says that this was tried before, and may be noted.
        """
        settled = replace(held.record, accepted=True)
        return await self._write(held.key, settled, held.revision, unsure=unsure) is not None

    async def settle_all(self, held: Sequence[HeldKey]) -> None:
        """Note of all of them that the run is accepted, or of none.

        Raises:
            BridgeError: As `KeyValue.update_all`; where one was taken over, as where it cannot be done.
        """
        await self._write_all([(h.key, replace(h.record, accepted=True), h.revision) for h in held])

    async def release(self, held: HeldKey) -> bool:
        """Let the next try begin at once; False where the key was settled or taken over meanwhile."""
        released = replace(held.record, released=True)
        return await self._write(held.key, released, held.revision) is not None

    async def _write_all(
        self, writes: Sequence[tuple[str, IdempotencyRecord, int]]
    ) -> list[HeldKey]:
        values = [(key, encode_json(record), before) for key, record, before in writes]
        revisions = await self._bucket.update_all(values, within=_WITHIN_SECONDS)
        return [
            HeldKey(key, record, revision)
            for (key, record, _), revision in zip(writes, revisions, strict=True)
        ]

    async def _write(
        self, key: str, record: IdempotencyRecord, before: int, *, unsure: bool = False
    ) -> HeldKey | None:
        try:
            revision = await write_fenced(
                self._bucket,
                key,
                encode_json(record),
                before,
                unsure=unsure,
                within=_WITHIN_SECONDS,
            )
        except WrongRevision:
            return None
        return HeldKey(key, record, revision)
