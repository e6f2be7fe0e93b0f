// States of runs, tasks, workers and actors, in words and colours.

import { h } from "../dom.js";
import { t, word } from "../i18n.js";

const TONES = {
  PENDING: "pending", RUNNING: "running", COMPLETED: "good", SUCCEEDED: "good", FAILED: "bad", CANCELLING: "warn",
  CANCELLED: "warn", SKIPPED: "pending", SCHEDULED: "pending", EXPIRED: "bad", active: "good", paused: "warn", ended: "pending",
  run: "good", skipped: "pending", missed: "warn", refused: "bad", IDLE: "good", STOPPED_GRACEFUL: "pending", DISCONNECTED: "bad",
};

export const RUN_STATES = ["PENDING", "SCHEDULED", "RUNNING", "CANCELLING", "COMPLETED", "FAILED", "EXPIRED", "CANCELLED"];
/** States that most installations never have: shown where there are some. */
export const RARE_STATES = new Set(["SCHEDULED", "EXPIRED"]);
const TERMINAL = new Set(["COMPLETED", "FAILED", "CANCELLED"]);

/** Whether a run has ended. */
export const ended = (status) => TERMINAL.has(status);

/** What a run is told to be; SCHEDULED and EXPIRED stand beside the status of 0.5.1. */
export function runState({ state, status, scheduled_for: at }) {
  // Nothing is told when its time comes.
  return state === "SCHEDULED" && at * 1000 <= Date.now() ? status : state ?? status;
}

/** The colour of a state: pending, running, good, bad or warn. */
export const tone = (state) => TONES[state] ?? "pending";

/** The state of a task; "SKIPPED" when its run is over and it never began. */
export function taskState(snapshot, name) {
  const state = snapshot.task_records?.[name]?.skipped ? "SKIPPED" : snapshot.tasks?.[name] ?? "PENDING";
  return state === "PENDING" && ended(snapshot.status) ? "SKIPPED" : state;
}

/** The state of several tasks as of one: the one that matters most. */
export function stateOf(states) {
  const found = new Set(states);
  if (found.size === 1) return states[0];
  return ["FAILED", "RUNNING", "CANCELLED"].find((state) => found.has(state)) ?? (found.has("PENDING") ? "RUNNING" : "SUCCEEDED");
}

/** A state as a badge. */
export function badge(state) {
  return h("span", { class: `status tone-${tone(state)}`, dataset: { state } }, word("state", state));
}

/** What else there is to say of a run beside its state: that it is late, or that tasks of it failed; null for nothing. */
export function marks(run) {
  const count = Array.isArray(run.failed_tasks) ? run.failed_tasks.length : run.failed_tasks ?? 0;
  const late = run.late ? ["start", "end"].filter((what) => run.late[what]).map((what) => t(`late.${what}`)).join(", ") : "";
  return [
    late ? h("span", { class: "status tone-warn", title: late }, t("late.late")) : null,
    // That a run failed says that a task did.
    count > (run.status === "FAILED" ? 1 : 0) ? h("span", { class: "status tone-warn", title: Array.isArray(run.failed_tasks) ? run.failed_tasks.join(", ") : null }, t("runs.failed_tasks", { count })) : null,
  ];
}
