// The history of a run's states and tasks, live.

import { h, replace } from "../dom.js";
import { t } from "../i18n.js";
import { follow } from "../sse.js";
import { when } from "../time.js";
import { badge } from "./status.js";

/** A table that follows the events of a run until `signal` is aborted. */
export function history(path, signal) {
  const body = h("tbody");
  const note = h("p", { class: "muted" });
  follow(path, {
    query: { follow: 1 },
    signal,
    until: (name) => name === "end",
    on: {
      event: (name, event) => {
        if (name === "state" || name === "task") body.append(row(name, event));
      },
      fail: (error) => replace(note, error.message),
    },
  });
  return h("div", { class: "table-wrap" }, note, h("table", { class: "table" },
    h("thead", {}, h("tr", {}, ["history.when", "history.what", "runs.status", "run.attempt", "runs.worker", "history.why"].map((key) => h("th", { scope: "col" }, t(key))))), body));
}

function row(name, event) {
  return h("tr", {},
    h("td", {}, when(event.ts ?? event.at)),
    h("td", {}, name === "task" ? event.task : t("runs.run")),
    h("td", {}, badge(event.status ?? event.state)),
    h("td", {}, event.attempt ?? ""),
    h("td", {}, event.worker_id ?? ""),
    h("td", {}, [event.reason, event.error].filter(Boolean).join(": ")));
}
