// What is known of a run: when, where, how often, by whom; and what went wrong.

import { h } from "../dom.js";
import { visible } from "../exact.js";
import { t, word } from "../i18n.js";
import { href } from "../router.js";
import { bytes, duration, size, took, when } from "../time.js";
import { badge, runState } from "./status.js";

/** The facts of a snapshot as the rows of a list of terms. */
export function facts(snapshot) {
  const { start_time: started, submitted_at: submitted, end_time: end } = snapshot;
  const first = snapshot.attempts?.[0]?.started_at ?? started;
  const ready = snapshot.scheduled_for ?? submitted; // it waits for its time first, and for a worker then
  const queued = first && ready ? Math.max(0, first - ready) : null;
  const rows = {
    "run.submitted": when(submitted),
    "run.started": [when(started), queued === null ? null : h("span", { class: "muted" }, ` ${t("run.waited", { duration: duration(queued) })}`)],
    "run.ended": when(end),
    "run.took": took(started ? (end ?? Date.now() / 1000) - started : null),
    "runs.flow": [snapshot.flow_name, " · ", h("a", { href: href(["runs"], { flow: snapshot.flow_name }) }, t("run.of_flow"))],
    "runs.tag": snapshot.tag ? h("a", { href: href(["runs"], { tag: snapshot.tag }) }, snapshot.tag) : "–",
    "runs.worker": snapshot.worker_id ? [h("a", { href: href(["runs"], { worker_id: snapshot.worker_id }) }, snapshot.worker_id), " ", snapshot.worker_state ? badge(snapshot.worker_state) : null] : "–",
    "run.attempt": snapshot.attempt ? [snapshot.attempt, snapshot.max_attempts ? ` / ${snapshot.max_attempts}` : null] : "–",
    "run.next_attempt": snapshot.next_attempt_at && snapshot.status === "PENDING" ? when(snapshot.next_attempt_at) : null,
    "run.scheduled_for": snapshot.scheduled_for ? [when(snapshot.scheduled_for), runState(snapshot) === "SCHEDULED" ? ` ${t("time.in", { duration: duration(snapshot.scheduled_for - Date.now() / 1000) })}` : null] : null,
    "run.expires": snapshot.expires_at ? when(snapshot.expires_at) : null,
    "run.expected_start": within(snapshot.expected_start_within_sec, snapshot.late?.start),
    "run.expected_end": within(snapshot.expected_end_within_sec, snapshot.late?.end),
    "schedules.schedule": snapshot.schedule_id ? [h("a", { href: href(["schedules", snapshot.schedule_id]) }, snapshot.schedule_id), snapshot.scheduled_at ? [" · ", when(snapshot.scheduled_at)] : null] : null,
    "run.memory": amount(snapshot.usage?.peak_memory_bytes, snapshot.memory_mb, size, (limit) => bytes(limit * 1024 * 1024)),
    "run.cpu": amount(snapshot.usage?.cpu_sec, snapshot.cpu_sec, took, duration),
    "run.timeout": snapshot.timeout_sec ? duration(snapshot.timeout_sec) : null,
    "run.retry_of": snapshot.retry_of ? h("a", { class: "mono", href: href(["runs", snapshot.retry_of]) }, snapshot.retry_of.slice(0, 8)) : null,
    "run.tenant": snapshot.tenant_id ? [snapshot.tenant_id, snapshot.api_key_id].filter(Boolean).join(" / ") : null,
    "nav.wheels": snapshot.wheels?.length ? h("span", { class: "chips" }, snapshot.wheels.map((wheel) => h("span", { class: "chip", title: wheel.sha256 }, `${wheel.name} ${wheel.version}`))) : null,
    "run.cancel_asked": snapshot.cancel_requested_at ? [when(snapshot.cancel_requested_at), " ", [snapshot.cancel_requested_by, snapshot.cancel_reason].filter(Boolean).join(" · ")] : null,
  };
  return Object.entries(rows)
    .filter(([, value]) => value !== null)
    .map(([key, value]) => [h("dt", {}, t(key)), h("dd", {}, value)]);
}

// "within 30 s", and whether it was not.
const within = (seconds, late) => (seconds ? [t("run.within", { duration: duration(seconds) }), late ? [" ", h("span", { class: "status tone-warn" }, t("late.late"))] : null] : null);

// What was used, of what may be.
function amount(used, most, shown, limit) {
  if (used == null && most == null) return null;
  return [used == null ? "–" : shown(used), most == null ? null : ` / ${limit(most)}`];
}

/** Why a run failed, with the traceback of the task that did; null when nothing went wrong. */
export function trouble(snapshot) {
  if (!snapshot.error) return null;
  const failing = Object.entries(snapshot.task_records ?? {}).find(([, record]) => record.traceback);
  return h("section", { class: "problem", role: "alert" },
    h("strong", {}, snapshot.reason ? word("reason", snapshot.reason) : t("run.error")),
    h("pre", { dir: "auto", tabindex: 0 }, visible(snapshot.error)),
    failing ? h("details", {}, h("summary", {}, t("run.traceback", { task: failing[0] })), h("pre", { tabindex: 0 }, failing[1].traceback)) : null);
}
