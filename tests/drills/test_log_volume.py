"""How soon a printed line is seen, and what 50 MB of output do to a worker."""

from __future__ import annotations

import math
import signal
import statistics
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from busyness import best
from e2e.programs import BIN, Stage, open_stage, wait_for

MIB = 1024 * 1024

MODULE = """\
import time


def tick(lines, pause):
    for _ in range(lines):
        print(time.time())
        time.sleep(pause)


def flood(megabytes):
    line = "x" * 99
    for _ in range(megabytes * 10_000):
        print(line)
    print("the end")
"""
TICK = """\
flow:
  graph: tick
  defaults: {lines: 60, pause: 0.05}
tasks:
  tick: {callable: "printing:tick"}
"""
FLOOD = """\
flow:
  graph: flood
  defaults: {{megabytes: {megabytes}}}
tasks:
  flood: {{callable: "printing:flood"}}
"""


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    with open_stage(tmp_path) as stage:
        yield stage


def memory(pid: int, field: str) -> float:
    """A figure of /proc/<pid>/status in MiB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) / 1024
    raise AssertionError(f"no {field} of process {pid}")


def forget_peak(pid: int) -> None:
    """Have the kernel count the peak of the resident memory anew (proc(5), clear_refs)."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def test_a_line_is_seen_within_a_tenth_of_a_second(stage: Stage) -> None:
    (stage.folder / "printing.py").write_text(MODULE)
    stage.nats()
    stage.gateway()
    stage.worker("--slots", "1")
    stage.ended(stage.submit(FLOOD.format(megabytes=0)))  # the child is warm from here on

    def median() -> float:
        delays = delays_of(stage)
        # Where the command was there too late to see much of it, that is no measure.
        return statistics.median(delays) if len(delays) >= 20 else math.inf

    assert best(median, 0.1) <= 0.1


def delays_of(stage: Stage) -> list[float]:
    """How long after they were printed lines were seen."""
    run_id = stage.submit(TICK)
    argv = ["pyoco-client", "--server", stage.url, "logs", run_id, "-f", "--output", "text"]
    with subprocess.Popen(
        [str(BIN / argv[0]), *argv[1:]],
        cwd=stage.folder,
        env=stage.env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        bufsize=1,
    ) as client:
        assert client.stdout is not None
        # What was printed before the command was there is no measure of it.
        began = time.time()
        delays: list[float] = []
        for line in client.stdout:
            printed, seen = float(line), time.time()
            if not delays and seen - printed > 0.2:
                began = seen
            if printed >= began:
                delays.append(seen - printed)
        assert client.wait(60) == 0
    if len(delays) > 1:
        median, p95 = statistics.median(delays), statistics.quantiles(delays, n=20)[-1]
        print(
            f"\nlogs -f: {len(delays)} lines, median {median * 1000:.0f} ms, p95 {p95 * 1000:.0f} ms"
        )
    return delays


@pytest.mark.slow
@pytest.mark.parametrize("kept_mib", [8, 64])
def test_fifty_megabytes_of_output_neither_lose_the_run_nor_swell_the_worker(
    stage: Stage, kept_mib: int
) -> None:
    (stage.folder / "printing.py").write_text(MODULE)
    stage.nats()
    stage.gateway()
    stage.env["PYOCO_EVENTS_RUN_MAX_BYTES"] = str(kept_mib * MIB)
    worker = stage.worker("--slots", "1")
    stage.ended(stage.submit(FLOOD.format(megabytes=0)))
    forget_peak(worker.pid)
    before = memory(worker.pid, "VmHWM")
    began = time.monotonic()
    run_id = stage.submit(FLOOD.format(megabytes=50))
    snapshot = stage.ended(run_id)
    took = time.monotonic() - began
    grown = memory(worker.pid, "VmHWM") - before

    printed = 50_000_000 + len("the end\n")
    size, end = 0, ""
    with httpx.stream(
        "GET",
        f"{stage.url}/runs/{run_id}/logs",
        params={"format": "text", "follow": 1},
        timeout=120,
    ) as answer:
        for text in answer.iter_text():
            size += len(text)
            end = (end + text)[-200:]
    print(
        f"\n50 MB of output, {kept_mib} MiB kept: {took:.1f} s, worker grew by {grown:.1f} MiB from "
        f"{before:.0f} MiB, {size} characters read back"
    )
    assert (snapshot["status"], snapshot["attempt"]) == ("COMPLETED", 1)
    assert grown < 50
    if printed <= kept_mib * MIB:
        assert size == printed
        assert end.endswith("the end\n")
    else:
        assert kept_mib * MIB <= size < kept_mib * MIB + 1000
        assert "bytes of output were left out" in end


@pytest.mark.slow
def test_output_that_cannot_be_stored_is_left_out_within_bounds_and_told(stage: Stage) -> None:
    (stage.folder / "printing.py").write_text(MODULE)
    nats = stage.nats()
    stage.gateway()
    stage.env["PYOCO_EVENTS_RUN_MAX_BYTES"] = str(64 * MIB)
    worker = stage.worker("--slots", "1")
    stage.ended(stage.submit(FLOOD.format(megabytes=0)))
    forget_peak(worker.pid)
    before = memory(worker.pid, "VmHWM")
    run_id = stage.submit(FLOOD.format(megabytes=50))
    wait_for(lambda: stage.get(run_id)["status"] == "RUNNING", what="the run")
    nats.send(signal.SIGSTOP)
    # What the worker holds back now is at its most when its child is held up or done.
    time.sleep(6)
    nats.send(signal.SIGCONT)
    snapshot = stage.ended(run_id)
    grown = memory(worker.pid, "VmHWM") - before
    answer = httpx.get(
        f"{stage.url}/runs/{run_id}/logs", params={"format": "text", "follow": 1}, timeout=60
    )
    size = len(answer.text)
    print(f"\n50 MB of output, NATS away for 6 s: worker grew by {grown:.1f} MiB, {size} read back")
    assert (snapshot["status"], snapshot["attempt"]) == ("COMPLETED", 1)
    assert 1 < grown < 50
    assert size < 50_000_000
    assert "bytes of output were left out" in answer.text[-200:]
