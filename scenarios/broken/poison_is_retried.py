"""A worker that gives unreadable jobs back to the queue."""


def give_back(original):
    del original

    async def term(message, reason):
        del reason
        await message.nak(0.0)

    return term


BREAK = {"pyoco_server.jetstream.consumer:Message.term": give_back}
