// The picture of a flow, with the state of each task.

import { s } from "../dom.js";
import { t, word } from "../i18n.js";
import { duration } from "../time.js";
import { layout } from "./layout.js";
import { taskState } from "./status.js";

const MARGIN = 12;
// A graph that is somewhat too wide is drawn smaller; one that is much too wide is scrolled, or it could not be read.
const SMALLEST = 0.75;

/** Draw a graph once; `update(snapshot)` colours it. `onTask(name)` is told of a click on a task, if it is given. */
export function drawGraph(graph, onTask = null) {
  const picture = layout(graph);
  const width = picture.width + 2 * MARGIN;
  const height = picture.height + 2 * MARGIN;
  const tasks = new Map();
  const root = s(
    "svg",
    { width, height, viewBox: `${-MARGIN} ${-MARGIN} ${width} ${height}`, role: "group", "aria-label": t("run.graph") },
    s(
      "defs",
      {},
      s("marker", { id: "head", viewBox: "0 0 8 8", refX: 7, refY: 4, markerWidth: 7, markerHeight: 7, orient: "auto" },
        s("path", { d: "M0 0 8 4 0 8z", class: "edge-head" })),
    ),
    picture.nodes.filter((node) => node.kind !== "task").map(group),
    picture.labels.map((label) => s("text", { class: "group-label", x: label.x, y: label.y }, label.text)),
    picture.edges.map(edge),
    picture.nodes.filter((node) => node.kind === "task").map((node) => task(node, tasks, onTask)),
  );
  root.style.minWidth = `${width * SMALLEST}px`;
  for (const [name, places] of tasks) for (const { element } of places) element.setAttribute("aria-label", name);
  return { element: root, update: (snapshot) => colour(tasks, snapshot) };
}

function group(node) {
  return s(
    "g",
    {},
    s("rect", { class: "group", x: node.x, y: node.y, width: node.width, height: node.height, rx: 10 }),
    s("text", { class: "group-label", x: node.x + 12, y: node.y + 18 }, [t(`graph.${node.kind}`), node.detail].filter(Boolean).join(" · ")),
  );
}

function edge({ from, to, kind }) {
  const x1 = from.x + from.width;
  const y1 = from.y + from.height / 2;
  const x2 = to.x - 2;
  const y2 = to.y + to.height / 2;
  const bend = Math.max(18, (x2 - x1) / 2);
  const line = s("path", { class: "edge", d: `M${x1} ${y1}C${x1 + bend} ${y1} ${x2 - bend} ${y2} ${x2} ${y2}`, "marker-end": "url(#head)" });
  if (kind !== "any") return line;
  line.setAttribute("stroke-dasharray", "5 4");
  return s("g", {}, line, s("title", {}, t("graph.any")));
}

function task(node, tasks, onTask) {
  const sub = s("text", { class: "sub", x: node.x + 28, y: node.y + 36 });
  const title = s("title");
  const pick = () => onTask(node.name);
  const button = {
    tabindex: 0,
    role: "button",
    onclick: pick,
    onkeydown: (event) => {
      if (event.key !== "Enter" && event.key !== " ") return;
      event.preventDefault();
      pick();
    },
  };
  const element = s(
    "g",
    { class: "node", dataset: { task: node.name }, ...(onTask === null ? { role: "img" } : button) },
    title,
    s("rect", { x: node.x, y: node.y, width: node.width, height: node.height, rx: 8 }),
    s("circle", { class: "dot", cx: node.x + 15, cy: node.y + 23, r: 5 }),
    s("text", { x: node.x + 28, y: node.y + 20 }, shorten(node.name)),
    sub,
  );
  // A task of a loop may stand in the picture more than once.
  const same = tasks.get(node.name) ?? [];
  tasks.set(node.name, [...same, { element, sub, title }]);
  return element;
}

function colour(tasks, snapshot) {
  for (const [name, places] of tasks) {
    const state = taskState(snapshot, name);
    const record = snapshot.task_records?.[name];
    const took = record?.duration_ms === null || record?.duration_ms === undefined ? "" : ` · ${duration(record.duration_ms / 1000)}`;
    for (const { element, sub, title } of places) {
      element.dataset.state = state;
      sub.textContent = word("state", state) + took;
      title.textContent = `${name}: ${word("state", state)}${took}`;
      element.setAttribute("aria-label", title.textContent);
    }
  }
}

function shorten(name) {
  return [...name].length > 18 ? `${[...name].slice(0, 17).join("")}…` : name;
}
