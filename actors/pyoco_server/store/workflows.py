"""The texts of the flow.yaml files that runs brought along, so that they can be run again.

A job carries its text only for as long as it is queued, and a snapshot names nothing but its digest.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict

import trio

from pyoco_server.jetstream.connection import Connection
from pyoco_server.jetstream.errors import KeyNotFound, Unanswered
from pyoco_server.jetstream.keyvalue import KeyValue

# A text is written again a day after its last write. The bucket keeps it for some days longer than a run
# is kept (`jetstream.resources`), so that it outlives each run that names it; `renew` is for those that last.
_FRESH_SECONDS = 24 * 3600.0
_MOST_REMEMBERED = 10_000
# For one write or read, retries included, and for each try.
_WITHIN_SECONDS = 2.0
_TRY_SECONDS = 1.0


class WorkflowStore:
    """Keeps texts under their SHA-256, each once however many runs bring it."""

    def __init__(self, connection: Connection, bucket: str) -> None:
        self._connection = connection
        self._bucket = KeyValue(connection, bucket)
        self._identity: str | None = None
        # Digest to when it was written (trio's clock) and on which connection: a server that was away may
        # have come back without what it held.
        self._written: OrderedDict[str, tuple[float, int]] = OrderedDict()

    def lie_in(self, identity: str) -> None:
        """Say which bucket it is by now: in one that was made anew is nothing of what was written before."""
        if identity != self._identity:
            self._written.clear()
            self._identity = identity

    async def put(self, text: str) -> str:
        """Keep a text as `write` does; it costs nothing when this store has written it lately."""
        digest = _digest(text)
        written, epoch = self._written.get(digest, (-_FRESH_SECONDS, -1))
        if epoch == self._connection.epoch and trio.current_time() - written < _FRESH_SECONDS:
            self._written.move_to_end(digest)
            return digest
        return await self.write(text)

    async def write(self, text: str) -> str:
        """Keep a text; return the hex digest that it is found under.

        Cancelled, it may or may not be kept; a lost answer is no harm, because writing again has no further
        effect.

        Raises:
            BridgeError: NATS refused, or did not answer in time.
        """
        value, digest = text.encode(), _digest(text)
        deadline = trio.current_time() + _WITHIN_SECONDS
        while (left := deadline - trio.current_time()) > 0:
            try:
                await self._bucket.put(digest, value, within=min(left, _TRY_SECONDS))
            except Unanswered:
                continue
            self._remember(digest)
            return digest
        raise Unanswered(f"no answer within {_WITHIN_SECONDS:g} s to a write of workflow {digest}")

    async def renew(self, sha256: str, *, older_than: float) -> bool:
        """Write a text again where it was written so many seconds ago; return whether it was.

        Raises:
            BridgeError: NATS refused, or could not be asked.
        """
        try:
            entry = await self._bucket.get(sha256, within=_WITHIN_SECONDS)
        except KeyNotFound:
            return False
        if not await self._bucket.learn_time() or self._bucket.now() - entry.created < older_than:
            return False
        await self._bucket.put(sha256, entry.value, within=_WITHIN_SECONDS)
        return True

    async def get(self, sha256: str) -> str | None:
        """The text with this digest; None where it is not kept (any more), as of 0.5.1's gateways.

        Raises:
            BridgeError: NATS could not be asked.
        """
        try:
            entry = await self._bucket.get(sha256, within=_WITHIN_SECONDS)
        except KeyNotFound:
            return None
        return entry.value.decode()

    def _remember(self, digest: str) -> None:
        self._written[digest] = (trio.current_time(), self._connection.epoch)
        self._written.move_to_end(digest)
        if len(self._written) > _MOST_REMEMBERED:
            self._written.popitem(last=False)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
