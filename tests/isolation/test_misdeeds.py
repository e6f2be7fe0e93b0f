"""Whatever a run does to its process, the next one finds that of a fresh child."""

from __future__ import annotations

import importlib
import os
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from isolation.lives import CODE, Lives, lives
from pyoco_server.model.run import RunStatus

LONG = os.environ.get("PYOCO_DRILL_LONG") == "1"
SEED = int(os.environ.get("PYOCO_DRILL_SEED", "1"))


def misdeeds() -> list[str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(CODE)
        return list(importlib.import_module("misdeeds").ALL)


@pytest.fixture
async def slot(tmp_path: Path) -> AsyncIterator[Lives]:
    async with lives(tmp_path / "0") as slot:
        yield slot


async def canary(slot: Lives, tenant: str = "a") -> dict[str, Any]:
    """What a run sees of its process, and what was told of it."""
    told = await slot.run("canary", tenant)
    finished = told.finished
    assert finished.status is RunStatus.COMPLETED, finished.error
    assert finished.worn in (None, "it has lost its guardian")
    seen: dict[str, Any] = finished.task_records["a"].output
    return {
        **seen,
        "printed": told.text("a"),
        "bare": told.text(None, "stderr"),
        "runs": {event.run_id for event in told.outputs()} == {finished.run_id},
    }


async def test_a_canary_finds_a_fresh_child_after_each_of_many_misdeeds(slot: Lives) -> None:
    fresh = await canary(slot)
    assert fresh["printed"] == "canary\n"
    order = random.Random(SEED)
    names = misdeeds()
    some = [order.choice(names) for _ in range(200)] if LONG else order.sample(names, len(names))
    replaced = 0
    for name in some:
        before = slot.pid
        await slot.run(name)
        replaced += slot.pid != before
        seen = await canary(slot)
        other = {key: (fresh[key], seen[key]) for key in fresh if fresh[key] != seen[key]}
        assert not other, name
    print(f"{len(some)} misdeeds, {replaced} children replaced")
