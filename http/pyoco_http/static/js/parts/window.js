// Tables and lists that draw only the rows on the screen, so that thousands cost nothing.

import { append, gathered, h } from "../dom.js";
import { render } from "../render.js";

// Rows have these heights in px, whatever is in them (css/views.css): lines of a table, or cards where it is narrow.
const LINE = 41;
const CARD = 104;
const narrow = matchMedia("(max-width: 36rem)");
const BEYOND = 12;
// Of rows of any height so many are drawn, from so many above the screen on.
const DRAWN = 60;
const BEFORE = 20;
const STEP = 10;
const TOP = { index: 0, above: 0 }; // a place: the row at the top of the screen, and how many px of it are above
const USUAL = 20; // px of a row, until one was measured

const rowHeight = () => (narrow.matches ? CARD : LINE);
const textHeight = () => parseFloat(getComputedStyle(document.documentElement).fontSize);

// The first of the rows that are on the screen or near, and the one behind the last.
function near(scroller, room, height, count) {
  const top = Math.max(0, Math.min(scroller.scrollTop, count * height - room));
  return [Math.max(0, Math.floor(top / height) - BEYOND), Math.min(count, Math.ceil((top + room) / height) + BEYOND)];
}

// Scroll as little as brings a row onto the screen.
function bring(scroller, room, height, index) {
  const y = index * height;
  if (y < scroller.scrollTop) scroller.scrollTop = y;
  else if (y + height > scroller.scrollTop + room) scroller.scrollTop = y + height - room;
}

/** `columns`: [{label, class}], `row(item, index)`: a <tr> with a data-key, `onEnd`: called when the end comes near. */
export function windowTable({ columns, row, onEnd, label }) {
  const top = h("tr", { class: "space", "aria-hidden": "true" }, h("td"));
  const bottom = h("tr", { class: "space", "aria-hidden": "true" }, h("td"));
  const body = h("tbody");
  const scroller = h(
    "div",
    { class: "table-wrap window", tabindex: 0, role: "region", "aria-label": label },
    h("table", { class: "table fixed cardlike" },
      h("thead", {}, h("tr", {}, columns.map((column) => h("th", { scope: "col", class: column.class }, column.label)))), body),
  );
  let items = [];
  let drawn = "";

  function draw(force) {
    const height = rowHeight();
    const [first, last] = near(scroller, scroller.clientHeight, height, items.length);
    const key = `${first}-${last}`;
    if (force || key !== drawn) {
      drawn = key;
      top.firstChild.style.height = `${first * height}px`;
      bottom.firstChild.style.height = `${(items.length - last) * height}px`;
      render(body, top, items.slice(first, last).map((item, index) => row(item, first + index)), bottom);
    }
    if (last >= items.length - BEYOND) onEnd();
  }

  scroller.addEventListener("scroll", () => draw(false), { passive: true });
  return {
    element: scroller,
    show(next) {
      items = next;
      draw(true);
    },
    atTop: () => scroller.scrollTop < LINE,
    toTop: () => scroller.scrollTo({ top: 0 }),
    /** Bring a row onto the screen. */
    reveal(index) {
      bring(scroller, scroller.clientHeight - rowHeight(), rowHeight(), index); // its head covers a row
      draw(false);
    },
    resized: () => draw(true),
  };
}

/**
 * The same as a list: `row(item)` is an element with a data-key, `height` high, of which `rows` are on the screen at most.
 * Heights are in rem, as they are in css/views.css.
 */
export function windowList({ look, label, height, rows, row }) {
  const space = () => h("div", { "aria-hidden": "true" });
  const [top, bottom] = [space(), space()];
  const element = h("div", { class: look, dataset: { key: look }, role: "list", "aria-label": label, tabindex: 0 });
  let items = [];

  function draw() {
    const tall = height * textHeight();
    const [first, last] = near(element, rows * tall, tall, items.length);
    top.style.height = `${first * tall}px`;
    bottom.style.height = `${(items.length - last) * tall}px`;
    const drawn = items.slice(first, last).map((item, index) => {
      const each = row(item);
      each.setAttribute("role", "listitem");
      each.setAttribute("aria-setsize", items.length);
      each.setAttribute("aria-posinset", first + index + 1);
      return each;
    });
    render(element, top, drawn, bottom);
  }

  element.addEventListener("scroll", draw, { passive: true });
  return {
    element,
    show(next) {
      items = next;
      draw();
    },
    /** Bring a row onto the screen; false where the list is on none itself. */
    reveal(index) {
      if (element.clientHeight === 0) return false;
      const tall = height * textHeight();
      bring(element, rows * tall, tall, index);
      draw();
      return true;
    },
  };
}

/**
 * The same for rows of any height, which are measured when they are drawn: `row(item, index)` is an element with a data-key
 * for an object, `body` the element of all rows, `around` what stands in `scroller` and has the body in it.
 * `onDraw()`: called when other rows are drawn.
 */
export function windowRows({ scroller, body, around = body, row, onDraw = () => {} }) {
  const space = () => h("div", { "aria-hidden": "true" });
  const [top, bottom] = [space(), space()];
  append(scroller, [top, around, bottom]);
  let items = [];
  let first = 0; // of the rows that are drawn
  let last = 0; // and that behind them
  let place = TOP;
  let width = 0;
  let usual = null;
  let heights = new WeakMap(); // px, of the items that were drawn

  const height = (item) => heights.get(item) ?? usual ?? USUAL;
  const sum = (part) => part.reduce((px, item) => px + height(item), 0);
  const end = () => ({ index: Math.max(0, items.length - 1), above: Infinity });

  function at(y) {
    let index = 0;
    let above = y;
    for (; index < items.length - 1 && above >= height(items[index]); index += 1) above -= height(items[index]);
    return { index, above };
  }

  // The rows to be drawn; those between the ends of what is marked stay, to be copied.
  function wanted() {
    const from = Math.max(0, Math.floor((place.index - BEFORE) / STEP) * STEP);
    const { isCollapsed, anchorNode } = getSelection();
    return isCollapsed || !body.contains(anchorNode) ? [from, from + DRAWN] : [Math.min(from, first), Math.max(from + DRAWN, last)];
  }

  // Whatever the rows turn out to be like, that at the top of the screen stays where it is.
  function draw() {
    if (scroller.clientWidth === 0) return; // on no screen; it is drawn when it comes onto one
    [first, last] = wanted();
    const part = items.slice(first, last);
    render(body, part.map((item, index) => row(item, first + index)));
    part.forEach((item, index) => heights.set(item, body.children[index].getBoundingClientRect().height));
    if (part.length > 0) usual ??= sum(part) / part.length;
    top.style.height = `${sum(items.slice(0, first))}px`;
    bottom.style.height = `${sum(items.slice(last))}px`;
    const y = Math.min(sum(items.slice(0, place.index)) + place.above, scroller.scrollHeight);
    if (Math.abs(scroller.scrollTop - y) >= 1) scroller.scrollTop = y; // which stops a movement that goes on
    onDraw();
  }

  scroller.addEventListener("scroll", () => {
    const ended = scroller.scrollTop > 0 && scroller.scrollTop + scroller.clientHeight >= scroller.scrollHeight - 1;
    place = ended ? end() : at(scroller.scrollTop);
    const [from, to] = wanted();
    if (from !== first || to !== last) draw();
  }, { passive: true });
  // How far it is to the end is known when one is there: a browser would stop where it was thought to be.
  scroller.addEventListener("keydown", (event) => {
    if (event.target !== scroller || !["Home", "End"].includes(event.key)) return;
    event.preventDefault();
    place = event.key === "End" ? end() : TOP;
    draw();
  });
  // A tab that was elsewhere comes back, or lines break elsewhere.
  new ResizeObserver(gathered(() => {
    if (scroller.clientWidth === width) return;
    width = scroller.clientWidth;
    heights = new WeakMap();
    usual = null;
    draw();
  })).observe(scroller);

  return {
    draw,
    /** Show other items: the one that is at the top of the screen stays there if it is one of them, or else the first; or the last ones. */
    show(next, ending = false) {
      const index = place.index + place.above > 0 ? next.indexOf(items[place.index]) : -1;
      items = next;
      place = ending ? end() : index < 0 ? TOP : { ...place, index };
      draw();
    },
    /** Bring a row to the middle of the screen. */
    reveal(index) {
      place = { index, above: 0 };
      draw();
      body.children[index - first]?.scrollIntoView({ block: "center" });
    },
  };
}
