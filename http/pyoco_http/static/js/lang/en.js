// English.

export default {
  "nav.label": "Views", "nav.skip": "Skip to the content",
  "nav.runs": "Runs", "nav.submit": "Submit", "nav.workers": "Workers", "nav.wheels": "Wheels", "nav.dlq": "Dead letters", "nav.system": "System",
  "bar.language": "Language", "bar.dark": "Dark", "bar.light": "Light", "bar.forget": "Forget the key",
  "live.live": "live", "live.lost": "connection lost, trying again",
  "time.ago": "{duration} ago",

  "do.back": "Back", "do.copy": "Copy", "do.copied": "Copied", "do.done": "Done", "do.actions": "Actions",
  "key.title": "API key", "key.why": "This gateway asks for an API key. It is kept until this tab is closed.",
  "key.wrong": "This key was refused: it is unknown, revoked or expired.", "key.label": "Key", "key.use": "Use this key",

  "state.PENDING": "pending", "state.RUNNING": "running", "state.CANCELLING": "cancelling", "state.COMPLETED": "completed",
  "state.FAILED": "failed", "state.CANCELLED": "cancelled", "state.SUCCEEDED": "succeeded", "state.IDLE": "idle",
  "state.STOPPED_GRACEFUL": "stopped", "state.DISCONNECTED": "disconnected",

  "reason.invalid_job": "invalid job", "reason.flow_not_found": "flow not found", "reason.execution_error": "the flow failed",
  "reason.max_deliveries": "attempts used up", "reason.worker_crashed": "the process crashed", "reason.timeout": "timed out", "reason.cancelled": "cancelled",

  "runs.by_status": "Runs by status", "runs.all": "all", "runs.status": "Status", "runs.run": "Run", "runs.flow": "Flow", "runs.tag": "Tag",
  "runs.worker": "Worker", "runs.updated": "Updated", "runs.error": "Error",
  "runs.filter.q": "Search id, flow, error", "runs.filter.flow": "Flow", "runs.filter.tag": "Tag", "runs.filter.worker_id": "Worker", "runs.clear": "Clear filters",
  "runs.newer": "{count} newer", "runs.select": "Select run {run}", "runs.select_all": "Select all that are loaded", "runs.unselect": "Select none",
  "runs.chosen": "{count} selected", "runs.cancel": "Cancel {count}", "runs.retry": "Retry {count}",
  "runs.cancel.sure": "{count} runs are asked to stop. What they have done so far is not undone.",
  "runs.retry.sure": "{count} runs are submitted again, as new runs with the same params.",
  "runs.acted": "{done} done, {failed} failed", "runs.none": "No runs here", "runs.none.next": "Submit one here, or from a terminal:",
  "runs.none.filtered": "Nothing fits these filters.", "runs.keys": "Keys: j and k move, Enter opens, x selects, / searches.",

  "run.graph": "Flow", "run.graph.none": "The picture comes when the run has begun.", "run.facts": "Run", "run.timeline": "Time line",
  "run.more": "More of this run", "run.task": "Tasks", "run.logs": "Logs", "run.history": "History", "run.data": "Params and results", "run.files": "Files",
  "run.submitted": "Submitted", "run.started": "Started", "run.ended": "Ended", "run.took": "Took", "run.waited": "after {duration} in the queue",
  "run.attempt": "Attempt", "run.attempts": "Attempts before", "run.timeout": "Time limit", "run.retry_of": "Again of", "run.tenant": "Tenant",
  "run.cancel_asked": "Cancel asked", "run.error": "Error", "run.traceback": "Traceback of {task}", "run.params": "Params", "run.outputs": "Results",
  "run.inputs": "Inputs", "run.output": "Result", "run.truncated": "The task records were too large to be kept.",
  "run.no_record": "Nothing more is kept of {task}: it is {state}.", "run.not_started": "No task has started yet.",
  "run.copy_cli": "Copy as command", "run.cancel": "Cancel", "run.retry": "Retry", "run.retried": "Submitted again, as this run",
  "run.cancel.title": "Cancel this run?", "run.cancel.sure": "It is asked to stop, and killed if it does not. What it has done so far is not undone.",
  "run.cancel.reason": "Reason (optional)", "run.cancel.late": "Too late: the run is {status}.",
  "run.logs.all": "All tasks", "run.logs.task": "Task", "run.logs.none": "Nothing printed yet.", "run.logs.truncated": "{bytes} bytes left out here",
  "run.files.none": "This run saved no files.",
  "graph.switch": "switch", "graph.repeat": "repeat", "graph.foreach": "for each", "graph.until": "until", "graph.any": "starts as soon as any of its predecessors has succeeded",
  "history.when": "When", "history.what": "What", "history.why": "Why",

  "workers.all": "stopped and hidden ones too", "workers.none": "No workers", "workers.none.next": "Start one where its tasks can run:",
  "workers.tags": "Tags", "workers.heartbeat": "Heartbeat", "workers.last": "Last run", "workers.stopped": "Stopped", "workers.slots": "Slots: {busy} of {count} busy",
  "workers.free": "free", "workers.paused": "paused", "workers.draining": "draining", "workers.hidden": "hidden",
  "workers.pause": "Pause", "workers.resume": "Resume", "workers.drain": "Drain", "workers.hide": "Hide", "workers.show": "Show",
  "workers.drain.title": "Drain {worker}?", "workers.drain.sure": "It takes no more jobs, lets the running ones end, and stops.",

  "wheels.drop": "Drop wheels here to upload them", "wheels.choose": "Choose files", "wheels.tags": "Tags, with commas; none for every worker",
  "wheels.registry": "In the registry", "wheels.history": "History", "wheels.history.none": "Nothing has been uploaded or deleted yet.",
  "wheels.none": "No wheels", "wheels.none.next": "Wheels carry the code of tasks to the workers. Upload one here, or from a terminal:",
  "wheels.name": "Wheel", "wheels.size": "Size", "wheels.uploaded": "Uploaded", "wheels.on": "Installed on", "wheels.everyone": "every worker",
  "wheels.delete": "Delete", "wheels.delete.title": "Delete {name}?", "wheels.delete.sure": "Workers remove it before their next run. Running runs keep it.",
  "wheels.done": "{name} uploaded", "wheels.by": "By", "wheels.from": "From", "wheels.action.upload": "uploaded", "wheels.action.delete": "deleted",

  "dlq.reason": "Reason", "dlq.none": "No dead letters", "dlq.none.next": "Jobs that could not be brought to a good end would be here.",
  "dlq.older": "Older ones", "dlq.requeue": "Run again", "dlq.requeued": "Runs again as {run}", "dlq.drop": "Drop",
  "dlq.drop.title": "Drop this letter?", "dlq.drop.sure": "It is deleted for good. The run that it is about stays.",

  "submit.open": "Open a file", "submit.what": "What will run", "submit.run": "Run", "submit.line": "Line {line}", "submit.good": "Understood: {count} tasks.",
  "submit.unlisted": "Understood. The worker has to know: {names}.", "submit.no_params": "flow.defaults names no params.",

  "system.ready": "Readiness", "system.is_ready": "ready", "system.not_ready": "not ready", "system.reconnects": "Reconnects", "system.queues": "Queues",
  "system.queues.none": "No queues yet", "system.pending": "Waiting", "system.ack_pending": "Running", "system.redelivered": "Delivered again", "system.waiting_pulls": "Free pulls",
  "system.rate": "Runs ended a minute, last hour", "system.rate.sum": "{count} in the last hour", "system.wait": "Time in the queue, last hour", "system.wait.now": "Now {duration}",
  "system.actors": "Supervision tree", "system.restarts": "{count} restarts", "system.mailbox": "mailbox {depth} of {capacity}", "system.messages": "{count} messages",
  "actor.idle": "idle", "actor.busy": "busy", "actor.supervising": "supervises", "actor.starting": "starting", "actor.stopping": "stopping", "actor.stopped": "stopped", "actor.backing_off": "waits to start again",
};
