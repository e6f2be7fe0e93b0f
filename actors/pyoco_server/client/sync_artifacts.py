"""What runs saved: the part of the blocking client that fetches it.

It stands apart only for its length; `PyocoHttpClient` is what programs use.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import BinaryIO, TypeVar

from pyoco_server.client import artifacts
from pyoco_server.client.requests import Call, Document

T = TypeVar("T")


class ArtifactCalls:
    """Methods of `PyocoHttpClient`, which has the ways to the gateway that they use."""

    def _run(self, call: Call[T]) -> T:
        raise NotImplementedError

    def _download(self, name: str, call_from: Callable[[int], Call[bytes]], to: BinaryIO) -> str:
        raise NotImplementedError

    def list_artifacts(self, run_id: str) -> Document:
        """Return what a run saved: ``artifacts`` with name, size and digest, and ``artifacts_refused``."""
        return self._run(artifacts.list_artifacts(run_id))

    def download_artifact(self, run_id: str, name: str, to: BinaryIO) -> str:
        """Write an artifact into an open file, piece by piece; return its SHA-256 in hex.

        A broken connection is taken up again where it broke.

        Raises:
            DamagedDownload: What came is not what was saved.
        """
        return self._download(name, lambda start: artifacts.get_artifact(run_id, name, start), to)
