"""A canceller that crashes when it is asked for the same reason a third time."""


def crash_on_the_third_friday(handle):
    async def broken(self, message):
        self.__dict__.setdefault("asked", []).append(message.reason)
        if self.asked.count("friday") == 3:
            raise ZeroDivisionError("the third friday")
        await handle(self, message)

    return broken


BREAK = {"pyoco_server.gateway.canceller:Canceller.handle": crash_on_the_third_friday}
