"""Three nodes with three copies of everything: one may be lost at any time, and nothing accepted is.

`PYOCO_DRILL_LONG=1` kills the leader of every stream in turn, not of two.
"""

from __future__ import annotations

import os
import signal
from collections import Counter
from pathlib import Path

import pytest
import trio

from backend.stage import new_run, settings_for, worker_options
from nats_fixtures import eventually
from operations.cluster import Cluster, three_nodes
from pyoco_server.backend import Backend, open_backend
from pyoco_server.gateway.new_run import NotAccepted
from pyoco_server.jetstream.errors import BridgeError
from pyoco_server.jetstream.inventory import list_streams, stream_info
from pyoco_server.kernel import AskExpired
from pyoco_server.model.run import RunStatus
from pyoco_server.operations.doctor import DoctorReport, examine
from pyoco_server.operations.migrate import migrate
from pyoco_server.settings import Settings

pytestmark = [pytest.mark.nats, pytest.mark.slow]
LONG = bool(os.environ.get("PYOCO_DRILL_LONG"))
# Elections take some seconds; more than this would be a fault (I6 of the project's invariants).
MOST_UNAVAILABLE = 30.0


class Load:
    """Submits run after run, and notes which were accepted and how long none was."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self.accepted: list[str] = []
        self.refused = 0
        self.longest_gap = 0.0
        self._last = trio.current_time()
        self.stopping = False

    async def run(self) -> None:
        while not self.stopping:
            try:
                run = await self._backend.submit(new_run("quick"))
            except (NotAccepted, AskExpired):
                self.refused += 1
            else:
                self.accepted.append(run.run_id)
                now = trio.current_time()
                self.longest_gap = max(self.longest_gap, now - self._last)
                self._last = now
            await trio.sleep(0.05)

    async def goes_on(self) -> None:
        """Wait until further runs are accepted."""
        count = len(self.accepted)

        async def more() -> bool:
            return len(self.accepted) > count

        await eventually(more, within=MOST_UNAVAILABLE, what="an accepted run")


async def all_current(backend: Backend) -> bool:
    """Whether every stream has its leader and both of its other copies."""
    try:
        streams = await list_streams(backend.connection)
    except BridgeError:
        return False
    clusters = [stream.cluster for stream in streams]
    return len(streams) >= 8 and all(
        cluster is not None
        and cluster.leader
        and len(cluster.replicas) == 2
        and all(peer.current for peer in cluster.replicas)
        for cluster in clusters
    )


async def leader_of(backend: Backend, stream: str) -> str:
    info = await stream_info(backend.connection, stream)
    assert info is not None
    assert info.cluster is not None
    return info.cluster.leader


async def kill_leader(cluster: Cluster, backend: Backend, load: Load, stream: str) -> None:
    node = cluster.node(await leader_of(backend, stream))
    await node.kill()
    await load.goes_on()
    node.start()

    async def current() -> bool:
        return await all_current(backend)

    await eventually(current, within=60, what=f"three copies again after {node.name}")


async def isolate(cluster: Cluster, settings: Settings, load: Load) -> None:
    """Freeze a node, connections and all; the doctor names it meanwhile."""
    node = cluster.nodes[2]
    node.send(signal.SIGSTOP)
    await load.goes_on()
    others = ",".join(other.url for other in cluster.nodes if other is not node)
    report: DoctorReport | None = None

    async def named() -> bool:
        nonlocal report
        report = await examine(settings_at(settings, others), server=None)
        return any(
            finding.check == "resources.lost_node" and finding.where == node.name
            for finding in report.findings
        )

    await eventually(named, within=60, what=f"the doctor naming {node.name}")
    node.send(signal.SIGCONT)
    await load.goes_on()


def settings_at(settings: Settings, url: str) -> Settings:
    return settings.for_node(url)


async def test_no_accepted_run_is_lost_when_nodes_are(tmp_path: Path) -> None:
    async with three_nodes(tmp_path) as cluster:
        settings = settings_at(settings_for(tmp_path, jetstream_replicas=3), cluster.url)
        async with (
            open_backend(settings, worker=worker_options(tmp_path)) as backend,
            trio.open_nursery() as nursery,
        ):
            await backend.wait_ready(within=60)

            async def current() -> bool:
                return await all_current(backend)

            await eventually(current, within=60, what="three copies of everything")
            load = Load(backend)
            nursery.start_soon(load.run)
            await load.goes_on()
            streams = ["KV_pyoco_runs", "PYOCO_WORK"]
            if LONG:
                streams = [stream.name for stream in await list_streams(backend.connection)]
            for stream in streams:
                await kill_leader(cluster, backend, load, stream)
            await isolate(cluster, settings, load)
            load.stopping = True

            async def finished() -> bool:
                try:
                    statuses = [(await backend.get(run_id)).status for run_id in load.accepted]
                except BridgeError:
                    return False
                return all(status.terminal for status in statuses)

            await eventually(finished, within=120, what="the end of every accepted run")
            ended = Counter([(await backend.get(run_id)).status for run_id in load.accepted])
            nursery.cancel_scope.cancel()
    print(
        f"\n{len(load.accepted)} accepted, {load.refused} refused, longest {load.longest_gap:.1f} s"
    )
    assert ended == {RunStatus.COMPLETED: len(load.accepted)}
    assert load.longest_gap < MOST_UNAVAILABLE


async def test_what_exists_is_raised_to_three_copies(tmp_path: Path) -> None:
    async with three_nodes(tmp_path) as cluster:
        single = settings_at(settings_for(tmp_path), cluster.url)
        async with open_backend(single) as backend:
            await backend.wait_ready(within=60)
            run = await backend.submit(new_run("quick"))
            wanted = settings_at(settings_for(tmp_path, jetstream_replicas=3), cluster.url)
            report = await examine(wanted, server=None)
            few = {f.where for f in report.findings if f.check == "resources.replicas"}
            changes = await migrate(
                backend.connection, wanted, replicas=3, to_settings=False, dry_run=False
            )
            assert few
            assert few <= {change.stream for change in changes}
            assert not [change for change in changes if change.error]

            async def current() -> bool:
                return await all_current(backend)

            await eventually(current, within=60, what="three copies of everything")
            assert (await backend.get(run.run_id)).status is RunStatus.PENDING

            async def nothing_else() -> bool:
                left = {finding.check for finding in (await examine(wanted, server=None)).findings}
                return left == {"queues.no_consumer"}  # that run waits for a worker

            # A stream that has just got its copies may elect a leader once more.
            await eventually(nothing_else, within=60, what="nothing but a run that waits")
