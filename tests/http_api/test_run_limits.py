"""Limits of a run and the wishes of a cancel, over HTTP."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from backend.stage import running
from pyoco_http.app import create_app

YAML = b"""\
flow: {graph: a}
tasks:
  a: {callable: pyoco_server._workflow_test_tasks:add_one}
runtime: {timeout_sec: 9, max_attempts: 4, memory_mb: 200}
"""
LIMITS = ("timeout_sec", "max_attempts", "retry_backoff_sec", "memory_mb", "cpu_sec")


def limits(snapshot: dict[str, Any]) -> list[Any]:
    return [snapshot[name] for name in LIMITS]


async def test_limits_are_taken_from_the_body_and_shown(tmp_path: Path) -> None:
    async with running(tmp_path, worker=False) as backend:
        client = create_app(backend).test_client()
        values = [1.5, 3, 0.0, 256, 2.5]
        body = {"flow_name": "f", **dict(zip(LIMITS, values, strict=True))}
        answer = await client.post("/runs", json=body)
        run_id = (await answer.get_json())["run_id"]
        shown = await (await client.get(f"/runs/{run_id}")).get_json()
        assert limits(shown) == values
        assert shown["usage"] is None
        batch = {"runs": [body, {"flow_name": "f"}]}
        answer = await client.post("/runs/batch", json=batch)
        ids = [item["run_id"] for item in (await answer.get_json())["items"]]
        for run_id, expected in zip(ids, (values, [None] * 5), strict=True):
            assert limits(await (await client.get(f"/runs/{run_id}")).get_json()) == expected
        assert (shown["attempts"], shown["next_attempt_at"]) == ([], None)


async def test_limits_of_a_form_go_over_those_of_the_file(tmp_path: Path) -> None:
    from io import BytesIO

    from quart.datastructures import FileStorage

    async with running(tmp_path, worker=False) as backend:
        client = create_app(backend).test_client()
        for form, expected in (
            ({}, [9.0, 4, None, 200, None]),
            (
                {
                    "max_attempts": "2",
                    "retry_backoff_sec": "0.5",
                    "cpu_sec": "7",
                    "memory_mb": "99",
                },
                [9.0, 2, 0.5, 99, 7.0],
            ),
        ):
            answer = await client.post(
                "/runs/yaml",
                form={"flow_name": "main", **form},
                files={"workflow": FileStorage(BytesIO(YAML), filename="flow.yaml")},
            )
            assert answer.status_code == 200, await answer.get_data(as_text=True)
            run_id = (await answer.get_json())["run_id"]
            assert limits(await (await client.get(f"/runs/{run_id}")).get_json()) == expected


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("timeout_sec", 0),
        ("max_attempts", 0),
        ("max_attempts", [1]),
        ("retry_backoff_sec", "x"),
        ("memory_mb", 0),
        ("memory_mb", 1.5),
        ("memory_mb", 2**40),
        ("cpu_sec", 0),
        ("cpu_sec", True),
    ],
)
async def test_a_limit_that_cannot_be_one_is_refused(
    tmp_path: Path, name: str, value: object
) -> None:
    async with running(tmp_path, worker=False) as backend:
        client = create_app(backend).test_client()
        answer = await client.post("/runs", json={"flow_name": "f", name: value})
        problem = await answer.get_json()
        assert (answer.status_code, problem["field"]) == (422, name)
        assert problem["detail"] == f"invalid {name}"
        assert "must be" in problem["reason"]


@pytest.mark.parametrize(
    ("body", "reason", "by"),
    [
        (b'{"reason": "too old", "requested_by": "ann"}', "too old", "ann"),
        (b'{"reason": 5}', None, None),
        (b"garbage \xff", None, None),
        (b"", None, None),
    ],
)
async def test_a_cancel_keeps_who_asked_and_why(
    tmp_path: Path, body: bytes, reason: str | None, by: str | None
) -> None:
    async with running(tmp_path, worker=False) as backend:
        client = create_app(backend).test_client()
        answer = await client.post("/runs", json={"flow_name": "f"})
        run_id = (await answer.get_json())["run_id"]
        answer = await client.post(f"/runs/{run_id}/cancel", data=body)
        shown = await answer.get_json()
        assert answer.status_code == 200
        assert shown["status"] == "CANCELLING"
        assert (shown["cancel_reason"], shown["cancel_requested_by"]) == (reason, by)
