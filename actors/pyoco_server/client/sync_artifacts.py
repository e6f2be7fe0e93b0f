"""What runs saved: the part of the blocking client that fetches it.

It stands apart only for its length; `PyocoHttpClient` is what programs use.
"""

from __future__ import annotations

import time
from typing import BinaryIO, TypeVar

import httpx

from pyoco_server.client import artifacts
from pyoco_server.client.artifacts import Download
from pyoco_server.client.problem import HttpProblem
from pyoco_server.client.requests import Call, Document
from pyoco_server.client.retry import RetryPolicy
from pyoco_server.client.wire import request_arguments

T = TypeVar("T")


class ArtifactCalls:
    """Methods of `PyocoHttpClient`, which has the ways to the gateway that they use."""

    _client: httpx.Client
    _timeout_seconds: float
    _retry: RetryPolicy

    def _run(self, call: Call[T]) -> T:
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
        download = Download(name, to)
        failures = 0
        while True:
            call = artifacts.get_artifact(run_id, name, download.size)
            try:
                self._fetch(call, download)
            except httpx.HTTPError as error:
                failures += 1
                pause = self._retry.pause(call, error, failures)
                if pause is None:
                    raise
            else:
                return download.end()
            time.sleep(pause)

    def _fetch(self, call: Call[bytes], download: Download) -> None:
        request = self._client.build_request(**request_arguments(call, self._timeout_seconds))
        response = self._client.send(request, stream=True)
        try:
            if not response.is_success:
                response.read()
                raise HttpProblem.of(response)
            download.begin(response.status_code, response.headers.get("etag"))
            for piece in response.iter_raw():
                download.take(piece)
        finally:
            response.close()
