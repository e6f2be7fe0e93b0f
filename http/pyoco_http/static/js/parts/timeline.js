// When each attempt and each task ran, one lane each, over the time of the run.

import { h, s } from "../dom.js";
import { t, word } from "../i18n.js";
import { duration } from "../time.js";
import { taskState, tone } from "./status.js";
import { windowList } from "./window.js";

const FINE_SECONDS = 0.02; // below this, quarters cannot be told in milliseconds
const LANE = 1.75; // rem
const ROWS = 14;

/** A time line; `choose(name)` is told of a click. `show(snapshot, chosen)` returns its elements, null when nothing has started. */
export function timeline(choose) {
  let look = null; // what lanes are drawn by
  let shown = null; // the task that was brought onto the screen
  const list = windowList({ look: "timeline", label: t("run.timeline"), height: LANE, rows: ROWS, row: (lane) => draw(lane, look) });
  return {
    show(snapshot, chosen) {
      const now = snapshot.end_time ?? Date.now() / 1000;
      const lanes = [...attempts(snapshot), ...tasks(snapshot)];
      if (lanes.length === 0) return null;
      const start = Math.min(...lanes.map((lane) => lane.from));
      const end = Math.max(...lanes.map((lane) => lane.to ?? now));
      const span = Math.max(end - start, 0.001);
      look = { start, span, now, chosen, choose };
      list.show(lanes);
      const index = chosen === shown ? -1 : lanes.findIndex((lane) => !lane.attempt && lane.name === chosen);
      if (index >= 0 && list.reveal(index)) shown = chosen;
      return [list.element, axis(span)];
    },
  };
}

const axis = (span) => h("div", { class: "timeline-axis muted", "aria-hidden": "true" }, h("span"),
  h("span", { class: "calendar-axis" }, (span < FINE_SECONDS ? [0, 1] : [0, 0.25, 0.5, 0.75, 1]).map((part) => h("span", {}, part === 0 ? "0" : duration(part * span)))), h("span"));

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
  const last = parts?.at(-1) ?? { state, from, to };
  const share = (part) => [(100 * (part.from - start)) / span, (100 * Math.max((part.to ?? now) - part.from, 0)) / span];
  const bar = h("span", { class: `timeline-bar tone-${tone(last.state)}` });
  [bar.style.insetInlineStart, bar.style.width] = share(last).map((percent) => `${percent}%`);
  const lane = h("span", { class: "timeline-lane" }, earlier(parts?.slice(0, -1) ?? [], share), bar);
  const looks = ["timeline-row", attempt ? "attempt" : "task", !attempt && name === chosen ? "chosen" : null].filter(Boolean).join(" ");
  return h(
    "div",
    { class: looks, dataset: { key: attempt ? `attempt ${name}` : `task ${name}` }, title: `${name}: ${word("state", state)}, ${took}`, onclick: attempt ? null : () => choose(name) },
    attempt ? h("span", { class: "timeline-name" }, name) : h("button", { type: "button", class: "timeline-name", title: name }, name),
    lane,
    h("span", { class: "muted nowrap right" }, took),
  );
}

// Many rounds of a loop are one shape for each colour.
function earlier(parts, share) {
  if (parts.length === 0) return null;
  const shape = ([name, same]) => s("path", { class: `timeline-bar tone-${name}`, d: same.map((part) => share(part)).map(([x, width]) => `M${x} 0h${width}v1h${-width}z`).join("") });
  return s("svg", { "aria-hidden": "true", viewBox: "0 0 100 1", preserveAspectRatio: "none" }, [...Map.groupBy(parts, (part) => tone(part.state))].map(shape));
}
