"""Command lines of 0.5.1, given to its programs and to ours: the same JSON, the same exit codes.

Each line stands for one command or one of its errors. It is run by both against our gateway, and what
should work by both against 0.5.1's gateway as well. Where the exit code is another one the line says which,
and why.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from commands.both import ERROR, Old, documents, metrics_of, old_programs, our_program, split
from commands.calling import Said, client
from commands.places import Places
from e2e.programs import Stage, open_stage, wait_for
from ports import free_port

pytestmark = [pytest.mark.slow, pytest.mark.nats]

# Of a run, in 0.5.1.
_HEARTBEAT_SECONDS = 1.0

CLIENT = """
submit
submit --flow-name main --tag nobody
submit --flow-name main --params '{"x": 1}' --param y=2 --param z=text --tag nobody --tags nobody,b
submit --params-file {folder}/params.json --params '{"x": 1}' --param x=2 --tag nobody
submit --params-file {folder}/params.yaml --param empty= --tag=nobody
submit-yaml --workflow-file {folder}/flow.yaml --flow-name main --tag nobody
get {ended}
get {ended} --records
get --records {ended}
tasks {ended}
list
list --status COMPLETED --flow main --tag hello --full --limit 5
list --limit 5 --limit 1 --output json
list --output table
list --tag none --output table
list --status RUNNING
list-vnext
list-vnext --status COMPLETED --flow main --tag hello --full --limit 5
list-vnext --updated-after 0 --limit 1
list-vnext --updated-after -1 --output table --limit 2
list-vnext --workflow-yaml-sha256 0000000000000000000000000000000000000000000000000000000000000000
watch {ended} --until-terminal
watch {ended} --records --max-events 1 --output json
watch {ended} --since 0 --timeout-sec 600 --max-events 1 --output status
watch {ended} --timeout-sec 1
cancel --run-id {waiting}
cancel --run-id {ended}
cancel --run-id {ended} --wait --timeout-sec 5
wheels
wheel-history
wheel-history --limit 5 --action upload
wheel-history --wheel-name none.whl --action delete
wheel-upload --wheel-file {wheel}
wheel-upload --wheel-file {wheel} --tags hello,b --replace --preflight strict
wheel-upload --wheel-file {wheel} --no-replace --preflight off
wheel-upload --wheel-file {wheel} --allow-no-entry-points --allow-missing-usage-doc
wheel-upload --wheel-file {path_there}
wheel-upload --wheel-file {path_there} --no-replace
wheel-delete --name {there}
-h
--help
submit -h
watch --help
"""

# What the client refuses itself, and what a gateway says of what it lacks.
CLIENT_ERRORS = """
''
bogus
--bogus
list --server http://127.0.0.1:1
submit extra
submit --bogus
submit --params nonsense
submit --params [1]
submit --param novalue
submit --param =1
submit --params-file {folder}/none.json
submit --params-file {folder}/list.json
submit --params-file {folder}/broken.json
submit --flow-name ""
submit --tag a.b
submit-yaml
submit-yaml --flow-name main --tag hello
submit-yaml --workflow-file {folder}/none.yaml --flow-name main --tag hello
submit-yaml --workflow-file {folder}/latin.yaml --flow-name main --tag hello
submit-yaml --workflow-file {folder}/wrong.yaml --flow-name main --tag hello
submit-yaml --workflow-file {folder}/large.yaml --flow-name main --tag hello
submit-yaml --workflow-file {folder}/flow.yaml --flow-name main --tag a.b
get
get none
get none --records
get a b
tasks
tasks none
list --limit many
list --limit 0
list --limit 201
list --output xml
list --status
list-vnext --limit 0
list-vnext --updated-after soon
list-vnext --cursor nonsense
watch
watch none
watch {ended} --output xml
watch {ended} --timeout-sec x
watch {ended} --since x
cancel
cancel --run-id
cancel --run-id none
cancel --run-id none --wait
workers --scope some
workers --state BUSY
workers --limit 0
workers --limit 501
workers --output xml
wheel-history --limit 0
wheel-history --action change
wheel-upload
wheel-upload --wheel-file {folder}/none.whl
wheel-upload --wheel-file {folder}/text.whl
wheel-upload --wheel-file {poor_wheel}
wheel-upload --wheel-file {wheel} --preflight maybe
wheel-upload --wheel-file {folder}/flow.yaml --preflight off
wheel-delete
wheel-delete --name none.whl
--server http://127.0.0.1:1 list
--server nonsense list
"""

# 0.5.1's gateway answers these with 503 while a worker writes its record, and says so about what is not
# there yet; and 0.5.1's cancel of a run that waits never ends.
CLIENT_ON_OURS = """
workers
workers --scope all --state IDLE --include-hidden --limit 500 --output json
workers --output table
workers --output plugins
workers --state DISCONNECTED --scope all
metrics
cancel --run-id {waiting} --wait
"""

WORKER = """
--nats-url {nats} --tags none --poll-timeout 0.1 --run-once
--nats-url {nats} --tags a,b --worker-id w9 --no-wheel-sync --poll-timeout 0.1 --run-once
--nats-url {nats} --wheel-sync --wheel-sync-dir {folder}/w --wheel-sync-interval-sec 1 --run-once
--nats-url {nats} --wheel-install-timeout-sec 9 --poll-timeout 0.1 --run-once
--help
--bogus
--poll-timeout soon
--wheel-sync-interval-sec soon
--nats-url {nats} --flow-resolver nonsense --run-once
--nats-url {nats} --flow-resolver :f --run-once
--nats-url {nats} --flow-resolver {folder}/none.py:resolve --run-once
--nats-url {nats} --flow-resolver {folder}/resolver.py:resolve --run-once
--nats-url {nats} --flow-resolver no_such_module:resolve --run-once
"""

ADMIN = """
--nats-url {nats} api-key create --tenant demo
--nats-url {nats} api-key list
--nats-url {nats} api-key revoke --key-id 000000000000
--help
api-key create --help
"""

SERVER = """
-h
up --help
up --with-nats-bootstrap --nats-listen-host 127.0.0.1 --nats-client-port {busy} --nats-http-port 1
--with-nats-bootstrap --nats-url nats://127.0.0.1:1
"""

# The contract says 1 for what the user can mend; 0.5.1's parser said 2 in these two programs.
MENDABLE = """
pyoco-server-admin
pyoco-server-admin --bogus
pyoco-server-admin api-key
pyoco-server-admin api-key create
pyoco-server-admin api-key revoke
pyoco-server --bogus
pyoco-server bogus
pyoco-server up --port x
pyoco-server up --dashboard-lang xx
"""


def lines(table: str) -> list[str]:
    # ``''`` stands for a command line without words.
    return ["" if line == "''" else line for line in table.splitlines() if line]


@dataclass
class Scene:
    """A gateway with an idle worker that is there, and 0.5.1's programs."""

    stage: Stage
    old: Old
    places: Places


@pytest.fixture(scope="module")
def ours(old_bin: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with open_stage(tmp_path_factory.mktemp("ours")) as stage:
        stage.nats()
        stage.gateway()
        stage.worker()
        # 0.5.1 falls over where there is no key at all.
        places = Places(stage)
        key = our_program("pyoco-server-admin", split(lines(ADMIN)[0], places))
        assert key.code == 0, key
        with old_programs(old_bin, stage.folder, stage.env) as old:
            yield Scene(stage, old, places)


@pytest.fixture(scope="module")
def theirs(old_bin: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with open_stage(tmp_path_factory.mktemp("theirs")) as stage:
        stage.nats()
        worker = f"pyoco-worker --nats-url {stage.nats_url} --tags hello --worker-id w1"
        up = f"pyoco-server up --port {stage.http_port} --nats-url {stage.nats_url}"
        start = partial(stage.start, executable=old_bin, env={"PYTHONPATH": ""})
        start(*up.split())
        wait_for(lambda: stage.answers("/health"), what="0.5.1's gateway")
        for last in (False, False, True):
            program = start(*worker.split())
            places = Places(stage)
            if _comes_to_rest(stage, places("ended")):
                break
            assert not last, "0.5.1 goes on writing a run that has ended"
            program.send(signal.SIGKILL)
            program.wait()
        with old_programs(old_bin, stage.folder, stage.env) as old:
            yield Scene(stage, old, places)


def _comes_to_rest(stage: Stage, ended: str) -> bool:
    """Whether 0.5.1 leaves a run alone that has ended; else it would move in lists.

    Its heartbeat writes it once or twice more, and for good where its end came at a bad moment.
    """
    for _ in range(10):
        if time.time() - stage.get(ended)["updated_at"] > 3 * _HEARTBEAT_SECONDS:
            return True
        time.sleep(_HEARTBEAT_SECONDS)
    return False


def same(old: Said, ours: Said) -> None:
    """Whether both ended alike; an error of ours has the form that all of them have."""
    assert ours.code == old.code, f"{old}\n{ours}"
    if ours.code == 1:
        assert ours.out == old.out == ""
        assert ERROR.search(ours.err), ours.err


def alike(line: str, old: Said, ours: Said) -> bool:
    return line == "metrics" or "-h" in line or documents(ours.out) == documents(old.out)


def on_both(scene: Scene, line: str) -> None:
    server = ["--server", scene.stage.url]
    for _ in range(5):
        old = scene.old("pyoco-client", [*server, *split(line, scene.places)])
        ours = client(scene.stage, *split(line, scene.places))
        # 0.5.1's gateway takes a listing that came too late for an empty bucket; and what an earlier line
        # asked for, such as a cancel, may take effect between the two.
        if "NoKeysError" not in old.err and alike(line, old, ours):
            break
    same(old, ours)
    if line == "metrics":
        assert metrics_of(ours.out) >= metrics_of(old.out)
    elif "-h" not in line:
        assert documents(ours.out) == documents(old.out)


@pytest.mark.parametrize("line", lines(CLIENT + CLIENT_ERRORS))
def test_the_client_does_what_it_did_on_our_gateway(ours: Scene, line: str) -> None:
    on_both(ours, line)


@pytest.mark.parametrize("line", lines(CLIENT))
def test_the_client_does_what_it_did_on_the_gateway_of_051(theirs: Scene, line: str) -> None:
    on_both(theirs, line)


@pytest.mark.parametrize("line", lines(CLIENT_ON_OURS))
def test_the_client_does_what_it_did_where_051s_gateway_cannot(ours: Scene, line: str) -> None:
    on_both(ours, line)


@pytest.mark.parametrize(
    ("program", "line"),
    [
        *(("pyoco-worker", line) for line in lines(WORKER)),
        *(("pyoco-server-admin", line) for line in lines(ADMIN)),
        *(("pyoco-server", line) for line in lines(SERVER)),
    ],
)
def test_the_other_programs_end_as_they_did(ours: Scene, program: str, line: str) -> None:
    argv = split(line, ours.places)
    old, now = ours.old(program, argv), our_program(program, argv)
    assert now.code == old.code, f"{old}\n{now}"
    if now.code == 1:
        assert ERROR.search(now.err), now.err
    if program == "pyoco-server-admin" and "help" not in line:
        assert_holds(documents(now.out), documents(old.out))


def assert_holds(now: object, old: object) -> None:
    """Whether all that was there is there; more is free."""
    match now, old:
        case dict(), dict():
            assert set(old) <= set(now)
            for key, value in old.items():
                assert_holds(now[key], value)
        case list(), list():
            assert len(now) == len(old)
            for each_now, each_old in zip(now, old, strict=True):
                assert_holds(each_now, each_old)
        case _:
            assert now == old


@pytest.mark.parametrize("line", lines(MENDABLE))
def test_a_wrong_command_line_of_the_operator_ends_with_1_now(ours: Scene, line: str) -> None:
    program, *argv = line.split()
    assert ours.old(program, argv).code == 2
    now = our_program(program, argv)
    assert (now.code, now.out) == (1, "")
    assert ERROR.search(now.err), now.err


def test_up_takes_every_flag(tmp_path: Path) -> None:
    with open_stage(tmp_path) as stage:
        up = (
            f"up --host 127.0.0.1 --port {stage.http_port} --log-level warning --dashboard-lang ja "
            f"--with-nats-bootstrap --nats-listen-host 127.0.0.1 --nats-client-port {stage.nats_port} "
            f"--nats-http-port {free_port()} --nats-url {stage.nats_url}"
        )
        stage.start("pyoco-server", *up.split())
        wait_for(stage.ready, what="a ready gateway")
