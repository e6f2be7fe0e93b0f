// 日本語。

export default {
  "nav.label": "画面", "nav.skip": "本文へ移動",
  "nav.runs": "実行", "nav.submit": "投入", "nav.workers": "ワーカー", "nav.wheels": "Wheel", "nav.dlq": "デッドレター", "nav.system": "システム",
  "bar.language": "言語", "bar.dark": "ダーク", "bar.light": "ライト", "bar.forget": "キーを忘れる",
  "live.live": "ライブ", "live.lost": "接続が切れました。再接続しています",
  "time.ago": "{duration} 前",

  "do.back": "戻る", "do.copy": "コピー", "do.copied": "コピーしました", "do.done": "閉じる", "do.actions": "操作",
  "key.title": "API キー", "key.why": "このゲートウェイには API キーが必要です。このタブを閉じるまで保持されます。",
  "key.wrong": "このキーは拒否されました。未登録、失効、または期限切れです。", "key.label": "キー", "key.use": "このキーを使う",

  "state.PENDING": "待機中", "state.RUNNING": "実行中", "state.CANCELLING": "キャンセル中", "state.COMPLETED": "完了",
  "state.FAILED": "失敗", "state.CANCELLED": "キャンセル済み", "state.SUCCEEDED": "成功", "state.IDLE": "アイドル",
  "state.STOPPED_GRACEFUL": "停止", "state.DISCONNECTED": "切断",

  "reason.invalid_job": "不正なジョブ", "reason.flow_not_found": "フローが見つからない", "reason.execution_error": "フローの失敗",
  "reason.max_deliveries": "試行回数の上限", "reason.worker_crashed": "プロセスの異常終了", "reason.timeout": "タイムアウト", "reason.cancelled": "キャンセル",

  "runs.by_status": "状態別の実行", "runs.all": "すべて", "runs.status": "状態", "runs.run": "実行", "runs.flow": "フロー", "runs.tag": "タグ",
  "runs.worker": "ワーカー", "runs.updated": "更新", "runs.error": "エラー",
  "runs.filter.q": "ID・フロー・エラーを検索", "runs.filter.flow": "フロー", "runs.filter.tag": "タグ", "runs.filter.worker_id": "ワーカー", "runs.clear": "絞り込みを解除",
  "runs.newer": "新着 {count} 件", "runs.select": "実行 {run} を選択", "runs.select_all": "読み込み済みをすべて選択", "runs.unselect": "選択を解除",
  "runs.chosen": "{count} 件を選択中", "runs.cancel": "{count} 件をキャンセル", "runs.retry": "{count} 件を再実行",
  "runs.cancel.sure": "{count} 件の実行に停止を求めます。すでに行われた処理は元に戻りません。",
  "runs.retry.sure": "{count} 件を、同じパラメーターの新しい実行として投入します。",
  "runs.acted": "{done} 件成功、{failed} 件失敗", "runs.none": "実行はありません", "runs.none.next": "ここから、または端末から投入できます。",
  "runs.none.filtered": "条件に合うものはありません。", "runs.keys": "キー操作: j/k で移動、Enter で開く、x で選択、/ で検索。",

  "run.graph": "フロー", "run.graph.none": "図は実行が始まると表示されます。", "run.facts": "実行", "run.timeline": "タイムライン",
  "run.more": "この実行の詳細", "run.task": "タスク", "run.logs": "ログ", "run.history": "履歴", "run.data": "パラメーターと結果", "run.files": "ファイル",
  "run.submitted": "投入", "run.started": "開始", "run.ended": "終了", "run.took": "所要時間", "run.waited": "(キューで {duration})",
  "run.attempt": "試行", "run.attempts": "これまでの試行", "run.timeout": "制限時間", "run.retry_of": "再実行の元", "run.tenant": "テナント",
  "run.cancel_asked": "キャンセル要求", "run.error": "エラー", "run.traceback": "{task} のトレースバック", "run.params": "パラメーター", "run.outputs": "結果",
  "run.inputs": "入力", "run.output": "結果", "run.truncated": "タスクの記録は大きすぎるため保存されていません。",
  "run.no_record": "{task} の記録はありません({state})。", "run.not_started": "まだどのタスクも始まっていません。",
  "run.copy_cli": "コマンドとしてコピー", "run.cancel": "キャンセル", "run.retry": "再実行", "run.retried": "この実行として再投入しました",
  "run.cancel.title": "この実行をキャンセルしますか?", "run.cancel.sure": "停止を求め、応じなければ強制終了します。すでに行われた処理は元に戻りません。",
  "run.cancel.reason": "理由(任意)", "run.cancel.late": "間に合いませんでした。実行は「{status}」です。",
  "run.logs.all": "すべてのタスク", "run.logs.task": "タスク", "run.logs.none": "まだ何も出力されていません。", "run.logs.truncated": "ここで {bytes} バイトを省略",
  "run.files.none": "この実行が保存したファイルはありません。",
  "graph.switch": "分岐", "graph.repeat": "繰り返し", "graph.foreach": "要素ごと", "graph.until": "条件まで", "graph.any": "先行タスクのどれか一つが成功すると始まります",
  "history.when": "日時", "history.what": "対象", "history.why": "理由",

  "workers.all": "停止・非表示も含める", "workers.none": "ワーカーはありません", "workers.none.next": "タスクを動かせる場所で起動してください。",
  "workers.tags": "タグ", "workers.heartbeat": "ハートビート", "workers.last": "直前の実行", "workers.stopped": "停止", "workers.slots": "スロット: {count} 中 {busy} 使用中",
  "workers.free": "空き", "workers.paused": "一時停止中", "workers.draining": "ドレイン中", "workers.hidden": "非表示",
  "workers.pause": "一時停止", "workers.resume": "再開", "workers.drain": "ドレイン", "workers.hide": "隠す", "workers.show": "表示する",
  "workers.drain.title": "{worker} をドレインしますか?", "workers.drain.sure": "新しいジョブを取らず、実行中のものを終えてから停止します。",

  "wheels.drop": "ここに Wheel をドロップしてアップロード", "wheels.choose": "ファイルを選ぶ", "wheels.tags": "タグ(コンマ区切り。空ならすべてのワーカー)",
  "wheels.registry": "登録済み", "wheels.history": "履歴", "wheels.history.none": "アップロードも削除もまだありません。",
  "wheels.none": "Wheel はありません", "wheels.none.next": "Wheel はタスクのコードをワーカーに届けます。ここから、または端末からアップロードできます。",
  "wheels.name": "Wheel", "wheels.size": "サイズ", "wheels.uploaded": "登録日時", "wheels.on": "導入先", "wheels.everyone": "すべてのワーカー",
  "wheels.delete": "削除", "wheels.delete.title": "{name} を削除しますか?", "wheels.delete.sure": "ワーカーは次の実行の前に取り除きます。実行中のものには影響しません。",
  "wheels.done": "{name} をアップロードしました", "wheels.by": "操作者", "wheels.from": "接続元", "wheels.action.upload": "アップロード", "wheels.action.delete": "削除",

  "dlq.reason": "理由", "dlq.none": "デッドレターはありません", "dlq.none.next": "正常に終えられなかったジョブがここに並びます。",
  "dlq.older": "さらに古いもの", "dlq.requeue": "もう一度実行", "dlq.requeued": "{run} として再実行します", "dlq.drop": "破棄",
  "dlq.drop.title": "このレターを破棄しますか?", "dlq.drop.sure": "完全に削除されます。対象の実行は残ります。",

  "submit.open": "ファイルを開く", "submit.what": "実行される内容", "submit.run": "実行", "submit.line": "{line} 行目", "submit.good": "読み取れました: タスク {count} 個。",
  "submit.unlisted": "読み取れました。ワーカー側で必要なもの: {names}。", "submit.no_params": "flow.defaults にパラメーターはありません。",

  "system.ready": "稼働状態", "system.is_ready": "稼働可能", "system.not_ready": "稼働不可", "system.reconnects": "再接続", "system.queues": "キュー",
  "system.queues.none": "キューはまだありません", "system.pending": "待ち", "system.ack_pending": "実行中", "system.redelivered": "再配信", "system.waiting_pulls": "空き",
  "system.rate": "毎分の終了数(直近 1 時間)", "system.rate.sum": "直近 1 時間で {count} 件", "system.wait": "キュー待ち時間(直近 1 時間)", "system.wait.now": "現在 {duration}",
  "system.actors": "監視ツリー", "system.restarts": "再起動 {count} 回", "system.mailbox": "メールボックス {depth}/{capacity}", "system.messages": "{count} メッセージ",
  "actor.idle": "待機中", "actor.busy": "処理中", "actor.supervising": "監視中", "actor.starting": "起動中", "actor.stopping": "停止中", "actor.stopped": "停止", "actor.backing_off": "再起動待ち",
};
