"""Checks of the gateway, over HTTP as a client sees it, and of what is open without a key."""

from __future__ import annotations

from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from typing import Any

import httpx
import trio
from prometheus_client.parser import text_string_to_metric_families

from pyoco_server.client.wire import made
from pyoco_server.node import read_greeting
from pyoco_server.operations.doctor.finding import Finding, Severity
from pyoco_server.operations.doctor.look import Look
from pyoco_server.operations.doctor.machine import is_remote, listens_for_everybody
from pyoco_server.settings import Settings
from pyoco_server.settings.environment import without_user

_ANSWER_SECONDS = 5.0
_LAG = "pyoco_projector_lag"
_MUCH_LAG = 1000
_CLOCK_SECONDS = 3.0
_WELL = ("ready", "ok")
"""What `/health/ready` and `/health` say of a gateway that is."""


async def check_gateway(server: str, key_header: dict[str, str]) -> list[Finding]:
    """Ask the gateway whether it is ready, how far its read model is, and whether it asks for keys."""
    try:
        async with made(httpx.AsyncClient, server, timeout=_ANSWER_SECONDS) as client:
            answer = await client.get("/health/ready")
            if answer.status_code == 404:  # 0.5.1 has no such route
                answer = await client.get("/health")
            metrics = await client.get("/metrics", headers=key_header)
            unkeyed = await client.get("/runs/doctor")
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        return [_unreachable(server, error)]
    return [*_readiness(server, answer), *_lag(server, metrics), *_open(server, unkeyed)]


def _unreachable(server: str, error: Exception) -> Finding:
    what, advice = "no gateway answers", "start one (pyoco-server up), or name it with --server"
    if isinstance(error, httpx.ProxyError):
        what = "it cannot be asked through a proxy"
        advice = "name a proxy such as http://127.0.0.1:3128 in the environment, or none"
    return Finding(
        check="gateway.unreachable",
        severity=Severity.ERROR,
        what=f"{what}: {str(error) or type(error).__name__}",
        where=server,
        advice=advice,
    )


def _readiness(server: str, answer: httpx.Response) -> Iterator[Finding]:
    told = _object_of(answer)
    if answer.status_code != 200 or told.get("status") not in _WELL:
        reasons = told.get("reasons") or []
        yield Finding(
            check="gateway.not_ready",
            severity=Severity.ERROR,
            what="it is not ready: " + ("; ".join(map(str, reasons)) or answer.text[:200]),
            where=server,
            advice="mend what it names; it goes on by itself then",
        )


def _lag(server: str, answer: httpx.Response) -> Iterator[Finding]:
    if answer.status_code != 200:
        return
    try:
        families = list(text_string_to_metric_families(answer.text))
    except ValueError:  # what answers there is no gateway, which its readiness tells
        return
    for family in families:
        for sample in family.samples:
            if sample.name == _LAG and sample.value > _MUCH_LAG:
                yield Finding(
                    check="gateway.lag",
                    severity=Severity.WARNING,
                    what=f"its lists are {sample.value:.0f} changes behind what is stored",
                    where=server,
                    advice="wait; when it stays so, look at its log: its disk may be full or slow",
                )


def _open(server: str, unkeyed: httpx.Response) -> Iterator[Finding]:
    reached = listens_for_everybody(server) or is_remote(server)
    # No run is called that. What else is answered is not the gateway's: a proxy's, or a login page.
    if reached and _object_of(unkeyed).get("detail") == "run not found":
        yield Finding(
            check="gateway.open",
            severity=Severity.ERROR,
            what="other machines reach it, and it asks nobody for a key",
            where=server,
            advice="set PYOCO_HTTP_AUTH_MODE=api_key, or let it listen on 127.0.0.1 only",
        )


def _object_of(answer: httpx.Response) -> dict[str, Any]:
    """The JSON object that was answered; an empty one where it was something else."""
    try:
        body: Any = answer.json()
    except (ValueError, RecursionError):
        return {}
    return body if isinstance(body, dict) else {}


async def check_gateway_clock(server: str, look: Look) -> list[Finding]:
    """Compare the gateway's clock, which its answers tell, with that of NATS."""
    try:
        async with made(httpx.AsyncClient, server, timeout=_ANSWER_SECONDS) as client:
            asked = look.connection.clock.now()
            told = (await client.get("/health")).headers.get("date")
        shown = None if told is None else parsedate_to_datetime(told).timestamp()
    except (httpx.HTTPError, httpx.InvalidURL, ValueError):
        return []
    # It is told in whole seconds.
    if shown is None or asked - _CLOCK_SECONDS < shown < asked + _ANSWER_SECONDS:
        return []
    return [
        Finding(
            check="gateway.clock",
            severity=Severity.WARNING,
            what=f"its clock differs from that of NATS by {shown - asked:+.0f} s",
            where=server,
            advice="synchronise its clock (NTP): schedules go by that of NATS, its logs and the expiry of "
            "API keys by its own",
        )
    ]


async def check_nats_open(settings: Settings) -> list[Finding]:
    """Look whether other machines reach NATS without a password."""
    findings = []
    for url in settings.nats_url.split(","):
        plain = url if "://" in url else f"nats://{url}"
        if not (is_remote(plain) or listens_for_everybody(plain)):
            continue
        with trio.move_on_after(_ANSWER_SECONDS):
            greeting = await read_greeting(plain)
            if greeting is not None and not greeting.auth_required and not greeting.tls_verify:
                findings.append(
                    Finding(
                        check="nats.open",
                        severity=Severity.ERROR,
                        what="other machines reach NATS, and it asks nobody for a password",
                        where=without_user(url),
                        advice="give it users (PYOCO_NATS_USER, PYOCO_NATS_PASSWORD), or let it listen on "
                        "127.0.0.1 only: whoever reaches it can make workers execute code",
                    )
                )
    return findings
