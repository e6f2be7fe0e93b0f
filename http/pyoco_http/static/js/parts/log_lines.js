// What tasks printed, as lines: parts of a line are joined, and a carriage return begins it anew.

import { h } from "../dom.js";
import { clock } from "../time.js";
import { ansi, styled } from "./ansi.js";

/** Returns {add(event, words)}: the new lines as elements; a line that goes on is changed where it is. */
export function logLines() {
  const open = new Map(); // the line that each stream of a task has not ended, and its style

  function add({ task, stream, attempt, at, type }, words) {
    const note = type !== "log";
    const source = JSON.stringify([task, stream, attempt]);
    const fresh = [];
    const pieces = (note ? `${words}\n` : words).replaceAll("\r\n", "\n").split("\n");
    pieces.forEach((piece, index) => {
      const last = index === pieces.length - 1;
      if (last && piece === "") return;
      let line = note ? null : open.get(source);
      if (!line?.element) {
        line = { element: row({ task, stream, attempt, at, note }), raw: "", style: line?.style ?? {} };
        fresh.push(line.element);
      }
      line.raw = current(line.raw + piece);
      const { parts, style } = ansi(line.raw.replaceAll("\r", ""), line.style);
      line.element.lastChild.replaceChildren(...parts.map(styled));
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

function row({ task, stream, attempt, at, note }) {
  const look = [stream === "stderr" ? "stderr" : null, note ? "note" : null].filter(Boolean);
  return h(
    "div",
    { class: ["log-line", ...look].join(" "), dataset: { task: task ?? "", attempt: attempt ?? "" } },
    clock(at),
    h("span", { class: "who", title: task ?? "" }, task ?? ""),
    h("span", { class: "log-text", dir: "auto" }),
  );
}
