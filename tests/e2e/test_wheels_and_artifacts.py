"""Task code as wheels and files back, by the commands, with processes of their own."""

from __future__ import annotations

import hashlib
import os
from functools import partial
from pathlib import Path

import httpx
import pytest

from e2e.programs import HTTP, Stage, wait_for
from e2e.wheel_programs import client, selects, sync_of, worker
from wheels.making import file_name, wheel_bytes

pytestmark = pytest.mark.slow
LONG = os.environ.get("PYOCO_DRILL_LONG") == "1"

TASKS = """\
import os

from pyoco.dsl.syntax import task


@task
def save(ctx, size):
    ctx.save_artifact("note.txt", "grüße")
    ctx.save_artifact("data/raw.bin", bytes(range(256)))
    with open("artifacts/big.bin", "wb") as file:
        for _ in range(size // 1_000_000):
            file.write(os.urandom(1_000_000))
"""
USE = "flow:\n  graph: keep\n  defaults: {{size: {size}}}\ntasks:\n  keep: {{use: save}}\n"


def peak_rss_mib(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 1024
    raise AssertionError("no VmHWM")


def reset_peak(pid: int) -> None:
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def test_a_folder_of_tasks_becomes_a_wheel_and_its_files_come_back(stage: Stage) -> None:
    stage.nats()
    gateway = stage.gateway()
    place = worker(stage, "remote")
    tasks = stage.folder / "my_tasks"
    tasks.mkdir()
    (tasks / "saving.py").write_text(TASKS)
    first = client(stage, "wheel-build", str(tasks))
    assert (first["package"], first["version"]) == ("my-tasks", "0.1.0")
    second = client(stage, "wheel-build", str(tasks), "--tags", "hello")
    assert second["version"] == "0.1.1"
    client(stage, "wheel-delete", "--name", second["name"])
    third = client(stage, "wheel-build", str(tasks), "--tags", "hello")
    assert (third["version"], third["tags"]) == ("0.1.2", ["hello"])
    history = client(stage, "wheel-history", "--limit", "10")
    assert [event["action"] for event in history] == ["upload", "delete", "upload", "upload"]
    assert [w["version"] for w in client(stage, "wheels")] == ["0.1.0", "0.1.2"]
    wait_for(
        lambda: sync_of(stage, "w1").get("selected_wheels") == [third["name"]], what="the wheel"
    )

    megabytes = 100 if LONG else 60
    for pid in (gateway.pid, stage.programs[-1].pid):
        reset_peak(pid)
    before = peak_rss_mib(gateway.pid), peak_rss_mib(stage.programs[-1].pid)
    run = stage.ended(stage.submit(USE.format(size=megabytes * 1_000_000)), within=120)
    assert run["status"] == "COMPLETED", run
    assert [(w["name"], w["version"]) for w in run["wheels"]] == [("my-tasks", "0.1.2")]
    listing = client(stage, "artifacts", run["run_id"])
    assert [(a["name"], a["task"]) for a in listing["artifacts"]] == [
        ("big.bin", None),
        ("data/raw.bin", "keep"),
        ("note.txt", "keep"),
    ]
    out = stage.folder / "out"
    fetched = client(stage, "artifacts", run["run_id"], "--all", "--out", str(out))
    assert len(fetched) == 3
    for artifact in listing["artifacts"]:
        data = (out / artifact["name"]).read_bytes()
        assert len(data) == artifact["size_bytes"]
        assert hashlib.sha256(data).hexdigest() == artifact["sha256_hex"]
    assert (out / "note.txt").read_text() == "grüße"
    (one,) = client(stage, "artifacts", run["run_id"], "--get", "note.txt", "--out", str(out / "x"))
    assert Path(one["path"]).read_text() == "grüße"
    after = peak_rss_mib(gateway.pid), peak_rss_mib(stage.programs[-1].pid)
    print(
        f"{megabytes} MB artifact, RSS MiB: gateway {before[0]:.0f} → {after[0]:.0f} at most, "
        f"worker {before[1]:.0f} → {after[1]:.0f} at most"
    )
    assert after[0] - before[0] < 45
    assert after[1] - before[1] < 45
    wait_for(lambda: not list((place / "state" / "work").glob("*/*")), what="no run folder")


def test_what_a_wheel_depends_on_comes_along(stage: Stage) -> None:
    stage.nats()
    stage.gateway()
    worker(stage, "remote")
    index, tasks = stage.folder / "index", stage.folder / "ours"
    for folder in (index, tasks):
        folder.mkdir()
    (index / file_name("helper", "2.1")).write_bytes(
        wheel_bytes("helper", "2.1", files={"helper.py": b"VALUE = 42\n"})
    )
    (tasks / "work.py").write_text("import helper\n\ndef work():\n    return helper.VALUE\n")
    (tasks / "requirements.txt").write_text("helper>=2\n")
    stage.env |= {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(index)}
    flow = "flow: {graph: work}\ntasks: {work: {callable: 'work:work'}}\n"

    alone = client(stage, "wheel-build", str(tasks), "--tags", "hello")
    wait_for(lambda: sync_of(stage, "w1").get("selected_wheels") == [alone["name"]], what="it")
    lacking = stage.ended(stage.submit(flow))
    assert lacking["status"] == "FAILED"
    assert "No module named 'helper'" in lacking["error"]
    assert "--with-deps" in lacking["error"]

    whole = client(stage, "wheel-build", str(tasks), "--tags", "hello", "--with-deps")
    wheels = client(stage, "wheels")
    assert [w["tags"] for w in wheels if w["package"] == "helper"] == [["hello"]]
    wait_for(lambda: whole["name"] in sync_of(stage, "w1").get("selected_wheels", ()), what="both")
    run = stage.ended(stage.submit(flow))
    assert run["task_records"]["work"]["output"] == 42
    assert [w["name"] for w in run["wheels"]] == ["helper", "ours"]
    # A second time there is nothing to bring, and the wheel itself is new.
    client(stage, "wheel-build", str(tasks), "--tags", "hello", "--with-deps")
    assert len(client(stage, "wheels")) == len(wheels) + 1


def test_a_large_wheel_costs_little_memory_on_its_way(stage: Stage) -> None:
    stage.nats()
    gateway = stage.gateway()
    worker(stage, "remote")
    program = stage.programs[-1]
    megabytes = 200 if LONG else 60
    wheel = stage.folder / file_name("large")
    wheel.write_bytes(
        wheel_bytes("large", files={"large.bin": os.urandom(megabytes * 1_000_000)}, compress=False)
    )
    wait_for(lambda: sync_of(stage, "w1").get("last_result") == "ok", what="the first look")
    for pid in (gateway.pid, program.pid):
        reset_peak(pid)
    before = peak_rss_mib(gateway.pid), peak_rss_mib(program.pid)
    client(stage, "wheel-upload", "--wheel-file", str(wheel), "--preflight", "off")
    wait_for(
        lambda: sync_of(stage, "w1").get("selected_wheels") == [wheel.name],
        within=120,
        what="the large wheel",
    )
    with httpx.stream("GET", f"{stage.url}/wheels/{wheel.name}", timeout=60) as answer:
        digest = hashlib.sha256()
        for piece in answer.iter_bytes():
            digest.update(piece)
    assert digest.hexdigest() == hashlib.sha256(wheel.read_bytes()).hexdigest()
    after = peak_rss_mib(gateway.pid), peak_rss_mib(program.pid)
    print(
        f"{megabytes} MB wheel, RSS MiB: gateway {before[0]:.0f} → {after[0]:.0f} at most, "
        f"worker {before[1]:.0f} → {after[1]:.0f} at most"
    )
    assert after[0] - before[0] < 45
    assert after[1] - before[1] < 45


def test_tags_route_wheels_to_workers(stage: Stage) -> None:
    stage.nats()
    stage.gateway()
    worker(stage, "one", "cpu", "cpu-worker")
    worker(stage, "two", "gpu", "gpu-worker")
    for package, tags in (("forall", ""), ("forcpu", "cpu"), ("forgpu", "gpu")):
        wheel = (file_name(package), wheel_bytes(package))
        answer = HTTP.post(f"{stage.url}/wheels", files={"wheel": wheel}, data={"tags": tags})
        assert answer.status_code == 200, answer.text
    for who, mine in (("cpu-worker", "forcpu"), ("gpu-worker", "forgpu")):
        wanted = sorted([file_name("forall"), file_name(mine)])
        wait_for(partial(selects, stage, who, wanted), what=f"wheels of {who}")
