"""Keeps the worker's wheels as the registry has them, and tells slots what to import from."""

from __future__ import annotations

import errno
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain, groupby
from pathlib import Path
from typing import Final

import structlog
import trio
from msgspec.structs import replace
from packaging.tags import sys_tags

from pyoco_server.jetstream.errors import BridgeError, ObjectDamaged
from pyoco_server.kernel import Actor, ActorDown, ActorRef
from pyoco_server.model.errors import ErrorId
from pyoco_server.model.run import shrink_error
from pyoco_server.model.wheel import Selection, StoredWheel, select
from pyoco_server.model.wheel_archive import BadWheel
from pyoco_server.model.worker import InstalledWheel, SkippedWheel, WheelSync
from pyoco_server.settings import Settings
from pyoco_server.store.threads import in_thread, no_thread_is_os_error
from pyoco_server.store.wheels import RegistryState, WheelObject, WheelStore
from pyoco_server.worker.held_folder import HeldFolder
from pyoco_server.worker.messages import CurrentWheels, NewWheels, WheelsReported
from pyoco_server.worker.wheel_install import install_wheel
from pyoco_server.worker.wheel_set import Clash, WheelFolder, WheelSet, WheelSets

log = structlog.get_logger(__name__)

# Uploads that follow each other closely make one new set.
_GATHER_SECONDS = 0.05
_LONGEST_RETRY_SECONDS = 600.0
# A worker's record, which is one message, has the reasons of fifty wheels.
_REASON_BYTES = 1000
_DISK_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


class Unfit(Exception):
    """A wheel that this worker cannot have; the text says why."""


@dataclass(frozen=True, slots=True)
class _Have:
    """A wheel that is unpacked."""

    wheel: StoredWheel
    folder: HeldFolder
    since: float


@dataclass(frozen=True, slots=True)
class _Failure:
    """A wheel that could not be had, and when that is tried again (trio's clock)."""

    reason: str
    times: int
    again_at: float


class WheelSyncer(Actor[CurrentWheels]):
    """Follows the registry; the interval is for what the watch might miss, and for tries to repeat.

    Nothing that runs is touched: a set, once made, never changes. One wheel that cannot be had is left
    out, or an older version taken in its place, and tried again later.

    Args:
        settings: Where the registry is, where wheels and sets lie, and how long things may take.
    """

    def __init__(
        self,
        store: WheelStore,
        settings: Settings,
        tags: Sequence[str],
        *,
        slots: Sequence[ActorRef[NewWheels]],
        heartbeat: ActorRef[WheelsReported],
    ) -> None:
        self._store = store
        self._folder = WheelFolder(Path(settings.wheel_sync_dir).absolute())
        self._tags = tags
        self._interval = settings.wheel_sync_interval_sec
        self._install_timeout = settings.wheel_install_timeout_sec
        self._slots = slots
        self._heartbeat = heartbeat
        self._supported = {tag: place for place, tag in reversed(list(enumerate(sys_tags())))}
        self._changed = trio.Event()
        # What is current; None until the registry was looked at.
        self._sets: WheelSets | None = None
        self._looked = trio.Event()
        self._have: dict[str, _Have] = {}
        self._failures: dict[str, _Failure] = {}
        self._report = WheelSync(enabled=True, last_result="idle")

    async def on_start(self) -> None:
        """Begin to follow the registry."""
        self.spawn(self._watch)
        self.spawn(self._keep_in_step)

    async def handle(self, message: CurrentWheels) -> None:
        """Tell what is current, as soon as that is known."""
        self.answer(message, self._current)

    async def _current(self) -> WheelSets:
        while self._sets is None:
            await self._looked.wait()
        return self._sets

    async def _hand_out(self, sets: WheelSets) -> None:
        self._sets = sets
        self._looked.set()
        for slot in self._slots:
            with suppress(ActorDown):  # it asks when it is back
                await slot.tell(NewWheels(sets))

    # Keeping in step -----------------------------------------------------------------------------

    async def _watch(self) -> None:
        async with self._store.watch() as changes:
            async for _ in changes:
                self._changed.set()

    async def _keep_in_step(self) -> None:
        while True:
            self._changed = trio.Event()
            sets = await self._sync()
            if sets is not None and sets != self._sets:
                await self._hand_out(sets)
            # After that: what is reported is what the next run gets.
            await self._heartbeat.tell(WheelsReported(self._report))
            if sets is not None:  # else it is not known what is used
                await self._clean_up()
            with trio.move_on_after(self._interval):
                await self._changed.wait()
                await trio.sleep(_GATHER_SECONDS)

    async def _clean_up(self) -> None:
        """Remove what nobody uses; what is left of that goes the next time."""
        keep = [have.wheel for have in self._have.values()]
        try:
            with no_thread_is_os_error():
                await trio.to_thread.run_sync(self._folder.clean_up, keep)
        except OSError as error:
            log.warning("unused wheels not removed", reason=str(error))

    async def _sync(self) -> WheelSets | None:
        """Look at the registry once; return the sets, or None where they could not be made."""
        began, now = time.time(), trio.current_time()
        before = set(self._have)
        try:
            state = await self._store.state()
            owned = groupby(sorted(state.wheels, key=_owner), _owner)
            selections = [
                select((found.wheel for found in wheels), self._tags, self._supported)
                for _, wheels in owned
            ]
            with no_thread_is_os_error():
                have, skipped, sets = await self._made(selections, state, now)
        except (BridgeError, OSError) as error:
            log.warning("wheels not synced", err_id=ErrorId.WHEEL_SYNC_FAILED, reason=str(error))
            # Everybody may read it: the path of a file would name a wheel that is a tenant's.
            told = str(error.strerror if isinstance(error, OSError) else error)
            self._report = replace(
                self._report, last_result="error", last_attempt_at=began, last_error=told
            )
            return None
        self._have = have
        there = {found.wheel.nuid for found in state.wheels}
        self._failures = {
            nuid: each
            for nuid, each in self._failures.items()
            if nuid in there and nuid not in have
        }
        strange = [
            SkippedWheel(wheel_name=name, reason="its name is none that a wheel can have")
            for name in state.strange
        ]
        unsupported = chain.from_iterable(selection.skipped for selection in selections)
        self._report = self._told(began, before, [*skipped, *strange, *unsupported])
        return sets

    def _told(self, began: float, before: set[str], skipped: Sequence[SkippedWheel]) -> WheelSync:
        now = time.time()
        errors = sorted(
            f"{skip.wheel_name}: {skip.reason}"
            for skip in skipped
            if skip.reason != "unsupported_wheel_tags"
        )
        names = {key: have.wheel.name.text for key, have in self._have.items()}
        updated = sorted(names[key] for key in names.keys() - before)
        removed = sorted(set(self._report.selected_wheels) - set(names.values()))
        if not updated and not removed and not errors and self._report.last_result == "ok":
            # What the last change was stays to be seen.
            updated, removed = self._report.updated_wheels, self._report.removed_wheels
        return WheelSync(
            enabled=True,
            last_result="error" if errors else "ok",
            last_attempt_at=began,
            last_success_at=self._report.last_success_at if errors else now,
            last_synced_at=now,
            last_error="; ".join(errors) or None,
            selected_count=len(names),
            updated_count=len(updated),
            removed_count=len(removed),
            skipped_incompatible_count=len(skipped),
            selected_wheels=sorted(names.values()),
            updated_wheels=updated,
            removed_wheels=removed,
            skipped_incompatible=list(skipped),
            installed_wheels=[
                InstalledWheel(
                    wheel_name=have.wheel.name.text,
                    package_name=have.wheel.name.package,
                    package_version=str(have.wheel.name.version),
                    installed_at=have.since,
                    nuid=have.wheel.nuid,
                )
                for have in sorted(self._have.values(), key=lambda have: have.wheel.name.text)
            ],
        )

    # Obtaining wheels ----------------------------------------------------------------------------

    async def _made(
        self, selections: Sequence[Selection], state: RegistryState, now: float
    ) -> tuple[dict[str, _Have], list[SkippedWheel], WheelSets]:
        """Obtain wheels and make sets of them. One that clashes counts as one that cannot be had."""
        while True:
            have, skipped = await self._obtain(selections, state, now)
            try:
                return have, skipped, await self._make_sets(have)
            except Clash as clash:
                self._failed(clash.loser, str(clash))

    async def _obtain(
        self, selections: Sequence[Selection], state: RegistryState, now: float
    ) -> tuple[dict[str, _Have], list[SkippedWheel]]:
        """Of each package of each owner the newest that can be had, and which of those that fit cannot."""
        objects = {found.wheel.nuid: found for found in state.wheels}
        have: dict[str, _Have] = {}
        skipped = []
        for candidates in chain.from_iterable(s.candidates.values() for s in selections):
            for wheel in candidates:
                try:
                    have[wheel.nuid] = await self._unpacked(objects[wheel.nuid], now)
                except Unfit as error:
                    skipped.append(wheel.skipped(str(error)))
                else:
                    break
        return have, skipped

    async def _unpacked(self, found: WheelObject, now: float) -> _Have:
        wheel = found.wheel
        failure = self._failures.get(wheel.nuid)
        if failure is not None and now < failure.again_at:
            raise Unfit(failure.reason)
        have = self._have.get(wheel.nuid)
        if have is not None and have.folder.is_there():
            return have
        folder = await in_thread(self._folder.find, wheel)
        if folder is None:
            try:
                folder = await self._download(found)
            except (BadWheel, ObjectDamaged) as error:
                raise Unfit(self._failed(wheel, str(error))) from None
            except OSError as error:
                # One that is too large for the disk keeps no other one out; what the worker lacks else does.
                if error.errno not in _DISK_FULL:
                    raise
                reason = "there is no room for it on the worker's disk"
                raise Unfit(self._failed(wheel, reason)) from None
        return _Have(wheel, folder, time.time())

    async def _download(self, found: WheelObject) -> HeldFolder:
        scratch = await in_thread(self._folder.scratch)
        try:
            archive = scratch.path / found.wheel.name.text
            async with (
                self._store.read(found) as pieces,
                await trio.open_file(archive, "wb") as out,
            ):
                async for piece in pieces:
                    await out.write(piece)
            unpacked = scratch.path / "unpacked"
            unpacked.mkdir()
            with trio.move_on_after(self._install_timeout) as installing:
                # Given up, the thread works on in a folder that is removed, and nobody keeps what it makes.
                await trio.to_thread.run_sync(
                    install_wheel, archive, found.wheel.name, unpacked, abandon_on_cancel=True
                )
            if installing.cancelled_caught:
                raise BadWheel(
                    f"unpacking took more than {self._install_timeout:g} s "
                    "(PYOCO_WHEEL_INSTALL_TIMEOUT_SEC)"
                )
            return await in_thread(self._folder.keep, unpacked, found.wheel)
        finally:
            with trio.CancelScope(shield=True):
                await in_thread(scratch.remove)

    def _failed(self, wheel: StoredWheel, reason: str) -> str:
        """Leave a wheel out for a while; return why, in as many words as a report holds."""
        reason = shrink_error(reason, _REASON_BYTES)
        earlier = self._failures.get(wheel.nuid)
        times = 1 if earlier is None else earlier.times + 1
        pause = min(self._interval * 2.0 ** min(times, 20), _LONGEST_RETRY_SECONDS)
        self._failures[wheel.nuid] = _Failure(reason, times, trio.current_time() + pause)
        log.warning(
            "wheel left out",
            err_id=ErrorId.WHEEL_SYNC_FAILED,
            wheel_name=wheel.name.text,
            reason=reason,
            retry_in_sec=pause,
        )
        return reason

    # Making sets ---------------------------------------------------------------------------------

    async def _make_sets(self, have: Mapping[str, _Have]) -> WheelSets:
        """The sets of these wheels.

        Raises:
            Clash: Some of them cannot be in one.
        """
        owned = sorted(have.values(), key=_owner)
        of_owners = {owner: list(wheels) for owner, wheels in groupby(owned, _owner)}
        shared = of_owners.pop("", [])
        shared_set = await self._assemble(shared)
        of_tenants = {
            tenant: await self._assemble(_with_own(shared, own))
            for tenant, own in of_owners.items()
        }
        return WheelSets(shared_set, of_tenants)

    async def _assemble(self, members: Sequence[_Have]) -> WheelSet:
        pairs = [(each.wheel, each.folder) for each in members]
        return await trio.to_thread.run_sync(self._folder.assemble, pairs)


def _owner(found: WheelObject | _Have) -> str:
    return found.wheel.tenant_id or ""


def _with_own(shared: Sequence[_Have], own: Sequence[_Have]) -> list[_Have]:
    """What a tenant's runs import from: a package of its own goes before a shared one of that name."""
    packages = {each.wheel.name.package for each in own}
    return [*(each for each in shared if each.wheel.name.package not in packages), *own]
