// The history of a run's states and tasks, live.

import { gathered, h, replace } from "../dom.js";
import { write } from "../exact.js";
import { t, word } from "../i18n.js";
import { follow } from "../sse.js";
import { duration, when } from "../time.js";
import { save } from "./download.js";
import { badge } from "./status.js";
import { labelled } from "./table.js";
import { windowRows } from "./window.js";

const TYPES = ["state", "task", "late"];
const MOST_SIGNS = 6; // of a task in a loop there are hundreds
const COLUMNS = ["history.when", "history.what", "runs.status", "run.attempt", "runs.worker", "history.why"];

/** A table that follows the events of a run while its `part` is shown, until `signal` is aborted; `name`: that of a file with them. */
export function history(path, signal, part, name) {
  const told = []; // events, in their order
  let shown = new Map(); // the events of each row, by the first of them
  const body = h("tbody");
  const table = h("table", { class: "table stacked" },
    h("caption", { class: "visually-hidden" }, t("run.history")),
    h("thead", {}, h("tr", {}, COLUMNS.map((key) => h("th", { scope: "col" }, t(key))))), body);
  const scroller = h("div", { class: "table-wrap history", tabindex: 0, role: "region", "aria-label": t("run.history") });
  const rows = windowRows({ scroller, body, around: table, row: (first, index) => row(shown.get(first), index) });
  const compact = h("input", { type: "checkbox", id: "history-compact", onchange: () => draw() });
  const wanted = h("input", { type: "search", id: "find-event", oninput: () => draw() });
  const note = h("p", { class: "muted", hidden: true });
  const none = h("p", { class: "muted", hidden: true }, t("history.find.none"));

  const draw = gathered(() => {
    const text = wanted.value.trim().toLowerCase();
    const all = compact.checked ? grouped(told) : told.map((event) => [event]);
    const found = text === "" ? all : all.filter((events) => events.some((event) => said(event).includes(text)));
    shown = new Map(found.map((events) => [events[0], events]));
    table.setAttribute("aria-rowcount", shown.size + 1);
    scroller.hidden = shown.size === 0 && told.length > 0;
    none.hidden = !scroller.hidden;
    rows.show([...shown.keys()]);
  });

  follow(path, {
    query: { follow: 1, type: TYPES.join() },
    signal,
    part,
    until: (type) => type === "end",
    on: {
      event: (type, event) => {
        if (!TYPES.includes(type)) return;
        add(told, { type, ...event });
        draw();
      },
      end: () => {
        if (told.length > 0) return;
        note.hidden = false;
        replace(note, t("history.none"));
      },
      fail: (error) => {
        note.hidden = false;
        replace(note, error.message);
      },
    },
  });
  const keep = () => save(new Blob([write(told, 2)], { type: "application/json" }), `${name}-history.json`);
  return h("div", { class: "card-body" }, note, h("div", { class: "filters" },
    h("div", { class: "field grow" }, h("label", { for: "find-event" }, t("history.find")), wanted),
    h("label", { class: "nowrap check", for: "history-compact" }, compact, " ", t("history.compact")),
    h("button", { type: "button", class: "quiet small", onclick: keep }, t("do.json"))), none, scroller);
}

// Gateways and workers each tell what they did: what happened before may be stored after. Revisions know better.
function add(told, event) {
  const after = event.type === "state" ? told.findIndex((each) => each.type === "state" && each.revision > event.revision) : -1;
  told.splice(after < 0 ? told.length : after, 0, event);
}

// Events of the same task in the same attempt, and those of the run itself, in the order of their first ones.
function grouped(told) {
  return [...Map.groupBy(told, ({ type, attempt, task }) => (type === "task" ? `${attempt} ${task}` : "")).values()];
}

const what = ({ type, task }) => (type === "task" ? task : t("runs.run"));
const sign = ({ type, status, state }) => (type === "late" ? h("span", { class: "status tone-warn" }, t("late.late")) : badge(status ?? state));
const said = (event) => [what(event), sign(event).textContent, event.worker_id, why(event)].filter(Boolean).join(" ").toLowerCase();

function why({ type, what: late, reason, by, error, duration_ms: took }) {
  const words = [type === "late" ? t(`late.${late}`) : null, reason ? word("reason", reason) : null, by, error];
  return [...words, took == null ? null : duration(took / 1000)].filter(Boolean).join(" · ");
}

// Several events are one row: the states that they led to, and the time from the first to the last.
function row(events, index) {
  const [first, last] = [events[0], events.at(-1)];
  const signs = (events.length > MOST_SIGNS ? [first, null, last] : events).flatMap((event, at) => [at === 0 ? null : " → ", event === null ? "…" : sign(event)]);
  const span = events.length > 1 && last.duration_ms == null ? duration(last.at - first.at) : null;
  return labelled(h("tr", { dataset: { key: index }, "aria-rowindex": index + 2 },
    h("td", {}, when(first.at)),
    h("td", {}, what(last)),
    h("td", {}, signs),
    h("td", {}, last.attempt || ""),
    h("td", {}, last.worker_id ?? ""),
    h("td", { class: "wide" }, [why(last), span].filter(Boolean).join(" · "))), COLUMNS);
}
