"""The wheel registry as it is stored: an object store of wheels and a bucket of what was done to them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass
from typing import BinaryIO

import structlog
import trio

from pyoco_server.jetstream.connection import Connection
from pyoco_server.jetstream.errors import ObjectNotFound, Unanswered, WrongRevision
from pyoco_server.jetstream.follow import CaughtUp, Reset
from pyoco_server.jetstream.keyvalue import KeyValue
from pyoco_server.jetstream.objectstore import ObjectInfo, ObjectStore
from pyoco_server.kernel import Refusal
from pyoco_server.model.json_text import encode_json
from pyoco_server.model.wheel import (
    SHA256_HEADER,
    TAGS_HEADER,
    TENANT_HEADER,
    InvalidWheelName,
    InvalidWheelTags,
    StoredWheel,
    WheelName,
    object_name,
    parse_object_name,
    parse_worker_tags,
)
from pyoco_server.model.wheel_history import (
    WheelEvent,
    decode_event,
)
from pyoco_server.store.pieces import FilePieces

log = structlog.get_logger(__name__)

_LOOK_SECONDS = 10.0
_MAX_RACES = 50


class WheelNotFound(Refusal):
    """The registry has no wheel of this name."""

    def __init__(self, name: str) -> None:
        super().__init__(f"wheel {name!r} not found")
        self.name = name


@dataclass(frozen=True, slots=True)
class WheelObject:
    """A wheel and the object that holds its bytes."""

    wheel: StoredWheel
    info: ObjectInfo


@dataclass(frozen=True, slots=True)
class RegistryState:
    """The registry at one moment.

    Attributes:
        wheels: What it has, by name.
        names: Every name that it has or had, with whose it is or was.
        strange: Names of objects that cannot be wheels.
        last_change: Sequence of the change that made it so.
    """

    wheels: tuple[WheelObject, ...]
    names: tuple[tuple[str | None, WheelName], ...]
    strange: tuple[str, ...]
    last_change: int

    def names_of(self, tenant_id: str | None) -> list[WheelName]:
        """Every name that a tenant has or had; None for the shared ones."""
        return [name for owner, name in self.names if owner == tenant_id]


class WheelStore:
    """Reads and fenced writes of the registry.

    Each of them raises a `BridgeError` where NATS refused, or could not be asked within ten seconds; a write
    may be done all the same.
    """

    def __init__(self, connection: Connection, bucket: str, history_bucket: str) -> None:
        self._objects = ObjectStore(connection, bucket)
        self._history = KeyValue(connection, history_bucket)
        self.bucket = bucket

    async def state(self) -> RegistryState:
        """Everything that is there now."""
        with trio.move_on_after(_LOOK_SECONDS):
            infos, last = await self._objects.all()
            return registry_state(infos, last)
        raise Unanswered(f"the wheels could not be listed within {_LOOK_SECONDS:g} s")

    async def get(
        self,
        name: str,
        tenant_id: str | None = None,
        sees: Callable[[StoredWheel], bool] = lambda _: True,
    ) -> WheelObject:
        """Look a wheel up by its file name.

        Args:
            name: The file name.
            tenant_id: Whose is meant where several have one of that name.
            sees: Says which are there for whoever asks.

        Raises:
            WheelNotFound: There is none of this name.
        """
        state = await self.state()
        found = [w for w in state.wheels if w.wheel.name.text == name.strip() and sees(w.wheel)]
        if not found:
            raise WheelNotFound(name)
        return min(found, key=lambda each: each.wheel.tenant_id != tenant_id)

    def read(
        self, found: WheelObject, start: int = 0, stop: int | None = None
    ) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Read a wheel's bytes, the last ones only when all have the right digest; see `ObjectStore.read`."""
        return self._objects.read(found.info, start, stop)

    def watch(self) -> AbstractAsyncContextManager[AsyncIterator[ObjectInfo | CaughtUp | Reset]]:
        """Follow the registry; see `ObjectStore.watch`."""
        return self._objects.watch()

    async def add(
        self,
        name: WheelName,
        file: BinaryIO,
        *,
        sha256: str,
        content_type: str,
        tags: Iterable[str],
        tenant_id: str | None,
        rule: Callable[[RegistryState], None],
    ) -> WheelObject:
        """Store a wheel, if a rule allows it for what is there at that very moment.

        Args:
            name: Its name.
            file: Its bytes, read from the start.
            sha256: Their digest in hex.
            content_type: As its uploader calls it.
            tags: Workers that it is for.
            tenant_id: Whose it is.
            rule: Raises where it does not allow it; asked before the bytes are stored, and again
                whenever something was changed meanwhile.

        Raises:
            Exception: What the rule raised; nothing is stored then.
        """
        state = await self.state()
        rule(state)
        headers = {"content-type": content_type, SHA256_HEADER: sha256}
        if joined := ",".join(tags):
            headers[TAGS_HEADER] = joined
        if tenant_id is not None:
            headers[TENANT_HEADER] = tenant_id
        file.seek(0)
        draft = await self._objects.draft(
            object_name(name.text, tenant_id), FilePieces(file), headers=headers
        )
        try:
            info = await self._publish_when_allowed(draft, state, rule)
        except (Unanswered, trio.Cancelled):
            raise  # perhaps it is stored: what is not is found by purge_orphans
        except Exception:
            self._objects.discard(draft)
            raise
        return WheelObject(_wheel(name, info, tenant_id), info)

    async def _publish_when_allowed(
        self, draft: ObjectInfo, state: RegistryState, rule: Callable[[RegistryState], None]
    ) -> ObjectInfo:
        for _ in range(_MAX_RACES):
            try:
                return await self._publish(draft, state.last_change)
            except WrongRevision:
                state = await self.state()
                rule(state)
        raise Unanswered("the registry is changed by others faster than it can be read")

    async def _publish(self, draft: ObjectInfo, last_change: int) -> ObjectInfo:
        """Publish a draft; a publish whose answer was lost is looked up."""
        try:
            return await self._objects.publish(draft, expected_last_change=last_change)
        except (Unanswered, WrongRevision):
            with suppress(ObjectNotFound):
                found = await self._objects.info(draft.name)
                if found.nuid == draft.nuid:
                    return found
            raise

    async def delete(self, found: WheelObject) -> None:
        """Delete a wheel. Its version stays known, so that none of its owner below it can follow.

        Raises:
            WheelNotFound: It is gone.
        """
        try:
            await self._objects.delete(found.info.name)
        except ObjectNotFound:
            raise WheelNotFound(found.wheel.name.text) from None

    async def purge_orphans(self, *, older_than_seconds: float) -> int:
        """Remove what broken-off uploads left; see `ObjectStore.purge_orphans`."""
        return await self._objects.purge_orphans(older_than_seconds=older_than_seconds)

    # History -------------------------------------------------------------------------------------

    async def record(self, event: WheelEvent) -> None:
        """Add to the history."""
        await self._history.put(event.key, encode_json(event))

    async def history(self) -> list[WheelEvent]:
        """Everything that the history holds."""
        with trio.move_on_after(_LOOK_SECONDS):
            entries = await self._history.all()
            events = (decode_event(entry.value) for entry in entries)
            return [event for event in events if event is not None]
        raise Unanswered(f"the history could not be read within {_LOOK_SECONDS:g} s")


def registry_state(infos: Iterable[ObjectInfo], last_change: int) -> RegistryState:
    """What the objects of the store are as a registry."""
    wheels, names, strange = [], [], []
    for info in infos:
        try:
            tenant_id, name = parse_object_name(info.name)
        except InvalidWheelName:
            if not info.deleted:
                strange.append(info.name)
            continue
        wheel = _wheel(name, info, tenant_id)
        names.append((wheel.tenant_id, name))
        if not info.deleted:
            wheels.append(WheelObject(wheel, info))
    wheels.sort(key=lambda each: (each.wheel.name.text, each.wheel.tenant_id or ""))
    return RegistryState(tuple(wheels), tuple(names), tuple(sorted(strange)), last_change)


def _wheel(name: WheelName, info: ObjectInfo, tenant_id: str | None) -> StoredWheel:
    try:
        tags = parse_worker_tags(info.header(TAGS_HEADER) or "")
    except InvalidWheelTags as error:
        log.warning("wheel with unreadable tags", wheel_name=name.text, reason=str(error))
        tags = ()
    return StoredWheel(
        name=name,
        size_bytes=info.size,
        sha256=info.sha256_hex or "",
        nuid=info.nuid,
        mtime=info.mtime,
        tags=tags,
        tenant_id=tenant_id or info.header(TENANT_HEADER),
    )
