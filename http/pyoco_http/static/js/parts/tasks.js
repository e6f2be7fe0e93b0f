// What is known of each task, and of attempts that went before.

import { h } from "../dom.js";
import { visible, write } from "../exact.js";
import { t, word } from "../i18n.js";
import { bytes, size, took, when } from "../time.js";
import { download } from "./download.js";
import { badge, ended, taskState } from "./status.js";
import { table } from "./table.js";
import { windowList } from "./window.js";

const MANY = 100; // more tasks are a list to look through
const ROW = 2.25; // rem
const ROWS = 7;

/** A list of tasks and the chosen one's record; `choose(name)` is told of a click, `show(snapshot, chosen)` returns the elements. */
export function taskPanel(base, choose) {
  const many = longList(choose);
  return {
    show(snapshot, chosen) {
      const names = Object.keys(snapshot.tasks ?? {});
      if (names.length === 0) return h("p", { class: "muted" }, t("run.not_started"));
      const name = names.includes(chosen) ? chosen : names.find((each) => snapshot.tasks[each] === "FAILED") ?? names[0];
      const list = names.length > MANY
        ? many.show(snapshot, names, name)
        : h("div", { class: "chips task-chips", role: "group", "aria-label": t("run.task") }, names.map((each) => button(snapshot, each, name, choose)));
      return [list, record(snapshot, name, base)];
    },
  };
}

const button = (snapshot, each, name, choose) =>
  h("button", { type: "button", class: "small", "aria-pressed": String(each === name), onclick: () => choose(each) }, h("span", { class: "task-name" }, each), badge(taskState(snapshot, each)));

// A line for each of the tasks whose name or state has a text in it.
function longList(choose) {
  let now = null;
  let revealed = null;
  const list = windowList({ look: "task-list", label: t("run.task"), height: ROW, rows: ROWS, row: (each) => h("div", { dataset: { key: each } }, button(now.snapshot, each, now.name, choose)) });
  const wanted = h("input", { type: "search", id: "find-task", oninput: () => draw(now) });
  const none = h("p", { class: "muted" }, t("run.find.none"));
  const element = h("div", { class: "task-find", dataset: { key: "tasks" } }, h("div", { class: "field" }, h("label", { for: "find-task" }, t("run.find")), wanted), list.element, none);

  function draw({ snapshot, names, name }) {
    const text = wanted.value.trim().toLowerCase();
    const found = names.filter((each) => `${each} ${word("state", taskState(snapshot, each))}`.toLowerCase().includes(text));
    list.element.hidden = found.length === 0;
    none.hidden = found.length > 0;
    list.show(found);
    if (name !== revealed && found.includes(name) && list.reveal(found.indexOf(name))) revealed = name;
  }

  return {
    show(snapshot, names, name) {
      now = { snapshot, names, name };
      draw(now);
      return element;
    },
  };
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
