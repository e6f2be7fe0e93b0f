// Tabs as the ARIA practices want them: arrows move, a panel is made when it is first shown.

import { h, replace } from "../dom.js";

/**
 * `items`: {name: {label, make: () => element}}; `first`: the one to begin with; `onShow(name)`: told of each.
 * Returns {element, show(name)}.
 */
export function tabs({ label, items, first = "", onShow = () => {} }) {
  const names = Object.keys(items);
  const made = new Map();
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
    if (!made.has(name)) made.set(name, items[name].make());
    panel.setAttribute("aria-labelledby", `tab-${name}`);
    replace(panel, made.get(name));
    onShow(name);
  }

  // The first panel may be an element that its caller is still making.
  queueMicrotask(() => show(names.includes(first) ? first : names[0]));
  return { element: h("div", {}, h("div", { class: "tabs", role: "tablist", "aria-label": label }, [...buttons.values()]), panel), show };
}
