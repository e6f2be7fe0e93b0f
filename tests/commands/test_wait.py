"""Commands that wait for a run whose end one gateway has told, and of which another one does not know yet."""

from __future__ import annotations

from functools import partial

import httpx
import pytest

from commands.calling import caught
from http_api.test_wait_run import told
from pyoco_cli.client import main
from pyoco_server.client import PyocoHttpClient

RUN = "01890a5d-ac96-774b-bcce-b302099a8057"
STREAMS = {"watch": told("COMPLETED"), "events": b"event: end\ndata: {}\n\n"}


@pytest.mark.parametrize(
    "line",
    [
        ("wait", RUN),
        ("submit", "--wait"),
        ("submit", "--follow", "--output", "json"),
        ("submit", "--follow", "--output", "table", "--wait-timeout-sec", "60"),
    ],
)
def test_the_exit_code_is_that_of_the_end(
    line: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    behind: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        stream = STREAMS.get(request.url.path.rpartition("/")[2])
        if stream is not None:
            behind[:] = ["RUNNING"]
            return httpx.Response(
                200, content=stream, headers={"Content-Type": "text/event-stream"}
            )
        status = behind.pop() if behind else "COMPLETED"
        return httpx.Response(200, json={"run_id": RUN, "status": status})

    client = partial(PyocoHttpClient, transport=httpx.MockTransport(answer))
    monkeypatch.setattr("pyoco_server.client.PyocoHttpClient", client)
    said = caught(lambda: main(["--server", "http://gateway.invalid", *line]))
    assert (said.code, said.err) == (0, "")
