"""What of the things that tenants share a caller is told: tags, and what workers have of wheels.

A tenant knows the tags that its runs have and the default one, and the wheels that are its own or shared; an
admin knows all.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from msgspec.structs import replace

from pyoco_http.access import principal
from pyoco_server.backend import Backend
from pyoco_server.model.api_key import Role
from pyoco_server.model.wheel import UNSUPPORTED_TAGS
from pyoco_server.model.worker import SkippedWheel, WheelSync, WorkerRecord


@dataclass(frozen=True, slots=True)
class WheelSight:
    """Names of wheels.

    Attributes:
        own: Those that a tenant may know of; some of others may have such a name too.
        hidden: The names of all others.
        nuids: Of what others have, whatever its name.
    """

    own: frozenset[str]
    hidden: frozenset[str]
    nuids: frozenset[str]

    def of(self, sync: WheelSync) -> WheelSync:
        """What a worker reports of its wheels, without those of others."""
        selected, updated, removed = map(
            self._names, (sync.selected_wheels, sync.updated_wheels, sync.removed_wheels)
        )
        skipped = [each for each in sync.skipped_incompatible if each.wheel_name in self.own]
        error = sync.last_error
        if error is not None and any(name in error for name in self.hidden):
            error = _errors(skipped)
        return replace(
            sync,
            last_error=error,
            # The lists may be cut, the counts are not.
            selected_count=sync.selected_count - len(sync.selected_wheels) + len(selected),
            updated_count=sync.updated_count - len(sync.updated_wheels) + len(updated),
            removed_count=sync.removed_count - len(sync.removed_wheels) + len(removed),
            skipped_incompatible_count=(
                sync.skipped_incompatible_count - len(sync.skipped_incompatible) + len(skipped)
            ),
            selected_wheels=selected,
            updated_wheels=updated,
            removed_wheels=removed,
            skipped_incompatible=skipped,
            installed_wheels=[
                each
                for each in sync.installed_wheels
                if each.wheel_name in self.own and each.nuid not in self.nuids
            ],
        )

    def _names(self, names: Iterable[str]) -> list[str]:
        return list(dict.fromkeys(name for name in names if name in self.own))


async def tags_seen(backend: Backend) -> frozenset[str] | None:
    """The tags that the caller may know of; None for all.

    Raises:
        Unavailable: NATS is away.
        NotReadable: The read model is being built.
    """
    by = principal()
    if by.knows_all or by.tenant_id is None:
        return None
    return await backend.reads.tags_of(by.tenant_id) | {backend.settings.default_tag}


async def workers_seen(
    backend: Backend, records: Iterable[WorkerRecord]
) -> dict[str, WorkerRecord]:
    """Records of workers by id, as the caller may see them.

    Raises:
        BridgeError: NATS could not be asked.
        NotReadable: The read model is being built.
    """
    tags = await tags_seen(backend)
    if tags is None:
        return {record.worker_id: record for record in records}
    wheels = await _wheels_seen(backend)
    unseen = {} if Role.OPERATE in principal().roles else {"ordered_by": None, "order_reason": None}
    return {
        record.worker_id: replace(
            record,
            **unseen,
            tags=[tag for tag in record.tags if tag in tags],
            wheel_sync=wheels.of(record.wheel_sync),
        )
        for record in records
    }


async def _wheels_seen(backend: Backend) -> WheelSight:
    state = await backend.wheels.state()
    mine = (None, principal().tenant_id)
    own = frozenset(name.text for owner, name in state.names if owner in mine)
    return WheelSight(
        own,
        frozenset(name.text for _, name in state.names) - own,
        frozenset(each.wheel.nuid for each in state.wheels if each.wheel.tenant_id not in mine),
    )


def _errors(skipped: Iterable[SkippedWheel]) -> str | None:
    """What a worker reports as its error of these; see `WheelSync.last_error`."""
    told = sorted(f"{s.wheel_name}: {s.reason}" for s in skipped if s.reason != UNSUPPORTED_TAGS)
    return "; ".join(told) or None
