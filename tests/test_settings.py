from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from pyoco_cli.configuration import load_settings
from pyoco_server.backend import open_backend
from pyoco_server.settings import Settings, SettingsError, describe

# The defaults of the contract, as text.
DEFAULTS = """
PYOCO_NATS_URL nats://127.0.0.1:4222 | PYOCO_WORK_SUBJECT_PREFIX pyoco.work |
PYOCO_DEFAULT_TAG default | PYOCO_RUNS_KV_BUCKET pyoco_runs | PYOCO_WORKERS_KV_BUCKET pyoco_workers
PYOCO_WORKERS_KV_TTL_SEC 15 | PYOCO_WORKER_RECORD_TTL_SEC 2592000 |
PYOCO_HTTP_AUTH_MODE none | PYOCO_HTTP_API_KEY_HEADER X-API-Key |
PYOCO_AUTH_KV_BUCKET pyoco_auth | PYOCO_AUTH_PEPPER unset | PYOCO_RUN_HEARTBEAT_INTERVAL_SEC 1 |
PYOCO_WORKER_HEARTBEAT_INTERVAL_SEC 5 | PYOCO_WORKER_DISCONNECT_TIMEOUT_SEC 20 |
PYOCO_CANCEL_GRACE_PERIOD_SEC 30 | PYOCO_CONSUMER_ACK_WAIT_SEC 30 | PYOCO_CONSUMER_MAX_DELIVER 20 |
PYOCO_CONSUMER_MAX_ACK_PENDING 200 | PYOCO_ACK_PROGRESS_INTERVAL_SEC 10 |
PYOCO_DLQ_STREAM PYOCO_DLQ | PYOCO_DLQ_SUBJECT_PREFIX pyoco.dlq |
PYOCO_DLQ_PUBLISH_EXECUTION_ERROR true | PYOCO_DLQ_MAX_AGE_SEC 604800 | PYOCO_DLQ_MAX_MSGS 100000 |
PYOCO_DLQ_MAX_BYTES 536870912 | PYOCO_MAX_RUN_SNAPSHOT_BYTES 262144 |
PYOCO_WORKFLOW_YAML_MAX_BYTES 262144 | PYOCO_FLOW_CALLABLES * | PYOCO_WHEEL_OBJECT_STORE_BUCKET pyoco_wheels |
PYOCO_WHEEL_MAX_BYTES 536870912 | PYOCO_WHEEL_SYNC_ENABLED false | PYOCO_WHEEL_SYNC_DIR .pyoco/wheels |
PYOCO_WHEEL_SYNC_INTERVAL_SEC 10 | PYOCO_WHEEL_INSTALL_TIMEOUT_SEC 180 |
PYOCO_WHEEL_HISTORY_KV_BUCKET pyoco_wheel_history | PYOCO_WHEEL_HISTORY_TTL_SEC 7776000 |
PYOCO_DASHBOARD_LANG auto | PYOCO_LOG_LEVEL INFO | PYOCO_LOG_FORMAT json | PYOCO_LOG_UTC true |
PYOCO_LOG_INCLUDE_TRACEBACK true | PYOCO_JETSTREAM_REPLICAS 1 | PYOCO_STATE_DIR .pyoco |
PYOCO_WORKER_DRAIN_TIMEOUT_SEC 30 | PYOCO_WORKER_IMPORT_TIMEOUT_SEC 60 |
PYOCO_WORKER_TASK_USER unset | PYOCO_WHEEL_CHECK strict |
PYOCO_WORKER_FRESH_CHILD auto | PYOCO_WORKER_MEMORY_MB 0 | PYOCO_WORKER_CPU_SEC 0 | PYOCO_WORKER_CGROUP auto |
PYOCO_WORKER_PARALLEL_TASKS 0 |
PYOCO_NATS_USER unset | PYOCO_NATS_PASSWORD unset | PYOCO_NATS_PASSWORD_FILE unset |
PYOCO_NATS_URL_FILE unset | PYOCO_AUTH_PEPPER_FILE unset | PYOCO_NATS_CREDS unset |
PYOCO_NATS_TLS_CA unset | PYOCO_NATS_TLS_CERT unset | PYOCO_NATS_TLS_KEY unset |
PYOCO_RUNS_TTL_SEC 2592000 | PYOCO_WORKFLOWS_KV_BUCKET pyoco_workflows |
PYOCO_EVENTS_STREAM PYOCO_EVENTS | PYOCO_EVENTS_SUBJECT_PREFIX pyoco.events |
PYOCO_EVENTS_MAX_AGE_SEC 2592000 | PYOCO_EVENTS_MAX_BYTES 1073741824 |
PYOCO_EVENTS_MAX_MESSAGE_BYTES 262144 | PYOCO_EVENTS_RUN_MAX_BYTES 8388608 |
PYOCO_WHEEL_QUOTA_BYTES 10737418240 | PYOCO_ARTIFACTS_BUCKET pyoco_artifacts |
PYOCO_ARTIFACT_MAX_BYTES 536870912 | PYOCO_ARTIFACT_RUN_MAX_BYTES 2147483648 |
PYOCO_RESULT_MAX_BYTES 4194304 | PYOCO_ARTIFACT_MAX_COUNT 100 | PYOCO_ARTIFACT_MAX_AGE_SEC 0 |
PYOCO_RETRY_BACKOFF_MAX_SEC 300 | PYOCO_REAPER_INTERVAL_SEC 10 | PYOCO_RUN_ORPHAN_AFTER_SEC 60 |
PYOCO_IDEMPOTENCY_KV_BUCKET pyoco_idempotency | PYOCO_SCHEDULES_KV_BUCKET pyoco_schedules |
PYOCO_SCHEDULES_PER_TENANT 5000 |
PYOCO_STARTUP_WAIT_SEC 5 |
PYOCO_HTTP_INSECURE_BIND false | PYOCO_HTTP_MAX_CONNECTIONS 4096 | PYOCO_HTTP_MAX_STREAMS 2000 |
PYOCO_HTTP_MAX_STREAMS_PER_CLIENT 1000 | PYOCO_HTTP_MAX_BODY_BYTES 4194304 |
PYOCO_HTTP_HEAD_TIMEOUT_SEC 10 | PYOCO_HTTP_BODY_TIMEOUT_SEC 30 | PYOCO_HTTP_SEND_TIMEOUT_SEC 60
"""
# Texts that are empty where nothing is set.
EMPTY = (
    "PYOCO_CRASH_REPORTS_DIR",
    "PYOCO_HTTP_ALLOWED_HOSTS",
    "PYOCO_HTTP_ROOT_PATH",
    "PYOCO_HTTP_TRUSTED_PROXIES",
)


def read(tmp_path: Path, **environ: str) -> Settings:
    return Settings.from_env(environ, tmp_path)


def test_every_variable_is_described_with_the_default_of_the_contract(tmp_path: Path) -> None:
    words = DEFAULTS.replace("|", " ").split()
    expected = dict(zip(words[::2], words[1::2], strict=True))
    rows = {row.env: row for row in describe(Settings)}
    assert {name: row.default for name, row in rows.items()} == (
        expected | {"PYOCO_WORKER_SLOTS": "number of cores"} | dict.fromkeys(EMPTY, "")
    )
    assert all(row.doc.endswith(".") and row.takes for row in rows.values())
    assert read(tmp_path) == Settings()


def test_a_described_default_reads_back_as_the_default(tmp_path: Path) -> None:
    defaults = {
        row.env: row.default
        for row in describe(Settings)
        if row.default not in {"unset", "number of cores"}
    }
    assert read(tmp_path, **defaults) == Settings()


def test_the_names_that_cannot_be_set() -> None:
    assert Settings().work_stream == "PYOCO_WORK"
    assert Settings().consumer_prefix == "pyoco_workers"
    assert Settings().worker_slots == len(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    ("name", "text", "field", "value"),
    [
        ("PYOCO_NATS_URL", "tls://u:p@h:1,tls://h2:1", "nats_url", "tls://u:p@h:1,tls://h2:1"),
        ("PYOCO_NATS_URL", "localhost:4222", "nats_url", "localhost:4222"),
        ("PYOCO_NATS_URL", "nats://[::1]:4222/,h", "nats_url", "nats://[::1]:4222/,h"),
        ("PYOCO_NATS_URL", "tls://u:p%40@h_1.a", "nats_url", "tls://u:p%40@h_1.a"),
        ("PYOCO_NATS_URL", "bücher.example.:1", "nats_url", "bücher.example.:1"),
        ("PYOCO_STATE_DIR", "not/there/yet", "state_dir", "not/there/yet"),
        ("PYOCO_HTTP_ROOT_PATH", "/a/b.c/", "root_path", "/a/b.c"),
        ("PYOCO_RUNS_TTL_SEC", "1e3", "runs_ttl_sec", 1000.0),
        ("PYOCO_HTTP_ALLOWED_HOSTS", "A.b, [::1]", "allowed_hosts", frozenset({"a.b", "::1"})),
        ("PYOCO_WORKER_SLOTS", " 4 ", "worker_slots", 4),
        ("PYOCO_CONSUMER_ACK_WAIT_SEC", "0.5", "consumer_ack_wait_sec", 0.5),
        ("PYOCO_CONSUMER_MAX_DELIVER", "-1", "consumer_max_deliver", -1),
        ("PYOCO_CANCEL_GRACE_PERIOD_SEC", "0", "cancel_grace_period_sec", 0.0),
        ("PYOCO_WHEEL_SYNC_ENABLED", "On", "wheel_sync_enabled", True),
        ("PYOCO_LOG_UTC", "NO", "log_utc", False),
        ("PYOCO_LOG_LEVEL", "warn", "log_level", "WARNING"),
        ("PYOCO_LOG_FORMAT", "Text", "log_format", "text"),
        ("PYOCO_HTTP_AUTH_MODE", "API_KEY", "http_auth_mode", "api_key"),
        ("PYOCO_DASHBOARD_LANG", "ja_JP.UTF-8", "dashboard_lang", "ja"),
        ("PYOCO_DASHBOARD_LANG", "server", "dashboard_lang", "auto"),
        ("PYOCO_AUTH_PEPPER", " s p ", "auth_pepper", " s p "),
        ("PYOCO_AUTH_PEPPER", "  ", "auth_pepper", None),
        ("PYOCO_DEFAULT_TAG", "", "default_tag", "default"),
    ],
)
def test_what_a_variable_takes(
    tmp_path: Path, name: str, text: str, field: str, value: Any
) -> None:
    assert getattr(read(tmp_path, **{name: text}), field) == value


@pytest.mark.parametrize(
    ("name", "text", "takes"),
    [
        ("PYOCO_NATS_URL", "http://h:1", "nats://host:port"),
        *(
            ("PYOCO_NATS_URL", url, "nats://host:port")
            for url in (
                *("nats://h:99999", "nats://h:port", "nats://[::1", "nats://h:-1", "nats://h:0"),
                *("nats://", "nats://:4222", "nats://h:1,", ",", "nats://h:1,nats://h:x"),
                *("nats://[h]:1", "nats://::1:4222", "nats://h:1/x", "nats://h?x=1", "nats://h 1"),
                *("h:99999", "nats//h:4222", "nats:/h:4222", "mqtt://h:1"),
                *("ws://h:1", "wss://h", "nats://h:1,wss://h:1"),
                *(
                    "!!",
                    "a..b:1",
                    "nats://h\x00:1",
                    f"{'h' * 64}:1",
                    "nats://$HOST:4222",
                    "nats://h_1.:0",
                ),
            )
        ),
        *(
            (name, path, "the path of a folder")
            for name in ("PYOCO_STATE_DIR", "PYOCO_CRASH_REPORTS_DIR", "PYOCO_WHEEL_SYNC_DIR")
            for path in ("/dev/null", "/dev/null/x", f"{__file__}/x", "/" + "x" * 300, "a\x00b")
        ),
        ("PYOCO_JETSTREAM_REPLICAS", "6", "a whole number, 1 to 5"),
        ("PYOCO_DLQ_MAX_BYTES", "9223372036854775808", "a whole number"),
        ("PYOCO_DLQ_MAX_BYTES", "1_000", "a whole number"),
        ("PYOCO_DLQ_MAX_BYTES", "9" * 5000, "a whole number"),
        ("PYOCO_WORKER_SLOTS", "٣", "a whole number"),
        ("PYOCO_RUNS_TTL_SEC", "1e300", "seconds"),
        ("PYOCO_RUNS_TTL_SEC", "1_0", "seconds"),
        ("PYOCO_RUNS_KV_BUCKET", "a" * 201, "a bucket name"),
        ("PYOCO_DLQ_SUBJECT_PREFIX", "a." * 100 + "a", "a subject"),
        ("PYOCO_DEFAULT_TAG", "a" * 201, "a tag"),
        ("PYOCO_NATS_CREDS", "/no/such/file", "a file that can be read"),
        ("PYOCO_NATS_CREDS", __file__, "with a user's JWT and seed"),
        ("PYOCO_NATS_TLS_CA", "/", "a file that can be read"),
        ("PYOCO_NATS_TLS_CA", __file__, "with certificates as PEM"),
        ("PYOCO_NATS_TLS_CERT", __file__, "with certificates as PEM"),
        ("PYOCO_NATS_TLS_KEY", __file__, "with a private key as PEM"),
        ("PYOCO_HTTP_ALLOWED_HOSTS", "a.example:80", "names of hosts, without ports"),
        ("PYOCO_HTTP_ALLOWED_HOSTS", "https://a.example", "names of hosts"),
        ("PYOCO_HTTP_ALLOWED_HOSTS", "a,,b", "names of hosts"),
        *(
            ("PYOCO_HTTP_ROOT_PATH", path, "a path such as /pyoco")
            for path in ("pyoco", "/", "//h/x", "/a/../b", "/a b", "/a?b", "https://h/x")
        ),
        ("PYOCO_HTTP_TRUSTED_PROXIES", "10.0.0.300", "addresses or networks"),
        ("PYOCO_HTTP_TRUSTED_PROXIES", "proxy", "addresses or networks"),
        ("PYOCO_HTTP_TRUSTED_PROXIES", "10.0.0.1,", "addresses or networks"),
        ("PYOCO_WORKER_SLOTS", "0", "a whole number, 1 or more"),
        ("PYOCO_WORKER_SLOTS", "2.5", "a whole number"),
        ("PYOCO_CONSUMER_ACK_WAIT_SEC", "0", "seconds, more than 0"),
        ("PYOCO_EVENTS_MAX_AGE_SEC", "0.05", "seconds, 0.1 or more, or 0 for no limit"),
        ("PYOCO_CONSUMER_ACK_WAIT_SEC", "nan", "seconds"),
        ("PYOCO_CONSUMER_ACK_WAIT_SEC", "inf", "seconds"),
        ("PYOCO_CANCEL_GRACE_PERIOD_SEC", "-1", "seconds, 0 for none"),
        ("PYOCO_DLQ_MAX_MSGS", "-2", "or -1 for no limit"),
        ("PYOCO_LOG_UTC", "maybe", "1, true, yes, on or 0, false, no, off"),
        ("PYOCO_LOG_LEVEL", "LOUD", "DEBUG, INFO"),
        ("PYOCO_DASHBOARD_LANG", "fr", "auto, ja or en"),
        ("PYOCO_HTTP_AUTH_MODE", "basic", "none or api_key"),
        ("PYOCO_DEFAULT_TAG", "a.b", "a tag"),
        ("PYOCO_RUNS_KV_BUCKET", "a.b", "a bucket name"),
        ("PYOCO_WORK_SUBJECT_PREFIX", "pyoco.work.>", "a subject of tokens"),
        ("PYOCO_HTTP_API_KEY_HEADER", "X API", "the name of an HTTP header"),
        ("PYOCO_LOAD_DOTENV", "perhaps", "1, true, yes"),
    ],
)
def test_what_cannot_be_understood_is_named(
    tmp_path: Path, name: str, text: str, takes: str
) -> None:
    with pytest.raises(SettingsError) as caught:
        read(tmp_path, **{name: text})
    assert str(caught.value).startswith(f"{name} is {text!r}; it takes ")
    assert takes in str(caught.value)


def test_all_bad_variables_are_named_at_once(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        read(tmp_path, PYOCO_WORKER_SLOTS="x", PYOCO_LOG_UTC="x", PYOCO_LOG_LEVEL="INFO")
    assert [problem.split()[0] for problem in caught.value.problems] == [
        "PYOCO_WORKER_SLOTS",
        "PYOCO_LOG_UTC",
    ]


def test_secrets_are_never_shown(tmp_path: Path) -> None:
    shown = repr(
        read(tmp_path, PYOCO_AUTH_PEPPER="hush", PYOCO_NATS_URL="nats://me:hush@h:1,nats://h:2")
    )
    assert "hush" not in shown
    assert "nats://(hidden)@h:1,nats://h:2" in shown
    with pytest.raises(SettingsError) as caught:
        read(tmp_path, PYOCO_NATS_URL="nats://me:hu/sh,@h:1 2")
    assert "hu/sh" not in str(caught.value)


def test_the_environment_wins_over_the_file(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(
        "# mine\nexport PYOCO_DEFAULT_TAG=file\nPYOCO_LOG_LEVEL='DEBUG' # why\n"
        "PYOCO_AUTH_PEPPER=a${HOME}$b\nPYOCO_WORKER_SLOTS\nOTHER=1\n",
        encoding="utf-8",
    )
    settings = read(tmp_path, PYOCO_DEFAULT_TAG="process", PYOCO_LOG_LEVEL="")
    assert settings.default_tag == "process"
    assert settings.log_level == "DEBUG"
    assert settings.auth_pepper == "a${HOME}$b"
    for switched_off in ({"PYOCO_LOAD_DOTENV": "0"}, {"PYOCO_ENV_FILE": ""}):
        assert read(tmp_path, **switched_off) == Settings()


def test_a_name_that_is_nearly_one_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / ".env").write_text(
        "PYOCO_MAX_RUN_SNAPSHOT_BYTE=5\nPYOCO_TEAM=ours\nPYOCO_NATS_PASSWORD_FILE=x\n"
    )
    environ = {"PYOCO_NATSURL": "nats://x:1", "PYOCO_SERVER_URL": "http://x", "NATS_URL": "x"}
    assert Settings.misspelt(environ, tmp_path) == {
        "PYOCO_MAX_RUN_SNAPSHOT_BYTE": "PYOCO_MAX_RUN_SNAPSHOT_BYTES",
        "PYOCO_NATSURL": "PYOCO_NATS_URL",
    }
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").write_text("PYOCO_LOGLEVEL=info\n")
    load_settings()
    told = "no setting is called PYOCO_LOGLEVEL; did you mean PYOCO_LOG_LEVEL?\n"
    assert capsys.readouterr().err == told


def test_a_mark_that_nothing_ends_does_not_hide_a_setting(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text('OTHER=1\nPYOCO_HTTP_AUTH_MODE="api_key\nPYOCO_DEFAULT_TAG=a\n')
    with pytest.raises(
        SettingsError, match=r"PYOCO_HTTP_AUTH_MODE.* cannot be read in \.env, line 2"
    ):
        read(tmp_path)
    (tmp_path / ".env").write_text("PYOCO_DEFAULT_TAG=a\nOTHER='\n")
    assert read(tmp_path).default_tag == "a"


@pytest.mark.parametrize(
    ("variable", "stands_for"),
    [
        ("wheel_max_bytes", 0),
        ("dlq_max_msgs", -1),
        ("dlq_max_bytes", -1),
        ("consumer_max_deliver", -1),
        ("consumer_max_ack_pending", -1),
    ],
)
def test_a_limit_of_0_is_none_as_in_051(tmp_path: Path, variable: str, stands_for: int) -> None:
    settings = read(tmp_path, **{f"PYOCO_{variable.upper()}": "0"})
    assert getattr(settings, variable) == stands_for


def test_another_file(tmp_path: Path) -> None:
    (tmp_path / "mine.env").write_text("PYOCO_DEFAULT_TAG=mine\n", encoding="utf-8")
    assert read(tmp_path, PYOCO_ENV_FILE="mine.env").default_tag == "mine"
    assert read(tmp_path, PYOCO_ENV_FILE=str(tmp_path / "mine.env")).default_tag == "mine"


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"PYOCO_ENV_FILE is 'gone\.env', which cannot be read"):
        read(tmp_path, PYOCO_ENV_FILE="gone.env")
    (tmp_path / ".env").write_bytes(b"A=\xff")
    with pytest.raises(SettingsError, match="not UTF-8"):
        read(tmp_path)


def test_the_process_environment_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYOCO_LOAD_DOTENV", "0")
    monkeypatch.setenv("PYOCO_DEFAULT_TAG", "mine")
    assert Settings.from_env().default_tag == "mine"


@pytest.mark.parametrize(
    ("interval", "ack_wait", "used"), [(10, 30, 10), (20, 30, 15), (99, 30, 15), (0, 30, 15)]
)
def test_signs_of_life_stay_well_below_the_ack_wait(
    interval: float, ack_wait: float, used: float
) -> None:
    settings = replace(
        Settings(), ack_progress_interval_sec=interval, consumer_ack_wait_sec=ack_wait
    )
    assert settings.ack_progress_interval == used


async def test_a_program_is_told_of_a_url_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="PYOCO_NATS_URL is 'nats://h:99999'"):
        async with open_backend(Settings(state_dir=str(tmp_path)), nats="nats://h:99999"):
            raise AssertionError


def test_secrets_come_from_files_and_from_credentials(tmp_path: Path) -> None:
    (tmp_path / "password").write_text(" pass word\n")
    (tmp_path / "PYOCO_AUTH_PEPPER").write_text("of systemd")
    (tmp_path / "url").write_text("nats://u:p@host:4222\r\n")
    files = {
        "PYOCO_NATS_PASSWORD_FILE": "password",
        "PYOCO_NATS_URL_FILE": str(tmp_path / "url"),
        "CREDENTIALS_DIRECTORY": str(tmp_path),
    }
    settings = read(tmp_path, **files)
    assert (settings.nats_password, settings.auth_pepper) == (" pass word", "of systemd")
    assert settings.nats_url == "nats://u:p@host:4222"
    assert read(tmp_path, **files, PYOCO_NATS_PASSWORD="set").nats_password == "set"
    (tmp_path / ".env").write_text("PYOCO_AUTH_PEPPER_FILE=password\n")
    assert read(tmp_path).auth_pepper == " pass word"


@pytest.mark.parametrize(
    ("data", "why"),
    [(None, "No such file"), (b"\xff", "not UTF-8"), (b"not a url", "PYOCO_NATS_URL")],
)
def test_a_secret_file_that_cannot_be_read_is_told(
    tmp_path: Path, data: bytes | None, why: str
) -> None:
    if data is not None:
        (tmp_path / "secret").write_bytes(data)
    with pytest.raises(SettingsError, match=why) as caught:
        read(tmp_path, PYOCO_NATS_URL_FILE="secret")
    assert "not a url" not in str(caught.value) or data == b"not a url"


def test_a_path_that_cannot_be_one_is_told(tmp_path: Path) -> None:
    for name in ("PYOCO_NATS_PASSWORD_FILE", "PYOCO_ENV_FILE"):
        with pytest.raises(SettingsError, match=name):
            read(tmp_path, **{name: "a\x00b"})


PRINTS = """
import os, pathlib
from pyoco_server.settings import Settings
from pyoco_server.settings.secrets import keep_to_itself
settings = Settings.from_env()
Settings.forget_secrets()
assert settings.nats_password == "of nats", settings.nats_password
print(pathlib.Path("/proc/self/environ").read_bytes(), dict(os.environb))
keep_to_itself()
print(os.system("cat /proc/$PPID/environ"))
"""


def test_secrets_leave_the_environment_and_what_proc_shows_of_it(tmp_path: Path) -> None:
    secrets = {
        "PYOCO_NATS_URL": "nats://me:secret1@host",
        "PYOCO_NATS_PASSWORD": "of nats",
        "PYOCO_AUTH_PEPPER": "secret2",
        "PYOCO_API_KEY": "secret3",
    }
    others = {"PATH": os.environ["PATH"], "MINE": "kept", "PYOCO_NATS_USER": "shown"}
    done = subprocess.run(
        [sys.executable, "-c", PRINTS],
        env=secrets | others,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "secret" not in done.stdout
    assert "of nats" not in done.stdout
    assert done.stdout.count("kept") >= 2
    assert done.stdout.count("shown") >= 2


def test_a_url_without_a_user_stays_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYOCO_NATS_URL", "nats://host")
    monkeypatch.setenv("PYOCO_AUTH_PEPPER", "p")
    Settings.forget_secrets()
    assert os.environ["PYOCO_NATS_URL"] == "nats://host"
    assert "PYOCO_AUTH_PEPPER" not in os.environ
