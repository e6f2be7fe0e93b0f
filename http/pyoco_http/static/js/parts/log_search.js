// Finds texts and errors in the lines of a log.

import { h, replace } from "../dom.js";
import { t } from "../i18n.js";

const ERROR = /\b(?:error|exception|traceback|fatal|panic)\b|\w(?:Error|Exception)\b/i;
const TYPING_MS = 150;

/**
 * `body`: the element of the lines that are drawn; `draw()`: draws them; `reveal(index)`: that one too, on the screen.
 * Returns {element, renew(lines), mark(), at()}: to be called when there are other lines, and when others are drawn;
 * and the line that it went to.
 */
export function logSearch({ body, draw, reveal }) {
  const marks = globalThis.Highlight ? new Highlight() : null;
  if (marks !== null) CSS.highlights.set("log-search", marks);
  let lines = [];
  let found = [];
  let at = null;
  let timer;
  const said = h("span", { class: "muted nowrap", role: "status" });
  const input = h("input", {
    type: "search", id: "log-search",
    oninput: () => { clearTimeout(timer); timer = setTimeout(() => { renew(lines); step(0); }, TYPING_MS); },
    onkeydown: (event) => {
      if (event.key !== "Enter") return;
      event.preventDefault();
      step(event.shiftKey ? -1 : 1);
    },
  });
  const tool = (key, sign, by) => h("button", { type: "button", class: "small", title: t(key), "aria-label": t(key), onclick: () => step(by) }, sign);

  function renew(next) {
    lines = next;
    const needle = input.value.toLowerCase();
    found = needle === "" ? [] : lines.filter(({ text }) => text.toLowerCase().includes(needle));
    mark();
    say();
  }

  function mark() {
    marks?.clear();
    const needle = input.value.toLowerCase();
    if (marks !== null && needle !== "") for (const line of body.children) markIn(line.lastChild, needle);
  }

  function markIn(element, needle) {
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
    const index = found.indexOf(at);
    show(found.at(index < 0 ? -1 : (index + by) % found.length));
    say();
  }

  function show(line) {
    at = line;
    if (line === null) draw();
    else reveal(lines.indexOf(line));
  }

  // The last line that tells of an error, then the one before; without any, the last one of stderr.
  function toError() {
    clearTimeout(timer);
    let errors = lines.filter(({ text }) => ERROR.test(text));
    if (errors.length === 0) errors = lines.filter(({ stderr }) => stderr).slice(-1);
    if (errors.length === 0) return replace(said, t("run.logs.no_error"));
    const index = errors.indexOf(at);
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
    mark,
    at: () => at,
  };
}
