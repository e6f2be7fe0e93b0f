"""English and Japanese: the few fixed texts that a user meets, in one table."""

# ruff: noqa: RUF001 - Japanese has its own brackets

from __future__ import annotations

import os
from dataclasses import dataclass
from enum import Enum

from pyoco_server.model.errors import ErrorId


def speaks_japanese() -> bool:
    """Whether the user's locale is Japanese; the variables rank as in POSIX."""
    for name in ("LC_ALL", "LC_MESSAGES", "LANG"):
        value = os.environ.get(name)
        if value:
            return value.lower().startswith("ja")
    return False


@dataclass(frozen=True, slots=True)
class _Both:
    english: str
    japanese: str


class Phrase(Enum):
    """A fixed text; ``str()`` gives it in the user's language, ``fill()`` with values put in."""

    SEE_HELP = _Both("{command} -h", "{command} -h")
    GLOBAL_OPTION = _Both(
        "{option} comes before the command: {program} {option} …",
        "{option} はサブコマンドの前に置いてください: {program} {option} …",
    )
    START_GATEWAY = _Both(
        "check --server (or PYOCO_SERVER_URL), or start a gateway: pyoco-server up",
        "--server（または PYOCO_SERVER_URL）を確認するか、ゲートウェイを起動してください: "
        "pyoco-server up",
    )
    WRONG_URL = _Both(
        "give a URL such as http://127.0.0.1:8000",
        "http://127.0.0.1:8000 のような URL を指定してください",
    )
    WRONG_PROXY = _Both(
        "name a proxy such as http://127.0.0.1:3128 there, or none",
        "http://127.0.0.1:3128 のような HTTP プロキシを指定するか、変数を外してください",
    )
    WRONG_KEY_TEXT = _Both(
        "check the spelling of --api-key (or PYOCO_API_KEY) and --api-key-header",
        "--api-key（または PYOCO_API_KEY）と --api-key-header の表記を確認してください",
    )
    GIVE_KEY = _Both(
        "give --api-key, or set PYOCO_API_KEY",
        "--api-key を指定するか、PYOCO_API_KEY を設定してください",
    )
    CHECK_KEY = _Both(
        "check the key; an operator makes a new one with: pyoco-server-admin api-key create",
        "キーを確認してください。新しいキーの発行: pyoco-server-admin api-key create",
    )
    KEY_LACKS_ROLE = _Both(
        "this key may not do that; an operator makes one with the role: "
        "pyoco-server-admin api-key create --tenant TENANT --role ROLE",
        "このキーには権限がありません。権限のあるキーの発行: "
        "pyoco-server-admin api-key create --tenant TENANT --role ROLE",
    )
    LIST_RUNS = _Both(
        "see which runs there are: pyoco-client list", "run の一覧: pyoco-client list"
    )
    LIST_RESULTS = _Both(
        "see which there are: pyoco-client result {run_id}",
        "結果の一覧: pyoco-client result {run_id}",
    )
    LIST_ARTIFACTS = _Both(
        "see which there are: pyoco-client artifacts {run_id}",
        "成果物の一覧: pyoco-client artifacts {run_id}",
    )
    LIST_SCHEDULES = _Both(
        "see which schedules there are: pyoco-client schedule list",
        "スケジュールの一覧: pyoco-client schedule list",
    )
    LIST_LETTERS = _Both(
        "see which dead letters there are: pyoco-client dlq list",
        "デッドレターの一覧: pyoco-client dlq list",
    )
    MORE_OF_ID = _Both("give more of its characters", "ID をもう少し長く指定してください")
    LIST_WHEELS = _Both(
        "see which wheels there are: pyoco-client wheels", "wheel の一覧: pyoco-client wheels"
    )
    NATS_AWAY = _Both(
        "the gateway runs but has no NATS right now; try again, or look at its log",
        "ゲートウェイは動作中ですが NATS に接続できません。再試行するか、ログを確認してください",
    )
    SUBMIT_AGAIN = _Both(
        "the gateway runs but has no NATS right now; try again with --idempotency-key {key}: "
        "it is one run then, whatever became of this try",
        "ゲートウェイは動作中ですが NATS に接続できません。--idempotency-key {key} を付けて再試行すると、"
        "今回の結果にかかわらず run は 1 件になります",
    )
    CHECK_REQUEST = _Both(
        "check server status and request parameters",
        "サーバの状態とリクエスト内容を確認してください",
    )
    SUBMIT_REJECTED = _Both(
        "those that were accepted stay: mend the rejected lines where they are, and give "
        "--idempotency-key {key} with the same command",
        "受理された run は残っています。拒否された行をその位置で直し、同じコマンドに "
        "--idempotency-key {key} を付けて再実行してください",
    )
    SUBMIT_REST = _Both(
        "with --idempotency-key {key} the same command goes on: lines that were accepted have no second run",
        "同じコマンドに --idempotency-key {key} を付けて再実行すると続きから投入されます。"
        "受理済みの行の run は増えません",
    )
    LIST_ALL = _Both(
        "all of them, however many: pyoco-client list --all", "すべて表示: pyoco-client list --all"
    )
    SWAP_ENDS = _Both(
        "swap them; a span such as 2h is so long ago",
        "入れ替えてください。2h などの長さは「それだけ前」を表します",
    )
    NEVER_DUE = _Both(
        "next: never: all of its moments have passed, so it has no run",
        "次回: なし。すべての時刻が過ぎているため、run は作られません",
    )
    SEE_RUN = _Both(
        "see how the run is: pyoco-client get {run_id}", "run の状態: pyoco-client get {run_id}"
    )
    WAIT_TIMEOUT = _Both("wait timeout", "待ち時間を超えました")
    WAS_CANCELLED = _Both("the run was cancelled", "run はキャンセルされました")
    SEE_TASKS = _Both(
        "see what happened: pyoco-client tasks {run_id}",
        "詳細の確認: pyoco-client tasks {run_id}",
    )
    RUN_GOES_ON = _Both(
        "the run goes on: pyoco-client watch {run_id}; to end it: pyoco-client cancel {run_id}",
        "run は継続しています: pyoco-client watch {run_id}（停止: pyoco-client cancel {run_id}）",
    )
    CANCEL_AGAIN = _Both(
        "retry cancel or inspect run/worker status: pyoco-client get {run_id}",
        "再度キャンセルするか、run と worker の状態を確認してください: pyoco-client get {run_id}",
    )
    NO_WORKER = _Both(
        "no worker that is there takes tag {tag}; there are workers for: {tags}",
        "タグ {tag} を受け取る worker がありません。現在の worker のタグ: {tags}",
    )
    WORKERS_PAUSED = _Both(
        "all workers of tag {tag} are paused or draining: pyoco-client worker-resume {worker}",
        "タグ {tag} の worker はすべて停止中です: pyoco-client worker-resume {worker}",
    )
    CANCEL_ONE = _Both(
        "1 run has not ended. Cancel it?",
        "終了していない run が 1 件あります。キャンセルしますか？",
    )
    CANCEL_SEVERAL = _Both(
        "{count} runs have not ended. Cancel them all?",
        "終了していない run が {count} 件あります。すべてキャンセルしますか？",
    )
    GIVE_YES = _Both("give --yes to cancel them", "キャンセルするには --yes を付けてください")
    IS_CANCELLING = _Both(
        "asked to end; one that does not is terminated after the worker's grace period "
        "(PYOCO_CANCEL_GRACE_PERIOD_SEC, 30 s if it is not set)",
        "終了を求めました。終わらないときは worker の猶予時間のあとに停止されます"
        "（PYOCO_CANCEL_GRACE_PERIOD_SEC、既定は 30 秒）",
    )
    HAD_ENDED = _Both(
        "nothing was cancelled: the run had ended {status}",
        "キャンセルしたものはありません。run はすでに {status} で終了しています",
    )
    CHECK_FILE = _Both("check file path and permission", "ファイルのパスと権限を確認してください")

    def __str__(self) -> str:
        return self.value.japanese if speaks_japanese() else self.value.english

    def fill(self, **values: str) -> str:
        """Return the text with ``values`` in their places."""
        return str(self).format(**values)


_JAPANESE_TITLES = {
    ErrorId.GATEWAY_UNREACHABLE: "ゲートウェイに接続できません",
    ErrorId.INVALID_INPUT: "入力が不正です",
    ErrorId.NATS_UNAVAILABLE: "NATS を利用できません",
    ErrorId.ORPHAN_RUN: "孤立した run が残っている可能性があります",
    ErrorId.RUN_NOT_FOUND: "run が見つかりません",
    ErrorId.FLOW_NOT_FOUND: "flow が見つかりません",
    ErrorId.EXECUTION_FAILED: "実行に失敗しました",
    ErrorId.TERMINAL_STATE_NOT_RECORDED: "終了状態を記録できませんでした",
    ErrorId.IN_PROGRESS_ACK_FAILED: "処理中の通知に失敗しました",
    ErrorId.SNAPSHOT_TOO_LARGE: "スナップショットが大きすぎます",
    ErrorId.DEAD_LETTER_NOT_PUBLISHED: "DLQ へ送信できませんでした",
    ErrorId.INVALID_JOB: "ジョブが不正です",
    ErrorId.LOGGING_SETUP_FAILED: "ログの設定に失敗しました",
    ErrorId.API_KEY_MISSING: "API キーが必要です",
    ErrorId.API_KEY_INVALID: "API キーが不正です",
    ErrorId.WORKFLOW_TOO_LARGE: "ワークフローが大きすぎます",
    ErrorId.INVALID_LIST_QUERY: "一覧の条件が不正です",
    ErrorId.INVALID_COMMAND_LINE: "CLI引数が不正です（入力形式を確認してください）",
    ErrorId.INVALID_WORKERS_REQUEST: "workers の条件が不正です",
    ErrorId.WORKER_NOT_FOUND: "worker が見つかりません",
    ErrorId.CANCEL_NOT_CONVERGED: "猶予時間内にキャンセルが完了しませんでした",
    ErrorId.WHEEL_VERSION_CONFLICT: "wheel のバージョンが競合しています",
    ErrorId.WHEEL_NOT_FOUND: "wheel が見つかりません",
    ErrorId.DEAD_LETTER_NOT_FOUND: "DLQ のメッセージが見つかりません",
    ErrorId.NOT_REPEATABLE: "run を再投入できません",
    ErrorId.NOT_MOVABLE: "run の予定時刻を変更できません",
    ErrorId.SCHEDULE_NOT_FOUND: "スケジュールが見つかりません",
    ErrorId.SCHEDULE_CONFLICT: "スケジュールが既に存在するか、変更されています",
    ErrorId.WHEEL_SYNC_FAILED: "wheel の同期に失敗しました",
    ErrorId.NOT_ALLOWED: "許可されていません",
    ErrorId.TOO_MANY_REQUESTS: "リクエストが多すぎます",
}


_MEMBERS = {member.value: member for member in ErrorId}


def title_of(error_id: str) -> str:
    """Return what an error id stands for, in the user's language."""
    member = _MEMBERS.get(error_id)
    if member is None:
        return "リクエストに失敗しました" if speaks_japanese() else "request failed"
    return _JAPANESE_TITLES[member] if speaks_japanese() else member.text
