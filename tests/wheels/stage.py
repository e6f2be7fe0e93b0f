"""A backend whose worker takes wheels, and ways to put wheels into its registry."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from backend.stage import TAG, eventually, running
from pyoco_server.backend import Backend
from pyoco_server.gateway.new_run import NewRun
from pyoco_server.gateway.wheel_registry import NewWheel, Requester
from pyoco_server.jetstream.objectstore import ObjectStore
from pyoco_server.model.run import RunSnapshot
from pyoco_server.model.wheel import TAGS_HEADER, parse_wheel_name
from pyoco_server.model.worker import WheelSync
from pyoco_server.worker.tree import WorkerOptions
from wheels.making import file_name, wheel_bytes

PACKAGE = "vtasks"


def flow(seconds: float = 0.0, package: str = PACKAGE) -> str:
    return (
        f"flow:\n  graph: tell\n  defaults:\n    seconds: {seconds}\n"
        f"tasks:\n  tell:\n    callable: {package}:tell\n"
    )


@asynccontextmanager
async def syncing(
    folder: Path, *, tags: tuple[str, ...] = (TAG,), slots: int = 1, **changes: Any
) -> AsyncIterator[Backend]:
    options = WorkerOptions(
        tags=tags, worker_id="w1", slots=slots, output=lambda output, slot: None
    )
    settings: dict[str, Any] = {
        "wheel_sync_enabled": True,
        "wheel_sync_dir": str(folder / "synced"),
        "wheel_sync_interval_sec": 1.0,
    }
    async with running(folder, worker=options, **(settings | changes)) as backend:
        yield backend


async def upload(
    backend: Backend, data: bytes, name: str, *, tags: tuple[str, ...] = (), **by: Any
) -> None:
    with tempfile.TemporaryFile() as file:
        file.write(data)
        file.flush()
        await backend.wheel_registry.upload(
            NewWheel(
                parse_wheel_name(name),
                file,
                len(data),
                hashlib.sha256(data).hexdigest(),
                "application/octet-stream",
                tags,
                by=Requester(**by),
            )
        )


async def upload_version(
    backend: Backend, version: str, package: str = PACKAGE, tag: str = "py3-none-any", **more: Any
) -> None:
    name = file_name(package, version, tag)
    await upload(backend, wheel_bytes(package, version, tag=tag), name, **more)


async def delete_version(backend: Backend, version: str, package: str = PACKAGE) -> None:
    await backend.wheel_registry.delete(file_name(package, version))


async def plant(backend: Backend, name: str, data: bytes, tags: str = "") -> None:
    """Put bytes straight into the object store, past every check."""

    class Once:
        def __init__(self) -> None:
            self.left = [data]

        def __aiter__(self) -> Once:
            return self

        async def __anext__(self) -> bytes:
            if not self.left:
                raise StopAsyncIteration
            return self.left.pop()

    store = ObjectStore(backend.connection, backend.settings.wheel_object_store_bucket)
    await store.put(name, Once(), headers={TAGS_HEADER: tags} if tags else {})


def new_run(seconds: float = 0.0, package: str = PACKAGE, **more: Any) -> NewRun:
    return NewRun(
        "main", TAG, params={"seconds": seconds}, workflow_yaml=flow(seconds, package), **more
    )


def told(snapshot: RunSnapshot) -> list[str]:
    """The versions that the run's task met."""
    output = snapshot.task_records["tell"].output
    assert isinstance(output, list), snapshot
    return output


async def report(backend: Backend) -> WheelSync:
    record = await backend.worker("w1")
    return WheelSync() if record is None else record.wheel_sync


async def synced(backend: Backend, *names: str, skipped: int = 0, within: float = 20) -> WheelSync:
    """The worker's report as soon as it has exactly these wheels, and has skipped so many others."""

    async def there() -> bool:
        told = await report(backend)
        return told.selected_wheels == sorted(names) and len(told.skipped_incompatible) >= skipped

    await eventually(there, within=within, what=f"wheels {names}")
    return await report(backend)


def folders(folder: Path, kind: str) -> list[Path]:
    place = folder / "synced" / kind
    return sorted(place.iterdir()) if place.is_dir() else []
