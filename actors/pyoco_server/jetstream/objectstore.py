"""Object stores: put, read, delete, list and follow, interoperable with every client's (ADR-20).

A store is a stream ``OBJ_<bucket>``: an object's bytes are messages on ``$O.<bucket>.C.<nuid>``, and what
is known of it is the last message on ``$O.<bucket>.M.<name in base64>``. nats-py's own client reads
without a time limit and waits for ever for chunks that vanished; ours ends in an error.
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager

import msgspec
import structlog
from msgspec.structs import replace

from pyoco_server.jetstream.connection import Connection
from pyoco_server.jetstream.errors import BridgeError, ObjectNotFound
from pyoco_server.jetstream.follow import CaughtUp, Reset
from pyoco_server.jetstream.inventory import subjects_of
from pyoco_server.jetstream.objectinfo import (
    CHUNK_BYTES,
    ObjectInfo,
    UnreadableObject,
    decode_info,
    encode_info,
    encode_name,
    iso_time,
)
from pyoco_server.jetstream.objectput import put_chunks
from pyoco_server.jetstream.objectread import cut, read_chunks
from pyoco_server.jetstream.publish import publish_acked
from pyoco_server.jetstream.stored import last_message, purge_subject
from pyoco_server.jetstream.watch import Deleted, Entry, Watcher, WatchEvent

__all__ = ["ObjectInfo", "ObjectStore"]

log = structlog.get_logger(__name__)

_ROLLUP = {"Nats-Rollup": "sub"}


class ObjectStore:
    """A store. It may be created later, or be away for the moment.

    Each call raises a `BridgeError` where NATS refused or could not be asked; where it is not known what came
    of a write, it may be done.
    """

    def __init__(self, connection: Connection, bucket: str) -> None:
        self._connection = connection
        self.bucket = bucket
        self.stream = f"OBJ_{bucket}"
        self._chunks = f"$O.{bucket}.C."
        self._metas = f"$O.{bucket}.M."

    # Reading -------------------------------------------------------------------------------------

    async def info(self, name: str) -> ObjectInfo:
        """What is known of an object.

        Raises:
            ObjectNotFound: There is none of this name (any more).
        """
        info = await self._last_info(name)
        if info is None or info.deleted:
            raise ObjectNotFound(f"no object {name!r} in {self.bucket}")
        return info

    @asynccontextmanager
    async def read(
        self,
        info: ObjectInfo,
        start: int = 0,
        stop: int | None = None,
        *,
        silence_seconds: float = 10.0,
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """Read an object piece by piece, with about 1 MiB in memory, over lost connections.

        The last piece of the object is given only when the digest of all of them is right. A part that
        ends before it has no digest to be compared with.

        Args:
            info: Which; a put of the same name meanwhile makes it vanish.
            start: The first byte.
            stop: The one behind the last; None for all.
            silence_seconds: How long to wait for the next piece.

        Raises (while iterating):
            ObjectDamaged: Chunks are missing, or their digest is wrong.
            Unanswered: NATS gave nothing for that long.
        """
        pieces = read_chunks(
            self._connection, self.stream, self._chunks + info.nuid, info, silence_seconds
        )
        # To the end without a stop: there it shows that chunks are too many.
        until = None if stop is None or stop >= info.size else stop
        async with aclosing(pieces), aclosing(cut(pieces, start, until)) as part:
            yield part

    async def all(self) -> tuple[list[ObjectInfo], int]:
        """Every object, deleted ones included, and the sequence of the last change (see `put`).

        Waits for as long as NATS is away: put a deadline around it.
        """
        found: dict[str, ObjectInfo] = {}
        last = 0
        async with self.watch() as events:
            async for event in events:
                if isinstance(event, CaughtUp):
                    break
                if isinstance(event, Reset):
                    found.clear()
                    last = 0
                    continue
                found[event.name] = event
                last = max(last, event.sequence)
        return list(found.values()), last

    @asynccontextmanager
    async def watch(self) -> AsyncIterator[AsyncIterator[ObjectInfo | CaughtUp | Reset]]:
        """Follow the objects: each as it is now, `CaughtUp`, then each as it changes, deleted ones as well.

        It goes on over lost connections and restarted servers.
        """
        watcher = Watcher(self._connection, self.stream, self._metas, ">")

        async def changes(
            events: AsyncIterator[WatchEvent],
        ) -> AsyncGenerator[ObjectInfo | CaughtUp | Reset, None]:
            async for event in events:
                match event:
                    case Entry():
                        try:
                            info = decode_info(
                                event.value, sequence=event.revision, stored_at=event.created
                            )
                        except UnreadableObject as error:
                            log.warning("unreadable object", key=event.key, reason=str(error))
                        else:
                            yield info
                    case CaughtUp() | Reset():
                        yield event
                    case Deleted():
                        continue  # no client deletes metadata: it writes that the object is deleted

        async with aclosing(watcher.events()) as events, aclosing(changes(events)) as changed:
            yield changed

    # Writing -------------------------------------------------------------------------------------

    async def put(
        self, name: str, pieces: AsyncIterable[bytes], *, headers: Mapping[str, str] | None = None
    ) -> ObjectInfo:
        """Store an object, with about 1 MiB in memory; it replaces one of the same name. See `draft`."""
        return await self.publish(await self.draft(name, pieces, headers=headers))

    async def draft(
        self, name: str, pieces: AsyncIterable[bytes], *, headers: Mapping[str, str] | None = None
    ) -> ObjectInfo:
        """Store the bytes of an object that nobody sees before `publish`; else `discard` it.

        Failed or cancelled, it discards what is stored already, once NATS has answered for what was
        under way (`put_chunks`); where NATS is away just then, `purge_orphans` does that later.
        """
        options = {"max_chunk_size": CHUNK_BYTES}
        info = ObjectInfo(name=name, bucket=self.bucket, nuid=uuid.uuid4().hex, options=options)
        try:
            subject = self._chunks + info.nuid
            info = await put_chunks(self._connection, subject, info, pieces)
        except BaseException:  # cancelled or failed: pieces of what is no object must not stay
            self.discard(info)
            raise
        return replace(
            info, headers=dict(headers or {}), mtime=iso_time(self._connection.clock.now())
        )

    async def publish(
        self, draft: ObjectInfo, *, expected_last_change: int | None = None
    ) -> ObjectInfo:
        """Make a draft the object of its name; the chunks of the one before are removed.

        Args:
            draft: What `draft` returned.
            expected_last_change: Do it only if this is the sequence of the store's last change, as
                `all` told it; 0 for a store in which nothing ever was. The draft can then be published
                again with a newer one.

        Raises:
            WrongRevision: Something else was changed meanwhile.
            Unanswered: It may be published or not: the draft must not be discarded.
        """
        before = await self._last_info(draft.name)
        info = await self._put_info(draft, expected_last_change)
        if before is not None and not before.deleted and before.nuid not in {"", draft.nuid}:
            await self._purge_quietly(before.nuid)
        return info

    def discard(self, draft: ObjectInfo) -> None:
        """Remove the chunks of a draft, without waiting for anything."""
        body = msgspec.json.encode({"filter": self._chunks + draft.nuid})
        self._connection.publish_soon(f"$JS.API.STREAM.PURGE.{self.stream}", body)

    async def delete(self, name: str) -> ObjectInfo:
        """Delete an object; return what was known of it. Its name stays known as a deleted one's.

        Raises:
            ObjectNotFound: There is none of this name.
        """
        info = await self.info(name)
        gone = replace(info, deleted=True, size=0, chunks=0, digest="", mtime="")
        await self._put_info(gone, None)
        await self._purge_quietly(info.nuid)
        return info

    async def forget(self, name: str) -> None:
        """Delete an object so that not even its name stays known; nothing happens when there is none."""
        info = await self._last_info(name)
        if info is not None:
            # Its bytes last: what is interrupted in between is found by `purge_orphans`.
            await self._purge(self._metas + encode_name(name))
            await self._purge(self._chunks + info.nuid)

    async def purge_orphans(self, *, older_than_seconds: float) -> int:
        """Remove chunks that belong to no object: of puts that were broken off for good.

        Args:
            older_than_seconds: How long ago the last of them was stored, at least; a put under way
                has stored one just now.

        Returns:
            Of how many puts there were some.
        """
        known = {info.nuid for info in (await self.all())[0] if not info.deleted}
        removed = 0
        for subject in await subjects_of(self._connection, self.stream, self._chunks + ">"):
            if subject.removeprefix(self._chunks) in known:
                continue
            last = await last_message(self._connection, self.stream, subject)
            if (
                last is not None
                and self._connection.clock.now() - last.stored_at >= older_than_seconds
            ):
                await self._purge(subject)
                removed += 1
        return removed

    # ---------------------------------------------------------------------------------------------

    async def _put_info(self, info: ObjectInfo, expected_last_change: int | None) -> ObjectInfo:
        headers = dict(_ROLLUP)
        if expected_last_change is not None:
            # Instead of the subject's own last sequence, the server compares that of all metadata
            # (nats-server 2.11 and later).
            headers["Nats-Expected-Last-Subject-Sequence-Subject"] = self._metas + ">"
        ack = await publish_acked(
            self._connection,
            self._metas + encode_name(info.name),
            encode_info(info),
            headers=headers,
            expected_last_subject_sequence=expected_last_change,
            within=10.0,
        )
        return replace(info, sequence=ack.seq)

    async def _last_info(self, name: str) -> ObjectInfo | None:
        last = await last_message(self._connection, self.stream, self._metas + encode_name(name))
        if last is None:
            return None
        try:
            return decode_info(last.data, sequence=last.sequence, stored_at=last.stored_at)
        except UnreadableObject as error:
            raise ObjectNotFound(f"object {name!r} in {self.bucket}: {error}") from None

    async def _purge(self, subject: str) -> None:
        await purge_subject(self._connection, self.stream, subject, within=15.0)

    async def _purge_quietly(self, nuid: str) -> None:
        """Remove the bytes of what is gone already; what fails here is left to `purge_orphans`."""
        try:
            await self._purge(self._chunks + nuid)
        except BridgeError as error:
            log.info("chunks not removed yet", bucket=self.bucket, nuid=nuid, reason=str(error))
