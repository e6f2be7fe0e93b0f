"""Looking now and then for what nobody needs any more; several gateways may do so at the same time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import structlog
import trio

from pyoco_server.jetstream.errors import BridgeError

log = structlog.get_logger(__name__)


async def sweep_every(seconds: float, what: str, sweep: Callable[[], Awaitable[int]]) -> None:
    """Sweep at intervals, for as long as it is not cancelled; where NATS is away, the next time.

    Args:
        seconds: How long to wait before each time.
        what: What is removed, for the log.
        sweep: Removes it, and returns how many.
    """
    while True:
        await trio.sleep(seconds)
        try:
            removed = await sweep()
        except BridgeError as error:
            log.info("not looked through", what=what, reason=str(error))
        else:
            if removed:
                log.info("removed what nobody needs", what=what, count=removed)
