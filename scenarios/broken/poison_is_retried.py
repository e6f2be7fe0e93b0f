"""A worker that gives unreadable jobs back to the queue."""


def break_term(consumer):
    async def term(message, reason):
        del reason
        await message.nak(0.0)

    consumer.Message.term = term


BREAK = {"pyoco_server.jetstream.consumer": break_term}
