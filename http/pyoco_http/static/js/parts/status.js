// States of runs, tasks, workers and actors, in words and colours.

import { h } from "../dom.js";
import { word } from "../i18n.js";

const TONES = {
  PENDING: "pending", RUNNING: "running", COMPLETED: "good", SUCCEEDED: "good", FAILED: "bad", CANCELLING: "warn",
  CANCELLED: "warn", SKIPPED: "pending", IDLE: "good", STOPPED_GRACEFUL: "pending", DISCONNECTED: "bad",
};

export const RUN_STATUSES = ["PENDING", "RUNNING", "CANCELLING", "COMPLETED", "FAILED", "CANCELLED"];
const TERMINAL = new Set(["COMPLETED", "FAILED", "CANCELLED"]);

/** Whether a run has ended. */
export const ended = (status) => TERMINAL.has(status);

/** The colour of a state: pending, running, good, bad or warn. */
export const tone = (state) => TONES[state] ?? "pending";

/** The state of a task; "SKIPPED" when its run is over and it never began. */
export function taskState(snapshot, name) {
  const state = snapshot.tasks?.[name] ?? "PENDING";
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
