"""The files that runs saved, in an object store of their own."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Iterable
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass
from typing import TypeVar

import structlog
import trio

from pyoco_server.jetstream.connection import Connection
from pyoco_server.jetstream.errors import BridgeError, ObjectNotFound, Unanswered
from pyoco_server.jetstream.objectstore import ObjectInfo, ObjectStore
from pyoco_server.kernel import Refusal
from pyoco_server.model.artifact import Artifact, object_name, parse_object_name
from pyoco_server.model.result import Result, kept_name
from pyoco_server.model.run import RunSnapshot

T = TypeVar("T")

log = structlog.get_logger(__name__)

_LIST_SECONDS = 30.0


class ArtifactNotFound(Refusal):
    """The run has no artifact of this name, or not any more."""

    def __init__(self, run_id: str, name: str) -> None:
        super().__init__(f"run {run_id} has no artifact {name!r}")
        self.run_id = run_id
        self.name = name


@dataclass(frozen=True, slots=True)
class KeptFile:
    """An object of the store and what it belongs to."""

    run_id: str
    attempt: int
    name: str
    info: ObjectInfo


class ArtifactStore:
    """Keeps, reads and removes artifacts; each call raises a `BridgeError` where NATS could not be asked."""

    def __init__(self, connection: Connection, bucket: str) -> None:
        self._objects = ObjectStore(connection, bucket)

    async def keep(
        self,
        run_id: str,
        attempt: int,
        name: str,
        pieces: AsyncIterable[bytes],
        task: str | None = None,
    ) -> Artifact:
        """Store a file; cancelled or failed, nothing of it stays."""
        info = await self._objects.put(object_name(run_id, attempt, name), pieces)
        return Artifact(
            name=name, size_bytes=info.size, sha256_hex=info.sha256_hex or "", task=task
        )

    async def find(self, run: RunSnapshot, name: str) -> tuple[Artifact, ObjectInfo]:
        """Look an artifact up.

        Raises:
            ArtifactNotFound: The run has none of this name (any more).
        """
        found = (each for each in run.artifacts if each.name == name)
        return await self._with_object(run, next(found, None), name, name)

    async def find_result(self, run: RunSnapshot, task: str) -> tuple[Result, ObjectInfo]:
        """Look up a result that was kept beside the run.

        Raises:
            ArtifactNotFound: There is none of this task (any more).
        """
        found = (each for each in run.results if each.task == task and each.refused is None)
        return await self._with_object(run, next(found, None), task, kept_name(task))

    async def _with_object(
        self, run: RunSnapshot, found: T | None, asked_for: str, name: str
    ) -> tuple[T, ObjectInfo]:
        if found is not None:
            with suppress(ObjectNotFound):
                return found, await self._objects.info(object_name(run.run_id, run.attempt, name))
        raise ArtifactNotFound(run.run_id, asked_for)

    def read(
        self, info: ObjectInfo, start: int = 0, stop: int | None = None
    ) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Read the bytes from ``start`` to before ``stop``; see `ObjectStore.read`."""
        return self._objects.read(info, start, stop)

    async def drop(self, run_id: str, attempt: int, names: Iterable[str]) -> None:
        """Remove artifacts; what cannot be removed now is found by a sweep."""
        for name in names:
            try:
                await self._objects.forget(object_name(run_id, attempt, name))
            except BridgeError as error:
                log.info("artifact not removed yet", run_id=run_id, reason=str(error))

    async def all(self) -> list[KeptFile]:
        """Every artifact, if they can be listed within 30 seconds."""
        with trio.move_on_after(_LIST_SECONDS):
            infos, _ = await self._objects.all()
            parsed = ((parse_object_name(info.name), info) for info in infos if not info.deleted)
            return [KeptFile(*names, info) for names, info in parsed if names is not None]
        raise Unanswered(f"the artifacts could not be listed within {_LIST_SECONDS:g} s")

    async def purge_orphans(self, *, older_than_seconds: float) -> int:
        """Remove what broken-off puts left; see `ObjectStore.purge_orphans`."""
        return await self._objects.purge_orphans(older_than_seconds=older_than_seconds)
