// Tables and lists that draw only the rows on the screen, so that thousands cost nothing.

import { h } from "../dom.js";
import { render } from "../render.js";

// Rows have these heights in px, whatever is in them (css/views.css): lines of a table, or cards where it is narrow.
const LINE = 41;
const CARD = 104;
const narrow = matchMedia("(max-width: 36rem)");
const BEYOND = 12;

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
