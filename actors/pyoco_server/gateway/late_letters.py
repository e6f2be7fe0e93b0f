"""Dead letters that are still to come: a run is FAILED some milliseconds before its letter is stored.

The end of a run waits for nothing, so whoever asks for letters does.
"""

from __future__ import annotations

from collections import deque
from typing import Final

import trio

from pyoco_server.gateway.read_model.filters import RunFilter
from pyoco_server.gateway.read_model.model import NotReadable
from pyoco_server.gateway.read_model.queries import SearchTooWide
from pyoco_server.gateway.read_side import ReadSide, note_stale
from pyoco_server.model.run import RunStatus
from pyoco_server.store.dead_letters import DeadLetterStore

# For how long after an end its letter may be on its way; later it does not come any more, or is late as told.
_LATE_SECONDS: Final = 2.0
_PATIENCE_SECONDS: Final = 1.0
_LOOK_SECONDS: Final = 0.02
# Behind an end that is so recent, a letter was not stored before this.
_CLOCKS_SECONDS: Final = 5.0
_MOST: Final = 200


class LateLetters:
    """Waits for them, a second at most; what takes longer is noted in `freshness`.

    Args:
        written: Whether workers write a letter of each run that FAILED. Where they don't, none is waited for.
    """

    def __init__(self, letters: DeadLetterStore, reads: ReadSide, *, written: bool) -> None:
        self._letters = letters
        self._reads = reads
        self._written = written
        # Runs whose letters were stored; they may be gone again.
        self._stored: deque[str] = deque(maxlen=2 * _MOST)

    async def of_all(self, tenant_id: str | None, tag: str | None, run_id: str | None) -> None:
        """Wait for the letters of what FAILED lately, of a tenant, a tag, a run, or of all.

        Raises:
            BridgeError: NATS is away, or could not be asked.
        """
        if not self._written:
            return
        now = self._reads.now()
        failed = RunFilter(
            statuses=(RunStatus.FAILED,),
            tenant=tenant_id,
            tag=tag,
            updated_after=now - _LATE_SECONDS - _CLOCKS_SECONDS,
        )
        try:
            rows = (await self._reads.list_runs(failed, None, _MOST)).rows
        except (NotReadable, SearchTooWide):
            note_stale()
            return
        await self._wait(
            {
                row.run_id
                for row in rows
                if run_id in (None, row.run_id) and now - row.stored_at < _LATE_SECONDS
            }
        )

    async def of_run(self, run_id: str, ended_at: float) -> None:
        """Wait for the letter of a run that FAILED then, in unix seconds by the server's clock.

        Raises:
            BridgeError: NATS could not be asked.
        """
        if self._written and self._reads.now() - ended_at < _LATE_SECONDS:
            await self._wait({run_id})

    async def _wait(self, run_ids: set[str]) -> None:
        missing = run_ids.difference(self._stored)
        with trio.move_on_after(_PATIENCE_SECONDS) as waiting:
            while missing:
                missing -= await self._found(missing)
                if missing:
                    await trio.sleep(_LOOK_SECONDS)
        if waiting.cancelled_caught:
            note_stale()

    async def _found(self, run_ids: set[str]) -> set[str]:
        page = await self._letters.page(
            lambda letter: letter.run_id in run_ids,
            before=None,
            limit=len(run_ids),
            not_before=self._reads.now() - _LATE_SECONDS - _CLOCKS_SECONDS,
        )
        found = {stored.letter.run_id for stored in page.items if stored.letter.run_id is not None}
        self._stored.extend(found)
        return found
