"""Looking now and then for what there is to tidy up; several gateways may do so at the same time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Never

import structlog
import trio

from pyoco_server.jetstream.errors import BridgeError
from pyoco_server.kernel import ChildSpec, task

log = structlog.get_logger(__name__)


def sweeper(
    name: str,
    seconds: float,
    what: str,
    sweep: Callable[[], Awaitable[int]],
    done: str = "removed what nobody needs",
) -> ChildSpec[Never]:
    """The spec of an actor that sweeps every so many seconds; where NATS is away, the next time.

    ``sweep`` does what is ``done`` with things that are called ``what`` in the log, and returns how many.
    """

    async def sweep_on() -> None:
        while True:
            await trio.sleep(seconds)
            try:
                count = await sweep()
            except BridgeError as error:
                log.info("not looked through", what=what, reason=str(error))
            else:
                if count:
                    log.info(done, what=what, count=count)

    return task(name, sweep_on)
