"""The way to NATS for commands that ask it directly, without a gateway."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import trio

from pyoco_cli.common.errors import CliError
from pyoco_cli.configuration import load_settings
from pyoco_server.jetstream.connection import Connection, ConnectionOptions, open_connection
from pyoco_server.jetstream.errors import BridgeError, Unavailable
from pyoco_server.logs import configure_logging
from pyoco_server.model.errors import ErrorId
from pyoco_server.settings import Settings

T = TypeVar("T")

_CONNECT_SECONDS = 10.0


def operator_settings(nats_url: str | None = None) -> Settings:
    """The settings of a command for operators; its log says errors only, on stderr.

    Raises:
        CliError: A variable cannot be understood.
    """
    overrides = {"PYOCO_LOG_LEVEL": "error", "PYOCO_LOG_FORMAT": "text"}
    if nats_url is not None:
        overrides["PYOCO_NATS_URL"] = nats_url
    settings = load_settings(overrides)
    configure_logging(service="pyoco-server:http", settings=settings)
    return settings


def with_nats(
    settings: Settings,
    work: Callable[[Connection, Settings], Awaitable[T]],
    *,
    within: float = _CONNECT_SECONDS,
) -> T:
    """Do something with a connection that is up.

    Args:
        settings: Where NATS is.
        work: What is done.
        within: Seconds that NATS may take until it is reached.

    Raises:
        CliError: NATS is not reached, or refused something or went away meanwhile.
    """

    async def connected() -> T:
        options = ConnectionOptions.of(settings, name="pyoco-server-operator")
        async with open_connection(options) as connection:
            await connection.wait_connected(within=within)
            return await work(connection, settings)

    try:
        return trio.run(connected)
    except Unavailable as error:
        raise CliError(
            str(error),
            hint="check PYOCO_NATS_URL (or --nats-url), or start one: pyoco-server up --with-nats-bootstrap",
            error_id=ErrorId.NATS_UNAVAILABLE,
        ) from None
    except BridgeError as error:
        raise CliError(
            str(error),
            hint="look at it with: pyoco-server doctor",
            error_id=ErrorId.NATS_UNAVAILABLE,
        ) from None
