// Fields for the params of a flow, one for each of its defaults.

import { h, replace } from "../dom.js";
import { Numeral, parse, write } from "../exact.js";
import { t } from "../i18n.js";

/**
 * {element, show(defaults), values(), typed(), given(), forget()}: what was typed stays when other defaults are shown. `before`: what was
 * typed earlier, {name: text}; `given`: values that stand for themselves unless others are typed, also where nothing of that name
 * has a default, until they are forgotten; `changed`: called when something is typed.
 */
export function paramFields({ before = {}, given = {}, changed = () => {}, prefix = "param" } = {}) {
  const element = h("div", { class: "params" });
  const typed = new Map(Object.entries(before));
  let defaults = {};

  const names = () => Object.keys({ ...defaults, ...given });
  // What a field holds as long as nothing is typed.
  const standing = (name) => (name in given ? given[name] : defaults[name]);

  function field(name, index) {
    const id = `${prefix}-${index}`;
    const standard = written(standing(name));
    const input = h("input", {
      type: "text", id, dataset: { param: name }, value: typed.get(name) ?? standard,
      oninput: () => {
        if (input.value === standard) typed.delete(name);
        else typed.set(name, input.value);
        changed();
      },
    });
    return h("label", { class: "field", for: id }, h("span", {}, name, " ", h("span", { class: "kind" }, kind(standing(name)))), input);
  }

  return {
    element,
    show(next) {
      defaults = next;
      replace(element, names().length === 0 ? h("p", { class: "muted" }, t("submit.no_params")) : names().map(field));
    },
    values: () => Object.fromEntries(names().filter((name) => typed.has(name) || name in given)
      .map((name) => [name, typed.has(name) ? read(typed.get(name), standing(name)) : given[name]])),
    typed: () => Object.fromEntries(typed),
    given: () => given,
    forget: () => { given = {}; },
  };
}

/** A param as it stands in its field. */
export const written = (value) => (typeof value === "string" ? value : write(value));

const kind = (value) => (value === null ? "null" : Array.isArray(value) ? "list" : value instanceof Numeral ? "number" : typeof value);

// What stands for a text stays one, even when it looks like a number; anything else is JSON, or else a text.
function read(text, standard) {
  if (typeof standard === "string") return text;
  try {
    return parse(text, true);
  } catch {
    return text;
  }
}
