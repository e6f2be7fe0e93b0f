"""Ports for servers that tests start."""

from __future__ import annotations

import itertools
import os
import random
import socket

# Below those that the system gives to outgoing connections (Linux: from 32768), which could take one
# between the look and the start of the server. Each process of pytest-xdist has a share of its own.
_FIRST, _SHARE, _SHARES = 12_000, 2_000, 10
_worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % _SHARES
_start = random.randrange(_SHARE)
_offsets = itertools.count(_start)


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on; another one with each call."""
    for _ in range(_SHARE):
        port = _FIRST + _worker * _SHARE + next(_offsets) % _SHARE
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
    raise RuntimeError("no port is free")
