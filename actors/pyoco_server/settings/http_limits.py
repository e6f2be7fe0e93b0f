"""What one client may take of the HTTP gateway, each limit declared once."""

from __future__ import annotations

from typing import Annotated

import msgspec

from pyoco_server.settings.environment import Env
from pyoco_server.settings.readers import (
    FLAG,
    HOSTS,
    NETWORKS,
    POSITIVE,
    ROOT_PATH,
    Network,
    count,
    networks_in,
    pattern,
)


class HttpLimits(msgspec.Struct, frozen=True, kw_only=True):
    """Limits of the gateway. Durations are seconds, sizes are bytes."""

    http_insecure_bind: Annotated[
        bool, Env(FLAG, "Whether others may reach a gateway that asks for no API keys.")
    ] = False
    http_allowed_hosts: Annotated[
        str,
        Env(
            HOSTS,
            "Names beside localhost by which a gateway that asks for no API keys may be called. Where none "
            "is listed, one that listens beyond this machine answers to any.",
        ),
    ] = ""
    http_root_path: Annotated[
        str,
        Env(
            pattern(f"{ROOT_PATH}/?", "a path such as /pyoco"),
            "Path of the gateway below its host, behind a proxy; requests may come with it or without.",
        ),
    ] = ""
    http_trusted_proxies: Annotated[
        str,
        Env(
            NETWORKS,
            "Proxies whose X-Forwarded-Prefix is that path, over what is set; nobody else's is believed.",
        ),
    ] = ""
    http_max_connections: Annotated[int, Env(count(1), "Connections at the same time at most.")] = (
        4096
    )
    http_max_streams: Annotated[
        int, Env(count(1), "Event streams and downloads at the same time at most.")
    ] = 2000
    http_max_streams_per_client: Annotated[
        int,
        Env(
            count(1),
            "Event streams and downloads of one API key, or one address where there are no keys, at most.",
        ),
    ] = 1000
    http_max_body_bytes: Annotated[
        int, Env(count(1024), "Size of a request's body at most, but for wheels.")
    ] = 4 * 1024 * 1024
    http_head_timeout_sec: Annotated[
        float,
        Env(
            POSITIVE,
            "How long the head of a request may take, and a connection be idle before one.",
        ),
    ] = 10.0
    http_body_timeout_sec: Annotated[
        float, Env(POSITIVE, "How long a body may take, and a second more for each 10 kB of it.")
    ] = 30.0
    http_send_timeout_sec: Annotated[
        float, Env(POSITIVE, "How long a client may take nothing of what it is sent.")
    ] = 60.0

    @property
    def allowed_hosts(self) -> frozenset[str]:
        """The listed names, in small letters, an address of IPv6 without its brackets."""
        names = (name.strip().strip("[]") for name in self.http_allowed_hosts.split(","))
        return frozenset(name.lower() for name in names if name)

    @property
    def root_path(self) -> str:
        """The root path without a slash at its end; empty for none."""
        return self.http_root_path.rstrip("/")

    @property
    def trusted_proxies(self) -> tuple[Network, ...]:
        """The networks of the trusted proxies."""
        return networks_in(self.http_trusted_proxies)
