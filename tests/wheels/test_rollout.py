"""Versions change while runs execute: no run meets two of them, none fails, nothing is left over."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
import trio

from backend.stage import ended, eventually, until
from pyoco_server.model.run import RunSnapshot, RunStatus
from wheels.making import file_name
from wheels.stage import (
    PACKAGE,
    delete_version,
    folders,
    new_run,
    synced,
    syncing,
    told,
    upload_version,
)

pytestmark = [pytest.mark.nats, pytest.mark.slow]
LONG = os.environ.get("PYOCO_DRILL_LONG") == "1"


def version_of(run: RunSnapshot) -> str:
    """The one version that a run met, as its result and its snapshot say."""
    assert run.status is RunStatus.COMPLETED, run
    (recorded,) = run.wheels
    assert set(told(run)) == {recorded.version}, run
    return recorded.version


async def test_an_upload_under_many_runs_mixes_nothing(tmp_path: Path) -> None:
    count = 100 if LONG else 30
    async with syncing(tmp_path, slots=4) as backend:
        await upload_version(backend, "1.0")
        await synced(backend, file_name(PACKAGE, "1.0"))
        ids = [(await backend.submit(new_run(0.2))).run_id for _ in range(count)]
        # Begun, or even ended by now: submitting them all may take longer than the first one.
        await until(backend, ids[0], lambda run: run.start_time is not None)
        begun = time.time()
        await upload_version(backend, "2.0")
        await synced(backend, file_name(PACKAGE, "2.0"))
        ids.append((await backend.submit(new_run())).run_id)
        runs = [await ended(backend, run_id, within=120) for run_id in ids]
    versions = [version_of(run) for run in runs]
    assert set(versions) == {"1.0", "2.0"}
    assert versions[-1] == "2.0"
    first = min(
        run.start_time
        for run, version in zip(runs, versions, strict=True)
        if version == "2.0" and run.start_time is not None
    )
    print(
        f"{count} runs: {versions.count('1.0')} on 1.0, {versions.count('2.0')} on 2.0, "
        f"from upload to the first run on 2.0: {first - begun:.2f} s"
    )


async def test_uploads_and_deletes_under_load_leave_nothing(tmp_path: Path) -> None:
    seconds = 60 if LONG else 6
    ids: list[str] = []
    async with syncing(tmp_path, slots=2) as backend:
        await upload_version(backend, "1.0")
        await synced(backend, file_name(PACKAGE, "1.0"))
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:

                async def load() -> None:
                    while not scope.cancel_called:
                        ids.append((await backend.submit(new_run())).run_id)
                        await ended(backend, ids[-1], within=60)

                nursery.start_soon(load)
                nursery.start_soon(load)
                for number in range(1, seconds + 1):
                    await upload_version(backend, f"2.{number}")
                    await trio.sleep(0.5)
                    await delete_version(backend, f"2.{number}")
                    await trio.sleep(0.5)
                scope.cancel()
        runs = [await ended(backend, run_id, within=60) for run_id in ids]
        await synced(backend, file_name(PACKAGE, "1.0"))

        async def one_left() -> bool:
            return len(folders(tmp_path, "sets")) == 1 and not folders(tmp_path, "tmp")

        await eventually(one_left, what="one set of wheels")
    versions = [version_of(run) for run in runs]
    assert len(set(versions)) > 1
    print(f"{len(runs)} runs met {len(set(versions))} versions; mixed 0, failed 0, left over 0")
