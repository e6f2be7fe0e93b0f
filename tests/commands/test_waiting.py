"""Why no worker takes a run, as far as a gateway tells of workers."""

from __future__ import annotations

from typing import Any, cast

import pytest

from pyoco_cli.client.waiting import tell_why_it_waits
from pyoco_server.client.answers import RunDict


class _Fleet:
    """A gateway that tells of 100 workers to who does not say how many."""

    def get_workers(self, *, limit: int = 100) -> list[dict[str, Any]]:
        others = [{"worker_id": f"w{number}", "tags": ["other"]} for number in range(120)]
        return [*others, {"worker_id": "last", "tags": ["hello"]}][:limit]


@pytest.mark.parametrize(("tag", "told"), [("hello", False), ("helo", True)])
def test_one_of_many_workers_takes_it(
    tag: str, told: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    run = cast(RunDict, {"status": "PENDING", "tag": tag})
    tell_why_it_waits(cast(Any, _Fleet()), run)
    assert (f"takes tag {tag}" in capsys.readouterr().err) == told
