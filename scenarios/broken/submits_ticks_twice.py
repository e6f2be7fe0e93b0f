"""A clockwork that submits each tick again, without an id or a key that follows from it."""

import math
from dataclasses import replace


def nameless(original):
    async def run_of(self, schedule, tick, brought=None):
        run = await original(self, schedule, tick, brought)
        return replace(run, run_id=None, idempotency_key=None)

    return run_of


def again(original):
    async def submit(self, ticks, *, now, until=math.inf):
        await original(self, ticks, now=now, until=until)
        return await original(self, ticks, now=now, until=until)

    return submit


BREAK = {
    "pyoco_server.gateway.schedules.runs:ScheduleRuns.run_of": nameless,
    "pyoco_server.gateway.schedules.runs:ScheduleRuns.submit": again,
}
