// The history of a run's states and tasks, live.

import { gathered, h, replace } from "../dom.js";
import { write } from "../exact.js";
import { t, word } from "../i18n.js";
import { render } from "../render.js";
import { follow } from "../sse.js";
import { duration, when } from "../time.js";
import { save } from "./download.js";
import { badge } from "./status.js";
import { labelled } from "./table.js";

const TYPES = ["state", "task", "late"];
const COLUMNS = ["history.when", "history.what", "runs.status", "run.attempt", "runs.worker", "history.why"];

/** A table that follows the events of a run until `signal` is aborted; `name`: that of a file with them. */
export function history(path, signal, name) {
  const body = h("tbody");
  const groups = h("tbody", { hidden: true });
  const compact = h("input", { type: "checkbox", id: "history-compact", onchange: () => { body.hidden = compact.checked; groups.hidden = !compact.checked; group(); } });
  const group = gathered(() => { if (compact.checked) render(groups, grouped([...body.children]).map(together)); });
  const note = h("p", { class: "muted", hidden: true });
  follow(path, {
    query: { follow: 1, type: TYPES.join() },
    signal,
    until: (name) => name === "end",
    on: {
      event: (name, event) => {
        if (!TYPES.includes(name)) return;
        add(body, name, event);
        group();
      },
      end: () => {
        if (body.childElementCount > 0) return;
        note.hidden = false;
        replace(note, t("history.none"));
      },
      fail: (error) => {
        note.hidden = false;
        replace(note, error.message);
      },
    },
  });
  const keep = () => save(new Blob([write([...body.children].map((row) => row.told), 2)], { type: "application/json" }), `${name}-history.json`);
  return h("div", { class: "card-body table-wrap" }, note, h("div", { class: "filters" },
    h("label", { class: "nowrap check", for: "history-compact" }, compact, " ", t("history.compact")),
    h("button", { type: "button", class: "quiet small", onclick: keep }, t("do.json"))), h("table", { class: "table stacked" },
    h("caption", { class: "visually-hidden" }, t("run.history")),
    h("thead", {}, h("tr", {}, COLUMNS.map((key) => h("th", { scope: "col" }, t(key))))), body, groups));
}

// Gateways and workers each tell what they did: what happened before may be stored after. Revisions know better.
function add(body, name, event) {
  const after = ({ dataset }) => Number(dataset.revision) > event.revision;
  body.insertBefore(row(name, event), name === "state" ? ([...body.children].find(after) ?? null) : null);
}

// Rows of the same task in the same attempt, and those of the run itself, in the order of their first ones.
function grouped(rows) {
  return [...Map.groupBy(rows, ({ told }) => (told.type === "task" ? `${told.attempt} ${told.task}` : "")).values()];
}

// Several events as one row: the states that they led to, and the time from the first to the last.
function together(rows) {
  const [{ told: first }, { told: last }] = [rows[0], rows.at(-1)];
  const merged = row(last.type, last);
  const [at, , states, , , why] = merged.children;
  replace(at, when(first.at));
  replace(states, rows.flatMap(({ told }, index) => [index === 0 ? null : " → ", told.type === "late" ? null : badge(told.status ?? told.state)]));
  if (last.duration_ms == null && rows.length > 1) replace(why, [why.textContent, duration(last.at - first.at)].filter(Boolean).join(" · "));
  return merged;
}

function row(name, event) {
  const element = drawn(name, event);
  element.told = { type: name, ...event };
  return element;
}

function drawn(name, event) {
  const took = event.duration_ms === null || event.duration_ms === undefined ? null : duration(event.duration_ms / 1000);
  const why = [name === "late" ? t(`late.${event.what}`) : null, event.reason ? word("reason", event.reason) : null, event.by, event.error, took].filter(Boolean).join(" · ");
  return labelled(h("tr", { dataset: name === "state" ? { revision: event.revision } : {} },
    h("td", {}, when(event.at)),
    h("td", {}, name === "task" ? event.task : t("runs.run")),
    h("td", {}, name === "late" ? h("span", { class: "status tone-warn" }, t("late.late")) : badge(event.status ?? event.state)),
    h("td", {}, event.attempt || ""),
    h("td", {}, event.worker_id ?? ""),
    h("td", { class: "wide" }, why)), COLUMNS);
}
