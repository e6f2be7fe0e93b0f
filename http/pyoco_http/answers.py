"""Answers in JSON, written by msgspec, which is several times faster than the standard library."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from quart import Response

from pyoco_http.call import Header
from pyoco_server.model.json_text import encode_json


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer.

    Attributes:
        body: Its body.
        status: Its status.
        content_type: The type of its body.
        headers: Its other headers, of its own; names in small letters.
    """

    body: bytes
    status: int = 200
    content_type: str = "application/json"
    headers: tuple[Header, ...] = ()

    def response(self) -> Response:
        """The same for Quart."""
        headers = {name.decode(): value.decode() for name, value in self.headers}
        return Response(
            self.body, status=self.status, headers=headers, content_type=self.content_type
        )


def json_body(body: Any, *headers: Header) -> Answer:
    """A 200 with a JSON body."""
    return Answer(encode_json(body), headers=headers)


def json_answer(body: Any) -> Response:
    """The same for a route of Quart's."""
    return json_body(body).response()
