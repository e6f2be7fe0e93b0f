// What tasks printed, live: the last lines first, then what comes.

import { get } from "../api.js";
import { gathered, h, replace } from "../dom.js";
import { t } from "../i18n.js";
import { follow } from "../sse.js";
import { bytes } from "../time.js";
import { download } from "./download.js";
import { logLines } from "./log_lines.js";
import { logSearch } from "./log_search.js";

const MOST_LINES = 5000;
const AT_BOTTOM = 30; // px
const STORED = "pyoco.logs.";

/** A panel that follows the logs of a run until `signal` is aborted: {element, only(task)}. `name`: of a download. */
export function logPanel(path, signal, name) {
  const lines = h("div", { class: "logs", role: "log", tabindex: 0, "aria-label": t("run.logs") });
  const tasks = select("log-task", "run.logs.all");
  const attempts = select("log-attempt", "run.logs.every");
  const note = h("p", { class: "muted" }, t("run.logs.none"));
  const search = logSearch(lines);
  const printed = logLines();
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

  // What the user chose is kept in the browser.
  function choice(key, label, otherwise) {
    const stored = localStorage.getItem(STORED + key);
    const apply = () => lines.classList.toggle(key, box.checked);
    const box = h("input", { type: "checkbox", checked: stored === null ? otherwise : stored === "1", onchange: () => { localStorage.setItem(STORED + key, box.checked ? "1" : "0"); apply(); } });
    apply();
    return h("label", { class: "nowrap" }, box, " ", t(label));
  }

  const fits = ({ dataset }) => ["task", "attempt"].every((each) => {
    const { value } = (each === "task" ? tasks : attempts).element;
    return value === "" || dataset[each] === value;
  });

  function filter() {
    for (const line of lines.children) line.hidden = !fits(line);
    lines.scrollTop = lines.scrollHeight;
    search.renew();
  }

  const draw = gathered(() => {
    const fresh = arrived.flatMap(drawn).slice(-MOST_LINES);
    arrived = [];
    note.hidden = true;
    for (const line of fresh) line.hidden = !fits(line);
    lines.append(...fresh);
    while (lines.childElementCount > MOST_LINES) lines.firstChild.remove();
    if (stick) lines.scrollTop = lines.scrollHeight;
    search.renew();
  });

  function take(event) {
    arrived.push(event);
    draw();
  }

  function drawn(event) {
    const { type, task, attempt, text, left_out_bytes: left, limit_bytes: limit } = event;
    tasks.add(task ?? "");
    attempts.add(String(attempt || ""));
    if (type === "log") return printed.add(event, text);
    return printed.add(event, left === null ? t("run.logs.full", { bytes: bytes(limit) }) : t("run.logs.truncated", { bytes: bytes(left) }));
  }

  // All of it, also what is too much for the screen; narrowed as the screen is.
  function save() {
    const [task, attempt] = [tasks.element.value, attempts.element.value];
    const label = [name, task, attempt && `attempt-${attempt}`].filter(Boolean).join("-").replaceAll(/[^\w.-]+/g, "_");
    return download(path, `${label}.log`, { format: "text", task, attempt });
  }

  async function start() {
    try {
      const page = await get(path, { tail: MOST_LINES }, signal);
      page.items.forEach(take);
      await follow(path, {
        query: (lastId) => ({ follow: 1, cursor: lastId ?? page.position }),
        signal,
        until: (each) => each === "end",
        on: { event: (each, data) => { if (each === "log" || each === "truncated") take(data); }, fail },
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
      h("div", { class: "filters" }, label("log-task", "run.logs.task", tasks.element), label("log-attempt", "run.attempt", attempts.element), search.element),
      h("div", { class: "filters level" }, choice("wrapped", "run.logs.wrap", true), choice("timed", "run.logs.times", true),
        h("button", { type: "button", class: "quiet small", onclick: save }, t("run.logs.download"))),
      note, lines),
    only(task) {
      tasks.add(task);
      tasks.element.value = task;
      filter();
    },
  };
}
