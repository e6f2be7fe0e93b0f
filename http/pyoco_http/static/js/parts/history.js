// The history of a run's states and tasks, live.

import { h, replace } from "../dom.js";
import { t, word } from "../i18n.js";
import { follow } from "../sse.js";
import { duration, when } from "../time.js";
import { badge } from "./status.js";
import { labelled } from "./table.js";

const TYPES = ["state", "task", "late"];
const COLUMNS = ["history.when", "history.what", "runs.status", "run.attempt", "runs.worker", "history.why"];

/** A table that follows the events of a run until `signal` is aborted. */
export function history(path, signal) {
  const body = h("tbody");
  const note = h("p", { class: "muted", hidden: true });
  follow(path, {
    query: { follow: 1, type: TYPES.join() },
    signal,
    until: (name) => name === "end",
    on: {
      event: (name, event) => {
        if (TYPES.includes(name)) add(body, name, event);
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
  return h("div", { class: "card-body table-wrap" }, note, h("table", { class: "table stacked" },
    h("caption", { class: "visually-hidden" }, t("run.history")),
    h("thead", {}, h("tr", {}, COLUMNS.map((key) => h("th", { scope: "col" }, t(key))))), body));
}

// Gateways and workers each tell what they did: what happened before may be stored after. Revisions know better.
function add(body, name, event) {
  const after = ({ dataset }) => Number(dataset.revision) > event.revision;
  body.insertBefore(row(name, event), name === "state" ? ([...body.children].find(after) ?? null) : null);
}

function row(name, event) {
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
