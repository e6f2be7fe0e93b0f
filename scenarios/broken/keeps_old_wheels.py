"""A worker that keeps the wheel of a package that it has, as 0.5.1 kept its modules."""


def stale(original):
    async def unpacked(self, found, now):
        for have in self._have.values():
            if have.wheel.name.package == found.wheel.name.package:
                return have
        return await original(self, found, now)

    return unpacked


BREAK = {"pyoco_server.worker.wheel_syncer:WheelSyncer._unpacked": stale}
