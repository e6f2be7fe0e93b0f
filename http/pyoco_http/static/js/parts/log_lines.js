// What tasks printed, as lines: parts of a line are joined, and a carriage return begins it anew.

import { h } from "../dom.js";
import { clock } from "../time.js";
import { ansi, styled } from "./ansi.js";

/**
 * Returns {add(event, words)}: the new lines {number, task, attempt, at, stderr, note, parts, text}; one that goes on is changed.
 */
export function logLines() {
  const open = new Map(); // the line that each stream of a task has not ended, and its style
  let count = 0;

  function add({ task, stream, attempt, at, type }, words) {
    const note = type !== "log";
    const source = JSON.stringify([task, stream, attempt]);
    const fresh = [];
    const pieces = (note ? `${words}\n` : words).replaceAll("\r\n", "\n").split("\n");
    pieces.forEach((piece, index) => {
      const last = index === pieces.length - 1;
      if (last && piece === "") return;
      let line = note ? null : open.get(source);
      if (!line?.told) {
        const told = { number: count++, task: task ?? "", attempt: String(attempt || ""), at, stderr: stream === "stderr", note };
        line = { told, raw: "", style: line?.style ?? {} };
        fresh.push(told);
      }
      line.raw = current(line.raw + piece);
      const { parts, style } = ansi(line.raw.replaceAll("\r", ""), line.style);
      Object.assign(line.told, { parts, text: parts.map((part) => part.text).join("") });
      open.set(source, last ? line : { style });
    });
    return fresh;
  }

  return { add };
}

// What stands there after the last carriage return; one at the end waits for what comes.
function current(raw) {
  const cut = raw.lastIndexOf("\r", raw.length - 2);
  return cut < 0 ? raw : raw.slice(cut + 1);
}

/** A line as an element; its text is the last child. */
export function logLine({ number, task, at, stderr, note, parts }, marked) {
  const look = [stderr ? "stderr" : null, note ? "note" : null, marked ? "at" : null].filter(Boolean);
  return h(
    "div",
    { class: ["log-line", ...look].join(" "), dataset: { key: number } },
    clock(at),
    h("span", { class: "who", title: task }, task),
    h("span", { class: "log-text", dir: "auto" }, parts.map(styled)),
  );
}
