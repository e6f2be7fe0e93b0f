// When each attempt and each task ran, one lane each, over the time of the run.

import { h } from "../dom.js";
import { t, word } from "../i18n.js";
import { duration } from "../time.js";
import { taskState, tone } from "./status.js";

/** Lanes of a snapshot with its task records; null when nothing has started. */
export function timeline(snapshot) {
  const now = Date.now() / 1000;
  const lanes = [...attempts(snapshot), ...tasks(snapshot)];
  if (lanes.length === 0) return null;
  const start = Math.min(...lanes.map((lane) => lane.from));
  const end = Math.max(...lanes.map((lane) => lane.to ?? snapshot.end_time ?? now));
  const span = Math.max(end - start, 0.001);
  return h(
    "div",
    { class: "timeline", role: "list", "aria-label": t("run.timeline") },
    lanes.map((lane) => draw(lane, start, span, snapshot.end_time ?? now)),
  );
}

// One attempt is the run itself and needs no lane of its own.
function attempts(snapshot) {
  const before = snapshot.attempts ?? [];
  if (before.length === 0) return [];
  const lanes = before
    .filter((attempt) => attempt.started_at)
    .map((attempt) => ({ name: t("run.attempt_no", { number: attempt.attempt }), state: "FAILED", from: attempt.started_at, to: attempt.ended_at, attempt: true }));
  const last = before.at(-1).attempt;
  if (snapshot.attempt > last && snapshot.start_time && snapshot.status !== "PENDING") {
    lanes.push({ name: t("run.attempt_no", { number: snapshot.attempt }), state: snapshot.status, from: snapshot.start_time, to: snapshot.end_time, attempt: true });
  }
  return lanes;
}

function tasks(snapshot) {
  return Object.entries(snapshot.task_records ?? {})
    .filter(([, record]) => record.started_at)
    .sort(([, one], [, two]) => one.started_at - two.started_at)
    .map(([name, record]) => ({ name, state: taskState(snapshot, name) ?? record.state, from: record.started_at, to: record.ended_at }));
}

function draw({ name, state, from, to, attempt }, start, span, now) {
  const until = to ?? now;
  const bar = h("div", { class: `timeline-bar tone-${tone(state)}` });
  bar.style.insetInlineStart = `${(100 * (from - start)) / span}%`;
  bar.style.width = `${(100 * Math.max(until - from, 0)) / span}%`;
  const took = duration(until - from);
  return h(
    "div",
    { class: attempt ? "timeline-row attempt" : "timeline-row", role: "listitem", title: `${name}: ${word("state", state)}, ${took}` },
    h("span", { class: "timeline-name", title: name }, name),
    h("span", { class: "timeline-lane" }, bar),
    h("span", { class: "muted nowrap right" }, took),
  );
}
