// The picture of a flow, with the state of each task.

import { s } from "../dom.js";
import { t, word } from "../i18n.js";
import { duration } from "../time.js";
import { fitting } from "./layout.js";
import { stateOf, taskState, tone } from "./status.js";
import { viewport } from "./viewport.js";

/**
 * Draw a graph; `onTask(name)` is told of a click on a task, if it is given.
 * Returns {element, update(snapshot, chosen)}, which colours it and marks the chosen task.
 */
export function drawGraph(graph, onTask = null) {
  const toggled = new Set();
  let picture = null;
  let boxes = []; // the parts that have a state
  let ways = null; // all edges, for the small map
  let now = [null, null];
  const view = viewport({ label: t("run.graph"), onRoom: draw });

  function draw() {
    picture = fitting(graph, toggled, view.room());
    const [plain, frames] = [[], []];
    for (const node of picture.nodes) (node.holds && !node.folded ? frames : plain).push(node);
    boxes = plain.map((node) => ({ box: node, make: () => coloured(box(node), node), element: null }));
    ways = s("path", { class: "way", d: picture.edges.map(({ points }) => points.map(({ x, y }, index) => `${index ? "L" : "M"}${x} ${y}`).join("")).join("") });
    view.show(
      picture.width,
      picture.height,
      s("defs", {}, s("marker", { id: "head", viewBox: "0 0 8 8", refX: 7, refY: 4, markerWidth: 7, markerHeight: 7, orient: "auto" },
        s("path", { d: "M0 0 8 4 0 8z", class: "edge-head" }))),
      [
        ...frames.map((node) => ({ box: node, make: () => frame(node), element: null })),
        ...picture.labels.map((label) => ({ box: { ...label, width: 0, height: 0 }, make: () => s("text", { class: "group-label", x: label.x, y: label.y }, label.text), element: null })),
        ...picture.edges.map((edge) => ({ box: around(edge.points), make: () => line(edge, picture.down), element: null })),
        ...boxes,
      ],
    );
    colour();
  }

  function fold(node) {
    if (!toggled.delete(node.id)) toggled.add(node.id);
    draw();
    view.reveal(picture.nodes.find(({ id }) => id === node.id));
    view.element.querySelector(`[data-fold="${CSS.escape(node.id)}"]`)?.focus();
  }

  // Around what is inside; its heading folds it.
  function frame(node) {
    return s("g", {},
      s("rect", { class: node.members ? "pack" : "group", x: node.x, y: node.y, width: node.width, height: node.height, rx: 10 }),
      s("g", { class: "fold", dataset: { fold: node.id }, "aria-expanded": "true", ...button(() => fold(node)), "aria-label": heading(node) },
        s("rect", { class: "hit", x: node.x + 4, y: node.y + 3, width: node.width - 8, height: 22, rx: 6 }),
        s("text", { class: "group-label", x: node.x + 12, y: node.y + 18 }, `▾ ${heading(node)}`)));
  }

  function box(node) {
    const name = nameOf(node);
    const press = node.holds ? () => fold(node) : onTask === null ? null : () => onTask(node.name);
    return s(
      "g",
      {
        class: node.holds ? "node folded" : "node",
        dataset: node.holds ? { fold: node.id } : { task: node.name },
        "aria-label": name,
        ...(node.holds ? { "aria-expanded": "false" } : {}),
        ...(press === null ? { role: "img" } : button(press)),
      },
      s("title"),
      node.holds ? s("rect", { class: "behind", x: node.x + 4, y: node.y + 4, width: node.width, height: node.height, rx: 8 }) : null,
      s("rect", { x: node.x, y: node.y, width: node.width, height: node.height, rx: 8 }),
      s("circle", { class: "dot", cx: node.x + 15, cy: node.y + 23, r: 5 }),
      s("text", { x: node.x + 28, y: node.y + 20 }, node.holds ? `▸ ${shorten(name, 16)}` : shorten(name, 18)),
      s("text", { class: "sub", x: node.x + 28, y: node.y + 36 }),
    );
  }

  function coloured(element, node) {
    const [snapshot, chosen] = now;
    if (snapshot === null) return element;
    const { holds, name } = node;
    const state = stateIn(snapshot, node);
    const words = holds ? tally(snapshot, holds) : said(snapshot, name, state);
    const title = element.querySelector("title");
    element.dataset.state = state;
    element.querySelector(".sub").textContent = shorten(words, 22);
    title.textContent = `${nameOf(node)}: ${words}`;
    element.setAttribute("aria-label", title.textContent);
    element.classList.toggle("chosen", !holds && name === chosen);
    return element;
  }

  function colour() {
    for (const { box, element } of boxes) if (element !== null) coloured(element, box);
    const [snapshot] = now;
    const tones = Map.groupBy(boxes, ({ box }) => (snapshot === null ? "pending" : tone(stateIn(snapshot, box))));
    view.map(ways, [...tones].map(([name, parts]) =>
      s("path", { class: `bar-${name}`, d: parts.map(({ box: { x, y, width, height } }) => `M${x} ${y}h${width}v${height}h${-width}z`).join("") })));
  }

  return {
    element: view.element,
    update(snapshot, chosen = null) {
      now = [snapshot, chosen];
      colour();
    },
  };
}

const heading = (node) => (node.members ? t(`graph.${node.kind}`, { count: node.members.length }) : [t(`graph.${node.kind}`), node.detail].filter(Boolean).join(" · "));
const nameOf = (node) => (node.holds ? heading(node) : node.name);
const stateIn = (snapshot, { holds, name }) => (holds ? stateOf(holds.map((each) => taskState(snapshot, each))) : taskState(snapshot, name));

function around(points) {
  const [xs, ys] = [points.map(({ x }) => x), points.map(({ y }) => y)];
  const [x, y] = [Math.min(...xs), Math.min(...ys)];
  return { x, y, width: Math.max(...xs) - x, height: Math.max(...ys) - y };
}

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
