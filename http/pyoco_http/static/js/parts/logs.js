// What tasks printed, live: the last lines first, then what comes.

import { get, LONG_MS } from "../api.js";
import { gathered, h, replace } from "../dom.js";
import { t } from "../i18n.js";
import { patiently } from "../page.js";
import { follow } from "../sse.js";
import { bytes } from "../time.js";
import { download } from "./download.js";
import { logLine, logLines } from "./log_lines.js";
import { logSearch } from "./log_search.js";
import { windowRows } from "./window.js";

const MOST_LINES = 5000;
const MOST_CHOICES = 100; // of more, the others are there while one chooses
const AT_BOTTOM = 30; // px
const STORED = "pyoco.logs.";

/** A panel that follows the logs of a run while its `part` is shown, until `signal` is aborted: {element, only(task)}. `name`: of a download. */
export function logPanel(path, signal, part, name) {
  const body = h("div");
  const lines = h("div", { class: "logs", role: "log", tabindex: 0, "aria-label": t("run.logs") });
  const tasks = select("log-task", "run.logs.all");
  const attempts = select("log-attempt", "run.logs.every");
  const note = h("p", { class: "muted" }, t("run.logs.none"));
  const rows = windowRows({ scroller: lines, body, row: (line) => logLine(line, line === search.at()), onDraw: () => search.mark() });
  const search = logSearch({ body, ...rows });
  const printed = logLines();
  let known = [];
  let arrived = [];
  let stick = true;
  lines.addEventListener("scroll", () => {
    stick = lines.scrollTop + lines.clientHeight > lines.scrollHeight - AT_BOTTOM;
    // What comes is read out; what one scrolls to, and is drawn then, is not news.
    lines.setAttribute("aria-live", stick ? "polite" : "off");
  }, { passive: true });

  function select(id, everything) {
    const values = new Set([""]);
    const option = (value) => h("option", { value }, value || t(everything));
    const element = h("select", { id, onchange: () => narrow(true), onfocus: () => fill(values.size), onblur: () => fill(MOST_CHOICES) }, option(""));
    function fill(most, chosen = element.value) {
      const shown = [...values].slice(0, most);
      if (values.size > MOST_CHOICES) replace(element, (shown.includes(chosen) ? shown : [...shown, chosen]).map(option));
      element.value = chosen;
    }
    function add(value) {
      if (values.has(value)) return;
      values.add(value);
      if (values.size <= MOST_CHOICES || element === document.activeElement) element.append(option(value));
    }
    function choose(value) {
      add(value);
      fill(MOST_CHOICES, value);
    }
    return { element, add, choose };
  }

  // What the user chose is kept in the browser.
  function choice(key, label, otherwise) {
    const stored = localStorage.getItem(STORED + key);
    const apply = () => lines.classList.toggle(key, box.checked);
    const box = h("input", { type: "checkbox", checked: stored === null ? otherwise : stored === "1", onchange: () => { localStorage.setItem(STORED + key, box.checked ? "1" : "0"); apply(); rows.draw(); } });
    apply();
    return h("label", { class: "nowrap" }, box, " ", t(label));
  }

  // The lines of the chosen task and attempt.
  function narrow(last) {
    const [task, attempt] = [tasks.element.value, attempts.element.value];
    const shown = known.filter((line) => (task === "" || line.task === task) && (attempt === "" || line.attempt === attempt));
    rows.show(shown, last);
    search.renew(shown);
  }

  const draw = gathered(() => {
    known = [...known, ...arrived.flatMap(drawn)].slice(-MOST_LINES);
    arrived = [];
    note.hidden = true;
    narrow(stick);
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
      const page = await patiently(() => get(path, { tail: MOST_LINES }, signal, LONG_MS), signal);
      page.items.forEach(take);
      await follow(path, {
        query: (lastId) => ({ follow: 1, cursor: lastId ?? page.position }),
        signal,
        part,
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
      tasks.choose(task);
      narrow(true);
    },
  };
}
