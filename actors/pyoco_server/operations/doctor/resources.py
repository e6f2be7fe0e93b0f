"""Checks of streams and buckets: whether they are there, with which settings and on how many servers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Any, Final

from pyoco_server.jetstream.errors import BridgeError
from pyoco_server.jetstream.inventory import StreamInfo, stream_info
from pyoco_server.jetstream.resources import expected_streams
from pyoco_server.model.counted import counted
from pyoco_server.operations.doctor.finding import Finding, Severity
from pyoco_server.operations.doctor.look import Look
from pyoco_server.operations.ours import FIXED, differences

# Without the first ones what the stream is for does not work; the next ones an operator may well have
# changed; with another value of anything else it works otherwise than the settings say.
_SEVERITIES: Final = {
    **dict.fromkeys(("subjects", "retention"), Severity.ERROR),
    **dict.fromkeys(("max_msgs", "max_bytes", "discard"), Severity.INFO),
}


async def check_resources(look: Look) -> list[Finding]:
    """Compare what is there with what the settings make."""
    findings: list[Finding] = []
    for config in expected_streams(look.settings):
        name = str(config["name"])
        found = look.streams.get(name)
        if found is None:
            findings.append(await _absent(look, name))
        else:
            findings += [*_differences(found, config), *_few_replicas(found, config)]
    return [*findings, *_lost_nodes(look)]


async def _absent(look: Look, name: str) -> Finding:
    try:
        missing = await stream_info(look.connection, name) is None
    except BridgeError:
        missing = False
    if missing:
        return Finding(
            check="resources.missing",
            severity=Severity.ERROR,
            what=f"{name} does not exist",
            where=name,
            advice="start a gateway, which makes it: pyoco-server up",
        )
    return Finding(
        check="resources.leader",
        severity=Severity.ERROR,
        what=f"{name} does not answer: fewer than half of its replicas are there",
        where=name,
        advice="bring the lost NATS nodes back",
    )


def _differences(found: StreamInfo, config: dict[str, Any]) -> Iterator[Finding]:
    for key, (is_now, wanted) in differences(found, config).items():
        yield Finding(
            check="resources.settings",
            severity=_SEVERITIES.get(key, Severity.WARNING),
            what=f"{key} is {_shown(key, is_now)}, not {_shown(key, wanted)} as the settings say",
            where=found.name,
            advice="JetStream cannot change it any more: use another name for it"
            if key in FIXED
            else "pyoco-server admin migrate --settings brings it up to date",
        )


def _shown(key: str, value: Any) -> str:
    return f"{(value or 0) / 1e9:g} s" if key == "max_age" else repr(value)


def _few_replicas(found: StreamInfo, config: dict[str, Any]) -> Iterator[Finding]:
    wanted = int(config["num_replicas"])
    if found.replicas < wanted:
        yield Finding(
            check="resources.replicas",
            severity=Severity.WARNING,
            what=f"{counted(found.replicas, 'copy', 'copies')}, "
            f"not {wanted} as PYOCO_JETSTREAM_REPLICAS says",
            where=found.name,
            advice=f"pyoco-server admin migrate --replicas {wanted}",
        )


def _lost_nodes(look: Look) -> Iterator[Finding]:
    lost: defaultdict[str, list[str]] = defaultdict(list)
    behind: defaultdict[str, list[str]] = defaultdict(list)
    for stream, peer in look.peers():
        if peer.lost:
            lost[peer.name].append(stream.name)
        elif not peer.current:
            behind[peer.name].append(stream.name)
    for name, streams in lost.items():
        yield Finding(
            check="resources.lost_node",
            severity=Severity.ERROR,
            what=f"NATS node {name} is lost; it holds copies of {counted(len(streams), 'stream')}",
            where=name,
            advice="bring it back; one more lost node of three, and nothing can be stored",
        )
    for name, streams in behind.items():
        yield Finding(
            check="resources.behind",
            severity=Severity.WARNING,
            what=f"NATS node {name} has not caught up with {', '.join(sorted(streams))}",
            where=name,
            advice="wait; when it stays so, look at that node's log",
        )
