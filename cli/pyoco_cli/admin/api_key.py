"""`pyoco-server-admin api-key`: make, list and revoke API keys."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Annotated, Any, TypeVar

import trio
import typer
from msgspec.structs import replace

from pyoco_cli.client.app import OutputOption, show
from pyoco_cli.common.errors import CliError
from pyoco_cli.common.moments import span
from pyoco_cli.configuration import load_settings
from pyoco_server.jetstream.connection import ConnectionOptions, open_connection
from pyoco_server.jetstream.errors import BridgeError
from pyoco_server.jetstream.keyvalue import KeyValue
from pyoco_server.jetstream.resources import ensure_resources
from pyoco_server.logs import configure_logging
from pyoco_server.model.api_key import (
    ALL_ROLES,
    ApiKeyRecord,
    MalformedApiKey,
    Role,
    UnreadableKey,
    check_key_id,
    new_key,
)
from pyoco_server.model.errors import ErrorId
from pyoco_server.settings import Settings
from pyoco_server.store.api_keys import KeyRecords

T = TypeVar("T")

_COLUMNS = ("key_id", "tenant_id", "roles", "created_at", "expires_at", "revoked_at")
_UNKNOWN_KEY = 2
_CONNECT_SECONDS = 5.0
_LIST_SECONDS = 30.0


def create(
    context: typer.Context,
    tenant: Annotated[str, typer.Option(help="Whose key it is: [A-Za-z0-9_-]{1,64}.")],
    role: Annotated[
        list[Role] | None,
        typer.Option(help="What it may do beyond reading; repeatable. All when left out."),
    ] = None,
    read_only: Annotated[bool, typer.Option("--read-only", help="It may only read.")] = False,
    expires: Annotated[
        str | None, typer.Option(help="When it ends: 12h, 30d, or 2027-01-31T00:00:00+00:00.")
    ] = None,
    output: OutputOption = None,
) -> None:
    """Make a key. Its text is printed this once and stored nowhere."""
    settings = _settings(context)
    if read_only and role:
        raise CliError("--read-only and --role contradict each other", hint="leave one of them out")
    now = time.time()
    roles = frozenset[Role]() if read_only else frozenset(role or ALL_ROLES)
    try:
        text, record = new_key(
            tenant,
            now=now,
            pepper=settings.auth_pepper,
            roles=roles,
            expires_at=_expiry(expires, now),
        )
    except MalformedApiKey as error:
        raise CliError(f"--tenant: {error}") from None
    _with_records(settings, lambda records: records.create(record))
    shown = _shown(record)
    del shown["revoked_at"]
    show({**shown, "api_key": text}, output, "key_panel")


def list_keys(context: typer.Context, output: OutputOption = None) -> None:
    """List all keys, the newest first; what is listed is not enough to use them."""

    async def read(records: KeyRecords) -> list[dict[str, Any]]:
        with trio.fail_after(_LIST_SECONDS):
            return [_shown(record) for record in await records.all()]

    show(_with_records(_settings(context), read), output, "keys_table", columns=_COLUMNS)


def revoke(
    context: typer.Context,
    key_id: Annotated[str, typer.Option(help="Id of the key, as create and list print it.")],
    output: OutputOption = None,
) -> None:
    """Revoke a key: gateways refuse it at once and end what it has open."""
    settings = _settings(context)
    try:
        check_key_id(key_id)
    except MalformedApiKey:
        record = None  # no key can have this id
    else:
        record = _with_records(settings, lambda records: records.revoke(key_id, now=time.time()))
    if record is None:
        show({"error": "not_found", "key_id": key_id}, output)
        raise typer.Exit(_UNKNOWN_KEY)
    show({"key_id": key_id, "revoked_at": record.revoked_at}, output)


def _settings(context: typer.Context) -> Settings:
    nats_url: str | None = context.obj
    settings = load_settings({} if nats_url is None else {"PYOCO_NATS_URL": nats_url})
    quiet = replace(settings, log_level="ERROR", log_format="text")
    configure_logging(service="pyoco-server:admin", settings=quiet)
    return settings


def _with_records(settings: Settings, work: Callable[[KeyRecords], Awaitable[T]]) -> T:
    async def connected() -> T:
        options = ConnectionOptions.of(settings, name="pyoco-server-admin")
        async with open_connection(options) as connection:
            await connection.wait_connected(within=_CONNECT_SECONDS)
            await ensure_resources(connection, settings)
            return await work(KeyRecords(KeyValue(connection, settings.auth_kv_bucket)))

    try:
        return trio.run(connected)
    except (BridgeError, trio.TooSlowError) as error:
        raise CliError(
            str(error) or type(error).__name__,
            hint="check --nats-url (or PYOCO_NATS_URL), and that NATS runs there with JetStream",
            error_id=ErrorId.NATS_UNAVAILABLE,
        ) from None
    except UnreadableKey as error:
        raise CliError(str(error), error_id=ErrorId.INVALID_INPUT) from None


def _expiry(text: str | None, now: float) -> float | None:
    if text is None:
        return None
    if (seconds := span(text.strip())) is not None:
        return now + seconds
    try:
        at = datetime.fromisoformat(text.strip()).astimezone().timestamp()
    except (ValueError, OverflowError):
        raise CliError(
            f"--expires is {text[:80]!r}: takes a duration such as 12h or 30d, or an ISO 8601 time"
        ) from None
    if at <= now:
        raise CliError(f"--expires is {text[:80]!r}, which has passed")
    return at


def _shown(record: ApiKeyRecord) -> dict[str, Any]:
    return {
        "key_id": record.key_id,
        "tenant_id": record.tenant_id,
        "roles": sorted(record.principal.roles),
        "created_at": record.created_at,
        "expires_at": record.expires_at,
        "revoked_at": record.revoked_at,
    }
