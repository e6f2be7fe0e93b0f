"""Ports for commands that start servers: the usual ones, or free ones where those are taken."""

from __future__ import annotations

import socket


def is_free(host: str, port: int) -> bool:
    """Whether a server could listen there now."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
        return True


def usual_or_free(host: str, port: int) -> int:
    """``port``, or 0 (the system takes a free one) where it is taken."""
    return port if is_free(host, port) else 0
