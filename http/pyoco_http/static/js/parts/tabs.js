// Tabs as the ARIA practices want them: arrows move, a panel is made when it is first shown.

import { h, replace } from "../dom.js";
import { Part } from "../page.js";

/**
 * `items`: {name: {label, make: (part) => element}}, where the `part` of the page is hidden while another panel is shown; `first`: the
 * one to begin with; `onShow(name)`: told of each; `signal`: that of the view.
 * Returns {element, show(name)}.
 */
export function tabs({ label, items, signal, first = "", onShow = () => {} }) {
  const names = Object.keys(items);
  const made = new Map(); // {element, part}, by name
  const panel = h("div", { role: "tabpanel", tabindex: 0, id: "panel" });
  const buttons = new Map(names.map((name) => [name, h("button", {
    type: "button", role: "tab", id: `tab-${name}`, "aria-controls": "panel",
    onclick: () => show(name),
    onkeydown: (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (step === undefined) return;
      event.preventDefault();
      const next = names[(names.indexOf(name) + step + names.length) % names.length];
      show(next);
      buttons.get(next).focus();
    },
  }, items[name].label)]));

  function show(name) {
    for (const [each, button] of buttons) {
      button.setAttribute("aria-selected", String(each === name));
      button.tabIndex = each === name ? 0 : -1;
    }
    for (const [each, { part }] of made) part.show(each === name);
    if (!made.has(name)) {
      const part = new Part(signal);
      made.set(name, { part, element: items[name].make(part) });
    }
    panel.setAttribute("aria-labelledby", `tab-${name}`);
    replace(panel, made.get(name).element);
    onShow(name);
  }

  // The first panel may be an element that its caller is still making.
  queueMicrotask(() => show(names.includes(first) ? first : names[0]));
  return { element: h("div", {}, h("div", { class: "tabs", role: "tablist", "aria-label": label }, [...buttons.values()]), panel), show };
}
