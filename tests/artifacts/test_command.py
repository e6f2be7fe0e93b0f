"""`pyoco-client artifacts`: what it fetches is what was saved, and it writes where it was told to only."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from artifacts.test_http import run_with
from commands.calling import Said, caught
from http_api.gateway import gateway
from pyoco_cli.client import main

pytestmark = pytest.mark.nats


async def artifacts(url: object, run_id: str, *options: str) -> Said:
    argv = ["--server", str(url), "artifacts", run_id, *options]
    return await trio.to_thread.run_sync(caught, lambda: main(argv))


def files(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and "state" not in path.parts
    }


async def test_a_hostile_name_writes_nothing_outside_of_the_folder(tmp_path: Path) -> None:
    """A gateway that is not ours may tell any name."""
    out, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    for folder in (out, elsewhere):
        await trio.Path(folder).mkdir()
    await trio.Path(out / "linked").symlink_to(elsewhere)
    await trio.Path(out / "pointing.txt").symlink_to(elsewhere / "pointed.txt")
    hostile = {
        "../above.txt": "leads out",
        "a/../../above.txt": "leads out",
        str(elsewhere / "absolute.txt"): "leads out",
        "": "leads out",
        "a//b": "leads out",
        "line\nbreak": "control character",
        "back\\slash": "backslash",
        "linked/file.txt": "a link in the folder leads out of it",
    }
    names = [*hostile, "pointing.txt", "good.txt"]
    async with gateway(tmp_path, worker=False) as (client, backend):
        url = client.base_url
        for name, why in hostile.items():
            run_id = await run_with(backend, {"good.txt": b"good", name: b"bad"})
            for options in (["--get", name], ["--all"]):
                said = await artifacts(url, run_id, *options, "--out", str(out))
                assert said.code != 0, name
                assert why in said.err
                assert "Traceback" not in said.err
        # A link that has the file's own name is kept, or replaced: it is not written through.
        run_id = await run_with(backend, {name: name.encode() for name in names[-2:]})
        said = await artifacts(url, run_id, "--all", "--out", str(out))
        assert (said.code, files(out)) == (1, {})
        assert str(out / "pointing.txt") in said.err
        said = await artifacts(url, run_id, "--all", "--out", str(out), "--force")
        assert said.code == 0, said.err
    assert files(elsewhere) == {}
    assert files(out) == {name: name.encode() for name in names[-2:]}
    assert files(tmp_path).keys() == {f"out/{name}" for name in names[-2:]}
    assert sorted(path.name for path in out.iterdir()) == ["good.txt", "linked", "pointing.txt"]


async def test_what_is_not_there_is_told(tmp_path: Path) -> None:
    async with gateway(tmp_path, worker=False) as (client, backend):
        run_id = await run_with(backend, {"a.txt": b"a"})
        out = str(tmp_path / "out")
        said = await artifacts(client.base_url, run_id, "--get", "b.txt", "--out", out)
        assert said.code != 0
        assert "has no artifact 'b.txt'" in said.err
        empty = await run_with(backend, {})
        assert (await artifacts(client.base_url, empty, "--all", "--out", out)).last == []
        assert not await trio.Path(out).exists()


async def test_a_download_that_is_not_what_was_saved_is_not_kept(tmp_path: Path) -> None:
    async with gateway(tmp_path, worker=False) as (client, backend):
        run_id = await run_with(backend, {"a.txt": b"saved"}, wrong={"a.txt": "0" * 64})
        out = tmp_path / "out"
        said = await artifacts(client.base_url, run_id, "--all", "--out", str(out))
        assert said.code != 0
        assert "0" * 64 in said.err
        assert list(out.iterdir()) == []


async def test_a_file_of_the_users_own_is_not_written_over(tmp_path: Path) -> None:
    """Unless they say so; one that holds the same already is as good as fetched."""
    out = tmp_path / "out"
    await trio.Path(out / "data").mkdir(parents=True)
    own = {"data/notes.txt": b"my own", "same.txt": b"same"}
    for name, content in own.items():
        await trio.Path(out / name).write_bytes(content)
    saved = {"a.txt": b"a", "data/notes.txt": b"theirs", "same.txt": b"same"}
    async with gateway(tmp_path, worker=False) as (client, backend):
        url, run_id = client.base_url, await run_with(backend, saved)
        for options in (["--get", "data/notes.txt"], ["--all"]):
            said = await artifacts(url, run_id, *options, "--out", str(out))
            assert (said.code, files(out)) == (1, own), options
            assert str(out / "data/notes.txt") in said.err
            assert "same.txt" not in said.err
            assert "--force" in said.err
        for options in (["--get", "same.txt"], ["--get", "a.txt"], ["--all", "--force"], ["--all"]):
            said = await artifacts(url, run_id, *options, "--out", str(out))
            assert said.code == 0, said.err
        assert {each["path"] for each in said.last} == {str(out / name) for name in saved}
    assert files(out) == saved
