"""The doctor finds planted faults, says what to do, and finds nothing where nothing is wrong."""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio
from msgspec import structs

from backend.stage import TAG, ended, new_run, settings_for, worker_options
from docs.pages import ROOT
from e2e.programs import BIN
from nats_fixtures import Connection, Node, connected, node_in
from operations.servers import free_port, server_with
from pyoco_http.server import serve_http
from pyoco_server.backend import open_backend
from pyoco_server.jetstream.api import call
from pyoco_server.jetstream.inventory import delete_stream, stream_info, update_stream
from pyoco_server.jetstream.keyvalue import KeyValue
from pyoco_server.jetstream.publish import publish_acked
from pyoco_server.jetstream.resources import ensure_consumer, ensure_resources
from pyoco_server.model.api_key import (
    Role,
    bucket_key,
    new_key,
)
from pyoco_server.model.job import Job
from pyoco_server.model.json_text import encode_json
from pyoco_server.model.run import RunSnapshot, RunStatus, encode_snapshot
from pyoco_server.model.schedules.reading import read_spec
from pyoco_server.model.schedules.rules import made, with_records
from pyoco_server.model.schedules.schedule import (
    Schedule,
    ScheduleProgress,
    TickOutcome,
    TickRecord,
)
from pyoco_server.model.worker import SlotRecord, WorkerRecord, WorkerState, encode_worker
from pyoco_server.operations.doctor import DoctorReport, Finding, Severity, examine, machine
from pyoco_server.operations.doctor.machine import check_disk, disk_findings
from pyoco_server.operations.marker import Marker, Phase, set_marker
from pyoco_server.settings import Settings
from pyoco_server.store.queue import JobQueue

pytestmark = pytest.mark.nats
SETTINGS = Settings()


class _Any(msgspec.Struct):
    pass


def the(report: DoctorReport, check: str) -> Finding:
    """The only finding of a check."""
    found = [finding for finding in report.findings if finding.check == check]
    assert len(found) == 1, report.findings
    assert found[0].advice
    assert found[0].where
    return found[0]


async def seen_by(node: Node, **changes: Any) -> DoctorReport:
    return await examine(
        structs.replace(SETTINGS.for_node(node.url), **changes),
        server=None,
    )


# What is planted -------------------------------------------------------------------------------------


async def missing_bucket(connection: Connection) -> None:
    await delete_stream(connection, "KV_pyoco_auth")


async def forgetful_bucket(connection: Connection) -> None:
    """As 0.5.1 makes it."""
    info = await stream_info(connection, "KV_pyoco_workers")
    assert info is not None
    age = {"max_age": 15_000_000_000, "duplicate_window": 15_000_000_000}
    await update_stream(connection, info.config | age)


async def other_subjects(connection: Connection) -> None:
    info = await stream_info(connection, "PYOCO_DLQ")
    assert info is not None
    await update_stream(connection, info.config | {"subjects": ["elsewhere.>"]})


async def no_consumer(connection: Connection) -> None:
    await publish_acked(connection, "pyoco.work.gpu", b"{}")


async def delayed_for_nobody(connection: Connection) -> None:
    queue = JobQueue(connection, SETTINGS)
    await queue.put_at(Job(run_id="r", flow_name="f", tag="gpu"), time.time() + 600)


async def nobody_asks(connection: Connection) -> None:
    await ensure_consumer(connection, SETTINGS, TAG)
    await publish_acked(connection, f"pyoco.work.{TAG}", b"{}")


async def paused_consumer(connection: Connection) -> None:
    await ensure_consumer(connection, SETTINGS, TAG)
    until = (datetime.now(UTC) + timedelta(hours=1)).isoformat().replace("+00:00", "Z")
    what = f"CONSUMER.PAUSE.PYOCO_WORK.pyoco_workers_{TAG}"
    await call(connection, what, {"pause_until": until}, answer=_Any)


def record(**changes: Any) -> bytes:
    now = time.time()
    alive = WorkerRecord(
        worker_id="w1",
        instance_id="i1",
        state=WorkerState.RUNNING,
        last_seen_at=now,
        updated_at=now,
    )
    return encode_worker(structs.replace(alive, **changes))


async def silent_worker(connection: Connection) -> None:
    raw = record(last_seen_at=time.time() - 100)
    await KeyValue(connection, "pyoco_workers").put("w1", raw)


async def clock_of_a_worker(connection: Connection) -> None:
    ahead = time.time() + 60
    raw = record(last_seen_at=ahead, updated_at=ahead)
    await KeyValue(connection, "pyoco_workers").put("w1", raw)


async def paused_worker(connection: Connection) -> None:
    await KeyValue(connection, "pyoco_workers").put("w1", record(paused=True))


async def draining_worker_with_jobs(connection: Connection) -> None:
    await KeyValue(connection, "pyoco_workers").put("w1", record(draining=True, tags=[TAG]))
    await publish_acked(connection, f"pyoco.work.{TAG}", b"{}")


async def resting_worker(connection: Connection) -> None:
    slots = [SlotRecord(index=0), SlotRecord(index=1, resting="no process can be made: why")]
    await KeyValue(connection, "pyoco_workers").put("w1", record(slots=slots))


async def put_run(connection: Connection, **changes: Any) -> None:
    run = RunSnapshot(
        run_id="r1", flow_name="main", status=RunStatus.PENDING, tag=TAG, updated_at=1.0
    )
    raw = encode_snapshot(structs.replace(run, **changes), max_bytes=100_000)
    await KeyValue(connection, "pyoco_runs").put("r1", raw)


async def abandoned_run(connection: Connection) -> None:
    await put_run(connection, status=RunStatus.RUNNING, worker_id="w9", worker_instance_id="i9")
    await publish_acked(connection, f"pyoco.work.{TAG}", b"{}")


async def run_without_job(connection: Connection) -> None:
    await put_run(connection)


async def dead_letter(connection: Connection) -> None:
    await publish_acked(connection, "pyoco.dlq.hello", b"{}")


async def scheduled(
    connection: Connection, change: Callable[[Schedule], Schedule], **spec: Any
) -> None:
    """A schedule in the bucket that no gateway sees to."""
    now = connection.clock.now()
    fields = {"flow_name": "f", "tag": "gpu", "every_sec": 60, **spec}
    bare = Schedule(
        schedule_id="nightly",
        spec=read_spec(fields, default_tag="default", now=now),
        progress=ScheduleProgress(cursor=0),
    )
    schedule = change(made(bare, now, None))
    bucket = KeyValue(connection, SETTINGS.schedules_kv_bucket)
    await bucket.put(schedule.key, encode_json(schedule))


async def unserved_schedule(connection: Connection) -> None:
    await scheduled(connection, lambda schedule: schedule)


async def schedule_that_ended(connection: Connection) -> None:
    await scheduled(connection, lambda schedule: schedule, every_sec=None, at=[1])


async def schedule_that_nobody_sees_to(connection: Connection) -> None:
    def late(schedule: Schedule) -> Schedule:
        wake_at = connection.clock.now() - 100
        return structs.replace(
            schedule, progress=structs.replace(schedule.progress, wake_at=wake_at)
        )

    await scheduled(connection, late)


async def schedule_whose_run_is_refused(connection: Connection) -> None:
    record = TickRecord(tick=1, outcome=TickOutcome.REFUSED, decided_at=1, reason="too large")
    await scheduled(connection, lambda schedule: with_records(schedule, [record]))


async def schedule_of_an_unknown_zone(connection: Connection) -> None:
    def foreign(schedule: Schedule) -> Schedule:
        spec = structs.replace(schedule.spec, cron="0 0 * * *", every_sec=None, timezone="Mars/X")
        return structs.replace(schedule, spec=spec)

    await scheduled(connection, foreign)


async def broken_restore(connection: Connection) -> None:
    await set_marker(connection, Marker(Phase.FILLING, "abc"), replicas=1, fresh=True)


Plant = Callable[[Connection], Awaitable[None]]


@pytest.mark.parametrize(
    ("plant", "check", "severity", "words"),
    [
        (missing_bucket, "resources.missing", Severity.ERROR, "KV_pyoco_auth pyoco-server up"),
        (forgetful_bucket, "resources.settings", Severity.WARNING, "KV_pyoco_workers migrate"),
        (other_subjects, "resources.settings", Severity.ERROR, "PYOCO_DLQ elsewhere"),
        (no_consumer, "queues.no_consumer", Severity.WARNING, "gpu --tags"),
        (delayed_for_nobody, "queues.delayed", Severity.WARNING, "gpu 1 --tags"),
        (nobody_asks, "queues.stuck", Severity.WARNING, f"{TAG} --tags"),
        (paused_consumer, "queues.paused", Severity.WARNING, f"pyoco_workers_{TAG} resume"),
        (silent_worker, "workers.silent", Severity.WARNING, "w1 100"),
        (clock_of_a_worker, "workers.clock", Severity.WARNING, "w1 +60 NTP"),
        (paused_worker, "workers.paused", Severity.INFO, "w1 paused worker-resume"),
        (draining_worker_with_jobs, "workers.draining", Severity.WARNING, "w1 worker-resume"),
        (resting_worker, "workers.resting", Severity.WARNING, "w1 1 of 2 made: why TasksMax"),
        (abandoned_run, "runs.abandoned", Severity.ERROR, "w9 r1 cancel"),
        (run_without_job, "runs.no_job", Severity.ERROR, f"{TAG} submit"),
        (unserved_schedule, "schedules.no_worker", Severity.WARNING, "nightly gpu --tags"),
        (schedule_that_ended, "schedules.never", Severity.WARNING, "nightly never show"),
        (schedule_that_nobody_sees_to, "schedules.late", Severity.ERROR, "nightly 100 up"),
        (schedule_whose_run_is_refused, "schedules.refused", Severity.ERROR, "large update"),
        (schedule_of_an_unknown_zone, "schedules.times", Severity.ERROR, "nightly Mars/X update"),
        (dead_letter, "queues.dead_letters", Severity.WARNING, "PYOCO_DLQ dlq"),
        (broken_restore, "nats.restore", Severity.ERROR, "PYOCO_RESTORE restore"),
    ],
)
async def test_a_planted_fault_is_found(
    nats_node: Node, plant: Plant, check: str, severity: Severity, words: str
) -> None:
    async with connected(nats_node) as connection:
        await ensure_resources(connection, SETTINGS)
        await plant(connection)
    finding = the(await seen_by(nats_node), check)
    assert finding.severity is severity
    text = f"{finding.where} {finding.what} {finding.advice}"
    assert all(word in text for word in words.split()), text


async def test_fewer_copies_than_wanted_are_found_for_each_stream(nats_node: Node) -> None:
    async with connected(nats_node) as connection:
        await ensure_resources(connection, SETTINGS)
    report = await seen_by(nats_node, jetstream_replicas=3)
    found = {finding.where for finding in report.findings}
    assert {"PYOCO_WORK", "KV_pyoco_runs", "OBJ_pyoco_wheels"} <= found
    assert {finding.check for finding in report.findings} == {"resources.replicas"}
    assert "admin migrate --replicas 3" in report.findings[0].advice


async def test_nats_that_is_away_is_found() -> None:
    url = f"nats://127.0.0.1:{free_port()}"
    finding = the(await examine(Settings(nats_url=url), server=None), "nats.unreachable")
    assert finding.severity is Severity.ERROR
    assert finding.where == url
    assert "pyoco-server up" in finding.advice


async def test_jetstream_that_is_off_is_found(tmp_path: Path) -> None:
    async with server_with(tmp_path, "") as server:
        report = await examine(Settings(nats_url=server.url), server=None)
    assert "JetStream" in the(report, "nats.unreachable").advice


async def test_an_account_that_is_almost_full_is_found(tmp_path: Path) -> None:
    config = (
        f'jetstream {{ store_dir: "{tmp_path / "js"}" }}\n'
        "accounts { A { jetstream { max_file: 1MB, max_mem: 1MB }, users: [{user: a, password: a}] } }"
    )
    async with server_with(tmp_path, config) as server:
        settings = Settings(nats_url=server.url, nats_user="a", nats_password="a")
        options = {"user": "a", "password": "a"}
        async with connected_to(server.url, **options) as connection:
            config_of = {"name": "PYOCO_OTHER", "subjects": ["other.>"], "storage": "file"}
            await call(connection, "STREAM.CREATE.PYOCO_OTHER", config_of, answer=_Any)
            for _ in range(19):
                await publish_acked(connection, "other.a", os.urandom(50_000))
        finding = the(await examine(settings, server=None), "nats.storage")
    assert "max_file" in finding.advice


@asynccontextmanager
async def connected_to(url: str, **options: Any) -> AsyncIterator[Connection]:
    from pyoco_server.jetstream.connection import ConnectionOptions, open_connection

    async with open_connection(ConnectionOptions(urls=(url,), **options)) as connection:
        await connection.wait_connected(within=60)
        yield connection


def test_a_disk_that_is_almost_full_is_found() -> None:
    folder = Path("/data")
    assert disk_findings(folder, 100 << 30, 50 << 30) == []
    assert disk_findings(folder, 100 << 30, 1 << 30)[0].severity is Severity.WARNING
    (finding,) = disk_findings(folder, 100 << 30, 1 << 20)
    assert finding.severity is Severity.ERROR
    assert finding.where == "/data"


@asynccontextmanager
async def gateway(folder: Path, node_url: str, host: str = "127.0.0.1") -> AsyncIterator[str]:
    """A gateway with a worker; gives the port's URL as a client on this machine has it."""
    settings = settings_for(folder, http_insecure_bind=True).for_node(node_url)
    async with (
        open_backend(settings, worker=worker_options(folder)) as backend,
        trio.open_nursery() as nursery,
    ):
        url = await nursery.start(partial(serve_http, backend, host=host, port=0))
        yield url.replace("0.0.0.0", "127.0.0.1")
        nursery.cancel_scope.cancel()


async def test_nothing_is_found_where_nothing_is_wrong(tmp_path: Path, nats_node: Node) -> None:
    settings = settings_for(tmp_path).for_node(nats_node.url)
    async with (
        open_backend(settings, worker=worker_options(tmp_path)) as backend,
        trio.open_nursery() as nursery,
    ):
        await backend.wait_ready(within=60)
        url = await nursery.start(partial(serve_http, backend, host="127.0.0.1", port=0))
        run = await backend.submit(new_run("quick"))
        await ended(backend, run.run_id)
        await backend.submit(new_run("slow", seconds=30))
        report = await examine(settings, server=url)
        nursery.cancel_scope.cancel()
    assert report.findings == []
    assert report.checked == [
        "machine",
        "gateway",
        "nats",
        "resources",
        "queues",
        "workers",
        "runs",
        "schedules",
    ]


async def test_keys_that_are_a_shell_are_named_while_flows_may_name_anything(
    nats_node: Node,
) -> None:
    async with connected(nats_node) as connection:
        await ensure_resources(connection, SETTINGS)
        keys = KeyValue(connection, SETTINGS.auth_kv_bucket)
        _, reading = new_key("acme", now=time.time(), roles=[])
        _, revoked = new_key("acme", now=time.time())
        for key in (reading, structs.replace(revoked, revoked_at=time.time())):
            await keys.put(bucket_key(key.key_id), encode_json(key))
        await keys.put("odd", b"{}")
        assert (await seen_by(nats_node)).findings == []
        _, submitting = new_key("acme", now=time.time(), roles=[Role.SUBMIT])
        await keys.put(bucket_key(submitting.key_id), encode_json(submitting))
        finding = the(await seen_by(nats_node), "access.callables")
        assert "1 API key may submit" in finding.what
        assert "PYOCO_FLOW_CALLABLES" in finding.advice
        assert (await seen_by(nats_node, flow_callables="ours.*")).findings == []


async def test_a_gateway_that_is_away_or_not_ready_is_found(tmp_path: Path) -> None:
    nowhere = f"nats://127.0.0.1:{free_port()}"
    url = f"http://127.0.0.1:{free_port()}"
    report = await examine(Settings(nats_url=nowhere), server=url)
    assert the(report, "gateway.unreachable").where == url
    async with gateway(tmp_path, nowhere) as url:
        finding = the(await examine(Settings(nats_url=nowhere), server=url), "gateway.not_ready")
    assert "NATS is not connected" in finding.what


async def test_a_gateway_whose_clock_is_off_is_named(
    tmp_path: Path, nats_node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_for(tmp_path).for_node(nats_node.url)
    async with open_backend(settings) as backend, trio.open_nursery() as nursery:
        await backend.wait_ready(within=60)
        url = await nursery.start(partial(serve_http, backend, host="127.0.0.1", port=0))
        right = await examine(settings, server=url)
        assert not [found for found in right.findings if found.check == "gateway.clock"]
        real = time.time
        monkeypatch.setattr(time, "time", lambda: real() + 600)
        wrong = the(await examine(settings, server=url), "gateway.clock")
        assert "+600 s" in wrong.what or "+599 s" in wrong.what
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("status", [200, 302, 404, 502])
async def test_another_server_is_no_gateway_that_asks_nobody_for_a_key(status: int) -> None:
    """Such as a proxy before a gateway that is down, or the page of its login."""
    report = await seen_of(lambda _: (status, "<html> { not metrics"))
    the(report, "gateway.not_ready")
    assert not [found for found in report.findings if found.check == "gateway.open"]


async def test_a_gateway_of_051_is_asked_for_its_health() -> None:
    answers = {
        b"/health": (200, '{"status":"ok"}'),
        b"/runs/doctor": (404, '{"detail":"run not found"}'),
    }
    report = await seen_of(lambda path: answers.get(path, (404, '{"detail":"Not Found"}')))
    the(report, "gateway.open")
    assert not [found for found in report.findings if found.check == "gateway.not_ready"]


async def seen_of(answer: Callable[[bytes], tuple[int, str]]) -> DoctorReport:
    """What the doctor says of a server that answers so to a path, and that other machines reach."""

    async def serve(stream: trio.SocketStream) -> None:
        async with stream:
            status, body = answer((await stream.receive_some()).split()[1])
            await stream.send_all(
                f"HTTP/1.1 {status} x\r\nConnection: close\r\n\r\n{body}".encode()
            )

    async with trio.open_nursery() as nursery:
        listening = await nursery.start(partial(trio.serve_tcp, serve, 0, host="0.0.0.0"))
        port = listening[0].socket.getsockname()[1]
        away = Settings(nats_url=f"nats://127.0.0.1:{free_port()}")
        report = await examine(away, server=f"http://0.0.0.0:{port}")
        nursery.cancel_scope.cancel()
    return report


@pytest.mark.parametrize("url", ["http://host:80x0", "nowhere"])
async def test_an_address_that_is_none_is_a_finding(url: str) -> None:
    away = Settings(nats_url=f"nats://127.0.0.1:{free_port()}")
    assert the(await examine(away, server=url), "gateway.unreachable").where == url


def test_a_state_folder_that_one_may_not_enter_is_on_the_disk_above_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0)
    looked_at: list[Path] = []

    def look(folder: Path, *_: int) -> list[Finding]:
        looked_at.append(folder)
        return []

    monkeypatch.setattr(machine, "disk_findings", look)
    root = os.geteuid() == 0
    if root:  # who may enter any folder
        os.seteuid(65534)
    try:
        check_disk(Settings(state_dir=str(closed / "state")))
    finally:
        if root:
            os.seteuid(0)
    assert len(looked_at) == 1
    assert looked_at[0] in {closed, *closed.parents}


async def test_a_hidden_worker_may_be_silent(nats_node: Node) -> None:
    async with connected(nats_node) as connection:
        await ensure_resources(connection, SETTINGS)
        raw = record(last_seen_at=time.time() - 100, hidden=True)
        await KeyValue(connection, "pyoco_workers").put("w1", raw)
    assert (await seen_by(nats_node)).findings == []


async def test_what_is_open_to_everybody_is_found(tmp_path: Path) -> None:
    async with node_in(tmp_path / "nats", host="0.0.0.0") as node:
        url = f"nats://127.0.0.1:{node.port}"
        async with gateway(tmp_path, url, host="0.0.0.0") as server:
            report = await examine(Settings(nats_url=url), server=server)
    assert "PYOCO_HTTP_AUTH_MODE=api_key" in the(report, "gateway.open").advice
    assert "PYOCO_NATS_USER" in the(report, "nats.open").advice


async def test_nats_with_users_is_not_open(tmp_path: Path) -> None:
    users = 'authorization { users: [ { user: ann, password: "p" } ] }\n'
    js = f'jetstream {{ store_dir: "{tmp_path / "js"}" }}\n'
    async with server_with(tmp_path, users + js, host="0.0.0.0") as server:
        report = await examine(
            Settings(nats_url=server.url, nats_user="ann", nats_password="p"), server=None
        )
    assert not [found for found in report.findings if found.check.startswith("nats")]


def test_the_guide_names_all_that_is_looked_for() -> None:
    parts = "machine|gateway|nats|resources|queues|workers|runs|schedules|access"
    folder = ROOT / "actors/pyoco_server/operations/doctor"
    source = "".join(path.read_text() for path in folder.glob("*.py"))
    checks = set(re.findall(rf'"((?:{parts})\.[a-z_]+)"', source))
    guide = (ROOT / "docs/guides/operations.md").read_text()
    assert len(checks) > 30
    assert [check for check in sorted(checks) if f"`{check}`" not in guide] == []


# The commands ----------------------------------------------------------------------------------------


async def run(*argv: str, **env: str) -> subprocess.CompletedProcess[bytes]:
    return await trio.run_process(
        [str(BIN / "pyoco-server"), *argv],
        capture_stdout=True,
        capture_stderr=True,
        check=False,
        env={**os.environ, "PYOCO_LOAD_DOTENV": "0", **env},
    )


async def test_the_exit_code_says_how_bad_it_is(nats_node: Node) -> None:
    argv = ("doctor", "--no-gateway", "--nats-url", nats_node.url)
    assert [severity.exit_code for severity in Severity] == [0, 1, 2]
    async with connected(nats_node) as connection:
        await ensure_resources(connection, SETTINGS)
        done = await run(*argv)
        assert done.returncode == 0
        assert json.loads(done.stdout)["worst"] == "info"
        await no_consumer(connection)
    done = await run(*argv)
    assert done.returncode == 1
    document = json.loads(done.stdout)
    assert document["worst"] == "warning"
    assert document["findings"][0]["check"] == "queues.no_consumer"
    assert document["findings"][0].keys() == {"check", "severity", "what", "where", "advice"}
    text = (await run(*argv, "--output", "text")).stdout.decode()
    assert "WARNING  tag gpu: 1 job waits" in text
    assert "→ start one: pyoco-worker --tags gpu" in text


async def test_status_without_nats_tells_of_both_soon(tmp_path: Path, nats_node: Node) -> None:
    nowhere = ("--nats-url", f"nats://127.0.0.1:{free_port()}")
    async with gateway(tmp_path, nats_node.url) as url:
        done = await run("status", "--server", url, *nowhere)
    assert (done.returncode, done.stdout) == (1, b"")
    said = done.stderr.decode()
    assert "ERR-PYOCO-0003" in said
    assert "NATS not connected within 3 s" in said
    assert f"- detail: the gateway {url} is ready\n" in said
    away = f"http://127.0.0.1:{free_port()}"
    done = await run("status", "--server", away, *nowhere)
    assert f"- detail: the gateway {away} is unreachable: " in done.stderr.decode()


async def test_status_shows_all_of_it(tmp_path: Path, nats_node: Node) -> None:
    async with gateway(tmp_path, nats_node.url) as url:
        argv = ("status", "--server", url, "--nats-url", nats_node.url)
        async with connected(nats_node) as connection:
            with trio.fail_after(60):
                while await KeyValue(connection, "pyoco_workers").all() == []:
                    await trio.sleep(0.05)
            await publish_acked(connection, "pyoco.work.gpu", b"{}")
            await dead_letter(connection)
            await put_run(connection)
        document = json.loads((await run(*argv)).stdout)
        text = (await run(*argv, "--output", "text", COLUMNS="80")).stdout.decode()
    assert document["gateway"] == {"url": url, "state": "ready", "reasons": []}
    assert document["nats"]["server"] == nats_node.url
    queues = {queue["tag"]: queue for queue in document["queues"]}
    assert queues["gpu"] == {
        "tag": "gpu",
        "waiting": 1,
        "executing": 0,
        "workers": 0,
        "paused": False,
    }
    assert queues[TAG]["workers"] == 1
    assert document["runs"] == {"PENDING": 1}
    assert document["dead_letters"] == 1
    (worker,) = document["workers"]
    assert (worker["worker_id"], worker["busy"], worker["tags"]) == ("w1", 0, [TAG])
    assert all(len(line) <= 80 for line in text.splitlines())
    assert "ready" in text
    assert "w1" in text


async def test_migrate_brings_settings_up_to_date(nats_node: Node) -> None:
    argv = ("admin", "migrate", "--nats-url", nats_node.url)
    async with connected(nats_node) as connection:
        await ensure_resources(connection, SETTINGS)
        await forgetful_bucket(connection)
        dry = await run(*argv, "--settings", "--dry-run")
        made = await run(*argv, "--settings")
        assert dry.stdout == made.stdout
        assert json.loads(made.stdout) == {
            "stream": "KV_pyoco_workers",
            "changes": {"max_age": [15_000_000_000, 0]},
            "error": None,
        }
        assert (await seen_by(nats_node)).findings == []

        refused = await run(*argv, "--replicas", "3")
        assert refused.returncode == 1
        assert b"replicas" in refused.stderr
        assert b"docs/guides/cluster.md" in refused.stderr
