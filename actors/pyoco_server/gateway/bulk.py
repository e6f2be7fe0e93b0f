"""Many submissions at once, each with an outcome of its own."""

from __future__ import annotations

from collections.abc import Sequence

import trio

from pyoco_server.gateway.submitter import Accepted, NewRun, Submit
from pyoco_server.kernel import ActorDown, ActorRef, AskExpired, Refusal


async def submit_all(
    submitter: ActorRef[Submit], runs: Sequence[NewRun], *, within: float
) -> list[Accepted | Exception]:
    """Submit all runs through the submitter, which works on as many at once as it has room for.

    Cancelled, some of them may be accepted.

    Args:
        submitter: The actor.
        runs: What to submit.
        within: Seconds for each, from the start.

    Returns:
        The outcomes, in the order of ``runs``: what was accepted, or a `Refusal`, `ActorDown` or
        `AskExpired`.
    """
    outcomes: dict[int, Accepted | Exception] = {}

    async def submit(index: int, run: NewRun) -> None:
        try:
            outcomes[index] = await submitter.ask(Submit(run), within=within)
        except (Refusal, ActorDown, AskExpired) as error:
            outcomes[index] = error

    async with trio.open_nursery() as nursery:
        for index, run in enumerate(runs):
            nursery.start_soon(submit, index, run)
    return [outcomes[index] for index in range(len(runs))]
