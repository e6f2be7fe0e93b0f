"""Texts of flow.yaml files are kept under their digest, and written no more often than needed."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import cast

import pytest
import trio

from backend.stage import TAG, running
from nats_fixtures import Node, connected, eventually, killed
from pyoco_server.gateway import tree, workflow_keeper
from pyoco_server.gateway.new_run import NewRun
from pyoco_server.gateway.read_model.model import NotReadable
from pyoco_server.gateway.read_model.queries import SearchTooWide
from pyoco_server.gateway.read_side import ReadSide
from pyoco_server.jetstream.connection import Connection
from pyoco_server.jetstream.keyvalue import KeyValue
from pyoco_server.jetstream.resources import ensure_resources
from pyoco_server.model.timing import Timing
from pyoco_server.settings import Settings
from pyoco_server.store.workflows import WorkflowStore

TEXT = "flow:\n  graph: 仕事\n"
DIGEST = hashlib.sha256(TEXT.encode()).hexdigest()


async def store_on(connection: Connection) -> WorkflowStore:
    settings = Settings()
    await ensure_resources(connection, settings)
    return WorkflowStore(connection, settings.workflows_kv_bucket)


async def revision(connection: Connection, digest: str = DIGEST) -> int:
    return (await KeyValue(connection, Settings().workflows_kv_bucket).get(digest)).revision


async def test_a_text_is_found_under_its_digest(nats_node: Node) -> None:
    async with connected(nats_node) as connection:
        workflows = await store_on(connection)
        assert await workflows.get(DIGEST) is None
        assert await workflows.put(TEXT) == DIGEST
        assert await workflows.get(DIGEST) == TEXT
        assert await workflows.get("no digest at all") is None


async def test_a_text_that_was_written_lately_is_not_written_again(nats_node: Node) -> None:
    async with connected(nats_node) as connection:
        workflows = await store_on(connection)
        await workflows.put(TEXT)
        await workflows.put(TEXT)
        assert await revision(connection) == 1
        # Another gateway does not know that, and writes it again.
        await WorkflowStore(connection, Settings().workflows_kv_bucket).put(TEXT)
        assert await revision(connection) == 2


async def test_a_text_is_written_again_after_the_server_was_away(nats_node: Node) -> None:
    async with connected(nats_node) as connection:
        workflows = await store_on(connection)
        await workflows.put(TEXT)
        await killed(nats_node, connection)
        with trio.fail_after(60):
            await workflows.put(TEXT)
        assert await revision(connection) == 2


async def test_the_text_of_an_accepted_run_is_kept(tmp_path: Path) -> None:
    async with running(tmp_path, worker=False) as backend:
        await backend.submit(NewRun("main", TAG, workflow_yaml=TEXT, workflow_yaml_sha256=DIGEST))
        workflows = WorkflowStore(backend.connection, backend.settings.workflows_kv_bucket)
        assert await workflows.get(DIGEST) == TEXT


async def test_a_text_is_written_again_for_as_long_as_a_run_waits_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tree, "_WORKFLOWS_SECONDS", 0.05)
    monkeypatch.setattr(workflow_keeper, "_OLD_SECONDS", 0.0)
    other = hashlib.sha256(b"other").hexdigest()
    async with running(tmp_path, worker=False) as backend:
        ends = NewRun("main", TAG, workflow_yaml="other", workflow_yaml_sha256=other)
        await backend.cancel((await backend.submit(ends)).run_id)
        in_a_year = Timing(delay_sec=365 * 86_400.0)
        await backend.submit(
            NewRun("main", TAG, workflow_yaml=TEXT, workflow_yaml_sha256=DIGEST, timing=in_a_year)
        )

        async def written_again() -> bool:
            return await revision(backend.connection) > 4

        await eventually(written_again)
        assert await revision(backend.connection, other) < 4


@pytest.mark.parametrize("refusal", [NotReadable("not built"), SearchTooWide("2 s")])
async def test_texts_of_runs_that_cannot_be_listed_now_are_renewed_the_next_time(
    refusal: Exception,
) -> None:
    class Reads:
        async def live_workflows(self) -> list[str]:
            raise refusal

    reads, workflows = cast(ReadSide, Reads()), cast(WorkflowStore, None)
    assert await workflow_keeper.renew_workflows(reads, workflows) == 0
