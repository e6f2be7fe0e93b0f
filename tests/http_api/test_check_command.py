"""`pyoco-client check`: here and by a gateway, for people and for programs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import trio

from commands.calling import Said, caught
from http_api.gateway import gateway
from pyoco_cli.client import main

WRONG = "flow:\n  graph: fetch\ntasks:\n  fetch:\n    calable: m:f\n    retries: many\n"
RIGHT = WRONG.replace("calable", "callable").replace("many", "3")


def check(*options: str) -> Said:
    return caught(lambda: main([*options]))


def test_a_file_is_looked_at_without_a_gateway(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYOCO_SERVER_URL", "http://gateway.invalid")
    path = tmp_path / "flow.yaml"
    path.write_text(WRONG)
    said = check("check", str(path), "--output", "table")
    assert said.code == 1
    first, *lines, second, line, mark = said.out.splitlines()
    assert first.startswith(
        f"{path}:5:5: error: tasks.fetch.calable: no such key; those that there are: "
    )
    assert first.endswith("; did you mean 'callable'?")
    assert lines == ["        calable: m:f", "        ^"]
    assert second.startswith(f"{path}:6:14: error: tasks.fetch.retries: must be a whole number")
    assert (line, mark) == ("        retries: many", f"{' ' * 17}^")
    said = check("check", str(path), "--output", "json")
    finding, _ = json.loads(said.out)["findings"]
    assert (finding["line"], finding["column"], finding["nearest"]) == (5, 5, "callable")
    path.write_text(RIGHT)
    assert check("check", str(path), "--output", "json").last == {
        "file": str(path),
        "valid": True,
        "findings": [],
    }
    assert check("check", str(tmp_path / "none.yaml")).code == 1


@pytest.mark.nats
async def test_a_gateway_looks_at_it_with_its_own_limits(tmp_path: Path) -> None:
    path = trio.Path(tmp_path / "flow.yaml")
    async with gateway(tmp_path, worker=False, flow_callables="ours:*") as (client, _):
        url = str(client.base_url)

        async def asked(*options: str) -> Said:
            argv = ["check", str(path), *options, "--output", "json"]
            return await trio.to_thread.run_sync(check, *argv)

        await path.write_text(WRONG)
        said = await asked("--server", url)
        assert (said.code, json.loads(said.out)["findings"][0]["nearest"]) == (1, "callable")
        here = await trio.to_thread.run_sync(check, "check", str(path), "--output", "json")
        assert json.loads(said.out) == json.loads(here.out)
        for answer in (
            await client.post("/flows/check", content=WRONG.encode()),
            await client.post("/runs/yaml", files={"workflow": ("flow.yaml", WRONG.encode())}),
        ):
            refusal = answer.json()
            assert refusal["findings"] == json.loads(said.out)["findings"]
            first = refusal["findings"][0]
            assert (refusal["line"], refusal["column"]) == (first["line"], first["column"])
            assert "did you mean 'callable'? (line 5, column 5)" in refusal["reason"]
        await path.write_text(RIGHT)
        assert (await asked()).code == 0
        said = await asked("--server", url)
        assert said.code == 1
        assert "PYOCO_FLOW_CALLABLES" in said.out
        before = ["--server", url, "check", str(path)]
        assert (await trio.to_thread.run_sync(check, *before)).code == 1
        await path.write_text(RIGHT.replace("m:f", "ours:f"))
        assert (await asked("--server", url)).code == 0
        assert (await client.post("/flows/check", content=b"flow: {graph: a}")).json()[
            "findings"
        ] == []
