// What was typed on a page, kept while the page is drawn anew, as in another language, and until another one is opened.

const kept = new Map();
addEventListener("hashchange", () => kept.clear());

/** A field, by its id, with what was typed into it. */
export function typed(field) {
  field.value = kept.get(field.id) ?? field.value;
  field.addEventListener("input", () => kept.set(field.id, field.value));
  return field;
}

/** What `make` gives for this name the first time: an object that the page changes. */
export function lasting(name, make) {
  if (!kept.has(name)) kept.set(name, make());
  return kept.get(name);
}
