"""Forty steps that a person types on a terminal: what each shows, and its exit code.

They share one installation and go on from each other. Of tables no line is longer than the screen is wide.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import httpx
import pytest

from commands.calling import client
from e2e.programs import HTTP, Stage, last_json, wait_for
from ports import free_port
from terminal.screens import CTRL_C, Terminal, on_terminal

pytestmark = [pytest.mark.slow, pytest.mark.nats]

CLIENT: Final = "pyoco-client "
OF_FLOW: Final = "--flow-name script --tag hello --workflow-file"


@dataclass(frozen=True)
class Step:
    """What is typed, and what is to be seen.

    Attributes:
        name: What it is about.
        line: The command; words in braces are replaced.
        sees: Texts that the screen has at the end, as regular expressions.
        code: The exit code.
        columns: The widths of the screens; what it shows fits in there where there are two.
        lacks: Texts that it has not.
        until: What to wait for before Ctrl-C.
    """

    name: str
    line: str
    sees: tuple[str, ...]
    code: int = 0
    columns: tuple[int, ...] = (100,)
    lacks: tuple[str, ...] = ()
    until: str | None = None


BOTH: Final = (80, 120)
TRACEBACK: Final = ("Traceback", 'raise ValueError\\("bad luck"\\)', "ValueError: bad luck")

# The page as a reader without a browser has it, and the last of its first calls, made here.
DOCS: Final = """
import html, re, urllib.request
page = urllib.request.urlopen(url + '/docs').read().decode().partition('<main>')[2]
blocks = re.sub(r'<(?!/?(span|code|a|pre)\\b)[^>]*>', '\\n', page)
text = html.unescape(re.sub(r'<[^>]*>', '', blocks))
text = re.sub(r'\\s*\\n\\s*', '\\n', text).strip()[:9000]
"""
DOCS_CALL: Final = """
[call] = re.findall(r"'http://127.0.0.1:8000/(runs[?].*)'", text)
answer = urllib.request.urlopen(url + '/' + call)
print(answer.status, answer.read().decode())
"""

STEPS: Final = [
    # The exit code is the outcome.
    Step("submit and wait", f"submit-yaml {OF_FLOW} count.yaml --wait", ("COMPLETED",)),
    Step(
        "submit and follow",
        f"submit-yaml {OF_FLOW} fail.yaml --follow",
        ("second  about to fail", "second  FAILED", "ended FAILED: bad luck"),
        code=1,
    ),
    Step("wait: completed", "wait {ended}", ("COMPLETED",)),
    Step("wait: failed", "wait {failed}", ("ended FAILED: bad luck", "pyoco-client tasks"), code=1),
    Step("watch: completed", "watch {ended} --until-terminal", ("COMPLETED",)),
    Step("watch: failed", "watch {failed} --until-terminal", ("ended FAILED",), code=1),
    Step("cancel a beginning of an id", "cancel {waiting8} --wait", ("CANCELLED",)),
    Step("wait: cancelled", "wait {waiting}", ("the run was cancelled",), code=2),
    Step("wait: timed out", "wait {other} --timeout-sec 0.2", ("PENDING after 0.2 s",), code=124),
    Step(
        "Ctrl-C leaves the run",
        "watch {other}",
        ("pyoco-client watch {other}", "to end it"),
        code=130,
        until="PENDING",
    ),
    Step("cancel by option", "cancel --run-id {other}", ("CANCELL(ED|ING)",)),
    # Where it failed.
    Step("get", "get {failed8}", (*TRACEBACK, "{failed}"), columns=BOTH),
    Step("get --records", "get {failed} --records", TRACEBACK),
    Step("tasks", "tasks {failed8}", TRACEBACK, columns=BOTH),
    Step("events", "events {failed8}", TRACEBACK),
    Step("a dead letter", "dlq show {seq}", TRACEBACK, columns=BOTH),
    Step("a missing key", "get {lookup}", ("error +KeyError: 'user_id'",)),
    # Lists, times, formats.
    Step(
        "list",
        "list --flow script --since 1d",
        ("run +status +changed +flow +worker", "{failed}  FAILED", "  w1"),
        columns=BOTH,
    ),
    Step("list since yesterday", "list --flow script --since yesterday", ("{ended}",)),
    Step(
        "list since a moment",
        "list --flow script --since 2020-01-01T00:00:00+09:00 --limit 2",
        ("^2 of [5-9], --limit or --all$",),
    ),
    Step("list since unix", "list --flow script --since 1577836800 --all", ("{ended}",)),
    Step("no time", "list --since soon", ("'soon' is no time", "yesterday"), code=1),
    Step("csv", "list --flow script --output csv", ("^run_id,status,flow_name,tag,worker_id",)),
    Step("json", "list --flow script --output json", (r'^\[\{{"run_id"',)),
    Step("jsonl", "list --flow script --output jsonl", (r'^\{{"run_id"',)),
    Step("version", "--version", (r"^pyoco-server \d+\.\d+",)),
    Step("a mistyped option", "list --lim 2", ("--limit", "usage: pyoco-client list"), code=1),
    Step("no gateway", "--server {nowhere} list", ("pyoco-server up",), code=1),
    # Retries and dead letters.
    Step("retry", "retry {failed8} --follow", ("second  FAILED",), code=1),
    Step("its letter has gone", "dlq list --run-id {failed}", (r"\(no dead letters\)",)),
    # Schedules, and moving a run.
    Step(
        "make a schedule",
        'schedule create nightly --cron "30 2 * * *" --timezone Asia/Tokyo --tag nobody',
        (r"next: \S+T02:30:00\+09:00", "nightly +active"),
    ),
    Step(
        "schedules", "schedule list", (r"30 2 \* \* \* +main +\S+T02:30:00\+09:00",), columns=BOTH
    ),
    Step("its next ticks", "schedule next nightly", (r"\S+T02:30:00\+09:00",), columns=BOTH),
    Step("delete it", "schedule delete nightly", ("^deleted schedule nightly$",)),
    Step(
        "move what has ended",
        "reschedule {ended8} --delay 1h",
        ("run cannot be moved", "the run is COMPLETED", "pyoco-client get {ended}"),
        code=1,
    ),
    # Workers.
    Step("pause", "worker-pause w1 --reason full --requested-by kim", ("worker w1 is paused",)),
    Step(
        "workers", "workers", ("w1 +IDLE paused", "w1: paused .* ago, by kim, full"), columns=BOTH
    ),
    Step("top", "top --once", ("w1 +IDLE paused", "why"), columns=BOTH),
    Step("status", "pyoco-server status", ("w1 +IDLE paused",), columns=BOTH),
    Step("doctor", "pyoco-server doctor", ("worker w1: it is paused",), code=1),
    Step("resume", "worker-resume w1", ("worker w1 goes on",)),
    Step("drain", "worker-drain w5 --wait", ("worker w5 has stopped",)),
    # Wheels and keys.
    Step(
        "build",
        "wheel-build {project} --tags nobody",
        ("needs nowhere-to-be-found", "--with-deps", r"uploaded etl-0.1.0\S+ for workers with"),
        columns=(120,),
    ),
    Step(
        "wheels",
        "wheels",
        ("wheel +bytes +changed +tags", r"etl-\S+ +\d+ +\d+ (s|min) ago"),
        columns=BOTH,
    ),
    Step(
        "make a key",
        "pyoco-server-admin api-key create --tenant team --role submit",
        ("roles +submit", "shown this once", "^pyoco_"),
    ),
    Step(
        "keys",
        "pyoco-server-admin api-key list",
        ("key +tenant +roles +made", "team"),
        columns=BOTH,
    ),
    Step(
        "a key without the role",
        "--server {keyed} --api-key {key} worker-pause w1",
        ("HTTP 403 POST /workers/w1/pause", "hint: this key may not do that", "--role ROLE"),
        code=1,
    ),
    # What the gateway tells of its API.
    Step(
        "docs",
        "python -c {docs}",
        (r"^pyoco-server \d+\.\d+\S+\s+First calls\s+Submit a run that brings its", "^Try it$"),
        lacks=("`",),
    ),
    Step("a call that docs shows", "python -c {docs_call}", (r'^200 \[\{{"run_id"',)),
    # Workers and NATS.
    Step(
        "a worker without NATS",
        "pyoco-worker --run-once --nats-url {no_nats}",
        ("ERR-PYOCO-0003", "hint: check --nats-url"),
        code=1,
    ),
    Step(
        "a module that is not there",
        "pyoco-worker --tags none --flow-resolver nowhere:resolve",
        ("{folder}", "wheel-build", "--wheel-sync"),
        code=1,
        columns=(300,),
    ),
    Step(
        "a worker logs text",
        "pyoco-worker --tags none --worker-id w6 --run-once",
        ("connected to NATS",),
        lacks=("heartbeat not written", r"^\{{"),
    ),
    # Folders of one's own.
    Step("init", "pyoco-server init mine", ("^mine/flow.yaml$", "^pyoco-server dev flow.yaml$")),
    Step("init again", "pyoco-server init mine", ("mine has flow.yaml, tasks.py",), code=1),
    Step(
        "dev",
        "pyoco-server dev mine/flow.yaml --port {port} --nats-port {nats_port}",
        ("dashboard  http://127.0.0.1:{port}/", "shout → HELLO, WORLD!"),
        code=130,
        until="HELLO, WORLD!",
        columns=(120,),
    ),
    Step("demo", "pyoco-server demo", ("all up", "COMPLETED")),
]


@pytest.fixture
def words(stage: Stage) -> Iterator[dict[str, str]]:
    """The words in braces: runs in each state, and places."""

    def submit(name: str, tag: str = "hello") -> str:
        path = str(stage.folder / f"{name}.yaml")
        options = ("--flow-name", "script", "--tag", tag, "--workflow-file", path)
        return str(client(stage, "submit-yaml", *options).last["run_id"])

    keyed_port = free_port()
    ended, failed, lookup = (submit(name) for name in ("count", "fail", "lookup"))
    waiting, other = (submit("count", "nobody") for _ in range(2))
    stage.worker("--slots", "1", tags="none", worker_id="w5")
    project = stage.folder / "etl"
    project.mkdir(exist_ok=True)
    (project / "etl_tasks.py").write_text("def one():\n    return 1\n")
    (project / "pyproject.toml").write_text(
        '[project]\nname = "etl"\nversion = "0.1.0"\ndependencies = ["nowhere-to-be-found"]\n'
        '[build-system]\nrequires = ["hatchling"]\nbuild-backend = "hatchling.build"\n'
        '[tool.hatch.build]\ninclude = ["*.py"]\n'
    )
    keyed = stage.start(
        *("pyoco-server", "up", "--port", str(keyed_port), "--nats-url", stage.nats_url),
        env={"PYOCO_HTTP_AUTH_MODE": "api_key", "PYOCO_STATE_DIR": str(stage.folder / "keyed")},
    )
    admin = ("pyoco-server-admin", "--nats-url", stage.nats_url)
    made = stage.run(*admin, "api-key", "create", "--tenant", "team", "--role", "submit")
    for run_id in (ended, failed, lookup):
        stage.ended(run_id)
    letters = wait_for(
        lambda: client(stage, "dlq", "list", "--run-id", failed).last["items"], what="a letter"
    )
    wait_for(lambda: "w5" in client(stage, "workers").out, what="the other worker")
    wait_for(lambda: ready(keyed_port), what="the gateway that asks for keys")
    yield {
        "ended": ended,
        "failed": failed,
        "lookup": lookup,
        "waiting": waiting,
        "other": other,
        "failed8": failed[:8],
        "ended8": ended[:8],
        "waiting8": waiting[:8],
        "seq": str(letters[0]["seq"]),
        "folder": str(stage.folder),
        "project": str(project),
        "port": str(free_port()),
        "nats_port": str(free_port()),
        "no_nats": f"nats://127.0.0.1:{free_port()}",
        "nowhere": f"http://127.0.0.1:{free_port()}",
        "keyed": f"http://127.0.0.1:{keyed_port}",
        "key": last_json(made)["api_key"],
        "docs": shlex.quote(f"url = '{stage.url}'{DOCS}print(text)"),
        "docs_call": shlex.quote(f"url = '{stage.url}'{DOCS}{DOCS_CALL}"),
    }
    keyed.stop()
    client(stage, "worker-resume", "w1")


def test_forty_steps(stage: Stage, words: Mapping[str, str]) -> None:
    assert len(STEPS) >= 40
    wrong = [
        f"{step.name} at {columns} columns: {what}\n{text}"
        for step in STEPS
        for columns in step.columns
        for what, text in typed(stage, step, columns, words)
    ]
    assert not wrong, "\n\n".join(wrong)


def typed(
    stage: Stage, step: Step, columns: int, words: Mapping[str, str]
) -> Iterator[tuple[str, str]]:
    """What is wrong with a step, and its screen."""
    line = step.line.format_map(words)
    argv = shlex.split(line if line.startswith(("pyoco-", "python ")) else f"{CLIENT}{line}")
    env = {**stage.env, "PYOCO_NATS_URL": stage.nats_url}
    with on_terminal(*argv, folder=stage.folder, env=env, columns=columns, lines=60) as terminal:
        try:
            if (until := step.until) is not None:
                terminal.see(lambda: until in terminal.text, what=until)
                terminal.press(CTRL_C)
            code = terminal.end(120)
        except AssertionError as error:
            yield str(error), terminal.text
            return
        if code != step.code:
            yield f"exit code {code}, not {step.code}", terminal.text
        for pattern, wanted in [
            *((each, True) for each in step.sees),
            *((each, False) for each in step.lacks),
        ]:
            found = re.search(pattern.format_map(words), terminal.text, re.MULTILINE)
            if (found is not None) is not wanted:
                yield f"{'no' if wanted else 'has'} {pattern}", terminal.text
        if len(step.columns) > 1 and (longest := longest_line(terminal)) > columns:
            yield f"a line of {longest} characters", terminal.text


def ready(port: int) -> bool:
    try:
        return HTTP.get(f"http://127.0.0.1:{port}/health/ready").status_code == 200
    except httpx.HTTPError:
        return False


def longest_line(terminal: Terminal) -> int:
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", terminal.raw.decode())
    return max(len(line) for line in text.splitlines())
