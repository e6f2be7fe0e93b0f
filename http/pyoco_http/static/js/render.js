// Brings what is on the screen to what it should be, in place: a button that is drawn anew while it is being
// clicked, has the focus, or is read stays the same button.

import { nodes } from "./dom.js";

/**
 * Make `children` the content of an element. Elements of the same kind at the same place, or with the same
 * data-key, are changed instead of replaced; they take over attributes, listeners and content of the new ones.
 */
export function render(element, ...children) {
  const wanted = nodes(children);
  const own = new Set(wanted.filter((node) => node.parentNode === element));
  const keyed = new Map([...element.children].filter((each) => each.dataset.key).map((each) => [each.dataset.key, each]));
  // What goes first makes room, so that what stays need not be moved, which would take the focus from it.
  const keys = new Set(wanted.map((node) => node.dataset?.key));
  for (const [key, each] of keyed) if (!keys.has(key)) each.remove();
  let place = element.firstChild;
  for (const node of wanted) {
    const kept = own.has(node) ? node : counterpart(node, place, keyed, own);
    if (kept !== null && kept !== node) change(kept, node);
    const there = kept ?? node;
    if (there === place) place = place.nextSibling;
    else element.insertBefore(there, place);
  }
  while (place !== null) {
    const next = place.nextSibling;
    place.remove();
    place = next;
  }
}

function counterpart(node, place, keyed, own) {
  const key = node.dataset?.key;
  if (key) {
    const found = keyed.get(key);
    keyed.delete(key);
    return found?.nodeName === node.nodeName ? found : null;
  }
  if (place === null || own.has(place) || place.dataset?.key || place.nodeName !== node.nodeName) return null;
  return place;
}

function change(old, wanted) {
  if (old.nodeType === Node.TEXT_NODE) {
    if (old.data !== wanted.data) old.data = wanted.data;
    return;
  }
  for (const { name } of [...old.attributes]) {
    if (name !== "style" && !users(old, name) && !wanted.hasAttribute(name)) old.removeAttribute(name);
  }
  for (const { name, value } of wanted.attributes) {
    if (name !== "style" && !users(old, name) && old.getAttribute(name) !== value) old.setAttribute(name, value);
  }
  // Through its object, because the content security policy refuses the attribute.
  if (old.style.cssText !== wanted.style.cssText) old.style.cssText = wanted.style.cssText;
  for (const name of old.listening ?? []) old[name] = null;
  for (const name of wanted.listening ?? []) old[name] = wanted[name];
  old.listening = wanted.listening;
  for (const name of ["checked", "disabled"]) {
    if (name in old && !users(old, name) && old[name] !== wanted[name]) old[name] = wanted[name];
  }
  render(old, [...wanted.childNodes]);
}

// What the user opened stays open, and what was pressed as it is (parts/pressed.js).
const users = (element, name) => (element.nodeName === "DETAILS" ? name === "open" : element.hasAttribute("aria-busy") && (name === "aria-busy" || name === "disabled"));
