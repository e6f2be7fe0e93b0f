"""A gateway behind a proxy: below which path of its host its clients see it."""

from __future__ import annotations

import ipaddress
import re
from typing import Final

from pyoco_http.call import Call
from pyoco_server.settings import Settings
from pyoco_server.settings.readers import ROOT_PATH

_HEADER: Final = b"x-forwarded-prefix"
_PREFIX: Final = re.compile(ROOT_PATH)


class Proxies:
    """The proxies of one gateway.

    Args:
        settings: The path, and which proxies are believed.
    """

    def __init__(self, settings: Settings) -> None:
        self._root = settings.root_path
        self._trusted = settings.trusted_proxies

    def root_of(self, call: Call) -> str:
        """The path of a call's gateway, such as ``/pyoco``; empty where it is not known to be below one.

        ``X-Forwarded-Prefix`` is believed of trusted proxies only: with it anybody else could have a page
        load its scripts from elsewhere. Of several proxies each adds the part that it takes off.
        """
        told = [value.decode("latin-1") for name, value in call.headers if name == _HEADER]
        if told and self._trusts(call.remote_addr):
            parts = [part.strip().rstrip("/") for value in told for part in value.split(",")]
            if all(map(_PREFIX.fullmatch, parts)):
                return "".join(parts)
        return self._root

    def _trusts(self, address: str | None) -> bool:
        try:
            peer = ipaddress.ip_address(address or "")
        except ValueError:
            return False
        return any(peer in network for network in self._trusted)


def below(root: bytes, target: bytes) -> bytes:
    """The target of a request without the root path, which a proxy may have left there."""
    if not root or not target.startswith(root):
        return target
    rest = target[len(root) :]
    return rest if rest.startswith(b"/") else b"/" + rest if rest[:1] in {b"", b"?"} else target
