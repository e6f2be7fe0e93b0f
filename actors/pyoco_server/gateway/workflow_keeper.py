"""Keeps the flow.yaml texts of runs that wait, or go on, for longer than a text is kept."""

from __future__ import annotations

from typing import Final

from pyoco_server.gateway.read_side import ReadSide
from pyoco_server.kernel import Refusal
from pyoco_server.store.workflows import WorkflowStore

# Half of what a text is kept for beyond a run's end (`jetstream.resources`).
_OLD_SECONDS: Final = 7 * 24 * 3600.0


async def renew_workflows(reads: ReadSide, workflows: WorkflowStore) -> int:
    """Write the texts again that runs brought which have not ended, a week after they were; return how many.

    Raises:
        BridgeError: NATS refused or could not be asked.
    """
    try:
        live = await reads.live_workflows()
    except Refusal:
        return 0  # the next time
    return sum([await workflows.renew(sha256, older_than=_OLD_SECONDS) for sha256 in live])
