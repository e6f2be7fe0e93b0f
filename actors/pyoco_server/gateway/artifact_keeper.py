"""Removes artifacts, kept results among them, whose run is gone, that are too old, or that no run lists."""

from __future__ import annotations

from datetime import datetime
from itertools import groupby

from pyoco_server.model.result import kept_name
from pyoco_server.model.run import RunSnapshot
from pyoco_server.store.artifacts import ArtifactStore, KeptFile
from pyoco_server.store.runs import RunStore

# An attempt's artifacts are stored before its end, and those of one that is given up removed after it.
_SETTLED_SECONDS = 3600.0


async def sweep_artifacts(store: ArtifactStore, runs: RunStore, *, max_age: float) -> int:
    """Remove what is over, return how many.

    Nobody can fetch an artifact of a run that is gone, so that this is about room only. One is kept for
    ``max_age`` seconds, and with 0 for as long as its run.

    Raises:
        BridgeError: NATS refused or could not be asked.
    """
    await store.purge_orphans(older_than_seconds=_SETTLED_SECONDS)
    now = runs.now()
    removed = 0
    for run_id, files in groupby(await store.all(), key=lambda kept: kept.run_id):
        stored = await runs.find(run_id)
        run = None if stored is None else stored.snapshot
        gone = run is None and await runs.is_gone(run_id)
        for kept in files:
            if gone or _is_over(kept, run, now - _unix_time(kept.info.mtime, now), max_age):
                await store.drop(run_id, kept.attempt, [kept.name])
                removed += 1
    return removed


def _is_over(kept: KeptFile, run: RunSnapshot | None, age: float, max_age: float) -> bool:
    if 0 < max_age < age:
        return True
    if run is None:
        return False  # it cannot be read, and may list it
    names = (
        *(artifact.name for artifact in run.artifacts),
        *(kept_name(result.task) for result in run.results),
    )
    listed = kept.attempt == run.attempt and kept.name in names
    return not listed and run.status.terminal and age > _SETTLED_SECONDS


def _unix_time(text: str, otherwise: float) -> float:
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        return otherwise  # never too old
