"""`pyoco-server-admin` as a process, against 0.5.1's and our gateway, and 0.5.1's against ours."""

from __future__ import annotations

import json
import subprocess
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from e2e.programs import BIN, HTTP, Stage, last_json, wait_for
from ports import free_port
from pyoco_cli.admin import app
from pyoco_cli.common.errors import run

pytestmark = pytest.mark.slow


def admin(
    stage: Stage, *argv: str, executable: Path = BIN, url: str | None = None
) -> tuple[int, str, str]:
    done = subprocess.run(
        [str(executable / "pyoco-server-admin"), "--nats-url", url or stage.nats_url, *argv],
        env={**stage.env, "PYTHONPATH": ""},
        cwd=stage.folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def created(stage: Stage, *options: str, executable: Path = BIN) -> dict[str, Any]:
    argv = ("api-key", "create", "--tenant", "demo", *options)
    code, out, err = admin(stage, *argv, executable=executable)
    assert code == 0, err
    return last_json(out)


def listed(stage: Stage, executable: Path = BIN) -> list[dict[str, Any]]:
    code, out, err = admin(stage, "api-key", "list", executable=executable)
    assert code == 0, err
    keys: list[dict[str, Any]] = json.loads(out)
    return keys


def status_of(stage: Stage, key: str) -> int:
    """What a gateway says to a key: 404 where it lets it in."""
    headers = {"X-API-Key": key}
    return HTTP.get(f"{stage.url}/runs/no-such-run", headers=headers).status_code


def brief_keys(stage: Stage) -> list[dict[str, Any]]:
    """Keys that expire soon. The last was let in, for which those before were too short on a busy machine."""
    made: list[dict[str, Any]] = []
    for seconds in (3, 10, 30):
        soon = (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()
        made.append(created(stage, "--expires", soon))
        if status_of(stage, made[-1]["api_key"]) == 404:
            return made
    raise AssertionError("no key was let in before it expired")


def test_keys_from_creation_to_revocation(stage: Stage) -> None:
    stage.nats()
    stage.env["PYOCO_HTTP_AUTH_MODE"] = "api_key"
    stage.gateway()
    full = created(stage)
    assert full["roles"] == ["admin", "operate", "submit"]
    assert full["api_key"].startswith(f"pyoco_{full['key_id']}.")
    assert full["expires_at"] is None
    narrow = created(stage, "--role", "submit", "--role", "operate", "--expires", "30d")
    assert narrow["roles"] == ["operate", "submit"]
    assert narrow["expires_at"] == pytest.approx(time.time() + 30 * 86_400, abs=60)
    reader = created(stage, "--read-only")
    assert reader["roles"] == []
    brief = brief_keys(stage)

    keys = listed(stage)
    ids = [made["key_id"] for made in (*reversed(brief), reader, narrow, full)]
    assert [key["key_id"] for key in keys] == ids
    assert not any("api_key" in key or "hash_b64" in key for key in keys)

    assert status_of(stage, full["api_key"]) == 404
    code, out, _ = admin(stage, "api-key", "revoke", "--key-id", full["key_id"])
    revoked = last_json(out)
    assert (code, revoked["key_id"]) == (0, full["key_id"])
    wait_for(lambda: status_of(stage, full["api_key"]) == 403, within=60)
    code, out, _ = admin(stage, "api-key", "revoke", "--key-id", full["key_id"])
    assert (code, last_json(out)) == (0, revoked)
    wait_for(lambda: status_of(stage, brief[-1]["api_key"]) == 403, within=90)


def test_what_cannot_be_is_told_with_an_exit_code(stage: Stage) -> None:
    stage.nats()
    for key_id in ("0" * 24, "a.b"):
        code, out, _ = admin(stage, "api-key", "revoke", "--key-id", key_id)
        assert (code, last_json(out)) == (2, {"error": "not_found", "key_id": key_id})
    assert listed(stage) == []
    code, _, err = admin(stage, "api-key", "list", url=f"nats://127.0.0.1:{free_port()}")
    assert code == 1
    assert err.startswith("ERR-PYOCO-0003")


@pytest.mark.parametrize(
    "argv",
    [
        "create --tenant a.b",
        "create --tenant a --role god",
        "create --tenant a --role submit --read-only",
        "create --tenant a --expires tomorrow",
        "create --tenant a --expires 2001-01-01",
        "create",
        "revoke",
    ],
)
def test_a_command_line_that_is_wrong_is_told_so(
    argv: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(app, ["api-key", *argv.split()]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("ERR-PYOCO-0018"), err


def test_keys_of_either_version_are_good_for_both(stage: Stage, old_bin: Path) -> None:
    stage.nats()
    stage.env |= {"PYOCO_HTTP_AUTH_MODE": "api_key", "PYOCO_AUTH_PEPPER": "pepper"}
    stage.gateway()
    ours, theirs = created(stage), created(stage, executable=old_bin)
    assert status_of(stage, ours["api_key"]) == 404
    assert status_of(stage, theirs["api_key"]) == 404
    ids = {ours["key_id"], theirs["key_id"]}
    assert {key["key_id"] for key in listed(stage)} == ids
    assert {key["key_id"] for key in listed(stage, executable=old_bin)} == ids

    old = Stage(stage.folder, stage.env, stage.programs, nats_port=stage.nats_port)
    old.start(
        *f"pyoco-server up --port {old.http_port} --nats-url {old.nats_url}".split(),
        executable=old_bin,
        env={"PYTHONPATH": ""},
    )

    def asks() -> bool:
        try:
            return status_of(old, "x") == 403
        except httpx.HTTPError:
            return False

    wait_for(asks)
    assert status_of(old, ours["api_key"]) == 404
    assert status_of(old, theirs["api_key"]) == 404

    # Each revokes the other's key.
    argv = ("api-key", "revoke", "--key-id")
    assert admin(stage, *argv, ours["key_id"], executable=old_bin)[0] == 0
    assert admin(stage, *argv, theirs["key_id"])[0] == 0
    keys = (ours["api_key"], theirs["api_key"])
    assert [status_of(old, key) for key in keys] == [403, 403]
    wait_for(lambda: [status_of(stage, key) for key in keys] == [403, 403], within=60)
