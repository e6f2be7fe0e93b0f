"""`up --detach` and `pyoco-server down`: a gateway in the background of this folder."""

from __future__ import annotations

import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from pyoco_cli.common.errors import CliError
from pyoco_cli.common.numbers import seconds_option
from pyoco_cli.common.output import print_line
from pyoco_cli.configuration import load_settings, state_folder
from pyoco_server.background import Background, read_background
from pyoco_server.settings import Settings

_START_SECONDS = 90.0
_END_SECONDS = 10.0
_ERROR = "ERR-PYOCO-"  # how what a command says of an error begins
_LOOK_SECONDS = 0.05


def background_file(settings: Settings) -> Path:
    """The file that names the gateway in the background."""
    return Path(settings.state_dir) / "pyoco-server.pid"


def detach(settings: Settings) -> int:
    """Start this same command line in the background, and return when it serves.

    Raises:
        CliError: The state folder cannot be used, one runs already, or it did not come up; the text has
            the last line of its log.
    """
    state_folder(settings)
    file = background_file(settings)
    running = read_background(file)
    if running is not None and running.alive:
        raise CliError(
            f"pyoco-server runs in the background already: process {running.pid} at {running.url}",
            hint="stop it with: pyoco-server down",
        )
    log = file.with_name("pyoco-server.log")
    began = log.stat().st_size if log.exists() else 0
    with log.open("ab") as out:
        process = subprocess.Popen(  # noqa: S603 - this program itself
            [sys.executable, "-m", "pyoco_cli.server", *sys.argv[1:], "--run-file", str(file)],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
    try:
        running = _once_up(process, file)
    except BaseException:  # Ctrl-C, which does not reach a session of its own
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(_END_SECONDS)
        process.kill()
        process.wait()
        raise
    if running is not None:
        print_line(f"pyoco-server listens on {running.url} (process {running.pid}, log {log})")
        return 0
    process.kill()
    process.wait()
    with log.open("rb") as said:
        said.seek(began)
        lines = said.read().decode(errors="replace").strip()
    if (error := lines.rfind(_ERROR)) >= 0:
        # In its own words, without the notices before them.
        sys.stderr.write(f"{lines[error:]}\n- log: {log}\n")
        return 1
    raise CliError(
        f"pyoco-server did not come up: {lines or 'it said nothing'}", hint=f"its log: {log}"
    )


def _once_up(process: subprocess.Popen[bytes], file: Path) -> Background | None:
    """What the process says of itself when it serves; None where it ends, or does not serve in time."""
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        running = read_background(file)
        if running is not None and running.pid == process.pid:
            return running
        time.sleep(_LOOK_SECONDS)
    return None


def down(
    timeout_sec: Annotated[float, seconds_option(help="Seconds to wait for its end.")] = 30.0,
    kill: Annotated[
        bool, typer.Option("--kill", help="Kill it when it has not ended by then.")
    ] = False,
) -> None:
    """Stop the gateway that `up --detach` started in this folder, and its NATS node with it."""
    file = background_file(load_settings())
    running = read_background(file)
    if running is None:
        raise CliError(
            f"nothing runs in the background here: there is no {file}",
            hint="start it with: pyoco-server up --detach; PYOCO_STATE_DIR names another folder",
        )
    if not running.alive:
        file.unlink(missing_ok=True)
        print_line(f"process {running.pid} had ended already (log {running.log})")
        return
    try:
        ended = running.stop(within=timeout_sec, kill=kill)
    except PermissionError:
        raise CliError(
            f"process {running.pid} is another user's", hint="its user stops it: pyoco-server down"
        ) from None
    if not ended:
        raise CliError(
            f"process {running.pid} has not ended within {timeout_sec:g} s; it goes on stopping",
            hint="wait longer with --timeout-sec, or end it at once with --kill",
        )
    if read_background(file) == running:  # it was killed and could not
        file.unlink()
    print_line(f"stopped (process {running.pid})")


def this_background(url: str, file: Path) -> Background:
    """What the file of this process says."""
    return Background.this_process(url=url, log=str(file.with_name("pyoco-server.log").absolute()))
