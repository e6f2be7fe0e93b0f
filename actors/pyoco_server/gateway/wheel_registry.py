"""Takes wheels in and out of the registry, one decision at a time for each moment of the store."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from dataclasses import replace as changed
from functools import partial
from typing import BinaryIO

import structlog
import trio

from pyoco_server.jetstream.errors import BridgeError, Unanswered
from pyoco_server.kernel import Refusal
from pyoco_server.model.wheel import StoredWheel, WheelName, check_rise
from pyoco_server.model.wheel_archive import check_archive
from pyoco_server.model.wheel_history import WheelActor, WheelEvent, WheelSource
from pyoco_server.store.wheels import RegistryState, WheelStore

log = structlog.get_logger(__name__)

# Checking and storing half a gigabyte takes its time on a slow disk.
_UPLOAD_SECONDS = 300.0
_DELETE_SECONDS = 30.0
_RECORD_SECONDS = 10.0


class PackageTaken(Refusal):
    """All tenants share the package, which is an admin's to change."""


class RegistryFull(Refusal):
    """The quota would be passed."""


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
        return self.api_key_id is None or wheel.tenant_id in (None, self.tenant_id)


_ANYBODY = Requester()


@dataclass(frozen=True, slots=True)
class NewWheel:
    """A wheel to be stored.

    Attributes:
        sha256: Of its bytes, in hex.
        content_type: As the uploader calls it.
        tags: Workers that it is for; empty for all.
        shared: Whether it is for all tenants; ``None`` where its uploader knows of none: an admin's is where
            its package is shared already.
        replace: Kept for the history; versions rise, so nothing is ever replaced.
        by: Who uploads it.
    """

    name: WheelName
    file: BinaryIO
    size_bytes: int
    sha256: str
    content_type: str
    tags: tuple[str, ...] = ()
    shared: bool | None = False
    replace: bool = True
    by: Requester = _ANYBODY

    @property
    def owner(self) -> str | None:
        """The tenant that it will belong to."""
        return None if self.shared else self.by.tenant_id


class WheelRegistry:
    """Does it in the task of whoever asks; the store decides races, between gateways too.

    Args:
        strict: Whether an archive must be what its name says.
        quota_bytes: How much the wheels of one owner may have in all; 0 for no limit.
    """

    def __init__(self, store: WheelStore, *, strict: bool, quota_bytes: int) -> None:
        self._store = store
        self._strict = strict
        self._quota = quota_bytes
        # Checking reads the whole archive; more at once would only take turns.
        self._checks = trio.CapacityLimiter(2)

    async def upload(self, wheel: NewWheel) -> StoredWheel:
        """Store a wheel. Cancelled, it may or may not be stored.

        Raises:
            BadWheel: It is not what its name says.
            WheelVersionConflict: Its version does not rise above those that its owner has or had.
            PackageTaken: All tenants share a package of its name.
            RegistryFull: Its owner has no room left.
            BridgeError: NATS could not be asked, or not within five minutes.
            OSError: The wheel could not be read.
        """
        with _asking(_UPLOAD_SECONDS):
            if wheel.shared is None and wheel.by.manages_shared:
                shared = _shared_packages(await self._store.state())
                wheel = changed(wheel, shared=wheel.name.package in shared)
            if self._strict:
                await trio.to_thread.run_sync(
                    check_archive, wheel.file, wheel.name, limiter=self._checks
                )
            added = await self._store.add(
                wheel.name,
                wheel.file,
                sha256=wheel.sha256,
                content_type=wheel.content_type,
                tags=wheel.tags,
                tenant_id=wheel.owner,
                rule=partial(self._check, wheel),
            )
        await self._remember("upload", added.wheel, wheel.by, replace=wheel.replace)
        return added.wheel

    async def delete(self, name: str, by: Requester = _ANYBODY) -> None:
        """Delete a wheel. Cancelled, it may or may not be deleted.

        Raises:
            WheelNotFound: There is none that the asker sees.
            PackageTaken: It is not for the asker to delete.
            BridgeError: NATS could not be asked, or not within half a minute.
        """
        with _asking(_DELETE_SECONDS):
            found = await self._store.get(name, by.tenant_id, by.sees)
            wheel = found.wheel
            if wheel.tenant_id is None and not by.manages_shared:
                raise PackageTaken(f"wheel {name!r} is shared; only an admin deletes it")
            await self._store.delete(found)
        await self._remember("delete", wheel, by)

    def _check(self, new: NewWheel, state: RegistryState) -> None:
        there = [stored.wheel for stored in state.wheels]
        mine = new.name.package
        if new.owner is not None and mine in _shared_packages(state):
            raise PackageTaken(
                f"package {mine!r} is shared; only an admin uploads it, with shared=true (--shared)"
            )
        check_rise(new.name, state.names_of(new.owner))
        used = sum(wheel.size_bytes for wheel in there if wheel.tenant_id == new.owner)
        if 0 < self._quota < used + new.size_bytes:
            raise RegistryFull(
                f"{used} bytes of wheels are there and {new.size_bytes} more would come; "
                f"at most {self._quota} are allowed (PYOCO_WHEEL_QUOTA_BYTES): delete old ones"
            )

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
            # Done is done, also for an asker that has left.
            with trio.fail_after(_RECORD_SECONDS, shield=True):
                await self._store.record(event)
        except (BridgeError, trio.TooSlowError) as error:
            log.error(  # noqa: TRY400 - what failed is told in full by its text
                "wheel history not written", wheel_name=wheel.name.text, reason=str(error)
            )


def _shared_packages(state: RegistryState) -> set[str]:
    return {each.wheel.name.package for each in state.wheels if each.wheel.tenant_id is None}


@contextmanager
def _asking(seconds: float) -> Iterator[None]:
    with trio.move_on_after(seconds) as doing:
        yield
    if doing.cancelled_caught:
        raise Unanswered(f"not done within {seconds:g} s")
