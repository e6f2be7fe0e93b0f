// What is known of each task, and of attempts that went before.

import { h } from "../dom.js";
import { write } from "../exact.js";
import { t, word } from "../i18n.js";
import { duration, when } from "../time.js";
import { badge, taskState } from "./status.js";

/** A list of tasks with the chosen one's record beside it. */
export function taskPanel(snapshot, chosen, choose) {
  const names = Object.keys(snapshot.tasks ?? {});
  if (names.length === 0) return h("p", { class: "muted" }, t("run.not_started"));
  const name = names.includes(chosen) ? chosen : names.find((each) => snapshot.tasks[each] === "FAILED") ?? names[0];
  return [
    h("div", { class: "chips task-chips", role: "group", "aria-label": t("run.task") }, names.map((each) =>
      h("button", { type: "button", class: "small", "aria-pressed": String(each === name), onclick: () => choose(each) }, each, badge(taskState(snapshot, each))))),
    record(name, taskState(snapshot, name), snapshot.task_records?.[name]),
  ];
}

function record(name, state, known) {
  if (!known || state === "SKIPPED") return h("p", { class: "muted" }, t("run.no_record", { task: name, state: word("state", state) }));
  const values = [
    [t("run.started"), when(known.started_at)],
    [t("run.ended"), when(known.ended_at)],
    [t("run.took"), known.duration_ms === null ? "–" : duration(known.duration_ms / 1000)],
    [t("run.inputs"), h("pre", { class: "code" }, json(known.inputs))],
    known.state === "SUCCEEDED" ? [t("run.output"), h("pre", { class: "code" }, json(known.output))] : null,
    known.error ? [t("run.error"), h("pre", { class: "code error-text" }, known.error)] : null,
    known.traceback ? [t("run.traceback", { task: name }), h("pre", { class: "code" }, known.traceback)] : null,
  ];
  return h("dl", { class: "facts" }, values.filter(Boolean).map(([key, value]) => [h("dt", {}, key), h("dd", {}, value)]));
}

/** The attempts that failed before this one, as a table; null when there are none. */
export function attempts(snapshot) {
  const before = snapshot.attempts ?? [];
  if (before.length === 0) return null;
  return h("div", { class: "table-wrap" }, h(
    "table",
    { class: "table" },
    h("caption", { class: "visually-hidden" }, t("run.attempts")),
    h("thead", {}, h("tr", {}, ["run.attempt", "runs.worker", "run.started", "run.ended", "runs.error"].map((key) => h("th", { scope: "col" }, t(key))))),
    h("tbody", {}, before.map((attempt) => h("tr", {},
      h("td", {}, attempt.attempt), h("td", {}, attempt.worker_id ?? ""), h("td", {}, when(attempt.started_at)), h("td", {}, when(attempt.ended_at)),
      h("td", { class: "error-text" }, [attempt.reason ? word("reason", attempt.reason) : null, attempt.error].filter(Boolean).join(": "))))),
  ));
}

const json = (value) => write(value ?? null, 2);
