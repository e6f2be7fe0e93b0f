"""Removes artifacts whose run is gone, that are too old, or that no run lists."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import datetime
from typing import TypeAlias, assert_never

import structlog

from pyoco_server.jetstream.errors import BridgeError
from pyoco_server.kernel import Actor, Reply, Request
from pyoco_server.model.run import RunSnapshot, UnreadableSnapshot
from pyoco_server.store.artifacts import ArtifactStore, KeptFile
from pyoco_server.store.runs import RunNotFound, RunStore

log = structlog.get_logger(__name__)

_INTERVAL_SECONDS = 600.0
# An attempt's artifacts are stored before its end, and those of one that is given up removed after it.
_SETTLED_SECONDS = 3600.0


class SweepFailed(Exception):
    """NATS could not be asked."""


@dataclass(frozen=True, slots=True)
class SweepArtifacts(Request[int]):
    """Look now; answered with how many were removed."""


ArtifactKeeperMessage: TypeAlias = SweepArtifacts


class ArtifactKeeper(Actor[ArtifactKeeperMessage]):
    """Looks every ten minutes. Several gateways may do so at the same time.

    Nobody can fetch an artifact of a run that is gone, so that this is about room only.

    Args:
        store: The artifacts.
        runs: The runs.
        max_age: How long one is kept, in seconds; 0 for as long as its run.
    """

    def __init__(self, store: ArtifactStore, runs: RunStore, *, max_age: float) -> None:
        self._store = store
        self._runs = runs
        self._max_age = max_age

    async def on_start(self) -> None:
        """Begin to look."""
        self.tell_every(_INTERVAL_SECONDS, SweepArtifacts())

    async def handle(self, message: ArtifactKeeperMessage) -> None:
        """Look, in a task of its own."""
        match message:
            case SweepArtifacts():
                self.spawn(self._answer, self.reply_to(message))
            case _:
                assert_never(message)

    async def _answer(self, reply: Reply[int]) -> None:
        try:
            removed = await self._sweep(time.time())
        except BridgeError as error:
            log.info("artifacts not looked through", reason=str(error))
            reply.fail(SweepFailed(str(error)))
        else:
            if removed:
                log.info("removed artifacts", count=removed)
            reply.send(removed)

    async def _sweep(self, now: float) -> int:
        await self._store.purge_orphans(older_than_seconds=_SETTLED_SECONDS)
        removed = 0
        known: dict[str, RunSnapshot | None] = {}
        for kept in await self._store.all():
            if kept.run_id not in known:
                known = {kept.run_id: await self._run(kept.run_id)}
            if self._is_over(kept, known[kept.run_id], now):
                await self._store.drop(kept.run_id, kept.attempt, [kept.name])
                removed += 1
        return removed

    async def _run(self, run_id: str) -> RunSnapshot | None:
        try:
            return (await self._runs.get(run_id)).snapshot
        except (RunNotFound, UnreadableSnapshot):
            return None

    def _is_over(self, kept: KeptFile, run: RunSnapshot | None, now: float) -> bool:
        age = now - _unix_time(kept.info.mtime)
        if run is None or 0 < self._max_age < age:
            return True
        listed = kept.attempt == run.attempt and any(
            artifact.name == kept.name for artifact in run.artifacts
        )
        return not listed and run.status.terminal and age > _SETTLED_SECONDS


def _unix_time(text: str) -> float:
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        return time.time()  # never too old
