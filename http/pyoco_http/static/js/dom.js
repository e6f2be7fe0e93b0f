// Builds elements. Every text from outside becomes a text node; nothing is ever parsed as HTML.

const SVG = "http://www.w3.org/2000/svg";

/**
 * Make an element: h("a", {href: "#/", class: "x", onclick: f}, "text", child, null).
 * Props: "on…" functions are listeners, "dataset" is an object, booleans are set or left out.
 */
export function h(tag, props = {}, ...children) {
  return fill(document.createElement(tag), props, children);
}

/** The same for SVG. */
export function s(tag, props = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), props, children);
}

function fill(element, props, children) {
  for (const [name, value] of Object.entries(props ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) {
      element[name] = value;
      (element.listening ??= []).push(name);
    } else if (name === "dataset") Object.assign(element.dataset, value);
    else if (name === "value" || name === "checked" || name === "disabled") element[name] = value;
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  append(element, children);
  return element;
}

/** Children as nodes: strings and numbers become text nodes, null and false nothing. */
export function nodes(children) {
  return children
    .flat(Infinity)
    .filter((child) => child !== null && child !== undefined && child !== false)
    .map((child) => (child instanceof Node ? child : document.createTextNode(String(child))));
}

/** Append children. */
export function append(element, children) {
  element.append(...nodes(children));
}

/** Put children in the place of what an element holds. */
export function replace(element, ...children) {
  element.replaceChildren(...nodes(children));
  return element;
}

/** Run a function once for a burst of calls, at the next frame. */
export function gathered(run) {
  let planned = false;
  return () => {
    if (planned) return;
    planned = true;
    const go = () => {
      planned = false;
      run();
    };
    // A page in the background gets no frames, but must not be stale when it is looked at again.
    if (document.hidden) setTimeout(go, 200);
    else requestAnimationFrame(go);
  };
}
