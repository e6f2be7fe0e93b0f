"""Whether a gateway may be reached by others, and the option that says so."""

from __future__ import annotations

from typing import Annotated, TypeAlias

import typer
from msgspec.structs import replace

from pyoco_cli.common.errors import CliError
from pyoco_http.server import OpenToAll, check_exposure
from pyoco_server.settings import Settings

InsecureBind: TypeAlias = Annotated[
    bool,
    typer.Option("--insecure-bind", help="Listen beyond this machine without API keys."),
]


def exposed(settings: Settings, host: str, *, insecure: bool) -> Settings:
    """The settings to serve with on ``host``.

    Args:
        settings: What is set.
        host: Where to listen.
        insecure: Whether the user insists on what would be refused.

    Raises:
        CliError: Others can reach the host, no key is asked for, and the user does not insist.
    """
    settings = replace(settings, http_insecure_bind=insecure or settings.http_insecure_bind)
    try:
        check_exposure(host, settings)
    except OpenToAll as error:
        raise CliError(
            f"--host: {error}",
            hint="set PYOCO_HTTP_AUTH_MODE=api_key (keys: pyoco-server-admin api-key create), "
            "or insist with --insecure-bind",
        ) from None
    return settings
