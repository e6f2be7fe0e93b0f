"""Children for slots, one of them made ahead, so that no slot has to wait when it needs another."""

from __future__ import annotations

from dataclasses import replace

import structlog
import trio

from pyoco_server.worker.runner.guarded import Guardian
from pyoco_server.worker.runner.handle import RunnerProcess, begin_runner, open_runner
from pyoco_server.worker.runner.options import RunnerOptions

log = structlog.get_logger(__name__)


class SpareChild:
    """One child for all slots of a worker, which has executed nothing and knows no tenant.

    There is none until one was needed for the first time: a worker that replaces no child pays for none.

    Args:
        guardian: Makes it, and any other child that is taken.
    """

    def __init__(self, guardian: Guardian) -> None:
        self._guardian = guardian
        self._runner: RunnerProcess | None = None

    def prepare(self, options: RunnerOptions) -> None:
        """Begin to make a child for whoever needs one next, if there is none; returns at once."""
        if self._runner is None:
            try:
                self._runner = begin_runner(replace(options, group=None), self._guardian)
            except OSError as error:
                # Who needs one next makes it, and says so if it cannot be made.
                log.debug("no spare child", reason=str(error))

    async def take(self, options: RunnerOptions) -> RunnerProcess:
        """Return the child that was made ahead, if it can be one with these options, or else another.

        It is the taker's now. Cancelled, it leaves no child that nobody knows of.

        Raises:
            OSError: No process can be made.
        """
        return await self._adopted(options) or await open_runner(options, self._guardian)

    async def _adopted(self, options: RunnerOptions) -> RunnerProcess | None:
        runner, self._runner = self._runner, None
        if runner is None:
            return None
        try:
            if await runner.adopt(options):
                return runner
        except OSError as error:
            log.debug("the spare child is not used", reason=str(error))
        except trio.Cancelled:
            await runner.stop(0)
            raise
        await runner.stop(0)
        return None

    async def stop(self) -> None:
        """End the child, if there is one."""
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.stop(0)
