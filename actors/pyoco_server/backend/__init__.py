"""The whole backend inside any trio program."""

from pyoco_server.backend.backend import Backend, NotReady, Readiness
from pyoco_server.backend.opening import open_backend

__all__ = ["Backend", "NotReady", "Readiness", "open_backend"]
