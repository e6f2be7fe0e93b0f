"""A connection that is not made again after it was lost, as with a client library that gives up."""

import trio


def break_connection(connection):
    original = connection.Connection._run_session

    async def run_session(self, url):
        if self.epoch > 0:
            await trio.sleep_forever()
        return await original(self, url)

    connection.Connection._run_session = run_session


BREAK = {"pyoco_server.jetstream.connection": break_connection}
