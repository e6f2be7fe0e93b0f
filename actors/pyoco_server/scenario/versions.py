"""Other versions of pyoco-server, each in an environment of its own, made once for all who play."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import trio

from pyoco_server.scenario.document import ScenarioError

_MOST_SECONDS: Final = 240.0
_LOOK_SECONDS: Final = 0.1


def cache_folder() -> Path:
    """Where environments are kept between runs: below ``XDG_CACHE_HOME``, or else ``~/.cache``."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "pyoco-server"


async def commands_of(version: str | None, cache: Path) -> Path:
    """The folder with the commands of a version; another than this one is installed into ``cache``.

    ``PYOCO_TEST_051_BIN`` names such a folder of 0.5.1 that is there already, and so on.

    Raises:
        ScenarioError: It cannot be installed.
    """
    if version is None:
        return Path(sys.executable).parent
    ready = os.environ.get(f"PYOCO_TEST_{version.replace('.', '')}_BIN")
    if ready:
        return Path(ready)
    return await environment(cache / f"pyoco-server-{version}", f"pyoco-server=={version}")


async def environment(home: Path, *requirements: str) -> Path:
    """The folder with the commands of an environment, which is made if it is not there.

    However many ask at once, in however many processes, one makes it; ``home`` is a link that appears
    when it is whole. Cancelled, or killed, it leaves nothing that anybody would take for one.

    Args:
        home: Where it is.
        requirements: What is installed there, beside pip.

    Raises:
        ScenarioError: It cannot be made, or not within four minutes.
    """
    scripts = home / "bin"
    try:
        with trio.fail_after(_MOST_SECONDS):
            # The interpreter that it was made for may be gone meanwhile.
            while not (scripts / "python").exists():
                async with _alone(home.with_name(f"{home.name}.lock")):
                    if not (scripts / "python").exists():
                        await _make(home, requirements)
    except trio.TooSlowError:
        raise ScenarioError(f"{home} was not there within {_MOST_SECONDS:g} s") from None
    return scripts


@asynccontextmanager
async def _alone(lock: Path) -> AsyncIterator[None]:
    """Be the only one in the block, of all processes; the kernel lets go for one that dies."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("ab") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                await trio.sleep(_LOOK_SECONDS)
            else:
                break
        yield


async def _make(home: Path, requirements: tuple[str, ...]) -> None:
    for left in home.parent.glob(f"{home.name}-*"):  # by somebody who was killed
        shutil.rmtree(left, ignore_errors=True)
    # An environment cannot be moved, its scripts name their interpreter; a link to it can.
    made = Path(tempfile.mkdtemp(prefix=f"{home.name}-", dir=home.parent))
    try:
        await _install(made, requirements)
        link = made / "link"
        link.symlink_to(made.name, target_is_directory=True)
        link.replace(home)
    except BaseException:  # a cancellation too: what is not whole is removed
        shutil.rmtree(made, ignore_errors=True)
        raise


async def _install(folder: Path, requirements: tuple[str, ...]) -> None:
    python = str(folder / "bin" / "python")
    # Debian's python3 has `venv` only with another package. With pip: 0.5.1 installs wheels by it.
    if uv := os.environ.get("UV") or shutil.which("uv"):
        await _run(uv, "venv", "--quiet", "--seed", "--python", sys.executable, str(folder))
        await _run(uv, "pip", "install", "--quiet", "--python", python, *requirements)
    else:
        await _run(sys.executable, "-m", "venv", str(folder))
        await _run(python, "-m", "pip", "install", "--quiet", *requirements)


async def _run(*argv: str) -> None:
    done = await trio.run_process(argv, capture_stdout=True, stderr=subprocess.STDOUT, check=False)
    if done.returncode != 0:
        said = done.stdout.decode(errors="replace")[-500:]
        raise ScenarioError(f"{' '.join(argv)}: exit code {done.returncode}: {said}")
