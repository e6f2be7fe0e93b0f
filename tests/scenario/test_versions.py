"""An environment of another version is made once, whoever asks at the same time, and is there when whole."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from e2e.programs import wait_for
from pyoco_server.scenario.document import ScenarioError
from pyoco_server.scenario.versions import cache_folder, commands_of, environment

UV = """\
#!/bin/sh
# Notes each call; makes an environment in two steps, the second when it may.
echo "$$ $1" >> {folder}/calls
case $1 in
    venv)
        for home; do :; done
        mkdir -p "$home/bin" && touch "$home/bin/python" ;;
    pip)
        while [ -e {folder}/closed ]; do sleep 0.02; done
        [ ! -e {folder}/broken ] ;;
esac
"""
ASK = """\
import sys, trio
from pathlib import Path
from pyoco_server.scenario.versions import environment
print(trio.run(environment, Path(sys.argv[1]), "something"))
"""


class Installer:
    """A stand-in for uv that waits where it has half made an environment."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.uv = folder / "uv"
        self.uv.write_text(UV.format(folder=folder))
        self.uv.chmod(0o755)

    def close(self) -> None:
        (self.folder / "closed").touch()

    def open(self) -> None:
        (self.folder / "closed").unlink()

    def calls(self, what: str) -> list[int]:
        """The processes that were told to do this."""
        calls = self.folder / "calls"
        lines = calls.read_text().splitlines() if calls.exists() else []
        return [int(pid) for pid, name in map(str.split, lines) if name == what]


@pytest.fixture
def installer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Installer:
    made = Installer(tmp_path)
    monkeypatch.setenv("UV", str(made.uv))
    return made


@contextmanager
def asking(home: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that asks for an environment."""
    argv = [sys.executable, "-c", ASK, str(home)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def told(process: subprocess.Popen[str]) -> str:
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    return said.strip()


def waits_for(process: subprocess.Popen[str], lock: Path) -> Callable[[], Any]:
    def look() -> bool:
        files = Path(f"/proc/{process.pid}/fd").iterdir()
        return any(os.path.realpath(file) == str(lock) for file in files)

    return look


def test_two_processes_that_ask_at_once_get_one_environment(
    tmp_path: Path, installer: Installer
) -> None:
    home = tmp_path / "cache" / "other"
    installer.close()
    with asking(home) as first:
        wait_for(lambda: installer.calls("pip"), what="an environment that is half made")
        assert not home.exists()
        with asking(home) as second:
            wait_for(waits_for(second, home.with_name("other.lock")), what="the second one's turn")
            installer.open()
            assert told(first) == told(second) == str(home / "bin")
    assert (home / "bin" / "python").exists()
    assert len(installer.calls("venv")) == len(installer.calls("pip")) == 1


def test_what_is_there_is_not_made_again(tmp_path: Path, installer: Installer) -> None:
    home = tmp_path / "cache" / "other"
    for _ in range(2):
        assert trio.run(environment, home, "something") == home / "bin"
    assert len(installer.calls("venv")) == 1


def test_one_that_was_killed_in_the_middle_leaves_it_to_the_next(
    tmp_path: Path, installer: Installer
) -> None:
    home = tmp_path / "cache" / "other"
    installer.close()
    with asking(home):
        wait_for(lambda: installer.calls("pip"), what="an environment that is half made")
    installer.open()
    assert not home.exists()
    assert trio.run(environment, home, "something") == home / "bin"
    assert sorted(path.name for path in home.parent.iterdir()) == [
        "other",
        home.resolve().name,
        "other.lock",
    ]


def test_one_whose_interpreter_is_gone_is_made_again(tmp_path: Path, installer: Installer) -> None:
    home = tmp_path / "cache" / "other"
    trio.run(environment, home, "something")
    python = home / "bin" / "python"
    python.unlink()
    python.symlink_to(tmp_path / "no-python")
    trio.run(environment, home, "something")
    assert python.exists()


@pytest.mark.parametrize("how", ["fails", "cancelled"])
async def test_what_was_not_finished_is_removed(
    tmp_path: Path, installer: Installer, how: str
) -> None:
    home = tmp_path / "cache" / "other"
    if how == "fails":
        (tmp_path / "broken").touch()
        with pytest.raises(ScenarioError, match=r"pip install .* something: exit code 1"):
            await environment(home, "something")
    else:
        installer.close()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(environment, home, "something")
            with trio.fail_after(60):
                while not installer.calls("pip"):
                    await trio.sleep(0.01)
            nursery.cancel_scope.cancel()
    assert [path.name for path in home.parent.iterdir()] == ["other.lock"]


def test_the_cache_is_where_the_desktop_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "pyoco-server"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "pyoco-server"


async def test_a_folder_that_is_named_is_taken_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYOCO_TEST_051_BIN", "/opt/old/bin")
    assert await commands_of("0.5.1", tmp_path) == Path("/opt/old/bin")
    assert await commands_of(None, tmp_path) == Path(sys.executable).parent
