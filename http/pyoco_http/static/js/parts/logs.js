// What tasks printed, live.

import { h, replace } from "../dom.js";
import { t } from "../i18n.js";
import { follow } from "../sse.js";

const MOST_LINES = 5000;

/** A panel that follows the logs of a run until `signal` is aborted. */
export function logPanel(path, signal) {
  const lines = h("div", { class: "logs", role: "log", tabindex: 0, "aria-label": t("run.logs") });
  const only = h("select", { id: "log-task", onchange: filter }, h("option", { value: "" }, t("run.logs.all")));
  const left = h("p", { class: "muted" }, t("run.logs.none"));
  const tasks = new Set();
  let stick = true;
  lines.addEventListener("scroll", () => {
    stick = lines.scrollTop + lines.clientHeight > lines.scrollHeight - 30;
  });

  function filter() {
    for (const line of lines.children) line.hidden = only.value !== "" && line.dataset.task !== only.value;
  }

  function add(entry) {
    left.remove();
    const task = entry.task ?? "";
    if (task && !tasks.has(task)) {
      tasks.add(task);
      only.append(h("option", { value: task }, task));
    }
    for (const text of entry.text.replace(/\n$/, "").split("\n")) {
      const line = h(
        "div",
        { class: `log-line ${entry.stream === "stderr" ? "stderr" : ""} ${entry.note ? "note" : ""}`, dataset: { task } },
        h("span", { class: "who", title: task }, task),
        h("span", {}, text),
      );
      line.hidden = only.value !== "" && task !== only.value;
      lines.append(line);
    }
    while (lines.childElementCount > MOST_LINES) lines.firstChild.remove();
    if (stick) lines.scrollTop = lines.scrollHeight;
  }

  follow(path, {
    query: { follow: 1 },
    signal,
    until: (name) => name === "end",
    on: {
      event: (name, data) => {
        if (name === "log") add(data);
        else if (name === "truncated") add({ ...data, text: t("run.logs.truncated", { bytes: data.bytes ?? data.left_out_bytes ?? "?" }), note: true });
      },
      fail: (error) => replace(left, error.message),
    },
  });
  return h("div", {}, h("div", { class: "filters" }, h("label", { class: "field", for: "log-task" }, t("run.logs.task"), only)), left, lines);
}
