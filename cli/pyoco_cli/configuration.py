"""Settings and start failures of the commands that run a part of the system."""

from __future__ import annotations

import gc
import os
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from pyoco_cli.common.errors import CliError, leaves
from pyoco_server.node import StoreBusy
from pyoco_server.settings import Settings, SettingsError
from pyoco_server.settings.secrets import keep_to_itself

_NEW_OBJECTS: Final = 20_000
"""So many more objects than went before it looks for cycles among them; 700 where nobody says so."""


def load_settings(
    overrides: Mapping[str, str] | None = None, defaults: Mapping[str, str] | None = None
) -> Settings:
    """The settings of the environment, with options of the command line over them.

    Args:
        overrides: Variable names and texts, as if they were set in the environment.
        defaults: The same for what is set nowhere.

    Raises:
        CliError: A variable cannot be understood; the text names each.
    """
    try:
        settings = Settings.from_env({**os.environ, **(overrides or {})}, defaults=defaults)
    except SettingsError as error:
        raise CliError(
            str(error), hint="correct the variable in the environment or in .env"
        ) from None
    for name, meant in Settings.misspelt().items():
        sys.stderr.write(f"no setting is called {name}; did you mean {meant}?\n")
    return settings


def state_folder(settings: Settings) -> Path:
    """The folder of the installation's own files, made where it is missing.

    Raises:
        CliError: It cannot be made, or not be written.
    """
    folder = Path(settings.state_dir)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise CliError(
            f"PYOCO_STATE_DIR is {settings.state_dir!r}: {error.strerror}",
            hint="name a folder that can be written",
        ) from None
    return folder


def keep_secrets() -> None:
    """Take the secrets that settings were made of out of the reach of other processes of this user.

    Not for a program that is to start itself again: it would miss them.
    """
    Settings.forget_secrets()
    keep_to_itself()


def collect_seldom() -> None:
    """Look for cycles of objects as suits a program that stays: among what is imported, never again.

    By itself, Python does it behind every 14 runs of a worker, and every third that is followed at a gateway.
    """
    gc.freeze()
    gc.set_threshold(_NEW_OBJECTS)


def start_failure(group: BaseExceptionGroup[BaseException], ports: str) -> CliError:
    """What to tell the user when a part could not start: the first cause of the group.

    Args:
        group: Why it could not.
        ports: The options that name the ports of its parts.
    """
    error = next(leaves(group))
    hint = (
        "stop it, or choose another folder: --nats-store or PYOCO_STATE_DIR"
        if isinstance(error, StoreBusy)
        else f"choose another port ({ports}), or stop what uses it"
    )
    return CliError(str(error), hint=hint)
