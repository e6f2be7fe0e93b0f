"""The embedded node: it answers, comes back, and leaves nothing behind."""

from __future__ import annotations

import errno
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio

from nats_fixtures import connected, eventually, node_in
from pyoco_server import node as node_module
from pyoco_server.jetstream.publish import publish_acked
from pyoco_server.jetstream.resources import ensure_resources
from pyoco_server.node import NatsPortBusy, NodeFailed, StoreBusy, open_node
from pyoco_server.process import OwnedProcess, spawn_owned
from pyoco_server.settings import Settings

pytestmark = pytest.mark.nats


def is_gone(pid: int) -> bool:
    return not Path(f"/proc/{pid}").exists()


def start(*argv: str) -> subprocess.Popen[str]:
    return subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)


async def test_it_answers_and_leaves_no_process(tmp_path: Path) -> None:
    pid_file = tmp_path / "nats.pid"
    log_file = tmp_path / "said.log"
    async with node_in(
        tmp_path / "nats", monitor_port=0, log_file=log_file, pid_file=pid_file
    ) as node:
        pid = node.pid
        assert pid is not None
        assert pid_file.read_text() == f"{pid}\n"
        assert f":{node.port}" in node.url
        async with connected(node) as connection:
            assert connection.status.server == node.url
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{node.monitor_port}") as monitor:
            answer = await monitor.get("/healthz", timeout=60)
            assert answer.json() == {"status": "ok"}
    assert is_gone(pid)
    assert node.pid is None
    assert not pid_file.exists()
    assert "Server is ready" in log_file.read_text()


@pytest.mark.parametrize("which", ["port", "monitor_port"])
async def test_a_busy_port_is_refused_by_name(tmp_path: Path, which: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(
            NatsPortBusy, match=f"port 127.0.0.1:{port} is already in use"
        ) as caught:
            async with open_node(store_dir=tmp_path, **{which: port}):
                pytest.fail("it started")
    assert caught.value.port == port


async def test_a_store_is_for_one_node_at_a_time(tmp_path: Path) -> None:
    async with node_in(tmp_path) as first:
        with pytest.raises(StoreBusy, match=r"is in use by process .*would lose jobs") as caught:
            async with node_in(tmp_path):
                pytest.fail("it started")
        assert caught.value.pid == os.getpid()
        link = tmp_path / "link"
        link.symlink_to(tmp_path)
        with pytest.raises(StoreBusy):  # by another way to it
            async with node_in(link):
                pytest.fail("it started")
        first.kill()
        with pytest.raises(StoreBusy):  # also while the node is started again
            async with node_in(tmp_path):
                pytest.fail("it started")
    async with node_in(tmp_path):
        pass


HOLDER = """\
import sys, trio
from pathlib import Path
from pyoco_server.node import open_node

async def hold():
    async with open_node(store_dir=Path(sys.argv[1])) as node:
        print(node.pid, flush=True)
        await trio.sleep_forever()

trio.run(hold)
"""


async def test_who_has_a_store_is_told_and_a_killed_one_has_it_no_more(tmp_path: Path) -> None:
    with start(sys.executable, "-c", HOLDER, str(tmp_path)) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        with pytest.raises(StoreBusy, match=rf"process {holder.pid} \(-c {tmp_path}\)"):
            async with node_in(tmp_path):
                pytest.fail("it started")
        holder.kill()
        holder.wait()
        with trio.fail_after(60):
            async with node_in(tmp_path):
                pass


async def test_a_host_that_is_not_ours_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NodeFailed, match=r"nothing can listen on 192\.0\.2\.1:0"):
        async with open_node(store_dir=tmp_path, host="192.0.2.1"):
            pytest.fail("it started")


async def test_another_server_on_the_port_is_not_taken_for_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with node_in(tmp_path / "first") as first:
        # As when the other one comes between the look at the port and the start.
        monkeypatch.setattr("pyoco_server.node._claim_port", lambda host, port: port)
        with trio.fail_after(60), pytest.raises(NodeFailed, match=r"did not start.*in use"):
            async with node_in(tmp_path / "second", port=first.port):
                pytest.fail("it took the other server for its own")


async def test_a_store_that_cannot_be_used_is_told(tmp_path: Path) -> None:
    (tmp_path / "jetstream").write_text("not a folder")
    with trio.fail_after(60), pytest.raises(NodeFailed, match="did not start"):
        async with open_node(store_dir=tmp_path):
            pytest.fail("it started")


async def test_what_the_block_raises_comes_out_as_it_is(tmp_path: Path) -> None:
    pids: list[int] = []

    async def block() -> None:
        async with node_in(tmp_path) as node:
            assert node.pid is not None
            pids.append(node.pid)
            raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        await block()
    assert is_gone(pids[0])


async def test_it_is_started_again_with_the_same_port_and_store(tmp_path: Path) -> None:
    settings = Settings()
    async with node_in(tmp_path) as node, connected(node) as connection:
        await ensure_resources(connection, settings)
        stored = await publish_acked(connection, "pyoco.work.a", b"1")
        pids = {node.pid}
        for restarts in (1, 2):
            node.kill()

            async def back(expected: int = restarts) -> bool:
                return node.restarts == expected and node.pid is not None

            await eventually(back, within=60)
            pids.add(node.pid)
            with trio.fail_after(60):
                while connection.epoch <= restarts or not connection.status.connected:
                    await connection.changed()
        again = await publish_acked(connection, "pyoco.work.a", b"2")
    assert len(pids) == 3
    assert again.seq == stored.seq + 1


async def test_a_passing_shortage_as_it_is_started_again_costs_nothing_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shortages = 2

    def short(*arguments: Any, **more: Any) -> OwnedProcess:
        nonlocal shortages
        if shortages:
            shortages -= 1
            raise OSError(errno.EAGAIN, "Resource temporarily unavailable")
        return spawn_owned(*arguments, **more)

    async with node_in(tmp_path) as node:
        monkeypatch.setattr(node_module, "spawn_owned", short)
        node.kill()

        async def back() -> bool:
            return node.restarts == 1

        await eventually(back, within=60)
        assert shortages == 0


async def test_cancelling_takes_even_a_stopped_server_down(tmp_path: Path) -> None:
    pids: list[int] = []
    with trio.fail_after(60), trio.CancelScope() as scope:
        async with node_in(tmp_path) as node:
            assert node.pid is not None
            pids.append(node.pid)
            os.kill(node.pid, signal.SIGSTOP)
            scope.cancel()
            await trio.sleep_forever()
    assert is_gone(pids[0])


async def test_it_dies_with_its_owner(tmp_path: Path) -> None:
    program = """
import sys, trio
from pathlib import Path
from pyoco_server.node import open_node

async def main():
    async with open_node(store_dir=Path(sys.argv[1])) as node:
        print(node.pid, flush=True)
        await trio.sleep_forever()

trio.run(main)
"""
    with start(sys.executable, "-c", program, str(tmp_path)) as owner:
        assert owner.stdout is not None
        pid = int(await trio.to_thread.run_sync(owner.stdout.readline))
        owner.kill()

        async def gone() -> bool:
            return is_gone(pid)

        await eventually(gone)
