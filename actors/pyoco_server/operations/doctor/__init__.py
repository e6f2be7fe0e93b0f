"""The doctor: looks an installation over and says what is wrong, where, and what to do.

One module a group of checks; `finding` is what they give, `look` what they look at.
"""

from __future__ import annotations

from pyoco_server.jetstream.connection import ConnectionOptions, open_connection
from pyoco_server.jetstream.errors import BridgeError
from pyoco_server.operations.doctor.access import check_access
from pyoco_server.operations.doctor.finding import DoctorReport, Finding, Severity
from pyoco_server.operations.doctor.gateway import (
    check_gateway,
    check_gateway_clock,
    check_nats_open,
)
from pyoco_server.operations.doctor.look import look_at
from pyoco_server.operations.doctor.machine import check_disk
from pyoco_server.operations.doctor.nats import check_nats
from pyoco_server.operations.doctor.queues import check_queues
from pyoco_server.operations.doctor.resources import check_resources
from pyoco_server.operations.doctor.runs import check_runs, check_workers
from pyoco_server.operations.doctor.schedules import check_schedules
from pyoco_server.settings import Settings
from pyoco_server.settings.environment import without_user

__all__ = ["DoctorReport", "Finding", "Severity", "examine"]

_CONNECT_SECONDS = 3.0
_CHECKS = {
    "nats": check_nats,
    "resources": check_resources,
    "queues": check_queues,
    "workers": check_workers,
    "runs": check_runs,
    "schedules": check_schedules,
}


async def examine(
    settings: Settings, *, server: str | None, key_header: dict[str, str] | None = None
) -> DoctorReport:
    """Look everything over; nothing is changed.

    Args:
        settings: What is expected, and where NATS is.
        server: URL of the gateway; None leaves it out.
        key_header: The header that carries an API key.
    """
    findings = [*check_disk(settings), *await check_nats_open(settings)]
    checked = ["machine"]
    if server is not None:
        findings += await check_gateway(server, key_header or {})
        checked.append("gateway")
    try:
        options = ConnectionOptions.of(settings, name="pyoco-server-doctor")
        async with open_connection(options) as connection:
            await connection.wait_connected(within=_CONNECT_SECONDS)
            look = await look_at(connection, settings)
            for group, check in _CHECKS.items():
                findings += await check(look)
                checked.append(group)
            findings += await check_access(look)
            if server is not None:
                findings += await check_gateway_clock(server, look)
    except BridgeError as error:
        findings.append(
            Finding(
                check="nats.unreachable",
                severity=Severity.ERROR,
                what=str(error),
                where=without_user(settings.nats_url),
                advice="start NATS (pyoco-server up --with-nats-bootstrap), or set PYOCO_NATS_URL; with "
                "JetStream off, turn it on",
            )
        )
    return DoctorReport.of(findings, checked)
