"""What a worker makes of the registry: which wheels, which set each run sees, and what stays behind."""

from __future__ import annotations

import errno
import os
import shutil
import threading
import time
from collections.abc import Iterable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest
import trio

from backend.stage import ended, eventually, no_threads_for, started
from pyoco_server.jetstream.errors import Unanswered
from pyoco_server.kernel import TapEvent, TapKind
from pyoco_server.model.errors import NO_THREAD
from pyoco_server.model.run import RunStatus
from pyoco_server.model.wheel import StoredWheel, WheelName, parse_wheel_name
from pyoco_server.store.wheels import RegistryState, WheelObject, WheelStore
from pyoco_server.worker import wheel_syncer
from pyoco_server.worker.wheel_install import install_wheel
from pyoco_server.worker.wheel_set import WheelFolder, WheelSets
from pyoco_server.worker.wheel_syncer import WheelSyncer
from wheels.hostile import hostile
from wheels.making import file_name, wheel_bytes
from wheels.stage import (
    PACKAGE,
    delete_version,
    flow,
    folders,
    new_run,
    plant,
    report,
    synced,
    syncing,
    told,
    upload,
    upload_version,
)

pytestmark = pytest.mark.nats
V1, V2 = file_name(PACKAGE, "1.0"), file_name(PACKAGE, "2.0")


async def test_a_run_executes_with_the_newest_wheel_and_says_so(tmp_path: Path) -> None:
    async with syncing(tmp_path) as backend:
        await upload_version(backend, "1.0")
        status = await synced(backend, V1)
        assert (status.enabled, status.last_result, status.last_error) == (True, "ok", None)
        assert status.installed_wheels[0].package_name == PACKAGE
        assert status.updated_wheels == [V1]
        run = await ended(backend, (await backend.submit(new_run())).run_id)
        assert told(run) == ["1.0"] * 3
        item = (await backend.wheels.get(V1)).wheel
        assert [(w.name, w.version, w.sha256) for w in run.wheels] == [
            (PACKAGE, "1.0", item.sha256)
        ]
        await upload_version(backend, "2.0")
        await synced(backend, V2)
        again = await ended(backend, (await backend.submit(new_run())).run_id)
        assert told(again) == ["2.0"] * 3
        assert again.wheels[0].version == "2.0"
        await delete_version(backend, "2.0")
        status = await synced(backend, V1)
        assert status.removed_wheels == [V2]
        assert told(await ended(backend, (await backend.submit(new_run())).run_id)) == ["1.0"] * 3
        await delete_version(backend, "1.0")
        await synced(backend)
        gone = await ended(backend, (await backend.submit(new_run())).run_id)
        assert gone.status is RunStatus.FAILED
        assert gone.wheels == []

        await _nothing_left(tmp_path)


async def test_a_slot_that_begins_with_a_wheel_does_not_keep_it_beyond_its_end(
    tmp_path: Path,
) -> None:
    async with syncing(tmp_path) as backend:
        await upload_version(backend, "1.0")
        await synced(backend, V1)
        await backend.system.restart("/worker/slots/0")
        assert told(await ended(backend, (await backend.submit(new_run())).run_id)) == ["1.0"] * 3
        await delete_version(backend, "1.0")
        await synced(backend)
        gone = await ended(backend, (await backend.submit(new_run())).run_id)
        assert (gone.status, gone.wheels) == (RunStatus.FAILED, [])
        await _nothing_left(tmp_path)


async def _nothing_left(folder: Path) -> None:
    async def nothing() -> bool:
        return not any(folders(folder, kind) for kind in ("wheels", "sets", "tmp"))

    await eventually(nothing, what="no folders")


async def test_a_run_keeps_the_wheels_it_began_with(tmp_path: Path) -> None:
    async with syncing(tmp_path) as backend:
        await upload_version(backend, "1.0")
        await synced(backend, V1)
        long = await backend.submit(new_run(2.0))
        await started(backend, long.run_id)
        await upload_version(backend, "2.0")
        await synced(backend, V2)
        assert len(folders(tmp_path, "sets")) == 2  # the one in use is still there
        after = await backend.submit(new_run())
        first = await ended(backend, long.run_id)
        assert told(first) == ["1.0"] * 3
        assert first.wheels[0].version == "1.0"
        assert told(await ended(backend, after.run_id)) == ["2.0"] * 3

        async def one_left() -> bool:
            return len(folders(tmp_path, "sets")) == 1

        await eventually(one_left, what="the old set removed")


async def test_a_worker_waits_for_its_wheels_before_it_takes_runs(tmp_path: Path) -> None:
    from backend.stage import running

    async with running(tmp_path, worker=False) as backend:
        await upload_version(backend, "1.0")
        submitted = await backend.submit(new_run())
    async with syncing(tmp_path) as backend:
        assert told(await ended(backend, submitted.run_id)) == ["1.0"] * 3


async def test_tags_and_platforms_decide(tmp_path: Path) -> None:
    async with syncing(tmp_path, tags=("hello", "cpu")) as backend:
        await upload_version(backend, "1.0", "untagged")
        await upload_version(backend, "1.0", "forcpu", tags=("cpu",))
        await upload_version(backend, "1.0", "forgpu", tags=("gpu",))
        await upload_version(backend, "1.0", "windows", "cp311-cp311-win_amd64")
        await upload_version(backend, "1.0", "both")
        await upload_version(backend, "2.0", "both", "cp27-cp27m-win32")
        skipped = {
            file_name("windows", "1.0", "cp311-cp311-win_amd64"): "unsupported_wheel_tags",
            file_name("both", "2.0", "cp27-cp27m-win32"): "unsupported_wheel_tags",
        }

        async def seen() -> bool:
            told = (await report(backend)).skipped_incompatible
            return {skip.wheel_name: skip.reason for skip in told} == skipped

        await eventually(seen, what="the wheels that are not for this worker")
        status = await synced(
            backend, *(file_name(p, "1.0") for p in ("untagged", "forcpu", "both"))
        )
        assert (status.last_result, status.skipped_incompatible_count) == ("ok", 2)


async def test_planted_wheels_that_are_bad_are_skipped_and_the_others_work(tmp_path: Path) -> None:
    import re

    wrong = {kind: value for kind, value in hostile().items() if kind != "zip bomb"}
    async with syncing(tmp_path) as backend:
        await upload_version(backend, "1.0")
        await synced(backend, V1)
        names = {}
        for number, (kind, (data, _)) in enumerate(wrong.items()):
            names[kind] = f"tasks-1.0-{number}-py3-none-any.whl"
            await plant(backend, names[kind], data)
        await plant(backend, "../evil-1.0-py3-none-any.whl", wheel_bytes("evil"))
        await plant(backend, file_name("naughty", "7.0"), os.urandom(100))

        async def all_told() -> bool:
            return len((await report(backend)).skipped_incompatible) >= len(wrong) + 2

        await eventually(all_told, within=60, what="all bad wheels told")
        status = await report(backend)
        reasons = {skip.wheel_name: skip.reason or "" for skip in status.skipped_incompatible}
        for kind, (_, reason) in wrong.items():
            assert re.search(reason, reasons[names[kind]]), (kind, reasons[names[kind]])
        assert "none that a wheel can have" in reasons["../evil-1.0-py3-none-any.whl"]
        assert "not a sound zip" in reasons[file_name("naughty", "7.0")]
        assert status.selected_wheels == [V1]
        assert status.last_result == "error"
        assert "naughty" in (status.last_error or "")
        assert told(await ended(backend, (await backend.submit(new_run())).run_id)) == ["1.0"] * 3
        assert not (tmp_path / "evil-1.0-py3-none-any.whl").exists()


async def test_an_older_version_stands_in_for_a_bad_newer_one(tmp_path: Path) -> None:
    async with syncing(tmp_path) as backend:
        await upload_version(backend, "1.0")
        await synced(backend, V1)
        await plant(backend, V2, wheel_bytes(PACKAGE, "2.0")[:-40])

        async def noticed() -> bool:
            return (await report(backend)).last_result == "error"

        await eventually(noticed, what="the bad wheel told")
        assert (await report(backend)).selected_wheels == [V1]
        assert told(await ended(backend, (await backend.submit(new_run())).run_id)) == ["1.0"] * 3
        # The registry accepts what is sound and newer, and the worker goes on.
        await upload_version(backend, "3.0")
        await synced(backend, file_name(PACKAGE, "3.0"))
        assert told(await ended(backend, (await backend.submit(new_run())).run_id)) == ["3.0"] * 3


async def test_wheels_that_bring_the_same_file_do_not_mix(tmp_path: Path) -> None:
    async with syncing(tmp_path) as backend:
        same, other = {"shared/__init__.py": ""}, {"shared/__init__.py": "x = 1\n"}
        for package, files in (("one", same), ("three", other), ("two", same)):
            await upload(backend, wheel_bytes(package, "1", files), file_name(package, "1"))
        status = await synced(backend, file_name("one", "1"), file_name("two", "1"), skipped=1)
        (skip,) = status.skipped_incompatible
        assert skip.wheel_name == file_name("three", "1")
        assert "shared/__init__.py" in (skip.reason or "")


async def test_a_file_where_another_wheel_has_a_folder_leaves_out_its_own_wheel(
    tmp_path: Path,
) -> None:
    """It stopped all wheels; the other way round, it came to lie in that folder."""
    async with syncing(tmp_path) as backend:
        await upload_version(backend, "1.0")
        for package, path in (("one", "a"), ("two", "a/b.py"), ("three", "c/d.py"), ("zero", "c")):
            data = wheel_bytes(package, "1", {path: ""})
            await upload(backend, data, file_name(package, "1"))
        status = await synced(
            backend, file_name("one", "1"), file_name("three", "1"), V1, skipped=2
        )
        left_out = sorted(skip.wheel_name for skip in status.skipped_incompatible)
        assert left_out == [file_name("two", "1"), file_name("zero", "1")]
        assert told(await ended(backend, (await backend.submit(new_run())).run_id)) == ["1.0"] * 3


async def test_an_older_version_stays_for_one_that_clashes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was missing from one look to the next, each time that the newer one was tried again."""
    looks: list[list[str]] = []
    tries: list[int] = []
    real = WheelSyncer._sync

    async def sync(self: WheelSyncer) -> WheelSets | None:
        sets = await real(self)
        looks.append(sorted(have.wheel.name.text for have in self._have.values()))
        tries.extend(failure.times for failure in self._failures.values())
        return sets

    monkeypatch.setattr(WheelSyncer, "_sync", sync)
    both = [file_name("one", "1.0"), file_name("two", "1.0")]
    async with syncing(tmp_path, wheel_sync_interval_sec=0.05) as backend:
        await upload(backend, wheel_bytes("one", "1.0", {"shared.py": "x = 1"}), both[0])
        await upload_version(backend, "1.0", "two")
        await synced(backend, *both)
        seen = len(looks)
        newer = wheel_bytes("two", "2.0", {"shared.py": "x = 2"})
        await upload(backend, newer, file_name("two", "2.0"))

        async def tried_again() -> bool:
            return max(tries, default=0) >= 3

        await eventually(tried_again, what="the newer one tried three times")
        assert [each for each in looks[seen:] if each != both] == []
        (skip,) = (await synced(backend, *both, skipped=1)).skipped_incompatible
        assert skip.wheel_name == file_name("two", "2.0")
        assert "shared.py" in (skip.reason or "")


async def test_an_install_that_is_given_up_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its thread went on, and what it had made by then counted as the wheel for good."""
    begun, over = threading.Event(), threading.Event()
    swept = threading.Semaphore(0)
    clean_up = WheelFolder.clean_up

    def clean(self: WheelFolder, keep: Iterable[StoredWheel]) -> None:
        clean_up(self, keep)
        if begun.is_set():
            swept.release()

    def install(archive: Path, name: WheelName, target: Path) -> None:
        if begun.is_set():
            install_wheel(archive, name, target)
            return
        begun.set()
        # The look that gives it up, and the one before it is tried again.
        assert all(swept.acquire(timeout=60) for _ in range(2))
        target.mkdir(parents=True)
        (target / f"{PACKAGE}.py").touch()
        over.set()

    monkeypatch.setattr(WheelFolder, "clean_up", clean)
    monkeypatch.setattr(wheel_syncer, "install_wheel", install)
    async with syncing(
        tmp_path, wheel_sync_interval_sec=0.5, wheel_install_timeout_sec=0.1
    ) as backend:
        await upload_version(backend, "1.0")
        assert await trio.to_thread.run_sync(over.wait, 60)
        await synced(backend, V1)
        assert told(await ended(backend, (await backend.submit(new_run())).run_id)) == ["1.0"] * 3


async def test_a_wheel_that_does_not_fit_on_the_disk_keeps_no_other_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It stopped all wheels, and was downloaded again at each look."""
    full = threading.Event()
    full.set()

    def install(archive: Path, name: WheelName, target: Path) -> None:
        if str(name.version) == "2.0" and full.is_set():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        install_wheel(archive, name, target)

    monkeypatch.setattr(wheel_syncer, "install_wheel", install)
    other = file_name("other", "1.0")
    async with syncing(tmp_path, wheel_sync_interval_sec=0.1) as backend:
        await upload_version(backend, "1.0")
        await synced(backend, V1)
        await upload_version(backend, "2.0")
        await upload_version(backend, "1.0", "other")
        (skip,) = (await synced(backend, V1, other, skipped=1)).skipped_incompatible
        assert skip.wheel_name == V2
        assert skip.reason == "there is no room for it on the worker's disk"
        full.clear()
        await synced(backend, V2, other)


async def test_a_look_that_fails_removes_no_wheel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All that a worker had were downloaded again where NATS did not answer its first look."""
    async with syncing(tmp_path) as backend:
        await upload_version(backend, "1.0")
        await synced(backend, V1)
    before = folders(tmp_path, "wheels")
    looks, downloads = 0, []
    state, read = WheelStore.state, WheelStore.read

    async def fails_once(self: WheelStore) -> RegistryState:
        nonlocal looks
        looks += 1
        if looks == 1:
            raise Unanswered("the wheels could not be listed")
        return await state(self)

    def note(self: WheelStore, found: WheelObject) -> AbstractAsyncContextManager[Any]:
        downloads.append(found.wheel.name.text)
        return read(self, found)

    monkeypatch.setattr(WheelStore, "state", fails_once)
    monkeypatch.setattr(WheelStore, "read", note)
    async with syncing(tmp_path, wheel_sync_interval_sec=0.1) as backend:
        assert told(await ended(backend, (await backend.submit(new_run())).run_id)) == ["1.0"] * 3
    assert looks > 1
    assert (folders(tmp_path, "wheels"), downloads) == (before, [])


async def test_slots_are_told_of_wheels_by_a_syncer_that_was_restarted(tmp_path: Path) -> None:
    """It counted its changes anew, so that slots took no change before it had as many as the one before."""
    async with syncing(tmp_path) as backend:
        for version in ("1.0", "2.0"):
            await upload_version(backend, version)
            await synced(backend, file_name(PACKAGE, version))
        await backend.system.restart("/worker/wheel-syncer")
        await upload_version(backend, "3.0")
        await synced(backend, file_name(PACKAGE, "3.0"))
        assert told(await ended(backend, (await backend.submit(new_run())).run_id)) == ["3.0"] * 3


async def test_a_wheel_for_another_python_is_skipped(tmp_path: Path) -> None:
    async with syncing(tmp_path) as backend:
        metadata = f"Name: {PACKAGE}\nVersion: 2.0\nRequires-Python: >=3.99\n"
        await upload_version(backend, "1.0")
        await upload(backend, wheel_bytes(PACKAGE, "2.0", metadata=metadata), V2)
        status = await synced(backend, V1, skipped=1)
        assert "3.99" in (status.skipped_incompatible[0].reason or "")


async def test_why_a_wheel_is_left_out_fits_into_the_workers_record(tmp_path: Path) -> None:
    """A worker whose record NATS did not take was lost to all, and took no runs once it started again."""
    pythons = ",".join(f">=3.99.{number}" for number in range(100_000))
    metadata = f"Name: {PACKAGE}\nVersion: 2.0\nRequires-Python: {pythons}\n"
    async with syncing(tmp_path) as backend:
        await upload_version(backend, "1.0")
        await upload(backend, wheel_bytes(PACKAGE, "2.0", metadata=metadata), V2)
        status = await synced(backend, V1, skipped=1)
        assert "it is for Python" in (status.skipped_incompatible[0].reason or "")


async def test_plugins_of_a_wheel_are_found(tmp_path: Path) -> None:
    files = {
        "plug.py": (
            "def register(registry):\n"
            "    registry.register_callable(greet, name='greet')\n\n\n"
            "def greet():\n    return 'from a plug-in'\n"
        )
    }
    yaml = "flow:\n  graph: hello\ntasks:\n  hello:\n    use: greet\n"
    async with syncing(tmp_path) as backend:
        data = wheel_bytes(
            "plug", "1.0", files, entry_points="[pyoco.tasks]\nplug = plug:register\n"
        )
        await upload(backend, data, file_name("plug", "1.0"))
        await synced(backend, file_name("plug", "1.0"))
        from pyoco_server.gateway.new_run import NewRun

        run = await backend.submit(NewRun("main", "hello", workflow_yaml=yaml))
        assert (await ended(backend, run.run_id)).task_records["hello"].output == "from a plug-in"


async def test_a_tenants_wheels_are_seen_by_its_runs_only(tmp_path: Path) -> None:
    async with syncing(tmp_path) as backend:
        await upload_version(backend, "1.0", "common")
        await upload_version(backend, "1.0", "ofa", tenant_id="a", api_key_id="keykeykey")
        await synced(backend, file_name("common", "1.0"), file_name("ofa", "1.0"))

        async def outcome(package: str, tenant: str | None) -> RunStatus:
            run = await backend.submit(new_run(package=package, tenant_id=tenant))
            snapshot = await ended(backend, run.run_id)
            expected = ["common", "ofa"] if tenant == "a" else ["common"]
            assert [wheel.name for wheel in snapshot.wheels] == expected
            return snapshot.status

        assert await outcome("ofa", "a") is RunStatus.COMPLETED
        assert await outcome("common", "a") is RunStatus.COMPLETED
        assert await outcome("ofa", "b") is RunStatus.FAILED
        assert await outcome("common", "b") is RunStatus.COMPLETED
        assert await outcome("ofa", None) is RunStatus.FAILED
        assert await outcome("ofa", "a") is RunStatus.COMPLETED


async def test_each_tenant_has_its_own_version_of_a_package(tmp_path: Path) -> None:
    """The newest of all tenants' was taken, for its owner alone."""
    async with syncing(tmp_path) as backend:
        for version, by in (
            ("2.0", {"tenant_id": "a", "api_key_id": "keykeykey"}),
            ("1.0", {"tenant_id": "b", "api_key_id": "keykeykey"}),
            ("3.0", {}),
        ):
            await upload_version(backend, version, **by)
        await synced(backend, *(file_name(PACKAGE, version) for version in ("1.0", "2.0", "3.0")))
        for tenant, version in (("a", "2.0"), ("b", "1.0"), (None, "3.0"), ("c", "3.0")):
            run = await backend.submit(new_run(tenant_id=tenant))
            snapshot = await ended(backend, run.run_id)
            assert snapshot.status is RunStatus.COMPLETED
            assert [wheel.version for wheel in snapshot.wheels] == [version]


async def test_a_tenants_wheel_takes_nothing_from_those_that_all_share(tmp_path: Path) -> None:
    """Of two with different files of one name, the one whose name comes first stayed."""
    shared, own = file_name("zz", "1.0"), file_name("aa", "1.0")
    async with syncing(tmp_path) as backend:
        await upload(backend, wheel_bytes("zz", "1.0", {"both.py": "x = 1"}), shared)
        await synced(backend, shared)
        theirs = wheel_bytes("aa", "1.0", {"both.py": "x = 2"})
        await upload(backend, theirs, own, tenant_id="a", api_key_id="keykeykey")

        async def left_out() -> bool:
            return [each.wheel_name for each in (await report(backend)).skipped_incompatible] == [
                own
            ]

        await eventually(left_out)
        assert (await report(backend)).selected_wheels == [shared]


async def test_a_new_wheel_is_there_in_moments(tmp_path: Path) -> None:
    async with syncing(tmp_path, wheel_sync_interval_sec=60.0) as backend:
        await upload_version(backend, "1.0")
        await synced(backend, V1)
        began = time.monotonic()
        await upload_version(backend, "2.0")
        while True:
            run = await ended(backend, (await backend.submit(new_run())).run_id)
            if told(run) == ["2.0"] * 3:
                break
            assert told(run) == ["1.0"] * 3
        assert time.monotonic() - began < 50  # the watch, not the interval


async def test_left_overs_of_a_worker_that_died_are_removed(tmp_path: Path) -> None:
    for kind in ("tmp", "sets", "wheels"):
        (tmp_path / "synced" / kind / "dead").mkdir(parents=True)
    async with syncing(tmp_path) as backend:
        await upload_version(backend, "1.0")
        await synced(backend, V1)
        assert flow()

        async def clean() -> bool:
            return not folders(tmp_path, "tmp") and not any(
                path.name == "dead"
                for kind in ("sets", "wheels")
                for path in folders(tmp_path, kind)
            )

        await eventually(clean, what="left-overs removed")


async def test_wheels_that_are_removed_beneath_the_worker_are_there_again(tmp_path: Path) -> None:
    """Runs had an empty set under the digest of the whole, which the worker told to be fine."""
    async with syncing(tmp_path, worker_fresh_child="always") as backend:
        await upload_version(backend, "1.0")
        await synced(backend, V1)
        for _ in range(2):
            assert (
                told(await ended(backend, (await backend.submit(new_run())).run_id)) == ["1.0"] * 3
            )
            (tmp_path / "synced").rename(tmp_path / "removed")
            shutil.rmtree(tmp_path / "removed")

            async def made_again() -> bool:
                return folders(tmp_path, "sets") != []

            await eventually(made_again)
        assert (await report(backend)).last_result == "ok"


@pytest.mark.parametrize("gone", [True, False])
def test_a_set_is_made_of_wheels_that_are_there(tmp_path: Path, gone: bool) -> None:
    folder = WheelFolder(tmp_path)
    scratch = folder.scratch()
    unpacked = scratch.path / "unpacked"
    unpacked.mkdir()
    (unpacked / "module.py").touch()
    wheel = StoredWheel(parse_wheel_name(V1), 1, "0" * 64, "n", "")
    members = [(wheel, folder.keep(unpacked, wheel))]
    if gone:
        shutil.rmtree(members[0][1].path)
        with pytest.raises(FileNotFoundError):
            folder.assemble(members)
    else:
        first = folder.assemble(members)
        assert folder.assemble(members) == first
        shutil.rmtree(tmp_path / "sets")
        again = folder.assemble(members)
        assert again.digest == first.digest
        assert again != first, "slots are told of it"


async def test_a_worker_without_threads_says_so_and_has_its_wheels_once_there_are_some(
    tmp_path: Path,
) -> None:
    died: list[TapEvent] = []

    def listen(event: TapEvent) -> None:
        if event.kind is TapKind.DIED:
            died.append(event)

    async with syncing(tmp_path, wheel_sync_interval_sec=0.02) as backend:
        with backend.system.tap(listen):
            with no_threads_for(wheel_syncer) as refused:
                await upload_version(backend, "1.0")

                async def often() -> bool:
                    # A child may crash twenty times in a row.
                    return len(refused) > 100 and (await report(backend)).last_error == NO_THREAD

                await eventually(often, within=30)
            await synced(backend, V1)
            run = await ended(backend, (await backend.submit(new_run())).run_id)
            assert told(run) == ["1.0"] * 3
        assert died == []
    assert folders(tmp_path, "tmp") == []
