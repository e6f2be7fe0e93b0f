"""The settings, each declared once: its name, what it takes, what it means and its default."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import msgspec

from pyoco_server.model.flow.callables import PATTERNS, CallableRules, callable_rules
from pyoco_server.model.job import check_tag
from pyoco_server.settings.environment import (
    Env,
    forget_secrets,
    misspelt,
    read_variables,
    variables_of,
    without_user,
)
from pyoco_server.settings.http_limits import HttpLimits
from pyoco_server.settings.readers import (
    BUCKET,
    CERTIFICATES,
    CREDENTIALS,
    FLAG,
    FOLDER,
    KEPT,
    LEVELS,
    POSITIVE,
    PRIVATE_KEY,
    SECRET,
    STREAM,
    SUBJECT,
    TEXT,
    URL,
    Reader,
    choice,
    cores,
    count,
    language,
    pattern,
    seconds,
    word,
)


class Settings(HttpLimits, frozen=True, kw_only=True):
    """What can be set. Durations are seconds, sizes are bytes."""

    nats_url: Annotated[str, Env(URL, "Where NATS is.", in_file=True)] = "nats://127.0.0.1:4222"
    nats_user: Annotated[str | None, Env(TEXT, "User for NATS, unless the URL holds it.")] = None
    nats_password: Annotated[str | None, Env(SECRET, "Password of that user.", in_file=True)] = None
    nats_credentials: Annotated[
        str | None,
        Env(CREDENTIALS, "File with credentials (JWT and seed) for NATS.", name="PYOCO_NATS_CREDS"),
    ] = None
    nats_tls_ca: Annotated[
        str | None, Env(CERTIFICATES, "File of the certificates that a NATS server's must be from.")
    ] = None
    nats_tls_cert: Annotated[
        str | None, Env(CERTIFICATES, "File of our own certificate for NATS.")
    ] = None
    nats_tls_key: Annotated[str | None, Env(PRIVATE_KEY, "File of that certificate's key.")] = None
    jetstream_replicas: Annotated[
        int, Env(count(1, 5), "Copies of each stream and bucket we create.")
    ] = 1
    work_stream: str = "PYOCO_WORK"
    work_subject_prefix: Annotated[
        str, Env(SUBJECT, "Subject of the jobs; the tag comes after it.")
    ] = "pyoco.work"
    consumer_prefix: str = "pyoco_workers"
    default_tag: Annotated[
        str, Env(Reader("a tag of A-Z a-z 0-9 _ -", check_tag), "Tag of a run that names none.")
    ] = "default"
    consumer_ack_wait_sec: Annotated[
        float,
        Env(POSITIVE, "How long a job may be without a sign of life before it is delivered again."),
    ] = 30.0
    consumer_max_deliver: Annotated[
        int, Env(count(1, unlimited=-1), "Deliveries of a job at most.")
    ] = 20
    consumer_max_ack_pending: Annotated[
        int,
        Env(count(1, unlimited=-1), "Jobs of one tag that are executed at the same time at most."),
    ] = 200
    ack_progress_interval_sec: Annotated[
        float,
        Env(
            seconds(zero="half the ack wait"),
            "How often a job's sign of life is sent; at most half the ack wait is used.",
        ),
    ] = 10.0

    runs_kv_bucket: Annotated[str, Env(BUCKET, "Bucket of the run snapshots.")] = "pyoco_runs"
    runs_ttl_sec: Annotated[
        float, Env(seconds(zero="no limit"), "How long a run is kept after its end.")
    ] = 2_592_000.0
    workflows_kv_bucket: Annotated[
        str, Env(BUCKET, "Bucket of the flow.yaml texts that runs brought.")
    ] = "pyoco_workflows"
    idempotency_kv_bucket: Annotated[
        str, Env(BUCKET, "Bucket of the idempotency keys of a day.")
    ] = "pyoco_idempotency"
    schedules_kv_bucket: Annotated[str, Env(BUCKET, "Bucket of the schedules.")] = "pyoco_schedules"
    schedules_per_tenant: Annotated[
        int, Env(count(1), "How many schedules a tenant may have, where API keys are asked for.")
    ] = 5_000
    max_run_snapshot_bytes: Annotated[
        int,
        Env(count(1024, unlimited=0), "Size of a snapshot above which it loses its task records."),
    ] = 256 * 1024
    run_heartbeat_interval_sec: Annotated[
        float, Env(POSITIVE, "How often a run's heartbeat is kept.")
    ] = 1.0
    cancel_grace_period_sec: Annotated[
        float,
        Env(
            seconds(zero="none"),
            "How long a cancelled run may take to end by itself before it is killed.",
        ),
    ] = 30.0
    retry_backoff_max_sec: Annotated[
        float,
        Env(
            seconds(zero="no wait"), "How long a failed run waits at most before its next attempt."
        ),
    ] = 300.0
    reaper_interval_sec: Annotated[
        float, Env(POSITIVE, "How often runs are looked for that nobody ends.")
    ] = 10.0
    run_orphan_after_sec: Annotated[
        float,
        Env(
            POSITIVE,
            "How long a run may be without a sign of life before it is looked at whether anybody has it.",
        ),
    ] = 60.0
    workflow_yaml_max_bytes: Annotated[int, Env(count(1), "Size of a flow.yaml at most.")] = (
        256 * 1024
    )
    flow_callables: Annotated[
        str,
        Env(
            pattern(PATTERNS, "patterns such as ours.*, ours.tasks:load_* or wheel:*"),
            "Which functions a flow.yaml may name by `callable`, for gateways and workers.",
        ),
    ] = "*"

    workers_kv_bucket: Annotated[str, Env(BUCKET, "Bucket of the worker records.")] = (
        "pyoco_workers"
    )
    workers_kv_ttl_sec: Annotated[
        float,
        Env(
            seconds(zero="none"),
            "Read for 0.5.1's sake and not used: see PYOCO_WORKER_RECORD_TTL_SEC.",
        ),
    ] = 15.0
    worker_record_ttl_sec: Annotated[
        float,
        Env(seconds(zero="no limit"), "How long a worker that is not seen any more is remembered."),
    ] = 2_592_000.0
    worker_heartbeat_interval_sec: Annotated[
        float, Env(POSITIVE, "How often a worker says it lives.")
    ] = 5.0
    worker_disconnect_timeout_sec: Annotated[
        float,
        Env(
            seconds(zero="never"),
            "How long a worker may be silent before it counts as disconnected.",
        ),
    ] = 20.0
    worker_slots: Annotated[int, Env(count(1), "Runs that a worker executes at the same time.")] = (
        msgspec.field(default_factory=cores)
    )
    worker_parallel_tasks: Annotated[
        int,
        Env(
            count(0),
            "Tasks of one run that run at the same time, where its flow says nothing of `parallel_tasks`; 0: "
            "four for each core, and at least 8.",
        ),
    ] = 0
    worker_fresh_child: Annotated[
        str,
        Env(
            word("auto", "always"),
            "When a run gets a child process that has executed nothing: where the run before left something "
            "that cannot be undone, or for each run.",
        ),
    ] = "auto"
    worker_memory_mb: Annotated[
        int,
        Env(
            count(1, unlimited=0),
            "How much memory the processes of an attempt may have together, in MB of 1,048,576 bytes; a run "
            "may set less by memory_mb.",
        ),
    ] = 0
    worker_cpu_sec: Annotated[
        float,
        Env(
            seconds(zero="no limit"),
            "How much processor time the processes of an attempt may take together; a run may set less by "
            "cpu_sec.",
        ),
    ] = 0.0
    worker_cgroup: Annotated[
        str,
        Env(
            TEXT,
            "Control group (version 2) below which each slot gets one: that of the worker where it was "
            "delegated (auto), none (off), or the one of this folder.",
        ),
    ] = "auto"
    worker_drain_timeout_sec: Annotated[
        float,
        Env(seconds(zero="none"), "How long a worker that was told to stop lets its runs go on."),
    ] = 30.0
    startup_wait_sec: Annotated[
        float,
        Env(
            seconds(zero="not at all"),
            "How long the gateway keeps its port closed at most while it cannot serve yet.",
        ),
    ] = 5.0
    worker_task_user: Annotated[
        str | None,
        Env(
            TEXT,
            "User that executes task code, where the worker may give its children another one than its own.",
        ),
    ] = None
    worker_import_timeout_sec: Annotated[
        float,
        Env(
            POSITIVE,
            "How long the import of a plug-in, or of a module that a flow.yaml names, may take.",
        ),
    ] = 60.0
    state_dir: Annotated[str, Env(FOLDER, "Folder of what outlives a process on this machine.")] = (
        ".pyoco"
    )
    crash_reports_dir: Annotated[
        str,
        Env(
            FOLDER,
            "Folder into which the messages of a crashed actor are written, to be replayed; empty: nowhere. "
            "They hold params of runs.",
        ),
    ] = ""

    http_auth_mode: Annotated[
        str, Env(word("none", "api_key"), "Whether calls need an API key.")
    ] = "none"
    http_api_key_header: Annotated[
        str,
        Env(
            pattern(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+", "the name of an HTTP header"),
            "Header that carries the API key.",
        ),
    ] = "X-API-Key"
    auth_kv_bucket: Annotated[str, Env(BUCKET, "Bucket of the API keys.")] = "pyoco_auth"
    auth_pepper: Annotated[
        str | None, Env(SECRET, "Secret that is hashed along with every API key.", in_file=True)
    ] = None

    dlq_stream: Annotated[str, Env(STREAM, "Stream of the dead letters.")] = "PYOCO_DLQ"
    dlq_subject_prefix: Annotated[
        str, Env(SUBJECT, "Subject of the dead letters, before the tag.")
    ] = "pyoco.dlq"
    dlq_publish_execution_error: Annotated[
        bool, Env(FLAG, "Whether a failed flow is a dead letter.")
    ] = True
    dlq_max_age_sec: Annotated[float, Env(KEPT, "How long one is kept.")] = 604_800.0
    dlq_max_msgs: Annotated[int, Env(count(1, unlimited=-1), "How many are kept.")] = 100_000
    dlq_max_bytes: Annotated[
        int, Env(count(1, unlimited=-1), "How many bytes of them are kept.")
    ] = 536_870_912

    events_stream: Annotated[str, Env(STREAM, "Stream of the runs' events and logs.")] = (
        "PYOCO_EVENTS"
    )
    events_subject_prefix: Annotated[
        str, Env(SUBJECT, "Subject of the events, before the run's id.")
    ] = "pyoco.events"
    events_max_age_sec: Annotated[float, Env(KEPT, "How long one is kept.")] = 2_592_000.0
    events_max_bytes: Annotated[
        int, Env(count(1, unlimited=-1), "How many bytes of them are kept.")
    ] = 1024**3
    events_max_message_bytes: Annotated[
        int,
        Env(
            count(64 * 1024), "Size of a message that events are gathered in; NATS has to take it."
        ),
    ] = 256 * 1024
    events_run_max_bytes: Annotated[
        int, Env(count(1024), "How many bytes of what one attempt of a run prints are kept.")
    ] = 8 * 1024**2

    wheel_object_store_bucket: Annotated[str, Env(BUCKET, "Object store of the wheels.")] = (
        "pyoco_wheels"
    )
    wheel_max_bytes: Annotated[int, Env(count(1, unlimited=0), "Size of a wheel at most.")] = (
        536_870_912
    )
    wheel_quota_bytes: Annotated[
        int,
        Env(
            count(1, unlimited=0),
            "Size of all wheels of one tenant, or of all shared ones, at most.",
        ),
    ] = 10 * 1024**3
    wheel_check: Annotated[
        str,
        Env(
            word("strict", "off"),
            "Whether an uploaded wheel is checked; off takes any bytes, as 0.5.1 does.",
        ),
    ] = "strict"
    wheel_sync_enabled: Annotated[bool, Env(FLAG, "Whether a worker installs the wheels.")] = False
    wheel_sync_dir: Annotated[str, Env(FOLDER, "Folder where a worker keeps them.")] = (
        ".pyoco/wheels"
    )
    wheel_sync_interval_sec: Annotated[
        float, Env(POSITIVE, "How often a worker looks for new ones.")
    ] = 10.0
    wheel_install_timeout_sec: Annotated[
        float, Env(POSITIVE, "How long installing one may take.")
    ] = 180.0
    wheel_history_kv_bucket: Annotated[str, Env(BUCKET, "Bucket of what was done to wheels.")] = (
        "pyoco_wheel_history"
    )
    wheel_history_ttl_sec: Annotated[float, Env(KEPT, "How long that is kept.")] = 7_776_000.0

    artifacts_bucket: Annotated[str, Env(BUCKET, "Object store of what runs saved.")] = (
        "pyoco_artifacts"
    )
    artifact_max_bytes: Annotated[int, Env(count(1), "Size of an artifact at most.")] = (
        512 * 1024**2
    )
    artifact_run_max_bytes: Annotated[
        int, Env(count(1), "Size of all artifacts and kept results of a run at most.")
    ] = 2 * 1024**3
    result_max_bytes: Annotated[
        int,
        Env(
            count(0),
            "Size of a task's result at most that is kept beside the run's snapshot, as JSON; 0 keeps none.",
        ),
    ] = 4 * 1024**2
    artifact_max_count: Annotated[
        int, Env(count(0), "Artifacts of a run that are kept at most.")
    ] = 100
    artifact_max_age_sec: Annotated[
        float, Env(seconds(zero="as long as its run"), "How long an artifact is kept.")
    ] = 0.0

    dashboard_lang: Annotated[
        str,
        Env(
            Reader("auto, ja or en", language), "Language of the dashboard; auto is the browser's."
        ),
    ] = "auto"
    log_level: Annotated[
        str,
        Env(
            choice(LEVELS, "DEBUG, INFO, WARNING, ERROR or CRITICAL", upper=True),
            "Least level that is logged.",
        ),
    ] = "INFO"
    log_format: Annotated[str, Env(word("json", "text"), "Form of the log lines.")] = "json"
    log_utc: Annotated[bool, Env(FLAG, "Whether log times are in UTC instead of local.")] = True
    log_include_traceback: Annotated[bool, Env(FLAG, "Whether an error's traceback is logged.")] = (
        True
    )

    @property
    def ack_progress_interval(self) -> float:
        """How often a job's sign of life is sent, in seconds: at most half the ack wait."""
        half = self.consumer_ack_wait_sec / 2
        return min(self.ack_progress_interval_sec or half, half)

    @property
    def owner_respected_sec(self) -> float:
        """For how many seconds a run is not taken from who showed life: a third of the ack wait.

        A job whose owner is lost comes again half the ack wait after its last sign of life, at the earliest.
        """
        return self.consumer_ack_wait_sec / 3

    @property
    def callables(self) -> CallableRules:
        """Which functions a flow.yaml may name."""
        return callable_rules(self.flow_callables)

    @classmethod
    def from_env(
        cls,
        environ: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        defaults: Mapping[str, str] | None = None,
    ) -> Settings:
        """Read the settings.

        A variable of the process wins over one of the ``.env`` file; an empty one counts as not
        set. The file is ``.env``, or what ``PYOCO_ENV_FILE`` names, and is not read at all when
        ``PYOCO_LOAD_DOTENV`` is 0; its values are taken as they stand, without interpolation. A
        secret that is not set is read from the file that ``<variable>_FILE`` names, or from
        systemd's credential of the variable's name.

        Args:
            environ: The variables of the process; those of this process when ``None``.
            cwd: Where relative paths of files start; the working directory when ``None``.
            defaults: Variables that count where neither sets them, before the declared defaults.

        Raises:
            SettingsError: Variables, or the file, cannot be understood.
        """
        return cls(**read_variables(cls, environ, cwd, defaults or {}))

    @classmethod
    def misspelt(
        cls, environ: Mapping[str, str] | None = None, cwd: Path | None = None
    ) -> dict[str, str]:
        """Variables that no setting is called, each with the one that was most likely meant.

        Args:
            environ: As `from_env` takes it.
            cwd: The same.
        """
        return misspelt(cls, os.environ if environ is None else environ, cwd or Path.cwd())

    @classmethod
    def forget_secrets(cls) -> None:
        """Take the secrets out of the environment of this process, and out of what /proc shows of it.

        Call it when the settings have been read, before anything is started that others can
        determine.
        """
        forget_secrets(cls)

    def for_node(self, url: str) -> Settings:
        """The same, for a NATS node of this machine: its URL, and nothing of how to log in elsewhere."""
        return msgspec.structs.replace(
            self,
            nats_url=url,
            nats_user=None,
            nats_password=None,
            nats_credentials=None,
            nats_tls_ca=None,
            nats_tls_cert=None,
            nats_tls_key=None,
        )

    def __repr__(self) -> str:
        """Show every setting but the secrets."""
        shown = {**msgspec.structs.asdict(self), "nats_url": without_user(self.nats_url)}
        for field, env in variables_of(type(self)).items():
            if env.reader.secret and shown[field] is not None:
                shown[field] = "(hidden)"
        return f"Settings({', '.join(f'{name}={value!r}' for name, value in shown.items())})"
