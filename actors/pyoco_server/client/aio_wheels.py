"""The wheel registry: the part of the trio client that is about it.

It stands apart only for its length; `AsyncPyocoHttpClient` is what programs use.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import BinaryIO, TypeVar

from pyoco_server.client import wheels
from pyoco_server.client.requests import Call, Document

T = TypeVar("T")


class AsyncWheelCalls:
    """Methods of `AsyncPyocoHttpClient`, which has the ways to the gateway that they use."""

    async def _run(self, call: Call[T]) -> T:
        raise NotImplementedError

    async def _download(
        self, name: str, call_from: Callable[[int], Call[bytes]], to: BinaryIO
    ) -> str:
        raise NotImplementedError

    async def list_wheels(self) -> list[Document]:
        """Return the wheels of the registry, by name."""
        return await self._run(wheels.list_wheels())

    async def list_wheel_history(
        self,
        *,
        limit: int | None = None,
        wheel_name: str | None = None,
        action: str | None = None,
    ) -> list[Document]:
        """Return uploads and deletions of wheels, the newest first."""
        return await self._run(
            wheels.list_wheel_history(limit=limit, wheel_name=wheel_name, action=action)
        )

    async def upload_wheel(
        self,
        *,
        filename: str,
        data: bytes | BinaryIO,
        replace: bool = True,
        tags: list[str] | None = None,
        shared: bool = False,
    ) -> Document:
        """Upload a wheel, as bytes or from an open file; without tags it is for every worker.

        Under authentication it belongs to the key's tenant, unless it is ``shared`` with all.
        """
        return await self._run(
            wheels.upload_wheel(
                filename=filename, data=data, replace=replace, tags=tags, shared=shared
            )
        )

    async def download_wheel(self, wheel_name: str, to: BinaryIO) -> str:
        """Write a wheel into an open file, piece by piece; return its SHA-256 in hex.

        A broken connection is taken up again where it broke. Writing is done in a thread.

        Raises:
            DamagedDownload: What came is not what was uploaded.
        """
        return await self._download(
            wheel_name, lambda start: wheels.get_wheel(wheel_name, start), to
        )

    async def delete_wheel(self, wheel_name: str) -> Document:
        """Delete a wheel."""
        return await self._run(wheels.delete_wheel(wheel_name))
