// When each task ran, one lane a task, over the time of the attempt.

import { h } from "../dom.js";
import { t } from "../i18n.js";
import { duration } from "../time.js";
import { tone } from "./status.js";

/** Lanes of a snapshot with its task records; null when nothing has started. */
export function timeline(snapshot) {
  const records = Object.entries(snapshot.task_records ?? {}).filter(([, record]) => record.started_at);
  if (records.length === 0) return null;
  const now = Date.now() / 1000;
  const start = Math.min(snapshot.start_time ?? Infinity, ...records.map(([, record]) => record.started_at));
  const end = Math.max(snapshot.end_time ?? now, ...records.map(([, record]) => record.ended_at ?? 0));
  const span = Math.max(end - start, 0.001);
  records.sort(([, one], [, two]) => one.started_at - two.started_at);
  return h(
    "div",
    { class: "timeline", role: "list", "aria-label": t("run.timeline") },
    records.map(([name, record]) => lane(name, record, start, span, snapshot.end_time ?? now)),
  );
}

function lane(name, record, start, span, now) {
  const ended = record.ended_at ?? now;
  const bar = h("div", { class: `timeline-bar tone-${tone(record.state)}` });
  bar.style.insetInlineStart = `${(100 * (record.started_at - start)) / span}%`;
  bar.style.width = `${(100 * Math.max(ended - record.started_at, 0)) / span}%`;
  return [
    h("div", { role: "listitem", class: "mono" }, name),
    h("div", { class: "timeline-lane" }, bar),
    h("div", { class: "muted nowrap" }, duration(ended - record.started_at)),
  ];
}
