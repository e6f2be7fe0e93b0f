"""A worker that takes a job off the queue before it has executed it."""


def ack_at_once(original):
    del original

    async def in_progress(message):
        await message.ack()

    return in_progress


BREAK = {"pyoco_server.jetstream.consumer:Message.in_progress": ack_at_once}
