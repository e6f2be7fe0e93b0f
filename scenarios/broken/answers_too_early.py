"""A gateway that answers before the job is queued, and so takes what it never queues if it dies."""

import trio


def early(original):
    async def enqueue(self, draft, stored):
        async def later():
            await trio.sleep(3)
            await original(self, draft, stored)

        trio.lowlevel.spawn_system_task(later)
        return True

    return enqueue


BREAK = {"pyoco_server.gateway.intake:Intake.enqueue": early}
