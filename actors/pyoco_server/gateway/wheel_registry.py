"""Takes wheels in and out of the registry, one decision at a time for each moment of the store."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import BinaryIO, TypeAlias, assert_never

import structlog
import trio

from pyoco_server.jetstream.errors import BridgeError
from pyoco_server.kernel import Actor, Refusal, Reply, Request
from pyoco_server.model.errors import ModelError
from pyoco_server.model.wheel import StoredWheel, WheelName, check_rise
from pyoco_server.model.wheel_archive import check_archive
from pyoco_server.model.wheel_history import WheelActor, WheelEvent, WheelSource
from pyoco_server.store.wheels import RegistryState, WheelNotFound, WheelStore

log = structlog.get_logger(__name__)

_ORPHAN_SECONDS = 3600.0


class PackageTaken(Refusal):
    """The package belongs to somebody else."""


class RegistryFull(Refusal):
    """The quota would be passed."""


class WheelsUnavailable(Refusal):
    """NATS could not be asked, or did not acknowledge; the change may or may not hold."""


@dataclass(frozen=True, slots=True)
class Requester:
    """Who asks, for the history and for what it may touch.

    Attributes:
        tenant_id: Its tenant; None where no keys are asked for.
        api_key_id: Its key, likewise.
        manages_shared: Whether it may change what all tenants share.
        source: Where the request came from.
    """

    tenant_id: str | None = None
    api_key_id: str | None = None
    manages_shared: bool = True
    source: WheelSource = field(default_factory=WheelSource)

    def sees(self, wheel: StoredWheel) -> bool:
        """Whether the wheel is among its own or the shared ones."""
        return (
            self.api_key_id is None
            or wheel.tenant_id is None
            or (wheel.tenant_id == self.tenant_id)
        )


@dataclass(frozen=True, slots=True)
class UploadWheel(Request[StoredWheel]):
    """Store a wheel.

    Refused with `BadWheel`, `WheelVersionConflict`, `PackageTaken`, `RegistryFull` or `WheelsUnavailable`.

    Attributes:
        name: Its name.
        file: Its bytes; the actor keeps a descriptor of its own, so that it may be closed at any time.
        size_bytes: Their number.
        sha256: Their digest in hex.
        content_type: As the uploader calls it.
        tags: Workers that it is for; empty for all.
        shared: Whether it is for all tenants.
        replace: Kept for the history; versions rise, so nothing is ever replaced.
        by: Who uploads it.
    """

    name: WheelName
    file: BinaryIO
    size_bytes: int
    sha256: str
    content_type: str
    tags: tuple[str, ...] = ()
    shared: bool = False
    replace: bool = True
    by: Requester = Requester()

    @property
    def owner(self) -> str | None:
        """The tenant that it will belong to."""
        return None if self.shared else self.by.tenant_id


@dataclass(frozen=True, slots=True)
class DeleteWheel(Request[None]):
    """Delete a wheel. Refused with `WheelNotFound`, `PackageTaken` or `WheelsUnavailable`."""

    name: str
    by: Requester = Requester()


@dataclass(frozen=True, slots=True)
class _CleanUp:
    """Time to look for what broken-off uploads left."""


WheelRegistryMessage: TypeAlias = UploadWheel | DeleteWheel | _CleanUp


class WheelRegistry(Actor[WheelRegistryMessage]):
    """Carries out each request in a task of its own; the store decides races, between gateways too.

    Args:
        store: The registry.
        strict: Whether an archive must be what its name says.
        quota_bytes: How much the wheels of one owner may have in all; 0 for no limit.
    """

    def __init__(self, store: WheelStore, *, strict: bool, quota_bytes: int) -> None:
        self._store = store
        self._strict = strict
        self._quota = quota_bytes
        # Checking reads the whole archive; more at once would only take turns.
        self._checks = trio.CapacityLimiter(2)

    async def on_start(self) -> None:
        """Look for left-overs from time to time."""
        self.tell_every(_ORPHAN_SECONDS, _CleanUp())

    async def handle(self, message: WheelRegistryMessage) -> None:
        """Start the request and be free for the next one."""
        match message:
            case UploadWheel():
                reply = self.reply_to(message)
                try:
                    file = os.fdopen(os.dup(message.file.fileno()), "rb")
                except (OSError, ValueError) as error:
                    reply.fail(WheelsUnavailable(f"the uploaded file is gone: {error}"))
                    return
                self.spawn(self._upload, message, file, reply)
            case DeleteWheel():
                self.spawn(self._delete, message, self.reply_to(message))
            case _CleanUp():
                self.spawn(self._clean_up)
            case _:
                assert_never(message)

    async def _upload(
        self, request: UploadWheel, file: BinaryIO, reply: Reply[StoredWheel]
    ) -> None:
        try:
            with file:
                if self._strict:
                    await trio.to_thread.run_sync(
                        check_archive, file, request.name, limiter=self._checks
                    )
                added = await self._store.add(
                    request.name,
                    file,
                    sha256=request.sha256,
                    content_type=request.content_type,
                    tags=request.tags,
                    tenant_id=request.owner,
                    rule=self._rule(request),
                )
        except (ModelError, Refusal) as error:
            reply.fail(error)
        except (BridgeError, OSError) as error:
            reply.fail(WheelsUnavailable(str(error)))
        else:
            await self._remember("upload", added.wheel, request.by, replace=request.replace)
            reply.send(added.wheel)

    def _rule(self, request: UploadWheel) -> Callable[[RegistryState], None]:
        def check(state: RegistryState) -> None:
            mine = request.name.package
            for other in state.wheels:
                owner = other.wheel.tenant_id
                if other.wheel.name.package == mine and owner != request.owner:
                    raise PackageTaken(f"package {mine!r} belongs to somebody else here")
            check_rise(request.name, state.names)
            used = sum(
                other.wheel.size_bytes
                for other in state.wheels
                if other.wheel.tenant_id == request.owner
            )
            if 0 < self._quota < used + request.size_bytes:
                raise RegistryFull(
                    f"{used} bytes of wheels are there and {request.size_bytes} more would come; "
                    f"at most {self._quota} are allowed (PYOCO_WHEEL_QUOTA_BYTES): delete old ones"
                )

        return check

    async def _delete(self, request: DeleteWheel, reply: Reply[None]) -> None:
        try:
            wheel = (await self._store.get(request.name)).wheel
            if not request.by.sees(wheel):
                raise WheelNotFound(request.name)
            if wheel.tenant_id is None and not request.by.manages_shared:
                raise PackageTaken(f"wheel {request.name!r} is shared; only an admin deletes it")
            await self._store.delete(wheel.name)
        except Refusal as refusal:
            reply.fail(refusal)
        except BridgeError as error:
            reply.fail(WheelsUnavailable(str(error)))
        else:
            await self._remember("delete", wheel, request.by)
            reply.send(None)

    async def _remember(
        self, action: str, wheel: StoredWheel, by: Requester, replace: bool | None = None
    ) -> None:
        """Add to the history; losing an entry never undoes what was done."""
        event = WheelEvent(
            occurred_at=time.time(),
            action=action,
            wheel_name=wheel.name.text,
            tags=list(wheel.tags),
            size_bytes=wheel.size_bytes,
            sha256_hex=wheel.sha256,
            replace=replace,
            actor=WheelActor(tenant_id=by.tenant_id, api_key_id=by.api_key_id),
            source=by.source,
            owner_tenant_id=wheel.tenant_id,
        )
        log.info("registry changed", action=action, wheel_name=wheel.name.text)
        try:
            await self._store.record(event)
        except BridgeError as error:
            log.error(  # noqa: TRY400 - what failed is told in full by its text
                "wheel history not written", wheel_name=wheel.name.text, reason=str(error)
            )

    async def _clean_up(self) -> None:
        try:
            removed = await self._store.purge_orphans(older_than_seconds=_ORPHAN_SECONDS)
        except BridgeError as error:
            log.info("left-overs of uploads not looked for", reason=str(error))
        else:
            if removed:
                log.info("removed what broken-off uploads left", uploads=removed)
