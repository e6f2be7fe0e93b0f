// What is known of each task, and of attempts that went before.

import { h } from "../dom.js";
import { visible, write } from "../exact.js";
import { t, word } from "../i18n.js";
import { bytes, size, took, when } from "../time.js";
import { download } from "./download.js";
import { badge, ended, taskState } from "./status.js";
import { table } from "./table.js";

/** A list of tasks with the chosen one's record beside it. */
export function taskPanel(snapshot, chosen, choose, base) {
  const names = Object.keys(snapshot.tasks ?? {});
  if (names.length === 0) return h("p", { class: "muted" }, t("run.not_started"));
  const name = names.includes(chosen) ? chosen : names.find((each) => snapshot.tasks[each] === "FAILED") ?? names[0];
  return [
    h("div", { class: "chips task-chips", role: "group", "aria-label": t("run.task") }, names.map((each) =>
      h("button", { type: "button", class: "small", "aria-pressed": String(each === name), onclick: () => choose(each) }, each, badge(taskState(snapshot, each))))),
    record(snapshot, name, base),
  ];
}

/** What a task returned, as far as the record has it. */
export const outputOf = ({ output, result }) => (result && "value" in result ? result.value : output);

function record(snapshot, name, base) {
  const state = taskState(snapshot, name);
  const known = snapshot.task_records?.[name];
  if (!known || state === "SKIPPED") return h("p", { class: "muted" }, t("run.no_record", { task: name, state: word("state", state) }));
  const values = [
    [t("run.started"), when(known.started_at)],
    [t("run.ended"), when(known.ended_at)],
    [t("run.took"), took(known.duration_ms === null ? (known.started_at && !known.ended_at ? Date.now() / 1000 - known.started_at : null) : known.duration_ms / 1000)],
    progress(known),
    known.error ? [t("run.error"), h("pre", { class: "code error-text", dir: "auto", tabindex: 0 }, visible(known.error))] : null,
    [t("run.inputs"), h("pre", { class: "code", tabindex: 0 }, json(known.inputs))],
    known.state === "SUCCEEDED" ? [t("run.output"), [h("pre", { class: "code", tabindex: 0 }, json(outputOf(known))), whole(snapshot, name, known, base)]] : null,
    known.tries?.length ? [t("task.tries"), tries(known.tries)] : null,
    known.iterations?.length ? [t("task.iterations"), iterations(known)] : null,
    known.traceback ? [t("run.traceback", { task: name }), h("pre", { class: "code", tabindex: 0 }, known.traceback)] : null,
  ];
  return h("dl", { class: "facts" }, values.filter(Boolean).map(([key, value]) => [h("dt", {}, key), h("dd", {}, value)]));
}

const tries = (all) => table({
  caption: t("task.tries"),
  columns: ["task.try", "run.started", "run.took", "runs.error"],
  rows: all.map((each) => h("tr", {}, h("td", {}, each.number), h("td", {}, when(each.started_at)), h("td", {}, span(each)), h("td", { class: "error-text wide" }, each.error ?? ""))),
});

const iterations = ({ iterations: last, iteration_counts: counts = {} }) => [
  h("p", { class: "muted" }, [Object.entries(counts).map(([state, count]) => `${count} ${word("state", state)}`).join(", "),
    last.length < Object.values(counts).reduce((sum, count) => sum + count, 0) ? t("task.iterations_last", { count: last.length }) : null].filter(Boolean).join("; ")),
  table({
    caption: t("task.iterations"),
    columns: ["task.iteration", "runs.status", "run.started", "run.took", "runs.error"],
    rows: last.map((each) => h("tr", {}, h("td", { class: "mono wide" }, each.path), h("td", {}, badge(each.state)), h("td", {}, when(each.started_at)), h("td", {}, span(each)), h("td", { class: "error-text wide" }, each.error ?? ""))),
  }),
];

const span = ({ started_at: from, ended_at: to }) => took(from && to ? to - from : null);

// How far a task says it is.
function progress({ progress: said }) {
  if (!said) return null;
  const { done, total, message } = said;
  const words = [total ? `${done ?? 0} / ${total}` : done, message].filter((each) => each !== null && each !== undefined && each !== "").join(" · ");
  return [t("task.progress"), [total ? h("progress", { max: total, value: done ?? 0, "aria-label": t("task.progress") }) : null, " ", words]];
}

// The record has the beginning of a large result only: all of it is kept beside the run.
function whole(snapshot, name, { result }, base) {
  const kept = snapshot.results?.find((each) => each.task === name) ?? result;
  if (!kept) return null;
  const path = `${base}/results/${name.split("/").map(encodeURIComponent).join("/")}`;
  return h("p", { class: "muted" },
    result && "value" in result ? null : h("button", { type: "button", class: "small", disabled: Boolean(kept.refused) || !ended(snapshot.status), onclick: () => download(path, `${name.split("/").at(-1)}.json`) }, t("run.result.whole", { bytes: bytes(kept.size_bytes) })),
    " ", [kept.cut, kept.refused].filter(Boolean).join(" · "));
}

/** The attempts that failed before this one, as a table; null when there are none. */
export function attempts(snapshot) {
  const before = snapshot.attempts ?? [];
  if (before.length === 0) return null;
  const measured = before.some((attempt) => attempt.peak_memory_bytes != null || attempt.cpu_sec != null);
  return h("div", { class: "table-wrap" }, table({
    caption: t("run.attempts"),
    columns: ["run.attempt", "runs.worker", "run.started", "run.ended", ...(measured ? ["run.memory", "run.cpu"] : []), "runs.error"],
    rows: before.map((attempt) => h("tr", {},
      h("td", {}, attempt.attempt), h("td", {}, attempt.worker_id ?? ""), h("td", {}, when(attempt.started_at)), h("td", {}, when(attempt.ended_at)), measured ? [h("td", {}, size(attempt.peak_memory_bytes)), h("td", {}, took(attempt.cpu_sec))] : null,
      h("td", { class: "error-text wide" }, [attempt.reason ? word("reason", attempt.reason) : null, attempt.error].filter(Boolean).join(": ")))),
  }));
}

const json = (value) => write(value ?? null, 2);
