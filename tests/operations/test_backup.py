"""Backup and restore: everything comes back equal, nothing is ever half there."""

from __future__ import annotations

import dataclasses
import itertools
import os
import zipfile
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio
from msgspec import structs

from backend.stage import TAG, ended, new_run, queued, settings_for, worker_options
from nats_fixtures import Connection, Node, connected, node_in
from pyoco_server.backend import Backend, open_backend
from pyoco_server.gateway.new_run import Accepted, Person
from pyoco_server.gateway.schedules.desk import Wish
from pyoco_server.jetstream import snapshots
from pyoco_server.jetstream.errors import ApiError, RestoreUnfinished, Unavailable
from pyoco_server.jetstream.inventory import list_consumers, list_streams, stream_info
from pyoco_server.jetstream.keyvalue import Entry, KeyValue
from pyoco_server.jetstream.publish import publish_acked
from pyoco_server.jetstream.requests import RawMessage
from pyoco_server.jetstream.resources import ensure_consumer, ensure_resources
from pyoco_server.jetstream.snapshots import SnapshotBroken
from pyoco_server.model.json_text import encode_json
from pyoco_server.model.punctuality import state_of
from pyoco_server.model.run import (
    RunSnapshot,
    RunState,
    RunStatus,
    decode_snapshot,
    encode_snapshot,
)
from pyoco_server.model.schedules.reading import read_spec
from pyoco_server.model.schedules.schedule import Schedule, ScheduleProgress, TickOutcome
from pyoco_server.model.schedules.ticks import NotATiming
from pyoco_server.model.timing import Timing
from pyoco_server.operations import backup as backup_module
from pyoco_server.operations import ours
from pyoco_server.operations import restore as restore_module
from pyoco_server.operations.archive import ArchiveUnusable, create_archive, open_archive
from pyoco_server.operations.backup import NothingToBackUp, backup
from pyoco_server.operations.manifest import LATE_JOBS, MANIFEST, Manifest
from pyoco_server.operations.marker import read_marker
from pyoco_server.operations.passed_ticks import passed_ticks
from pyoco_server.operations.restore import (
    Restored,
    RestoreFailed,
    RestoreRefused,
    restore,
)
from pyoco_server.settings import Settings

pytestmark = pytest.mark.nats
SETTINGS = Settings()
RUNS = "KV_pyoco_runs"
KEPT = itertools.count()


@asynccontextmanager
async def backend_on(node: Node, folder: Path, *, worker: bool) -> AsyncIterator[Backend]:
    options = worker_options(folder) if worker else None
    settings = settings_for(folder).for_node(node.url)
    async with open_backend(settings, worker=options) as backend:
        await backend.wait_ready(within=60)
        yield backend


async def values(connection: Connection, bucket: str) -> dict[str, Entry]:
    with trio.fail_after(60):
        return {entry.key: entry for entry in await KeyValue(connection, bucket).all()}


async def filled(connection: Connection, count: int = 40) -> None:
    """Resources, some values in the runs bucket, jobs in the queue, a consumer, bytes of a wheel."""
    await ensure_resources(connection, SETTINGS)
    await ensure_consumer(connection, SETTINGS, TAG)
    runs = KeyValue(connection, "pyoco_runs")
    for number in range(count):
        await runs.put(f"run-{number}", os.urandom(5000))
        await publish_acked(connection, f"pyoco.work.{TAG}", f"job-{number}".encode())
    await publish_acked(connection, "$O.pyoco_wheels.C.abc", os.urandom(300_000))


async def state(connection: Connection) -> dict[str, Any]:
    return {
        # The first sequence of an empty stream is 0 or 1.
        s.name: (s.config["subjects"], structs.replace(s.state, first_seq=s.state.first_seq or 1))
        for s in await list_streams(connection)
    }


async def restored(
    connection: Connection, path: Path, *, replace: bool = False, replicas: int | None = None
) -> Restored:
    keep = path.with_name(f"kept-{next(KEPT)}.pyoco")
    with open_archive(path) as archive:
        return await restore(
            connection, SETTINGS, archive, keep=keep, replace=replace, replicas=replicas
        )


@dataclass
class Two:
    """A filled server with its backup, and an empty one."""

    old: Connection
    new: Connection
    path: Path
    manifest: Manifest


@pytest.fixture
async def two(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Two]:
    folder = getattr(request, "param", "file") == "folder"
    path = tmp_path / "backup.pyoco"
    async with (
        node_in(tmp_path / "old") as old_node,
        connected(old_node) as old,
        node_in(tmp_path / "new") as new_node,
        connected(new_node) as new,
    ):
        await filled(old)
        manifest = await backup(old, SETTINGS, path, folder=folder)
        yield Two(old, new, path, manifest)


@pytest.mark.parametrize("two", ["file", "folder"], indirect=True)
async def test_everything_comes_back_with_its_revisions_and_consumers(two: Two) -> None:
    before = await state(two.old)
    done = await restored(two.new, two.path)
    assert done.kept is None
    assert await state(two.new) == before
    assert await values(two.new, "pyoco_runs") == await values(two.old, "pyoco_runs")
    names = [c.name for c in await list_consumers(two.new, "PYOCO_WORK")]
    assert names == [f"pyoco_workers_{TAG}"]
    first = ["PYOCO_WORK", "KV_pyoco_schedules", RUNS]
    assert [part.stream for part in two.manifest.streams][:3] == first
    # Nothing of the restore is left, and the usual start goes on.
    await ensure_resources(two.new, SETTINGS)
    assert two.path.stat().st_mode & 0o077 == 0


async def drained(backend: Backend) -> None:
    """The job of a run is acknowledged after its end was stored."""
    with trio.fail_after(60):
        while await queued(backend):
            await trio.sleep(0.02)


async def test_a_run_queued_and_one_executed_while_the_backup_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both are neither in the queue's snapshot nor, the second, in the queue afterwards."""
    path = tmp_path / "backup.pyoco"
    take = backup_module._take
    during: list[str] = []
    async with node_in(tmp_path / "old") as node, connected(node) as old:  # noqa: SIM117
        async with backend_on(node, tmp_path, worker=True) as backend:
            done = (await backend.submit(new_run("quick"))).run_id
            await ended(backend, done)
            await backend.drain(within=60)
            before = (await backend.submit(new_run("quick"))).run_id

            async def take_then_submit(*arguments: Any) -> Any:
                part = await take(*arguments)
                if part.stream == "PYOCO_WORK":
                    alone, *together = [new_run("quick") for _ in range(4)]
                    during.append((await backend.submit(alone)).run_id)
                    for accepted in await backend.submit_all(together):
                        assert isinstance(accepted, Accepted)
                        during.append(accepted.run_id)
                return part

            monkeypatch.setattr(backup_module, "_take", take_then_submit)
            manifest = await backup(old, SETTINGS, path)
            assert manifest.late_job_count == 4
    async with node_in(tmp_path / "new") as node, connected(node) as new:
        await restored(new, path)
        # The claim of a job names the revision of its snapshot: it survived.
        async with backend_on(node, tmp_path, worker=True) as backend:
            for run_id in (before, *during):
                assert (await ended(backend, run_id)).status is RunStatus.COMPLETED
            assert (await backend.get(done)).status is RunStatus.COMPLETED
            await drained(backend)


async def test_a_job_that_both_snapshot_and_listener_saw_is_queued_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "backup.pyoco"
    our_streams = ours.our_streams
    async with node_in(tmp_path / "old") as node, connected(node) as old:
        await filled(old, count=1)

        async def publish_then_list(*arguments: Any) -> Any:
            await publish_acked(old, f"pyoco.work.{TAG}", b"in both")
            return await our_streams(*arguments)

        monkeypatch.setattr(backup_module, "our_streams", publish_then_list)
        manifest = await backup(old, SETTINGS, path)
    assert manifest.late_job_count == 0
    assert manifest.streams[0].messages == 2


async def test_an_empty_server_has_nothing_to_back_up(tmp_path: Path, nats_node: Node) -> None:
    async with connected(nats_node) as connection:
        with pytest.raises(NothingToBackUp):
            await backup(connection, SETTINGS, tmp_path / "b")
    assert not (tmp_path / "b").exists()
    assert not (tmp_path / "b.partial").exists()


async def test_a_backup_that_breaks_off_leaves_nothing(two: Two, tmp_path: Path) -> None:
    out = tmp_path / "second"
    with trio.CancelScope() as scope:
        await backup(two.old, SETTINGS, out, progress=lambda *_: scope.cancel())
    assert scope.cancelled_caught
    assert not out.exists()
    assert not out.with_name("second.partial").exists()
    with pytest.raises(ArchiveUnusable, match="exists"):
        await backup(two.old, SETTINGS, two.path)


@pytest.mark.parametrize("folder", [False, True])
def test_two_backups_to_one_path_do_not_meet(tmp_path: Path, folder: bool) -> None:
    path = tmp_path / "backup"
    with create_archive(path, folder=folder) as archive:
        with archive.writing("part") as part:
            part.write(b"first")
        with (
            pytest.raises(ArchiveUnusable, match="written by another"),
            create_archive(path, folder=folder),
        ):
            pass
    with open_archive(path) as archive:
        assert b"".join(archive.pieces("part")) == b"first"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("folder", [False, True])
def test_what_appeared_meanwhile_is_not_written_over(tmp_path: Path, folder: bool) -> None:
    path = tmp_path / "backup"
    with pytest.raises(ArchiveUnusable, match="exists"), create_archive(path, folder=folder):
        path.write_text("mine")
    assert path.read_text() == "mine"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("folder", [False, True])
def test_what_a_backup_that_was_killed_left_is_replaced(tmp_path: Path, folder: bool) -> None:
    left = tmp_path / "backup.partial"
    left.mkdir()
    (left / "part").touch()
    with (
        create_archive(tmp_path / "backup", folder=folder) as archive,
        archive.writing("part") as part,
    ):
        part.write(b"new")
    with open_archive(tmp_path / "backup") as archive:
        assert b"".join(archive.pieces("part")) == b"new"
    assert not left.exists()


def damage_zip(path: Path, name: str) -> None:
    """Flip a byte in the middle of a part."""
    with zipfile.ZipFile(path) as archive:
        info = archive.getinfo(name)
    data = bytearray(path.read_bytes())
    data[info.header_offset + 100 + info.file_size // 2] ^= 0xFF
    path.write_bytes(data)


@pytest.mark.parametrize("how", ["cut", "flipped", "no zip", "missing"])
async def test_a_file_that_is_not_whole_is_refused_before_anything_is_touched(
    two: Two, how: str
) -> None:
    match how:
        case "cut":
            two.path.write_bytes(two.path.read_bytes()[:-1000])
        case "flipped":
            damage_zip(two.path, f"streams/{RUNS}.snapshot")
        case "no zip":
            two.path.write_bytes(b"hello")
        case _:
            two.path.unlink()
    with pytest.raises(ArchiveUnusable):
        await restored(two.new, two.path)
    assert await state(two.new) == {}


def test_whatever_is_flipped_of_a_file_it_is_refused_or_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "backup.pyoco"
    with create_archive(path) as archive:
        with archive.writing(LATE_JOBS) as jobs:
            jobs.write(b"hello" * 20)
        manifest = Manifest(
            version="0.6.0",
            nats_version="2.12",
            created_at=0.0,
            work_stream="PYOCO_WORK",
            runs_bucket="pyoco_runs",
            streams=[],
            late_jobs=jobs.done(),
            late_job_count=0,
        )
        with archive.writing(MANIFEST) as part:
            part.write(msgspec.json.encode(manifest))
    raw = path.read_bytes()
    refused = set()
    for place in range(8 * len(raw)):
        flipped = bytearray(raw)
        flipped[place // 8] ^= 1 << place % 8
        path.write_bytes(flipped)
        try:
            with open_archive(path) as archive:
                archive.verify(archive.manifest())
        except ArchiveUnusable as error:
            refused.add(str(error))
    assert any("encrypted" in why for why in refused)
    assert any("compress" in why for why in refused)


@pytest.mark.parametrize("two", ["folder"], indirect=True)
@pytest.mark.parametrize("how", ["cut", "missing", "no manifest", "newer"])
async def test_a_folder_that_is_not_whole_is_refused_before_anything_is_touched(
    two: Two, how: str
) -> None:
    part = two.path / "streams" / f"{RUNS}.snapshot"
    manifest = two.path / MANIFEST
    match how:
        case "cut":
            part.write_bytes(part.read_bytes()[:-1])
        case "missing":
            part.unlink()
        case "no manifest":
            manifest.unlink()
        case _:
            manifest.write_text(manifest.read_text().replace('"format": 1', '"format": 99'))
    with pytest.raises(ArchiveUnusable):
        await restored(two.new, two.path)
    assert await state(two.new) == {}


async def test_a_used_server_is_replaced_only_when_told_and_what_it_held_is_kept(
    two: Two, tmp_path: Path
) -> None:
    await filled(two.new, count=3)
    before = await state(two.new)
    with pytest.raises(RestoreRefused, match=r"KV_pyoco_runs \(3\).*--replace"):
        await restored(two.new, two.path)
    assert await state(two.new) == before
    done = await restored(two.new, two.path, replace=True)
    assert await values(two.new, "pyoco_runs") == await values(two.old, "pyoco_runs")
    assert done.kept is not None
    await restored(two.new, done.kept, replace=True)
    assert {name: s.messages for name, (_, s) in (await state(two.new)).items()} == {
        name: s.messages for name, (_, s) in before.items()
    }


async def test_a_server_that_somebody_works_with_is_refused(two: Two, tmp_path: Path) -> None:
    await ensure_resources(two.new, SETTINGS)
    async with KeyValue(two.new, "pyoco_runs").watch() as changes, trio.open_nursery() as nursery:

        async def follow() -> None:
            async for _ in changes:
                pass

        nursery.start_soon(follow)
        with trio.fail_after(60):
            while not any(c.num_waiting for c in await list_consumers(two.new, RUNS)):
                await trio.sleep(0.02)
        with pytest.raises(RestoreRefused, match="stop gateways and workers first"):
            await restored(two.new, two.path, replace=True)
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    "field", ["runs_kv_bucket", "schedules_kv_bucket", "auth_kv_bucket", "artifacts_bucket"]
)
async def test_other_names_in_the_settings_are_refused(two: Two, field: str) -> None:
    was = f"PYOCO_{field.upper()}={getattr(SETTINGS, field)}"
    keep = two.path.with_name("kept")
    with (
        open_archive(two.path) as archive,
        pytest.raises(RestoreRefused, match=was),
    ):
        await restore(two.new, structs.replace(SETTINGS, **{field: "other"}), archive, keep=keep)
    assert await state(two.new) == {}


async def test_what_is_replaced_is_kept_or_nothing_is_touched(two: Two) -> None:
    await filled(two.new, count=3)
    before = await state(two.new)
    with (
        open_archive(two.path) as archive,
        pytest.raises(
            RestoreRefused, match=r"what the server holds cannot be kept: .*/kept cannot"
        ),
    ):
        # A file is no folder to keep it in.
        await restore(two.new, SETTINGS, archive, keep=two.path / "kept", replace=True)
    assert await state(two.new) == before


async def test_more_replicas_than_servers_are_refused_before_anything_is_touched(two: Two) -> None:
    await ensure_resources(two.new, SETTINGS)
    before = await state(two.new)
    with pytest.raises(ApiError, match="replicas"):
        await restored(two.new, two.path, replicas=3)
    assert await state(two.new) == before


async def test_a_node_that_learns_late_who_takes_the_chunks_is_asked_again(
    two: Two, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a cluster another node may lead the new stream; this one says "nobody listens" at first."""
    real = Connection.request
    asked: Counter[str] = Counter()

    async def late(
        self: Connection, subject: str, payload: bytes = b"", *, within: float, **more: Any
    ) -> RawMessage:
        asked[subject] += 1
        if subject.startswith("$JS.SNAPSHOT.RESTORE.") and asked[subject] <= 2:
            raise Unavailable(f"nobody answers at {subject}")
        return await real(self, subject, payload, within=within, **more)

    monkeypatch.setattr(Connection, "request", late)
    await restored(two.new, two.path)
    assert await state(two.new) == await state(two.old)


@pytest.mark.parametrize("used", [False, True])
async def test_an_error_on_the_way_puts_back_what_was_there(
    two: Two, monkeypatch: pytest.MonkeyPatch, used: bool
) -> None:
    if used:
        await filled(two.new, count=2)
    before = await state(two.new)
    real = snapshots.restore_stream
    failed = False

    async def fails_once(connection: Connection, config: dict[str, Any], *rest: Any) -> Any:
        nonlocal failed
        if config["name"] == RUNS and not failed:
            failed = True
            raise SnapshotBroken("no room")
        return await real(connection, config, *rest)

    monkeypatch.setattr(restore_module, "restore_stream", fails_once)
    with pytest.raises(RestoreFailed, match="before"):
        await restored(two.new, two.path, replace=used)
    assert await state(two.new) == before
    await restored(two.new, two.path, replace=used)
    assert await values(two.new, "pyoco_runs") == await values(two.old, "pyoco_runs")


async def test_putting_back_that_is_broken_off_is_not_taken_for_a_restore(
    two: Two, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is there by then is what was there before, to the last message of the queue."""
    await filled(two.new, count=60)

    async def never(*_: Any) -> None:
        scope.cancel()
        await trio.sleep_forever()

    async def no_room(*_: Any) -> None:
        patch.setattr(restore_module, "_finish", never)
        raise SnapshotBroken("no room")

    with monkeypatch.context() as patch, trio.CancelScope() as scope:
        patch.setattr(restore_module, "_finish", no_room)
        await restored(two.new, two.path, replace=True)
    assert scope.cancelled_caught
    [kept] = two.path.parent.glob("kept-*.pyoco")
    done = await restored(two.new, two.path, replace=True)
    assert (done.resumed, done.kept) == (True, kept)
    assert await values(two.new, "pyoco_runs") == await values(two.old, "pyoco_runs")


@pytest.mark.parametrize("where", ["PYOCO_DLQ", RUNS, "PYOCO_WORK"])
async def test_a_restore_that_is_broken_off_blocks_the_server_until_it_is_done_again(
    two: Two, where: str
) -> None:
    with trio.CancelScope() as scope, open_archive(two.path) as archive:

        def stop(part: str, done: int, total: int) -> None:
            if part == where:
                scope.cancel()

        keep = two.path.with_name("kept")
        await restore(two.new, SETTINGS, archive, keep=keep, progress=stop)
    assert scope.cancelled_caught
    assert await read_marker(two.new) is not None
    assert await stream_info(two.new, "PYOCO_WORK") is None
    with pytest.raises(RestoreUnfinished, match="pyoco-server restore"):
        await ensure_resources(two.new, SETTINGS)
    done = await restored(two.new, two.path)
    assert done.resumed
    assert await state(two.new) == await state(two.old)


async def test_a_restore_that_broke_off_with_its_last_step_open_is_only_ended(
    two: Two, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never(*_: Any) -> None:
        scope.cancel()
        await trio.sleep_forever()

    with monkeypatch.context() as patch, trio.CancelScope() as scope:
        patch.setattr(restore_module, "_finish", never)
        await restored(two.new, two.path)
    # Would be gone if all of it were done again.
    await publish_acked(two.new, f"pyoco.work.{TAG}", b"since")
    done = await restored(two.new, two.path)
    assert done.resumed
    queue = await stream_info(two.new, "PYOCO_WORK")
    assert queue is not None
    assert queue.state.messages == two.manifest.streams[0].messages + 1
    assert await read_marker(two.new) is None


async def test_runs_whose_time_passed_before_a_restore_start_behind_it(tmp_path: Path) -> None:
    path = tmp_path / "backup.pyoco"
    times = [
        Timing(delay_sec=1.0),
        Timing(delay_sec=600.0),
        Timing(delay_sec=1.0, queue_ttl_sec=0.5),
        Timing(queue_ttl_sec=1.5),
    ]
    async with (
        node_in(tmp_path / "old") as node,
        connected(node) as old,
        backend_on(node, tmp_path, worker=False) as backend,
    ):
        runs = [dataclasses.replace(new_run("quick"), timing=timing) for timing in times]
        accepted = [await backend.submit(run) for run in runs]
        await backup(old, SETTINGS, path)
    await trio.sleep(2.0)
    async with node_in(tmp_path / "new") as node, connected(node) as new:
        await restored(new, path)
        async with backend_on(node, tmp_path, worker=True) as backend:
            first, later, *too_old = [each.run_id for each in accepted]
            assert (await ended(backend, first)).status is RunStatus.COMPLETED
            assert [(await ended(backend, each)).reason for each in too_old] == ["expired"] * 2
            assert state_of(await backend.get(later), backend.reads.now()) is RunState.SCHEDULED
            # Its place is held still.
            await backend.move(later, Timing(start_at=0.0))
            assert (await ended(backend, later)).status is RunStatus.COMPLETED
            await drained(backend)


async def test_a_key_that_was_used_while_a_backup_was_made_gives_a_run_that_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "backup.pyoco"
    take = backup_module._take
    before, during = (
        dataclasses.replace(new_run("quick"), idempotency_key=key) for key in ("before", "during")
    )
    async with node_in(tmp_path / "old") as node, connected(node) as old:  # noqa: SIM117
        async with backend_on(node, tmp_path, worker=False) as backend:
            first = await backend.submit(before)

            async def take_then_submit(*arguments: Any) -> Any:
                part = await take(*arguments)
                if part.stream == RUNS:
                    assert not (await backend.submit(during)).replayed
                return part

            monkeypatch.setattr(backup_module, "_take", take_then_submit)
            await backup(old, SETTINGS, path)
    async with node_in(tmp_path / "new") as node, connected(node) as new:
        await restored(new, path)
        async with backend_on(node, tmp_path, worker=True) as backend:
            known = await backend.submit(before)
            assert (known.run_id, known.replayed) == (first.run_id, True)
            again = (await backend.submit(during)).run_id
            assert (await ended(backend, again)).status is RunStatus.COMPLETED


async def test_jobs_are_listened_to_no_longer_than_they_may_be_of_runs_that_were_taken(
    two: Two, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    take = backup_module._take
    taken: list[str] = []

    async def take_then_publish(*arguments: Any) -> Any:
        part = await take(*arguments)
        taken.append(part.stream)
        if part.stream != RUNS:  # whether that one is heard is a matter of milliseconds
            await publish_acked(two.old, f"pyoco.work.{TAG}", f"behind {part.stream}".encode())
        return part

    monkeypatch.setattr(backup_module, "_take", take_then_publish)
    monkeypatch.setattr(backup_module, "_SUBMITTED_SECONDS", 0.0)
    manifest = await backup(two.old, SETTINGS, tmp_path / "other.pyoco")
    assert manifest.late_job_count == taken.index(RUNS) < len(taken) - 1


async def test_passed_ticks_are_told_as_a_gateway_decides_them(nats_node: Node) -> None:
    async with connected(nats_node) as connection:
        await ensure_resources(connection, SETTINGS)
        bucket = KeyValue(connection, SETTINGS.schedules_kv_bucket)
        await bucket.learn_time()
        began = int(bucket.now()) - 1500
        going = RunSnapshot(run_id="r", flow_name="f", status=RunStatus.PENDING, tag=TAG)
        raw = encode_snapshot(going, max_bytes=100_000)
        await KeyValue(connection, SETTINGS.runs_kv_bucket).put("r", raw)

        async def told(overlap: str, **progress: Any) -> tuple[int, int]:
            fields = {"flow_name": "f", "at": [began + 100 * n for n in range(6)]}
            spec = read_spec(
                {**fields, "overlap": overlap, "catch_up": "all"}, default_tag=TAG, now=began
            )
            schedule = Schedule(
                schedule_id="s", spec=spec, progress=ScheduleProgress(cursor=began, **progress)
            )
            await bucket.put(schedule.key, encode_json(schedule))
            passed = await passed_ticks(connection, SETTINGS)
            return passed.made_up, passed.left_out

        assert await told("allow", active=["r"]) == (5, 0)
        assert await told("skip", active=["gone"]) == (1, 4)
        assert await told("skip", active=["r"]) == (0, 5)
        assert await told("skip", starting=[began]) == (0, 5)
        assert await told("queue", active=["r"], waiting=[began]) == (5, 0)
        assert await told("cancel_running", waiting=[began]) == (1, 4)


async def test_a_restore_that_is_done_is_told_as_done_whatever_becomes_of_ticks(
    two: Two, monkeypatch: pytest.MonkeyPatch
) -> None:
    for error in (Unavailable("it went away"), NotATiming("no such zone")):

        async def fails(*_: Any, error: Exception = error) -> None:
            raise error

        monkeypatch.setattr(restore_module, "passed_ticks", fails)
        done = await restored(two.new, two.path, replace=True)
        assert done.passed is None
        assert await read_marker(two.new) is None


async def test_schedules_come_back_and_their_passed_ticks_are_told_and_made_up_for(
    tmp_path: Path,
) -> None:
    """The last tick before the backup has its run in it: no second one is made."""
    path = tmp_path / "backup.pyoco"
    every_second = Wish(
        {"flow_name": "quick", "every_sec": 1, "catch_up": "last", "overlap": "allow"}
    )
    async with node_in(tmp_path / "nats") as node, connected(node) as connection:
        async with backend_on(node, tmp_path, worker=False) as backend:
            await backend.schedules.create("s", every_second, Person())
            await backend.schedules.create("still", every_second, Person())
            await backend.schedules.pause("still", Person())
            with trio.fail_after(60):
                while len(await values(connection, "pyoco_runs")) < 2:
                    await trio.sleep(0.05)
            await backup(connection, SETTINGS, path)
        await trio.sleep(2.5)
        done = await restored(connection, path, replace=True)
        assert done.passed is not None
        assert done.passed.schedules == 1
        assert done.passed.made_up == 1
        assert done.passed.left_out >= 1
        assert "1 schedule: " in str(done.passed)
        before = len(await values(connection, "pyoco_runs"))
        async with backend_on(node, tmp_path, worker=False) as backend:
            with trio.fail_after(60):
                while len(await values(connection, "pyoco_runs")) < before + 2:
                    await trio.sleep(0.05)
            known = await backend.schedules.get("s", Person())
            runs = [
                decode_snapshot(e.value) for e in (await values(connection, "pyoco_runs")).values()
            ]
            ticks = [run.scheduled_at for run in runs]
            assert len(ticks) == len(set(ticks))
            assert known.progress.counts[TickOutcome.MISSED] >= 1
