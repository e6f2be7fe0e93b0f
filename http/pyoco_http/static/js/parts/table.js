// A table that is read as cards where it is narrow: each cell carries the name of its column.

import { h } from "../dom.js";
import { t } from "../i18n.js";

/** `columns`: keys of their words, null for that of the buttons; `rows`: <tr> elements with a cell for each of them. */
export function table({ caption = null, columns, rows, right = [] }) {
  for (const row of rows) labelled(row, columns);
  const head = (key) => h("th", { scope: "col", class: right.includes(key) ? "right" : null },
    key === null ? h("span", { class: "visually-hidden" }, t("do.actions")) : t(key));
  return h("table", { class: "table stacked" },
    caption === null ? null : h("caption", { class: "visually-hidden" }, caption),
    h("thead", {}, h("tr", {}, columns.map(head))),
    h("tbody", {}, rows));
}

/** Put the names of the columns on the cells of a row. */
export function labelled(row, columns) {
  columns.forEach((key, index) => { if (key !== null) row.children[index].dataset.label = t(key); });
  return row;
}
