"""A worker that gives unreadable jobs back to the queue, and buries none."""


def give_back(original):
    del original

    async def refuse(self, delivery, error):
        del self, error
        await delivery.nak(0.0)

    return refuse


BREAK = {"pyoco_server.worker.dispatcher:Dispatcher._refuse": give_back}
