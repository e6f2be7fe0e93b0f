"""What a worker keeps of what its tasks saved, what it refuses, and what it leaves on its disk: nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio

from artifacts.saving import content, flow, run, run_folders, saving, stored
from backend.stage import ended, eventually
from pyoco_server.store.artifacts import ArtifactStore

pytestmark = pytest.mark.nats

TASKS = """\
import os
import signal


def sized(sizes=None):
    for name, size in sorted(sizes.items()):
        with open(f"artifacts/{name}", "wb") as file:
            file.write(bytes(size))


def odd(ctx, outside=""):
    ctx.save_artifact("plain.txt", "plain")
    ctx.save_artifact("\\u00fcber/\\u202egnp.\\U0001f4be", b"odd but harmless")
    ctx.save_artifact("../above.txt", "above")
    ctx.save_artifact(outside, "outside")
    ctx.save_artifact("deep/../../beside.txt", "beside")
    ctx.save_artifact("line\\nbreak", "a control character")
    ctx.save_artifact("back\\\\slash", "a backslash")
    os.symlink("/etc/passwd", "artifacts/link")
    os.symlink("/etc", "artifacts/linked")
    os.mkfifo("artifacts/pipe")
    with open(b"artifacts/\\xff\\xfe", "wb") as file:
        file.write(b"no UTF-8")
    long = "artifacts" + 3 * ("/" + "n" * 200)
    os.makedirs(os.path.dirname(long))
    with open(long, "wb") as file:
        file.write(b"long")


def lone(ctx, name=""):
    ctx.save_artifact(name, "lone")


def no_folder():
    os.rmdir("artifacts")
    os.symlink("/etc", "artifacts")


def crash(ctx):
    ctx.save_artifact("before.txt", "whole")
    os.kill(os.getpid(), signal.SIGKILL)
"""


async def test_what_is_beyond_a_limit_is_refused_by_its_name(tmp_path: Path) -> None:
    limits = {"artifact_max_bytes": 100, "artifact_run_max_bytes": 150, "artifact_max_count": 4}
    async with saving(tmp_path, TASKS, **limits) as backend:
        done = await run(backend, "sized", sizes={"a": 100, "b": 101, "c": 51, "d": 50, "e": 1})
        assert done.status == "COMPLETED"
        assert [(kept.name, kept.size_bytes) for kept in done.artifacts] == [("a", 100), ("d", 50)]
        refused = {each.name: each.reason for each in done.artifacts_refused}
        assert set(refused) == {"b", "c", "e"}
        assert "PYOCO_ARTIFACT_MAX_BYTES" in refused["b"]
        assert "PYOCO_ARTIFACT_RUN_MAX_BYTES" in refused["c"]
        assert "PYOCO_ARTIFACT_MAX_COUNT" in refused["e"]
        assert await content(backend, done, "d") == bytes(50)


async def test_the_snapshot_has_room_for_its_list_or_the_rest_is_refused(tmp_path: Path) -> None:
    async with saving(tmp_path, TASKS, max_run_snapshot_bytes=12_000) as backend:
        done = await run(backend, "sized", sizes={f"file{number:02}": 1 for number in range(60)})
        assert done.status == "COMPLETED"
        assert 0 < len(done.artifacts) < 60
        assert "PYOCO_MAX_RUN_SNAPSHOT_BYTES" in done.artifacts_refused[0].reason


async def test_odd_names_do_no_harm(tmp_path: Path) -> None:
    outside = tmp_path / "outside" / "absolute.txt"
    async with saving(tmp_path, TASKS) as backend:
        done = await run(backend, "odd", outside=str(outside))
        assert done.status == "COMPLETED", done.error
        kept = {each.name: await content(backend, done, each.name) for each in done.artifacts}
        assert kept == {"plain.txt": b"plain", "über/\u202egnp.\U0001f4be": b"odd but harmless"}
        refused = {each.name: each.reason for each in done.artifacts_refused}
        for name in ("../above.txt", str(outside), "deep/../../beside.txt"):
            assert refused[name] == "its name leads out of the folder for artifacts"
        for name in ("line\nbreak", "back\\slash"):
            assert refused[name] == "its name has a backslash or a control character"
        for name in ("link", "linked", "pipe"):
            assert refused[name] == "it is a link or no ordinary file"
        assert refused["\\udcff\\udcfe"] == "its name is not UTF-8"
        assert "at most 512" in refused["/".join(3 * ["n" * 200])[:200]]
        assert len(refused) == 10
        await eventually(lambda: nothing(tmp_path), what="no working folder")


async def nothing(folder: Path) -> bool:
    await trio.lowlevel.checkpoint()
    return run_folders(folder) == []


async def test_a_lone_name_that_leads_elsewhere_is_refused_with_the_reason(
    tmp_path: Path,
) -> None:
    async with saving(tmp_path, TASKS) as backend:
        for name in ("../x.txt", "a/../../x.txt", str(tmp_path / "x.txt")):
            done = await run(backend, "lone", name=name)
            assert (done.status, done.artifacts) == ("COMPLETED", [])
            assert {each.name: each.reason for each in done.artifacts_refused} == {
                name: "its name leads out of the folder for artifacts"
            }


async def test_a_link_in_place_of_the_folder_is_not_followed(tmp_path: Path) -> None:
    async with saving(tmp_path, TASKS) as backend:
        done = await run(backend, "no_folder")
        assert (done.status, done.artifacts) == ("COMPLETED", [])
        assert [each.reason for each in done.artifacts_refused] == ["it is a link or no folder"]
        await eventually(lambda: nothing(tmp_path), what="no working folder")


async def test_what_a_run_saved_before_its_process_was_killed_is_kept_whole(tmp_path: Path) -> None:
    async with saving(tmp_path, TASKS) as backend:
        done = await run(backend, "crash")
        assert (done.status, done.reason) == ("FAILED", "worker_crashed")
        assert await content(backend, done, "before.txt") == b"whole"
        await eventually(lambda: nothing(tmp_path), what="no working folder")


async def test_a_run_that_is_cancelled_while_it_is_saved_leaves_nothing_half_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One file is kept when the cancel comes, the other is under way."""
    half_way = trio.Event()
    keep = ArtifactStore.keep

    async def slowly(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        yield await anext(pieces)
        half_way.set()
        await trio.sleep_forever()

    async def keep_first(self: ArtifactStore, run_id: str, attempt: int, name: str, pieces, task):  # type: ignore[no-untyped-def]
        slow = pieces if name == "a" else slowly(aiter(pieces))
        return await keep(self, run_id, attempt, name, slow, task)

    monkeypatch.setattr(ArtifactStore, "keep", keep_first)
    async with saving(tmp_path, TASKS) as backend:
        accepted = await backend.submit(flow("sized", sizes={"a": 1000, "b": 2_000_000}))
        with trio.fail_after(60):
            await half_way.wait()
        await backend.cancel(accepted.run_id)
        done = await ended(backend, accepted.run_id)
        assert (done.status, [kept.name for kept in done.artifacts]) == ("CANCELLED", ["a"])
        assert await content(backend, done, "a") == bytes(1000)

        async def only_the_first() -> bool:
            return len(await stored(backend)) == 2  # its bytes, and what is known of it

        await eventually(only_the_first, what="nothing of the second file")
        await eventually(lambda: nothing(tmp_path), what="no working folder")


async def test_an_artifact_may_be_gone_before_its_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pyoco_server.gateway.tree._ARTIFACTS_SECONDS", 0.2)
    async with saving(tmp_path, TASKS, artifact_max_age_sec=1.0) as backend:
        done = await run(backend, "sized", sizes={"a": 10})
        assert [kept.name for kept in done.artifacts] == ["a"]

        async def gone() -> bool:
            return await stored(backend) == []

        await eventually(gone, what="no artifact")
        assert (await backend.get(done.run_id)).status == "COMPLETED"
