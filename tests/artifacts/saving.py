"""A worker whose tasks save files, and what came of it."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec

from backend.stage import TAG, ended, running, worker_options
from pyoco_server.backend import Backend
from pyoco_server.gateway.new_run import NewRun
from pyoco_server.jetstream.api import call
from pyoco_server.model.run import RunSnapshot


class _State(msgspec.Struct):
    subjects: dict[str, int] | None = None


class _Info(msgspec.Struct):
    state: _State


@asynccontextmanager
async def saving(folder: Path, tasks: str, **changes: Any) -> AsyncIterator[Backend]:
    """A backend whose worker can import these tasks as ``saver``."""
    (folder / "saver.py").write_text(tasks)
    options = worker_options(folder, import_paths=(str(folder),))
    async with running(folder, worker=options, **changes) as backend:
        yield backend


def flow(task: str, **params: Any) -> NewRun:
    yaml = f"flow:\n  graph: it\ntasks:\n  it:\n    callable: saver:{task}\n"
    return NewRun("flow", TAG, params=params, workflow_yaml=yaml)


async def run(backend: Backend, task: str, **params: Any) -> RunSnapshot:
    return await ended(backend, (await backend.submit(flow(task, **params))).run_id)


async def content(backend: Backend, run: RunSnapshot, name: str) -> bytes:
    """The bytes of an artifact, after a look at whether its size and digest are those of the snapshot."""
    artifact, info = await backend.artifacts.find(run, name)
    data = bytearray()
    async with backend.artifacts.read(info) as pieces:
        async for piece in pieces:
            data += piece
    assert artifact.size_bytes == len(data)
    assert artifact.sha256_hex == hashlib.sha256(data).hexdigest()
    return bytes(data)


async def stored(backend: Backend) -> list[str]:
    """The subjects of all that is stored of artifacts."""
    bucket = backend.settings.artifacts_bucket
    body = {"subjects_filter": f"$O.{bucket}.>"}
    info = await call(backend.connection, f"STREAM.INFO.OBJ_{bucket}", body, answer=_Info)
    return sorted(info.state.subjects or ())


def run_folders(folder: Path) -> list[Path]:
    """The working folders of runs that are there."""
    return list((folder / "state" / "work").glob("*/*"))
