// A table that draws only the rows on the screen, so that thousands cost nothing.

import { h } from "../dom.js";
import { render } from "../render.js";

// Rows have these heights in px, whatever is in them (css/views.css): lines of a table, or cards where it is narrow.
const LINE = 41;
const CARD = 104;
const narrow = matchMedia("(max-width: 36rem)");
const BEYOND = 12;

const rowHeight = () => (narrow.matches ? CARD : LINE);

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
    const first = Math.max(0, Math.floor(scroller.scrollTop / height) - BEYOND);
    const last = Math.min(items.length, Math.ceil((scroller.scrollTop + scroller.clientHeight) / height) + BEYOND);
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
      const height = rowHeight();
      const y = index * height;
      if (y < scroller.scrollTop) scroller.scrollTop = y;
      else if (y + 2 * height > scroller.scrollTop + scroller.clientHeight) scroller.scrollTop = y + 2 * height - scroller.clientHeight;
      draw(false);
    },
    resized: () => draw(true),
  };
}
