// What tasks printed, live: the last lines first, then what comes.

import { get } from "../api.js";
import { gathered, h, replace } from "../dom.js";
import { t } from "../i18n.js";
import { follow } from "../sse.js";
import { bytes } from "../time.js";

const MOST_LINES = 5000;
const AT_BOTTOM = 30; // px

/** A panel that follows the logs of a run until `signal` is aborted: {element, only(task)}. */
export function logPanel(path, signal) {
  const lines = h("div", { class: "logs", role: "log", tabindex: 0, "aria-label": t("run.logs") });
  const tasks = select("log-task", "run.logs.all");
  const attempts = select("log-attempt", "run.logs.every");
  const note = h("p", { class: "muted" }, t("run.logs.none"));
  const wrap = h("input", { type: "checkbox", checked: true, onchange: () => lines.classList.toggle("nowrapped", !wrap.checked) });
  let arrived = [];
  let stick = true;
  lines.onscroll = () => {
    stick = lines.scrollTop + lines.clientHeight > lines.scrollHeight - AT_BOTTOM;
  };

  function select(id, everything) {
    const known = new Set();
    const element = h("select", { id, onchange: filter }, h("option", { value: "" }, t(everything)));
    const add = (value) => {
      if (value === "" || known.has(value)) return;
      known.add(value);
      element.append(h("option", { value }, value));
    };
    return { element, add };
  }

  const fits = ({ dataset }) => ["task", "attempt"].every((name) => {
    const { value } = (name === "task" ? tasks : attempts).element;
    return value === "" || dataset[name] === value;
  });

  function filter() {
    for (const line of lines.children) line.hidden = !fits(line);
    lines.scrollTop = lines.scrollHeight;
  }

  const draw = gathered(() => {
    const fresh = arrived.flatMap(drawn).slice(-MOST_LINES);
    arrived = [];
    note.hidden = true;
    for (const line of fresh) line.hidden = !fits(line);
    lines.append(...fresh);
    while (lines.childElementCount > MOST_LINES) lines.firstChild.remove();
    if (stick) lines.scrollTop = lines.scrollHeight;
  });

  function take(event) {
    arrived.push(event);
    draw();
  }

  function drawn({ type, task, stream, text, attempt, at, left_out_bytes: left, limit_bytes: limit }) {
    const truncated = type === "truncated";
    const words = truncated ? (left === null ? t("run.logs.full", { bytes: bytes(limit) }) : t("run.logs.truncated", { bytes: bytes(left) })) : text;
    tasks.add(task ?? "");
    attempts.add(String(attempt || ""));
    const time = at ? new Date(at * 1000).toISOString() : "";
    return words.replace(/\n$/, "").split("\n").map((line) => h(
      "div",
      { class: `log-line ${stream === "stderr" ? "stderr" : ""} ${truncated ? "note" : ""}`, title: time, dataset: { task: task ?? "", attempt: attempt ?? "" } },
      h("span", { class: "who", title: task ?? "" }, task ?? ""),
      h("span", { dir: "auto" }, line),
    ));
  }

  async function start() {
    try {
      const page = await get(path, { tail: MOST_LINES }, signal);
      page.items.forEach(take);
      await follow(path, {
        query: (lastId) => ({ follow: 1, cursor: lastId ?? page.position }),
        signal,
        until: (name) => name === "end",
        on: { event: (name, data) => { if (name === "log" || name === "truncated") take(data); }, fail },
      });
    } catch (error) {
      fail(error);
    }
  }

  function fail(error) {
    if (!signal.aborted) replace(note, error.message);
  }

  start();
  const label = (id, key, control) => h("label", { class: "field", for: id }, t(key), control);
  return {
    element: h("div", { class: "card-body" },
      h("div", { class: "filters" }, label("log-task", "run.logs.task", tasks.element), label("log-attempt", "run.attempt", attempts.element), h("label", {}, wrap, " ", t("run.logs.wrap"))),
      note, lines),
    only(task) {
      tasks.add(task);
      tasks.element.value = task;
      filter();
    },
  };
}
