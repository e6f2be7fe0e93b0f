"""A real NATS server, gateways and workers, for a browser to look at."""

from __future__ import annotations

import contextlib
import json
import re
import signal
import threading
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import httpx
import msgspec
import trio

from dashboard.flows import CODE
from e2e.programs import HTTP, Program, Stage, open_stage, wait_for
from ports import free_port
from pyoco_server.jetstream.connection import Connection, ConnectionOptions, open_connection
from pyoco_server.jetstream.keyvalue import KeyValue
from pyoco_server.jetstream.publish import publish_acked

T = TypeVar("T")

TAG = "hello"


@dataclass
class World:
    """The programs that run, and what a test does to them beside the browser."""

    stage: Stage
    server: Program
    keyed_port: int = 0

    @property
    def url(self) -> str:
        return self.stage.url

    @property
    def keyed_url(self) -> str:
        """The gateway that asks for API keys."""
        return f"http://127.0.0.1:{self.keyed_port}"

    def submit(self, flow_yaml: str, tag: str = TAG, **fields: Any) -> str:
        """Submit a run; its id."""
        item = {"flow_name": "main", "tag": tag, "workflow_yaml": flow_yaml, **fields}
        answer = HTTP.post(f"{self.url}/runs/batch", json={"runs": [item]}).json()
        run_id = answer["items"][0].get("run_id")
        assert isinstance(run_id, str), answer
        return run_id

    def status(self, run_id: str) -> str:
        return str(self.stage.get(run_id)["status"])

    def reaches(self, run_id: str, *statuses: str) -> dict[str, Any]:
        """The run when it has one of these states."""

        def look() -> dict[str, Any] | None:
            run = self.stage.get(run_id)
            return run if run["status"] in statuses else None

        run: dict[str, Any] = wait_for(look, what=f"{run_id} {statuses}")
        return run

    def open_gate(self, gate: str) -> None:
        """Let the runs go on that wait for it."""
        (self.stage.folder / gate).touch()

    def restart_server(self, *, between: Callable[[], None] = lambda: None) -> None:
        """Take the gateway down and start it again on its port."""
        self.server.stop()
        between()
        self.server = self.stage.gateway()

    def key(self, *options: str, tenant: str = "blue") -> str:
        """A new API key."""
        text = self.stage.run(
            "pyoco-server-admin", "api-key", "create", "--tenant", tenant, *options
        )
        found = re.search(r"pyoco_[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+", text)
        assert found is not None, text
        return found.group()

    # What other programs would have written

    def in_nats(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        """Do something on a connection of its own, in a thread of its own: the browser has this one."""

        async def connected() -> T:
            options = ConnectionOptions(urls=(self.stage.nats_url,))
            async with open_connection(options) as connection:
                await connection.wait_connected(within=60)
                return await work(connection)

        outcome: list[T] = []
        failures: list[BaseException] = []

        def run() -> None:
            try:
                outcome.append(trio.run(connected))
            except BaseException as error:  # noqa: BLE001 - it is raised in the test's thread
                failures.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
        if failures:
            raise failures[0]
        return outcome[0]

    def put(self, bucket: str, values: dict[str, dict[str, Any]]) -> None:
        """Write JSON documents into a bucket."""

        async def write(connection: Connection) -> None:
            store = KeyValue(connection, bucket)
            limit = trio.CapacityLimiter(256)

            async def one(key: str, value: dict[str, Any]) -> None:
                async with limit:
                    await store.put(key, msgspec.json.encode(value), within=60)

            async with trio.open_nursery() as nursery:
                for key, value in values.items():
                    nursery.start_soon(one, key, value)

        self.in_nats(write)

    def put_run(self, **fields: Any) -> str:
        """Write a run's snapshot; its id."""
        run = snapshot(**fields)
        self.put("pyoco_runs", {run["run_id"]: run})
        return str(run["run_id"])

    def put_letter(self, **fields: Any) -> None:
        """Write a dead letter."""
        letter = {"timestamp": time.time(), "reason": "execution_error", "error": "", **fields}

        async def write(connection: Connection) -> None:
            await publish_acked(connection, f"pyoco.dlq.{TAG}", json.dumps(letter).encode())

        self.in_nats(write)

    def put_event(self, run_id: str, **fields: Any) -> None:
        """Write an event of a run."""
        message = json.dumps([{"at": time.time(), "attempt": 1, **fields}]).encode()

        async def write(connection: Connection) -> None:
            await publish_acked(connection, f"pyoco.events.{run_id}", message)

        self.in_nats(write)


def snapshot(**fields: Any) -> dict[str, Any]:
    """A run as a worker would have written it."""
    now = time.time()
    return {
        "run_id": str(uuid.uuid4()),
        "flow_name": "main",
        "status": "COMPLETED",
        "tag": TAG,
        "tags": [TAG],
        "params": {},
        "tasks": {},
        "task_records": {},
        "submitted_at": now - 3,
        "start_time": now - 2,
        "end_time": now - 1,
        "updated_at": now,
        **fields,
    }


@contextlib.contextmanager
def open_world(folder: Path, *, slots: int = 4, keyed: bool = False) -> Iterator[World]:
    """NATS, a gateway, a worker that syncs wheels, and on request a gateway that asks for keys."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "dash_tasks.py").write_text(CODE)
    with open_stage(folder) as stage:
        stage.env |= {
            "PYOCO_NATS_URL": stage.nats_url,
            "PYOCO_WORKER_HEARTBEAT_INTERVAL_SEC": "1",
            "PYOCO_CANCEL_GRACE_PERIOD_SEC": "0.5",
            # Runs that tests write down have no jobs, and stay as they are for as long as a test takes.
            "PYOCO_RUN_ORPHAN_AFTER_SEC": "3600",
        }
        stage.nats()
        world = World(stage, stage.gateway())
        if slots:
            stage.worker("--slots", str(slots), "--wheel-sync", "--wheel-sync-interval-sec", "1")
        if keyed:
            world.keyed_port = free_port()
            stage.start(
                *("pyoco-server", "up", "--port", str(world.keyed_port)),
                *("--nats-url", stage.nats_url),
                env={
                    "PYOCO_HTTP_AUTH_MODE": "api_key",
                    "PYOCO_DASHBOARD_LANG": "ja",
                    "PYOCO_STATE_DIR": str(folder / "keyed"),
                },
            )
            wait_for(lambda: _answers(world.keyed_url), what="a gateway with keys")
        if slots:
            wait_for(lambda: HTTP.get(f"{world.url}/workers").json(), what="a worker")
        try:
            yield world
        finally:
            # The second time they give back what they run, which no test waits for.
            for _ in range(2):
                for program in stage.programs:
                    if program.name == "pyoco-worker" and program.process.poll() is None:
                        program.send(signal.SIGTERM)
                time.sleep(0.1)


def _answers(url: str) -> bool:
    try:
        return HTTP.get(f"{url}/health/ready", timeout=5).status_code == 200
    except httpx.HTTPError:
        return False
