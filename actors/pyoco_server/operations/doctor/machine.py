"""Checks of this machine: room on its disk, and what listens on it for everybody."""

from __future__ import annotations

import shutil
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

from pyoco_server.operations.doctor.finding import Finding, Severity
from pyoco_server.settings import Settings

_LITTLE_BYTES = 1 << 30
_LITTLE = 0.05
_NONE = 0.01
_LISTENS = "0A"
_ANY = {"00000000", "0" * 32}


def check_disk(settings: Settings) -> list[Finding]:
    """Look at the disk that holds the state folder, and an embedded node's data with it."""
    state = Path(settings.state_dir).absolute()
    for folder in (state, *state.parents):
        with suppress(OSError):  # it is not there, or one may not enter the folder above it
            usage = shutil.disk_usage(folder)
            return disk_findings(folder, usage.total, usage.free)
    return []


def disk_findings(folder: Path, total: int, free: int) -> list[Finding]:
    """Judge the room on a disk."""
    if free > min(_LITTLE_BYTES, _LITTLE * total):
        return []
    return [
        Finding(
            check="machine.disk",
            severity=Severity.ERROR if free < _NONE * total else Severity.WARNING,
            what=f"{free / 1e6:.0f} MB of {total / 1e6:.0f} MB are free",
            where=str(folder),
            advice="make room; NATS refuses to store when the disk is full",
        )
    ]


def listens_for_everybody(url: str) -> bool:
    """Whether the port of a URL of this machine is open on all its addresses."""
    parts = urlsplit(url)
    if parts.hostname not in {"127.0.0.1", "localhost", "::1"} or parts.port is None:
        return False
    return parts.port in _open_ports()


def is_remote(url: str) -> bool:
    """Whether a URL names another machine, or this one by an address that others reach."""
    host = urlsplit(url).hostname or ""
    return not (host in {"localhost", "::1"} or host.startswith("127."))


def _open_ports() -> set[int]:
    """Ports that something listens on for every address; see proc(5), /proc/net/tcp."""
    ports = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            lines = Path(table).read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            _, local, _, state = line.split()[:4]
            address, _, port = local.partition(":")
            if state == _LISTENS and address in _ANY:
                ports.add(int(port, 16))
    return ports
