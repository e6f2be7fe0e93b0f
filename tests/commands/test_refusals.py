"""What a person is told when the gateway refuses."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from commands.calling import caught
from pyoco_cli.client import main as client
from pyoco_cli.client.connection import refusal
from pyoco_cli.common.language import Phrase, title_of
from pyoco_cli.server import main as server
from pyoco_cli.worker import main as worker
from pyoco_server.client import HttpProblem
from pyoco_server.model.errors import ErrorId


def told(status: int, path: str, **fields: object) -> list[str]:
    request = httpx.Request("GET", f"http://gateway{path}")
    response = httpx.Response(status, json=fields, request=request)
    return str(refusal(HttpProblem.of(response), "pyoco-client submit")).splitlines()


@pytest.mark.parametrize(("kind", "command"), [("result", "result"), ("artifact", "artifacts")])
def test_what_a_run_lacks_is_not_said_of_the_run(kind: str, command: str) -> None:
    lines = told(
        404, "/x", detail=f"{kind} not found", err_id=ErrorId.RUN_NOT_FOUND.value, run_id="ab-1"
    )
    assert lines[0] == f"ERR-PYOCO-0005: {kind} not found"
    assert lines[-1] == f"- hint: see which there are: pyoco-client {command} ab-1"
    gone = told(404, "/x", detail="run not found", err_id=ErrorId.RUN_NOT_FOUND.value)
    assert gone[0] == "ERR-PYOCO-0005: run not found"
    assert gone[-1].endswith("pyoco-client list")


@pytest.mark.parametrize(
    ("error", "command"),
    [
        (ErrorId.SCHEDULE_NOT_FOUND, "pyoco-client schedule list"),
        (ErrorId.SCHEDULE_CONFLICT, "pyoco-client schedule list"),
        (ErrorId.DEAD_LETTER_NOT_FOUND, "pyoco-client dlq list"),
    ],
)
def test_a_hint_names_the_list_to_look_at(error: ErrorId, command: str) -> None:
    lines = told(404, "/x", detail=error.text, err_id=error.value)
    assert lines[-1].endswith(command)


def test_a_reason_is_told_once() -> None:
    why = "Invalid enum value 'quue' - at `$.overlap`"
    detail = f"invalid request body: {why}"
    lines = told(422, "/x", detail=detail, err_id=ErrorId.INVALID_INPUT.value, reason=why)
    assert "".join(lines).count("quue") == 1


@pytest.mark.parametrize("error", [ErrorId.NOT_MOVABLE, ErrorId.NOT_REPEATABLE])
def test_what_cannot_be_done_with_a_run_leads_to_it(error: ErrorId) -> None:
    lines = told(409, "/runs/ab-1/retry", detail=error.text, err_id=error.value, reason="RUNNING")
    assert lines[-1] == "- hint: see how the run is: pyoco-client get ab-1"


@pytest.mark.parametrize("error", ErrorId)
def test_each_error_has_a_title_in_both_languages(
    error: ErrorId, monkeypatch: pytest.MonkeyPatch
) -> None:
    titles = set()
    for locale in ("C", "ja_JP.UTF-8"):
        monkeypatch.setenv("LC_ALL", locale)
        titles |= {title_of(error), title_of("ERR-PYOCO-HTTP")}
    assert len(titles) == 4


@pytest.mark.parametrize("status", [422, 413])
def test_who_asked_wrongly_is_told_what_and_not_sent_to_look_at_the_server(status: int) -> None:
    lines = told(status, "/runs", detail="invalid tag", reason="has a space")
    assert lines[1:] == [
        f"- reason: HTTP {status} GET /runs: invalid tag",
        "- detail: has a space",
        "- hint: pyoco-client submit -h",
    ]


@pytest.mark.parametrize(("status", "fields"), [(500, {"detail": "no"}), (418, {})])
def test_where_the_answer_does_not_say_why_the_server_is_to_be_looked_at(
    status: int, fields: dict[str, str]
) -> None:
    assert told(status, "/runs", **fields)[-1] == f"- hint: {Phrase.CHECK_REQUEST}"


@pytest.mark.parametrize(
    ("program", "line", "why"),
    [
        (client, "dlq requeue abc", "takes a whole number, 1 or more, not 'abc'"),
        (client, "dlq list --limit 0", "takes a whole number, 1 to 200, not 0"),
        (client, "list --limit many", "takes a whole number, not 'many'"),
        (client, "wait r --timeout-sec x", "takes a number, 0 or more, not 'x'"),
        (client, "top --interval-sec 0.1", "takes a number, 0.2 or more, not 0.1"),
        (client, "top --interval-sec nan", "takes a number, 0.2 or more, not nan"),
        (client, "top --interval-sec inf", "takes a number, 0.2 or more, not inf"),
        (client, "wait r --timeout-sec nan", "takes a number, 0 or more, not nan"),
        (client, "worker-drain w --timeout-sec nan", "takes a number, 0 or more, not nan"),
        (client, "submit --wait --wait-timeout-sec nan", "takes a number, 0 or more, not nan"),
        (worker, "--run-once --poll-timeout -1", "takes a number, 0 or more, not -1.0"),
        (worker, "--run-once --poll-timeout nan", "takes a number, 0 or more, not nan"),
        (
            client,
            "schedule create s --every \N{SUPERSCRIPT TWO}",
            "--every '\N{SUPERSCRIPT TWO}' is no span",
        ),
        (server, "up --port abc", "takes a whole number, 0 to 65535, not 'abc'"),
        (server, "up --port 70000", "takes a whole number, 0 to 65535, not 70000"),
        (
            server,
            "dev --tags a.b",
            "--tags: a tag has 1 to 200 of the characters A-Z a-z 0-9 _ - only, not 'a.b'",
        ),
        (server, "restore --in x --replicas 9", "takes a whole number, 1 to 5, not 9"),
    ],
)
def test_what_is_no_number_is_told_with_what_would_be(
    program: Callable[[list[str]], int], line: str, why: str
) -> None:
    said = caught(lambda: program(line.split()))
    assert (said.code, said.out) == (1, "")
    assert f": {why}\n" in said.err


@pytest.mark.parametrize(
    ("line", "option"),
    [
        ("cancel --yes --flow=", "--flow"),
        ("cancel --yes --flow nightly --tag=", "--tag"),
        ("cancel --yes --worker-id=", "--worker-id"),
        ("schedule apply -f none.yaml --prune --label=", "--label"),
        ("schedule apply -f none.yaml --prune --label ==x", "--label"),
    ],
)
def test_what_an_unset_variable_leaves_empty_does_not_stand_for_all(line: str, option: str) -> None:
    said = caught(lambda: client(["--server", "http://127.0.0.1:1", *line.split()]))
    assert (said.code, said.out) == (1, "")
    assert re.search(rf"reason: {option} (is empty|takes NAME=VALUE)", said.err)


@pytest.mark.parametrize(("text", "why"), [(None, "it cannot be read"), ("text", "no backup")])
def test_what_is_no_backup_is_named_once(tmp_path: Path, text: str | None, why: str) -> None:
    source = tmp_path / "source"
    if text is not None:
        source.write_text(text)
    said = caught(lambda: server(["restore", "--in", str(source), "--confirm"]))
    assert (said.code, said.out) == (1, "")
    assert why in said.err
    assert said.err.count(str(source)) == 1


@pytest.mark.parametrize(
    ("options", "helped"), [((), True), (("--status", "FAILED"), True), (("--follow",), False)]
)
def test_who_wants_more_than_a_page_is_told_of_all(options: tuple[str, ...], helped: bool) -> None:
    said = caught(lambda: client(["list", "--limit", "500", *options]))
    assert (said.code, said.out) == (1, "")
    assert "--limit takes a whole number, 1 to 200, not 500" in said.err
    assert ("pyoco-client list --all" in said.err) == helped
    assert "- hint: " in said.err


def test_a_list_that_is_followed_has_no_whole_snapshots() -> None:
    said = caught(lambda: client(["--server", "http://127.0.0.1:1", "list", "--follow", "--full"]))
    assert (said.code, said.out) == (1, "")
    assert "--full goes without --follow" in said.err


@pytest.mark.parametrize("error", [ErrorId.NATS_UNAVAILABLE, ErrorId.ORPHAN_RUN])
def test_a_submission_that_got_no_answer_is_repeated_with_its_key(error: ErrorId) -> None:
    """Also where the client made the key, which a new call of the command would not have."""
    for path, hinted in (("/runs", True), ("/runs/yaml", True), ("/runs/ab-1/retry", False)):
        request = httpx.Request("POST", f"http://gateway{path}", headers={"Idempotency-Key": "k1"})
        fields = {"detail": "nats unavailable: run not accepted", "err_id": error.value}
        problem = HttpProblem.of(httpx.Response(503, json=fields, request=request))
        assert ("--idempotency-key k1" in str(refusal(problem, "pyoco-client submit"))) == hinted
