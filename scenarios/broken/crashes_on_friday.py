"""A canceller that crashes when it is asked for the same reason a third time."""


def break_handle(canceller):
    handle = canceller.Canceller.handle

    async def broken(self, message):
        self.__dict__.setdefault("asked", []).append(message.reason)
        if self.asked.count("friday") == 3:
            raise ZeroDivisionError("the third friday")
        await handle(self, message)

    canceller.Canceller.handle = broken


BREAK = {"pyoco_server.gateway.canceller": break_handle}
