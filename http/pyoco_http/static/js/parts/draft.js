// What was typed on the page that submits flows, kept in the tab until it was submitted.

import { parse, write } from "../exact.js";

const KEPT = "pyoco.draft";

/** {text, file, name, tag, params: {name: text}, given: {name: value}, limits: {name: text}}; an empty object for nothing. */
export function draft() {
  try {
    return parse(sessionStorage.getItem(KEPT) ?? "{}", true);
  } catch {
    return {};
  }
}

/** Keep a draft. */
export function keepDraft(draft) {
  sessionStorage.setItem(KEPT, write(draft));
}

/** Forget it. */
export function forgetDraft() {
  sessionStorage.removeItem(KEPT);
}
