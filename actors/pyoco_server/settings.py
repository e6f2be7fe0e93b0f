"""The settings, from the environment and a ``.env`` file.

Each variable is declared once, in :class:`Settings`: its name, what it takes, what it means and
its default.
"""

from __future__ import annotations

import io
import math
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, get_type_hints

import msgspec
from dotenv import dotenv_values

from pyoco_server.model.job import TAG

_FLAGS: Final = {
    **dict.fromkeys(("1", "true", "yes", "on"), True),
    **dict.fromkeys(("0", "false", "no", "off"), False),
}
_LEVELS: Final = {
    **{level: level for level in ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")},
    "WARN": "WARNING",
    "FATAL": "CRITICAL",
}
# Greedy: a password may hold any of the characters that divide a URL.
_USER_INFO: Final = re.compile(r"^(\w+://)?.*@", re.DOTALL)


class SettingsError(ValueError):
    """Variables that cannot be understood, all of them at once.

    Args:
        problems: One sentence for each: the variable, what it held, what it takes.
    """

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        super().__init__("\n".join(problems))


@dataclass(frozen=True, slots=True)
class Reader:
    """How the text of a variable becomes its value."""

    takes: str
    """What is right, for the error and the documentation."""
    read: Callable[[str], object]
    """Raises ``ValueError`` for what is not."""
    secret: bool = False
    """Whether its text is never shown."""


@dataclass(frozen=True, slots=True)
class Env:
    """The declaration of a variable, next to its field's type and default."""

    name: str
    reader: Reader
    doc: str


@dataclass(frozen=True, slots=True)
class SettingRow:
    """One variable, as the documentation shows it."""

    env: str
    field: str
    takes: str
    default: str
    doc: str


def _pattern(pattern: str, takes: str) -> Reader:
    def read(text: str) -> str:
        if re.fullmatch(pattern, text) is None:
            raise ValueError(text)
        return text

    return Reader(takes, read)


def _seconds(*, zero: str | None = None) -> Reader:
    def read(text: str) -> float:
        number = float(text)
        if not math.isfinite(number) or number < 0 or (number == 0 and zero is None):
            raise ValueError(text)
        return number

    return Reader(f"seconds, 0 for {zero}" if zero else "seconds, more than 0", read)


def _count(least: int, *, unlimited: int | None = None) -> Reader:
    def read(text: str) -> int:
        number = int(text)
        if number < least and number != unlimited:
            raise ValueError(text)
        return number

    limit = "" if unlimited is None else f", or {unlimited} for no limit"
    return Reader(f"a whole number, {least} or more{limit}", read)


def _choice(values: Mapping[str, object], takes: str, *, upper: bool = False) -> Reader:
    def read(text: str) -> object:
        return values[text.upper() if upper else text.lower()]

    return Reader(takes, read)


def _language(text: str) -> str:
    # 0.5.1 takes a locale such as ja_JP, and these words for "auto".
    short = text.lower()[:2]
    if short in {"ja", "en"}:
        return short
    if text.lower() in {"auto", "server", "system", "default"}:
        return "auto"
    raise ValueError(text)


def _cores() -> int:
    return len(os.sched_getaffinity(0))


_NAME: Final = r"[A-Za-z0-9_-]+"
_BUCKET: Final = _pattern(_NAME, "a bucket name of A-Z a-z 0-9 _ -")
_STREAM: Final = _pattern(_NAME, "a stream name of A-Z a-z 0-9 _ -")
_SUBJECT: Final = _pattern(rf"{_NAME}(\.{_NAME})*", "a subject of tokens with dots in between")
_FLAG: Final = _choice(_FLAGS, "1, true, yes, on or 0, false, no, off")
_TEXT: Final = _pattern(r".*\S.*", "a text")
_URL: Final = _pattern(
    r"((nats|tls|ws|wss)://)?[^\s,/]+/?(,((nats|tls|ws|wss)://)?[^\s,/]+/?)*",
    "nats://host:port, or several with commas in between",
)
_SECRET: Final = Reader("a text", str, secret=True)
_POSITIVE: Final = _seconds()


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What can be set. Durations are seconds, sizes are bytes."""

    nats_url: Annotated[str, Env("PYOCO_NATS_URL", _URL, "Where NATS is.")] = (
        "nats://127.0.0.1:4222"
    )
    jetstream_replicas: Annotated[
        int,
        Env("PYOCO_JETSTREAM_REPLICAS", _count(1), "Copies of each stream and bucket we create."),
    ] = 1
    work_stream: str = "PYOCO_WORK"
    work_subject_prefix: Annotated[
        str,
        Env("PYOCO_WORK_SUBJECT_PREFIX", _SUBJECT, "Subject of the jobs; the tag comes after it."),
    ] = "pyoco.work"
    consumer_prefix: str = "pyoco_workers"
    default_tag: Annotated[
        str,
        Env("PYOCO_DEFAULT_TAG", _pattern(TAG.pattern, "a tag"), "Tag of a run that names none."),
    ] = "default"
    consumer_ack_wait_sec: Annotated[
        float,
        Env(
            "PYOCO_CONSUMER_ACK_WAIT_SEC",
            _POSITIVE,
            "How long a job may be without a sign of life before it is delivered again.",
        ),
    ] = 30.0
    consumer_max_deliver: Annotated[
        int,
        Env("PYOCO_CONSUMER_MAX_DELIVER", _count(1, unlimited=-1), "Deliveries of a job at most."),
    ] = 20
    consumer_max_ack_pending: Annotated[
        int,
        Env(
            "PYOCO_CONSUMER_MAX_ACK_PENDING",
            _count(1, unlimited=-1),
            "Jobs of one tag that are executed at the same time at most.",
        ),
    ] = 200
    ack_progress_interval_sec: Annotated[
        float,
        Env(
            "PYOCO_ACK_PROGRESS_INTERVAL_SEC",
            _seconds(zero="half the ack wait"),
            "How often a job's sign of life is sent; at most half the ack wait is used.",
        ),
    ] = 10.0

    runs_kv_bucket: Annotated[
        str, Env("PYOCO_RUNS_KV_BUCKET", _BUCKET, "Bucket of the run snapshots.")
    ] = "pyoco_runs"
    max_run_snapshot_bytes: Annotated[
        int,
        Env(
            "PYOCO_MAX_RUN_SNAPSHOT_BYTES",
            _count(1024, unlimited=0),
            "Size of a snapshot above which it loses its task records.",
        ),
    ] = 256 * 1024
    run_heartbeat_interval_sec: Annotated[
        float,
        Env("PYOCO_RUN_HEARTBEAT_INTERVAL_SEC", _POSITIVE, "How often a run's heartbeat is kept."),
    ] = 1.0
    cancel_grace_period_sec: Annotated[
        float,
        Env(
            "PYOCO_CANCEL_GRACE_PERIOD_SEC",
            _seconds(zero="none"),
            "How long a cancelled run may take to end by itself before it is killed.",
        ),
    ] = 30.0
    workflow_yaml_max_bytes: Annotated[
        int,
        Env("PYOCO_WORKFLOW_YAML_MAX_BYTES", _count(1), "Size of a flow.yaml at most."),
    ] = 256 * 1024

    workers_kv_bucket: Annotated[
        str, Env("PYOCO_WORKERS_KV_BUCKET", _BUCKET, "Bucket of the worker records.")
    ] = "pyoco_workers"
    workers_kv_ttl_sec: Annotated[
        float,
        Env(
            "PYOCO_WORKERS_KV_TTL_SEC",
            _seconds(zero="none"),
            "Read for 0.5.1's sake and not used: a bucket that we create forgets no worker.",
        ),
    ] = 15.0
    worker_heartbeat_interval_sec: Annotated[
        float,
        Env("PYOCO_WORKER_HEARTBEAT_INTERVAL_SEC", _POSITIVE, "How often a worker says it lives."),
    ] = 5.0
    worker_disconnect_timeout_sec: Annotated[
        float,
        Env(
            "PYOCO_WORKER_DISCONNECT_TIMEOUT_SEC",
            _seconds(zero="never"),
            "How long a worker may be silent before it counts as disconnected.",
        ),
    ] = 20.0
    worker_slots: Annotated[
        int,
        Env("PYOCO_WORKER_SLOTS", _count(1), "Runs that a worker executes at the same time."),
    ] = msgspec.field(default_factory=_cores)
    worker_drain_timeout_sec: Annotated[
        float,
        Env(
            "PYOCO_WORKER_DRAIN_TIMEOUT_SEC",
            _seconds(zero="none"),
            "How long a worker that was told to stop lets its runs go on.",
        ),
    ] = 30.0
    state_dir: Annotated[
        str, Env("PYOCO_STATE_DIR", _TEXT, "Folder of what outlives a process on this machine.")
    ] = ".pyoco"

    http_auth_mode: Annotated[
        str,
        Env(
            "PYOCO_HTTP_AUTH_MODE",
            _choice({"none": "none", "api_key": "api_key"}, "none or api_key"),
            "Whether calls need an API key.",
        ),
    ] = "none"
    http_api_key_header: Annotated[
        str,
        Env(
            "PYOCO_HTTP_API_KEY_HEADER",
            _pattern(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+", "the name of an HTTP header"),
            "Header that carries the API key.",
        ),
    ] = "X-API-Key"
    auth_kv_bucket: Annotated[
        str, Env("PYOCO_AUTH_KV_BUCKET", _BUCKET, "Bucket of the API keys.")
    ] = "pyoco_auth"
    auth_pepper: Annotated[
        str | None,
        Env("PYOCO_AUTH_PEPPER", _SECRET, "Secret that is hashed along with every API key."),
    ] = None

    dlq_stream: Annotated[str, Env("PYOCO_DLQ_STREAM", _STREAM, "Stream of the dead letters.")] = (
        "PYOCO_DLQ"
    )
    dlq_subject_prefix: Annotated[
        str,
        Env("PYOCO_DLQ_SUBJECT_PREFIX", _SUBJECT, "Subject of the dead letters, before the tag."),
    ] = "pyoco.dlq"
    dlq_publish_execution_error: Annotated[
        bool,
        Env("PYOCO_DLQ_PUBLISH_EXECUTION_ERROR", _FLAG, "Whether a failed flow is a dead letter."),
    ] = True
    dlq_max_age_sec: Annotated[
        float,
        Env("PYOCO_DLQ_MAX_AGE_SEC", _seconds(zero="no limit"), "How long one is kept."),
    ] = 604_800.0
    dlq_max_msgs: Annotated[
        int, Env("PYOCO_DLQ_MAX_MSGS", _count(1, unlimited=-1), "How many are kept.")
    ] = 100_000
    dlq_max_bytes: Annotated[
        int, Env("PYOCO_DLQ_MAX_BYTES", _count(1, unlimited=-1), "How many bytes of them are kept.")
    ] = 536_870_912

    wheel_object_store_bucket: Annotated[
        str, Env("PYOCO_WHEEL_OBJECT_STORE_BUCKET", _BUCKET, "Object store of the wheels.")
    ] = "pyoco_wheels"
    wheel_max_bytes: Annotated[
        int, Env("PYOCO_WHEEL_MAX_BYTES", _count(1), "Size of a wheel at most.")
    ] = 536_870_912
    wheel_check: Annotated[
        str,
        Env(
            "PYOCO_WHEEL_CHECK",
            _choice({"strict": "strict", "off": "off"}, "strict or off"),
            "Whether an uploaded wheel is checked; off takes any bytes, as 0.5.1 does.",
        ),
    ] = "strict"
    wheel_sync_enabled: Annotated[
        bool, Env("PYOCO_WHEEL_SYNC_ENABLED", _FLAG, "Whether a worker installs the wheels.")
    ] = False
    wheel_sync_dir: Annotated[
        str, Env("PYOCO_WHEEL_SYNC_DIR", _TEXT, "Folder where a worker keeps them.")
    ] = ".pyoco/wheels"
    wheel_sync_interval_sec: Annotated[
        float,
        Env("PYOCO_WHEEL_SYNC_INTERVAL_SEC", _POSITIVE, "How often a worker looks for new ones."),
    ] = 10.0
    wheel_install_timeout_sec: Annotated[
        float,
        Env("PYOCO_WHEEL_INSTALL_TIMEOUT_SEC", _POSITIVE, "How long installing one may take."),
    ] = 180.0
    wheel_history_kv_bucket: Annotated[
        str,
        Env("PYOCO_WHEEL_HISTORY_KV_BUCKET", _BUCKET, "Bucket of what was done to wheels."),
    ] = "pyoco_wheel_history"
    wheel_history_ttl_sec: Annotated[
        float,
        Env("PYOCO_WHEEL_HISTORY_TTL_SEC", _seconds(zero="no limit"), "How long that is kept."),
    ] = 7_776_000.0

    dashboard_lang: Annotated[
        str,
        Env(
            "PYOCO_DASHBOARD_LANG",
            Reader("auto, ja or en", _language),
            "Language of the dashboard; auto is the machine's.",
        ),
    ] = "auto"
    log_level: Annotated[
        str,
        Env(
            "PYOCO_LOG_LEVEL",
            _choice(_LEVELS, "DEBUG, INFO, WARNING, ERROR or CRITICAL", upper=True),
            "Least level that is logged.",
        ),
    ] = "INFO"
    log_format: Annotated[
        str,
        Env(
            "PYOCO_LOG_FORMAT",
            _choice({"json": "json", "text": "text"}, "json or text"),
            "Form of the log lines.",
        ),
    ] = "json"
    log_utc: Annotated[
        bool, Env("PYOCO_LOG_UTC", _FLAG, "Whether log times are in UTC instead of local.")
    ] = True
    log_include_traceback: Annotated[
        bool,
        Env("PYOCO_LOG_INCLUDE_TRACEBACK", _FLAG, "Whether an error's traceback is logged."),
    ] = True

    @property
    def ack_progress_interval(self) -> float:
        """How often a job's sign of life is sent, in seconds: at most half the ack wait."""
        half = self.consumer_ack_wait_sec / 2
        return min(self.ack_progress_interval_sec or half, half)

    @classmethod
    def from_env(
        cls, environ: Mapping[str, str] | None = None, cwd: Path | None = None
    ) -> Settings:
        """Read the settings.

        A variable of the process wins over one of the ``.env`` file; an empty one counts as not
        set. The file is ``.env``, or what ``PYOCO_ENV_FILE`` names, and is not read at all when
        ``PYOCO_LOAD_DOTENV`` is 0; its values are taken as they stand, without interpolation.

        Args:
            environ: The variables of the process; those of this process when ``None``.
            cwd: Where relative paths of files start; the working directory when ``None``.

        Raises:
            SettingsError: Variables, or the file, cannot be understood.
        """
        environ = os.environ if environ is None else environ
        problems: list[str] = []
        of_file = _read_file(environ, cwd or Path.cwd(), problems)
        values: dict[str, Any] = {}
        for field, env in _VARIABLES.items():
            text = environ.get(env.name) or of_file.get(env.name) or ""
            if not text.strip():
                continue
            try:
                values[field] = env.reader.read(text if env.reader.secret else text.strip())
            except (ValueError, KeyError):
                problems.append(_problem(env.name, text, env.reader))
        if problems:
            raise SettingsError(problems)
        return cls(**values)

    def __repr__(self) -> str:
        """Show every setting but the secrets."""
        shown = {
            **msgspec.structs.asdict(self),
            "auth_pepper": None if self.auth_pepper is None else "(hidden)",
            "nats_url": _without_user(self.nats_url),
        }
        return f"Settings({', '.join(f'{name}={value!r}' for name, value in shown.items())})"


def _variables() -> dict[str, Env]:
    hints = get_type_hints(Settings, include_extras=True)
    return {
        field: env
        for field, hint in hints.items()
        for env in getattr(hint, "__metadata__", ())
        if isinstance(env, Env)
    }


_VARIABLES: Final = _variables()


def describe() -> list[SettingRow]:
    """Return every variable, for the documentation."""
    rows = []
    for field in msgspec.structs.fields(Settings):
        env = _VARIABLES.get(field.name)
        if env is None:
            continue
        match field.default:
            case None:
                default = "unset"
            case bool() as flag:
                default = str(flag).lower()
            case msgspec.NODEFAULT:
                default = "number of cores"
            case float() as number:
                default = f"{number:g}" if number < 1e6 else f"{number:.0f}"
            case other:
                default = str(other)
        rows.append(SettingRow(env.name, field.name, env.reader.takes, default, env.doc))
    return rows


def _read_file(
    environ: Mapping[str, str], cwd: Path, problems: list[str]
) -> Mapping[str, str | None]:
    enabled = environ.get("PYOCO_LOAD_DOTENV", "").strip() or "1"
    try:
        if not _FLAG.read(enabled):
            return {}
    except KeyError:
        problems.append(_problem("PYOCO_LOAD_DOTENV", enabled, _FLAG))
        return {}
    named = environ.get("PYOCO_ENV_FILE", ".env").strip()
    path = cwd / Path(named).expanduser()
    # As in 0.5.1, an empty name stands for no file at all.
    if not named or ("PYOCO_ENV_FILE" not in environ and not path.is_file()):
        return {}
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = "not UTF-8" if isinstance(error, UnicodeDecodeError) else error.strerror
        problems.append(
            f"PYOCO_ENV_FILE is {named!r}, which cannot be read ({why}); "
            "it takes the path of a text file"
        )
        return {}
    return dotenv_values(stream=io.StringIO(text), interpolate=False)


def _problem(name: str, text: str, reader: Reader) -> str:
    shown = "a value that is not shown" if reader.secret else repr(_without_user(text))
    return f"{name} is {shown}; it takes {reader.takes}"


def _without_user(url: str) -> str:
    """Hide the user and password that a URL may carry."""
    return _USER_INFO.sub(r"\1(hidden)@", url)
