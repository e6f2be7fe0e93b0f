"""Puts the cast on the stage: processes, the links between them, and who watches from outside."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, Final

import httpx
import trio

from pyoco_server.jetstream.api import call
from pyoco_server.jetstream.connection import Connection, ConnectionOptions, open_connection
from pyoco_server.jetstream.errors import BridgeError
from pyoco_server.jetstream.inventory import read_stream
from pyoco_server.node import server_executable
from pyoco_server.scenario.document import Cast, Scenario, ScenarioError, Twin, WorkerPart
from pyoco_server.scenario.links import Link
from pyoco_server.scenario.patches import place_patch
from pyoco_server.scenario.programs import Program, free_port, prepare_folder
from pyoco_server.scenario.versions import commands_of
from pyoco_server.worker.runner.kin import descendants

_READY_SECONDS: Final = 60.0
_LOOK_SECONDS: Final = 0.05


@dataclass(frozen=True)
class Gateway:
    """A gateway of the cast."""

    name: str
    url: str
    ours: bool


class Stage:
    """The running cast; made by `open_stage`.

    Attributes:
        folder: Everything that it writes is there.
        programs: The processes by name: n1…, g1…, and the workers by id.
        links: The links of gateways and workers to NATS, by the name of the process.
        gateways: The gateways, in their order.
        observer: A connection to NATS past all links.
        journal: The file into which tasks write what they do.
    """

    def __init__(self, folder: Path, connection: Connection) -> None:
        self.folder = folder
        self.programs: dict[str, Program] = {}
        self.links: dict[str, Link] = {}
        self.gateways: list[Gateway] = []
        self.observer = connection
        self.journal = folder / "journal.jsonl"

    def named(self, names: str | list[str]) -> list[str]:
        """The names of processes, with nats, gateways and workers for all of their kind.

        Raises:
            ScenarioError: Nothing has this name.
        """
        found: list[str] = []
        kinds = {"nats": "nats", "gateways": "gateway", "workers": "worker"}
        for name in [names] if isinstance(names, str) else names:
            if name in kinds:
                found += [each for each in self.programs if self.kind(each) == kinds[name]]
            elif name.partition(".")[0] in {*self.programs, "leader"}:
                found.append(name)
            else:
                known = ", ".join([*self.programs, *kinds])
                raise ScenarioError(f"nothing on the stage is called {name!r}; there are {known}")
        return found

    async def leader(self, stream: str) -> str:
        """The node that leads a stream; the only one where there is no cluster."""
        cluster = (await read_stream(self.observer, stream)).cluster
        return (cluster and cluster.leader) or "n1"

    async def ready(self, gateway: Gateway) -> bool:
        """Whether a gateway can do its work; 0.5.1 can only say that it lives."""
        path = "/health/ready" if gateway.ours else "/health"
        try:
            async with httpx.AsyncClient(timeout=5.0) as client:
                return (await client.get(gateway.url + path)).status_code == 200
        except httpx.HTTPError:
            return False

    async def wait_ready(self, names: list[str]) -> None:
        """Wait until those gateways are ready.

        Raises:
            ScenarioError: One is not in time; the text has the end of its log.
        """
        for gateway in self.gateways:
            if gateway.name not in names:
                continue
            with trio.move_on_after(_READY_SECONDS) as patience:
                while not await self.ready(gateway):  # noqa: ASYNC110 - another process's state
                    await trio.sleep(_LOOK_SECONDS)
            if patience.cancelled_caught:
                said = self.programs[gateway.name].log.read_text(errors="replace")[-2000:]
                raise ScenarioError(
                    f"gateway {gateway.name} did not become ready; it said:\n{said}"
                )

    def kind(self, target: str) -> str:
        """What a target of a step is: child, gateway, nats, or worker."""
        name, _, part = target.partition(".")
        if part == "child":
            return part
        if _is_node(name) or name == "leader":
            return "nats"
        return "gateway" if any(each.name == name for each in self.gateways) else "worker"

    def kill_child(self, worker: str, random: Random) -> None:
        """Kill one of the slot children of a worker, if it has any."""
        program = self.programs[worker]
        pid = program.process.pid if program.running and program.process is not None else 0
        children = sorted(each for each in descendants(pid) if b"runner" in _command_line(each))
        if children:
            with suppress(ProcessLookupError):
                os.kill(random.choice(children), signal.SIGKILL)

    async def leave(self) -> list[str]:
        """End everybody, and return what is still there a while later."""
        everybody = list(self.programs.values())
        for program in everybody:
            program.look_at_family()
        # Who uses NATS ends before NATS does, or it would wait for it.
        nodes = [program for program in everybody if _is_node(program.name)]
        for kind in ([p for p in everybody if p not in nodes], nodes):
            async with trio.open_nursery() as nursery:
                for program in kind:
                    nursery.start_soon(program.stop)
        return [each for program in everybody for each in await program.outlived_by()]


def _command_line(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""  # it has ended meanwhile


def _is_node(name: str) -> bool:
    return name[:1] == "n" and name[1:].isdigit()


@asynccontextmanager
async def open_stage(
    scenario: Scenario, folder: Path, cache: Path, twin: Twin | None = None
) -> AsyncIterator[Stage]:
    """Start the cast, and end all of it when the block is left.

    Args:
        scenario: Whose cast.
        folder: Where to write; best an empty one.
        cache: Where other versions are installed.
        twin: What to break.

    Raises:
        ScenarioError: It cannot be started.
    """
    prepare_folder(folder, scenario.tasks)
    nodes = _nodes(scenario.cast, folder)
    urls = tuple(f"nats://127.0.0.1:{port}" for _, port in nodes)
    ports = [port for _, port in nodes]
    async with (
        open_connection(ConnectionOptions(urls=urls, name="scenario")) as connection,
        trio.open_nursery() as nursery,
    ):
        stage = Stage(folder, connection)
        env = _environment(scenario, folder, twin)
        for program, _ in nodes:
            stage.programs[program.name] = program
            program.start()
        try:
            await connection.wait_connected(within=_READY_SECONDS)
            await _wait_jetstream(connection)

            async def link(name: str, turn: int) -> str:
                first = turn % len(ports)
                stage.links[name] = made = Link(ports[first:] + ports[:first])
                await nursery.start(made.serve)
                return f"nats://127.0.0.1:{made.port}"

            version = (twin.version if twin else None) or scenario.cast.version
            bin_dir = await commands_of(version, cache)
            for index in range(scenario.cast.gateways):
                name, port = f"g{index + 1}", free_port()
                url = await link(name, index)
                argv = [_command(bin_dir, "pyoco-server"), "up", "--port", str(port)]
                stage.programs[name] = Program(
                    name, [*argv, "--nats-url", url], env, folder / name, folder / f"{name}.log"
                )
                address = f"http://127.0.0.1:{port}"
                stage.gateways.append(Gateway(name, address, version is None))
                stage.programs[name].start()
            await stage.wait_ready([gateway.name for gateway in stage.gateways])
            for index, part in enumerate(scenario.cast.workers):
                own = part.version or version
                argv = _worker_argv(
                    part,
                    await commands_of(own, cache),
                    await link(part.id, index),
                    folder / "code" / "scene_tasks.py" if own is None else None,
                )
                stage.programs[part.id] = Program(
                    part.id, argv, env, folder / part.id, folder / f"{part.id}.log"
                )
                if not part.later:
                    stage.programs[part.id].start()
            yield stage
        finally:
            with trio.CancelScope(shield=True):
                await stage.leave()
        nursery.cancel_scope.cancel()


def _environment(scenario: Scenario, folder: Path, twin: Twin | None) -> Mapping[str, str]:
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYOCO_")}
    paths = [str(folder / "code")]
    if twin is not None and twin.patch is not None:
        paths.insert(0, str(place_patch(Path(twin.patch), folder)))
    env |= {"PYOCO_LOAD_DOTENV": "0", "PYTHONPATH": os.pathsep.join(paths), "TERM": "dumb"}
    if scenario.cast.nodes == 3:
        env["PYOCO_JETSTREAM_REPLICAS"] = "3"
    return env | scenario.settings | (twin.settings if twin is not None else {})


def _nodes(cast: Cast, folder: Path) -> list[tuple[Program, int]]:
    routes = [free_port() for _ in range(cast.nodes)]
    made = []
    for index in range(cast.nodes):
        name, port, home = f"n{index + 1}", free_port(), folder / f"n{index + 1}"
        home.mkdir(parents=True, exist_ok=True)
        limit = f", max_file_store: {cast.store_mb}MB" if cast.store_mb is not None else ""
        lines = [
            f"server_name: {name}",
            "host: 127.0.0.1",
            f"port: {port}",
            f'jetstream {{ store_dir: "{home / "store"}"{limit} }}',
        ]
        if cast.nodes > 1:
            others = ", ".join(f'"nats://127.0.0.1:{route}"' for route in routes)
            # Not advertised: a client that knew the others would go past its link.
            lines.append(
                f"cluster {{ name: stage, listen: 127.0.0.1:{routes[index]}, "
                f"no_advertise: true, routes: [{others}] }}"
            )
        config = home / "nats-server.conf"
        config.write_text("\n".join(lines) + "\n")
        argv = [server_executable(), "-c", str(config)]
        made.append((Program(name, argv, dict(os.environ), home, folder / f"{name}.log"), port))
    return made


async def _wait_jetstream(connection: Connection) -> None:
    """Wait until JetStream takes requests; a cluster has to choose a leader first."""
    with trio.move_on_after(_READY_SECONDS):
        while True:
            try:
                await call(connection, "INFO", answer=dict[str, Any], within=2.0)
            except BridgeError:
                await trio.sleep(_LOOK_SECONDS)
            else:
                return
    raise ScenarioError(f"JetStream did not come up within {_READY_SECONDS:g} s")


def _command(folder: Path, name: str) -> str:
    path = folder / name
    if not path.exists():
        raise ScenarioError(f"no command {name} in {folder}: is pyoco-server installed there?")
    return str(path)


def _worker_argv(part: WorkerPart, commands: Path, url: str, tasks: Path | None) -> list[str]:
    """How a worker is started; with ``tasks`` one of ours, which finds flows by their names there."""
    argv = [_command(commands, "pyoco-worker"), "--nats-url", url, "--tags", ",".join(part.tags)]
    argv += ["--worker-id", part.id]
    if tasks is not None:
        argv += ["--slots", str(part.slots), "--flow-resolver", f"{tasks}:resolve"]
    if part.wheels:
        argv += ["--wheel-sync", "--wheel-sync-dir", f"wheels-{part.id}"]
    return argv
