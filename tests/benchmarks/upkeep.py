"""What an installation takes when it does nothing, when it starts, for a large wheel, and for a command."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path
from typing import Final

from benchmarks.figures import OURS, Measures
from benchmarks.processes import memory_mib, processor_ms
from benchmarks.pyoco import Version, open_installation, submit_many
from benchmarks.sizes import Sizes
from benchmarks.wire import Wire, get, post
from e2e.programs import wait_for
from wheels.making import file_name, wheel_bytes

_WARM_UP_RUNS: Final = 500
_SETTLING_SECONDS: Final = 2.0


def resting(version: Version, folder: Path, sizes: Sizes) -> Measures:
    """Start, memory and idle work of a gateway and of four slots."""
    # 0.5.1 hangs on the other soon, and on this one in the end.
    flow = "noop" if version.name == OURS else "pause"
    with open_installation(version, folder) as installation:
        gateway = installation.gateway.pid
        submit_many(installation, flow, 1, 1)
        began = time.perf_counter()
        workers = [program.pid for program in installation.work()]
        wait_for(lambda: not installation.left(), every=0.005, what="a run's end")
        cold = time.perf_counter() - began
        runs = min(_WARM_UP_RUNS if version.name == OURS else _WARM_UP_RUNS // 10, sizes.drained)
        submit_many(installation, flow, runs, runs)
        wait_for(lambda: not installation.left(), within=120, what="the end of all runs")
        time.sleep(_SETTLING_SECONDS)
        before = processor_ms(gateway), processor_ms(*workers)
        time.sleep(sizes.idle_seconds)
        after = processor_ms(gateway), processor_ms(*workers)
        share = [
            100 * (b - a) / 1000 / sizes.idle_seconds for a, b in zip(before, after, strict=True)
        ]
        return {
            "cold.worker": cold,
            "memory.gateway": memory_mib(gateway),
            "memory.worker": sum(memory_mib(pid, family=True) for pid in workers),
            "idle.gateway": share[0],
            "idle.worker": share[1],
        }


def starting(version: Version, folder: Path, sizes: Sizes) -> Measures:
    """Start of a gateway on a NATS that has all that it needs."""
    with open_installation(version, folder) as installation:
        took = []
        for _ in range(sizes.starts):
            installation.gateway.stop()
            took.append(installation.start_gateway())
        return {"cold.gateway": min(took)}


def wheels(version: Version, folder: Path, sizes: Sizes) -> Measures:
    """A large wheel, up and down again."""
    wheel = wheel_bytes(files={"tasks.bin": os.urandom(sizes.wheel_mb * 1_000_000)}, compress=False)
    boundary = "------------------------benchmark"
    head = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="wheel"; filename="{file_name()}"\r\n'
        "Content-Type: application/octet-stream\r\n\r\n"
    )
    body = head.encode() + wheel + f"\r\n--{boundary}--\r\n".encode()
    upload = post("/wheels", body, f"multipart/form-data; boundary={boundary}")
    with open_installation(version, folder) as installation, Wire(installation.port) as wire:
        began = time.perf_counter()
        wire.ask(upload)
        uploaded = time.perf_counter()
        assert wire.ask(get(f"/wheels/{file_name()}")) == wheel
        downloaded = time.perf_counter()
        return {
            "wheel.upload": uploaded - began,
            "wheel.download": downloaded - uploaded,
            "wheel.memory": memory_mib(installation.gateway.pid, of="VmHWM"),
        }


def commands(version: Version, folder: Path, sizes: Sizes) -> Measures:
    """The processor time of commands that people wait for: the least of some calls."""
    with open_installation(version, folder) as installation:
        submit_many(installation, "noop", 50, 50)
        client = [str(version.scripts / "pyoco-client"), "--server", installation.stage.url]
        calls = {
            "command.help": [client[0], "--help"],
            "command.list": [*client, "list"],
            "command.metrics": [*client, "metrics"],
        }
        return {
            row: min(_call(argv, installation.stage.env, folder) for _ in range(sizes.starts))
            for row, argv in calls.items()
        }


def _call(argv: list[str], env: dict[str, str], folder: Path) -> float:
    process = subprocess.Popen(
        argv,
        cwd=folder,
        env={**env, "PYTHONPATH": ""},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, argv
    return usage.ru_utime + usage.ru_stime
