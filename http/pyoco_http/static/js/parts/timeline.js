// When each attempt and each task ran, one lane each, over the time of the run.

import { h } from "../dom.js";
import { t, word } from "../i18n.js";
import { duration } from "../time.js";
import { taskState, tone } from "./status.js";

const FINE_SECONDS = 0.02; // below this, quarters cannot be told in milliseconds

/** Lanes of a snapshot with its task records, `chosen` marked, `choose(name)` told of a click; null when nothing has started. */
export function timeline(snapshot, chosen, choose) {
  const now = snapshot.end_time ?? Date.now() / 1000;
  const lanes = [...attempts(snapshot), ...tasks(snapshot)];
  if (lanes.length === 0) return null;
  const start = Math.min(...lanes.map((lane) => lane.from));
  const end = Math.max(...lanes.map((lane) => lane.to ?? now));
  const span = Math.max(end - start, 0.001);
  return [
    h("div", { class: "timeline", role: "list", "aria-label": t("run.timeline"), tabindex: 0 },
      lanes.map((lane) => draw(lane, { start, span, now, chosen, choose }))),
    h("div", { class: "timeline-axis muted", "aria-hidden": "true" }, h("span"),
      h("span", { class: "calendar-axis" }, (span < FINE_SECONDS ? [0, 1] : [0, 0.25, 0.5, 0.75, 1]).map((part) => h("span", {}, part === 0 ? "0" : duration(part * span)))), h("span")),
  ];
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
    .map(([name, record]) => {
      const parts = [...before(record), { state: taskState(snapshot, name) ?? record.state, from: record.started_at, to: record.ended_at }];
      return { name, parts, state: parts.at(-1).state, from: Math.min(...parts.map((part) => part.from)), to: record.ended_at };
    })
    .sort((one, two) => one.from - two.from);
}

// What a task did before it came to what its record says: tries that failed, rounds of a loop.
function before({ tries = [], iterations = [] }) {
  const part = (state) => ({ started_at: from, ended_at: to, state: own }) => ({ state: own ?? state, from, to });
  return [...tries.slice(0, -1).map(part("FAILED")), ...iterations.slice(0, -1).map(part("SUCCEEDED"))].filter(({ from, to }) => from && to);
}

function draw({ name, state, from, to, parts, attempt = false }, { start, span, now, chosen, choose }) {
  const took = duration((to ?? now) - from);
  const bars = (parts ?? [{ state, from, to }]).map((part) => {
    const bar = h("span", { class: `timeline-bar tone-${tone(part.state)}` });
    bar.style.insetInlineStart = `${(100 * (part.from - start)) / span}%`;
    bar.style.width = `${(100 * Math.max((part.to ?? now) - part.from, 0)) / span}%`;
    return bar;
  });
  const looks = ["timeline-row", attempt ? "attempt" : "task", !attempt && name === chosen ? "chosen" : null].filter(Boolean).join(" ");
  return h(
    "div",
    { class: looks, role: "listitem", title: `${name}: ${word("state", state)}, ${took}`, onclick: attempt ? null : () => choose(name) },
    attempt ? h("span", { class: "timeline-name" }, name) : h("button", { type: "button", class: "timeline-name", title: name }, name),
    h("span", { class: "timeline-lane" }, bars),
    h("span", { class: "muted nowrap right" }, took),
  );
}
