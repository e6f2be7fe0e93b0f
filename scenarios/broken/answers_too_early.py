"""A gateway that answers before the job is queued."""

import trio


def break_submitter(submitter):
    original = submitter.Submitter._enqueue

    async def enqueue(self, *args, **options):
        async def later():
            await trio.sleep(0.5)
            await original(self, *args, **options)

        self.spawn(later)

    submitter.Submitter._enqueue = enqueue


BREAK = {"pyoco_server.gateway.submitter": break_submitter}
