"""Task code as wheels in a fleet of both versions: ours and pyoco-server 0.5.1 read each other's registry."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from e2e.programs import HTTP, Stage, wait_for
from e2e.wheel_programs import client, selects, worker
from wheels.making import file_name, wheel_bytes

pytestmark = pytest.mark.slow


FLOW = "flow:\n  graph: tell\ntasks:\n  tell: {callable: 'vtasks:tell'}\n"


def test_the_old_worker_syncs_from_our_registry(stage: Stage, old_bin: Path) -> None:
    stage.nats()
    stage.gateway()
    path = stage.folder / file_name("vtasks")
    path.write_bytes(wheel_bytes("vtasks"))
    client(stage, "wheel-upload", "--wheel-file", str(path), "--allow-no-entry-points")
    synced, installed = stage.folder / "synced", stage.folder / "installed"
    installed.mkdir()
    stage.start(
        *f"pyoco-worker --nats-url {stage.nats_url} --tags hello --worker-id old".split(),
        *f"--wheel-sync --wheel-sync-dir {synced} --wheel-sync-interval-sec 1".split(),
        executable=old_bin,
        # It installs by pip, without --target into the environment that other tests share.
        env={"PYTHONPATH": str(installed), "PIP_TARGET": str(installed), "PIP_NO_INDEX": "1"},
    )
    wait_for(partial(selects, stage, "old", [path.name]), what="the old worker's sync")
    assert (synced / path.name).read_bytes() == path.read_bytes()
    ended = stage.ended(stage.submit(FLOW))
    assert ended["status"] == "COMPLETED", ended
    assert ended["task_records"]["tell"]["output"] == ["1.0"] * 3


def test_our_worker_syncs_from_a_registry_that_the_old_gateway_filled(
    stage: Stage, old_bin: Path
) -> None:
    stage.nats()
    stage.old_gateway(old_bin)
    path = stage.folder / file_name("vtasks")
    path.write_bytes(wheel_bytes("vtasks"))
    with path.open("rb") as file:
        answer = HTTP.post(
            f"{stage.url}/wheels", files={"wheel": (path.name, file)}, data={"tags": "hello"}
        )
    assert answer.status_code == 200, answer.text
    worker(stage, "remote")
    ended = stage.ended(stage.submit(FLOW))
    assert ended["status"] == "COMPLETED", ended
    assert ended["task_records"]["tell"]["output"] == ["1.0"] * 3
