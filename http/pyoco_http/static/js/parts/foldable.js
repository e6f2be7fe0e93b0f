// Something that is folded away where the page is narrow, until it is wanted.

import { h, replace } from "../dom.js";
import { t } from "../i18n.js";

/** {element, button, show(count)}: the button stands elsewhere and says how many filters are set. */
export function foldable(id, content) {
  const element = h("div", { class: "foldable", id }, content);
  const button = h("button", {
    type: "button", class: "unfold", "aria-expanded": "false", "aria-controls": id,
    onclick: () => button.setAttribute("aria-expanded", String(element.classList.toggle("unfolded"))),
  }, t("runs.filters"));
  const show = (count) => replace(button, t("runs.filters"), count > 0 ? ` (${count})` : "");
  return { element, button, show };
}
