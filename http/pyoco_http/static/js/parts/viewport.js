// A picture that is larger than its place: fitted to it, zoomed, moved, and seen whole in a small map beside.
// Of its parts those are drawn that are on the screen or near.

import { h, replace, s } from "../dom.js";
import { t } from "../i18n.js";
import { dragged } from "./drag.js";

const SMALLEST = 0.5; // what is drawn smaller than this cannot be read: it is moved then, until all of it is asked for
const LEAST = 0.1;
const MOST = 2;
const STEP = 1.25;
const TALLEST = 480; // px
const MAP = { width: 150, height: 90, least: 14 };
const NEAR = 0.5; // screens on each side that are drawn, too

/** `onRoom(room)`: called when there is other room {width, height} for it. Returns {element, room, show, map, reveal}. */
export function viewport({ label, onRoom }) {
  const scroller = h("div", { class: "graph", tabindex: 0, role: "group", "aria-label": label, onkeydown: onKey, onscroll: mark });
  const percent = h("span", { class: "muted graph-zoom" });
  const eye = s("rect", { class: "eye" });
  const map = s("svg", { class: "minimap", "aria-hidden": "true", preserveAspectRatio: "none" }, eye);
  const tool = (key, sign, act) => h("button", { type: "button", class: "quiet small", title: t(key), "aria-label": t(key), onclick: act }, sign);
  const element = h("div", { class: "graph-frame" }, scroller, map,
    h("div", { class: "graph-tools" },
      tool("graph.smaller", "−", () => zoom(scale / STEP)), percent, tool("graph.larger", "+", () => zoom(scale * STEP)),
      h("button", { type: "button", class: "quiet small", onclick: whole }, t("graph.fit"))));
  let svg = null;
  let flow = null;
  let parts = [];
  let drawn = null; // what is drawn up to
  let size = { width: 1, height: 1 };
  let scale = 1;
  let chosen = false; // whether the user has zoomed

  const room = () => ({ width: Math.max(scroller.clientWidth, 200), height: TALLEST });

  /** `defs` are always there; a part is {box, make}, its `element` is what `make()` returned, or null where it is not drawn. */
  function show(width, height, defs, shown) {
    size = { width, height };
    parts = shown;
    drawn = null;
    flow = s("g", { class: "flow" });
    svg = s("svg", { viewBox: `0 0 ${width} ${height}`, role: "group", "aria-label": label }, defs, flow);
    scroller.replaceChildren(svg);
    const ratio = Math.min(MAP.width / width, MAP.height / height);
    map.setAttribute("viewBox", `0 0 ${width} ${height}`);
    map.setAttribute("width", Math.max(width * ratio, MAP.least));
    map.setAttribute("height", Math.max(height * ratio, MAP.least));
    if (chosen) apply();
    else fit();
  }

  const fitting = () => Math.min(1, room().width / size.width, TALLEST / size.height);

  function fit() {
    scale = Math.max(fitting(), SMALLEST);
    apply();
  }

  // All of it, however small.
  function whole() {
    chosen = fitting() < SMALLEST;
    scale = Math.max(fitting(), LEAST);
    apply();
  }

  function apply() {
    svg.setAttribute("width", size.width * scale);
    svg.setAttribute("height", size.height * scale);
    percent.textContent = `${Math.round(100 * scale)} %`;
    mark();
  }

  function zoom(to, at = { x: scroller.clientWidth / 2, y: scroller.clientHeight / 2 }) {
    const before = scale;
    chosen = true;
    scale = Math.min(MOST, Math.max(LEAST, to));
    const place = { x: (scroller.scrollLeft + at.x) / before, y: (scroller.scrollTop + at.y) / before };
    apply();
    scroller.scrollTo(place.x * scale - at.x, place.y * scale - at.y);
  }

  function mark() {
    const hidden = scroller.scrollWidth <= scroller.clientWidth + 2 && scroller.scrollHeight <= scroller.clientHeight + 2;
    map.classList.toggle("unneeded", hidden);
    const seen = { x: scroller.scrollLeft, y: scroller.scrollTop, width: scroller.clientWidth, height: scroller.clientHeight };
    for (const [name, value] of Object.entries(seen)) eye.setAttribute(name, value / scale);
    draw();
  }

  function draw() {
    const { width, height } = { width: room().width / scale, height: TALLEST / scale };
    const [x, y] = [scroller.scrollLeft / scale, scroller.scrollTop / scale];
    if (drawn !== null && within({ x: Math.max(x, 0), y, width: Math.min(width, size.width - x), height: Math.min(height, size.height - y) }, drawn)) return;
    drawn = { x: x - NEAR * width, y: y - NEAR * height, width: (1 + 2 * NEAR) * width, height: (1 + 2 * NEAR) * height };
    let place = flow.firstChild;
    for (const part of parts) {
      if (part.element === place && place !== null) place = place.nextSibling;
      if (meet(part.box, drawn) || part.element?.contains(document.activeElement)) {
        part.element ??= flow.insertBefore(part.make(), place);
      } else {
        part.element?.remove();
        part.element = null;
      }
    }
  }

  /** Bring a place of the picture onto the screen. */
  function reveal({ x, y }) {
    const room = scroller.getBoundingClientRect();
    const [left, top] = [x * scale - scroller.scrollLeft, y * scale - scroller.scrollTop];
    if (left < 0 || left > room.width || top < 0 || top > room.height) scroller.scrollTo(x * scale - room.width / 2, y * scale - room.height / 2);
    mark();
  }

  function onKey(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const act = { "+": () => zoom(scale * STEP), "-": () => zoom(scale / STEP), 0: whole }[event.key];
    if (act === undefined) return;
    event.preventDefault();
    act();
  }

  scroller.addEventListener("wheel", (event) => {
    if (!event.ctrlKey) return; // the page is scrolled as everywhere
    event.preventDefault();
    const box = scroller.getBoundingClientRect();
    zoom(scale * Math.exp(-event.deltaY / 300), { x: event.clientX - box.left, y: event.clientY - box.top });
  }, { passive: false });

  dragged(scroller, (event) => event.pointerType === "mouse" && !event.target.closest("[role=button]"), ({ movementX, movementY }) => {
    scroller.scrollBy(-movementX, -movementY);
  });
  dragged(map, () => true, (event) => {
    const box = map.getBoundingClientRect();
    const at = { x: (event.clientX - box.left) / box.width, y: (event.clientY - box.top) / box.height };
    scroller.scrollTo(at.x * size.width * scale - scroller.clientWidth / 2, at.y * size.height * scale - scroller.clientHeight / 2);
  });

  let known = 0;
  new ResizeObserver(() => {
    if (Math.abs(scroller.clientWidth - known) < 2) return;
    known = scroller.clientWidth;
    onRoom();
  }).observe(scroller);
  return { element, room, show, reveal, map: (...shapes) => replace(map, shapes, eye) };
}

const within = (one, two) => one.x >= two.x && one.y >= two.y && one.x + one.width <= two.x + two.width && one.y + one.height <= two.y + two.height;
const meet = (one, two) => one.x <= two.x + two.width && two.x <= one.x + one.width && one.y <= two.y + two.height && two.y <= one.y + one.height;
