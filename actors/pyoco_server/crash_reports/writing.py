"""Writes down what an actor was sent when it dies, so that the crash can be replayed in a test."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final

import structlog
import trio

from pyoco_server.crash_reports.message_log import MessageLog, Recorder

log = structlog.get_logger(__name__)

# Of one incarnation; they are held for as long as it lives.
_MESSAGES: Final = 200
_WAITING: Final = 16
# A crash that comes back for days must not fill the disk.
_MOST_FILES: Final = 100
_LAST_SECONDS: Final = 5.0


@asynccontextmanager
async def open_crash_reports(folder: Path) -> AsyncIterator[Recorder]:
    """Record for the length of the block; give the tap for the tree.

    Each death of an actor becomes a file of ``folder``, readable by its owner only, at most a hundred in
    all. Leaving the block, also by cancellation, writes what is left, for at most five seconds.
    """
    send, receive = trio.open_memory_channel[MessageLog](_WAITING)

    def on_death(death: MessageLog) -> None:
        try:
            send.send_nowait(death)
        except (trio.WouldBlock, trio.ClosedResourceError):
            log.warning("crash not recorded: too many at once", actor=death.path)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(_write_all, receive, folder)
        with send:
            yield Recorder(on_death, most=_MESSAGES)


async def _write_all(receive: trio.MemoryReceiveChannel[MessageLog], folder: Path) -> None:
    try:
        async for death in receive:
            await _write_one(death, folder)
    finally:
        with (
            trio.move_on_after(_LAST_SECONDS, shield=True),
            suppress(trio.WouldBlock, trio.EndOfChannel),
        ):
            while True:
                await _write_one(receive.receive_nowait(), folder)


async def _write_one(death: MessageLog, folder: Path) -> None:
    try:
        # Not given up half-way: the thread would go on anyhow.
        path = await trio.to_thread.run_sync(_write, death, folder)
    except Exception as error:  # noqa: BLE001 - what it reports on goes on
        log.warning("crash not recorded", actor=death.path, reason=str(error))
    else:
        log.error("crash recorded", actor=death.path, reason=death.ended, file=str(path))


def _write(death: MessageLog, folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    if len(list(folder.glob("*.json"))) >= _MOST_FILES:
        raise OSError(f"{folder} holds {_MOST_FILES} crashes already; take some away")
    name = death.path.strip("/").replace("/", "-") or "root"
    path = (
        folder
        / f"{name}-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{secrets.token_hex(2)}.json"
    )
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(death.encode())
    return path
