"""Gateways and their keys by name, in ``~/.config/pyoco/client.toml``.

For example::

    [default]
    server = "http://127.0.0.1:8000"

    [prod]
    server = "https://pyoco.example.org"
    api_key = "pyoco_….…"

What ranks first: an option, a profile named by ``--profile``, the environment, the profile of
``PYOCO_PROFILE``, the profile ``default``. A profile's key goes to that profile's server only.
"""

from __future__ import annotations

import os
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pyoco_cli.client.connection import DEFAULT_HEADER, GatewayAddress
from pyoco_cli.common.errors import CliError

_DEFAULT = "default"
_KEYS = ("server", "api_key", "api_key_header")
_OTHERS_MAY_READ = 0o077


def with_profile(
    given: GatewayAddress, name: str | None, sources: Mapping[str, str]
) -> GatewayAddress:
    """Fill what was not given from a profile.

    Args:
        given: What options and environment say, with defaults for the rest.
        name: The profile, if one was named.
        sources: Where each parameter is from, as Typer calls it.

    Raises:
        CliError: The file cannot be understood, or has no such profile.
    """
    path = profile_file()
    profiles = _read(path)
    if name is not None and name not in profiles:
        known = ", ".join(sorted(profiles)) or "none"
        raise CliError(
            f"there is no profile {name!r} in {path}; there are: {known}",
            hint="name one of those, or add it",
        )
    profile = profiles.get(name or _DEFAULT, {})
    # Who names a profile on the command line means that gateway, whatever the environment says.
    by_option = sources.get("profile") == "COMMANDLINE"
    firm = {"COMMANDLINE"} if by_option else {"COMMANDLINE", "ENVIRONMENT"}
    fixed = {parameter for parameter, source in sources.items() if source in firm}
    if "server" in fixed or "server" not in profile:
        return given
    if "api_key" in profile and path.stat().st_mode & _OTHERS_MAY_READ:
        sys.stderr.write(f"{path} holds a key and others may read it: chmod 600 {path}\n")
    key = given.api_key if "api_key" in fixed else profile.get("api_key")
    header = given.api_key_header
    if "api_key_header" not in fixed:
        header = profile.get("api_key_header", DEFAULT_HEADER)
    return GatewayAddress(profile["server"], key, header)


def profile_file() -> Path:
    """Where the profiles are, whether the file exists or not."""
    base = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(base) / "pyoco" / "client.toml"


def _read(path: Path) -> dict[str, dict[str, str]]:
    try:
        document: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise CliError(f"{path} cannot be read: {error}", hint=_EXAMPLE) from None
    for name, profile in document.items():
        if not isinstance(profile, dict):
            raise CliError(f"{path}: {name} is no profile", hint=_EXAMPLE)
        for key, value in profile.items():
            if key not in _KEYS or not isinstance(value, str):
                raise CliError(
                    f"{path}: profile {name} has {key}; a profile takes the texts {', '.join(_KEYS)}",
                    hint=_EXAMPLE,
                )
    return document


_EXAMPLE = 'example: [default] in one line, server = "http://127.0.0.1:8000" in the next'
