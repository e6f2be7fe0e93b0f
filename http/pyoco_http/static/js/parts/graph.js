// The picture of a flow, with the state of each task.

import { s } from "../dom.js";
import { t, word } from "../i18n.js";
import { duration } from "../time.js";
import { fitting } from "./layout.js";
import { stateOf, taskState } from "./status.js";
import { viewport } from "./viewport.js";

const MARGIN = 12;

/**
 * Draw a graph; `onTask(name)` is told of a click on a task, if it is given.
 * Returns {element, update(snapshot, chosen)}, which colours it and marks the chosen task.
 */
export function drawGraph(graph, onTask = null) {
  const toggled = new Set();
  let places = []; // {name or holds, element, sub, title} of what has a state
  let now = [null, null];
  const view = viewport({ label: t("run.graph"), onRoom: draw });

  function draw() {
    places = [];
    const room = view.room();
    const picture = fitting(graph, toggled, { width: room.width - 2 * MARGIN, height: room.height - 2 * MARGIN });
    view.show(
      picture.width + 2 * MARGIN,
      picture.height + 2 * MARGIN,
      s("defs", {}, s("marker", { id: "head", viewBox: "0 0 8 8", refX: 7, refY: 4, markerWidth: 7, markerHeight: 7, orient: "auto" },
        s("path", { d: "M0 0 8 4 0 8z", class: "edge-head" }))),
      s("g", { transform: `translate(${MARGIN} ${MARGIN})` },
        picture.nodes.filter((node) => node.holds && !node.folded).map(frame),
        picture.labels.map((label) => s("text", { class: "group-label", x: label.x, y: label.y }, label.text)),
        picture.edges.map((edge) => line(edge, picture.down)),
        picture.nodes.filter((node) => !node.holds || node.folded).map(box)),
    );
    colour();
  }

  function fold(node) {
    if (!toggled.delete(node.id)) toggled.add(node.id);
    draw();
    view.element.querySelector(`[data-fold="${CSS.escape(node.id)}"]`)?.focus();
  }

  // Around what is inside; its heading folds it.
  function frame(node) {
    return s("g", {},
      s("rect", { class: node.kind === "pack" ? "pack" : "group", x: node.x, y: node.y, width: node.width, height: node.height, rx: 10 }),
      s("g", { class: "fold", dataset: { fold: node.id }, "aria-expanded": "true", ...button(() => fold(node)), "aria-label": heading(node) },
        s("rect", { class: "hit", x: node.x + 4, y: node.y + 3, width: node.width - 8, height: 22, rx: 6 }),
        s("text", { class: "group-label", x: node.x + 12, y: node.y + 18 }, `▾ ${heading(node)}`)));
  }

  function box(node) {
    const title = s("title");
    const sub = s("text", { class: "sub", x: node.x + 28, y: node.y + 36 });
    const name = node.holds ? heading(node) : node.name;
    const press = node.holds ? () => fold(node) : onTask === null ? null : () => onTask(node.name);
    const element = s(
      "g",
      {
        class: node.holds ? "node folded" : "node",
        dataset: node.holds ? { fold: node.id } : { task: node.name },
        "aria-label": name,
        ...(node.holds ? { "aria-expanded": "false" } : {}),
        ...(press === null ? { role: "img" } : button(press)),
      },
      title,
      node.holds ? s("rect", { class: "behind", x: node.x + 4, y: node.y + 4, width: node.width, height: node.height, rx: 8 }) : null,
      s("rect", { x: node.x, y: node.y, width: node.width, height: node.height, rx: 8 }),
      s("circle", { class: "dot", cx: node.x + 15, cy: node.y + 23, r: 5 }),
      s("text", { x: node.x + 28, y: node.y + 20 }, node.holds ? `▸ ${shorten(name, 16)}` : shorten(name, 18)),
      sub,
    );
    places.push({ name, holds: node.holds ?? null, element, sub, title });
    return element;
  }

  function colour() {
    const [snapshot, chosen] = now;
    if (snapshot === null) return;
    for (const { name, holds, element, sub, title } of places) {
      const state = holds === null ? taskState(snapshot, name) : stateOf(holds.map((each) => taskState(snapshot, each)));
      const words = holds === null ? said(snapshot, name, state) : tally(snapshot, holds);
      element.dataset.state = state;
      sub.textContent = shorten(words, 22);
      title.textContent = `${name}: ${words}`;
      element.setAttribute("aria-label", title.textContent);
      element.classList.toggle("chosen", holds === null && name === chosen);
    }
  }

  return {
    element: view.element,
    update(snapshot, chosen = null) {
      now = [snapshot, chosen];
      colour();
    },
  };
}

const heading = (node) => (node.kind === "pack" ? t("graph.pack", { count: node.holds.length }) : [t(`graph.${node.kind}`), node.detail].filter(Boolean).join(" · "));

function button(press) {
  return {
    tabindex: 0,
    role: "button",
    onclick: press,
    onkeydown: (event) => {
      if (event.key !== "Enter" && event.key !== " ") return;
      event.preventDefault();
      press();
    },
  };
}

function line({ kind, points }, down) {
  let d = `M${points[0].x} ${points[0].y}`;
  for (let index = 1; index < points.length - 1; index += 2) {
    const [from, to] = [points[index], points[index + 1]];
    const bend = Math.max(18, (down ? to.y - from.y : to.x - from.x) / 2);
    const [one, two] = down ? [`${from.x} ${from.y + bend}`, `${to.x} ${to.y - bend}`] : [`${from.x + bend} ${from.y}`, `${to.x - bend} ${to.y}`];
    d += `L${from.x} ${from.y}C${one} ${two} ${to.x} ${to.y}`;
  }
  const end = points.at(-1);
  const path = s("path", { class: "edge", d: `${d}L${end.x} ${end.y}`, "marker-end": "url(#head)" });
  if (kind !== "any") return path;
  path.setAttribute("stroke-dasharray", "5 4");
  return s("g", {}, path, s("title", {}, t("graph.any")));
}

function said(snapshot, name, state) {
  const record = snapshot.task_records?.[name];
  const took = record?.duration_ms ?? (state === "RUNNING" && record?.started_at ? Date.now() - 1000 * record.started_at : null);
  const tries = record?.tries?.length > 1 ? t("task.no_of_try", { number: record.tries.at(-1).number }) : null;
  const { done, total } = record?.progress ?? {};
  const share = state === "RUNNING" && total > 0 && done !== null ? `${Math.floor((100 * done) / total)} %` : null;
  const rounds = Object.values(record?.iteration_counts ?? {}).reduce((sum, count) => sum + count, 0);
  const time = share === null && took !== null ? duration(took / 1000) : null;
  return [word("state", state), share, rounds > 1 ? `× ${rounds}` : time, tries].filter(Boolean).join(" · ");
}

function tally(snapshot, names) {
  const counts = new Map();
  for (const name of names) {
    const state = taskState(snapshot, name);
    counts.set(state, (counts.get(state) ?? 0) + 1);
  }
  return [...counts].map(([state, count]) => `${count} ${word("state", state)}`).join(", ");
}

// A letter of Chinese or Japanese is nearly as wide as two of others.
function shorten(text, most) {
  let room = most;
  let kept = "";
  for (const letter of text) {
    room -= letter.codePointAt(0) >= 0x1100 ? 1.8 : 1;
    if (room < 0) return `${[...kept].slice(0, -1).join("")}…`;
    kept += letter;
  }
  return text;
}
