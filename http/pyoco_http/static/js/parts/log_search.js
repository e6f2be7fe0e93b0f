// Finds texts and errors in the lines of a log.

import { h, replace } from "../dom.js";
import { t } from "../i18n.js";

const ERROR = /\b(?:error|exception|traceback|fatal|panic)\b|\w(?:Error|Exception)\b/i;
const MOST_MARKED = 2000;
const TYPING_MS = 150;

/** `lines`: the element with the lines in it. Returns {element, renew()}, to be called when there are others. */
export function logSearch(lines) {
  const marks = globalThis.Highlight ? new Highlight() : null;
  if (marks !== null) CSS.highlights.set("log-search", marks);
  let found = [];
  let at = null;
  let timer;
  const said = h("span", { class: "muted nowrap", role: "status" });
  const input = h("input", {
    type: "search", id: "log-search",
    oninput: () => { clearTimeout(timer); timer = setTimeout(() => { renew(); step(0); }, TYPING_MS); },
    onkeydown: (event) => {
      if (event.key !== "Enter") return;
      event.preventDefault();
      step(event.shiftKey ? -1 : 1);
    },
  });
  const tool = (key, sign, by) => h("button", { type: "button", class: "small", title: t(key), "aria-label": t(key), onclick: () => step(by) }, sign);
  const shown = () => [...lines.children].filter((line) => !line.hidden);
  const text = (line) => line.lastChild.textContent;

  function renew() {
    const needle = input.value.toLowerCase();
    found = needle === "" ? [] : shown().filter((line) => text(line).toLowerCase().includes(needle));
    marks?.clear();
    if (marks !== null) for (const line of found.slice(0, MOST_MARKED)) mark(line.lastChild, needle);
    if (at !== null && !found.includes(at)) at = null;
    say();
  }

  function mark(element, needle) {
    const walker = document.createTreeWalker(element, NodeFilter.SHOW_TEXT);
    for (let node = walker.nextNode(); node; node = walker.nextNode()) {
      const hay = node.data.toLowerCase();
      for (let from = hay.indexOf(needle); from >= 0; from = hay.indexOf(needle, from + needle.length)) {
        const range = new Range();
        range.setStart(node, from);
        range.setEnd(node, Math.min(from + needle.length, node.length));
        marks.add(range);
      }
    }
  }

  function say() {
    replace(said, input.value === "" ? "" : found.length === 0 ? t("run.logs.nothing") : t("run.logs.found", { at: found.indexOf(at) + 1, count: found.length }));
  }

  // To the next line; to the newest one first.
  function step(by) {
    if (found.length === 0) return show(null);
    const index = at === null ? found.length - 1 : (found.indexOf(at) + by + found.length) % found.length;
    show(found[index]);
    say();
  }

  function show(line) {
    lines.querySelector(".log-line.at")?.classList.remove("at");
    at = line;
    line?.classList.add("at");
    line?.scrollIntoView({ block: "center" });
  }

  // The last line that tells of an error, then the one before; without any, the last one of stderr.
  function toError() {
    clearTimeout(timer);
    const all = shown();
    let errors = all.filter((line) => ERROR.test(text(line)));
    if (errors.length === 0) errors = all.filter((line) => line.classList.contains("stderr")).slice(-1);
    if (errors.length === 0) return replace(said, t("run.logs.no_error"));
    const index = errors.indexOf(lines.querySelector(".log-line.at"));
    show(errors.at(index < 0 ? -1 : index - 1));
    replace(said, t("run.logs.found", { at: errors.indexOf(at) + 1, count: errors.length }));
  }

  return {
    element: [
      h("label", { class: "field grow", for: "log-search" }, t("run.logs.search"), input),
      tool("run.logs.before", "↑", -1), tool("run.logs.next", "↓", 1),
      h("button", { type: "button", class: "small", onclick: toError }, t("run.logs.error")), said,
    ],
    renew,
  };
}
