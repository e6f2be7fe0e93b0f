"""Workers that take wheels, in places of their own, and what they say of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from e2e.programs import HTTP, Stage


def client(stage: Stage, *words: str) -> Any:
    said = stage.run("pyoco-client", "--server", stage.url, *words, within=120)
    return json.loads(said.strip().splitlines()[-1])


def worker(stage: Stage, folder: str, tags: str = "hello", worker_id: str = "w1") -> Path:
    """A worker in a folder of its own, without this folder's code on its path."""
    place = stage.folder / folder
    place.mkdir()
    stage.start(
        *f"pyoco-worker --nats-url {stage.nats_url} --tags {tags} --worker-id {worker_id}".split(),
        *f"--slots 1 --wheel-sync --wheel-sync-interval-sec 1 --wheel-sync-dir {place}/w".split(),
        env={"PYTHONPATH": "", "PYOCO_STATE_DIR": str(place / "state")},
    )
    return place


def sync_of(stage: Stage, worker_id: str) -> dict[str, Any]:
    answer = HTTP.get(f"{stage.url}/workers", params={"scope": "all"})
    if answer.status_code != 200:
        return {}
    found = [w["wheel_sync"] for w in answer.json() if w["worker_id"] == worker_id]
    return found[0] if found else {}


def selects(stage: Stage, worker_id: str, wanted: list[str]) -> bool:
    return bool(sync_of(stage, worker_id).get("selected_wheels") == wanted)
