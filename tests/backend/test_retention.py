"""Nothing grows for ever: what belongs to an ended run goes with it, and so do workers of long ago."""

from __future__ import annotations

import time
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
from msgspec.structs import replace

from backend.stage import TAG, ended, eventually, new_run, queued, running, worker_options
from pyoco_server.backend import Backend
from pyoco_server.gateway.new_run import NewRun, NotAccepted
from pyoco_server.gateway.read_model.filters import RunFilter
from pyoco_server.jetstream.connection import Connection
from pyoco_server.jetstream.errors import Unanswered
from pyoco_server.jetstream.inventory import list_streams, stream_info
from pyoco_server.jetstream.keyvalue import KeyValue
from pyoco_server.jetstream.requests import RawMessage
from pyoco_server.model.worker import WorkerRecord, encode_worker
from pyoco_server.store.runs import RunNotFound

TASKS = """\
def say(ctx, text=""):
    print(text)
    ctx.save_artifact("said.txt", text)
    return text


def fail(text=""):
    raise ValueError(text)
"""


def flow(task: str, text: str) -> NewRun:
    yaml = f"flow:\n  graph: it\ntasks:\n  it:\n    callable: kept:{task}\n"
    return NewRun("flow", TAG, params={"text": text}, workflow_yaml=yaml)


async def held(backend: Backend) -> dict[str, int]:
    """How many messages each stream holds, those of other matters left out."""
    streams = await list_streams(backend.connection)
    return {each.name: each.state.messages for each in streams if each.state.messages}


async def test_an_ended_run_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """But its flow.yaml, which other runs may name, and its dead letter: both have limits of their own."""
    monkeypatch.setattr("pyoco_server.gateway.tree._ARTIFACTS_SECONDS", 0.5)
    (tmp_path / "kept.py").write_text(TASKS)
    options = worker_options(tmp_path, import_paths=(str(tmp_path),))
    async with running(
        tmp_path, worker=options, runs_ttl_sec=6.0, dlq_publish_execution_error=False
    ) as backend:
        before = Counter[str]()

        async def look() -> None:
            """What is stored at a time, also while the first of them goes already."""
            while True:
                for name, count in (await held(backend)).items():
                    before[name] = max(count, before[name])
                await trio.sleep(0.01)

        async with trio.open_nursery() as looking:
            looking.start_soon(look)
            accepted = [await backend.submit(flow(task, "a")) for task in ("say", "fail", "say")]
            ends = [await ended(backend, each.run_id) for each in accepted]

            async def all_told() -> bool:
                """What a run did is told behind its end."""
                return before["PYOCO_EVENTS"] >= 3 and before["OBJ_pyoco_artifacts"] >= 4

            await eventually(all_told, what="what all of them leave")
            looking.cancel_scope.cancel()
        assert [end.status for end in ends] == ["COMPLETED", "FAILED", "COMPLETED"]
        assert [artifact.name for artifact in ends[0].artifacts] == ["said.txt"]
        assert before["KV_pyoco_runs"] == 3
        for each in accepted:
            await eventually(partial(gone, backend, each.run_id), what="no run")

        async def only_the_rest() -> bool:
            return set(await held(backend)) == {"KV_pyoco_workers", "KV_pyoco_workflows"}

        await eventually(only_the_rest, what="nothing of runs in any stream")
        page = await backend.reads.list_runs(RunFilter(), None, 10)
        assert page.rows == []
        texts = await stream_info(backend.connection, "KV_pyoco_workflows")
        assert texts is not None
        assert texts.config["max_age"] / 1e9 == pytest.approx(6 + 14 * 24 * 3600)


async def gone(backend: Backend, run_id: str) -> bool:
    try:
        await backend.get(run_id)
    except RunNotFound:
        return True
    return False


async def test_a_worker_of_long_ago_is_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pyoco_server.gateway.tree._WORKERS_SECONDS", 0.1)
    async with running(tmp_path, worker_record_ttl_sec=3.0) as backend:
        bucket = KeyValue(backend.connection, "pyoco_workers")
        old = WorkerRecord(worker_id="old", instance_id="x", last_seen_at=time.time() - 3600)
        await bucket.put("old", encode_worker(old))
        await bucket.put("odd", b"no record")

        async def known() -> set[str]:
            return {record.worker_id for record, _ in await backend.reads.workers()}

        async def all_seen() -> bool:
            return await known() >= {"old", "w1"}

        await eventually(all_seen)

        async def forgotten() -> bool:
            return await known() == {"w1"} and {each.key for each in await bucket.all()} == {"w1"}

        await eventually(forgotten, what="the living worker only")
        # It comes back as if it had never been away.
        await bucket.create("old", encode_worker(replace(old, last_seen_at=time.time())))
        await eventually(all_seen)


async def test_a_submission_that_was_taken_back_leaves_a_marker_for_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pyoco_server.store.runs._MARKER_SECONDS", 1)
    async with running(tmp_path, worker=False) as backend:
        real = Connection.request

        async def request(
            self: Connection, subject: str, payload: bytes = b"", **options: Any
        ) -> RawMessage:
            if subject == f"pyoco.work.{TAG}":
                raise Unanswered("no answer")
            return await real(self, subject, payload, **options)

        monkeypatch.setattr(Connection, "request", request)
        with pytest.raises(NotAccepted):
            await backend.submit(new_run("quick"))
        assert await queued(backend, "KV_pyoco_runs") == 1

        async def nothing() -> bool:
            return await queued(backend, "KV_pyoco_runs") == 0

        await eventually(nothing, what="no marker")
