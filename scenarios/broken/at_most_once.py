"""A worker that takes a job off the queue before it has executed it."""


def break_lease(consumer):
    async def in_progress(message):
        await message.ack()

    consumer.Message.in_progress = in_progress


BREAK = {"pyoco_server.jetstream.consumer": break_lease}
